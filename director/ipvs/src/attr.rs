//! CORE: netlink attributes: a bounds-checked reader and a writer.
//!
//! The reader never trusts a length; whatever the bytes are, it yields attributes or one error and ends. It is not a general netlink
//! library: just what the IPVS messages of [`crate::wire`] need.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Set on attributes that hold attributes. The kernel leaves it out of its IPVS replies, so it is masked when reading.
const NESTED: u16 = 0x8000;
/// Nested and byte-order bits.
const KIND_MASK: u16 = 0x3fff;
/// Length of an attribute's header.
const HEADER: usize = 4;

/// Why bytes from the kernel could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends inside an attribute, or an attribute is longer than what holds it.
    #[error("the message ends inside an attribute")]
    Truncated,
    /// An attribute does not have the length that its type has.
    #[error("attribute {attribute} has {length} bytes")]
    Length {
        /// The attribute's name.
        attribute: &'static str,
        /// The length found.
        length: usize,
    },
    /// An attribute that every such message has is not there.
    #[error("attribute {attribute} is missing")]
    Missing {
        /// The attribute's name.
        attribute: &'static str,
    },
    /// An attribute has a value that this library does not know.
    #[error("attribute {attribute} has the unknown value {value}")]
    Value {
        /// The attribute's name.
        attribute: &'static str,
        /// The value found.
        value: u32,
    },
}

/// One attribute: its number (without flag bits) and its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(self, attribute: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(attribute).map(|[byte]| byte)
    }

    pub(crate) fn u16(self, attribute: &'static str) -> Result<u16, DecodeError> {
        self.array(attribute).map(u16::from_ne_bytes)
    }

    /// Ports are big-endian on the wire.
    pub(crate) fn u16_be(self, attribute: &'static str) -> Result<u16, DecodeError> {
        self.array(attribute).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(self, attribute: &'static str) -> Result<u32, DecodeError> {
        self.array(attribute).map(u32::from_ne_bytes)
    }

    /// A counter: 4 bytes in STATS, 8 in STATS64 and for the byte counters of both.
    pub(crate) fn counter(self, attribute: &'static str) -> Result<u64, DecodeError> {
        match self.payload.len() {
            4 => self.u32(attribute).map(u64::from),
            _ => self.array(attribute).map(u64::from_ne_bytes),
        }
    }

    /// A zero-terminated string; bytes that are not UTF-8 are replaced.
    pub(crate) fn string(self) -> String {
        let end = self
            .payload
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(self.payload.len());
        String::from_utf8_lossy(self.payload.get(..end).unwrap_or_default()).into_owned()
    }

    pub(crate) fn nested(self) -> Attributes<'a> {
        Attributes { rest: self.payload }
    }

    pub(crate) fn array<const N: usize>(
        self,
        attribute: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        self.payload.try_into().map_err(|_| DecodeError::Length {
            attribute,
            length: self.payload.len(),
        })
    }
}

/// The attributes in a piece of a message. After an error it ends.
#[derive(Debug, Clone)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self) -> Option<Attribute<'a>> {
        let (length, after) = self.rest.split_first_chunk::<2>()?;
        let (kind, _) = after.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let payload = self.rest.get(HEADER..length)?;
        // The last attribute need not be padded.
        self.rest = self
            .rest
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some(Attribute {
            kind: u16::from_ne_bytes(*kind) & KIND_MASK,
            payload,
        })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.take().ok_or_else(|| {
            self.rest = &[];
            DecodeError::Truncated
        }))
    }
}

/// Appends attributes to a message body.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn bytes(&mut self, kind: u16, payload: &[u8]) {
        // Nothing that this library sends comes near the limit of 65,531 bytes: names are bounded by `wire`.
        let length = u16::try_from(payload.len().saturating_add(HEADER)).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(payload);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    pub(crate) fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u16_be(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// A zero-terminated string of at most 15 characters, the kernel's limit for names of schedulers, engines and interfaces.
    pub(crate) fn string(&mut self, kind: u16, value: &str) {
        let mut payload: Vec<u8> = value
            .bytes()
            .take_while(|byte| *byte != 0)
            .take(15)
            .collect();
        payload.push(0);
        self.bytes(kind, &payload);
    }

    /// A nest, with the bit that newer kernels want to see.
    pub(crate) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.bytes);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut writer = Writer::default();
        writer.u16_be(4, 80);
        writer.string(6, "a-name-that-is-much-too-long");
        writer.nested(1, |inner| inner.u8(13, 2));
        let bytes = writer.finish();
        let read: Vec<_> = Attributes::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(read[0].u16_be("PORT").unwrap(), 80);
        assert_eq!(read[1].string(), "a-name-that-is-");
        assert_eq!(
            (
                read[2].kind,
                read[2]
                    .nested()
                    .next()
                    .unwrap()
                    .unwrap()
                    .u8("TUN_TYPE")
                    .unwrap()
            ),
            (1, 2)
        );
    }

    #[test]
    fn lengths_are_not_trusted() {
        for bytes in [
            &[1][..],
            &[3, 0, 1, 0],
            &[0, 0, 1, 0],
            &[9, 0, 1, 0, 1, 2, 3, 4],
            &[255, 255, 0, 0],
        ] {
            let read: Vec<_> = Attributes::new(bytes).collect();
            assert_eq!(read, [Err(DecodeError::Truncated)], "{bytes:?}");
        }
        assert_eq!(Attributes::new(&[]).count(), 0);
    }

    #[test]
    fn the_last_attribute_may_lack_its_padding() {
        let read: Vec<_> = Attributes::new(&[5, 0, 13, 0, 7]).collect();
        assert_eq!(
            read,
            [Ok(Attribute {
                kind: 13,
                payload: &[7]
            })]
        );
    }
}
