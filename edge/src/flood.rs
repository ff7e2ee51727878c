//! CORE: the frames of an HTTP/2 connection that cost a client nothing and us something: how many came within a window.
//!
//! The engine bounds what a client makes it keep (streams, header lists, resets that are pending), not how often it may ask for an answer to
//! PING or SETTINGS. Only the nine bytes in front of each frame are looked at (RFC 9113 section 4.1).

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Duration;

use conf::Moment;

/// Bytes in front of a frame.
const HEAD: usize = 9;
/// Bytes that a client's first frame follows.
const PREFACE: usize = 24;
/// What is counted within.
const WINDOW: Duration = Duration::from_secs(10);
/// Frames of a kind within the window. Browsers and gRPC clients send a few.
const PINGS: u32 = 100;
const SETTINGS: u32 = 50;
/// A browser that leaves a page resets every request under way.
const RESETS: u32 = 500;
/// DATA frames without a byte and without an end.
const EMPTY: u32 = 200;

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flood {
    /// PING.
    Ping,
    /// SETTINGS.
    Settings,
    /// RST_STREAM.
    Reset,
    /// DATA without a byte.
    Empty,
}

impl Flood {
    /// All of them.
    pub const ALL: [Flood; 4] = [Flood::Ping, Flood::Settings, Flood::Reset, Flood::Empty];

    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Flood::Ping => "ping",
            Flood::Settings => "settings",
            Flood::Reset => "reset",
            Flood::Empty => "empty",
        }
    }

    fn limit(self) -> u32 {
        match self {
            Flood::Ping => PINGS,
            Flood::Settings => SETTINGS,
            Flood::Reset => RESETS,
            Flood::Empty => EMPTY,
        }
    }

    /// What a frame counts as.
    fn of(length: usize, kind: u8, flags: u8) -> Option<Flood> {
        const END_STREAM: u8 = 1;
        const ACK: u8 = 1;
        match kind {
            0 if length == 0 && flags & END_STREAM == 0 => Some(Flood::Empty),
            3 => Some(Flood::Reset),
            4 if flags & ACK == 0 => Some(Flood::Settings),
            6 if flags & ACK == 0 => Some(Flood::Ping),
            _ => None,
        }
    }
}

/// Follows the frames that a client sends.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Bytes of the preface that have passed.
    preface: usize,
    head: [u8; HEAD],
    /// How many of them have come.
    have: usize,
    /// Bytes of the frame's payload that are still to come.
    payload: usize,
    counts: [u32; Flood::ALL.len()],
    since: Moment,
    /// Once there were too many it is over.
    flooded: Option<Flood>,
}

impl Meter {
    /// Takes bytes as they arrive; an error once there are too many frames of a kind.
    pub fn push(&mut self, bytes: &[u8], now: Moment) -> Result<(), Flood> {
        if let Some(flood) = self.flooded {
            return Err(flood);
        }
        if now.since(self.since) >= WINDOW {
            self.counts = [0; Flood::ALL.len()];
            self.since = now;
        }
        let preface = PREFACE.saturating_sub(self.preface).min(bytes.len());
        self.preface = self.preface.saturating_add(preface);
        let mut rest = bytes.get(preface..).unwrap_or_default();
        while !rest.is_empty() {
            if self.payload > 0 {
                let passed = self.payload.min(rest.len());
                self.payload = self.payload.saturating_sub(passed);
                rest = rest.get(passed..).unwrap_or_default();
                continue;
            }
            let Some((first, after)) = rest.split_first() else {
                break;
            };
            if let Some(slot) = self.head.get_mut(self.have) {
                *slot = *first;
            }
            self.have = self.have.saturating_add(1);
            rest = after;
            if self.have == HEAD {
                self.have = 0;
                self.frame()?;
            }
        }
        Ok(())
    }

    fn frame(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.payload = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(flood) = Flood::of(self.payload, kind, flags) else {
            return Ok(());
        };
        let Some(count) = self.counts.get_mut(flood as usize) else {
            return Ok(());
        };
        *count = count.saturating_add(1);
        if *count > flood.limit() {
            self.flooded = Some(flood);
            return Err(flood);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests may panic"
    )]

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn too_many_of_a_kind_are_a_flood_however_they_are_cut() {
        let rows = [
            (frame(6, 0, &[0; 8]), PINGS, Flood::Ping),
            (frame(4, 0, &[]), SETTINGS, Flood::Settings),
            (frame(3, 0, &[0; 4]), RESETS, Flood::Reset),
            (frame(0, 0, &[]), EMPTY, Flood::Empty),
        ];
        for (frame, limit, flood) in rows {
            for size in [1, 7, 1000] {
                let mut meter = Meter::default();
                let mut bytes = vec![b'x'; PREFACE];
                for _ in 0..limit {
                    bytes.extend_from_slice(&frame);
                }
                for piece in bytes.chunks(size) {
                    assert_eq!(meter.push(piece, at(1)), Ok(()), "{flood:?}");
                }
                assert_eq!(meter.push(&frame, at(2)), Err(flood));
                assert_eq!(meter.push(b"x", at(100)), Err(flood), "for good");
            }
        }
    }

    #[test]
    fn what_comes_over_time_is_no_flood() {
        let mut meter = Meter::default();
        meter.push(&[b'x'; PREFACE], at(0)).unwrap();
        for second in 0..1000 {
            for _ in 0..PINGS / 10 {
                meter.push(&frame(6, 0, &[0; 8]), at(second)).unwrap();
            }
        }
    }

    #[test]
    fn answers_data_and_headers_do_not_count() {
        let mut meter = Meter::default();
        meter.push(&[b'x'; PREFACE], at(0)).unwrap();
        for _ in 0..10_000 {
            for (kind, flags, payload) in [
                (6, 1, &[0; 8][..]),
                (4, 1, &[]),
                (0, 1, &[]),
                (0, 0, b"x"),
                (1, 4, b"y"),
            ] {
                meter.push(&frame(kind, flags, payload), at(1)).unwrap();
            }
        }
    }
}
