//! An independent witness of what is asked of IPVS: every netlink message of a namespace, seen through an `nlmon` device.

use std::io::{ErrorKind, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use ipvs_netlink::Client;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Node, wait};

/// IPVS_CMD_GET_DEST of `linux/ip_vs.h`.
pub const GET_DEST: u8 = 8;
/// A dump of the whole table must fit while the reader waits for its turn.
const BUFFER: usize = 128 << 20;
/// ETH_P_ALL in network byte order: what a packet socket that sees everything is made with.
const EVERYTHING: i32 = 0x0300;
/// The controller of generic netlink: GENL_ID_CTRL.
const CONTROLLER: u16 = 16;
const NLM_F_REQUEST: u16 = 1;

/// Whether a command of the IPVS family changes something: all but the GETs.
pub fn changes(command: u8) -> bool {
    // GET_SERVICE, GET_DEST, GET_DAEMON, GET_CONFIG, GET_INFO.
    !matches!(command, 4 | 8 | 11 | 13 | 15)
}

/// A monitor of one namespace; it ends with this.
#[derive(Debug)]
pub struct Monitor {
    requests: Arc<Mutex<Vec<u8>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Makes the device and begins to listen. The family's number is learned from the answer that the kernel gives to a client of ours.
    pub fn start(node: &Node) -> Result<Monitor> {
        node.try_ip("link add nlmon0 type nlmon\nlink set nlmon0 up\n")
            .map_err(|error| anyhow!("no netlink monitor, the kernel needs nlmon: {error}"))?;
        let socket = node
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERYTHING))))
            .context("failed to open a packet socket")?;
        set_socket_recv_buffer_size_force(&socket, BUFFER)
            .context("failed to enlarge the receive buffer")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let family = Arc::new(Mutex::new(None));
        let reader = {
            let (requests, stop, family) = (
                Arc::clone(&requests),
                Arc::clone(&stop),
                Arc::clone(&family),
            );
            std::thread::spawn(move || read(&socket, &requests, &family, &stop))
        };
        let monitor = Monitor {
            requests,
            stop,
            reader: Some(reader),
        };
        node.run(|| -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(Client::connect())?;
            Ok(())
        })?;
        wait::until("the family's number", Duration::from_secs(5), || {
            locked(&family).is_some()
        });
        Ok(monitor)
    }

    /// The commands of the IPVS requests that were seen since the last call, in their order.
    pub fn take(&self) -> Vec<u8> {
        // What was sent a moment ago lies in the socket's buffer.
        wait::for_a_while(Duration::from_millis(200));
        std::mem::take(&mut *locked(&self.requests))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn locked<T>(what: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(
    socket: &Socket,
    requests: &Mutex<Vec<u8>>,
    family: &Mutex<Option<u16>>,
    stop: &AtomicBool,
) {
    let mut buffer = vec![0; 1 << 16];
    let mut socket = socket;
    while !stop.load(Ordering::SeqCst) {
        match socket.read(&mut buffer) {
            Ok(length) => {
                let mut family = locked(family);
                requests_in(&buffer[..length], &mut family, &mut locked(requests));
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
    }
}

/// Finds the requests to the IPVS family among the messages of one datagram, and the family's number in the controller's answer.
fn requests_in(mut bytes: &[u8], family: &mut Option<u16>, requests: &mut Vec<u8>) {
    let u16_at = |bytes: &[u8], at: usize| {
        let pair = bytes.get(at..at + 2)?;
        Some(u16::from_ne_bytes([pair[0], pair[1]]))
    };
    while bytes.len() >= 20 {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if !(20..=bytes.len()).contains(&length) {
            return;
        }
        let (message, rest) = bytes.split_at(length);
        let (kind, flags) = (u16_at(message, 4), u16_at(message, 6).unwrap_or_default());
        if kind == Some(CONTROLLER) && message.windows(5).any(|name| name == b"IPVS\0") {
            // The attribute FAMILY_ID: length 6, number 1.
            let mut at = 20;
            while let (Some(size @ 4..), Some(number)) =
                (u16_at(message, at), u16_at(message, at + 2))
            {
                if (size, number) == (6, 1) {
                    *family = u16_at(message, at + 4);
                }
                at += usize::from(size).next_multiple_of(4);
            }
        }
        if kind.is_some() && kind == *family && flags & NLM_F_REQUEST != 0 {
            requests.push(message[16]);
        }
        bytes = rest
            .get(length.next_multiple_of(4) - length..)
            .unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = u32::try_from(20 + attributes.len()).unwrap();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend([command, 1, 0, 0]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn requests_are_counted_once_the_family_is_known() {
        let (mut family, mut seen) = (None, Vec::new());
        requests_in(&message(28, 1, 6, &[]), &mut family, &mut seen);
        assert_eq!((family, seen.len()), (None, 0), "nothing is known yet");
        let mut answer = Vec::new();
        answer.extend([9, 0, 2, 0]);
        answer.extend(b"IPVS\0\0\0\0");
        answer.extend([6, 0, 1, 0, 28, 0, 0, 0]);
        requests_in(&message(CONTROLLER, 0, 1, &answer), &mut family, &mut seen);
        assert_eq!(family, Some(28));
        let batch = [
            message(28, 1, 6, &[0; 7]),
            vec![0],
            message(28, 1, GET_DEST, &[]),
            message(28, 0, 5, &[]),
            message(2, 0, 6, &[]),
            message(29, 1, 6, &[]),
        ];
        requests_in(&batch.concat(), &mut family, &mut seen);
        assert_eq!(seen, [6, GET_DEST], "not the answers, nor another family");
    }

    #[test]
    fn what_is_cut_short_is_left_alone() {
        let (mut family, mut seen) = (Some(28), Vec::new());
        let whole = message(28, 1, 6, &[0; 8]);
        for length in 0..whole.len() {
            requests_in(&whole[..length], &mut family, &mut seen);
        }
        assert!(seen.is_empty());
    }
}
