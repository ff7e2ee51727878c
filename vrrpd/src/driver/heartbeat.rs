//! SHELL: the second network of a virtual router: its socket there, heartbeats out and in. What they mean is decided in `router`.

use std::net::IpAddr;

use conf::Moment;

use crate::mailbox::Interface;
use crate::packet::{Heartbeat, Hmac, Kind, Sequence, TTL};
use crate::plan::{Family, HeartbeatPath};
use crate::socket::SocketError;

use super::agenda::Number;
use super::ports::{PortId, Ports, Spec};

/// The type of the heartbeats of a family's virtual routers.
pub(super) fn kind(family: Family) -> Kind {
    match family {
        Family::Ipv4 => Kind::HeartbeatIpv4,
        Family::Ipv6 => Kind::HeartbeatIpv6,
    }
}

/// A virtual router's share of the second network.
#[derive(Debug, Default)]
pub(super) struct SecondPath {
    interface: Option<Interface>,
    port: Option<PortId>,
    /// Why no heartbeats go out.
    pub(super) trouble: Option<String>,
}

impl SecondPath {
    /// The socket on which it hears heartbeats.
    pub(super) fn port(&self) -> Option<PortId> {
        self.port
    }

    /// The interface, or what the file wants of it, has changed; true if its socket cannot be opened and should be tried again.
    pub(super) fn follow(
        &mut self,
        wanted: Option<&HeartbeatPath>,
        found: Option<&Interface>,
        member: (u8, Kind, Number),
        ports: &mut Ports,
    ) -> bool {
        let usable = found.filter(|found| {
            found.up && wanted.is_some_and(|wanted| found.own.contains(&wanted.own))
        });
        if usable.is_some() && usable == self.interface.as_ref() && self.port.is_some() {
            return false;
        }
        self.interface = usable.cloned();
        let (opened, trouble) = match (wanted, usable) {
            (None, _) => (None, None),
            (Some(wanted), None) => {
                let HeartbeatPath { interface, own, .. } = wanted;
                let trouble = format!("no heartbeats: {interface} is down, or has no {own}");
                (None, Some(trouble))
            }
            (Some(wanted), Some(found)) => match attach(wanted, found, member, ports) {
                Ok(port) => (Some(port), None),
                Err(error) => (
                    None,
                    Some(format!("no heartbeats: {}", super::chain(&error))),
                ),
            },
        };
        self.trouble = trouble;
        // The same one again has just been attached.
        let before = std::mem::replace(&mut self.port, opened);
        if let Some(before) = before.filter(|before| Some(*before) != opened) {
            ports.detach(before, member.2);
        }
        self.port.is_none() && usable.is_some()
    }

    /// It is set up anew at the next look.
    pub(super) fn forget(&mut self) {
        self.interface = None;
    }

    /// Gives its socket back.
    pub(super) fn close(&mut self, number: Number, ports: &mut Ports) {
        self.interface = None;
        if let Some(port) = self.port.take() {
            ports.detach(port, number);
        }
    }

    /// Tells the other directors.
    pub(super) fn send(
        &self,
        wanted: &HeartbeatPath,
        heartbeat: Heartbeat,
        hmac: Option<&Hmac>,
        mut sequence: impl FnMut() -> Sequence,
        ports: &Ports,
    ) -> Result<(), SocketError> {
        let Some(port) = self.port.and_then(|port| ports.get(port)) else {
            return Ok(());
        };
        let mut result = Ok(());
        for peer in &wanted.peers {
            let bytes = heartbeat.encode(wanted.own, hmac.map(|hmac| (hmac, sequence())));
            // One that cannot be reached keeps no word from the others.
            result = port.socket.send(&bytes, *peer).and(result);
        }
        result
    }
}

fn attach(
    wanted: &HeartbeatPath,
    found: &Interface,
    (vrid, kind, number): (u8, Kind, Number),
    ports: &mut Ports,
) -> Result<PortId, SocketError> {
    let spec = Spec {
        name: wanted.interface.clone(),
        interface: found.clone(),
        source: wanted.own,
        unicast_ttl: Some(TTL),
    };
    ports.attach(spec, (vrid, kind), number)
}

/// The router's own view of a path: whom it tells, and what keeps it from doing so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathView {
    /// The interface.
    pub(crate) interface: String,
    /// The other directors' addresses there.
    pub(crate) peers: Vec<IpAddr>,
    /// Why no heartbeats go out.
    pub(crate) trouble: Option<String>,
    /// When the last heartbeat of a master came in.
    pub(crate) heard: Option<Moment>,
}
