//! SHELL: renders edge's counters for Prometheus, from the snapshot of the moment: what the file no longer has is no longer shown.
//!
//! Labels are bounded by the file (listener, route, upstream, server), never taken from requests.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use conf::platform::Coding;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::stats::{CLASSES, Greeting, Histogram};
use crate::apply::Engine;
use crate::flood::Flood;
use crate::listen::Front;
use crate::state::{self, LimitState};
use crate::upstream::{Member, Upstream};

/// Registers edge's metrics.
pub(crate) fn register(engine: &Arc<Engine>, registry: &mut Registry) {
    registry.register_collector(Box::new(Live(Arc::clone(engine))));
}

struct Live(Arc<Engine>);

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("edge metrics")
    }
}

impl Collector for Live {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let encoder = &mut encoder;
        self.connections(encoder)?;
        self.requests(encoder)?;
        self.upstreams(encoder)?;
        self.compressed(encoder)?;
        let shared = &self.0.shared;
        let lost = shared.log.lost.load(Ordering::Relaxed);
        counter(
            encoder,
            "edge_log_dropped",
            "Access-log lines that were lost",
            [([("log", "access")], lost)],
        )?;
        let alive = i64::try_from(state::ALIVE.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        plain_gauge(
            encoder,
            "edge_config_generations_alive",
            "Snapshots that some request still holds",
            alive,
        )
    }
}

impl Live {
    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let fronts = self.0.fronts();
        let each = |read: fn(&Front) -> u64| {
            fronts.iter().map(move |front| {
                (
                    [
                        ("listener", front.listener.load().to_string()),
                        ("address", front.address.to_string()),
                    ],
                    read(front),
                )
            })
        };
        gauge(
            encoder,
            "edge_connections",
            "Open client connections",
            each(|front| front.stats.open.load(Ordering::Relaxed)),
        )?;
        let accepted = each(|front| front.stats.accepted.load(Ordering::Relaxed));
        counter(
            encoder,
            "edge_connections_accepted",
            "Client connections accepted",
            accepted,
        )?;
        let shed = each(|front| front.stats.shed.load(Ordering::Relaxed));
        counter(
            encoder,
            "edge_connections_shed",
            "Client connections closed at once: over the limit, or no descriptor",
            shed,
        )?;
        let crowded = each(|front| front.stats.crowded.load(Ordering::Relaxed));
        counter(
            encoder,
            "edge_connections_crowded",
            "Client connections closed at once: their address has too many",
            crowded,
        )?;
        self.greetings(encoder)?;
        let parked =
            i64::try_from(self.0.shared.life.parked.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        plain_gauge(
            encoder,
            "edge_connections_parked",
            "Client connections that wait for a request",
            parked,
        )
    }

    /// TLS handshakes, PROXY protocol headers, floods and certificates.
    fn greetings(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let fronts = self.0.fronts();
        let label = |front: &Front| ("listener", front.listener.load().to_string());
        let handshakes = fronts.iter().flat_map(|front| {
            let handshakes = Greeting::ALL.into_iter();
            let handshakes = handshakes.filter(|(kind, _)| *kind != Greeting::ProxyHeader);
            handshakes.map(|(kind, word)| {
                let address = ("address", front.address.to_string());
                let labels = [label(front), address, ("result", word.to_owned())];
                (labels, front.stats.greetings.read(kind))
            })
        });
        counter(
            encoder,
            "edge_tls_handshakes",
            "TLS handshakes by result",
            handshakes,
        )?;
        let headers = fronts.iter().map(|front| {
            let labels = [label(front), ("address", front.address.to_string())];
            (labels, front.stats.greetings.read(Greeting::ProxyHeader))
        });
        counter(
            encoder,
            "edge_proxy_protocol_errors",
            "Connections closed for a PROXY protocol header that is missing, malformed or late",
            headers,
        )?;
        let floods = fronts.iter().flat_map(|front| {
            Flood::ALL.into_iter().map(|flood| {
                let address = ("address", front.address.to_string());
                let labels = [label(front), address, ("frame", flood.word().to_owned())];
                (labels, front.stats.floods.read(flood))
            })
        });
        counter(
            encoder,
            "edge_http2_floods",
            "HTTP/2 connections cut for too many frames of a kind",
            floods,
        )?;
        let snapshot = self.0.shared.snapshot.load();
        let clients = snapshot.certificates.identities.iter();
        let clients = clients.map(|identity| (&*identity.spec.cert, identity.not_after));
        // A file that both sides are shown, or several upstreams, is one series.
        let ends: BTreeMap<&str, i64> = clients.chain(snapshot.shown_to_servers()).collect();
        let ends = ends.into_iter().map(|(file, end)| {
            let end = u64::try_from(end).unwrap_or_default();
            ([("file", file)], end)
        });
        gauge(
            encoder,
            "edge_certificate_not_after_timestamp_seconds",
            "When the certificate ends, in seconds since 1970",
            ends,
        )
    }

    fn compressed(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let stats = &self.0.shared.stats.compressed;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        counter(
            encoder,
            "edge_compressed_responses",
            "Responses that were compressed",
            Coding::ALL.map(|coding| {
                let responses = load(&stats.of(coding).responses);
                ([("coding", coding.name())], responses)
            }),
        )?;
        let sides = |coding: Coding| {
            let stats = stats.of(coding);
            [("in", &stats.bytes_in), ("out", &stats.bytes_out)]
                .map(|(side, bytes)| ([("coding", coding.name()), ("side", side)], load(bytes)))
        };
        counter(
            encoder,
            "edge_compression_bytes",
            "Bytes of bodies before and after compression",
            Coding::ALL.into_iter().flat_map(sides),
        )
    }

    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let shared = &self.0.shared;
        let snapshot = shared.snapshot.load();
        let routes = snapshot
            .routes
            .iter()
            .flatten()
            .map(|route| (route.label.as_str(), &*route.stats));
        let all = routes.chain([
            ("(refused)", &shared.stats.refused),
            ("(none)", &shared.stats.unrouted),
        ]);
        let series = all.flat_map(|(label, stats)| {
            let classes = CLASSES.iter().zip(&stats.classes);
            classes.map(move |(class, count)| {
                (
                    [("route", label), ("code_class", *class)],
                    count.load(Ordering::Relaxed),
                )
            })
        });
        counter(
            encoder,
            "edge_requests",
            "Requests by route and class of status",
            series.filter(|(_, count)| *count > 0),
        )?;
        histogram(
            encoder,
            "edge_request_duration",
            "From a request's first byte to its response's last",
            &shared.stats.request_duration,
        )?;
        histogram(
            encoder,
            "edge_upstream_duration",
            "From the choice of a server to its response head",
            &shared.stats.upstream_duration,
        )?;
        let retries = shared.stats.retries.load(Ordering::Relaxed);
        let encoded = encoder.encode_descriptor(
            "edge_upstream_retries",
            "Attempts beyond a request's first",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(retries).encode(encoded)?;
        let over = shared.stats.over_total.load(Ordering::Relaxed);
        let encoded = encoder.encode_descriptor(
            "edge_requests_over_total_timeout",
            "Requests that timeouts.total ended",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(over).encode(encoded)
    }

    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.0.shared.snapshot.load();
        let members = || {
            snapshot.upstreams.values().flat_map(|upstream| {
                upstream
                    .members
                    .iter()
                    .map(move |member| (upstream, member))
            })
        };
        let labels = |pool: &str, member: &Member| {
            [("pool", pool.to_owned()), ("member", member.id.clone())]
        };
        let results = members().flat_map(|(upstream, member)| {
            let stats = &member.stats;
            let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let each = [
                ("ok", load(&stats.ok)),
                ("connect_failed", load(&stats.connect_failed)),
                ("broken", load(&stats.broken)),
            ];
            let [pool, id] = labels(&upstream.config.name, member);
            each.map(|(result, count)| {
                (
                    [pool.clone(), id.clone(), ("result", result.to_owned())],
                    count,
                )
            })
        });
        counter(
            encoder,
            "edge_upstream_requests",
            "Attempts by server and result",
            results,
        )?;
        let pools = |count: fn(&Upstream) -> &AtomicU64| {
            let pools = snapshot.upstreams.values();
            let pools = pools.map(move |upstream| {
                let labels = [("pool", upstream.config.name.clone())];
                (labels, count(upstream).load(Ordering::Relaxed))
            });
            pools.collect::<Vec<_>>()
        };
        counter(
            encoder,
            "edge_upstream_retries_refused",
            "Retries that the budget of the upstream did not allow",
            pools(|upstream| &upstream.over_budget),
        )?;
        counter(
            encoder,
            "edge_upstream_ports_exhausted",
            "Connections for which no local address and port was left",
            pools(|upstream| &upstream.ports_exhausted),
        )?;
        counter(
            encoder,
            "edge_upstream_queue_refused",
            "Requests that found all servers at max_conns and the queue full",
            pools(|upstream| &upstream.waiting.refused),
        )?;
        counter(
            encoder,
            "edge_upstream_queue_timeouts",
            "Requests that waited for a server with a free place in vain",
            pools(|upstream| &upstream.waiting.timed_out),
        )?;
        let waiting = snapshot.upstreams.iter().map(|(name, upstream)| {
            let count = u64::try_from(upstream.waiting.count()).unwrap_or(u64::MAX);
            ([("pool", name.as_str())], count)
        });
        gauge(
            encoder,
            "edge_upstream_waiting",
            "Requests that wait for a server with a free place",
            waiting,
        )?;
        let limits = |count: fn(&LimitState) -> &AtomicU64| {
            let limits = snapshot.limits.iter();
            let limits = limits.map(move |(name, limit)| {
                (
                    [("limit", name.clone())],
                    count(limit).load(Ordering::Relaxed),
                )
            });
            limits.collect::<Vec<_>>()
        };
        counter(
            encoder,
            "edge_limit_refused",
            "Requests refused by a limit",
            limits(|limit| &limit.counts.refused),
        )?;
        counter(
            encoder,
            "edge_limit_delayed",
            "Requests delayed by a limit",
            limits(|limit| &limit.counts.delayed),
        )?;
        let in_flight = members().map(|(upstream, member)| {
            (
                labels(&upstream.config.name, member),
                member.stats.in_flight.get(),
            )
        });
        gauge(
            encoder,
            "edge_upstream_in_flight",
            "Requests under way by server",
            in_flight,
        )?;
        let now = daemon::clock::now();
        let up = snapshot.upstreams.values().flat_map(|upstream| {
            let views = upstream.balancer.view(now);
            upstream
                .members
                .iter()
                .zip(views)
                .map(|(member, view)| (labels(&upstream.config.name, member), u64::from(view.up)))
                .collect::<Vec<_>>()
        });
        gauge(
            encoder,
            "edge_upstream_up",
            "Whether the active check says healthy",
            up,
        )
    }
}

fn counter<const N: usize, K: AsRef<str>>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = ([(&'static str, K); N], u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in series {
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_ref()));
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauge<const N: usize, K: AsRef<str>>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: impl IntoIterator<Item = ([(&'static str, K); N], u64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in series {
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_ref()));
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
            .encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn plain_gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    histogram: &Histogram,
) -> fmt::Result {
    let (sum, count, buckets) = histogram.read();
    let mut metric =
        encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    metric.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
}
