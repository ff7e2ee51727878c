//! CORE: health checks: defaults, and which option belongs to which kind. What a kind asks is resolved in [`mod@kind`].

mod kind;

use std::net::IpAddr;

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{Check, InitialState};
use crate::problems::{Tiers, quoted};
use crate::raw::check::{Check as RawCheck, CheckRef, Initial, Kind};
use crate::source::Span;
use crate::unit::{Interval, Percent};

const DEFAULT_INTERVAL: Interval = Interval::from_secs(2);
const DEFAULT_TIMEOUT: Interval = Interval::from_secs(1);
const DEFAULT_RISE: u32 = 2;
const DEFAULT_FALL: u32 = 3;
/// So that a thousand checks do not fall into step.
const DEFAULT_JITTER: u64 = 10;
impl Resolver<'_> {
    pub(super) fn named_checks(&mut self) {
        let raw = self.raw;
        for (name, element) in raw.check.iter().flat_map(|checks| &checks.0) {
            let errors = self.problems.errors();
            let tiers = self.check_users.get(name).copied().unwrap_or(Tiers::ALL);
            let built = self.check(&element.raw, Some(name), &format!("check.{name}"), tiers);
            let sound = !element.broken && self.problems.errors() == errors;
            self.checks.insert(name.clone(), built.filter(|_| sound));
        }
    }

    /// What a `check` key means.
    pub(super) fn check_of(
        &mut self,
        reference: &At<CheckRef>,
        key: &str,
        tiers: Tiers,
    ) -> Option<Check> {
        match &reference.value {
            CheckRef::Inline(check) => self.check(check, None, key, tiers),
            CheckRef::Name(name) => {
                if let Some(check) = self.checks.get(name) {
                    return check.clone();
                }
                let raw = self.raw;
                let name = At {
                    value: name.clone(),
                    span: reference.span,
                };
                self.known(
                    raw.check.as_ref(),
                    codes::UNKNOWN_CHECK,
                    tiers,
                    &name,
                    key,
                    "check",
                );
                None
            }
        }
    }

    fn check(
        &mut self,
        raw: &RawCheck,
        name: Option<&str>,
        key: &str,
        tiers: Tiers,
    ) -> Option<Check> {
        let kind = raw.kind.as_ref()?;
        let defaults = self
            .raw
            .defaults
            .as_ref()
            .and_then(|defaults| defaults.check.as_ref());
        let interval = given(&raw.interval)
            .or_else(|| given(&defaults?.interval))
            .unwrap_or(DEFAULT_INTERVAL);
        let timeout = given(&raw.timeout)
            .or_else(|| given(&defaults?.timeout))
            .unwrap_or(DEFAULT_TIMEOUT.min(interval));
        let initial = given(&raw.initial).or_else(|| given(&defaults?.initial));
        let check = Check {
            name: name.map(str::to_owned),
            interval,
            timeout,
            rise: given(&raw.rise)
                .or_else(|| given(&defaults?.rise))
                .map_or(DEFAULT_RISE, |rise| rise.narrow()),
            fall: given(&raw.fall)
                .or_else(|| given(&defaults?.fall))
                .map_or(DEFAULT_FALL, |fall| fall.narrow()),
            retry_delay: given(&raw.retry_delay).or_else(|| given(&defaults?.retry_delay)),
            initial: match initial {
                Some(Initial::Up) => InitialState::Up,
                Some(Initial::Down) | None => InitialState::Down,
            },
            jitter: given(&raw.jitter)
                .or_else(|| given(&defaults?.jitter))
                .or_else(|| Percent::new(DEFAULT_JITTER).ok())
                .unwrap_or(Percent::FULL),
            bind: given(&raw.bind),
            address: given(&raw.address),
            port: given(&raw.port).map(|port| port.narrow()),
            place: self.place(kind.span),
            kind: self.kind(raw, kind, key, tiers)?,
        };
        self.check_times(raw, &check, key, tiers);
        self.foreign_options(raw, kind, key, tiers);
        self.bind_family(raw, key, tiers);
        Some(check)
    }

    fn check_times(&mut self, raw: &RawCheck, check: &Check, key: &str, tiers: Tiers) {
        let at = |field: &Option<At<Interval>>| field.as_ref().map_or(raw.span, |field| field.span);
        for (field, value, word) in [
            (&raw.interval, Some(check.interval), "interval"),
            (&raw.timeout, Some(check.timeout), "timeout"),
            (&raw.retry_delay, check.retry_delay, "retry_delay"),
        ] {
            if value.is_some_and(Interval::is_zero) {
                self.report(
                    codes::ZERO_TIME,
                    tiers,
                    at(field),
                    format!("{key}.{word}"),
                    format!("`{key}.{word}` is zero"),
                )
                .help("a check needs some time: 100ms or more");
            }
        }
        if check.timeout > check.interval {
            let span = raw
                .timeout
                .as_ref()
                .or(raw.interval.as_ref())
                .map_or(raw.span, |field| field.span);
            self.report(
                codes::TIMEOUT_OVER_INTERVAL,
                tiers,
                span,
                format!("{key}.timeout"),
                format!(
                    "a check of `{key}` may take {}, but the next one is due after {}",
                    check.timeout, check.interval
                ),
            )
            .label("longer than the interval")
            .help(format!(
                "set `timeout` to {} or less, or raise `interval`",
                check.interval
            ));
        }
    }

    fn bind_family(&mut self, raw: &RawCheck, key: &str, tiers: Tiers) {
        let (Some(bind), Some(address)) = (&raw.bind, &raw.address) else {
            return;
        };
        if bind.value.is_ipv4() != address.value.is_ipv4() {
            self.report(
                codes::CHECK_FAMILY,
                tiers,
                bind.span,
                format!("{key}.bind"),
                format!(
                    "a check cannot go from {} to {}: one is IPv4, the other IPv6",
                    bind.value, address.value
                ),
            );
        }
    }

    fn wanted(
        &mut self,
        value: &Option<At<String>>,
        span: Span,
        key: &str,
        option: &str,
        tiers: Tiers,
    ) -> Option<String> {
        if value.is_none() {
            self.option_missing(span, key, option, tiers);
        }
        value.as_deref().cloned()
    }

    fn option_missing(&mut self, span: Span, key: &str, option: &str, tiers: Tiers) {
        self.report(
            codes::CHECK_OPTION_MISSING,
            tiers,
            span,
            key,
            format!("a check of this kind needs `{option}`"),
        )
        .label(format!("`{option}` is missing"));
    }

    /// An option of another kind would be ignored; whoever wrote it believes otherwise.
    fn foreign_options(&mut self, raw: &RawCheck, kind: &At<Kind>, key: &str, tiers: Tiers) {
        use Kind::{Dns, Edge, Exec, Http, Https, Smtp, Tcp, Tls, Udp};
        fn span<T>(field: &Option<At<T>>) -> Option<Span> {
            field.as_ref().map(|field| field.span)
        }
        let options: &[(&str, Option<Span>, &[Kind])] = &[
            (
                "port",
                span(&raw.port),
                &[Tcp, Http, Https, Edge, Tls, Dns, Udp, Smtp, Exec],
            ),
            ("method", span(&raw.method), &[Http, Https]),
            ("path", span(&raw.path), &[Http, Https]),
            ("host", span(&raw.host), &[Http, Https]),
            ("status", span(&raw.status), &[Http, Https]),
            ("body", span(&raw.body), &[Http, Https]),
            ("headers", span(&raw.headers), &[Http, Https]),
            ("body_regex", span(&raw.body_regex), &[Http, Https]),
            ("body_not_regex", span(&raw.body_not_regex), &[Http, Https]),
            ("server_name", span(&raw.server_name), &[Https, Tls]),
            ("ca_file", span(&raw.ca_file), &[Https, Tls]),
            ("verify", span(&raw.verify), &[Https, Tls]),
            ("min_validity", span(&raw.min_validity), &[Https, Tls]),
            ("name", span(&raw.name), &[Dns]),
            ("record", span(&raw.record), &[Dns]),
            ("rcode", span(&raw.rcode), &[Dns]),
            ("answer", span(&raw.answer), &[Dns]),
            ("payload", span(&raw.payload), &[Udp]),
            ("payload_hex", span(&raw.payload_hex), &[Udp]),
            ("expect", span(&raw.expect), &[Udp]),
            ("expect_hex", span(&raw.expect_hex), &[Udp]),
            ("helo", span(&raw.helo), &[Smtp]),
            ("command", span(&raw.command), &[Exec]),
        ];
        let word = |kind: &Kind| Kind::WORDS.get(*kind as usize).copied().unwrap_or_default();
        for (option, at, kinds) in options {
            let Some(at) = at.filter(|_| !kinds.contains(&kind.value)) else {
                continue;
            };
            self.report(
                codes::FOREIGN_OPTION,
                tiers,
                at,
                format!("{key}.{option}"),
                format!(
                    "a check of kind `{}` has no option `{option}`",
                    word(&kind.value)
                ),
            )
            .help(format!(
                "`{option}` belongs to {}",
                quoted(kinds.iter().map(word))
            ));
        }
    }
}

/// Where a check of a director's own node goes, if the file does not say.
pub(super) const OWN_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
