//! What passes a client's namespace, with the kernel's arrival times: adverts of VRRP, announcements of addresses, answers to echo requests.
//!
//! A packet socket on every interface. [`Witness::since`] gives what came since a moment; times are those of the wall clock, as the kernel
//! stamps them, so a moment to compare with is one of [`now`].

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Node;
use crate::sys;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const VRRP: u8 = 112;

/// The Ethernet address of a sender.
pub type Mac = [u8; 6];

/// One frame that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// When it arrived, since the epoch.
    pub at: Duration,
    /// The Ethernet address that it came from.
    pub mac: Mac,
    /// What it says.
    pub what: What,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A VRRP advertisement.
    Advert(Advert),
    /// A gratuitous ARP packet or an unsolicited neighbour advertisement for this address.
    Announced(IpAddr),
    /// An echo reply from this address.
    Echo {
        /// Who answers.
        from: IpAddr,
        /// The number of the request.
        sequence: u16,
    },
}

/// What an advert says of itself, unchecked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// Who sends it.
    pub source: IpAddr,
    /// To whom: the group, or a peer.
    pub destination: IpAddr,
    /// 2 or 3.
    pub version: u8,
    /// The virtual router.
    pub vrid: u8,
    /// 0 says farewell.
    pub priority: u8,
    /// The whole VRRP message.
    pub bytes: Vec<u8>,
}

impl Advert {
    /// Whether the checksum of an IPv4 advert is right without a pseudo-header, as RFC 9568 wants it, else with one, else `None`.
    pub fn plain_checksum(&self) -> Option<bool> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.source, self.destination) else {
            return None;
        };
        let length = u16::try_from(self.bytes.len()).ok()?;
        let pseudo = [
            &source.octets()[..],
            &destination.octets(),
            &[0, VRRP],
            &length.to_be_bytes(),
        ]
        .concat();
        if sum(&[&self.bytes]) == 0xffff {
            return Some(true);
        }
        (sum(&[&pseudo, &self.bytes]) == 0xffff).then_some(false)
    }
}

/// A running look at everything that arrives.
#[derive(Debug)]
pub struct Witness {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    thread: Option<JoinHandle<()>>,
}

/// The moment, as arrival times are counted.
pub fn now() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

impl Witness {
    /// Looks at all interfaces of a namespace from now on.
    pub fn start(node: &Arc<Node>) -> Witness {
        let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let socket = node
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(everything)))
            .expect("a packet socket (needs root)");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a time limit");
        let _ = socket.set_recv_buffer_size(4 << 20);
        sys::enable_timestamps(socket.as_fd()).expect("time stamps");
        let (stop, seen) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (ends, sink) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            let mut frame = [0; 2048];
            while !ends.load(Ordering::Relaxed) {
                match sys::receive(socket.as_fd(), &mut frame) {
                    Ok((length, stamp)) => {
                        let frame = &frame[..length.min(frame.len())];
                        if let (Some(mac), Some(what)) = (sender(frame), read(frame)) {
                            let at = stamp.unwrap_or_else(now);
                            let mut seen = sink.lock().unwrap_or_else(PoisonError::into_inner);
                            seen.push(Seen { at, mac, what });
                        }
                    }
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                        ) => {}
                    Err(error) => panic!("the witness goes blind: {error}"),
                }
            }
        });
        Witness {
            stop,
            seen,
            thread: Some(thread),
        }
    }

    /// Everything that arrived since a moment.
    pub fn since(&self, from: Duration) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = seen.partition_point(|seen| seen.at < from);
        seen[begin..].to_vec()
    }

    /// The adverts that arrived since a moment, with their times.
    pub fn adverts_since(&self, from: Duration) -> Vec<(Duration, Advert)> {
        let seen = self.since(from).into_iter();
        seen.filter_map(|seen| match seen.what {
            What::Advert(advert) => Some((seen.at, advert)),
            _ => None,
        })
        .collect()
    }

    /// The newest advert with a priority, if one came since a moment.
    pub fn last_advert(&self, from: Duration) -> Option<(Duration, Advert)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = seen.iter().rev().take_while(|seen| seen.at >= from);
        recent
            .filter_map(|seen| match &seen.what {
                What::Advert(advert) if advert.priority > 0 => Some((seen.at, advert.clone())),
                _ => None,
            })
            .next()
    }

    /// How often an address was announced from an Ethernet address since a moment.
    pub fn announcements(&self, from: Duration, mac: Mac, address: IpAddr) -> usize {
        let seen = self.since(from).into_iter();
        seen.filter(|seen| seen.mac == mac && seen.what == What::Announced(address))
            .count()
    }

    /// Forgets what arrived before a moment.
    pub fn forget(&self, before: Duration) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = seen.partition_point(|seen| seen.at < before);
        seen.drain(..begin);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sender(frame: &[u8]) -> Option<Mac> {
    frame.get(6..12)?.try_into().ok()
}

fn read(frame: &[u8]) -> Option<What> {
    let packet = frame.get(14..)?;
    match u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?) {
        ARP => gratuitous(packet),
        IPV4 => ipv4(packet),
        IPV6 => ipv6(packet),
        _ => None,
    }
}

fn gratuitous(packet: &[u8]) -> Option<What> {
    let (sender, target) = (v4(packet, 14)?, v4(packet, 24)?);
    (sender == target).then_some(What::Announced(IpAddr::V4(sender)))
}

fn ipv4(packet: &[u8]) -> Option<What> {
    let header = usize::from(packet.first()? & 15) * 4;
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let payload = packet.get(header..total)?;
    let (from, to) = (IpAddr::V4(v4(packet, 12)?), IpAddr::V4(v4(packet, 16)?));
    match packet.get(9)? {
        1 if *payload.first()? == 0 => echo(from, payload),
        &VRRP => advert(from, to, payload),
        _ => None,
    }
}

fn ipv6(packet: &[u8]) -> Option<What> {
    let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
    let payload = packet.get(40..40 + length)?;
    let (from, to) = (IpAddr::V6(v6(packet, 8)?), IpAddr::V6(v6(packet, 24)?));
    match packet.get(6)? {
        58 if *payload.first()? == 129 => echo(from, payload),
        // Not solicited.
        58 if *payload.first()? == 136 && *payload.get(4)? & 0x40 == 0 => {
            Some(What::Announced(IpAddr::V6(v6(payload, 8)?)))
        }
        &VRRP => advert(from, to, payload),
        _ => None,
    }
}

fn echo(from: IpAddr, payload: &[u8]) -> Option<What> {
    let sequence = u16::from_be_bytes(payload.get(6..8)?.try_into().ok()?);
    Some(What::Echo { from, sequence })
}

fn advert(source: IpAddr, destination: IpAddr, payload: &[u8]) -> Option<What> {
    Some(What::Advert(Advert {
        source,
        destination,
        version: payload.first()? >> 4,
        vrid: *payload.get(1)?,
        priority: *payload.get(2)?,
        bytes: payload.to_vec(),
    }))
}

fn v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(octets.into())
}

fn v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
    Some(octets.into())
}

/// The ones' complement sum of RFC 1071.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let total: u32 = words
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    let folded = (total >> 16) + (total & 0xffff);
    u16::try_from((folded >> 16) + (folded & 0xffff)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u16, packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        frame
    }

    fn ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
        let mut packet = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 255, protocol, 0, 0];
        packet.extend([192, 0, 2, 1, 224, 0, 0, 18]);
        packet.extend(payload);
        packet
    }

    #[test]
    fn an_advert_is_read_and_its_checksum_form_told() {
        for (message, plain) in [
            ("31339601000ad3cbc0000264", Some(false)),
            ("31339601000a765cc0000264", Some(true)),
            ("31339601000a765dc0000264", None),
        ] {
            let bytes: Vec<u8> = (0..message.len() / 2)
                .map(|at| u8::from_str_radix(&message[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            // Padding of a short frame is not the message's.
            let frame = [frame(IPV4, &ip(VRRP, &bytes)), vec![9; 7]].concat();
            let Some(What::Advert(advert)) = read(&frame) else {
                panic!("no advert");
            };
            assert_eq!((advert.version, advert.vrid, advert.priority), (3, 51, 150));
            assert_eq!(advert.plain_checksum(), plain, "{message}");
            assert_eq!(sender(&frame), Some([2; 6]));
        }
    }

    #[test]
    fn answers_and_announcements_are_told_from_questions() {
        let echo = |kind| read(&frame(IPV4, &ip(1, &[kind, 0, 0, 0, 0, 7, 0, 9])));
        let from = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(echo(0), Some(What::Echo { from, sequence: 9 }));
        assert_eq!(echo(8), None);
        let mut arp = vec![0; 28];
        arp[14..18].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(read(&frame(ARP, &arp)), None);
        arp[24..28].copy_from_slice(&[192, 0, 2, 1]);
        assert_eq!(read(&frame(ARP, &arp)), Some(What::Announced(from)));
        let mut six = vec![0; 64];
        (six[5], six[6], six[40], six[44], six[63]) = (24, 58, 136, 0x20, 1);
        let announced = What::Announced(IpAddr::V6(Ipv6Addr::LOCALHOST));
        assert_eq!(read(&frame(IPV6, &six)), Some(announced));
        six[44] = 0x60;
        assert_eq!(read(&frame(IPV6, &six)), None);
    }
}
