//! SHELL: one generic netlink socket: a datagram of requests out, their answers in.
//!
//! The kernel works on generic netlink requests inside `sendto`, in the caller's own context: when that returns, the answers lie in the socket's
//! queue, and each read of a dump makes the kernel write the next part. So nothing here waits: a queue that is empty too early means lost
//! answers.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use crate::attr::DecodeError;
use crate::envelope::{self, ACKNOWLEDGE, Content, DUMP, Envelopes};
use crate::wire::Message;

/// The generic netlink controller's fixed family.
pub(super) const CONTROLLER: u16 = 16;
/// The longest datagram of the kernel (`netlink_dump`: at most 32 KiB), with room.
const DATAGRAM: usize = 64 * 1024;
/// What the socket asks for; the kernel gives at most `net.core.rmem_max`.
const RECEIVE_BUFFER: i32 = 1 << 20;
/// The queue was full and answers were lost.
const ENOBUFS: i32 = 105;

/// What ends a query.
#[derive(Debug)]
pub(super) enum Failure {
    /// The kernel refused.
    Errno(i32),
    /// An answer cannot be understood.
    Malformed(DecodeError),
    /// Answers were lost.
    Overrun,
    /// There was none.
    NoAnswer,
    /// The socket does not work.
    Socket(io::Error),
}

/// What became of one request of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was carried out.
    Done,
    /// It was refused with this errno, negative.
    Refused(i32),
    /// Its answer was lost.
    Lost,
}

/// The socket, and buffers that are used again.
#[derive(Debug)]
pub(super) struct Exchange {
    socket: Socket,
    sequence: u32,
    request: Vec<u8>,
    datagram: Vec<u8>,
}

/// A look into the socket's queue.
enum Received {
    Datagram,
    Empty,
    Lost,
}

impl Exchange {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        // Refusals without a copy of the request: more of them fit into the queue.
        socket.set_cap_ack(true)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        Ok(Self {
            socket,
            sequence: 0,
            request: Vec::new(),
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// Sends one request and decodes every object of the answer. Answers that were lost are asked for once more.
    pub(super) fn query<T>(
        &mut self,
        family: u16,
        flags: u16,
        request: &Message,
        decode: &dyn Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, Failure> {
        match self.query_once(family, flags, request, decode) {
            Err(Failure::Overrun) => self.query_once(family, flags, request, decode),
            other => other,
        }
    }

    fn query_once<T>(
        &mut self,
        family: u16,
        flags: u16,
        request: &Message,
        decode: &dyn Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, Failure> {
        let sequence = self
            .send(family, std::slice::from_ref(request), flags)
            .map_err(Failure::Socket)?;
        let mut found = Vec::new();
        let (mut malformed, mut lost) = (None, false);
        // Also after a failure everything is read: the next dump would be refused while this one is under way.
        loop {
            match self.receive().map_err(Failure::Socket)? {
                Received::Datagram => {}
                Received::Lost => {
                    lost = true;
                    continue;
                }
                Received::Empty if lost => return Err(Failure::Overrun),
                Received::Empty => {
                    return Err(malformed.map_or(Failure::NoAnswer, Failure::Malformed));
                }
            }
            for envelope in Envelopes::new(&self.datagram) {
                let end = match envelope {
                    Ok(envelope) if envelope.sequence != sequence => continue,
                    Ok(envelope) => match envelope.content {
                        Content::Body(body) => {
                            match decode(body) {
                                Ok(object) => found.push(object),
                                Err(error) => malformed = malformed.or(Some(error)),
                            }
                            (flags & DUMP == 0).then_some(0)
                        }
                        Content::Answer(code) | Content::Done(code) => Some(code),
                        Content::Other => None,
                    },
                    Err(error) => {
                        malformed = malformed.or(Some(error));
                        None
                    }
                };
                let Some(code) = end else { continue };
                return match malformed {
                    _ if code < 0 => Err(Failure::Errno(code)),
                    Some(error) => Err(Failure::Malformed(error)),
                    None if lost => Err(Failure::Overrun),
                    None => Ok(found),
                };
            }
        }
    }

    /// Sends requests in one datagram. Only the last one asks for an acknowledgement: the kernel answers in order, and refusals always.
    pub(super) fn batch(&mut self, family: u16, requests: &[Message]) -> io::Result<Vec<Answer>> {
        let last = self.send(family, requests, ACKNOWLEDGE)?;
        let first = last
            .wrapping_sub(u32::try_from(requests.len()).unwrap_or(u32::MAX))
            .wrapping_add(1);
        let mut answers = vec![None; requests.len()];
        let mut lost = false;
        while answers.last().is_some_and(Option::is_none) {
            match self.receive()? {
                Received::Datagram => {}
                Received::Lost => {
                    lost = true;
                    continue;
                }
                Received::Empty => {
                    lost = true;
                    break;
                }
            }
            for envelope in Envelopes::new(&self.datagram).flatten() {
                let index =
                    usize::try_from(envelope.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let (Content::Answer(code), Some(answer)) =
                    (envelope.content, answers.get_mut(index))
                {
                    *answer = Some(if code == 0 {
                        Answer::Done
                    } else {
                        Answer::Refused(code)
                    });
                }
            }
        }
        // What was not refused was done, if no refusal can have been lost.
        let silent = if lost { Answer::Lost } else { Answer::Done };
        Ok(answers
            .into_iter()
            .map(|answer| answer.unwrap_or(silent))
            .collect())
    }

    /// Sends a datagram and returns the number of its last request, which alone gets the flags.
    fn send(&mut self, family: u16, requests: &[Message], flags: u16) -> io::Result<u32> {
        self.request.clear();
        for (index, request) in requests.iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let flags = if index + 1 == requests.len() {
                flags
            } else {
                0
            };
            envelope::write(&mut self.request, family, flags, self.sequence, request);
        }
        self.socket
            .send_to(&self.request, &SocketAddr::new(0, 0), 0)?;
        Ok(self.sequence)
    }

    /// Takes a datagram of the kernel out of the queue.
    fn receive(&mut self) -> io::Result<Received> {
        loop {
            self.datagram.clear();
            match self.socket.recv_from(&mut self.datagram, 0) {
                // Port 0 is the kernel; what another process sends is no answer.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok(_) => return Ok(Received::Datagram),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::Empty);
                }
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => return Ok(Received::Lost),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes the queue as short as the kernel allows.
    #[cfg(test)]
    pub(super) fn shorten_queue(&mut self) {
        self.socket.set_rx_buf_sz(1).expect("a buffer size");
    }
}
