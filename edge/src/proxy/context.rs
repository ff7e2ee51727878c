//! SHELL: what is known of one request while Pingora handles it.
//!
//! Its `Drop` gives the server's place back and writes the access-log line where Pingora's `logging` did not run: a request that is cancelled
//! or cut at the drain's deadline leaves its line all the same.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use conf::Moment;
use conf::platform::Route;
use daemon::clock;
use http::HeaderValue;
use http::uri::PathAndQuery;
use pingora_proxy::Session;

use crate::compress::Encoder;
use crate::listen::http2::{STREAM, StreamFacts};
use crate::listen::stream::{Conn, TlsFacts};
use crate::observe::line::{Attempt, Line};
use crate::request_limit::Place;
use crate::rewrite;
use crate::shared::Shared;
use crate::state::{RouteState, Snapshot};
use crate::total::Total;
use crate::upstream::{Member, Upstream};

/// Why a request ended whose time was up.
pub(crate) const OVER: &str = "timeouts.total is over";

/// What a data thread's hooks share: one per thread, so that threads do not fight for its reference count.
#[derive(Debug)]
pub(crate) struct Local {
    /// What all threads share.
    pub(crate) shared: Arc<Shared>,
}

/// An attempt under way. Holds one place of its server.
#[derive(Debug)]
pub(crate) struct Current {
    upstream: Arc<Upstream>,
    /// The member's index.
    pub(crate) index: usize,
    /// When the server was chosen.
    pub(crate) began: Moment,
    /// Counted as a failure of the server.
    pub(crate) failed: bool,
}

impl Current {
    /// The place at the server was taken by who chose it.
    pub(crate) fn new(upstream: Arc<Upstream>, index: usize, now: Moment) -> Current {
        let current = Current {
            upstream,
            index,
            began: now,
            failed: false,
        };
        if let Some(member) = current.member() {
            member.stats.requests.fetch_add(1, Ordering::Relaxed);
        }
        current
    }

    /// The server.
    pub(crate) fn member(&self) -> Option<&Member> {
        self.upstream.members.get(self.index)
    }

    /// Its upstream.
    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(member) = self.member().filter(|_| !self.failed) {
            member.stats.ok.fetch_add(1, Ordering::Relaxed);
        }
        self.upstream.release(self.index);
    }
}

/// The request's context.
#[derive(Debug)]
pub(crate) struct Context {
    /// The thread's share.
    pub(crate) local: Arc<Local>,
    /// The rules, from its first hook to its end.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The connection.
    pub(crate) conn: Option<Arc<Conn>>,
    /// Its stream, where it is HTTP/2.
    pub(crate) stream: Option<Arc<StreamFacts>>,
    /// When its first byte came.
    pub(crate) began: Moment,
    /// Indices of site and route.
    pub(crate) route: Option<(usize, usize)>,
    /// The side of a split on which the request is.
    pub(crate) side: Option<Arc<Upstream>>,
    /// What the server is asked for, where it is not what the client wrote.
    pub(crate) target: Option<PathAndQuery>,
    /// Where the client is sent, whatever the route does.
    pub(crate) redirect: Option<String>,
    /// The methods that would have found a route, with 405.
    pub(crate) allow: Option<String>,
    /// `GET /path HTTP/1.1`.
    pub(crate) request: Vec<u8>,
    /// The X-Request-ID that servers get; the same at every attempt. Before the first one what they would get.
    pub(crate) request_id: Option<HeaderValue>,
    /// The attempt under way.
    pub(crate) current: Option<Current>,
    /// Members that have failed this request.
    pub(crate) tried: Vec<usize>,
    /// When the first attempt began.
    pub(crate) first: Option<Moment>,
    /// Finished attempts, for the log.
    pub(crate) attempts: Vec<Attempt>,
    /// The status to answer with if no further attempt is made.
    pub(crate) failed_with: Option<u16>,
    /// And why the last attempt failed.
    pub(crate) failed_why: Option<Cow<'static, str>>,
    /// Places of limits, held to the request's end.
    pub(crate) held: Vec<Place>,
    /// When the client had said all that it has to say.
    pub(crate) request_ended: Option<Moment>,
    /// The begin of the body, read before a server was chosen; what follows it comes from the engine.
    pub(crate) begin: Option<Bytes>,
    /// The attempt under way has had it.
    pub(crate) begun: bool,
    /// The client was told to go on with its body.
    pub(crate) continued: bool,
    /// Request body bytes seen in this attempt.
    pub(crate) body: u64,
    /// The response body's encoder, while it is compressed.
    pub(crate) encoder: Option<Encoder>,
    /// The status sent to the client, as far as known.
    pub(crate) status: u16,
    /// Why it ended otherwise than with the server's response.
    pub(crate) note: Cow<'static, str>,
    logged: bool,
}

impl Context {
    /// A context at the start of a request.
    pub(crate) fn new(local: &Arc<Local>) -> Context {
        let stream = STREAM.try_with(Arc::clone).ok();
        Context {
            local: Arc::clone(local),
            snapshot: local.shared.snapshot.load_full(),
            conn: stream.as_ref().map(|stream| Arc::clone(&stream.conn)),
            stream,
            began: clock::now(),
            route: None,
            side: None,
            target: None,
            redirect: None,
            allow: None,
            request: Vec::new(),
            request_id: None,
            current: None,
            tried: Vec::new(),
            first: None,
            attempts: Vec::new(),
            failed_with: None,
            failed_why: None,
            held: Vec::new(),
            request_ended: None,
            begin: None,
            begun: false,
            continued: false,
            body: 0,
            encoder: None,
            status: 0,
            note: Cow::Borrowed(""),
            logged: false,
        }
    }

    /// The route, once it is found.
    pub(crate) fn route(&self) -> Option<(&Route, &RouteState)> {
        let (site, route) = self.route?;
        self.snapshot.route(site, route)
    }

    /// The upstream of the route, or the side of its split.
    pub(crate) fn upstream(&self) -> Option<&Arc<Upstream>> {
        self.side
            .as_ref()
            .or_else(|| self.route()?.1.upstream.as_ref())
    }

    /// Gives the request its id: a trusted proxy's, or a new one.
    pub(crate) fn identify(&mut self, session: &Session) {
        let Some(conn) = &self.conn else { return };
        let trusted = self.snapshot.trusted_of(&conn.front);
        let fields = &session.req_header().headers;
        let given = rewrite::request_id(conn.peer.client(), fields, trusted).cloned();
        self.request_id = given.or_else(|| {
            let fresh = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
            HeaderValue::from_str(&fresh).ok()
        });
    }

    /// The time that the request has.
    pub(crate) fn total(&self) -> Option<&Total> {
        match &self.stream {
            Some(stream) => Some(&stream.total),
            None => self.conn.as_ref().map(|conn| &conn.total),
        }
    }

    /// How much is left of that time, where it is limited.
    pub(crate) fn left(&self, now: Moment) -> Option<Duration> {
        self.total().and_then(|total| total.left(now))
    }

    /// Whether the time is up.
    pub(crate) fn is_over(&self, now: Moment) -> bool {
        self.total().is_some_and(|total| total.is_over(now))
    }

    /// Ends the attempt under way, with the server's status or 0, and gives its place back.
    pub(crate) fn end_attempt(&mut self, status: u16) {
        if let Some(total) = self.total() {
            total.disconnected();
        }
        let Some(current) = self.current.take() else {
            return;
        };
        let Some(member) = current.member() else {
            return;
        };
        self.attempts.push(Attempt {
            address: member.address.clone(),
            status,
            time: clock::now().since(current.began),
        });
    }

    /// Notes the response head of the attempt under way, which keeps its place until the body has ended.
    pub(crate) fn head_arrived(&mut self, status: u16) {
        let Some(current) = &self.current else { return };
        let Some(member) = current.member() else {
            return;
        };
        let time = clock::now().since(current.began);
        self.local.shared.stats.upstream_duration.observe(time);
        if status >= 500 {
            member.stats.status_5xx.fetch_add(1, Ordering::Relaxed);
        }
        self.attempts.push(Attempt {
            address: member.address.clone(),
            status,
            time,
        });
    }

    /// Counts the request and writes its line, once.
    pub(crate) fn finish(&mut self, session: Option<&Session>) {
        if std::mem::replace(&mut self.logged, true) || self.request.is_empty() {
            return;
        }
        let now = clock::now();
        if self.is_over(now) {
            let stats = &self.local.shared.stats;
            stats.over_total.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(total) = self.total() {
            total.end();
        }
        self.current = None;
        let duration = now.since(self.began);
        let stats = &self.local.shared.stats;
        stats.request_duration.observe(duration);
        match self.route() {
            Some((_, route)) => route.stats.count(self.status),
            None => stats.unrouted.count(self.status),
        }
        if self.local.shared.log.is_on() {
            self.write(session, duration);
        }
    }

    fn write(&self, session: Option<&Session>, duration: Duration) {
        if let Some(line) = self.line(session, duration) {
            self.local.shared.log.log(&line);
        }
    }

    /// What is known of the request now, for the log and for header fields.
    pub(crate) fn line<'a>(
        &'a self,
        session: Option<&'a Session>,
        duration: Duration,
    ) -> Option<Line<'a>> {
        let route = self.route().map(|(_, route)| route);
        let upstream = self.upstream();
        let conn = self.conn.as_ref()?;
        let request_id = self.request_id.as_ref();
        let fields = session.map(|session| &session.req_header().headers);
        let client = match fields {
            Some(fields) => {
                let trusted = self.snapshot.trusted_of(&conn.front);
                rewrite::client_address(conn.peer.client(), fields, trusted)
            }
            None => conn.peer.client(),
        };
        Some(Line {
            client,
            peer: conn.peer,
            server: &conn.front.address,
            tls: conn.tls.as_ref().map(TlsFacts::logged),
            request: &self.request,
            host: session
                .map(|session| match session.req_header().uri.authority() {
                    // The absolute form, and HTTP/2.
                    Some(authority) => authority.as_str().as_bytes(),
                    None => session.get_header_bytes(http::header::HOST),
                })
                .unwrap_or_default(),
            fields,
            sent: session
                .and_then(|session| session.response_written())
                .map(|response| &response.headers),
            request_id: request_id.map(|id| id.as_bytes()).unwrap_or_default(),
            status: self.status,
            bytes: session
                .and_then(|session| u64::try_from(session.body_bytes_sent()).ok())
                .unwrap_or_default(),
            duration,
            attempts: &self.attempts,
            site: route.map(|route| &*route.site).unwrap_or_default(),
            route: route.map(|route| route.label.as_str()).unwrap_or_default(),
            upstream: upstream
                .map(|upstream| upstream.config.name.as_str())
                .unwrap_or_default(),
            note: &self.note,
        })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.logged {
            let late = self.stream.as_ref().is_some_and(|stream| stream.was_late());
            if late && self.status == 0 {
                self.status = 408;
                self.note = Cow::Borrowed("the request body did not come in time");
            } else if self.is_over(clock::now()) {
                self.note = Cow::Borrowed(OVER);
            } else if self.note.is_empty() {
                self.note = Cow::Borrowed("cut");
            }
            self.finish(None);
        }
    }
}
