//! SHELL: TLS for `tls` and `https` checks: rustls with ring, and how the server's certificate is judged.

mod roots;

use std::sync::Arc;
use std::time::Duration;

use conf::platform::{CheckKind, CheckTls};
use rustls::ClientConfig;
use rustls::pki_types::{ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(super) use self::roots::Trust;
use super::{Answer, CheckError, Deadline, internet, tcp};
use crate::Target;

const DAY: u64 = 86_400;

/// A `tls` check.
pub(super) async fn check(
    trust: &Trust,
    target: &Target,
    deadline: Deadline,
) -> Result<Answer, CheckError> {
    let CheckKind::Tls(wanted) = &target.check.kind else {
        return Err(CheckError::other_kind(target));
    };
    let name = internet(target)?.ip().to_string();
    let stream = tcp::connect(target, deadline).await?;
    let name = wanted.server_name.as_deref().unwrap_or(&name);
    let session = deadline
        .limit("tls", handshake(trust, wanted, stream, name))
        .await?;
    let expires = session.expires;
    judge_validity(expires, wanted)?;
    let reason = match expires {
        Some(expires) => format!("certificate valid for {}", days(left(expires))),
        None => "handshake done; the end of the certificate cannot be read".to_owned(),
    };
    Ok(Answer {
        certificate_expires: expires,
        ..Answer::alive(reason)
    })
}

/// A TLS connection.
pub(super) struct Session {
    pub(super) stream: TlsStream<tcp::Connection>,
    /// When the server's certificate ends, in seconds since 1970.
    pub(super) expires: Option<i64>,
}

/// The handshake, with `name` as server name indication and as the name that the certificate must bear.
pub(super) async fn handshake(
    trust: &Trust,
    wanted: &CheckTls,
    stream: tcp::Connection,
    name: &str,
) -> Result<Session, CheckError> {
    let config = trust.config(wanted.ca_file.as_deref(), wanted.verify)?;
    connect(config, stream, name).await
}

async fn connect(
    config: Arc<ClientConfig>,
    stream: tcp::Connection,
    name: &str,
) -> Result<Session, CheckError> {
    let name = name.trim_end_matches('.').to_owned();
    let name = ServerName::try_from(name)
        .map_err(|error| CheckError::Request(format!("server name: {error}")))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(CheckError::Tls)?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let expires = certificates
        .first()
        .and_then(|certificate| not_after(certificate.as_ref()));
    Ok(Session { stream, expires })
}

/// Whether the certificate lives long enough.
pub(super) fn judge_validity(expires: Option<i64>, wanted: &CheckTls) -> Result<(), CheckError> {
    let needed = wanted.min_validity.as_duration();
    if needed.is_zero() {
        return Ok(());
    }
    let Some(expires) = expires else {
        return Err(CheckError::Certificate("its end cannot be read".to_owned()));
    };
    match left(expires) {
        Some(left) if left >= needed => Ok(()),
        left => Err(CheckError::Certificate(format!(
            "valid for {}, and `min_validity` asks for {}",
            days(left),
            wanted.min_validity
        ))),
    }
}

/// The end of a certificate's validity, in seconds since 1970.
fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

/// How long it is until then; `None`: it is over.
fn left(expires: i64) -> Option<Duration> {
    let expires = u64::try_from(expires).ok()?;
    expires
        .checked_sub(UnixTime::now().as_secs())
        .map(Duration::from_secs)
}

fn days(left: Option<Duration>) -> String {
    match left.map(|left| left.as_secs()) {
        None => "no longer".to_owned(),
        Some(seconds) if seconds < DAY => "less than a day".to_owned(),
        Some(seconds) if seconds < 2 * DAY => "1 day".to_owned(),
        Some(seconds) => format!("{} days", seconds / DAY),
    }
}

#[cfg(test)]
mod tests;
