//! The payload type that netlink-proto carries: the family's number, the command and the raw attributes.

use netlink_packet_core::{DecodeError, Emitable, ParseableParametrized};
use netlink_packet_generic::{GenlFamily, GenlHeader};

use crate::wire::Message;

/// One message of the controller or of the IPVS family, told apart by the number it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) family: u16,
    pub(super) message: Message,
}

impl GenlFamily for Payload {
    fn family_name() -> &'static str {
        "IPVS"
    }

    fn family_id(&self) -> u16 {
        self.family
    }

    fn command(&self) -> u8 {
        self.message.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Payload {
    fn buffer_len(&self) -> usize {
        self.message.body.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        // netlink-packet-core hands a buffer of exactly buffer_len() bytes.
        for (to, from) in buffer.iter_mut().zip(&self.message.body) {
            *to = *from;
        }
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Payload {
    fn parse_with_param(buffer: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Payload {
            family: 0,
            message: Message {
                command: header.cmd,
                body: buffer.to_vec(),
            },
        })
    }
}
