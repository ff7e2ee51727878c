//! SHELL: an upstream while it runs: its balancer, its members, what is counted of them.
//!
//! A member is one address: a server written as an address is one member, a name is as many as it resolves to. `balance.rs` decides who is
//! next; `upstream/health.rs` and `upstream/names.rs` feed it. Members are carried over from snapshot to snapshot by identity.

pub(crate) mod health;
pub(crate) mod material;
pub(crate) mod names;
pub(crate) mod queue;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conf::Moment;
use conf::platform::{self, Balance, Endpoint, InitialState, ServerAddress, UpstreamProtocol};
use conf::unit::Interval;
use daemon::clock;
use daemon::intent::{Intent, Want};
use pingora_core::connectors::l4::BindTo;
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;
use probe::{Target, TargetKey};

use crate::balance::{Balancer, Load, Method, Peer, Policy, Service};
use crate::retry::budget::Budget;
use material::Material;
use queue::Waiting;

use crate::sticky::Binder;

/// So much later than `timeouts.total` ends what is waited for at a server: the request's own timer is to go first.
const SLACK: Duration = Duration::from_millis(20);

/// What names resolve to: `host:port` to addresses. A name without entry has not resolved yet.
pub(crate) type Resolved = BTreeMap<String, Vec<SocketAddr>>;

/// What is counted of a member, by this process.
#[derive(Debug, Default)]
pub(crate) struct MemberStats {
    /// Requests under way.
    pub(crate) in_flight: Arc<Load>,
    /// Attempts made.
    pub(crate) requests: AtomicU64,
    /// Attempts that ended well, or by the client's doing.
    pub(crate) ok: AtomicU64,
    /// Attempts that found no connection.
    pub(crate) connect_failed: AtomicU64,
    /// Attempts that broke after the request began to go out.
    pub(crate) broken: AtomicU64,
    /// Answers with 5xx.
    pub(crate) status_5xx: AtomicU64,
    /// Times it was ejected.
    pub(crate) ejections: AtomicU64,
}

/// One address of an upstream.
#[derive(Debug)]
pub(crate) struct Member {
    /// Identity: as written, and for a name the address it resolved to.
    pub(crate) id: String,
    /// The server as written.
    pub(crate) server: String,
    /// Where it is.
    pub(crate) address: Endpoint,
    /// What the file says of its weight.
    pub(crate) file_weight: u16,
    /// Its weight after intents.
    pub(crate) weight: u16,
    /// Requests that it has under way at most; 0: any number.
    pub(crate) max_conns: u32,
    /// It serves while no other may.
    pub(crate) backup: bool,
    /// An operator's drain or disable.
    pub(crate) service: Service,
    /// How it is probed, and under which key its verdict comes.
    pub(crate) probe: Option<(TargetKey, Target)>,
    /// Counts, carried over.
    pub(crate) stats: Arc<MemberStats>,
}

/// An upstream while it runs.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// As in the file.
    pub(crate) config: platform::Upstream,
    /// Who is next.
    pub(crate) balancer: Balancer,
    /// The addresses, in the balancer's order.
    pub(crate) members: Vec<Member>,
    /// Servers whose name has not resolved.
    pub(crate) unresolved: Vec<String>,
    /// How the balancer chooses.
    pub(crate) policy: Policy,
    /// Requests that wait for a place.
    pub(crate) waiting: Arc<Waiting>,
    /// Retries lately, of all data threads.
    budget: Arc<Mutex<Budget>>,
    /// Requests whose retry the budget refused.
    pub(crate) over_budget: Arc<AtomicU64>,
    /// Connections that found no free port, or whose source address is not the host's (EADDRNOTAVAIL).
    pub(crate) ports_exhausted: Arc<AtomicU64>,
    /// The turn of the source addresses.
    turn: AtomicUsize,
    /// Idle connections made under other settings are not used.
    group_key: u64,
    /// What its files hold.
    pub(crate) material: Arc<Material>,
    /// Cookies that bind clients to members.
    pub(crate) binder: Option<Binder>,
}

impl Upstream {
    /// The upstream of `config`, with what is known from `previous`.
    pub(crate) fn build(
        config: &platform::Upstream,
        material: Arc<Material>,
        resolved: &Resolved,
        intents: &[Intent],
        previous: Option<&Upstream>,
    ) -> Upstream {
        let (members, unresolved) = members(config, resolved, intents, previous);
        let peers: Vec<Peer> = members
            .iter()
            .map(|member| Peer {
                id: member.id.clone(),
                weight: member.weight,
                backup: member.backup,
                max_conns: member.max_conns,
                load: Arc::clone(&member.stats.in_flight),
            })
            .collect();
        let policy = policy(config);
        let balancer = match previous {
            Some(previous) => previous.balancer.renewed(peers, policy),
            None => Balancer::new(peers, policy),
        };
        let now = clock::now();
        let known: BTreeSet<&str> = previous
            .iter()
            .flat_map(|previous| &previous.members)
            .map(|member| member.id.as_str())
            .collect();
        for (index, member) in members.iter().enumerate() {
            balancer.set_service(index, member.service);
            let known = known.contains(member.id.as_str());
            let starts_down = config
                .check
                .as_ref()
                .is_some_and(|check| check.initial == InitialState::Down);
            if config.check.is_none() {
                balancer.set_up(index, true, now);
            } else if !known {
                balancer.set_up(index, !starts_down, now);
            }
        }
        let ids = members.iter().map(|member| &*member.id);
        let binder = config
            .sticky
            .as_ref()
            .zip(material.sticky.as_ref())
            .map(|(sticky, key)| Binder::new(sticky, key, &config.name, ids));
        Upstream {
            budget: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.budget)),
            ports_exhausted: previous.map_or_else(Arc::default, |previous| {
                Arc::clone(&previous.ports_exhausted)
            }),
            turn: AtomicUsize::new(0),
            over_budget: previous
                .map_or_else(Arc::default, |previous| Arc::clone(&previous.over_budget)),
            balancer,
            policy,
            waiting: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.waiting)),
            members,
            unresolved,
            group_key: group_key(config, &material),
            binder,
            material,
            config: config.clone(),
        }
    }

    /// The next of the source addresses for a connection to `server`.
    fn source(&self, server: SocketAddr) -> Option<IpAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        next_source(&self.config.source, server, turn)
    }

    /// Gives a place back, to who waits for one.
    pub(crate) fn release(&self, index: usize) {
        if let Some(member) = self.members.get(index) {
            member.stats.in_flight.give();
            self.waiting.wake_one();
        }
    }

    /// A request comes.
    pub(crate) fn count_request(&self, now: Moment) {
        self.budget().request(now);
    }

    /// Whether the budget lets one be retried.
    pub(crate) fn may_retry(&self, now: Moment) -> bool {
        let allowed = self.budget().retry(&self.config.retry, now);
        if !allowed {
            self.over_budget.fetch_add(1, Ordering::Relaxed);
        }
        allowed
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer for Pingora, with every timeout set: all of its own defaults are "none".
    pub(crate) fn peer(
        &self,
        address: &Endpoint,
        timeouts: &platform::Timeouts,
        left: Option<Duration>,
    ) -> pingora_core::Result<HttpPeer> {
        // Nothing is waited for longer than the request has; the request's own timer goes first.
        let within = |time: Interval| {
            let time = time.as_duration();
            Some(left.map_or(time, |left| time.min(left + SLACK)))
        };
        let sni = self.config.tls.as_ref().map(|tls| tls.server_name.clone());
        let (tls, sni) = (sni.is_some(), sni.unwrap_or_default());
        // Pingora tells idle connections apart by address or path, and by `group_key`.
        let mut peer = match address {
            Endpoint::Ip(address) => HttpPeer::new(address, tls, sni),
            Endpoint::Unix(path) => HttpPeer::new_uds(path, tls, sni)?,
        };
        peer.group_key = self.group_key;
        let shown = self.material.shown.as_ref();
        peer.client_cert_key = shown.map(|shown| Arc::clone(&shown.pair));
        let options = &mut peer.options;
        options.connection_timeout = within(timeouts.connect);
        options.total_connection_timeout = within(timeouts.connect);
        // Over HTTP/1 the request's timer shuts the connection down; clipped here, a tunnel would keep the clipped times for its life.
        let waits = |time: Interval| match self.config.protocol {
            UpstreamProtocol::Http1 => Some(time.as_duration()),
            UpstreamProtocol::Http2 => within(time),
        };
        options.write_timeout = waits(timeouts.send);
        options.read_timeout = waits(timeouts.read);
        options.idle_timeout = Some(self.config.keepalive_timeout.as_duration());
        // Without TLS Pingora takes H2 alone for prior knowledge.
        options.alpn = match self.config.protocol {
            UpstreamProtocol::Http1 => ALPN::H1,
            UpstreamProtocol::Http2 => ALPN::H2,
        };
        options.max_h2_streams = usize::try_from(self.config.max_streams).unwrap_or(usize::MAX);
        options.ca.clone_from(&self.material.ca);
        // Pingora binds with IP_BIND_ADDRESS_NO_PORT, so that the port is chosen per server at connect.
        let source = address.socket_addr().and_then(|to| self.source(to));
        options.bind_to = source.map(|source| {
            let mut bind_to = BindTo::default();
            bind_to.addr = Some(SocketAddr::new(source, 0));
            bind_to
        });
        Ok(peer)
    }
}

fn policy(config: &platform::Upstream) -> Policy {
    Policy {
        method: match &config.balance {
            Balance::RoundRobin => Method::RoundRobin,
            Balance::LeastConn => Method::LeastConn,
            Balance::IpHash => Method::IpHash,
            Balance::RandomTwo => Method::RandomTwo,
            Balance::Hash(key) => Method::Hash {
                bound: key.load_factor,
            },
        },
        passive: config.passive,
        slow_start: config.slow_start.as_duration(),
    }
}

/// The `turn`-th of the source addresses, of those of the server's family.
fn next_source(sources: &[IpAddr], server: SocketAddr, turn: usize) -> Option<IpAddr> {
    let fits = |source: &&IpAddr| source.is_ipv4() == server.is_ipv4();
    let count = sources.iter().filter(fits).count();
    let turn = turn.checked_rem(count)?;
    sources.iter().filter(fits).nth(turn).copied()
}

/// Connections may be shared between requests only while this is the same.
fn group_key(config: &platform::Upstream, material: &Material) -> u64 {
    let mut hasher = DefaultHasher::new();
    config.name.hash(&mut hasher);
    config.protocol.hash(&mut hasher);
    config.max_streams.hash(&mut hasher);
    config.source.hash(&mut hasher);
    config
        .tls
        .as_ref()
        .map(|tls| (&tls.server_name, &tls.ca))
        .hash(&mut hasher);
    if let Some(identity) = material.shown.as_ref().map(|shown| &shown.pair) {
        identity.key().hash(&mut hasher);
        identity.leaf().borrow_raw_cert().hash(&mut hasher);
        for certificate in identity.intermediates() {
            certificate.borrow_raw_cert().hash(&mut hasher);
        }
    }
    for certificate in material.ca.iter().flat_map(|ca| ca.iter()) {
        certificate.borrow_raw_cert().hash(&mut hasher);
    }
    hasher.finish()
}

fn members(
    config: &platform::Upstream,
    resolved: &Resolved,
    intents: &[Intent],
    previous: Option<&Upstream>,
) -> (Vec<Member>, Vec<String>) {
    let known: BTreeMap<&str, &Member> = previous
        .iter()
        .flat_map(|previous| &previous.members)
        .map(|member| (member.id.as_str(), member))
        .collect();
    let mut members: Vec<Member> = Vec::with_capacity(config.servers.len());
    let mut unresolved = Vec::new();
    let check = config.check.clone().map(Arc::new);
    for server in &config.servers {
        let written = server.address.to_string();
        let addresses: Vec<Endpoint> = match &server.address {
            ServerAddress::Ip(address) => vec![Endpoint::Ip(*address)],
            ServerAddress::Unix(path) => vec![Endpoint::Unix(Arc::clone(path))],
            ServerAddress::Name { .. } => resolved
                .get(&written)
                .into_iter()
                .flatten()
                .copied()
                .map(Endpoint::Ip)
                .collect(),
        };
        if addresses.is_empty() {
            unresolved.push(written.clone());
        }
        for address in addresses {
            let id = match &server.address {
                ServerAddress::Ip(_) | ServerAddress::Unix(_) => written.clone(),
                ServerAddress::Name { .. } => format!("{written}={address}"),
            };
            let stats = known
                .get(id.as_str())
                .map(|member| Arc::clone(&member.stats))
                .unwrap_or_default();
            let wanted = wanted(config, &written, &address, intents);
            members.push(Member {
                id,
                server: written.clone(),
                probe: check.as_ref().map(|check| health::target(&address, check)),
                address,
                file_weight: server.weight.get(),
                weight: wanted.weight.unwrap_or(server.weight.get()),
                max_conns: server.max_conns,
                backup: server.backup,
                service: wanted.service,
                stats,
            });
        }
    }
    (members, unresolved)
}

#[derive(Default)]
struct Wanted {
    weight: Option<u16>,
    service: Service,
}

/// What operators want of a member: intents on `app/10.0.0.1:8080`, `10.0.0.1:8080`, `10.0.0.1`, `app/unix:/run/app.sock`; the last one wins.
fn wanted(
    config: &platform::Upstream,
    written: &str,
    address: &Endpoint,
    intents: &[Intent],
) -> Wanted {
    let mut wanted = Wanted::default();
    for intent in intents
        .iter()
        .filter(|intent| names_member(&intent.target.0, &config.name, written, address))
    {
        match intent.want {
            Want::Drain => wanted.service = Service::Drained,
            Want::Disable => wanted.service = Service::Disabled,
            Want::Weight { weight } => wanted.weight = Some(weight),
            Want::Hold | Want::Failover => {}
        }
    }
    wanted
}

/// Whether an intent's target names a member.
pub(crate) fn names_member(
    target: &str,
    upstream: &str,
    written: &str,
    address: &Endpoint,
) -> bool {
    // The path of a unix socket has slashes itself.
    if target == written {
        return true;
    }
    let server = match target.split_once('/') {
        Some((name, server)) if name == upstream => server,
        Some(_) => return false,
        None => target,
    };
    let is_address =
        |address: SocketAddr| server.parse() == Ok(address) || server.parse() == Ok(address.ip());
    server == written || address.socket_addr().is_some_and(is_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_server_s_family_take_turns() {
        let sources: Vec<IpAddr> = ["10.0.0.1", "2001:db8::1", "10.0.0.2"]
            .map(|source| source.parse().unwrap())
            .to_vec();
        let chosen = |server: &str| -> Vec<String> {
            let server = server.parse().unwrap();
            (0..3)
                .filter_map(|turn| next_source(&sources, server, turn))
                .map(|source| source.to_string())
                .collect()
        };
        assert_eq!(chosen("10.9.9.9:80"), ["10.0.0.1", "10.0.0.2", "10.0.0.1"]);
        assert_eq!(chosen("[2001:db8::9]:80"), ["2001:db8::1"; 3]);
        assert_eq!(next_source(&[], "10.9.9.9:80".parse().unwrap(), 7), None);
    }

    #[test]
    fn a_target_names_an_address_with_or_without_its_upstream() {
        let address = Endpoint::Ip("10.0.0.1:8080".parse().unwrap());
        for target in [
            "10.0.0.1:8080",
            "10.0.0.1",
            "app/10.0.0.1:8080",
            "app/10.0.0.1",
            "app/app.internal:8080",
            "app.internal:8080",
        ] {
            assert!(
                names_member(target, "app", "app.internal:8080", &address),
                "{target}"
            );
        }
        for target in [
            "10.0.0.2",
            "other/10.0.0.1",
            "app",
            "10.0.0.1:80",
            "app.internal",
        ] {
            assert!(
                !names_member(target, "app", "app.internal:8080", &address),
                "{target}"
            );
        }
    }

    #[test]
    fn a_target_names_a_unix_socket_by_its_path() {
        let path = "unix:/run/app.sock";
        let address = Endpoint::Unix("/run/app.sock".into());
        for target in [path, "app/unix:/run/app.sock"] {
            assert!(names_member(target, "app", path, &address), "{target}");
        }
        for target in [
            "/run/app.sock",
            "other/unix:/run/app.sock",
            "unix:",
            "unix:/run",
        ] {
            assert!(!names_member(target, "app", path, &address), "{target}");
        }
    }
}
