//! CORE: one set of services and destinations in the words of the director, of `ipvsadm --restore` and of keepalived.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipvs_netlink::{Change, Destination, Forward, Protocol, Service, ServiceKey};

/// The virtual address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// The first service's port.
const FIRST_PORT: u16 = 1000;

/// A file of ours with every address moved to the loopback network, which is there without being made.
pub fn on_loopback(text: &str) -> String {
    text.replace("10.0.", "127.0.")
}

/// Services on consecutive ports of one address, all with the same real servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set {
    /// How many services.
    pub services: u16,
    /// How many destinations each of them has.
    pub destinations: u16,
}

/// How real servers are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checks {
    /// Seconds between two checks of a real server.
    pub interval: u32,
    /// The port that is checked, whatever the service's is.
    pub port: u16,
    /// Whether each service has real servers of its own, so that nothing is checked twice.
    pub distinct: bool,
}

/// Nobody is checked while a table is measured: the interval is an hour, and all of it is believed from the start.
pub const SELDOM: Checks = Checks {
    interval: 3600,
    port: 9,
    distinct: false,
};

impl Set {
    /// All entries: services and their destinations.
    pub fn entries(self) -> usize {
        usize::from(self.services) * (1 + usize::from(self.destinations))
    }

    /// The ports.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        FIRST_PORT..FIRST_PORT + self.services
    }

    /// The port of the service whose first destination is changed.
    pub fn changed_port(self) -> u16 {
        FIRST_PORT + self.services / 2
    }

    /// The address of a real server.
    pub fn server(self, port: u16, number: u16, distinct: bool) -> Ipv4Addr {
        let before = if distinct {
            u32::from(port - FIRST_PORT) * u32::from(self.destinations)
        } else {
            0
        };
        let index = before + u32::from(number);
        Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 1, 1)) + index)
    }

    fn weight(self, port: u16, number: u16, changed: u32) -> u32 {
        if port == self.changed_port() && number == 0 {
            changed
        } else {
            1
        }
    }

    /// The platform file of a director `lb1` without any service.
    pub fn empty_platform(self) -> String {
        format!(
            r#"schema = 1
name = "bench"
[network.front]
cidr = ["10.0.0.0/15"]
[node.lb1.on]
front = {{ interface = "lo", addresses = ["10.0.0.5"] }}
[vip.web]
network = "front"
addresses = ["{VIP}/32"]
directors = ["lb1"]
vrrp = {{ id = 51 }}
"#
        )
    }

    /// The platform file. `changed` is the weight of one destination of one service.
    pub fn platform(self, changed: u32, checks: Checks) -> String {
        let mut text = self.empty_platform();
        let initial = if checks.distinct { "down" } else { "up" };
        let _ = write!(
            text,
            "[check.port]\nkind = \"tcp\"\nport = {}\ninterval = \"{}s\"\ntimeout = \"1s\"\nrise = 1\nfall = 3\ninitial = \"{initial}\"\n",
            checks.port, checks.interval
        );
        for port in self.ports() {
            let _ = write!(
                text,
                "[virtual_service.s{port}]\nvips = [\"web\"]\nports = [{port}]\nforward = \"dr\"\npath_check = false\nscheduler = \"rr\"\ncheck = \"port\"\nreal_servers = [\n"
            );
            for number in 0..self.destinations {
                let _ = writeln!(
                    text,
                    "  {{ address = \"{}\", weight = {} }},",
                    self.server(port, number, checks.distinct),
                    self.weight(port, number, changed)
                );
            }
            text.push_str("]\n");
        }
        text
    }

    /// The same for `ipvsadm --restore`.
    pub fn ipvsadm(self) -> String {
        let mut text = String::new();
        for port in self.ports() {
            let _ = writeln!(text, "-A -t {VIP}:{port} -s rr");
            for number in 0..self.destinations {
                let server = self.server(port, number, false);
                let _ = writeln!(text, "-a -t {VIP}:{port} -r {server}:{port} -g -w 1");
            }
        }
        text
    }

    /// The same for keepalived, every real server checked as the platform file says.
    pub fn keepalived(self, changed: u32, checks: Checks) -> String {
        let mut text = String::from("global_defs {\n  router_id bench\n}\n");
        for port in self.ports() {
            let _ = write!(
                text,
                "virtual_server {VIP} {port} {{\n  delay_loop {}\n  lb_algo rr\n  lb_kind DR\n  protocol TCP\n",
                checks.interval
            );
            for number in 0..self.destinations {
                let _ = write!(
                    text,
                    "  real_server {} {port} {{\n    weight {}\n    TCP_CHECK {{\n      connect_port {}\n      connect_timeout 1\n      retry 2\n    }}\n  }}\n",
                    self.server(port, number, checks.distinct),
                    self.weight(port, number, changed),
                    checks.port
                );
            }
            text.push_str("}\n");
        }
        text
    }

    /// The same as requests to the kernel.
    pub fn changes(self) -> Vec<Change> {
        let mut changes = Vec::with_capacity(self.entries());
        for port in self.ports() {
            let key = ServiceKey::Address {
                protocol: Protocol::Tcp,
                address: VIP.into(),
                port,
            };
            changes.push(Change::AddService(Service::new(key, "rr")));
            for number in 0..self.destinations {
                let server = self.server(port, number, false);
                let destination = Destination::new(server.into(), port, Forward::DirectRoute, 1);
                changes.push(Change::AddDestination(key, destination));
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Set = Set {
        services: 4,
        destinations: 3,
    };

    #[test]
    fn every_form_holds_the_same_entries() {
        assert_eq!(SET.entries(), 16);
        assert_eq!(SET.changes().len(), 16);
        assert_eq!(SET.ipvsadm().lines().count(), 16);
        let count = |text: &str, word: &str| text.matches(word).count();
        let keepalived = SET.keepalived(1, SELDOM);
        assert_eq!(
            count(&keepalived, "virtual_server ") + count(&keepalived, "real_server "),
            16
        );
        let platform = SET.platform(1, SELDOM);
        assert_eq!(
            count(&platform, "[virtual_service.") + count(&platform, "{ address"),
            16
        );
    }

    #[test]
    fn the_platform_file_is_without_errors_and_one_weight_differs() {
        let load = |text: String| {
            let report = conf::load_with(std::path::Path::new("bench.toml"), &|_| Ok(text.clone()));
            let platform = report.platform_for(conf::Tier::Layer4);
            platform
                .unwrap_or_else(|problems| panic!("{problems:#?}"))
                .clone()
        };
        let (before, after) = (load(SET.platform(1, SELDOM)), load(SET.platform(3, SELDOM)));
        let differ = |name: &str| {
            before.virtual_services[name].real_servers != after.virtual_services[name].real_servers
        };
        let names: Vec<&String> = before
            .virtual_services
            .keys()
            .filter(|name| differ(name))
            .collect();
        assert_eq!(names, [&format!("s{}", SET.changed_port())]);
    }

    #[test]
    fn distinct_servers_are_distinct() {
        let servers: std::collections::BTreeSet<Ipv4Addr> = SET
            .ports()
            .flat_map(|port| (0..3).map(move |number| SET.server(port, number, true)))
            .collect();
        assert_eq!(servers.len(), 12);
    }
}
