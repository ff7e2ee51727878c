//! Name servers that answer, answer late or to others, say no, cut their answers short, or speak no DNS.

use tokio::net::UdpSocket;

use super::*;

/// What a name server does with a query: the datagrams that it sends back.
type Respond = fn(&[u8]) -> Vec<Vec<u8>>;

async fn server(respond: Respond) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut query).await {
            for answer in respond(&query[..length]) {
                let _ = socket.send_to(&answer, peer).await;
            }
        }
    });
    address
}

/// The answer with one address, 10.0.0.80.
fn good(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[7] = 1;
    answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x50");
    answer
}

fn with_code(query: &[u8], code: u8) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] |= code;
    answer
}

fn dns(rcode: &[u8], answer: Option<&str>) -> CheckKind {
    CheckKind::Dns {
        name: "shop.example".to_owned(),
        record: "A".to_owned(),
        rcode: rcode.to_vec(),
        answer: answer.map(str::to_owned),
    }
}

#[tokio::test]
async fn the_right_answer_counts_whatever_came_before_it() {
    let address = server(|query| {
        let mut foreign = good(query);
        foreign[0] ^= 1;
        vec![foreign, b"noise".to_vec(), query.to_vec(), good(query)]
    })
    .await;
    let answer = verdict(&target(address, dns(&[0], Some("10.0.0.80")), 5000)).await;
    assert_eq!(answer.unwrap().reason, "NOERROR, 1 records");
    let error = verdict(&target(address, dns(&[0], Some("10.0.0.81")), 5000)).await;
    let error = error.unwrap_err();
    assert_eq!(
        error,
        "answer: `10.0.0.81` is not in it (1 records, the first is 10.0.0.80)"
    );
}

#[tokio::test]
async fn codes_are_judged() {
    let address = server(|query| vec![with_code(query, 3)]).await;
    let error = verdict(&target(address, dns(&[0], None), 5000)).await;
    assert_eq!(error.unwrap_err(), "answer: NXDOMAIN");
    let answer = verdict(&target(address, dns(&[0, 3], None), 5000)).await;
    assert_eq!(answer.unwrap().reason, "NXDOMAIN, 0 records");
}

#[tokio::test]
async fn silence_foreign_answers_and_refusal() {
    for respond in [(|_| Vec::new()) as Respond, |query| vec![query.to_vec()]] {
        let address = server(respond).await;
        let error = verdict(&target(address, dns(&[0], None), 150)).await;
        assert_eq!(error.unwrap_err(), "answer: timed out after 150ms");
    }
    let nobody = super::udp::nobody().await;
    let error = verdict(&target(nobody, dns(&[0], None), 10_000)).await;
    assert_eq!(error.unwrap_err(), "refused: nobody listens on the port");
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp() {
    // A port that is free for both: one that UDP has not may be a TCP connection's.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, peer)) = udp.recv_from(&mut query).await {
            let mut cut = with_code(&query[..length], 0);
            cut[2] |= 0x02;
            let _ = udp.send_to(&cut, peer).await;
        }
    });
    let full = target(address, dns(&[0], Some("10.0.0.80")), 5000);
    tokio::spawn(async move {
        for turn in 0.. {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut query = vec![0; usize::from(length)];
            stream.read_exact(&mut query).await.unwrap();
            // The second time the server hangs up in the middle.
            let answer = good(&query);
            let length = u16::try_from(answer.len()).unwrap();
            stream.write_all(&length.to_be_bytes()).await.unwrap();
            let sent = if turn == 0 { answer.len() } else { 3 };
            stream.write_all(&answer[..sent]).await.unwrap();
        }
    });
    assert_eq!(verdict(&full).await.unwrap().reason, "NOERROR, 1 records");
    let error = verdict(&full).await.unwrap_err();
    assert!(error.starts_with("answer: "), "{error}");
}
