//! CORE: what an error of the proxy engine means: whose fault, which kind of failed attempt, which status.
//!
//! Pingora's own mapping answers timeouts with 502 and knows no gate. Used by the hooks; nothing is retried or sent here.

use std::borrow::Cow;

use pingora_core::{Error, ErrorSource, ErrorType, RetryType};

use crate::retry::Failure;

/// Whether the server, or the way to it, is to blame.
pub(super) fn is_upstream(error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream && !matches!(error.etype(), ErrorType::HTTPStatus(_))
}

/// Whether the client is to blame, or has gone.
pub(super) fn is_downstream(error: &Error) -> bool {
    *error.esource() == ErrorSource::Downstream
}

/// Whether there was no local address with a free port for the connection (EADDRNOTAVAIL).
pub(super) fn is_unbound(error: &Error) -> bool {
    *error.root_etype() == ErrorType::BindError
}

/// How an attempt failed that had its connection. `reused`: a kept-alive one, and not a byte of the response had come.
pub(super) fn kind(error: &Error, reused: bool) -> Failure {
    // Pingora marks so what happens when the server's idle timeout meets our request.
    if reused
        && (error.retry == RetryType::ReusedOnly
            || matches!(error.etype(), ErrorType::ConnectionClosed))
    {
        Failure::ReusedClosed
    } else {
        Failure::Sent
    }
}

/// The status to answer with; 0 if nobody is left to answer.
pub(super) fn status(error: &Error) -> u16 {
    use ErrorType::{
        ConnectTimedout, ConnectionClosed, HTTPStatus, ReadError, ReadTimedout,
        TLSHandshakeTimedout, WriteError, WriteTimedout,
    };
    match (error.etype(), error.esource()) {
        (HTTPStatus(status), _) => *status,
        (
            ConnectTimedout | ReadTimedout | WriteTimedout | TLSHandshakeTimedout,
            ErrorSource::Upstream,
        ) => 504,
        (_, ErrorSource::Upstream) => 502,
        (ReadTimedout, ErrorSource::Downstream) => 408,
        (WriteError | WriteTimedout | ReadError | ConnectionClosed, ErrorSource::Downstream) => 0,
        (_, ErrorSource::Downstream) => 400,
        (_, ErrorSource::Internal | ErrorSource::Unset) => 500,
    }
}

/// Why, in the access log.
pub(super) fn note(error: &Error, refused: bool, responded: bool) -> Cow<'static, str> {
    if refused {
        return Cow::Borrowed("the request body is malformed");
    }
    match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(_), _) => {
            error.context.as_ref().map_or(Cow::Borrowed(""), |context| {
                Cow::Owned(context.as_str().to_owned())
            })
        }
        (_, ErrorSource::Downstream) if status(error) == 0 => {
            Cow::Borrowed("the client closed the connection")
        }
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => {
            Cow::Borrowed("the body did not arrive in time")
        }
        (etype, ErrorSource::Upstream) if responded => {
            Cow::Owned(format!("the server broke off: {}", etype.as_str()))
        }
        (etype, _) => Cow::Borrowed(match etype {
            ErrorType::ConnectTimedout => "connect: timed out",
            ErrorType::ConnectRefused => "connect: refused",
            ErrorType::ConnectNoRoute => "connect: no route",
            _ if is_unbound(error) => "connect: no free port at the source address",
            ErrorType::ReadTimedout => "the server did not answer in time",
            ErrorType::ConnectionClosed => "the server closed the connection",
            _ => return Cow::Owned(etype.as_str().to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_say_whose_fault_it_is() {
        let cases = [
            (Error::new_up(ErrorType::ConnectRefused), 502),
            (Error::new_up(ErrorType::ConnectTimedout), 504),
            (Error::new_up(ErrorType::ReadTimedout), 504),
            (Error::new_up(ErrorType::ConnectionClosed), 502),
            (Error::new_up(ErrorType::InvalidHTTPHeader), 502),
            (Error::new_down(ErrorType::ReadTimedout), 408),
            (Error::new_down(ErrorType::ConnectionClosed), 0),
            (Error::new_down(ErrorType::InvalidHTTPHeader), 400),
            (Error::new_in(ErrorType::InternalError), 500),
            (Error::new_up(ErrorType::HTTPStatus(503)), 503),
        ];
        for (error, expected) in cases {
            assert_eq!(status(&error), expected, "{error}");
        }
    }

    #[test]
    fn only_a_kept_alive_connection_is_closed_in_a_race() {
        let closed = Error::new_up(ErrorType::ConnectionClosed);
        assert_eq!(kind(&closed, true), Failure::ReusedClosed);
        assert_eq!(kind(&closed, false), Failure::Sent);
        assert_eq!(
            kind(&Error::new_up(ErrorType::ReadTimedout), true),
            Failure::Sent
        );
    }
}
