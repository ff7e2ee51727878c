//! SHELL: listens to the local director's verdicts over its read-only socket, for as long as it lives.
//!
//! Every line is a whole statement; silence is reported as such. What either means is decided in `gate`.

use std::path::PathBuf;
use std::time::Duration;

use daemon::verdict::Verdicts;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// The director speaks at least once a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Time between two attempts to reach it.
const RETRY: Duration = Duration::from_millis(200);
/// A longer line is no statement of a director.
const LINE_LIMIT: usize = 1024 * 1024;

/// What is heard.
pub(crate) enum Heard {
    /// A statement.
    Verdicts(Verdicts),
    /// Nothing: no socket, no answer, or no sense in it.
    Silence(String),
}

/// Listens for ever.
pub(crate) async fn listen(socket: PathBuf, mut tell: impl FnMut(Heard)) {
    loop {
        let Err(reason) = converse(&socket, &mut tell).await;
        tell(Heard::Silence(reason));
        tokio::time::sleep(RETRY).await;
    }
}

async fn converse(
    socket: &PathBuf,
    tell: &mut impl FnMut(Heard),
) -> Result<std::convert::Infallible, String> {
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|error| format!("{}: {error}", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let result = read(&mut sender, tell).await;
    connection.abort();
    result
}

async fn read(
    sender: &mut hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    tell: &mut impl FnMut(Heard),
) -> Result<std::convert::Infallible, String> {
    let request = hyper::Request::get("/v1/verdicts")
        .header("host", "director")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let late = |_| format!("no word for {} s", PATIENCE.as_secs());
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .map_err(late)?
        .map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("it answers {}", answer.status()));
    }
    let mut body = answer.into_body();
    let mut line = Vec::new();
    loop {
        let frame = tokio::time::timeout(PATIENCE, body.frame())
            .await
            .map_err(late)?
            .ok_or("it has ended the conversation")?
            .map_err(|error| error.to_string())?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        for byte in data {
            if byte != b'\n' {
                line.push(byte);
                continue;
            }
            let verdicts = serde_json::from_slice(&line)
                .map_err(|error| format!("its words make no sense: {error}"))?;
            tell(Heard::Verdicts(verdicts));
            line.clear();
        }
        if line.len() > LINE_LIMIT {
            return Err("its words make no sense: a line of over 1 MiB".to_owned());
        }
    }
}
