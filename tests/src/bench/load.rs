//! SHELL: the clients: keep-alive connections, one request at a time each, a fixed number of requests in all.
//!
//! A fixed number rather than a fixed time: every subject then does the same work. Any answer that is not the origin's ends the run:
//! a proxy that refuses quickly must not look cheap.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::bench::origin;

/// No answer of a proxy on loopback takes this long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

const REQUEST: &[u8] =
    b"GET /bench HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: weir-bench\r\nAccept: */*\r\n\r\n";

/// An open connection to a proxy.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects.
    pub async fn connect(proxy: SocketAddr) -> Result<Client> {
        let stream = TcpStream::connect(proxy)
            .await
            .with_context(|| format!("failed to connect to {proxy}"))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream })
    }

    /// Sends a request and reads the whole answer.
    pub async fn request(&mut self) -> Result<()> {
        self.stream
            .write_all(REQUEST)
            .await
            .context("failed to send a request")?;
        let mut buffer = [0; 4096];
        let mut filled = 0;
        loop {
            let count = self
                .stream
                .read(&mut buffer[filled..])
                .await
                .context("failed to read an answer")?;
            ensure!(
                count > 0,
                "connection closed within an answer: {:?}",
                text(&buffer[..filled])
            );
            filled += count;
            match judge(&buffer[..filled]) {
                Answer::Partial => ensure!(
                    filled < buffer.len(),
                    "answer without end: {:?}",
                    text(&buffer)
                ),
                Answer::Whole => return Ok(()),
                Answer::Wrong => bail!("not the origin's answer: {:?}", text(&buffer[..filled])),
            }
        }
    }

    /// Whether the proxy still holds the connection, and has sent nothing unasked.
    pub fn is_idle(&self) -> bool {
        matches!(self.stream.try_read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}

/// Opens `count` connections, `at_once` at a time, each with one request answered.
pub async fn open(proxy: SocketAddr, count: usize, at_once: usize) -> Result<Vec<Client>> {
    let opened = std::rc::Rc::new(Cell::new(0));
    let local = tokio::task::LocalSet::new();
    let all = local.run_until(async {
        let mut workers = JoinSet::new();
        for _ in 0..at_once.min(count) {
            let opened = opened.clone();
            workers.spawn_local(async move {
                let mut own = Vec::new();
                while opened.get() < count {
                    opened.set(opened.get() + 1);
                    let mut client = Client::connect(proxy).await?;
                    client.request().await?;
                    own.push(client);
                }
                anyhow::Ok(own)
            });
        }
        let mut all = Vec::with_capacity(count);
        while let Some(own) = workers.join_next().await {
            all.extend(own??);
        }
        anyhow::Ok(all)
    });
    tokio::time::timeout(PATIENCE, all)
        .await
        .context("the proxy does not answer")?
}

/// Sends `requests` requests over `clients`, as many at a time as there are clients. Gives the clients back.
pub async fn run(clients: Vec<Client>, requests: usize) -> Result<Vec<Client>> {
    let sent = std::rc::Rc::new(Cell::new(0));
    let local = tokio::task::LocalSet::new();
    let all = local.run_until(async {
        let mut workers = JoinSet::new();
        for mut client in clients {
            let sent = sent.clone();
            workers.spawn_local(async move {
                while sent.get() < requests {
                    sent.set(sent.get() + 1);
                    client.request().await?;
                }
                anyhow::Ok(client)
            });
        }
        let mut all = Vec::new();
        while let Some(client) = workers.join_next().await {
            all.push(client??);
        }
        anyhow::Ok(all)
    });
    tokio::time::timeout(PATIENCE, all)
        .await
        .context("the proxy does not answer")?
}

/// What the bytes of an answer so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Partial,
    Whole,
    Wrong,
}

fn judge(bytes: &[u8]) -> Answer {
    const STATUS: &[u8] = b"HTTP/1.1 200";
    if !bytes.starts_with(&STATUS[..STATUS.len().min(bytes.len())]) {
        return Answer::Wrong;
    }
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Answer::Partial;
    };
    let (head, body) = bytes.split_at(end + 4);
    let kept = length(head) == Some(origin::BODY.len()) && !head_says_close(head);
    match body.len() {
        _ if !kept => Answer::Wrong,
        size if size < origin::BODY.len() => Answer::Partial,
        _ if body == origin::BODY => Answer::Whole,
        _ => Answer::Wrong,
    }
}

fn length(head: &[u8]) -> Option<usize> {
    value(head, "content-length")?.parse().ok()
}

fn head_says_close(head: &[u8]) -> bool {
    value(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

fn value<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    std::str::from_utf8(head).ok()?.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_origins_answer_on_a_kept_connection_counts() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nServer: x\r\n\r\nhello world\n";
        for end in 0..whole.len() {
            assert_eq!(judge(&whole.as_bytes()[..end]), Answer::Partial, "{end}");
        }
        assert_eq!(judge(whole.as_bytes()), Answer::Whole);
        for wrong in [
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 12\r\n\r\nhello world\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello worlds",
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world\nHTTP",
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nhello world\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\nhello world\n",
            "HTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(judge(wrong.as_bytes()), Answer::Wrong, "{wrong:?}");
        }
    }
}
