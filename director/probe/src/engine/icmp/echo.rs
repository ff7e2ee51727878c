//! CORE: ICMP echo requests and replies (RFC 792, RFC 4443 section 4).

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// How packets look on the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// ICMP alone.
    V4,
    /// Received with the IPv4 header before it: raw sockets.
    V4WithHeader,
    /// ICMPv6 alone; the kernel sees to the checksum.
    V6,
}

impl Form {
    fn request_type(self) -> u8 {
        match self {
            Form::V4 | Form::V4WithHeader => 8,
            Form::V6 => 128,
        }
    }

    fn reply_type(self) -> u8 {
        match self {
            Form::V4 | Form::V4WithHeader => 0,
            Form::V6 => 129,
        }
    }
}

/// What makes one request unlike all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) id: u16,
    pub(super) sequence: u16,
    pub(super) payload: [u8; 16],
}

impl Echo {
    /// The request as it is sent.
    pub(super) fn request(&self, form: Form) -> Vec<u8> {
        let mut packet = vec![form.request_type(), 0, 0, 0];
        packet.extend_from_slice(&self.id.to_be_bytes());
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&self.payload);
        if form != Form::V6 {
            let sum = checksum(&packet).to_be_bytes();
            if let Some(field) = packet.get_mut(2..4) {
                field.copy_from_slice(&sum);
            }
        }
        packet
    }

    /// Whether `packet` is the reply to this request and no other.
    pub(super) fn is_answered_by(&self, packet: &[u8], form: Form) -> bool {
        let icmp = match form {
            Form::V4WithHeader => without_header(packet),
            Form::V4 | Form::V6 => Some(packet),
        };
        let Some((head, payload)) = icmp.and_then(|icmp| icmp.split_first_chunk::<8>()) else {
            return false;
        };
        let [kind, code, _, _, id @ .., s1, s2] = head;
        *kind == form.reply_type()
            && *code == 0
            && *id == self.id.to_be_bytes()
            && [*s1, *s2] == self.sequence.to_be_bytes()
            && *payload == self.payload
    }
}

/// RFC 791 section 3.1: the header's length in words of four bytes is in the low half of its first byte.
fn without_header(packet: &[u8]) -> Option<&[u8]> {
    let first = packet.first()?;
    let length = usize::from(first & 0x0f).checked_mul(4)?;
    (length >= 20).then(|| packet.get(length..)).flatten()
}

/// RFC 1071.
fn checksum(packet: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in packet.chunks(2) {
        let word = match pair {
            [high, low] => u16::from_be_bytes([*high, *low]),
            [high] => u16::from_be_bytes([*high, 0]),
            _ => 0,
        };
        sum = sum.saturating_add(u32::from(word));
    }
    // Twice: the first sum of the halves may carry again.
    for _ in 0..2 {
        sum = (sum >> 16).saturating_add(sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ECHO: Echo = Echo {
        id: 0x1234,
        sequence: 7,
        payload: *b"sixteen bytes!!!",
    };

    /// The reply of a host that does as RFC 792 says.
    fn reply(form: Form) -> Vec<u8> {
        let mut packet = ECHO.request(form);
        packet[0] = form.reply_type();
        if form == Form::V4WithHeader {
            let mut whole = vec![0x45];
            whole.extend([0; 19]);
            whole.extend(packet);
            packet = whole;
        }
        packet
    }

    #[test]
    fn requests_are_what_the_rfcs_say() {
        let request = ECHO.request(Form::V4);
        assert_eq!(request[..2], [8, 0]);
        assert_eq!(
            checksum(&request),
            0,
            "a packet with its checksum sums to 0"
        );
        assert_eq!(ECHO.request(Form::V6)[..4], [128, 0, 0, 0]);
        assert_eq!(
            checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2,
            "RFC 1071 section 3"
        );
        assert_eq!(checksum(&[1]), !0x100);
    }

    #[test]
    fn only_the_own_reply_counts() {
        for form in [Form::V4, Form::V4WithHeader, Form::V6] {
            let good = reply(form);
            assert!(ECHO.is_answered_by(&good, form), "{form:?}");
            let others = [
                Echo { id: 1, ..ECHO },
                Echo {
                    sequence: 8,
                    ..ECHO
                },
                Echo {
                    payload: [0; 16],
                    ..ECHO
                },
            ];
            for other in others {
                assert!(!other.is_answered_by(&good, form), "{form:?} {other:?}");
            }
            assert!(
                !ECHO.is_answered_by(&ECHO.request(form), form),
                "its own request"
            );
            for length in 0..good.len() {
                assert!(!ECHO.is_answered_by(&good[..length], form));
            }
            let mut longer = good.clone();
            longer.push(0);
            assert!(!ECHO.is_answered_by(&longer, form));
        }
        let mut wrong = reply(Form::V4WithHeader);
        wrong[0] = 0x44;
        assert!(
            !ECHO.is_answered_by(&wrong, Form::V4WithHeader),
            "no header is so short"
        );
    }

    proptest! {
        /// Noise is never a reply, and one changed bit of what identifies it makes a reply foreign.
        #[test]
        fn damaged_replies_are_foreign(noise in prop::collection::vec(any::<u8>(), 0..100), at in 0usize..24, bit in 0u8..8) {
            for form in [Form::V4, Form::V4WithHeader, Form::V6] {
                prop_assert!(!ECHO.is_answered_by(&noise, form));
                let mut packet = reply(form);
                let at = if form == Form::V4WithHeader { at + 20 } else { at };
                packet[at] ^= 1 << bit;
                let checksum = if form == Form::V4WithHeader { 22..24 } else { 2..4 };
                prop_assert_eq!(ECHO.is_answered_by(&packet, form), checksum.contains(&at));
            }
        }
    }
}
