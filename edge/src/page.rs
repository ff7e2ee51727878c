//! CORE: edge's own answers: errors, refusals, redirects and texts of the file.
//!
//! Small, without a name or version of anything behind edge. A browser gets HTML, everything else a line of text.

use http::StatusCode;

/// What edge calls itself towards clients.
pub const SERVER: &str = "weir";

/// A body and its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Content-Type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// The page for an error. `accept` is the request's Accept field.
pub fn error(status: u16, accept: &[u8]) -> Page {
    let reason = reason(status);
    if accept
        .windows(9)
        .any(|window| window.eq_ignore_ascii_case(b"text/html"))
    {
        let body = format!(
            "<!doctype html>\n<html lang=\"en\"><head><title>{status} {reason}</title></head>\n<body><h1>{status} {reason}</h1><p>{}</p></body></html>\n",
            sentence(status)
        );
        Page {
            content_type: "text/html; charset=utf-8",
            body,
        }
    } else {
        Page {
            content_type: "text/plain; charset=utf-8",
            body: format!("{status} {reason}\n{}\n", sentence(status)),
        }
    }
}

/// A whole response, for a message that Pingora never saw. `date` is an IMF-fixdate.
pub fn refusal(status: u16, accept: &[u8], date: &str) -> Vec<u8> {
    let Page { content_type, body } = error(status, accept);
    format!(
        "HTTP/1.1 {status} {}\r\nServer: {SERVER}\r\nDate: {date}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{body}",
        reason(status),
        body.len()
    )
    .into_bytes()
}

/// The standard's phrase for a status.
pub fn reason(status: u16) -> &'static str {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Error")
}

/// What it means to somebody in front of a screen.
fn sentence(status: u16) -> &'static str {
    match status {
        400 => "The request is not valid HTTP.",
        404 => "There is nothing at this address.",
        405 => "This address does not take requests of this kind.",
        408 => "The request took too long to arrive.",
        413 => "The request is larger than this site accepts.",
        414 | 431 => "The request's address or header is larger than this server accepts.",
        421 => "This server does not serve the requested host.",
        502 => "The application server could not be reached or gave no valid answer.",
        503 => "No application server is available at the moment. Please try again shortly.",
        504 => "The application server took too long to answer.",
        505 => "This version of HTTP is not served here.",
        _ => "The request could not be served.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_html_and_programs_text() {
        assert!(
            error(503, b"text/html,application/xhtml+xml")
                .body
                .starts_with("<!doctype html>")
        );
        assert_eq!(
            error(404, b"*/*").body,
            "404 Not Found\nThere is nothing at this address.\n"
        );
    }

    #[test]
    fn a_refusal_is_a_whole_response_that_closes() {
        let response =
            String::from_utf8(refusal(431, b"", "Mon, 23 Nov 2026 07:34:48 GMT")).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
        assert!(
            head.contains(&format!("Content-Length: {}\r\n", body.len()))
                && head.ends_with("Connection: close")
        );
    }
}
