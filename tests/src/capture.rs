//! Frames as they pass a namespace, captured by a packet socket: what really leaves a machine, whatever it says about itself.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Node;

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Who says to be where, in ARP or in neighbour discovery.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// An ARP packet, question or answer, whose sender has this address.
    Arp(Ipv4Addr),
    /// A neighbour advertisement, asked for or not, for this address.
    Advertised(Ipv6Addr),
    /// A neighbour solicitation that comes from this address.
    Solicited(Ipv6Addr),
}

impl Claim {
    /// The address that is claimed.
    pub fn address(&self) -> IpAddr {
        match self {
            Claim::Arp(address) => IpAddr::V4(*address),
            Claim::Advertised(address) | Claim::Solicited(address) => IpAddr::V6(*address),
        }
    }
}

/// Each with the Ethernet address of its sender.
type Claims = Vec<([u8; 6], Claim)>;

/// A running capture of claims, each with the Ethernet address of its sender.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    claims: Arc<Mutex<Claims>>,
    questions: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Captures on all interfaces of a namespace. The socket is open when this returns.
    pub fn start(node: &Arc<Node>) -> Capture {
        let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let socket = node
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(everything)))
            .expect("a packet socket (needs root)");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a time limit");
        let _ = socket.set_recv_buffer_size(4 << 20);
        let capture = Capture {
            stop: Arc::default(),
            claims: Arc::default(),
            questions: Arc::default(),
            thread: None,
        };
        capture.read_from(socket)
    }

    fn read_from(mut self, mut socket: Socket) -> Capture {
        let (stop, claims) = (Arc::clone(&self.stop), Arc::clone(&self.claims));
        let questions = Arc::clone(&self.questions);
        let work = move || {
            let mut frame = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                match socket.read(&mut frame) {
                    Ok(length) => {
                        let frame = &frame[..length];
                        questions.fetch_add(usize::from(is_question(frame)), Ordering::Relaxed);
                        let found = sender(frame).zip(claim(frame));
                        claims.lock().expect("no panic").extend(found);
                    }
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => panic!("the capture ends: {error}"),
                }
            }
        };
        self.thread = Some(std::thread::spawn(work));
        self
    }

    /// What a sender claimed so far.
    pub fn claims_of(&self, sender: [u8; 6]) -> Vec<Claim> {
        let claims = self.claims.lock().expect("no panic");
        let own = claims.iter().filter(|(mac, _)| *mac == sender);
        own.map(|(_, claim)| claim.clone()).collect()
    }

    /// ARP requests and neighbour solicitations so far, whoever asked for whom; a frame counts on each interface that it passes.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::Relaxed)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sender(frame: &[u8]) -> Option<[u8; 6]> {
    frame.get(6..12)?.try_into().ok()
}

fn kind(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?))
}

/// The type of an ICMPv6 message without extension headers.
fn icmpv6(frame: &[u8]) -> Option<u8> {
    (kind(frame)? == IPV6 && *frame.get(20)? == ICMPV6).then_some(*frame.get(54)?)
}

fn is_question(frame: &[u8]) -> bool {
    let arp = kind(frame) == Some(ARP) && frame.get(20..22) == Some([0, 1].as_slice());
    arp || icmpv6(frame) == Some(NEIGHBOUR_SOLICITATION)
}

fn claim(frame: &[u8]) -> Option<Claim> {
    let six = |at: usize| -> Option<Ipv6Addr> {
        let bytes: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
        Some(bytes.into())
    };
    if kind(frame)? == ARP {
        let bytes: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
        return Some(Claim::Arp(bytes.into()));
    }
    match icmpv6(frame)? {
        NEIGHBOUR_ADVERTISEMENT => Some(Claim::Advertised(six(62)?)),
        NEIGHBOUR_SOLICITATION => Some(Claim::Solicited(six(22)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_their_place() {
        let mut arp = vec![0; 42];
        arp[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        arp[12..14].copy_from_slice(&ARP.to_be_bytes());
        arp[20..22].copy_from_slice(&[0, 1]);
        arp[28..32].copy_from_slice(&[10, 0, 0, 100]);
        assert_eq!(claim(&arp), Some(Claim::Arp(Ipv4Addr::new(10, 0, 0, 100))));
        assert_eq!(sender(&arp), Some([2, 0, 0, 0, 0, 1]));
        assert!(is_question(&arp));
        let mut six = vec![0; 86];
        six[12..14].copy_from_slice(&IPV6.to_be_bytes());
        six[20] = ICMPV6;
        six[54] = NEIGHBOUR_ADVERTISEMENT;
        six[77] = 9;
        six[37] = 8;
        assert_eq!(claim(&six), Some(Claim::Advertised("::9".parse().unwrap())));
        six[54] = NEIGHBOUR_SOLICITATION;
        assert_eq!(claim(&six), Some(Claim::Solicited("::8".parse().unwrap())));
        assert_eq!(claim(&[]), None);
    }
}
