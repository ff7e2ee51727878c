//! A flood of adverts on the segment: the master goes on sending, the backup goes on waiting. Any kernel; needs root.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tests::bench::usage;
use tests::netns::Node;
use tests::routers::{Families, Pair, platform};
use tests::wait;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const INTERVAL: Duration = Duration::from_millis(100);
/// Packets of the flood in a second, if the machine can send so many, from as many threads.
const RATE: u64 = 100_000;
const THREADS: u64 = 2;
const LASTING: Duration = Duration::from_secs(4);

/// An advert of router 1 for its address; the checksum is RFC 9568's.
fn advert(priority: u8) -> Vec<u8> {
    let mut bytes = vec![0x31, 1, priority, 1, 0, 10, 0, 0, 10, 77, 0, 1];
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
}

/// Sends a packet again and again, at [`RATE`] at most.
struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    fn start(node: &Arc<Node>, packet: Vec<u8>, target: Ipv4Addr) -> Flood {
        let socket = node
            .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))))
            .expect("a raw socket (needs root)");
        socket.set_multicast_ttl_v4(255).expect("a TTL");
        socket
            .set_multicast_if_v4(&Ipv4Addr::new(10, 0, 0, 9))
            .expect("an interface");
        // It would fill with its own packets otherwise.
        socket.set_multicast_loop_v4(false).expect("no loop");
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (ends, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let target = SocketAddrV4::new(target, 0).into();
            while !ends.load(Ordering::Relaxed) {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                if count.load(Ordering::Relaxed) >= micros * RATE / THREADS / 1_000_000 {
                    std::thread::yield_now();
                } else if socket.send_to(&packet, &target).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Flood {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.sent.load(Ordering::Relaxed)
    }
}

/// Looks at the adverts of the first director alone: the kernel keeps the flood away from it.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Instant>>>,
}

impl Watch {
    fn start(node: &Arc<Node>) -> Watch {
        let everything = Protocol::from(i32::from((libc::ETH_P_ALL as u16).to_be()));
        let mut socket = node
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(everything)))
            .expect("a packet socket (needs root)");
        let step = |code: u32, yes, no, k| SockFilter::new(code as u16, yes, no, k);
        let first = u32::from(Ipv4Addr::new(10, 0, 0, 5));
        let filter = [
            // The source address of an IPv4 packet in its Ethernet frame, and its protocol.
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 26),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 3, first),
            step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 23),
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, 112),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        socket.attach_filter(&filter).expect("a filter");
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a time limit");
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut times = Vec::new();
            let mut frame = [0; 256];
            while !ends.load(Ordering::Relaxed) {
                match socket.read(&mut frame) {
                    Ok(_) => times.push(Instant::now()),
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(error) => panic!("the watch ends: {error}"),
                }
            }
            times
        });
        Watch {
            stop,
            thread: Some(thread),
        }
    }

    fn stop(mut self) -> Vec<Instant> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs");
        thread.join().expect("no panic")
    }
}

#[test]
fn a_flood_of_adverts_neither_delays_the_master_nor_promotes_the_backup() {
    let mut pair = Pair::new();
    pair.lab.add("other");
    pair.lab
        .plug("other", "eth0", "front", &["10.0.0.9/24".to_owned()]);
    pair.start(&platform(1, "100ms", Families::Four));
    let mut wrong = advert(200);
    wrong[7] ^= 1;
    let floods = [
        ("with a wrong checksum", wrong, GROUP),
        ("of lower priority", advert(5), GROUP),
        (
            "to the backup's own address",
            advert(5),
            Ipv4Addr::new(10, 0, 0, 6),
        ),
    ];
    for (what, packet, target) in floods {
        let transitions = pair.transitions();
        let received = |pair: &Pair| pair.daemons[1].metric("vrrp_loop_packets_total", "");
        let pid = pair.daemons[1].pid().expect("it runs");
        let processor = || usage::processor(&[pid]).expect("its processor time");
        let (before, used) = (received(&pair), processor());
        let watch = Watch::start(pair.node(1));
        let node = pair.lab.node("other");
        let floods: Vec<Flood> = (0..THREADS)
            .map(|_| Flood::start(node, packet.clone(), target))
            .collect();
        let begun = Instant::now();
        wait::for_a_while(LASTING);
        let sent: u64 = floods.into_iter().map(Flood::stop).sum();
        let seconds = begun.elapsed().as_secs_f64();
        let share = processor().since(&used).total.as_secs_f64() / seconds;
        let times = watch.stop();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        let longest = gaps.max().expect("adverts of the master");
        println!(
            "{:.0} adverts {what} a second, of which the backup read {:.0} with {:.0} % of a processor; the master's came at most {longest:?} apart",
            sent as f64 / seconds,
            (received(&pair) - before) / seconds,
            share * 100.0
        );
        assert!(received(&pair) - before > 1000.0, "they arrive");
        // On time: one interval after the last. Late by another one: as if one had been lost.
        assert!(longest < 2 * INTERVAL, "flood {what}: {longest:?}");
        assert_eq!(pair.transitions(), transitions, "flood {what}");
    }
}
