//! CORE: the sorry server of a pool, as the kernel sees it.

use std::net::IpAddr;

use conf::platform::VirtualService;
use ipvs_netlink::{Destination, Family, Forward, ServiceKey, Tunnel};

use super::layout::KernelService;

/// The server that takes new connections while too few real servers are healthy. It is not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sorry {
    /// Its address; a loopback address is the director itself.
    pub address: IpAddr,
    /// Its port, if it is not the service's.
    pub port: Option<u16>,
    /// How packets reach it.
    pub forward: Forward,
    /// Its weight.
    pub weight: u16,
}

impl Sorry {
    /// The sorry server of a service for one family; a tunnel may lead to the other one. `own` is how the service's real servers are reached.
    pub(super) fn of(service: &VirtualService, family: Family, own: Forward) -> Option<Sorry> {
        let sorry = service.policy.sorry_server.as_ref()?;
        let tunnel = sorry.forward == conf::platform::Forward::Tun;
        let server = sorry
            .servers
            .iter()
            .find(|server| Family::of(server.address) == family)
            .or_else(|| sorry.servers.first().filter(|_| tunnel))?;
        let forward = match sorry.forward {
            // The kernel delivers to its own sockets whatever is written, and says so when it is asked.
            _ if server.address.is_loopback() => Forward::LocalNode,
            same if same == service.forward => own,
            conf::platform::Forward::Dr => Forward::DirectRoute,
            conf::platform::Forward::Nat => Forward::Masquerade,
            conf::platform::Forward::Tun => Forward::Tunnel(Tunnel::IpIp),
        };
        Some(Sorry {
            address: server.address,
            port: server.port,
            forward,
            weight: server.weight.get(),
        })
    }

    /// Its entry in the kernel for a service.
    pub fn destination(&self, service: &KernelService) -> Destination {
        let port = match service.service.key {
            ServiceKey::Mark { .. } => self.port.unwrap_or(0),
            ServiceKey::Address { port, .. } => self.port.unwrap_or(port),
        };
        Destination::new(self.address, port, self.forward, self.weight.into())
    }
}
