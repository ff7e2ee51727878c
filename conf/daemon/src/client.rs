//! SHELL: the other end of the control sockets: what the subcommands ask of the running daemon.
//!
//! Every failure carries the exit code of the subcommand. Blocking: subcommands have nothing else to do.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use crate::control::Refused;
use crate::frame::{Common, Exit};
use crate::server::{CHANGE_TIMEOUT, ErrorBody, ON_BEHALF};

/// Time for a question.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest answer that is read: a status of many thousand servers.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why a question to the daemon came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{refused}")]
pub struct ClientError {
    /// The sentence and the exit code.
    pub refused: Refused,
    /// The problems of a platform file, for a terminal.
    pub rendered: Option<String>,
    /// The same for programs.
    pub problems: Vec<Value>,
}

impl ClientError {
    fn new(exit: Exit, reason: String) -> Self {
        Self {
            refused: Refused::new(exit, reason),
            rendered: None,
            problems: Vec::new(),
        }
    }
}

/// A daemon's control sockets.
#[derive(Debug, Clone)]
pub struct Client {
    daemon: &'static str,
    run_dir: PathBuf,
}

/// How an answer begins and what it says.
struct Answer {
    status: http::StatusCode,
    body: Bytes,
}

impl Client {
    /// The daemon `name` on this machine.
    pub fn new(common: &Common, name: &'static str) -> Self {
        Self {
            daemon: name,
            run_dir: common.run_dir(name),
        }
    }

    /// `GET path` on the read-only socket, as JSON.
    pub fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.ask("ro.sock", Method::GET, path, None, ASK_TIMEOUT)
    }

    /// `POST path` with a JSON body on the control socket.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        // A little longer than the daemon itself waits, so that its own answer arrives.
        self.ask(
            "ctl.sock",
            Method::POST,
            path,
            Some(body),
            CHANGE_TIMEOUT + ASK_TIMEOUT,
        )
    }

    fn ask(
        &self,
        socket: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        limit: Duration,
    ) -> Result<Value, ClientError> {
        let socket = self.run_dir.join(socket);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::new(Exit::Failed, format!("cannot start: {error}")))?;
        let asked = runtime.block_on(async {
            tokio::time::timeout(limit, self.exchange(&socket, method, path, body)).await.unwrap_or_else(|_| {
                let seconds = limit.as_secs();
                let reason = format!(
                    "{} did not answer on {} within {seconds} s; a change may still be under way: look at `{} status`",
                    self.daemon,
                    socket.display(),
                    self.daemon
                );
                Err(ClientError::new(Exit::TimedOut, reason))
            })
        });
        self.judge(&socket, asked?)
    }

    async fn exchange(
        &self,
        socket: &Path,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| self.unreachable(socket, &error))?;
        let broken = |error: &dyn std::fmt::Display| {
            let reason = format!(
                "{} broke off the conversation on {}: {error}; has it just stopped?",
                self.daemon,
                socket.display()
            );
            ClientError::new(Exit::Unreachable, reason)
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let driver = tokio::spawn(connection);
        let request = request(method, path, body).map_err(|error| broken(&error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| broken(&error))?
            .to_bytes();
        driver.abort();
        Ok(Answer { status, body })
    }

    fn unreachable(&self, socket: &Path, error: &std::io::Error) -> ClientError {
        let (daemon, socket) = (self.daemon, socket.display());
        match error.kind() {
            ErrorKind::PermissionDenied => ClientError::new(
                Exit::Refused,
                format!(
                    "no permission to use {socket}: be root or a member of the group weir-admin"
                ),
            ),
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::new(
                Exit::Unreachable,
                format!(
                    "cannot reach {daemon} on {socket}: is it running (systemctl status {daemon}), and with this --run-dir?"
                ),
            ),
            _ => ClientError::new(
                Exit::Unreachable,
                format!("cannot reach {daemon} on {socket}: {error}"),
            ),
        }
    }

    fn judge(&self, socket: &Path, answer: Answer) -> Result<Value, ClientError> {
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(|error| {
                let reason = format!(
                    "{} on {} answered something else than JSON: {error}",
                    self.daemon,
                    socket.display()
                );
                ClientError::new(Exit::Failed, reason)
            });
        }
        match serde_json::from_slice::<ErrorBody>(&answer.body) {
            Ok(body) => Err(ClientError {
                refused: Refused {
                    reason: body.error,
                    exit: body.exit,
                },
                rendered: body.rendered,
                problems: body.problems,
            }),
            Err(_) => {
                let text = String::from_utf8_lossy(&answer.body);
                Err(ClientError::new(
                    Exit::Refused,
                    format!(
                        "{} answered {}: {}",
                        self.daemon,
                        answer.status,
                        text.trim()
                    ),
                ))
            }
        }
    }
}

fn request(
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost");
    if let Ok(name) = std::env::var("SUDO_USER") {
        request = request.header(ON_BEHALF, name);
    }
    match body {
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string())),
        None => request.body(Full::default()),
    }
}

/// `text` as part of a URL's query.
pub(crate) fn percent_encode(text: &str) -> String {
    use std::fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(
            percent_encode(r#"{"args":["a b"]}"#),
            "%7B%22args%22%3A%5B%22a%20b%22%5D%7D"
        );
    }
}
