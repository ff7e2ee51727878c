//! UDP ports at which the kernel takes tunnelled packets out of GUE (family `fou` of generic netlink, `linux/fou.h`).
//!
//! Requests are few and small, so they go one after the other over a socket of their own, made by hand: no second netlink stack is needed.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use serde::{Deserialize, Serialize};

use crate::connection::{REQUEST_TIMEOUT, refused};
use crate::error::{Error, Object};

const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const ADD: u8 = 1;
const DELETE: u8 = 2;
const GET: u8 = 3;
const PORT: u16 = 1;
const FAMILY: u16 = 2;
const TYPE: u16 = 4;
const TYPE_GUE: u8 = 2;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const NETLINK_HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// A UDP port that takes packets out of GUE, from anybody, at every address of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GuePort {
    /// Whether it listens on IPv6; else on IPv4.
    pub ipv6: bool,
    /// The port.
    pub port: u16,
}

/// The kernel's ports of this kind, in the namespace that the calling thread was in when it connected.
pub struct FouPorts {
    socket: TokioSocket,
    family: u16,
    sequence: AtomicU32,
}

impl FouPorts {
    /// Connects; asking for the family makes the kernel load the module `fou`. A kernel without it refuses with ENOENT.
    pub async fn connect() -> Result<FouPorts, Error> {
        let open = || -> io::Result<TokioSocket> {
            let mut socket = TokioSocket::new(NETLINK_GENERIC)?;
            socket.socket_mut().bind_auto()?;
            socket.socket_mut().connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| refused("open", Object::Socket, source))?;
        let mut ports = FouPorts {
            socket,
            family: CONTROLLER,
            sequence: AtomicU32::new(0),
        };
        let mut body = Vec::new();
        attribute(&mut body, FAMILY_NAME, b"fou\0");
        let object = Object::All("the family fou of generic netlink");
        let answers = ports
            .request("find", &object, NLM_F_ACK, GET_FAMILY, &body)
            .await?;
        let id = answers
            .iter()
            .find_map(|answer| find(answer, FAMILY_ID)?.try_into().ok())
            .map(u16::from_ne_bytes);
        ports.family =
            id.ok_or_else(|| refused("find", object, io::Error::from_raw_os_error(libc::ENOENT)))?;
        Ok(ports)
    }

    /// The ports that take packets out of GUE.
    pub async fn gue_ports(&self) -> Result<BTreeSet<GuePort>, Error> {
        let object = Object::All("UDP ports of tunnels");
        let answers = self.request("list", &object, NLM_F_DUMP, GET, &[]).await?;
        Ok(answers
            .iter()
            .filter_map(|answer| port_of(answer))
            .collect())
    }

    /// Opens a port. EADDRINUSE: something else has it.
    pub async fn add(&self, port: GuePort) -> Result<(), Error> {
        self.change("open", ADD, port).await
    }

    /// Closes a port.
    pub async fn remove(&self, port: GuePort) -> Result<(), Error> {
        self.change("close", DELETE, port).await
    }

    async fn change(&self, attempt: &'static str, command: u8, port: GuePort) -> Result<(), Error> {
        let mut body = Vec::new();
        attribute(&mut body, PORT, &port.port.to_be_bytes());
        let family = if port.ipv6 {
            libc::AF_INET6
        } else {
            libc::AF_INET
        };
        attribute(
            &mut body,
            FAMILY,
            &[u8::try_from(family).unwrap_or_default()],
        );
        if command == ADD {
            attribute(&mut body, TYPE, &[TYPE_GUE]);
        }
        let object = Object::GuePort {
            ipv6: port.ipv6,
            port: port.port,
        };
        self.request(attempt, &object, NLM_F_ACK, command, &body)
            .await
            .map(drop)
    }

    async fn request(
        &self,
        attempt: &'static str,
        object: &Object,
        flags: u16,
        command: u8,
        body: &[u8],
    ) -> Result<Vec<Vec<u8>>, Error> {
        let sequence = self
            .sequence
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        let message = message(self.family, NLM_F_REQUEST | flags, sequence, command, body);
        let exchange = async {
            self.socket.send(&message).await?;
            let mut answers = Vec::new();
            loop {
                let (datagram, sender) = self.socket.recv_from_full().await?;
                if sender.port_number() == 0 && take(&datagram, sequence, &mut answers)? {
                    return Ok(answers);
                }
            }
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(result) => result.map_err(|source| refused(attempt, object.clone(), source)),
            Err(_) => Err(Error::TimedOut {
                attempt,
                object: object.clone(),
                seconds: REQUEST_TIMEOUT.as_secs(),
            }),
        }
    }
}

fn message(family: u16, flags: u16, sequence: u32, command: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len().saturating_add(NETLINK_HEADER + GENERIC_HEADER);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&family.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&[command, 1, 0, 0]);
    bytes.extend_from_slice(body);
    bytes
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(payload.len().saturating_add(4)).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Takes the messages of a datagram: the attributes of each into `answers`. True at the end of the answer.
fn take(mut datagram: &[u8], sequence: u32, answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    while let Some(length) = number(datagram, 0) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(message) = datagram
            .get(..length)
            .filter(|message| message.len() >= NETLINK_HEADER)
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let rest = length.checked_next_multiple_of(4);
        datagram = rest
            .and_then(|rest| datagram.get(rest..))
            .unwrap_or_default();
        if number(message, 8) != Some(sequence) {
            continue;
        }
        let kind = message.get(4..6).and_then(|bytes| bytes.try_into().ok());
        match kind.map(u16::from_ne_bytes) {
            Some(ERROR | DONE) => {
                let code = number(message, NETLINK_HEADER).map_or(0, u32::cast_signed);
                return match code.checked_neg() {
                    Some(code) if code > 0 => Err(io::Error::from_raw_os_error(code)),
                    _ => Ok(true),
                };
            }
            _ => answers.extend(
                message
                    .get(NETLINK_HEADER + GENERIC_HEADER..)
                    .map(<[u8]>::to_vec),
            ),
        }
    }
    Ok(false)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.get(..4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The payload of an attribute.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?);
        let found = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let payload = attributes.get(4..usize::from(length))?;
        if found == kind {
            return Some(payload);
        }
        attributes = attributes.get(usize::from(length).checked_next_multiple_of(4)?..)?;
    }
}

fn port_of(attributes: &[u8]) -> Option<GuePort> {
    let byte = |kind| find(attributes, kind)?.first().copied();
    if byte(TYPE)? != TYPE_GUE {
        return None;
    }
    Some(GuePort {
        ipv6: i32::from(byte(FAMILY)?) == libc::AF_INET6,
        port: u16::from_be_bytes(find(attributes, PORT)?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(port: u16, family: u8, kind: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        attribute(&mut bytes, PORT, &port.to_be_bytes());
        attribute(&mut bytes, FAMILY, &[family]);
        attribute(&mut bytes, TYPE, &[kind]);
        bytes
    }

    #[test]
    fn a_dump_is_read_to_its_end() {
        let mut datagram = message(30, 2, 7, GET, &body(6080, 2, 2));
        datagram.extend(message(30, 2, 6, GET, &body(1, 2, 2)));
        datagram.extend(message(30, 2, 7, GET, &body(6080, 10, 2)));
        datagram.extend(message(30, 2, 7, GET, &body(5555, 2, 1)));
        let mut answers = Vec::new();
        assert!(!take(&datagram, 7, &mut answers).unwrap());
        let done = message(DONE, 2, 7, 0, &[]);
        assert!(take(&done, 7, &mut answers).unwrap());
        let ports: Vec<Option<GuePort>> = answers.iter().map(|answer| port_of(answer)).collect();
        let gue = |ipv6| Some(GuePort { ipv6, port: 6080 });
        assert_eq!(
            ports,
            [gue(false), gue(true), None],
            "direct ones are of no use"
        );
    }

    #[test]
    fn a_refusal_carries_its_number_and_garbage_is_no_panic() {
        let mut refusal = message(ERROR, 0, 9, 0, &[]);
        refusal.splice(16..20, (-libc::EADDRINUSE).to_ne_bytes());
        let error = take(&refusal, 9, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE));
        for length in 0..64 {
            let _ = take(&vec![0xff; length], 1, &mut Vec::new());
            let _ = take(&vec![0; length], 0, &mut Vec::new());
            let _ = port_of(&vec![0xff; length]);
            let _ = port_of(&vec![0; length]);
        }
    }
}
