//! CORE: checks through the forwarding path: where there are any, and their defaults.

use crate::codes;
use crate::decode::At;
use crate::platform::{Check, Forward, PathCheck, Protocol};
use crate::problems::Tiers;
use crate::raw::layer4::{PathCheckRef, PathCheckTable};
use crate::resolve::{Resolver, given};
use crate::source::Span;
use crate::unit::Interval;

/// How many times slower than the plain check: each one costs an entry in the connection table for 10 s.
const SLOWER: u64 = 10;
/// One answer from the VIP proves that it is there.
const DEFAULT_RISE: u32 = 1;
const DEFAULT_FALL: u32 = 3;

impl Resolver<'_> {
    /// What `path_check` means for a service that is forwarded so.
    pub(super) fn path_check(
        &mut self,
        raw: Option<&At<PathCheckRef>>,
        check: &Check,
        (forward, protocol): (Forward, Protocol),
        key: &str,
    ) -> Option<PathCheck> {
        let key = format!("{key}.path_check");
        let possible = protocol == Protocol::Tcp && forward != Forward::Nat;
        let interval = Interval::from_micros(check.interval.as_micros().saturating_mul(SLOWER));
        let default = PathCheck {
            interval,
            timeout: check.timeout,
            rise: DEFAULT_RISE,
            fall: DEFAULT_FALL,
        };
        let wished = match raw.map(|raw| &raw.value) {
            None => return possible.then_some(default),
            Some(PathCheckRef::Switch(false)) => return None,
            Some(PathCheckRef::Switch(true)) => default,
            Some(PathCheckRef::Table(table)) => self.path_check_table(table, default, &key),
        };
        if !possible {
            let why = if forward == Forward::Nat {
                "with NAT the real server has no VIP that it could lose"
            } else {
                "it is a TCP connection"
            };
            self.report(
                codes::PATH_CHECK,
                Tiers::LAYER4,
                raw.map_or_else(Span::default, |raw| raw.span),
                key,
                "this service is not checked through the forwarding path",
            )
            .label(why)
            .help("take `path_check` out");
            return None;
        }
        Some(wished)
    }

    fn path_check_table(
        &mut self,
        table: &PathCheckTable,
        default: PathCheck,
        key: &str,
    ) -> PathCheck {
        let wished = PathCheck {
            interval: given(&table.interval).unwrap_or(default.interval),
            timeout: given(&table.timeout).unwrap_or(default.timeout),
            rise: given(&table.rise).map_or(default.rise, |rise| rise.narrow()),
            fall: given(&table.fall).map_or(default.fall, |fall| fall.narrow()),
        };
        for (field, word) in [(&table.interval, "interval"), (&table.timeout, "timeout")] {
            if let Some(zero) = field.as_ref().filter(|field| field.value.is_zero()) {
                self.report(
                    codes::ZERO_TIME,
                    Tiers::LAYER4,
                    zero.span,
                    format!("{key}.{word}"),
                    format!("`{key}.{word}` is zero"),
                )
                .help("a check needs some time: 100ms or more");
            }
        }
        if wished.timeout > wished.interval {
            let at = table.timeout.as_ref().or(table.interval.as_ref());
            self.report(
                codes::TIMEOUT_OVER_INTERVAL,
                Tiers::LAYER4,
                at.map_or(table.span, |field| field.span),
                format!("{key}.timeout"),
                format!(
                    "a check of `{key}` may take {}, but the next one is due after {}",
                    wished.timeout, wished.interval
                ),
            )
            .help("make the timeout shorter than the interval");
        }
        wished
    }
}
