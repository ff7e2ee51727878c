//! CORE: what is probed, and when two targets are one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use conf::platform::Check;
use serde::Serialize;

/// What is probed: one address with one check. Two targets that compare equal are one probe, however many services use them.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address to probe: the check's own `address` and `port` where it names them, else the server's.
    pub address: SocketAddr,
    /// How.
    pub check: Arc<Check>,
    /// Firewall mark of the check's packets (`SO_MARK`): leads them through the forwarding path to one real server. Needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// Source address of the check's packets, before the check's own `bind`.
    pub source: Option<IpAddr>,
}

/// Identity of a target: its address and everything of its check that matters, in one ordered word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TargetKey(Arc<str>);

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Target {
    /// A target that is checked without a mark, from the check's `bind` if it has one.
    pub fn new(address: SocketAddr, check: Arc<Check>) -> Target {
        Target {
            address,
            check,
            mark: None,
            source: None,
        }
    }

    /// Where the check's packets come from, if the kernel is not to choose.
    pub(crate) fn bound(&self) -> Option<IpAddr> {
        self.source.or(self.check.bind)
    }

    /// The identity under which the target is scheduled and reported. The check's name and place in the file are no part of it; neither are its
    /// `address` and `port`, which `address` of the target already follows.
    pub fn key(&self) -> TargetKey {
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
        let retry = retry_delay.map_or_else(|| "-".to_owned(), |delay| delay.to_string());
        let bind = self
            .bound()
            .map_or_else(|| "-".to_owned(), |bind| bind.to_string());
        let mark = self
            .mark
            .map_or_else(|| "-".to_owned(), |mark| format!("{mark:#x}"));
        let question = self.question();
        let word = kind.word();
        let key = format!(
            "{} {word} every {interval} timeout {timeout} rise {rise} fall {fall} retry {retry} initial {initial:?} jitter {jitter} bind {bind} mark {mark} {question}",
            self.address
        );
        TargetKey(key.into())
    }

    /// Where the check ends up: the same address with another mark is another server.
    pub(crate) fn place(&self) -> (SocketAddr, Option<u32>) {
        (self.address, self.mark)
    }

    /// What is asked, without how often: targets of one address that ask the same inherit one another's verdict.
    pub(crate) fn question(&self) -> String {
        format!("{:?}", self.check.kind)
    }
}

#[cfg(test)]
mod tests {
    use conf::pattern::Pattern;
    use conf::platform::{CheckBody, CheckKind, InitialState, Place};
    use conf::unit::{Interval, Percent};

    use super::*;

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
        Target::new("10.0.0.1:80".parse().unwrap(), Arc::new(check)).key()
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
        let plain = Target::new("10.0.0.1:81".parse().unwrap(), Arc::new(check()));
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
        let mut target = Target::new("10.0.0.1:80".parse().unwrap(), Arc::new(bound));
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
}
