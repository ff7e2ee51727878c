//! CORE: what a new platform changes on this node's edge, line by line, in the order in which it is done.
//!
//! Compares two platforms; `apply.rs` carries it out by swapping the snapshot. Only closed listeners touch clients: requests and connections
//! under way keep the rules they began with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use conf::Platform;
use conf::platform::{Endpoint, HostPattern, Site, SocketOptions, Upstream};
use daemon::plan::{Plan, PlanAction, PlanStep};

/// The change from `old` to `new` on `node`. `addresses` says what a platform binds there, with the listener's name.
pub fn diff(
    old: &Platform,
    new: &Platform,
    node: &str,
    addresses: impl Fn(&Platform) -> BTreeMap<Endpoint, String>,
) -> Plan {
    let (bound, wanted) = (addresses(old), addresses(new));
    let mut plan = Plan::default();
    for (address, listener) in wanted
        .iter()
        .filter(|(address, _)| !bound.contains_key(address))
    {
        plan.add(format!("listener {listener} {address}"), "");
    }
    upstreams(old, new, &mut plan);
    limits(old, new, &mut plan);
    sites(old, new, &mut plan);
    listeners(old, new, node, &mut plan);
    settings(old, new, &mut plan);
    for (address, listener) in bound
        .iter()
        .filter(|(address, _)| !wanted.contains_key(address))
    {
        plan.step(
            PlanAction::Remove,
            format!("listener {listener} {address}"),
            "no new connections; those that are open go on",
            true,
        );
    }
    plan
}

trait Steps {
    fn step(&mut self, action: PlanAction, what: String, detail: &str, disruptive: bool);

    fn add(&mut self, what: String, detail: &str) {
        self.step(PlanAction::Add, what, detail, false);
    }

    fn change(&mut self, what: String, detail: &str) {
        self.step(PlanAction::Change, what, detail, false);
    }

    fn remove(&mut self, what: String, detail: &str) {
        self.step(PlanAction::Remove, what, detail, false);
    }

    /// A change of one value, if it is one.
    fn value<T: PartialEq + Display>(&mut self, what: &str, key: &str, old: &T, new: &T) {
        if old != new {
            self.change(what.to_owned(), &format!("{key} {old} -> {new}"));
        }
    }
}

impl Steps for Plan {
    fn step(&mut self, action: PlanAction, what: String, detail: &str, disruptive: bool) {
        self.steps.push(PlanStep {
            action,
            what,
            detail: detail.to_owned(),
            disruptive,
        });
    }
}

fn upstreams(old: &Platform, new: &Platform, plan: &mut Plan) {
    for (name, upstream) in &new.upstreams {
        match old.upstreams.get(name) {
            None => plan.add(
                format!("upstream {name}"),
                &format!("{} servers", upstream.servers.len()),
            ),
            Some(before) => upstream_change(name, before, upstream, plan),
        }
    }
    for name in old
        .upstreams
        .keys()
        .filter(|name| !new.upstreams.contains_key(*name))
    {
        plan.remove(format!("upstream {name}"), "");
    }
}

fn upstream_change(name: &str, old: &Upstream, new: &Upstream, plan: &mut Plan) {
    let weights = |upstream: &Upstream| -> BTreeMap<String, u16> {
        upstream
            .servers
            .iter()
            .map(|server| (server.address.to_string(), server.weight.get()))
            .collect()
    };
    let (before, after) = (weights(old), weights(new));
    for (server, weight) in &after {
        let what = format!("server {name}/{server}");
        match before.get(server) {
            None => plan.add(what, &format!("weight {weight}")),
            Some(was) => plan.value(&what, "weight", was, weight),
        }
    }
    let options = |upstream: &Upstream| -> BTreeMap<String, (u32, bool)> {
        let servers = upstream.servers.iter();
        servers
            .map(|server| {
                (
                    server.address.to_string(),
                    (server.max_conns, server.backup),
                )
            })
            .collect()
    };
    let was = options(old);
    for (server, (max_conns, backup)) in options(new) {
        let Some((limit, reserve)) = was.get(&server) else {
            continue;
        };
        let what = format!("server {name}/{server}");
        plan.value(&what, "max_conns", limit, &max_conns);
        plan.value(&what, "backup", reserve, &backup);
    }
    for server in before.keys().filter(|server| !after.contains_key(*server)) {
        plan.remove(
            format!("server {name}/{server}"),
            "requests under way go on",
        );
    }
    let settings = [
        ("balance", old.balance != new.balance),
        ("slow_start", old.slow_start != new.slow_start),
        ("queue", old.queue != new.queue),
        ("sticky", old.sticky != new.sticky),
        ("check", old.check != new.check),
        ("passive", old.passive != new.passive),
        ("retry", old.retry != new.retry),
        (
            "keepalive",
            old.keepalive != new.keepalive || old.keepalive_timeout != new.keepalive_timeout,
        ),
        ("tls", old.tls != new.tls),
        ("forwarded", old.forwarded != new.forwarded),
        ("source", old.source != new.source),
        (
            "protocol",
            old.protocol != new.protocol || old.max_streams != new.max_streams,
        ),
    ];
    for (key, _) in settings.iter().filter(|(_, changed)| *changed) {
        plan.change(format!("upstream {name}"), key);
    }
}

fn limits(old: &Platform, new: &Platform, plan: &mut Plan) {
    for (name, limit) in &new.limits {
        let what = format!("limit {name}");
        match old.limits.get(name) {
            None => plan.add(what, ""),
            Some(before) if before == limit => {}
            Some(before) if (&before.key, before.entries) == (&limit.key, limit.entries) => {
                plan.change(what, "counts go on");
            }
            Some(_) => plan.change(what, "counts begin anew"),
        }
    }
    for name in old
        .limits
        .keys()
        .filter(|name| !new.limits.contains_key(*name))
    {
        plan.remove(format!("limit {name}"), "");
    }
}

/// A site's name: its hosts.
fn named(site: &Site) -> String {
    let hosts: BTreeSet<&HostPattern> = site.hosts.iter().collect();
    hosts
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

fn sites(old: &Platform, new: &Platform, plan: &mut Plan) {
    let index = |platform: &'_ Platform| -> BTreeMap<String, Site> {
        platform
            .sites
            .iter()
            .map(|site| (named(site), site.clone()))
            .collect()
    };
    let (before, after) = (index(old), index(new));
    for (name, site) in &after {
        let what = format!("site {name}");
        match before.get(name) {
            None => plan.add(what, &format!("{} routes", site.routes.len())),
            Some(was) if was == site => {}
            Some(was) => {
                let routes = site
                    .routes
                    .iter()
                    .filter(|route| !was.routes.contains(route))
                    .count();
                let gone = was
                    .routes
                    .iter()
                    .filter(|route| !site.routes.contains(route))
                    .count();
                plan.change(
                    what,
                    &format!("{routes} routes new or changed, {gone} gone or replaced"),
                );
            }
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        plan.remove(format!("site {name}"), "");
    }
}

fn listeners(old: &Platform, new: &Platform, node: &str, plan: &mut Plan) {
    let before: BTreeMap<_, _> = old.listeners_of(node).collect();
    for (name, listener) in new.listeners_of(node) {
        let Some(was) = before.get(name) else {
            continue;
        };
        let what = format!("listener {name}");
        if was.trusted_proxies != listener.trusted_proxies {
            plan.change(what.clone(), "trusted_proxies");
        }
        if was.proxy_protocol != listener.proxy_protocol {
            plan.change(what.clone(), "proxy_protocol");
        }
        plan.value(&what, "socket rights", &was.rights, &listener.rights);
        let (was, is) = (&was.socket, &listener.socket);
        let backlog = |options: &SocketOptions| shown(options.backlog, "default");
        plan.value(&what, "backlog", &backlog(was), &backlog(is));
        let keepalive = |options: &SocketOptions| shown(options.keepalive, "off");
        plan.value(&what, "tcp_keepalive", &keepalive(was), &keepalive(is));
        plan.value(&what, "fast_open", &was.fast_open, &is.fast_open);
    }
}

fn shown(value: Option<impl Display>, none: &str) -> String {
    value.map_or_else(|| none.to_owned(), |value| value.to_string())
}

fn settings(old: &Platform, new: &Platform, plan: &mut Plan) {
    let (old, new) = (&old.edge, &new.edge);
    let (was, is) = (&old.limits, &new.limits);
    plan.value(
        "edge.limits",
        "header_timeout",
        &was.header_timeout,
        &is.header_timeout,
    );
    plan.value(
        "edge.limits",
        "header_size",
        &was.header_size,
        &is.header_size,
    );
    plan.value(
        "edge.limits",
        "header_count",
        &was.header_count,
        &is.header_count,
    );
    plan.value(
        "edge.limits",
        "target_size",
        &was.target_size,
        &is.target_size,
    );
    plan.value(
        "edge.limits",
        "keepalive_timeout",
        &was.keepalive_timeout,
        &is.keepalive_timeout,
    );
    plan.value(
        "edge.limits",
        "body_timeout",
        &was.body_timeout,
        &is.body_timeout,
    );
    plan.value(
        "edge.limits",
        "connections",
        &was.connections,
        &is.connections,
    );
    plan.value(
        "edge",
        "drain_timeout",
        &old.drain_timeout,
        &new.drain_timeout,
    );
    plan.value("edge", "drain_delay", &old.drain_delay, &new.drain_delay);
    if old.threads != new.threads {
        plan.change(
            "edge".to_owned(),
            &format!(
                "threads {} -> {}: takes effect at the next start",
                old.threads, new.threads
            ),
        );
    }
    let changed = [
        ("edge.readiness", old.readiness != new.readiness),
        ("edge.access_log", old.access_log != new.access_log),
        ("edge.monitoring", old.monitoring != new.monitoring),
    ];
    for (what, _) in changed.iter().filter(|(_, changed)| *changed) {
        plan.change((*what).to_owned(), "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.edge1.on]
front = { interface = "eth0", addresses = ["10.0.0.11"] }
[group.web]
nodes = ["edge1"]
[listener.http]
group = "web"
bind = ["10.0.0.11:80"]
[upstream.app]
balance = "round_robin"
servers = [{ address = "10.0.0.21:80", weight = 5 }, { address = "10.0.0.22:80", weight = 5 }]
[[site]]
hosts = ["shop.example"]
[[site.route]]
path = "/"
upstream = "app"
"#;

    fn platform(text: &str) -> Platform {
        let report = conf::load_with("t.toml".as_ref(), &|_| Ok(text.to_owned()));
        assert!(!report.has_errors(), "{:?}", report.problems);
        report.platform
    }

    fn lines(old: &str, new: &str) -> Vec<String> {
        let plan = diff(&platform(old), &platform(new), "edge1", |platform| {
            crate::listen::names(platform, "edge1")
        });
        let line = |step: PlanStep| {
            format!(
                "{:?} {} ({}) {}",
                step.action, step.what, step.detail, step.disruptive
            )
        };
        plan.steps.into_iter().map(line).collect()
    }

    #[test]
    fn nothing_changes_nothing() {
        assert!(lines(BASE, BASE).is_empty());
        assert!(lines(BASE, &format!("# a comment moves every line\n{BASE}")).is_empty());
    }

    #[test]
    fn a_weight_and_a_server() {
        let new = BASE
            .replace("weight = 5 }]", "weight = 1 }]")
            .replace("10.0.0.21", "10.0.0.23");
        assert_eq!(
            lines(BASE, &new),
            [
                "Change server app/10.0.0.22:80 (weight 5 -> 1) false",
                "Add server app/10.0.0.23:80 (weight 5) false",
                "Remove server app/10.0.0.21:80 (requests under way go on) false",
            ]
        );
    }

    #[test]
    fn a_listener_moves_new_first() {
        let lines = lines(BASE, &BASE.replace("10.0.0.11:80", "10.0.0.11:8080"));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].starts_with("Add listener http 10.0.0.11:8080") && lines[0].ends_with("false")
        );
        assert!(
            lines[1].starts_with("Remove listener http 10.0.0.11:80") && lines[1].ends_with("true")
        );
    }

    #[test]
    fn options_of_sockets() {
        let bind = "bind = [\"10.0.0.11:80\"]";
        let new =
            format!("{bind}\nbacklog = 1024\ntcp_keepalive = {{ idle = \"30s\" }}\nfast_open = 16");
        let old = format!("{bind}\ntcp_keepalive = false");
        assert_eq!(
            lines(&BASE.replace(bind, &old), &BASE.replace(bind, &new)),
            [
                "Change listener http (backlog default -> 1024) false",
                "Change listener http (tcp_keepalive off -> 30s+6x10s) false",
                "Change listener http (fast_open 0 -> 16) false",
            ]
        );
    }

    #[test]
    fn a_site_and_a_limit() {
        let new = format!(
            "{}\n[edge.limits]\nheader_timeout = \"5s\"\n",
            BASE.replace("shop.example", "www.example")
        );
        assert_eq!(
            lines(BASE, &new),
            [
                "Add site www.example (1 routes) false",
                "Remove site shop.example () false",
                "Change edge.limits (header_timeout 10s -> 5s) false"
            ]
        );
    }
}
