//! CORE: `buffer_request`: how much of a request body is read before a server is chosen, and who keeps it.
//!
//! The engine keeps up to 64 KiB of a body by itself, to send it again, and it must be left at least a byte to send: only then it asks the hook through
//! which the rest goes. So the end of a body is the engine's, and what comes before it, if it is longer, is kept here. A body whose
//! length nobody knows may end with any piece: of such a one not more is read than the engine keeps.

use bytes::{Bytes, BytesMut};

/// What the engine keeps.
const ENGINE: u64 = 64 * 1024;
/// The longest piece of an HTTP/2 body.
const PIECE: u64 = 16 * 1024;

/// The body of one request while it is read.
#[derive(Debug)]
pub struct Buffer {
    size: u64,
    length: Option<u64>,
    read: u64,
    begin: BytesMut,
}

impl Buffer {
    /// At most about `size` bytes of a body of this length.
    pub fn new(size: u64, length: Option<u64>) -> Buffer {
        Buffer {
            size: match length {
                Some(_) => size,
                None => size.min(ENGINE - PIECE),
            },
            length,
            read: 0,
            begin: BytesMut::new(),
        }
    }

    /// Whether there is room for another piece.
    pub fn wants_more(&self) -> bool {
        self.read < self.size
    }

    /// Whether the engine keeps what comes from now on, to the end.
    pub fn engine_keeps(&self) -> bool {
        self.length
            .is_none_or(|length| length.saturating_sub(self.read) <= ENGINE)
    }

    /// A piece came.
    pub fn push(&mut self, piece: &Bytes) {
        // Where the length is unknown the engine may turn out to have too little room.
        if self.length.is_none() || !self.engine_keeps() {
            self.begin.extend_from_slice(piece);
        }
        let came = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.read = self.read.saturating_add(came);
    }

    /// Bytes so far.
    pub fn read(&self) -> u64 {
        self.read
    }

    /// What is to be sent before what the engine has. `truncated`: it has lost what it kept.
    pub fn begin(self, truncated: bool) -> Bytes {
        match self.length {
            None if !truncated => Bytes::new(),
            _ => self.begin.freeze(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the pieces are: nothing is lost or doubled, and of a body that was read whole the engine has the end.
        #[test]
        fn begin_and_end_are_the_body(
            length in 1usize..400_000, size in 1u64..400_000, piece in 1usize..65_537, known in any::<bool>(),
        ) {
            let piece = if known { piece } else { piece.min(16 * 1024) };
            let body: Vec<u8> = (0u8..251).cycle().take(length).collect();
            let mut buffer = Buffer::new(size, known.then_some(length as u64));
            let (mut engine, mut keeps) = (Vec::new(), false);
            let mut pieces = body.chunks(piece);
            while buffer.wants_more() {
                keeps |= buffer.engine_keeps();
                let Some(piece) = pieces.next() else { break };
                buffer.push(&Bytes::copy_from_slice(piece));
                if keeps {
                    engine.extend_from_slice(piece);
                }
            }
            let whole = pieces.len() == 0;
            prop_assert!(engine.len() <= 64 * 1024);
            prop_assert!(!whole || !engine.is_empty());
            prop_assert!(buffer.read() < size + piece as u64);
            let sent = [&buffer.begin(false)[..], &engine[..], &pieces.flatten().copied().collect::<Vec<u8>>()[..]].concat();
            prop_assert!(sent == body);
        }
    }

    #[test]
    fn a_body_of_unknown_length_that_the_engine_lost_is_here() {
        let mut buffer = Buffer::new(1 << 20, None);
        let piece = Bytes::from(vec![1; 65_000]);
        assert!(buffer.engine_keeps() && buffer.wants_more());
        buffer.push(&piece);
        assert!(!buffer.wants_more());
        assert_eq!(buffer.begin(true), piece);
    }
}
