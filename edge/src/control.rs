//! SHELL: what the control sockets ask of edge: status, plan, reload, intents, `why`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use daemon::intent::{Intent, Target};
use daemon::plan::Plan;
use daemon::{Control, Exit, Loaded, Refused, clock};
use probe::EdgeState;
use serde_json::{Value, json};

use crate::apply::Engine;
use crate::balance::Service;
use crate::state::Snapshot;
use crate::tls::expiry;
use crate::upstream::{Upstream, names_member};
use crate::why;

/// The answers.
pub(crate) struct EdgeControl {
    engine: Arc<Engine>,
}

impl EdgeControl {
    /// Answers for `engine`.
    pub(crate) fn new(engine: Arc<Engine>) -> EdgeControl {
        EdgeControl { engine }
    }
}

#[async_trait]
impl Control for EdgeControl {
    async fn status(&self) -> Value {
        let engine = &self.engine;
        let shared = &engine.shared;
        let snapshot = shared.snapshot.load_full();
        let upstreams: Vec<Value> = snapshot
            .upstreams
            .values()
            .map(|upstream| self.upstream(upstream))
            .collect();
        let listeners: Vec<Value> = engine
            .fronts()
            .iter()
            .map(|front| {
                let stats = &front.stats;
                json!({
                    "listener": **front.listener.load(),
                    "address": front.address,
                    "connections": stats.open.load(Ordering::Relaxed),
                    "accepted": stats.accepted.load(Ordering::Relaxed),
                    "shed": stats.shed.load(Ordering::Relaxed),
                })
            })
            .collect();
        let routes: Vec<Value> = snapshot
            .routes
            .iter()
            .flatten()
            .map(|route| {
                let count = |class: usize| {
                    route
                        .stats
                        .classes
                        .get(class)
                        .map_or(0, |count| count.load(Ordering::Relaxed))
                };
                json!({
                    "route": route.label,
                    "upstream": route.upstream.as_ref().map(|upstream| &upstream.config.name),
                    "split": (!route.sides.is_empty()).then(|| {
                        let sides = route.sides.iter();
                        sides
                            .map(|(upstream, share)| (upstream.config.name.as_str(), *share))
                            .collect::<BTreeMap<_, _>>()
                    }),
                    "requests": route.stats.total(),
                    "status_4xx": count(4),
                    "status_5xx": count(5),
                })
            })
            .collect();
        json!({
            "warnings": self.warnings(&upstreams, listeners.is_empty()),
            "state": engine.report().state,
            "readiness": engine.readiness_addresses().await,
            "threads": engine.bound(|workers| workers.count()).await,
            "connections": {
                "open": shared.admission.open(),
                "parked": shared.life.parked.load(Ordering::Relaxed),
                "refused": shared.admission.refused(),
            },
            "requests": {
                "retries": shared.stats.retries.load(Ordering::Relaxed),
                "refused": shared.stats.refused.total(),
                "unrouted": shared.stats.unrouted.total(),
            },
            "certificates": certificates(&snapshot),
            "log_lines_lost": shared.log.lost.load(Ordering::Relaxed),
            "listeners": listeners,
            "upstreams": upstreams,
            "limits": limits(&snapshot),
            "routes": routes,
        })
    }

    async fn not_ready(&self) -> Option<String> {
        match self.engine.report().state {
            EdgeState::Ready => None,
            EdgeState::Draining => {
                Some("draining: it finishes what it has and wants nothing new".to_owned())
            }
            EdgeState::NotReady if !self.engine.threads_alive() => {
                Some("a data thread has died or hangs: restart edge".to_owned())
            }
            EdgeState::NotReady => Some("starting".to_owned()),
        }
    }

    async fn plan(&self, new: &Loaded) -> Plan {
        self.engine.plan(&new.platform)
    }

    async fn reload(&self, new: Loaded) -> Result<Plan, Refused> {
        self.engine.reload(&new).await
    }

    async fn check_intent(&self, target: &Target) -> Result<(), Refused> {
        let snapshot = self.engine.shared.snapshot.load_full();
        let mut members = snapshot.upstreams.values().flat_map(|upstream| {
            upstream
                .members
                .iter()
                .map(move |member| (upstream, member))
        });
        let known = target.0 == "this"
            || target.0 == snapshot.node
            || members.any(|(upstream, member)| {
                names_member(
                    &target.0,
                    &upstream.config.name,
                    &member.server,
                    &member.address,
                )
            });
        if known {
            return Ok(());
        }
        let reason = format!(
            "`{}` is neither `this` (the whole edge) nor a server of an upstream here, such as `app/10.0.0.1:8080` or `10.0.0.1`; see `edge status`",
            target.0
        );
        Err(Refused::new(Exit::Refused, reason))
    }

    async fn intents_changed(&self, intents: &[Intent]) {
        self.engine.set_intents(intents).await;
    }

    async fn why(&self, query: &Value) -> Result<Value, Refused> {
        let words: Vec<&str> = match query["args"].as_array() {
            Some(words) => words.iter().filter_map(Value::as_str).collect(),
            None => query["url"].as_str().into_iter().collect(),
        };
        let snapshot = self.engine.shared.snapshot.load_full();
        why::Question::parse(&words)
            .and_then(|question| why::explain(&snapshot, &question, clock::now()))
            .map(Value::from)
            .map_err(|reason| Refused::new(Exit::Usage, reason))
    }

    async fn alive(&self) -> bool {
        self.engine.threads_alive()
    }
}

impl EdgeControl {
    fn upstream(&self, upstream: &Upstream) -> Value {
        let now = clock::now();
        let statuses = self.engine.prober.statuses();
        let views = upstream.balancer.view(now);
        let members = upstream.members.iter().zip(&views).map(|(member, view)| {
            let probed = member.probe.as_ref().and_then(|(key, _)| statuses.get(key));
            let state = match view {
                view if view.service == Service::Drained => "drained",
                view if view.service == Service::Disabled => "disabled",
                view if !view.up => "down",
                view if view.ejected_until.is_some() => "ejected",
                _ => "up",
            };
            let stats = &member.stats;
            json!({
                "server": member.server,
                "address": member.address,
                "state": state,
                "reason": probed.map(|status| &*status.reason),
                "since_ms": probed.map(|status| now.since(status.since).as_millis()),
                "weight": member.weight,
                "file_weight": member.file_weight,
                "backup": member.backup,
                "max_conns": member.max_conns,
                "share_percent": view.ramp,
                "in_flight": stats.in_flight.get(),
                "requests": stats.requests.load(Ordering::Relaxed),
                "connect_failed": stats.connect_failed.load(Ordering::Relaxed),
                "broken": stats.broken.load(Ordering::Relaxed),
                "status_5xx": stats.status_5xx.load(Ordering::Relaxed),
                "ejections": stats.ejections.load(Ordering::Relaxed),
            })
        });
        let unresolved = upstream
            .unresolved
            .iter()
            .map(|server| json!({ "server": server, "state": "unresolved" }));
        json!({
            "upstream": upstream.config.name,
            "checked": upstream.config.check.as_ref().map(|check| check.kind.word()),
            "protocol": upstream.config.protocol,
            "balance": upstream.config.balance.word(),
            "waiting": upstream.waiting.count(),
            "queue_refused": upstream.waiting.refused.load(Ordering::Relaxed),
            "queue_timeouts": upstream.waiting.timed_out.load(Ordering::Relaxed),
            "ports_exhausted": upstream.ports_exhausted.load(Ordering::Relaxed),
            "retries_refused": upstream.over_budget.load(Ordering::Relaxed),
            "servers": members.chain(unresolved).collect::<Vec<_>>(),
        })
    }

    fn warnings(&self, upstreams: &[Value], no_listener: bool) -> Vec<String> {
        let engine = &self.engine;
        let mut warnings = Vec::new();
        if !engine.threads_alive() {
            warnings.push(
                "a data thread has died or hangs: not ready until edge is restarted".to_owned(),
            );
        }
        if no_listener {
            warnings.push("no listener concerns this node: edge serves nothing".to_owned());
        }
        let (mut dead, mut weak) = (Vec::new(), Vec::new());
        for upstream in upstreams {
            let (name, servers) = (
                upstream["upstream"].as_str().unwrap_or_default(),
                upstream["servers"].as_array().map(Vec::as_slice),
            );
            let servers = servers.unwrap_or_default();
            let up = servers
                .iter()
                .filter(|server| server["state"] == "up")
                .count();
            let usable = servers
                .iter()
                .filter(|server| {
                    matches!(server["state"].as_str(), Some("up" | "ejected"))
                        && server["weight"] != 0
                })
                .count();
            if up < servers.len() || usable == 0 {
                let out: Vec<String> = servers
                    .iter()
                    .filter(|server| server["state"] != "up")
                    .map(|server| {
                        format!(
                            "{} {}",
                            server["server"].as_str().unwrap_or_default(),
                            server["state"].as_str().unwrap_or_default()
                        )
                    })
                    .collect();
                let states = if out.is_empty() {
                    "every weight is 0".to_owned()
                } else {
                    out.join(", ")
                };
                let text = format!("upstream {name}: {up} of {} servers up", servers.len());
                if usable == 0 {
                    dead.push(format!("{text}, its requests get 503 ({states})"));
                } else {
                    weak.push(format!("{text} ({states})"));
                }
            }
        }
        warnings.extend(dead);
        warnings.extend(weak);
        warnings.extend(certificate_warnings(&engine.shared.snapshot.load()));
        let lost = engine.shared.log.lost.load(Ordering::Relaxed);
        if lost > 0 {
            warnings.push(format!("{lost} access-log lines were lost since the start"));
        }
        let refused = engine.shared.admission.refused();
        if refused > 0 {
            warnings.push(format!("{refused} connections were refused since the start: [edge.limits] connections, or the descriptor limit"));
        }
        warnings
    }
}

/// Every certificate that is shown, to clients and to servers: its file, its authorities for clients, its end.
fn shown(snapshot: &Snapshot) -> impl Iterator<Item = (&str, Option<&str>, i64)> {
    let clients = snapshot.certificates.identities.iter().map(|identity| {
        let ca = identity.spec.client.as_ref().map(|client| &*client.ca);
        (&*identity.spec.cert, ca, identity.not_after)
    });
    clients.chain(
        snapshot
            .shown_to_servers()
            .map(|(file, end)| (file, None, end)),
    )
}

fn certificates(snapshot: &Snapshot) -> Vec<Value> {
    let now = clock::wall().as_second();
    shown(snapshot)
        .map(|(file, client_ca, not_after)| {
            json!({
                "cert": file,
                "client_ca": client_ca,
                "not_after": jiff::Timestamp::from_second(not_after).ok(),
                "days_left": expiry::days_left(not_after, now),
            })
        })
        .collect()
}

fn certificate_warnings(snapshot: &Snapshot) -> Vec<String> {
    let now = clock::wall().as_second();
    shown(snapshot)
        .filter_map(|(file, _, not_after)| expiry::warning(file, not_after, now))
        .map(|warning| format!("{warning}: renew it, then `edge reload`"))
        .collect()
}

fn limits(snapshot: &Snapshot) -> Vec<Value> {
    let all = snapshot.limits.iter();
    all.map(|(name, limit)| {
        let rate = limit.config.rate.as_ref();
        json!({
            "limit": name,
            "rate": rate.map(|rate| rate.rate.to_string()),
            "burst": rate.map(|rate| rate.burst),
            "concurrent": limit.config.concurrent,
            "keys": limit.counts.keys(),
            "refused": limit.counts.refused.load(Ordering::Relaxed),
            "delayed": limit.counts.delayed.load(Ordering::Relaxed),
        })
    })
    .collect()
}
