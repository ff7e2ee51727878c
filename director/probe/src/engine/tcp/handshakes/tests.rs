//! Against listeners on loopback. One whose queue is full answers nothing, and later the second SYN: it stands for a distant server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use conf::platform::{Check, CheckKind, InitialState, Place};
use conf::unit::{Interval, Percent};
use tokio::net::{TcpListener, TcpSocket};

use crate::schedule::{Lane, Pace, Schedule};

use super::*;

fn at(millis: u64) -> Moment {
    Moment::ZERO + Duration::from_millis(millis)
}

fn slots(count: usize) -> Vec<Slot> {
    let pace = Pace {
        interval: Duration::from_secs(1),
        jitter: Percent::new(0).unwrap(),
        lane: Lane::Sockets,
    };
    let mut schedule = Schedule::new(1, count, 1);
    (0..count).map(|_| schedule.insert(pace, at(0))).collect()
}

fn target(address: SocketAddr) -> Target {
    let check = Check {
        name: None,
        kind: CheckKind::Tcp,
        interval: Interval::from_secs(1),
        timeout: Interval::from_millis(500),
        rise: 1,
        fall: 1,
        retry_delay: None,
        initial: InitialState::Down,
        jitter: Percent::new(0).unwrap(),
        bind: None,
        address: None,
        port: None,
        place: Place::default(),
    };
    Target::new(address, Arc::new(check))
}

/// A listener with a queue for one connection, and that connection.
async fn deaf() -> (TcpListener, std::net::TcpStream) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap();
    let held = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, held)
}

fn words(ended: Vec<Ended>) -> Vec<String> {
    ended
        .into_iter()
        .map(|ended| match ended.result {
            Ok(answer) => answer.reason,
            Err(error) => error.to_string(),
        })
        .collect()
}

#[tokio::test]
async fn one_look_judges_a_burst() {
    let slots = slots(5);
    let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let six = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
    let refusing = {
        let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        gone.local_addr().unwrap()
    };
    let mut far = target(four.local_addr().unwrap());
    far.source = Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
    let mut handshakes = Handshakes::new().unwrap();
    for (slot, target) in slots.iter().zip([
        target(four.local_addr().unwrap()),
        target(refusing),
        target(six.local_addr().unwrap()),
        target(four.local_addr().unwrap()),
    ]) {
        handshakes.start(*slot, &target, at(0));
    }
    handshakes.start(slots[4], &far, at(0));
    handshakes.look(at(3));
    assert!(!handshakes.is_waiting() && handshakes.poll_timeout().is_none());
    let ended = handshakes.take_ended();
    let order: Vec<Slot> = ended.iter().map(|ended| ended.slot).collect();
    assert_eq!(order, [slots[4], slots[0], slots[1], slots[2], slots[3]]);
    assert_eq!(ended[1].latency, Duration::from_millis(3));
    assert_eq!(
        words(ended),
        [
            "bind: Cannot assign requested address (os error 99)",
            "connected",
            "connect: Connection refused (os error 111)",
            "connected",
            "connected"
        ]
    );
    assert!(!handshakes.has_begun());
}

#[tokio::test]
async fn the_server_sees_a_reset_and_no_end() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut handshakes = Handshakes::new().unwrap();
    handshakes.start(slots(1)[0], &target(listener.local_addr().unwrap()), at(0));
    handshakes.look(at(0));
    assert_eq!(words(handshakes.take_ended()), ["connected"]);
    let (stream, _) = listener.accept().await.unwrap();
    stream.readable().await.unwrap();
    let error = stream.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_takes_longer_is_waited_for_until_its_deadline() {
    let slots = slots(2);
    let (listener, _held) = deaf().await;
    let mut handshakes = Handshakes::new().unwrap();
    for slot in &slots {
        handshakes.start(*slot, &target(listener.local_addr().unwrap()), at(10));
    }
    handshakes.look(at(10));
    assert!(handshakes.is_waiting());
    assert_eq!(handshakes.poll_timeout(), Some(at(510)));
    handshakes.collect(at(509));
    assert!(handshakes.take_ended().is_empty());
    handshakes.collect(at(510));
    let ended = handshakes.take_ended();
    assert_eq!(ended[0].latency, Duration::from_millis(500));
    assert_eq!(words(ended), vec!["connect: timed out after 500ms"; 2]);
    assert!(!handshakes.is_waiting());
}

#[tokio::test]
async fn a_late_answer_wakes_and_is_collected_once() {
    let (listener, _held) = deaf().await;
    let mut handshakes = Handshakes::new().unwrap();
    handshakes.start(slots(1)[0], &target(listener.local_addr().unwrap()), at(0));
    handshakes.look(at(0));
    assert!(handshakes.is_waiting());
    // The queue has room again; the kernel repeats the SYN after a second.
    let _accepted = listener.accept().await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(20), handshakes.ready()).await;
    assert!(
        waited.is_ok(),
        "the epoll's own descriptor becomes readable"
    );
    handshakes.collect(at(400));
    let ended = handshakes.take_ended();
    assert_eq!(ended[0].latency, Duration::from_millis(400));
    assert_eq!(words(ended), ["connected"]);
    assert_eq!(handshakes.poll_timeout(), None);
    handshakes.collect(at(1000));
    assert!(handshakes.take_ended().is_empty());
}
