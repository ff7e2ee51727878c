//! CORE: what is probed, and when two targets are one.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use conf::platform::{Check, CheckKind, Endpoint, InitialState};
use conf::unit::{Interval, Percent};

/// What is probed: one address with one check. Two targets that compare equal are one probe, however many services use them.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address to probe: the check's own `address` and `port` where it names them, else the server's.
    pub address: Endpoint,
    /// How.
    pub check: Arc<Check>,
    /// Firewall mark of the check's packets (`SO_MARK`): leads them through the forwarding path to one real server. Needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// Source address of the check's packets, before the check's own `bind`.
    pub source: Option<IpAddr>,
}

/// Identity of a target: its address and everything of its check that matters. Cheap to make, to copy and to compare.
#[derive(Debug, Clone)]
pub struct TargetKey {
    address: Endpoint,
    mark: Option<u32>,
    source: Option<IpAddr>,
    check: Arc<Check>,
}

/// What of a check is part of a target's identity, in the order in which keys are compared.
type Parts<'a> = (
    &'a CheckKind,
    [Interval; 2],
    [u32; 2],
    Option<Interval>,
    InitialState,
    Percent,
);

impl TargetKey {
    /// The check's name and place in the file are no part of it; neither are its `address`, `port` and `bind`, which the target already follows.
    fn parts(&self) -> Parts<'_> {
        let Check {
            name: _,
            kind,
            interval,
            timeout,
            rise,
            fall,
            retry_delay,
            initial,
            jitter,
            bind: _,
            address: _,
            port: _,
            place: _,
        } = &*self.check;
        (
            kind,
            [*interval, *timeout],
            [*rise, *fall],
            *retry_delay,
            *initial,
            *jitter,
        )
    }
}

impl Ord for TargetKey {
    fn cmp(&self, other: &TargetKey) -> Ordering {
        let place = |key: &TargetKey| (key.mark, key.source);
        self.address
            .cmp(&other.address)
            .then_with(|| place(self).cmp(&place(other)))
            .then_with(|| {
                if Arc::ptr_eq(&self.check, &other.check) {
                    return Ordering::Equal;
                }
                self.parts().cmp(&other.parts())
            })
    }
}

impl PartialOrd for TargetKey {
    fn partial_cmp(&self, other: &TargetKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for TargetKey {
    fn eq(&self, other: &TargetKey) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for TargetKey {}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let check = &self.check;
        write!(
            f,
            "{} {} every {}",
            self.address,
            check.kind.word(),
            check.interval
        )?;
        if let Some(source) = self.source {
            write!(f, " from {source}")?;
        }
        if let Some(mark) = self.mark {
            write!(f, " mark {mark:#x}")?;
        }
        Ok(())
    }
}

impl Target {
    /// A target that is checked without a mark, from the check's `bind` if it has one.
    pub fn new(address: impl Into<Endpoint>, check: Arc<Check>) -> Target {
        Target {
            address: address.into(),
            check,
            mark: None,
            source: None,
        }
    }

    /// Where the check's packets come from, if the kernel is not to choose.
    pub(crate) fn bound(&self) -> Option<IpAddr> {
        self.source.or(self.check.bind)
    }

    /// The identity under which the target is scheduled and reported.
    pub fn key(&self) -> TargetKey {
        TargetKey {
            address: self.address.clone(),
            mark: self.mark,
            source: self.bound(),
            check: Arc::clone(&self.check),
        }
    }

    /// Where the check ends up: the same address with another mark is another server.
    pub(crate) fn place(&self) -> (Endpoint, Option<u32>) {
        (self.address.clone(), self.mark)
    }
}

#[cfg(test)]
mod tests {
    use conf::pattern::Pattern;
    use conf::platform::{CheckBody, Place};

    use super::*;

    fn at(address: &str) -> std::net::SocketAddr {
        address.parse().unwrap()
    }

    fn check() -> Check {
        Check {
            name: None,
            kind: CheckKind::Tcp,
            interval: Interval::from_secs(2),
            timeout: Interval::from_secs(1),
            rise: 2,
            fall: 3,
            retry_delay: None,
            initial: InitialState::Down,
            jitter: Percent::new(10).unwrap(),
            bind: None,
            address: None,
            port: None,
            place: Place::default(),
        }
    }

    fn dns(record: &str, answer: Option<&str>) -> CheckKind {
        CheckKind::Dns {
            name: "a".into(),
            record: record.into(),
            rcode: vec![0],
            answer: answer.map(Into::into),
        }
    }

    fn pattern(text: &str) -> CheckKind {
        CheckKind::Http {
            tls: None,
            method: "GET".into(),
            path: "/".into(),
            host: None,
            status: Vec::new(),
            body: CheckBody {
                matches: Some(Pattern::new(text).unwrap()),
                ..CheckBody::default()
            },
            headers: Vec::new(),
        }
    }

    fn key(check: Check) -> TargetKey {
        Target::new(at("10.0.0.1:80"), Arc::new(check)).key()
    }

    #[test]
    fn every_parameter_that_matters_is_part_of_the_identity() {
        let base = check();
        let changed = [
            Check {
                kind: CheckKind::Icmp,
                ..check()
            },
            Check {
                kind: dns("A", None),
                ..check()
            },
            Check {
                kind: dns("SOA", None),
                ..check()
            },
            Check {
                kind: dns("A", Some("10.0.0.1")),
                ..check()
            },
            Check {
                kind: pattern("a"),
                ..check()
            },
            Check {
                kind: pattern("b"),
                ..check()
            },
            Check {
                interval: Interval::from_secs(3),
                ..check()
            },
            Check {
                timeout: Interval::from_secs(2),
                ..check()
            },
            Check { rise: 3, ..check() },
            Check { fall: 2, ..check() },
            Check {
                retry_delay: Some(Interval::from_secs(1)),
                ..check()
            },
            Check {
                initial: InitialState::Up,
                ..check()
            },
            Check {
                jitter: Percent::new(11).unwrap(),
                ..check()
            },
            Check {
                bind: Some("10.0.0.2".parse().unwrap()),
                ..check()
            },
        ];
        let mut keys: Vec<TargetKey> = changed.into_iter().map(key).collect();
        keys.push(key(base));
        let plain = Target::new(at("10.0.0.1:81"), Arc::new(check()));
        for (mark, source) in [
            (None, None),
            (Some(0x10000), None),
            (Some(0x10001), None),
            (None, Some("10.0.0.3".parse().unwrap())),
        ] {
            let target = Target {
                mark,
                source,
                ..plain.clone()
            };
            keys.push(target.key());
        }
        for path in ["/run/a.sock", "/run/b.sock"] {
            keys.push(Target::new(Endpoint::Unix(path.into()), Arc::new(check())).key());
        }
        let count = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn a_source_stands_before_the_bind_of_the_check() {
        let bound = Check {
            bind: Some("10.0.0.2".parse().unwrap()),
            ..check()
        };
        let mut target = Target::new(at("10.0.0.1:80"), Arc::new(bound));
        assert_eq!(target.bound(), Some("10.0.0.2".parse().unwrap()));
        target.source = Some("10.0.0.3".parse().unwrap());
        assert_eq!(target.bound(), Some("10.0.0.3".parse().unwrap()));
    }

    #[test]
    fn names_are_no_part_of_it() {
        let named = Check {
            name: Some("x".into()),
            address: Some("10.0.0.1".parse().unwrap()),
            port: Some(80),
            ..check()
        };
        assert_eq!(key(named), key(check()));
    }

    #[test]
    fn a_key_says_what_is_checked() {
        assert_eq!(key(check()).to_string(), "10.0.0.1:80 tcp every 2s");
        let through = Target {
            mark: Some(0x18001),
            source: Some("10.0.0.5".parse().unwrap()),
            ..Target::new(at("10.0.0.100:80"), Arc::new(check()))
        };
        assert_eq!(
            through.key().to_string(),
            "10.0.0.100:80 tcp every 2s from 10.0.0.5 mark 0x18001"
        );
    }
}
