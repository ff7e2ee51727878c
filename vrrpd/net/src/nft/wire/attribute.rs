//! CORE: netlink attributes with big-endian numbers: a writer, and a reader that checks every length.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{NAME_MAX, text};

/// Set on attributes that hold attributes.
const NESTED: u16 = 0x8000;
/// All but the nested and byte-order bits.
const KIND_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// Appends attributes.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// One that holds bytes. What is longer than an attribute can be is cut, and refused by the kernel; callers keep their parts small.
    pub(super) fn bytes(&mut self, kind: u16, payload: &[u8]) {
        let room = usize::from(u16::MAX).saturating_sub(HEADER);
        let payload = payload.get(..room).unwrap_or(payload);
        let length = u16::try_from(payload.len().saturating_add(HEADER)).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.0.resize(self.0.len().next_multiple_of(HEADER), 0);
    }

    pub(super) fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A zero-terminated name.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes: Vec<u8> = value.bytes().take(NAME_MAX).collect();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        fill(&mut inner);
        self.bytes_nested(kind, &inner.0);
    }

    /// Attributes that are bytes already.
    pub(super) fn bytes_nested(&mut self, kind: u16, attributes: &[u8]) {
        self.bytes(kind | NESTED, attributes);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    kind: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(super) fn u32(self) -> Option<u32> {
        self.payload.try_into().ok().map(u32::from_be_bytes)
    }

    pub(super) fn u64(self) -> Option<u64> {
        self.payload.try_into().ok().map(u64::from_be_bytes)
    }

    pub(super) fn text(self) -> String {
        text(self.payload)
    }

    pub(super) fn nested(self) -> Attributes<'a> {
        Attributes { rest: self.payload }
    }
}

/// The attributes in some bytes; they end where the bytes make no sense.
#[derive(Debug, Clone)]
pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of a kind.
    pub(super) fn find(&self, kind: u16) -> Option<Attribute<'a>> {
        Iterator::find(&mut self.clone(), |attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (length, after) = self.rest.split_first_chunk::<2>()?;
        let (kind, _) = after.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let payload = self.rest.get(HEADER..length)?;
        // The last attribute need not be padded.
        self.rest = self
            .rest
            .get(length.next_multiple_of(HEADER)..)
            .unwrap_or_default();
        Some(Attribute {
            kind: u16::from_ne_bytes(*kind) & KIND_MASK,
            payload,
        })
    }
}
