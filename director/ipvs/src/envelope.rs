//! CORE: netlink messages as they lie in a datagram: headers around the bodies of [`crate::wire`], acknowledgements, ends of dumps.
//!
//! The reader never trusts a length; whatever the bytes are, it yields messages or one error and ends.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::attr::DecodeError;
use crate::wire::Message;

/// This is a request (NLM_F_REQUEST).
pub(crate) const REQUEST: u16 = 1;
/// It is to be acknowledged, also when all is well (NLM_F_ACK); a refusal is always answered.
pub(crate) const ACKNOWLEDGE: u16 = 4;
/// It asks for all objects (NLM_F_DUMP).
pub(crate) const DUMP: u16 = 0x300;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct genlmsghdr`.
const GENERIC: usize = 4;
/// NLMSG_ERROR: an errno, 0 for an acknowledgement, then the request.
const ERROR: u16 = 2;
/// NLMSG_DONE: the end of a dump, with an errno on kernels since 4.x.
const DONE: u16 = 3;
/// Types below this one are netlink's own (NLMSG_MIN_TYPE).
const FIRST_FAMILY: u16 = 16;

/// Appends a request to a datagram.
pub(crate) fn write(
    datagram: &mut Vec<u8>,
    family: u16,
    flags: u16,
    sequence: u32,
    message: &Message,
) {
    let length = message
        .body
        .len()
        .saturating_add(HEADER.saturating_add(GENERIC));
    datagram.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    datagram.extend_from_slice(&family.to_ne_bytes());
    datagram.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    datagram.extend_from_slice(&sequence.to_ne_bytes());
    // The port, which the kernel knows; then command, version 1 and two reserved bytes.
    datagram.extend_from_slice(&[0; 4]);
    datagram.extend_from_slice(&[message.command, 1, 0, 0]);
    datagram.extend_from_slice(&message.body);
    // Bodies consist of whole attributes, so they end at a multiple of 4.
    datagram.resize(datagram.len().next_multiple_of(4), 0);
}

/// One message of a datagram from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    /// The number of the request that it answers.
    pub(crate) sequence: u32,
    /// What it says.
    pub(crate) content: Content<'a>,
}

/// What a message says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content<'a> {
    /// An object: the attributes behind the generic netlink header.
    Body(&'a [u8]),
    /// An acknowledgement (0), or the errno of a refusal, negative.
    Answer(i32),
    /// The end of a dump, with the errno of what ended it early.
    Done(i32),
    /// Anything else.
    Other,
}

/// The messages of a datagram.
#[derive(Debug, Clone)]
pub(crate) struct Envelopes<'a> {
    rest: &'a [u8],
}

impl<'a> Envelopes<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn take(&mut self) -> Option<Envelope<'a>> {
        let length = usize::try_from(u32::from_ne_bytes(*self.rest.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*self.rest.get(4..)?.first_chunk()?);
        let sequence = u32::from_ne_bytes(*self.rest.get(8..)?.first_chunk()?);
        let payload = self.rest.get(HEADER..length)?;
        let content = match kind {
            ERROR => Content::Answer(i32::from_ne_bytes(*payload.first_chunk()?)),
            DONE => Content::Done(
                payload
                    .first_chunk()
                    .map_or(0, |code| i32::from_ne_bytes(*code)),
            ),
            kind if kind < FIRST_FAMILY => Content::Other,
            _ => Content::Body(payload.get(GENERIC..)?),
        };
        let padded = length.checked_next_multiple_of(4)?;
        self.rest = self.rest.get(padded..).unwrap_or_default();
        Some(Envelope { sequence, content })
    }
}

impl<'a> Iterator for Envelopes<'a> {
    type Item = Result<Envelope<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_none() {
            self.rest = &[];
        }
        Some(taken.ok_or(DecodeError::Truncated))
    }
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(HEADER + payload.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn several_messages_of_one_datagram_are_told_apart() {
        let datagram = [
            message(ERROR, 1, &(-17_i32).to_ne_bytes()),
            message(28, 2, &[5, 1, 0, 0, 7]),
            message(1, 2, &[]),
            message(DONE, 2, &[]),
            message(DONE, 3, &(-5_i32).to_ne_bytes()),
        ]
        .concat();
        let read: Vec<_> = Envelopes::new(&datagram)
            .map(|envelope| envelope.map(|envelope| (envelope.sequence, envelope.content)))
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            read,
            [
                (1, Content::Answer(-17)),
                (2, Content::Body(&[7])),
                (2, Content::Other),
                (2, Content::Done(0)),
                (3, Content::Done(-5)),
            ]
        );
    }

    #[test]
    fn lengths_are_not_trusted() {
        let whole = message(28, 9, &[5, 1, 0, 0, 7, 7, 7, 7]);
        for end in 1..whole.len() {
            let read: Vec<_> = Envelopes::new(&whole[..end]).collect();
            assert_eq!(read, [Err(DecodeError::Truncated)], "{end}");
        }
        for length in [0_u32, 15, 17, 19, u32::MAX] {
            let mut wrong = whole.clone();
            wrong[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(
                Envelopes::new(&wrong).next(),
                Some(Err(DecodeError::Truncated)),
                "{length}"
            );
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            let count = Envelopes::new(bytes).count();
            assert!(
                count <= bytes.len() / HEADER + 1,
                "every message takes its header"
            );
        });
    }
}
