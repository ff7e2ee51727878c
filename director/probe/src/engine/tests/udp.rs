//! Servers that answer, answer wrongly, say nothing, or are not there.

use tokio::net::UdpSocket;

use super::*;

/// A server that sends `answer` to each datagram, or nothing; what it was sent last.
pub(super) async fn server(
    answer: Option<Vec<u8>>,
) -> (SocketAddr, tokio::sync::watch::Receiver<Vec<u8>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut datagram = [0; 2048];
        while let Ok((length, peer)) = socket.recv_from(&mut datagram).await {
            sender.send_replace(datagram[..length].to_vec());
            if let Some(answer) = &answer {
                let _ = socket.send_to(answer, peer).await;
            }
        }
    });
    (address, receiver)
}

/// A port of loopback that nobody has.
pub(super) async fn nobody() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.78.2:0").await.unwrap();
    socket.local_addr().unwrap()
}

fn udp(payload: &[u8], expect: Option<&[u8]>) -> CheckKind {
    CheckKind::Udp {
        payload: payload.to_vec(),
        expect: expect.map(<[u8]>::to_vec),
    }
}

#[tokio::test]
async fn an_answer_must_begin_as_expected() {
    let (address, sent) = server(Some(b"PONG 7\x00\n".to_vec())).await;
    let ask = |expect: &'static [u8]| target(address, udp(b"PING\x00", Some(expect)), 5000);
    let answer = verdict(&ask(b"PONG")).await.unwrap();
    assert_eq!(answer.reason, "answered 8 bytes");
    assert_eq!(*sent.borrow(), b"PING\x00");
    verdict(&ask(b"")).await.expect("any answer");
    let error = verdict(&ask(b"pong")).await.unwrap_err();
    assert_eq!(error, "answer: it begins with `PONG 7.`");
}

#[tokio::test]
async fn silence_is_bad_only_where_an_answer_is_expected() {
    let (address, sent) = server(None).await;
    let error = verdict(&target(address, udp(b"x", Some(b"")), 100))
        .await
        .unwrap_err();
    assert_eq!(error, "answer: timed out after 100ms");
    let answer = verdict(&target(address, udp(b"y", None), 100))
        .await
        .unwrap();
    assert_eq!(answer.reason, "not refused");
    assert_eq!(*sent.borrow(), b"y");
}

#[tokio::test]
async fn a_host_that_refuses_is_bad_at_once() {
    for expect in [None, Some(&b""[..])] {
        let error = verdict(&target(nobody().await, udp(b"x", expect), 10_000))
            .await
            .unwrap_err();
        assert_eq!(error, "refused: nobody listens on the port");
    }
    let (address, _) = server(Some(b"hello".to_vec())).await;
    let talkative = verdict(&target(address, udp(b"x", None), 10_000)).await;
    assert_eq!(talkative.unwrap().reason, "answered 5 bytes");
}

#[tokio::test]
async fn mark_and_source_hold_for_datagrams() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut bound = target(socket.local_addr().unwrap(), udp(b"x", None), 50);
    bound.source = Some("127.0.0.79".parse().unwrap());
    verdict(&bound).await.unwrap();
    let (_, peer) = socket.recv_from(&mut [0; 8]).await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.79");
    bound.source = Some("203.0.113.1".parse().unwrap());
    let error = verdict(&bound).await.unwrap_err();
    assert!(error.starts_with("bind: "), "{error}");
}
