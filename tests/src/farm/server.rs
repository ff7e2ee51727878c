//! What runs on a real server: an HTTP server per TCP port, DNS on UDP sockets, SCTP; each answers with the server's name.

use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{Farm, VIP4, VIP6, addresses};
use crate::origin::Origin;

/// Its IP protocol number.
pub(super) const SCTP: i32 = 132;
/// How often a thread looks whether it should end.
const LOOK: Duration = Duration::from_millis(100);

/// Everything that answers on one real server. Dropping it closes all.
#[derive(Debug)]
pub struct Server {
    /// The HTTP servers.
    pub http: Vec<Origin>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts HTTP on these TCP ports of all addresses.
    pub fn start(farm: &Farm, name: &str, ports: &[u16]) -> Server {
        let node = farm.lab.node(name);
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let http = ports
            .iter()
            .map(|port| Origin::start(node, SocketAddr::new(any, *port)));
        Server {
            http: http.collect(),
            stop: Arc::default(),
            threads: Vec::new(),
        }
    }

    /// The same on every real server of a farm.
    pub fn everywhere(farm: &Farm, ports: &[u16]) -> Vec<Server> {
        let names = farm.names.iter();
        names.map(|name| Server::start(farm, name, ports)).collect()
    }

    /// Answers DNS on a UDP port of the VIPs and of the node's own addresses: what is bound to an address answers from it.
    pub fn dns(&mut self, farm: &Farm, name: &str, port: u16) {
        let number: u8 = name.trim_start_matches("rs").parse().expect("rsN");
        let own = addresses(u16::from(number) + 10);
        for address in own.into_iter().chain([VIP4, VIP6]) {
            let socket = farm
                .node(name)
                .run(|| UdpSocket::bind(SocketAddr::new(address, port)).expect("a UDP socket"));
            socket.set_read_timeout(Some(LOOK)).expect("a timeout");
            self.spawn(move |stop| answer_dns(&socket, number, stop));
        }
    }

    /// Answers SCTP on a port of the VIPs. An address that is not named would be offered to the client as a second path.
    pub fn sctp(&mut self, farm: &Farm, name: &str, port: u16) {
        for address in [VIP4, VIP6] {
            let address = SocketAddr::new(address, port);
            let socket = farm.node(name).run(|| {
                let protocol = Some(Protocol::from(SCTP));
                let socket = Socket::new(Domain::for_address(address), Type::STREAM, protocol)
                    .expect("a socket of SCTP: module sctp");
                socket
                    .bind(&SockAddr::from(address))
                    .expect("a port of SCTP");
                socket.listen(16).expect("a listening socket");
                socket
            });
            socket.set_read_timeout(Some(LOOK)).expect("a timeout");
            let name = name.to_owned();
            self.spawn(move |stop| {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((mut peer, _)) = socket.accept() {
                        let _ = peer.write_all(name.as_bytes());
                    }
                }
            });
        }
    }

    fn spawn(&mut self, work: impl FnOnce(&AtomicBool) + Send + 'static) {
        let stop = Arc::clone(&self.stop);
        self.threads.push(std::thread::spawn(move || work(&stop)));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Answers every query with the address 192.0.2.`number` (RFC 1035 section 4.1).
fn answer_dns(socket: &UdpSocket, number: u8, stop: &AtomicBool) {
    let mut buffer = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let Some([high, low, _, _, rest @ ..]) = buffer.get(..length) else {
            continue;
        };
        let Some(question) = rest.get(8..) else {
            continue;
        };
        let mut answer = vec![*high, *low, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
        answer.extend_from_slice(question);
        // The name of the question, type A, class IN, for 0 s, 4 bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, number]);
        let _ = socket.send_to(&answer, peer);
    }
}
