//! CORE: how a request would be treated: listener, site, route, upstream and servers, with the lines of the file.
//!
//! The same functions that decide for requests decide here, on the same snapshot.

use conf::Moment;
use conf::platform::{PathMatch, RouteAction};

use crate::balance::Service;
use crate::route::{Decision, normalise_host, normalise_path};
use crate::state::Snapshot;

/// The answer for `http://host[:port]/path` or `host/path`, as sentences.
pub(crate) fn explain(snapshot: &Snapshot, url: &str, now: Moment) -> Result<Vec<String>, String> {
    let rest = url.strip_prefix("http://").unwrap_or(url);
    if rest.is_empty() {
        return Err("say which URL: `edge why http://shop.example/cart`".to_owned());
    }
    if url.starts_with("https://") {
        return Err("TLS is not served by this edge: ask for `http://…`".to_owned());
    }
    let (authority, target) = rest
        .find('/')
        .map_or((rest, "/"), |slash| rest.split_at(slash));
    let host = normalise_host(authority)
        .map_err(|error| format!("`{authority}` is answered with 400: {error}"))?;
    let raw_path = target.split('?').next().unwrap_or(target);
    let path = normalise_path(raw_path)
        .map_err(|error| format!("`{raw_path}` is answered with 400: {error}"))?;
    let port = crate::host::parse_host(authority.as_bytes())
        .ok()
        .and_then(|host| host.port);
    let mut lines = vec![format!("host {host}, path {path}")];
    let listeners = snapshot
        .platform
        .listeners_of(&snapshot.node)
        .filter(|(_, listener)| {
            port.is_none_or(|port| listener.bind.iter().any(|bind| bind.port() == Some(port)))
        });
    let mut any = false;
    for (name, listener) in listeners {
        any = true;
        let binds: Vec<String> = listener.bind.iter().map(ToString::to_string).collect();
        let binds = binds.join(", ");
        lines.push(format!("listener {name} on {binds} ({})", listener.place));
        describe(snapshot, name, &host, &path, now, &mut lines);
    }
    if !any {
        lines.push("no listener of this node has that port: the connection is refused".to_owned());
    }
    Ok(lines)
}

fn describe(
    snapshot: &Snapshot,
    listener: &str,
    host: &str,
    path: &str,
    now: Moment,
    lines: &mut Vec<String>,
) {
    let decision = snapshot.router.find(listener, host, path);
    let (site, route) = match decision {
        Decision::NoSite => return lines.push("  no site answers to this host: 421".to_owned()),
        Decision::NoRoute { site } => (site, None),
        Decision::Route { site, route } => (site, Some(route)),
    };
    if let Some(site) = snapshot.platform.sites.get(site) {
        let hosts: Vec<String> = site.hosts.iter().map(ToString::to_string).collect();
        lines.push(format!("  site {} ({})", hosts.join(" "), site.place));
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
        lines.push(format!("  clients: {}; others 403", rules.join(", ")));
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
            lines.push(format!("  answered with {status} to {location}"))
        }
        RouteAction::Respond { status, .. } => {
            lines.push(format!("  answered with {status} from the file"))
        }
        RouteAction::Upstream { name, host } => {
            if let Some(host) = host {
                lines.push(format!("  Host becomes {host}"));
            }
            let Some(upstream) = &state.upstream else {
                return;
            };
            lines.push(format!("  upstream {name} ({})", upstream.config.place));
            for (member, view) in upstream.members.iter().zip(upstream.balancer.view(now)) {
                let state = match (view.service, view.up, view.ejected_until) {
                    (Service::Drained, ..) => "drained",
                    (Service::Disabled, ..) => "disabled",
                    (_, false, _) => "down",
                    (_, _, Some(_)) => "ejected for a while",
                    _ => "up",
                };
                lines.push(format!(
                    "    {} weight {} {state}",
                    member.id, member.weight
                ));
            }
            lines.extend(
                upstream
                    .unresolved
                    .iter()
                    .map(|server| format!("    {server} does not resolve")),
            );
        }
    }
}
