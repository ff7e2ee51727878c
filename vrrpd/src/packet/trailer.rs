//! CORE: the trailer that authenticates an advert: 28 bytes after the message, in the form of keepalived's `auth_hmac`.
//!
//! ```text
//!  0 type = 1 | 1 key id | 2 reserved | 4 seconds (u32) | 8 fraction (u16, 2^-16 s) | 10 counter (u16) | 12 HMAC-SHA256, first 16 bytes
//! ```
//!
//! Seconds, fraction and counter are one number of 64 bits that grows with every advert of a sender: by its clock, or by one where the clock
//! has not moved on. A receiver keeps the highest of each sender ([`Replays`]), so an advert that was recorded is worth nothing later.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use ring::hmac;

use super::{Origin, PacketError};

/// The length of the trailer.
pub const TRAILER: usize = 28;
/// The fewest bytes of a key.
pub const SHORTEST_KEY: usize = 32;
/// The most bytes of a key.
pub const LONGEST_KEY: usize = 64;
const KIND: u8 = 1;
const PREFIX: usize = 12;
const TAG: usize = 16;
/// Senders whose last number is remembered; they had a key, so nobody can fill the table from outside.
const SENDERS: usize = 64;

/// The keys of a virtual router and what is asked of adverts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hmac {
    /// The keys by number.
    pub keys: BTreeMap<u8, Key>,
    /// The number of the one that signs.
    pub active: u8,
    /// What is sent and taken.
    pub mode: Mode,
    /// How far the clocks of sender and receiver may differ; `None`: clocks are not compared, numbers only have to grow.
    pub window: Option<Duration>,
}

/// A key. Its bytes are never shown.
#[derive(Clone)]
pub struct Key {
    bytes: Vec<u8>,
    key: hmac::Key,
}

impl Key {
    /// A key of 32 to 64 bytes; `None` if it has another length.
    pub fn new(bytes: &[u8]) -> Option<Key> {
        (SHORTEST_KEY..=LONGEST_KEY)
            .contains(&bytes.len())
            .then(|| Key {
                bytes: bytes.to_vec(),
                key: hmac::Key::new(hmac::HMAC_SHA256, bytes),
            })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Key {}

/// What is sent and taken: the steps of a rollout in which no router is ever deaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Adverts go out without a trailer, and are taken with a good one or without.
    ReceiveOnly,
    /// Adverts go out with a trailer, and are taken with a good one or without.
    Permissive,
    /// Adverts go out with a trailer, and are taken with a good one only.
    Enforce,
}

/// What makes each advert of a sender another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The clock's: seconds and fraction of a second since 1970, of which 32 and 16 bits travel.
    pub fn of_clock(wall: Duration) -> Sequence {
        let fraction = (u64::from(wall.subsec_nanos()) << 16) / 1_000_000_000;
        Sequence(wall.as_secs() << 32 | fraction << 16)
    }

    /// The next one after `self`: the clock's, or one more where the clock has not moved on.
    pub fn next(self, wall: Duration) -> Sequence {
        let clock = Sequence::of_clock(wall);
        if clock.is_after(self) {
            clock
        } else {
            Sequence(self.0.wrapping_add(1))
        }
    }

    /// Serial number arithmetic (RFC 1982): still right when the seconds wrap in 2106.
    fn is_after(self, other: Sequence) -> bool {
        let distance = self.0.wrapping_sub(other.0);
        distance != 0 && distance < 1 << 63
    }

    fn seconds(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or_default()
    }
}

impl Hmac {
    /// Whether adverts go out with a trailer.
    pub fn signs(&self) -> bool {
        self.mode != Mode::ReceiveOnly
    }

    /// The trailer for a message. Without the active key (a file that names none is refused) its tag is zero, which no receiver takes.
    pub fn sign(&self, message: &[u8], source: IpAddr, sequence: Sequence) -> [u8; TRAILER] {
        let mut trailer = [0; TRAILER];
        let sequence = sequence.0.to_be_bytes();
        let head = [&[KIND, self.active, 0, 0][..], &sequence].concat();
        let tag = self
            .keys
            .get(&self.active)
            .map(|key| tag(key, message, source, &head));
        for (to, from) in trailer
            .iter_mut()
            .zip(head.iter().chain(tag.iter().flatten()))
        {
            *to = *from;
        }
        trailer
    }

    /// Judges what follows a message: the number that it bears, or `None` where there is no trailer and none is asked for. Staleness is
    /// looked at before the tag, so that a flood of old adverts costs no digest each; that it rejects only needs no trust.
    pub fn verify(
        &self,
        message: &[u8],
        rest: &[u8],
        origin: Origin,
        wall: Duration,
    ) -> Result<Option<Sequence>, PacketError> {
        if rest.is_empty() {
            return match self.mode {
                Mode::Enforce => Err(PacketError::AuthMissing),
                Mode::Permissive | Mode::ReceiveOnly => Ok(None),
            };
        }
        let trailer: &[u8; TRAILER] = rest.try_into().map_err(|_| PacketError::AuthMalformed)?;
        let [kind, id, r0, r1, s0, s1, s2, s3, s4, s5, s6, s7, ..] = *trailer;
        if kind != KIND || (r0, r1) != (0, 0) {
            return Err(PacketError::AuthMalformed);
        }
        let sequence = Sequence(u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]));
        if self
            .window
            .is_some_and(|window| !is_near(sequence, wall, window))
        {
            return Err(PacketError::AuthStale);
        }
        let key = self.keys.get(&id).ok_or(PacketError::AuthUnknownKey)?;
        let (head, theirs) = trailer.split_at(PREFIX);
        let ours = tag(key, message, origin.source, head);
        // In the same time wherever the first difference is.
        let differences = ours
            .iter()
            .zip(theirs)
            .fold(0, |differences, (ours, theirs)| {
                differences | (ours ^ theirs)
            });
        if differences == 0 {
            Ok(Some(sequence))
        } else {
            Err(PacketError::AuthInvalid)
        }
    }
}

/// Whether the sender's clock is within the window around ours, to the second.
fn is_near(sequence: Sequence, wall: Duration, window: Duration) -> bool {
    let ours = Sequence::of_clock(wall).seconds();
    let (ahead, behind) = (
        sequence.seconds().wrapping_sub(ours),
        ours.wrapping_sub(sequence.seconds()),
    );
    u64::from(ahead.min(behind)) <= window.as_secs()
}

/// The first 16 bytes of the HMAC over pseudo-header, message without its checksum, the trailer's head, and zeros in the tag's place.
fn tag(key: &Key, message: &[u8], source: IpAddr, head: &[u8]) -> [u8; TAG] {
    let version = message.first().map_or(0, |first| first >> 4);
    let vrid = message.get(1).copied().unwrap_or_default();
    let mut context = hmac::Context::with_key(&key.key);
    match source {
        IpAddr::V4(source) => {
            context.update(&[4, version, vrid, 0]);
            context.update(&source.octets());
            context.update(&[0; 12]);
        }
        IpAddr::V6(source) => {
            context.update(&[6, version, vrid, 0]);
            context.update(&source.octets());
        }
    }
    context.update(message.get(..6).unwrap_or_default());
    context.update(&[0; 2]);
    context.update(message.get(8..).unwrap_or_default());
    context.update(head);
    context.update(&[0; TAG]);
    let whole = context.sign();
    let mut tag = [0; TAG];
    for (to, from) in tag.iter_mut().zip(whole.as_ref()) {
        *to = *from;
    }
    tag
}

/// The highest number that each sender has used.
#[derive(Debug, Clone, Default)]
pub struct Replays(BTreeMap<IpAddr, Sequence>);

impl Replays {
    /// Takes the number of an advert whose tag is good; an error if the sender has used it, or a later one, before.
    pub fn take(&mut self, source: IpAddr, sequence: Sequence) -> Result<(), PacketError> {
        if let Some(last) = self.0.get(&source)
            && !sequence.is_after(*last)
        {
            return Err(PacketError::AuthReplay);
        }
        if self.0.len() >= SENDERS && !self.0.contains_key(&source) {
            let oldest = self.0.iter().min_by_key(|(_, last)| **last);
            if let Some(oldest) = oldest.map(|(source, _)| *source) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(source, sequence);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
