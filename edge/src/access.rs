//! CORE: which clients may ask: lists of networks, looked up by hashes, so that a list of ten thousand costs what one of ten does.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use conf::platform::Access;
use ipnet::IpNet;

/// The lists of a route, ready for lookup.
#[derive(Debug, Default)]
pub struct Rules {
    /// `None`: all are allowed.
    allow: Option<Networks>,
    deny: Networks,
}

/// What the lists say of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It may ask.
    Allowed,
    /// `deny` names it.
    Denied,
    /// `allow` does not name it.
    NotAllowed,
}

impl Rules {
    /// The lists of the file.
    pub fn new(access: &Access) -> Rules {
        Rules {
            allow: (!access.allow.is_empty()).then(|| Networks::new(&access.allow)),
            deny: Networks::new(&access.deny),
        }
    }

    /// Whether they let everybody in.
    pub fn is_open(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty()
    }

    /// What they say of a client. One without an address (of a unix socket) is named by no network.
    pub fn judge(&self, client: Option<IpAddr>) -> Ruling {
        let named = |networks: &Networks| client.is_some_and(|client| networks.hold(client));
        if named(&self.deny) {
            return Ruling::Denied;
        }
        match &self.allow {
            Some(allow) if !named(allow) => Ruling::NotAllowed,
            _ => Ruling::Allowed,
        }
    }
}

/// A set of networks, by the length of their prefixes.
#[derive(Debug, Default)]
struct Networks {
    v4: BTreeMap<u8, HashSet<IpNet>>,
    v6: BTreeMap<u8, HashSet<IpNet>>,
}

impl Networks {
    fn new(list: &[IpNet]) -> Networks {
        let mut networks = Networks::default();
        for network in list {
            let lengths = match network {
                IpNet::V4(_) => &mut networks.v4,
                IpNet::V6(_) => &mut networks.v6,
            };
            let same = lengths.entry(network.prefix_len()).or_default();
            same.insert(network.trunc());
        }
        networks
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    fn hold(&self, client: IpAddr) -> bool {
        // An IPv4 client of a socket of both families.
        let client = client.to_canonical();
        let lengths = match client {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        lengths.iter().any(|(length, same)| {
            let network = IpNet::new(client, *length).map(|network| network.trunc());
            network.is_ok_and(|network| same.contains(&network))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter()
            .map(|network| network.parse().unwrap())
            .collect()
    }

    fn rules(allow: &[&str], deny: &[&str]) -> Rules {
        Rules::new(&Access {
            allow: networks(allow),
            deny: networks(deny),
        })
    }

    fn judged(rules: &Rules, client: &str) -> Ruling {
        rules.judge(Some(client.parse().unwrap()))
    }

    #[test]
    fn deny_wins_and_allow_shuts_out_the_rest() {
        let all = rules(&[], &[]);
        assert_eq!(judged(&all, "10.0.0.1"), Ruling::Allowed);
        assert_eq!(all.judge(None), Ruling::Allowed);
        assert!(all.is_open() && !rules(&["10.0.0.0/8"], &[]).is_open());
        assert!(!rules(&[], &["10.0.0.0/8"]).is_open());
        let some = rules(&["10.0.0.0/8", "2001:db8::/32"], &["10.66.0.0/16"]);
        assert_eq!(judged(&some, "10.1.2.3"), Ruling::Allowed);
        assert_eq!(judged(&some, "::ffff:10.1.2.3"), Ruling::Allowed);
        assert_eq!(judged(&some, "10.66.2.3"), Ruling::Denied);
        assert_eq!(judged(&some, "::ffff:10.66.2.3"), Ruling::Denied);
        assert_eq!(judged(&some, "192.0.2.1"), Ruling::NotAllowed);
        assert_eq!(judged(&some, "2001:db8:1::1"), Ruling::Allowed);
        assert_eq!(judged(&some, "2001:db9::1"), Ruling::NotAllowed);
        assert_eq!(some.judge(None), Ruling::NotAllowed);
        let none = rules(&[], &["0.0.0.0/0"]);
        assert_eq!(judged(&none, "192.0.2.1"), Ruling::Denied);
        assert_eq!(judged(&none, "2001:db8::1"), Ruling::Allowed);
    }

    proptest! {
        /// As a walk over the list would say.
        #[test]
        fn agrees_with_a_walk(list in prop::collection::vec((any::<u32>(), 0u8..=32), 0..20), client: u32, near: prop::sample::Index) {
            let list: Vec<IpNet> = list
                .into_iter()
                .map(|(address, length)| IpNet::new(IpAddr::from(address.to_be_bytes()), length).unwrap().trunc())
                .collect();
            let networks = Networks::new(&list);
            let mut clients = vec![IpAddr::from(client.to_be_bytes())];
            if !list.is_empty() {
                clients.push(near.get(&list).addr());
            }
            for client in clients {
                prop_assert_eq!(networks.hold(client), list.iter().any(|network| network.contains(&client)));
            }
        }
    }
}
