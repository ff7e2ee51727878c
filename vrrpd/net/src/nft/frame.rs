//! CORE: netlink messages of the nftables subsystem: headers around bodies, batches, and the kernel's answers taken apart.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use netlink_packet_core::{NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};

use super::wire::INET;

/// `NFNL_SUBSYS_NFTABLES`.
const NFTABLES: u8 = 10;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const HEADER: usize = 16;

/// One message of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) sequence: u32,
    /// Somebody changed the ruleset while it was being dumped.
    pub(super) interrupted: bool,
    pub(super) answer: Answer<'a>,
}

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// An object's attributes.
    Object(&'a [u8]),
    /// An acknowledgement (0), or a negative error number.
    Code(i32),
    /// A dump has come to its end.
    Done,
}

/// A request to nftables about family `inet`.
pub(super) fn message(command: u8, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let kind = u16::from_be_bytes([NFTABLES, command]);
    // struct nfgenmsg: family, version 0, resource 0.
    framed(kind, flags, sequence, [INET, 0, 0, 0], body)
}

pub(super) fn batch_begin(sequence: u32) -> Vec<u8> {
    batch(BATCH_BEGIN, sequence)
}

pub(super) fn batch_end(sequence: u32) -> Vec<u8> {
    batch(BATCH_END, sequence)
}

fn batch(kind: u16, sequence: u32) -> Vec<u8> {
    // The resource, big-endian, names the subsystem.
    framed(kind, NLM_F_REQUEST, sequence, [0, 0, 0, NFTABLES], &[])
}

fn framed(kind: u16, flags: u16, sequence: u32, header: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = body.len().saturating_add(HEADER).saturating_add(4);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The messages in a datagram; they end where the bytes make no sense.
pub(super) fn answers(mut datagram: &[u8]) -> Vec<Message<'_>> {
    let mut messages = Vec::new();
    while let Ok(buffer) = NetlinkBuffer::new_checked(datagram) {
        let Ok(length) = usize::try_from(buffer.length()) else {
            break;
        };
        let interrupted = buffer.flags() & NLM_F_DUMP_INTR != 0;
        let payload = datagram.get(HEADER..length).unwrap_or_default();
        let answer = match buffer.message_type() {
            NLMSG_ERROR => Answer::Code(code(payload)),
            NLMSG_DONE => match code(payload) {
                0 => Answer::Done,
                code => Answer::Code(code),
            },
            _ => Answer::Object(payload.get(4..).unwrap_or_default()),
        };
        messages.push(Message {
            sequence: buffer.sequence_number(),
            interrupted,
            answer,
        });
        datagram = datagram
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
    }
    messages
}

fn code(payload: &[u8]) -> i32 {
    payload
        .first_chunk::<4>()
        .map_or(0, |bytes| i32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_datagram_may_hold_several_answers() {
        let mut datagram = message(7, 0, 5, &[1, 2, 3]);
        datagram.extend(framed(NLMSG_ERROR, 0, 6, (-2_i32).to_ne_bytes(), &[0; 16]));
        datagram.extend(framed(NLMSG_DONE, NLM_F_DUMP_INTR, 7, [0; 4], &[]));
        let found = answers(&datagram);
        let expected = [
            (5, false, Answer::Object(&[1, 2, 3])),
            (6, false, Answer::Code(-2)),
            (7, true, Answer::Done),
        ]
        .map(|(sequence, interrupted, answer)| Message {
            sequence,
            interrupted,
            answer,
        });
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = answers(&bytes);
        }
    }
}
