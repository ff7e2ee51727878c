//! Checks over unix sockets.

use std::path::Path;

use conf::platform::Endpoint;
use tokio::net::UnixListener;

use super::*;

fn at(path: &Path, kind: CheckKind) -> Target {
    let tcp = target("127.0.0.1:1".parse().unwrap(), kind, 2000);
    Target::new(Endpoint::Unix(path.to_str().unwrap().into()), tcp.check)
}

/// An HTTP check without a host of its own.
fn plain() -> CheckKind {
    match http("/health", Some("fine")) {
        CheckKind::Http {
            tls,
            method,
            path,
            status,
            body,
            headers,
            host: _,
        } => CheckKind::Http {
            tls,
            method,
            path,
            host: None,
            status,
            body,
            headers,
        },
        other => other,
    }
}

#[tokio::test]
async fn a_server_on_a_unix_socket_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let engines = Engines::default();
    let gone = engines.check(&at(&path, CheckKind::Tcp)).await;
    assert!(matches!(gone, Err(CheckError::Connect(_))), "{gone:?}");

    let listener = UnixListener::bind(&path).unwrap();
    assert!(!engines.is_handshake(&at(&path, CheckKind::Tcp)));
    let connected = engines.check(&at(&path, CheckKind::Tcp)).await.unwrap();
    assert_eq!(connected.reason, "connected");
    drop(listener.accept().await.unwrap());

    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1024];
        let count = stream.read(&mut request).await.unwrap();
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nI'm fine";
        stream.write_all(answer).await.unwrap();
        String::from_utf8(request[..count].to_vec()).unwrap()
    });
    let answer = engines.check(&at(&path, plain())).await;
    let request = server.await.unwrap().to_lowercase();
    assert!(request.starts_with("get /health "), "{request}");
    assert!(request.contains("host: localhost\r\n"), "{request}");
    assert_eq!(answer.unwrap().reason, "status 200");
}

#[tokio::test]
async fn what_needs_an_address_is_refused() {
    let path = Path::new("/run/app.sock");
    let refused = Engines::default().check(&at(path, CheckKind::Icmp)).await;
    assert!(
        matches!(refused, Err(CheckError::OverUnix("icmp"))),
        "{refused:?}"
    );
}
