//! SHELL: `drain --wait`: until the connections have ended, with their number on standard error meanwhile.

use std::time::{Duration, Instant};

use conf::unit::Interval;

use super::{Asking, complain, pause, percent_encode, print, print_json};
use crate::control::{Refused, Remaining};
use crate::frame::Exit;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// At least this often the number is told, also when it stays the same.
const TELL: Duration = Duration::from_secs(10);

/// The time of `--wait`.
pub(super) fn time(text: &str) -> Result<Duration, Refused> {
    match text.parse::<Interval>() {
        Ok(time) => Ok(time.as_duration()),
        Err(error) => Err(Refused::new(Exit::Usage, format!("--wait: {error}"))),
    }
}

impl Asking<'_> {
    /// Waits until a drained target has at most `left` connections.
    pub(super) fn wait_for_end(
        &self,
        target: &str,
        limit: Duration,
        left: u64,
    ) -> anyhow::Result<Exit> {
        let end = Instant::now() + limit;
        let path = format!("/v1/remaining?target={}", percent_encode(target));
        let mut told: Option<(u64, Instant)> = None;
        loop {
            let answer = self.client.get(&path)?;
            let remaining: Remaining = serde_json::from_value(answer.clone())?;
            if remaining.connections <= left {
                if self.common.json {
                    print_json(&answer);
                } else {
                    print(&format!("{target} has {}\n", shown(&remaining)));
                }
                return Ok(Exit::Ok);
            }
            let now = Instant::now();
            if told.is_none_or(|(count, at)| {
                count != remaining.connections || now.duration_since(at) >= TELL
            }) {
                complain(&format!("{target}: {}\n", shown(&remaining)));
                told = Some((remaining.connections, now));
            }
            if now >= end {
                let reason = format!(
                    "{target} still has {} after {} s; the drain stays in force",
                    shown(&remaining),
                    limit.as_secs()
                );
                return Err(Refused::new(Exit::TimedOut, reason).into());
            }
            pause(LOOK.min(end.duration_since(now)))?;
        }
    }
}

fn shown(remaining: &Remaining) -> String {
    let places: Vec<String> = remaining
        .places
        .iter()
        .take(3)
        .map(|(place, count)| format!("{count} on {place}"))
        .collect();
    let more = match remaining.places.len().saturating_sub(places.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let places = match places.is_empty() {
        true => String::new(),
        false => format!(" ({}{more})", places.join(", ")),
    };
    match remaining.connections {
        0 => "no connections".to_owned(),
        1 => format!("1 connection{places}"),
        count => format!("{count} connections{places}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_in_one_line() {
        let place = |n: u8| (format!("10.0.0.{n}:80 of TCP 10.0.0.100:80"), 2);
        let some = |count: u8| Remaining {
            connections: u64::from(count) * 2,
            places: (0..count).map(place).collect(),
        };
        assert_eq!(shown(&some(0)), "no connections");
        assert_eq!(
            shown(&some(1)),
            "2 connections (2 on 10.0.0.0:80 of TCP 10.0.0.100:80)"
        );
        assert!(
            shown(&some(5)).ends_with(" and 2 more)"),
            "{}",
            shown(&some(5))
        );
    }
}
