//! SHELL: edge's hooks in Pingora. Each asks a core and carries its answer out.
//!
//! | hook | asks |
//! |---|---|
//! | `early_request_filter` | `route`: which site and route; keep-alive, anew for every request |
//! | `request_filter` | the route's action and `max_body`; `buffer`: how much of the body is read first |
//! | `upstream_peer` | `balance`: which server |
//! | `upstream_request_filter`, `response_filter` | `rewrite`: header fields; `compress`: whether the body is encoded |
//! | `fail_to_connect`, `error_while_proxy`, `upstream_response_filter` | `retry`: another attempt?, `balance`: passive health |
//! | `fail_to_proxy` | `failure`: which status |

mod answer;
mod buffer;
mod choose;
mod compress;
pub(crate) mod context;
mod failure;
mod fields;
mod key;
mod protect;

use std::any::Any;
use std::borrow::Cow;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use conf::platform::{EdgeLimits, RouteAction, Template, UpstreamProtocol};
use daemon::clock;
use http::header::{self, HeaderMap};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::balance::Outcome;
use crate::listen::park::Arrival;
use crate::listen::stream::Conn;
use crate::page;
use crate::retry::{self, Failure};
use crate::rewrite;
use crate::route::{Ask, Decision, normalise_host, normalise_path};
use crate::shared::Shared;
use crate::state::RouteState;
use crate::target::{self, Values};
use crate::total;
use choose::NoServer;
use context::{Context, Current, Local};

/// The hooks of one data thread.
pub(crate) struct EdgeProxy {
    local: Arc<Local>,
}

impl EdgeProxy {
    /// The hooks of one data thread.
    pub(crate) fn new(shared: Arc<Shared>) -> EdgeProxy {
        EdgeProxy {
            local: Arc::new(Local { shared }),
        }
    }
}

fn status(code: u16, why: &'static str) -> Box<Error> {
    Error::explain(ErrorType::HTTPStatus(code), why)
}

#[async_trait]
impl ProxyHttp for EdgeProxy {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(&self.local)
    }

    /// None: the default would add the compression module to every request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Every request brings its arrival along, the first of a connection too: `park.rs` puts it there.
    fn on_connection_reuse(
        &self,
        _: &mut Session,
        ctx: &mut Context,
        arrival: Box<dyn Any + Send + Sync>,
    ) {
        if let Ok(arrival) = arrival.downcast::<Arrival>() {
            ctx.began = arrival.began;
            ctx.conn = Some(arrival.conn);
        }
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        ctx.request = request_line(session.req_header());
        keep_alive(session, ctx);
        ctx.identify(session);
        let conn = ctx
            .conn
            .as_ref()
            .ok_or_else(|| status(500, "no connection"))?;
        let request = session.req_header();
        if ctx.stream.is_some() {
            limits(request, &ctx.snapshot.platform.edge.limits)?;
        }
        let raw_host = host_of(request);
        let host = match raw_host {
            "" => Cow::Borrowed(""),
            raw => normalise_host(raw).map_err(|_| status(400, "the host is not valid"))?,
        };
        let path =
            normalise_path(request.uri.path()).map_err(|_| status(400, "the path is not valid"))?;
        let ask = Ask {
            method: request.method.as_str(),
            headers: &request.headers,
            query: request.uri.query().unwrap_or_default(),
        };
        let router = &ctx.snapshot.router;
        let decision = router.find(&ctx.snapshot.listener_of(&conn.front), &host, &path, &ask);
        ctx.redirect = to_https(ctx, conn, decision, &host, request);
        match decision {
            _ if ctx.redirect.is_some() => Ok(()),
            Decision::Route { site, route } => {
                ctx.route = Some((site, route));
                if misdirected(ctx, conn, site) {
                    return Err(status(421, "the connection is for another name"));
                }
                begin_total(ctx);
                Ok(())
            }
            Decision::NoRoute { .. } => Err(status(404, "no route for this path")),
            Decision::WrongMethod { site } => {
                ctx.allow = Some(router.allowed(site, &path, &ask));
                Err(status(405, "no route for this method"))
            }
            Decision::NoSite => Err(status(421, "no site for this host")),
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        if let Some(location) = ctx.redirect.take() {
            ctx.status = 301;
            answer::redirect(session, ctx, 301, &location).await?;
            return Ok(true);
        }
        let snapshot = Arc::clone(&ctx.snapshot);
        let Some((site, route)) = ctx.route else {
            return Err(status(404, "no route"));
        };
        let Some((route, state)) = snapshot.route(site, route) else {
            return Err(status(500, "no such route"));
        };
        let left = ctx.left(clock::now());
        in_time(left, protect::admit(session, ctx)).await?;
        let announced = session
            .get_header(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if route.max_body.get() > 0 && announced.is_some_and(|length| length > route.max_body.get())
        {
            return Err(status(413, "the request body is larger than max_body"));
        }
        match &route.action {
            RouteAction::Upstream { split, .. } => {
                if let Some(split) = split {
                    ctx.side = choose::side(session, ctx, split, &state.sides);
                }
                ctx.target = fields::target(session.req_header(), state)?;
                buffer::fill(session, ctx, announced).await?;
                return Ok(false);
            }
            RouteAction::Redirect { status, location } => {
                ctx.status = *status;
                let location = location_of(session.req_header(), ctx, state, location)?;
                answer::redirect(session, ctx, *status, &location).await?;
            }
            RouteAction::Respond { status, body } => {
                ctx.status = *status;
                answer::text(session, ctx, *status, body).await?;
            }
        }
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<Box<HttpPeer>> {
        let now = clock::now();
        let snapshot = Arc::clone(&ctx.snapshot);
        let found = ctx
            .route
            .and_then(|(site, route)| snapshot.route(site, route));
        let Some((route, state)) = found else {
            return Err(status(500, "no such route"));
        };
        let upstream = ctx.side.clone().or_else(|| state.upstream.clone());
        let Some(upstream) = &upstream else {
            return Err(status(500, "the route's upstream is missing"));
        };
        if ctx.is_over(now) {
            return Err(status(504, context::OVER));
        }
        if ctx.first.is_none() {
            upstream.count_request(now);
        } else {
            ctx.local
                .shared
                .stats
                .retries
                .fetch_add(1, Ordering::Relaxed);
        }
        ctx.first.get_or_insert(now);
        (ctx.begun, ctx.body) = (false, 0);
        let pick = choose::server(session, ctx, upstream, now);
        let pick = match ctx.left(now) {
            None => pick.await,
            // Whoever waits for a place waits no longer than the request may last.
            Some(left) => tokio::time::timeout(left, pick)
                .await
                .map_err(|_| status(504, context::OVER))?,
        };
        let pick = pick.map_err(|none| {
            let code = ctx.failed_with.unwrap_or(503);
            match none {
                NoServer::Nobody => status(code, "no server is available"),
                NoServer::Full(why) => status(code, why),
            }
        })?;
        // Waiting for a place is no time of the server's.
        let current = Current::new(Arc::clone(upstream), pick.index, clock::now());
        let left = ctx.left(clock::now());
        let Some(peer) = current
            .member()
            .map(|member| upstream.peer(&member.address, &route.timeouts, left))
        else {
            return Err(status(500, "no such server"));
        };
        ctx.current = Some(current);
        Ok(Box::new(peer?))
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        _: &HttpPeer,
        descriptor: RawFd,
        _: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        // A connection of HTTP/2 carries other requests too; there the clipped time of reads ends the wait.
        let alone = ctx
            .current
            .as_ref()
            .is_some_and(|current| current.upstream().config.protocol == UpstreamProtocol::Http1);
        if let Some(total) = ctx.total().filter(|_| alone) {
            total.connected(descriptor);
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        fields::to_upstream(session, request, ctx)?;
        // The file may have given it another one.
        if let Some(id) = request.headers.get("x-request-id") {
            ctx.request_id = Some(id.clone());
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        ended: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        let came = body.as_ref().map_or(0, Bytes::len);
        if let Some(stream) = &ctx.stream
            && !stream.body(came, ended)
        {
            return Err(status(408, "the request body comes too slowly").into_down());
        }
        if ended {
            ctx.request_ended.get_or_insert_with(clock::now);
        }
        if session.was_upgraded() {
            return Ok(());
        }
        buffer::join(body, ctx);
        let seen = body.as_ref().map_or(0, Bytes::len);
        ctx.body = ctx
            .body
            .saturating_add(u64::try_from(seen).unwrap_or(u64::MAX));
        match ctx.route() {
            Some((route, _)) if route.max_body.get() > 0 && ctx.body > route.max_body.get() => {
                Err(status(413, "the request body is larger than max_body").into_down())
            }
            _ => Ok(()),
        }
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let code = response.status.as_u16();
        if response.status.is_informational() && code != 101 {
            return Ok(());
        }
        if let Some(upstream) = ctx
            .current
            .as_ref()
            .map(|current| Arc::clone(current.upstream()))
            && retry::is_failed_status(&upstream.config.retry, code)
            && self.failed(session, ctx, Failure::Status(code)) == retry::Decision::Retry
        {
            ctx.end_attempt(code);
            let mut error = Error::explain(
                ErrorType::HTTPStatus(code),
                "the server's status counts as a failed attempt",
            );
            error.set_retry(true);
            return Err(error.into_up());
        }
        ctx.head_arrived(code);
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        // A drain may have begun since the request came.
        if !ctx.local.shared.life.keeps_alive() {
            session.set_keepalive(None);
        }
        // Pingora means the final response, but counts a 100 as well: each request that waited for one would cost its connection.
        let last = !response.status.is_informational();
        session.set_close_on_response_before_downstream_finish(last);
        let code = response.status.as_u16();
        if code == 101 && session.is_upgrade_req() {
            // From here on bytes pass both ways unscanned.
            if let Some(conn) = &ctx.conn {
                conn.raw.store(true, Ordering::Release);
            }
            // As in nginx, only the server's silence ends a tunnel: a client that listens owes nothing.
            session.set_read_timeout(None);
            if let Some(total) = ctx.total() {
                total.end();
            }
        }
        if last || code == 101 {
            ctx.status = code;
            if let Some(stream) = &ctx.stream {
                stream.answered();
            }
            if let Some(total) = ctx.total() {
                total.responds();
            }
        }
        fields::to_client(session, response, ctx)?;
        compress::begin(session, response, ctx)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        compress::piece(body, end, ctx)?;
        Ok(None)
    }

    /// Trailers of a server end its body; the end of an encoded body goes in their place.
    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        _: &mut HeaderMap,
        ctx: &mut Context,
    ) -> Result<Option<Bytes>> {
        let mut rest = None;
        compress::piece(&mut rest, true, ctx)?;
        Ok(rest)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        ctx: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.failed_with = Some(failure::status(&error));
        ctx.failed_why = Some(failure::note(&error, false, false));
        if let Some(current) = ctx.current.as_ref().filter(|_| failure::is_unbound(&error)) {
            let count = &current.upstream().ports_exhausted;
            count.fetch_add(1, Ordering::Relaxed);
        }
        let decision = match over(ctx, true) {
            Some(over) => self.failed(session, ctx, over),
            None => self.failed(session, ctx, Failure::Connect),
        };
        ctx.end_attempt(0);
        error.set_retry(decision == retry::Decision::Retry);
        error
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        // The engine has let go of the connection: its descriptor may be another one's from here on.
        if let Some(total) = ctx.total() {
            total.disconnected();
        }
        // Already decided in `upstream_response_filter`, or not the server's fault.
        if ctx.current.is_none() {
            return error;
        }
        if !failure::is_upstream(&error) {
            // A client that does not take its error page must not keep the server's place.
            if answered(session).is_none() {
                ctx.end_attempt(0);
            }
            error.set_retry(false);
            return error;
        }
        ctx.failed_with = Some(failure::status(&error));
        ctx.failed_why = Some(failure::note(&error, false, false));
        let responded = answered(session).is_some();
        let failure = match over(ctx, false).filter(|_| !responded) {
            Some(over) => over,
            None => failure::kind(&error, reused && !responded),
        };
        let decision = self.failed(session, ctx, failure);
        if !responded {
            ctx.end_attempt(0);
        }
        error.set_retry(decision == retry::Decision::Retry);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        let refused = ctx.conn.as_ref().and_then(|conn| conn.refused());
        let responded = answered(session).is_some();
        let over = refused.is_none()
            && !responded
            && !failure::is_downstream(error)
            && ctx.is_over(clock::now());
        let code = match refused {
            Some(refused) => refused,
            None if over => 504,
            None => failure::status(error),
        };
        let why = match ctx.failed_why.take() {
            _ if over => Cow::Borrowed(context::OVER),
            Some(why) if !responded && refused.is_none() && !failure::is_downstream(error) => why,
            _ => failure::note(error, refused.is_some(), responded),
        };
        ctx.note = match (why.is_empty(), ctx.note.is_empty()) {
            (_, true) => why,
            (true, false) => std::mem::take(&mut ctx.note),
            (false, false) => Cow::Owned(format!("{why}; {}", ctx.note)),
        };
        // As in nginx a wrong address costs no connection. Pingora keeps none after a failed attempt at a server, and what the client still sends
        // would have to be read first.
        let reusable = ctx.first.is_none()
            && !responded
            && code > 0
            && refused.is_none()
            && !failure::is_downstream(error)
            && ctx.local.shared.life.keeps_alive()
            && session.as_mut().is_body_empty();
        if !reusable {
            session.set_keepalive(None);
        }
        if let Some(status) = answered(session) {
            ctx.status = status;
        } else if code > 0 {
            ctx.status = code;
            if let Err(error) = answer::error(session, ctx, code).await {
                tracing::trace!(%error, "the client took no error page");
                session.set_keepalive(None);
            }
        }
        FailToProxy {
            error_code: code,
            can_reuse_downstream: reusable,
        }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Context) {
        if let Some(status) = answered(session) {
            ctx.status = status;
        }
        ctx.finish(Some(session));
    }

    /// Our access log has it all; Pingora's line per failed request would let a client fill the other log.
    fn suppress_error_log(&self, _: &Session, _: &Context, _: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Context,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

impl EdgeProxy {
    /// A failed attempt: what it does to the server, and whether another follows.
    fn failed(&self, session: &Session, ctx: &mut Context, failure: Failure) -> retry::Decision {
        let now = clock::now();
        let Some((upstream, index)) = ctx.current.as_mut().map(|current| {
            current.failed = true;
            (Arc::clone(current.upstream()), current.index)
        }) else {
            return retry::Decision::Deny(retry::Denied::Attempts);
        };
        ctx.tried.push(index);
        if let Some(member) = upstream.members.get(index) {
            let counter = match failure {
                Failure::Connect => Some(&member.stats.connect_failed),
                Failure::Over { server: false } => None,
                _ => Some(&member.stats.broken),
            };
            if let Some(counter) = counter {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if failure.counts_against()
                && let Outcome::Ejected { .. } = upstream.balancer.failed(index, now)
            {
                member.stats.ejections.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    event = "backend.ejected",
                    upstream = upstream.config.name,
                    server = member.id,
                    "a server failed too often and is left out for a while"
                );
            }
        }
        let attempt = retry::Attempt {
            method: &session.req_header().method,
            failure,
            made: u32::try_from(ctx.tried.len()).unwrap_or(u32::MAX),
            first: ctx.first.unwrap_or(now),
            replayable: !session.as_ref().retry_buffer_truncated(),
            responded: answered(session).is_some(),
        };
        let mut decision = retry::decide(&upstream.config.retry, &attempt, now);
        if decision == retry::Decision::Retry && !upstream.may_retry(now) {
            decision = retry::Decision::Deny(retry::Denied::Budget);
        }
        if let retry::Decision::Deny(denied) = decision
            && !matches!(denied, retry::Denied::Responded | retry::Denied::Over)
        {
            ctx.note = Cow::Owned(format!("retry_denied={denied}"));
        }
        decision
    }
}

/// Starts the time of the request, if its route limits it. Edge's own answers need none.
fn begin_total(ctx: &Context) {
    let route = ctx.route().filter(|(_, state)| state.upstream.is_some());
    let limit = route.and_then(|(route, _)| route.timeouts.total);
    if let (Some(limit), Some(total)) = (limit, ctx.total()) {
        total.begin(clock::now() + limit.as_duration());
    }
}

/// What comes of a wait before there is a server, while the request has time.
async fn in_time(left: Option<Duration>, wait: impl Future<Output = Result<()>>) -> Result<()> {
    match left {
        None => wait.await,
        Some(left) => tokio::time::timeout(left, wait)
            .await
            .unwrap_or_else(|_| Err(status(504, context::OVER))),
    }
}

/// How the attempt under way failed, if the request's time is up.
fn over(ctx: &Context, connecting: bool) -> Option<Failure> {
    let now = clock::now();
    if !ctx.is_over(now) {
        return None;
    }
    let began = ctx.current.as_ref()?.began;
    let total = ctx.route()?.0.timeouts.total?.as_duration();
    // Before there is a connection the client was not let say anything.
    let since = match (connecting, ctx.request_ended) {
        (true, _) => began,
        (false, Some(ended)) => ended.max(began),
        (false, None) => now,
    };
    let waited = now.since(since);
    Some(Failure::Over {
        server: total::blames_server(total, waited),
    })
}

/// The status with which the client was answered: `100 Continue` and the like are no answer, but Pingora counts them as one.
fn answered(session: &Session) -> Option<u16> {
    session
        .response_written()
        .map(|written| written.status)
        .filter(|status| {
            !status.is_informational() || *status == http::StatusCode::SWITCHING_PROTOCOLS
        })
        .map(|status| status.as_u16())
}

/// What the gate holds HTTP/1 to, and Pingora's engine not HTTP/2.
fn limits(request: &RequestHeader, limits: &EdgeLimits) -> Result<()> {
    let target = u64::try_from(request.raw_path().len()).unwrap_or(u64::MAX);
    if target > limits.target_size.get() {
        return Err(status(414, "the target is too long"));
    }
    if request.raw_path() == b"*" && request.method != http::Method::OPTIONS {
        return Err(status(400, "the path is not valid"));
    }
    let fields = u32::try_from(request.headers.len()).unwrap_or(u32::MAX);
    if fields > limits.header_count {
        return Err(status(431, "too many header fields"));
    }
    Ok(())
}

/// Whether a request for a site came by a connection that was made for another certificate or other rules on those of clients: its answer
/// would pass by what the site asks for (RFC 9110 section 15.5.20).
fn misdirected(ctx: &Context, conn: &Conn, site: usize) -> bool {
    let snapshot = &ctx.snapshot;
    let name = snapshot.listener_of(&conn.front);
    let Some(tls) = &conn.tls else {
        // A reload may have given its listener TLS since it was accepted.
        let listener = snapshot.platform.listeners.get(&*name);
        return listener.is_some_and(|listener| listener.tls);
    };
    let own = snapshot.platform.sites.get(site);
    let own = own.and_then(|site| site.tls.as_ref());
    let wanted = snapshot.certificates.of_site(&name, own);
    wanted.is_none_or(|wanted| !wanted.is_like(&tls.identity))
}

/// Under it certificates are asked for in clear text (RFC 8555 section 8.3).
pub(crate) const ACME: &str = "/.well-known/acme-challenge/";

/// Where the site of a request in clear text sends it, if it wants all of them to come by TLS.
fn to_https(
    ctx: &Context,
    conn: &Conn,
    decision: Decision,
    host: &str,
    request: &RequestHeader,
) -> Option<String> {
    let site = ctx.snapshot.platform.sites.get(decision.site()?)?;
    let listener = ctx.snapshot.listener_of(&conn.front);
    let listener = ctx.snapshot.platform.listeners.get(&*listener)?;
    // Without a host there is nowhere to go.
    if !site.redirect_http || listener.tls || conn.tls.is_some() || host.is_empty() {
        return None;
    }
    // A proxy that ended the TLS before us would be sent round in a circle.
    let trusted = ctx.snapshot.trusted_of(&conn.front);
    if rewrite::came_by_https(conn.peer.client(), &request.headers, trusted) {
        return None;
    }
    let path = normalise_path(request.uri.path()).ok()?;
    let port = ctx.snapshot.https_port(site);
    (!path.starts_with(ACME)).then(|| target::to_https(host, port, request_uri(request)))
}

/// Where the route's redirect leads.
fn location_of(
    request: &RequestHeader,
    ctx: &Context,
    state: &RouteState,
    location: &Template,
) -> Result<String> {
    let invalid = |_| status(400, "the path is not valid");
    let path = normalise_path(request.uri.path()).map_err(invalid)?;
    let host = normalise_host(host_of(request)).unwrap_or_default();
    let values = Values {
        tls: ctx.conn.as_ref().is_some_and(|conn| conn.tls.is_some()),
        host: &host,
        request_uri: request_uri(request),
        path: &path,
        query: request.uri.query(),
    };
    Ok(state.target.location(location, &values))
}

/// Path and query as the client wrote them, whatever form the target has.
fn request_uri(request: &RequestHeader) -> &str {
    let target = request.uri.path_and_query();
    target.map_or("/", |target| target.as_str())
}

/// Pingora keeps a connection alive for ever after its first request, so the time is set on every one; and to none while draining. Where Pingora
/// or the client said no, it stays no.
fn keep_alive(session: &mut Session, ctx: &Context) {
    if session.get_keepalive().is_none() {
        return;
    }
    let timeout = ctx.snapshot.platform.edge.limits.keepalive_timeout;
    let keep = ctx.local.shared.life.keeps_alive() && !timeout.is_zero();
    session.set_keepalive(keep.then(|| timeout.as_duration().as_secs().max(1)));
}

/// The host as the client wrote it: of the target's absolute form, else of the Host field. The gate has seen to it that they agree.
fn host_of(request: &RequestHeader) -> &str {
    match request.uri.authority() {
        Some(authority) => authority.as_str(),
        None => request
            .headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default(),
    }
}

fn request_line(request: &RequestHeader) -> Vec<u8> {
    let version = match request.version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    };
    [
        request.method.as_str().as_bytes(),
        b" ",
        request.raw_path(),
        b" ",
        version.as_bytes(),
    ]
    .concat()
}

/// `Server` of responses that come from behind: ours, so that clients cannot tell what runs there.
pub(crate) const SERVER: &str = page::SERVER;
