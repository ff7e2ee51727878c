//! CORE: how a request would be treated: listener, site, route, upstream and servers, with the lines of the file.
//!
//! The same functions that decide for requests decide here, on the same snapshot.

mod question;

use std::net::IpAddr;
use std::sync::Arc;

use conf::Moment;
use conf::platform::{PathMatch, RouteAction, Split};

use crate::balance::Service;
use crate::route::{Ask, Decision, normalise_host, normalise_path};
use crate::state::{RouteState, Snapshot};
use crate::target::{self, Values};
use crate::upstream::Upstream;

pub(crate) use question::Question;

/// The answer for `http://host[:port]/path`, or with `https://`, or for all listeners `host/path`, as sentences.
pub(crate) fn explain(
    snapshot: &Snapshot,
    question: &Question,
    now: Moment,
) -> Result<Vec<String>, String> {
    let url = question.url.as_str();
    let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (Some(false), rest),
        (_, Some(rest)) => (Some(true), rest),
        _ => (None, url),
    };
    if rest.is_empty() {
        return Err("say which URL: `edge why http://shop.example/cart`".to_owned());
    }
    let (authority, target) = rest
        .find('/')
        .map_or((rest, "/"), |slash| rest.split_at(slash));
    let host = normalise_host(authority)
        .map_err(|error| format!("`{authority}` is answered with 400: {error}"))?;
    let (raw_path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = normalise_path(raw_path)
        .map_err(|error| format!("`{raw_path}` is answered with 400: {error}"))?;
    let mut asked = Asked {
        from: question.from,
        tls: false,
        target,
        host: &host,
        path: &path,
        ask: Ask {
            method: question.method.as_str(),
            headers: &question.headers,
            query,
        },
    };
    let port = crate::host::parse_host(authority.as_bytes())
        .ok()
        .and_then(|host| host.port);
    let mut lines = vec![format!("host {host}, path {path}")];
    let listeners = snapshot
        .platform
        .listeners_of(&snapshot.node)
        .filter(|(_, listener)| {
            tls.is_none_or(|tls| tls == listener.tls)
                && port
                    .is_none_or(|port| listener.bind.iter().any(|bind| bind.port() == Some(port)))
        });
    let mut any = false;
    for (name, listener) in listeners {
        any = true;
        let binds: Vec<String> = listener.bind.iter().map(ToString::to_string).collect();
        let binds = binds.join(", ");
        lines.push(format!("listener {name} on {binds} ({})", listener.place));
        asked.tls = listener.tls;
        describe(snapshot, name, &asked, now, &mut lines);
    }
    if !any {
        lines.push(
            "no listener of this node has that port and scheme: the connection is refused"
                .to_owned(),
        );
    }
    Ok(lines)
}

/// The request that is asked about.
struct Asked<'a> {
    from: Option<IpAddr>,
    tls: bool,
    target: &'a str,
    host: &'a str,
    path: &'a str,
    ask: Ask<'a>,
}

fn describe(
    snapshot: &Snapshot,
    listener: &str,
    asked: &Asked<'_>,
    now: Moment,
    lines: &mut Vec<String>,
) {
    let Asked {
        host, path, ask, ..
    } = asked;
    let decision = snapshot.router.find(listener, host, path, ask);
    let (site, route) = match decision {
        Decision::NoSite => return lines.push("  no site answers to this host: 421".to_owned()),
        Decision::NoRoute { site } | Decision::WrongMethod { site } => (site, None),
        Decision::Route { site, route } => (site, Some(route)),
    };
    if let Some(site) = snapshot.platform.sites.get(site) {
        let hosts: Vec<String> = site.hosts.iter().map(ToString::to_string).collect();
        lines.push(format!("  site {} ({})", hosts.join(" "), site.place));
    }
    let redirected =
        snapshot.platform.sites.get(site).filter(|site| {
            site.redirect_http && !asked.tls && !path.starts_with(crate::proxy::ACME)
        });
    if let Some(site) = redirected {
        let port = snapshot.https_port(site);
        let location = target::to_https(host, port, asked.target);
        return lines.push(format!("  answered with 301 to {location}: redirect_http"));
    }
    if let Decision::WrongMethod { site } = decision {
        let allowed = snapshot.router.allowed(site, path, ask);
        let method = ask.method;
        return lines.push(format!("  no route for {method}, but for {allowed}: 405"));
    }
    let Some((route, state)) = route.and_then(|route| snapshot.route(site, route)) else {
        return lines.push("  no route for this path: 404".to_owned());
    };
    let (kind, pattern) = match &route.path {
        PathMatch::Prefix(path) => ("prefix", path),
        PathMatch::Exact(path) => ("exactly", path),
        PathMatch::Regex(regex) => ("regex", regex),
    };
    lines.push(format!("  route {kind} {pattern} ({})", route.place));
    if !route.conditions.is_empty() {
        lines.push(format!("  which asks for {}", route.conditions));
    }
    for limit in &state.limits {
        lines.push(format!(
            "  limit {} ({})",
            limit.config.name, limit.config.place
        ));
    }
    if !route.access.is_open() {
        let list = |networks: &[ipnet::IpNet]| match networks.len() {
            0..=4 => networks
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            count => format!("{count} networks"),
        };
        let mut rules = Vec::new();
        if !route.access.allow.is_empty() {
            rules.push(format!("only {}", list(&route.access.allow)));
        }
        if !route.access.deny.is_empty() {
            rules.push(format!("never {}", list(&route.access.deny)));
        }
        lines.push(format!(
            "  clients: {}; who may not gets 403",
            rules.join("; ")
        ));
    }
    for (which, edits) in [
        ("request", &route.request_headers),
        ("response", &route.response_headers),
    ] {
        // Nothing is sent to a server.
        if which == "request" && state.upstream.is_none() {
            continue;
        }
        let edits = edits.0.iter();
        lines.extend(edits.map(|(name, edit)| format!("  {which} field {name} {edit}")));
    }
    match &route.action {
        RouteAction::Redirect { status, location } => {
            let values = Values {
                tls: asked.tls,
                host,
                request_uri: asked.target,
                path,
                query: asked.target.split_once('?').map(|(_, query)| query),
            };
            let location = state.target.location(location, &values);
            lines.push(format!("  answered with {status} to {location}"))
        }
        RouteAction::Respond { status, .. } => {
            lines.push(format!("  answered with {status} from the file"))
        }
        RouteAction::Upstream { split, host, .. } => {
            if let Some(host) = host {
                lines.push(format!("  Host becomes {host}"));
            }
            let query = asked.target.split_once('?').map(|(_, query)| query);
            match state.target.for_server(path, query) {
                Ok(None) => {}
                Ok(Some(target)) => lines.push(format!("  the server is asked for {target}")),
                Err(error) => {
                    return lines.push(format!("  rewritten to what is none: 400, {error}"));
                }
            }
            let sides = sides(split.as_ref(), state, asked.from, lines);
            for upstream in sides.iter().chain(&state.upstream).take(sides.len().max(1)) {
                let name = &upstream.config.name;
                lines.push(format!("  upstream {name} ({})", upstream.config.place));
                members(upstream, now, lines);
            }
        }
    }
}

/// The sides of a split on which the request may be: one, where its key is known.
fn sides(
    split: Option<&Split>,
    state: &RouteState,
    from: Option<IpAddr>,
    lines: &mut Vec<String>,
) -> Vec<Arc<Upstream>> {
    let Some(split) = split else {
        return Vec::new();
    };
    let named = || {
        let sides = state.sides.iter();
        sides.map(|(upstream, share)| (upstream.config.name.as_str(), *share))
    };
    let shares: Vec<String> = named()
        .map(|(name, _)| format!("{name} {:.1} %", split.percent(name)))
        .collect();
    lines.push(format!("  split: {}", shares.join(", ")));
    let all = || state.sides.iter().map(|(upstream, _)| Arc::clone(upstream));
    let Some(from) = from.filter(|_| split.key.is_none()) else {
        return all().collect();
    };
    let side = crate::split::side(named(), from.to_string().as_bytes());
    let found: Vec<Arc<Upstream>> = side
        .into_iter()
        .filter_map(|side| all().nth(side))
        .collect();
    lines.extend(
        found
            .iter()
            .map(|one| format!("  client {from} is on the side {}", one.config.name)),
    );
    found
}

fn members(upstream: &Upstream, now: Moment, lines: &mut Vec<String>) {
    for (member, view) in upstream.members.iter().zip(upstream.balancer.view(now)) {
        let state = match (view.service, view.up, view.ejected_until) {
            (Service::Drained, ..) => "drained",
            (Service::Disabled, ..) => "disabled",
            (_, false, _) => "down",
            (_, _, Some(_)) => "ejected for a while",
            _ => "up",
        };
        lines.push(format!(
            "    {} weight {} {state}{}",
            member.id,
            member.weight,
            if member.backup { ", backup" } else { "" }
        ));
    }
    lines.extend(
        upstream
            .unresolved
            .iter()
            .map(|server| format!("    {server} does not resolve")),
    );
}
