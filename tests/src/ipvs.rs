//! The kernel's IPVS table as `ipvsadm` reads it: an independent witness of what the director programmed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use crate::netns::Node;

/// A destination as ipvsadm lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// Address and port.
    pub address: String,
    /// `Route`, `Masq` or `Tunnel`.
    pub forward: String,
    /// The weight.
    pub weight: u32,
}

/// Services with their scheduler, each with its destinations in order.
pub type Table = BTreeMap<String, (String, Vec<Destination>)>;

/// The marks of services that are there for checks through the forwarding path, as long as the file has no `mark_base`.
const PATH_MARKS: std::ops::RangeInclusive<u32> = 0x1_8000..=0x1_ffff;

/// Reads the table of a node, as `ipvsadm -Ln` prints it, but for the services of path checks.
pub fn table(node: &Node) -> Table {
    let mut table = whole_table(node);
    table.retain(|service, _| !is_path(service));
    table
}

/// The services of path checks.
pub fn paths(node: &Node) -> Table {
    let mut table = whole_table(node);
    table.retain(|service, _| is_path(service));
    table
}

fn whole_table(node: &Node) -> Table {
    parse(&node.sh("ipvsadm", &["-Ln"]))
}

/// Whether a line of ipvsadm begins with the name of a path check's service.
fn is_path(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("FWM")
        && words
            .next()
            .and_then(|mark| mark.parse().ok())
            .is_some_and(|mark| PATH_MARKS.contains(&mark))
}

fn parse(text: &str) -> Table {
    let mut table = Table::new();
    let mut service = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["FWM", mark, "IPv6", scheduler, ..] => {
                let name = format!("FWM {mark} IPv6");
                table.insert(name.clone(), (scheduler.to_owned(), Vec::new()));
                service = Some(name);
            }
            ["TCP" | "UDP" | "SCTP" | "FWM", address, scheduler, ..] => {
                let name = format!("{} {address}", words[0]);
                table.insert(name.clone(), (scheduler.to_owned(), Vec::new()));
                service = Some(name);
            }
            ["->", address, forward, weight, ..] => {
                // The heading's line has no number.
                let (Some(name), Ok(weight)) = (&service, weight.parse()) else {
                    continue;
                };
                if let Some((_, destinations)) = table.get_mut(name) {
                    destinations.push(Destination {
                        address: address.to_owned(),
                        forward: forward.to_owned(),
                        weight,
                    });
                    destinations.sort();
                }
            }
            _ => {}
        }
    }
    table
}

/// The weights of a service by destination.
pub fn weights(node: &Node, service: &str) -> BTreeMap<String, u32> {
    let table = table(node);
    let destinations = table
        .get(service)
        .map(|(_, destinations)| destinations.clone())
        .unwrap_or_default();
    destinations
        .into_iter()
        .map(|destination| (destination.address, destination.weight))
        .collect()
}

/// Connections and packets that a node's services have counted since they were made, from `--stats --exact`; those of path checks do not count.
pub fn totals(node: &Node) -> (u64, u64) {
    let text = node.sh("ipvsadm", &["-Ln", "--stats", "--exact"]);
    let services = text.lines().filter(|line| {
        ["TCP ", "UDP ", "FWM "]
            .iter()
            .any(|word| line.starts_with(word))
            && !is_path(line)
    });
    services.fold((0, 0), |(connections, packets), line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| {
            words
                .get(index)
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or_default()
        };
        (connections + number(2), packets + number(3))
    })
}

/// The clients of the node's connection entries in a state, such as `ESTABLISHED`, or in any.
pub fn clients(node: &Node, state: Option<&str>) -> BTreeSet<SocketAddr> {
    // The plain /proc/net is that of the process's first thread.
    let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/ip_vs_conn"));
    parse_entries(&text.unwrap_or_default(), state)
}

/// Lines such as `TCP 0A090002 9C40 0A000064 0050 0A00000B 0050 ESTABLISHED 897`.
fn parse_entries(text: &str, state: Option<&str>) -> BTreeSet<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let address = u32::from_str_radix(words.get(1)?, 16).ok()?;
            let port = u16::from_str_radix(words.get(2)?, 16).ok()?;
            let wanted = state.is_none_or(|state| words.get(7) == Some(&state));
            wanted.then(|| SocketAddr::new(Ipv4Addr::from(address).into(), port))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read() {
        let table = parse(
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           \
             Forward Weight ActiveConn InActConn\nTCP  10.0.0.100:80 rr persistent 300\n  -> 10.0.0.12:80                 Route   1      \
             0          0         \n  -> 10.0.0.11:80                 Route   0      0          0         \nFWM  65536 mh (mh-port)\nFWM  65536 IPv6 rr\n",
        );
        let (scheduler, destinations) = &table["TCP 10.0.0.100:80"];
        assert_eq!(scheduler, "rr");
        assert_eq!(
            destinations[0],
            Destination {
                address: "10.0.0.11:80".into(),
                forward: "Route".into(),
                weight: 0
            }
        );
        assert_eq!(destinations.len(), 2);
        assert_eq!(table["FWM 65536"], ("mh".to_owned(), Vec::new()));
        assert_eq!(table["FWM 65536 IPv6"], ("rr".to_owned(), Vec::new()));
    }

    #[test]
    fn connection_entries_are_read() {
        let text = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\nTCP 0A090002 9C40 0A000064 0050 0A00000B 0050 \
             ESTABLISHED     897\nTCP 0A090003 9C41 0A000064 0050 0A00000B 0050 FIN_WAIT        100\n";
        let established = parse_entries(text, Some("ESTABLISHED"));
        assert_eq!(
            established,
            BTreeSet::from(["10.9.0.2:40000".parse().unwrap()])
        );
        assert_eq!(parse_entries(text, None).len(), 2);
    }
}
