//! SHELL: greeting, EHLO (HELO for servers of old), QUIT.

mod reply;

use conf::platform::CheckKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::reply::{Reply, parse};
use super::{Answer, CheckError, Deadline, datagram, tcp};
use crate::Target;

/// An `smtp` check.
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    let CheckKind::Smtp { helo } = &target.check.kind else {
        return Err(CheckError::other_kind(target));
    };
    let stream = tcp::connect(target, deadline).await?;
    let mut session = Session {
        stream,
        received: Vec::new(),
    };
    let greeting = deadline.limit("greeting", session.reply()).await?;
    greeting.accept(&[220]).map_err(CheckError::Smtp)?;
    let hello = deadline
        .limit("ehlo", session.ask(&format!("EHLO {helo}")))
        .await?;
    // RFC 5321 section 3.2: who does not know EHLO is greeted with HELO.
    if hello.is_unknown_command() {
        let hello = deadline
            .limit("helo", session.ask(&format!("HELO {helo}")))
            .await?;
        hello.accept(&[250]).map_err(CheckError::Smtp)?;
    } else {
        hello.accept(&[250]).map_err(CheckError::Smtp)?;
    }
    // The verdict stands; a server that says goodbye has no lost connection in its log.
    let _ = deadline.limit("quit", session.ask("QUIT")).await;
    Ok(Answer::alive(greeting.to_string()))
}

struct Session {
    stream: tcp::Connection,
    /// Bytes that belong to no reply yet.
    received: Vec<u8>,
}

impl Session {
    async fn ask(&mut self, command: &str) -> Result<Reply, CheckError> {
        let line = format!("{command}\r\n");
        self.stream
            .write_all(line.as_bytes())
            .await
            .map_err(datagram::broken)?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply, CheckError> {
        let mut piece = [0; 1024];
        loop {
            if let Some((reply, length)) = parse(&self.received).map_err(CheckError::Smtp)? {
                self.received.drain(..length);
                return Ok(reply);
            }
            let count = self
                .stream
                .read(&mut piece)
                .await
                .map_err(datagram::broken)?;
            if count == 0 {
                return Err(CheckError::Smtp("the server hung up".to_owned()));
            }
            self.received
                .extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }
}
