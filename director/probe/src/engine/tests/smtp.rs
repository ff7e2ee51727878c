//! Mail servers of all manners.

use super::*;

/// Sends the lines one after the other: the first at once, each further one when a command has come. Returns the commands too.
async fn server(
    lines: &'static [&'static str],
) -> (SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut reader = tokio::io::BufReader::new(reader);
        for (turn, line) in lines.iter().enumerate() {
            if turn > 0 {
                let mut command = String::new();
                use tokio::io::AsyncBufReadExt;
                if reader.read_line(&mut command).await.unwrap_or(0) == 0 {
                    return;
                }
                let _ = sender.send(command).await;
            }
            // In two pieces, as networks do it.
            let (first, second) = line.split_at(line.len() / 2);
            writer.write_all(first.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
            writer.write_all(second.as_bytes()).await.unwrap();
        }
    });
    (address, receiver)
}

async fn outcome(lines: &'static [&'static str]) -> (Result<String, String>, Vec<String>) {
    let (address, mut commands) = server(lines).await;
    let kind = CheckKind::Smtp {
        helo: "lb1.example".to_owned(),
    };
    let result = verdict(&target(address, kind, 400)).await;
    let mut seen = Vec::new();
    while let Ok(command) = commands.try_recv() {
        seen.push(command.trim_end().to_owned());
    }
    (result.map(|answer| answer.reason), seen)
}

#[tokio::test]
async fn a_greeting_of_several_lines_then_ehlo_and_quit() {
    let (result, commands) = outcome(&[
        "220-mx.example ESMTP\r\n220 ready\r\n",
        "250-mx.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
        "221 bye\r\n",
    ])
    .await;
    assert_eq!(result.unwrap(), "220 mx.example ESMTP");
    assert_eq!(commands, ["EHLO lb1.example", "QUIT"]);
}

#[tokio::test]
async fn who_does_not_know_ehlo_is_greeted_with_helo() {
    let (result, commands) = outcome(&[
        "220 old\r\n",
        "500 what?\r\n",
        "250 hello\r\n",
        "221 bye\r\n",
    ])
    .await;
    assert_eq!(result.unwrap(), "220 old");
    assert_eq!(commands, ["EHLO lb1.example", "HELO lb1.example", "QUIT"]);
}

#[tokio::test]
async fn servers_that_misbehave() {
    let cases: [(&[&str], &str); 7] = [
        (&["554 no service\r\n"], "smtp: 554 no service"),
        (&["421-busy\r\n421 later\r\n"], "smtp: 421 busy"),
        (&["220 hi\r\n", "550 not you\r\n"], "smtp: 550 not you"),
        (
            &["220 hi\r\n", "502 no\r\n", "550 not you\r\n"],
            "smtp: 550 not you",
        ),
        (
            &["SSH-2.0-OpenSSH_9\r\n"],
            "smtp: not a reply: SSH-2.0-OpenSSH_9",
        ),
        (&["220 hi\r\n"], "smtp: the server hung up"),
        (&[], "smtp: the server hung up"),
    ];
    for (lines, expected) in cases {
        let (result, _) = outcome(lines).await;
        assert_eq!(result.unwrap_err(), expected);
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kind = CheckKind::Smtp {
        helo: "a".to_owned(),
    };
    let error = verdict(&target(silent.local_addr().unwrap(), kind, 100)).await;
    assert_eq!(error.unwrap_err(), "greeting: timed out after 100ms");
}

#[tokio::test]
async fn a_server_that_does_not_say_goodbye_is_healthy() {
    let (result, _) = outcome(&["220 hi\r\n", "250 hello\r\n"]).await;
    assert_eq!(result.unwrap(), "220 hi");
}
