//! Raw requests as a table, and the properties that hold for any bytes: the split does not matter, and a message is never read twice.

use proptest::prelude::*;

use super::*;

/// What a run over some bytes has shown; offsets count from the first byte.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Head(usize, Head),
    Done(usize),
    Refused(Refusal),
    /// The bytes ended; whether that was between two messages.
    End(bool),
}

fn run(bytes: &[u8], limits: Limits, mut piece: impl FnMut() -> usize) -> Vec<Event> {
    let mut scanner = Scanner::new(limits);
    let mut events = Vec::new();
    let mut offset = 0;
    loop {
        let end = (offset + piece().max(1)).min(bytes.len());
        let push = scanner.push(&bytes[offset..end]);
        assert!(push.consumed <= end - offset);
        offset += push.consumed;
        match push.progress {
            Progress::NeedMore | Progress::Body => {
                assert_eq!(
                    offset, end,
                    "everything is consumed unless something is decided"
                );
                if end == bytes.len() {
                    events.push(Event::End(scanner.is_at_boundary()));
                    return events;
                }
            }
            Progress::Head(head) => events.push(Event::Head(offset, head)),
            Progress::Done => {
                events.push(Event::Done(offset));
                assert!(scanner.is_at_boundary());
                assert_eq!(
                    scanner.push(b"x"),
                    Push {
                        consumed: 0,
                        progress: Progress::Done
                    },
                    "what follows is not touched"
                );
                scanner.next_message();
                if offset == bytes.len() {
                    events.push(Event::End(scanner.is_at_boundary()));
                    return events;
                }
            }
            Progress::Refused(refusal) => {
                events.push(Event::Refused(refusal));
                assert_eq!(
                    scanner.push(b"GET"),
                    Push {
                        consumed: 0,
                        progress: Progress::Refused(refusal)
                    },
                    "for good"
                );
                return events;
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Vec<Event> {
    run(bytes, Limits::default(), || usize::MAX / 2)
}

/// The verdict on one message: its framing and how it goes on, or the refusal. Whole and byte by byte must agree.
fn judge(bytes: &[u8]) -> Result<(Framing, usize), Reason> {
    let events = whole(bytes);
    assert_eq!(
        events,
        run(bytes, Limits::default(), || 1),
        "{}",
        String::from_utf8_lossy(bytes)
    );
    let mut head = None;
    for event in events {
        match event {
            Event::Head(_, found) => head = Some(found),
            Event::Done(offset) => return Ok((head.unwrap().framing, offset)),
            Event::Refused(refusal) => return Err(refusal.reason),
            Event::End(_) => panic!("incomplete: {}", String::from_utf8_lossy(bytes)),
        }
    }
    unreachable!("a run ends with End or Refused")
}

fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

#[test]
fn request_lines() {
    let accepted: &[&str] = &[
        "GET / HTTP/1.1",
        "GET /a?b=c&d HTTP/1.1",
        "GET /a|b{c}[d]^`\"<>\\ HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://a/ HTTP/1.1",
        "GET http://a:80/ HTTP/1.1",
        "GET HTTP://A HTTP/1.1",
        "GET http://a?q HTTP/1.1",
        "M-SEARCH /x HTTP/1.1",
        "CONNECT a:443 HTTP/1.1",
        "\r\nGET / HTTP/1.1",
    ];
    for line in accepted {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(
            judge(bytes.as_bytes()),
            Ok((Framing::None, bytes.len())),
            "{line}"
        );
    }
    let refused: &[(&str, Reason)] = &[
        ("GET /", Reason::BadRequestLine),
        ("GET", Reason::BadRequestLine),
        ("GET  / HTTP/1.1", Reason::BadRequestLine),
        ("GET /  HTTP/1.1", Reason::BadRequestLine),
        ("GET /a b HTTP/1.1", Reason::BadRequestLine),
        ("GET / HTTP/1.1 ", Reason::BadRequestLine),
        (" GET / HTTP/1.1", Reason::BadRequestLine),
        ("GET\t/ HTTP/1.1", Reason::BadRequestLine),
        ("\r\n\r\nGET / HTTP/1.1", Reason::BadRequestLine),
        ("G{T / HTTP/1.1", Reason::BadMethod),
        ("{GET / HTTP/1.1", Reason::BadMethod),
        ("\u{16}\u{3}\u{1}", Reason::BadMethod),
        ("GET a HTTP/1.1", Reason::BadTarget),
        ("GET * HTTP/1.1", Reason::BadTarget),
        ("GET /a#b HTTP/1.1", Reason::BadTarget),
        ("GET /\u{0} HTTP/1.1", Reason::BadTarget),
        ("GET /\u{7f} HTTP/1.1", Reason::BadTarget),
        ("GET /\r HTTP/1.1", Reason::BadTarget),
        ("GET /é HTTP/1.1", Reason::BadTarget),
        ("GET ftp://a/ HTTP/1.1", Reason::BadTarget),
        ("GET http:///x HTTP/1.1", Reason::BadTarget),
        ("GET http://u@a/ HTTP/1.1", Reason::BadTarget),
        ("CONNECT / HTTP/1.1", Reason::BadTarget),
        ("CONNECT a HTTP/1.1", Reason::BadTarget),
        ("GET / http/1.1", Reason::BadVersion),
        ("GET / HTTP/1.1\r", Reason::BadVersion),
        ("GET / HTTP/1", Reason::BadVersion),
        ("GET / HTTP/11", Reason::BadVersion),
        ("GET / HTTP/1.10", Reason::BadVersion),
        ("GET / HTTP/2.0", Reason::UnknownVersion),
        ("PRI * HTTP/2.0", Reason::UnknownVersion),
        ("GET / HTTP/0.9", Reason::UnknownVersion),
        ("GET / HTTP/1.2", Reason::UnknownVersion),
        ("GET http://b/ HTTP/1.1", Reason::HostMismatch),
        ("GET http://a:81/ HTTP/1.1", Reason::HostMismatch),
        ("GET https://a:80/ HTTP/1.1", Reason::HostMismatch),
    ];
    for (line, reason) in refused {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(judge(bytes.as_bytes()), Err(*reason), "{line:?}");
    }
}

#[test]
fn fields_and_hosts() {
    let cases: &[(&str, Result<(), Reason>)] = &[
        ("Host: a\r\n", Ok(())),
        ("host:a\r\n", Ok(())),
        ("HOST: \t a:8080 \t\r\n", Ok(())),
        ("Host: [::1]:80\r\n", Ok(())),
        ("Host: a\r\nX:\r\n", Ok(())),
        ("Host: a\r\nX: \u{e9}\t\"q\"\r\n", Ok(())),
        ("Host: a\r\n!#$%&'*+-.^_`|~1: x\r\n", Ok(())),
        ("", Err(Reason::MissingHost)),
        ("Hos: a\r\n", Err(Reason::MissingHost)),
        ("Host:\r\n", Err(Reason::BadHost)),
        ("Host: \r\n", Err(Reason::BadHost)),
        ("Host: a b\r\n", Err(Reason::BadHost)),
        ("Host: a, b\r\n", Err(Reason::BadHost)),
        ("Host: u@a\r\n", Err(Reason::BadHost)),
        ("Host: a/..\r\n", Err(Reason::BadHost)),
        ("Host: a:x\r\n", Err(Reason::BadHost)),
        ("Host: http://a\r\n", Err(Reason::BadHost)),
        ("Host: a\r\nHost: a\r\n", Err(Reason::DuplicateHost)),
        ("Host: a\r\nhOsT: b\r\n", Err(Reason::DuplicateHost)),
        ("Host : a\r\n", Err(Reason::BadFieldName)),
        ("Host\t: a\r\n", Err(Reason::BadFieldName)),
        ("Host: a\r\n: x\r\n", Err(Reason::BadFieldName)),
        ("Host: a\r\nX\r\n", Err(Reason::BadFieldName)),
        ("Host: a\r\nX Y: z\r\n", Err(Reason::BadFieldName)),
        ("Host: a\r\nX(Y): z\r\n", Err(Reason::BadFieldName)),
        ("Host: a\r\nX\u{0}: z\r\n", Err(Reason::BadFieldName)),
        ("Host: a\r\n\u{e9}: z\r\n", Err(Reason::BadFieldName)),
        ("Host: a\r\n folded\r\n", Err(Reason::FoldedField)),
        ("Host: a\r\nX: y\r\n\tfolded\r\n", Err(Reason::FoldedField)),
        (" Host: a\r\n", Err(Reason::FoldedField)),
        ("Host: a\r\nX: a\u{0}b\r\n", Err(Reason::BadFieldValue)),
        ("Host: a\r\nX: a\rb\r\n", Err(Reason::BadFieldValue)),
        ("Host: a\r\nX: a\r\r\n", Err(Reason::BadFieldValue)),
        ("Host: a\r\nX: \u{1}\r\n", Err(Reason::BadFieldValue)),
        ("Host: a\r\nX: \u{7f}\r\n", Err(Reason::BadFieldValue)),
        ("Host: a\nX: y\r\n", Err(Reason::BareLineFeed)),
        ("Host: a\r\nX: y\n", Err(Reason::BareLineFeed)),
        ("\nHost: a\r\n", Err(Reason::BareLineFeed)),
    ];
    for (fields, expected) in cases {
        let bytes = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(judge(bytes.as_bytes()).map(|_| ()), *expected, "{fields:?}");
    }
    assert_eq!(
        judge(b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
        Err(Reason::BareLineFeed)
    );
    assert_eq!(
        judge(b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
        Err(Reason::BareLineFeed)
    );
    assert_eq!(
        judge(b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        Err(Reason::BareLineFeed)
    );
}

#[test]
fn framing() {
    let cases: &[(&str, Result<Framing, Reason>)] = &[
        ("", Ok(Framing::None)),
        ("Content-Length: 0\r\n", Ok(Framing::Length(0))),
        ("Content-Length: 5\r\n", Ok(Framing::Length(5))),
        ("content-length:  005 \r\n", Ok(Framing::Length(5))),
        ("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked)),
        ("transfer-encoding:\tCHUNKED\t\r\n", Ok(Framing::Chunked)),
        ("Content-Length: +5\r\n", Err(Reason::BadContentLength)),
        ("Content-Length: -5\r\n", Err(Reason::BadContentLength)),
        ("Content-Length: 0x5\r\n", Err(Reason::BadContentLength)),
        ("Content-Length: 5,5\r\n", Err(Reason::BadContentLength)),
        ("Content-Length: 5 5\r\n", Err(Reason::BadContentLength)),
        ("Content-Length:\r\n", Err(Reason::BadContentLength)),
        (
            "Content-Length: 18446744073709551616\r\n",
            Err(Reason::BadContentLength),
        ),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Err(Reason::DuplicateContentLength),
        ),
        (
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            Err(Reason::DuplicateContentLength),
        ),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            Err(Reason::DoubleFraming),
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Err(Reason::DoubleFraming),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked, chunked\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: gzip, chunked\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: x, chunked\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked, identity\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: identity\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked;q=1\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: \"chunked\"\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: xchunked\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        (
            "Transfer-Encoding: ,chunked\r\n",
            Err(Reason::BadTransferEncoding),
        ),
        ("Transfer-Encoding:\r\n", Err(Reason::BadTransferEncoding)),
        (
            "Transfer-Encoding: \u{b}chunked\r\n",
            Err(Reason::BadFieldValue),
        ),
        ("Transfer-Encoding : chunked\r\n", Err(Reason::BadFieldName)),
    ];
    for (fields, expected) in cases {
        let mut bytes = get(fields);
        bytes.extend_from_slice(if *expected == Ok(Framing::Chunked) {
            b"0\r\n\r\n"
        } else {
            b"12345"
        });
        assert_eq!(
            judge(&bytes).map(|(framing, _)| framing),
            *expected,
            "{fields:?}"
        );
    }
    let http10 = |fields: &str| {
        judge(format!("GET / HTTP/1.0\r\n{fields}\r\n0\r\n\r\n").as_bytes())
            .map(|(framing, _)| framing)
    };
    assert_eq!(http10(""), Ok(Framing::None));
    assert_eq!(http10("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
    assert_eq!(
        http10("Transfer-Encoding: chunked\r\n"),
        Err(Reason::TransferEncodingInHttp10)
    );
    assert_eq!(http10("Host: a\r\nHost: a\r\n"), Err(Reason::DuplicateHost));
}

#[test]
fn chunked_bodies() {
    let cases: &[(&str, Result<(), Reason>)] = &[
        ("0\r\n\r\n", Ok(())),
        ("5\r\nhello\r\n0\r\n\r\n", Ok(())),
        ("A\r\n0123456789\r\n000\r\n\r\n", Ok(())),
        ("1;a\r\nx\r\n0\r\n\r\n", Ok(())),
        ("1 ;a=\"b c\"\r\nx\r\n0;z\r\n\r\n", Ok(())),
        ("0\r\nX-Sum: 1\r\nY: 2\r\n\r\n", Ok(())),
        ("\r\n", Err(Reason::BadChunkSize)),
        ("g\r\n", Err(Reason::BadChunkSize)),
        ("0x5\r\n", Err(Reason::BadChunkSize)),
        ("-1\r\n", Err(Reason::BadChunkSize)),
        ("+1\r\n", Err(Reason::BadChunkSize)),
        (" 5\r\nhello", Err(Reason::BadChunkSize)),
        ("5 \r\nhello", Err(Reason::BadChunkSize)),
        ("5 5\r\nhello", Err(Reason::BadChunkSize)),
        ("5;\r\nhello", Err(Reason::BadChunkSize)),
        ("00000000000000005\r\nhello", Err(Reason::BadChunkSize)),
        ("10000000000000000\r\n", Err(Reason::BadChunkSize)),
        ("5;a\nb\r\nhello", Err(Reason::BareLineFeed)),
        ("5\nhello", Err(Reason::BareLineFeed)),
        ("5;a\rb\r\nhello", Err(Reason::BadChunkExtension)),
        ("5;\u{0}\r\nhello", Err(Reason::BadChunkExtension)),
        ("5\r\nhelloX", Err(Reason::BadChunkEnd)),
        ("5\r\nhello\n", Err(Reason::BadChunkEnd)),
        ("5\r\nhello\rX", Err(Reason::BadChunkEnd)),
        ("5\r\nhello0\r\n\r\n", Err(Reason::BadChunkEnd)),
        ("5\r\nhello\r\n\r\n", Err(Reason::BadChunkSize)),
        ("0\r\nHost: b\r\n\r\n", Err(Reason::BadTrailer)),
        ("0\r\ncontent-length: 5\r\n\r\n", Err(Reason::BadTrailer)),
        (
            "0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(Reason::BadTrailer),
        ),
        ("0\r\nX : 1\r\n\r\n", Err(Reason::BadFieldName)),
        ("0\r\nX: 1\n\r\n", Err(Reason::BareLineFeed)),
        ("0\r\n\n", Err(Reason::BareLineFeed)),
        ("0\r\n X: 1\r\n\r\n", Err(Reason::FoldedField)),
    ];
    for (body, expected) in cases {
        let mut bytes = get("Transfer-Encoding: chunked\r\n");
        bytes.extend_from_slice(body.as_bytes());
        assert_eq!(judge(&bytes).map(|_| ()), *expected, "{body:?}");
        if expected.is_ok() {
            assert_eq!(
                judge(&bytes),
                Ok((Framing::Chunked, bytes.len())),
                "{body:?}"
            );
        }
    }
}

#[test]
fn limits_are_exact() {
    let limits = Limits {
        head_size: 64,
        header_count: 2,
        target_size: 10,
        chunk_line: 8,
        trailer_size: 16,
        ..Limits::default()
    };
    let verdict = |bytes: &str| {
        let events = run(bytes.as_bytes(), limits, || usize::MAX / 2);
        assert_eq!(events, run(bytes.as_bytes(), limits, || 1), "{bytes}");
        match events.last() {
            Some(Event::Refused(refusal)) => Err((refusal.status, refusal.reason)),
            _ => Ok(()),
        }
    };
    let line = "GET /123456789 HTTP/1.1\r\nHost: a\r\n";
    assert_eq!(verdict(&format!("{line}\r\n")), Ok(()));
    assert_eq!(
        verdict(&line.replace("/12", "/112")),
        Err((414, Reason::TargetTooLong))
    );
    assert_eq!(
        verdict(&format!("GET /{}", "a".repeat(200))),
        Err((414, Reason::TargetTooLong)),
        "before its end"
    );
    assert_eq!(
        verdict(&format!("{line}X: {}\r\n\r\n", "y".repeat(64 - 34 - 7))),
        Ok(()),
        "64 bytes"
    );
    assert_eq!(
        verdict(&format!("{line}X: {}\r\n\r\n", "y".repeat(64 - 34 - 6))),
        Err((431, Reason::HeadTooLarge))
    );
    assert_eq!(
        verdict(&format!("{line}X: {}", "y".repeat(100))),
        Err((431, Reason::HeadTooLarge)),
        "before its end"
    );
    assert_eq!(verdict(&format!("{line}X: y\r\n\r\n")), Ok(()));
    assert_eq!(
        verdict(&format!("{line}X: y\r\nX: y\r\n\r\n")),
        Err((431, Reason::TooManyFields))
    );
    let chunked = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:chunked\r\n\r\n";
    let roomy = Limits {
        head_size: 100,
        ..limits
    };
    let chunk = |body: &str| {
        let bytes = format!("{chunked}{body}");
        let events = run(bytes.as_bytes(), roomy, || usize::MAX / 2);
        assert_eq!(events, run(bytes.as_bytes(), roomy, || 1), "{body}");
        events.last().cloned()
    };
    assert_eq!(chunk("0;aaaa\r\n\r\n"), Some(Event::End(true)));
    assert_eq!(
        chunk("0;aaaaa\r\n\r\n"),
        Some(Event::Refused(Reason::BadChunkExtension.into()))
    );
    assert_eq!(
        chunk("0\r\nA: 6\r\nB: 678\r\n\r\n"),
        Some(Event::End(true)),
        "16 bytes"
    );
    assert_eq!(
        chunk("0\r\nA: 6\r\nB: 6789\r\n\r\n"),
        Some(Event::Refused(Reason::TrailersTooLarge.into()))
    );
    assert_eq!(
        chunk("0\r\nA: 67890123456789"),
        Some(Event::Refused(Reason::TrailersTooLarge.into())),
        "before its end"
    );
}

#[test]
fn messages_are_taken_one_at_a_time() {
    let first = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let second = b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n";
    let third =
        b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let bytes = [&first[..], second, third, b"G"].concat();
    let ends = [
        first.len(),
        first.len() + second.len(),
        first.len() + second.len() + third.len(),
    ];
    for piece in [1, 2, 3, 7, 10_000] {
        let events = run(&bytes, Limits::default(), || piece);
        let done: Vec<usize> = events
            .iter()
            .filter_map(|event| {
                if let Event::Done(at) = event {
                    Some(*at)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(done, ends, "pieces of {piece}");
        assert_eq!(
            events.last(),
            Some(&Event::End(false)),
            "the first byte of a fourth is pending"
        );
    }
}

#[test]
fn the_head_says_how_the_connection_goes_on() {
    let head = |text: &str| match whole(text.as_bytes()).first() {
        Some(Event::Head(_, head)) => *head,
        other => panic!("{text:?}: {other:?}"),
    };
    assert!(head("GET / HTTP/1.1\r\nHost: a\r\n\r\n").persistent);
    assert!(!head("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").persistent);
    assert!(!head("GET / HTTP/1.0\r\n\r\n").persistent);
    assert!(head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").persistent);
    assert!(
        head("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n")
            .expect_continue
    );
    let upgrade = "Host: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(head(&format!("GET / HTTP/1.1\r\n{upgrade}")).upgrade);
    assert!(!head(&format!("GET / HTTP/1.0\r\n{upgrade}")).upgrade);
    assert!(!head("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n").upgrade);
}

#[test]
fn an_idle_scanner_holds_no_buffer() {
    let mut scanner = Scanner::new(Limits::default());
    for byte in get("X: a long field that arrives in pieces\r\n") {
        scanner.push(&[byte]);
    }
    assert!(scanner.is_at_boundary());
    assert_eq!(scanner.line.held(), 0);
    assert!(
        std::mem::size_of::<Scanner>() <= 192,
        "{}",
        std::mem::size_of::<Scanner>()
    );
}

#[test]
fn the_phases_tell_which_deadline_runs() {
    let mut scanner = Scanner::new(Limits::default());
    assert!(scanner.is_at_boundary() && !scanner.is_in_head() && !scanner.is_in_body());
    scanner.push(b"P");
    assert!(!scanner.is_at_boundary() && scanner.is_in_head());
    let push = scanner.push(b"OST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
    assert!(
        matches!(push.progress, Progress::Head(_)) && scanner.is_in_body() && !scanner.is_in_head()
    );
    assert_eq!(scanner.push(b"x").progress, Progress::Body);
    assert_eq!(
        scanner.push(b"yGET"),
        Push {
            consumed: 1,
            progress: Progress::Done
        }
    );
}

#[test]
fn a_refused_request_has_a_line_for_the_log() {
    assert_eq!(
        first_line(b"\r\nGET /\x1b[31m HTTP/1.1\r\nHost: a", 100),
        "GET /[31m HTTP/1.1"
    );
    assert_eq!(first_line(b"GET / HTTP/1.1\r\n", 5), "GET /");
    assert_eq!(first_line(b"\xff\xfe", 5), "??");
    assert_eq!(first_line(b"", 5), "");
}

/// Pieces of requests: combined at random they come near every rule.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /x?y HTTP/1.1\r\n",
        "GET http://a/ HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "Host: a\r\n",
        "Host: b:81\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "X: y\r\n",
        "\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "\n",
        "\r",
        " ",
        "\0",
        ":",
        "1;x=\"y\"\r\nz\r\n",
        "0\r\nT: 1\r\n\r\n",
    ]);
    prop::collection::vec(fragment, 0..14).prop_map(|parts| parts.concat().into_bytes())
}

/// Mostly legal pipelines, so that the deep states are reached.
fn pipelines() -> impl Strategy<Value = Vec<u8>> {
    let message = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;e\r\n0123456789abcdef\r\n0\r\nT: 1\r\n\r\n",
        "\r\nGET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ]);
    let flip = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
    (prop::collection::vec(message, 1..5), flip).prop_map(|(parts, flip)| {
        let mut bytes = parts.concat().into_bytes();
        if let Some((index, value)) = flip {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn the_split_does_not_matter(
        bytes in prop_oneof![fragments(), pipelines()],
        pieces in prop::collection::vec(1usize..9, 1..20),
    ) {
        let expected = whole(&bytes);
        prop_assert_eq!(&run(&bytes, Limits::default(), || 1), &expected);
        let mut turn = 0;
        let split = run(&bytes, Limits::default(), || {
            turn += 1;
            pieces[turn % pieces.len()]
        });
        prop_assert_eq!(&split, &expected);
    }

    #[test]
    fn with_tight_limits_neither(bytes in prop_oneof![fragments(), pipelines()], piece in 1usize..9, head in 1usize..80, target in 1usize..12) {
        let limits = Limits { head_size: head, header_count: 2, target_size: target, chunk_line: 4, trailer_size: 6, ..Limits::default() };
        prop_assert_eq!(run(&bytes, limits, || piece), run(&bytes, limits, || usize::MAX / 2));
    }

    /// A message that is accepted alone is accepted, and ends at the same place, whatever follows it.
    #[test]
    fn what_follows_changes_nothing(bytes in pipelines(), tail in fragments()) {
        let alone = whole(&bytes);
        let joined = whole(&[&bytes[..], &tail].concat());
        let ends = alone.iter().take_while(|event| !matches!(event, Event::End(_)));
        for (event, other) in ends.zip(&joined) {
            prop_assert_eq!(event, other);
        }
    }
}

/// The fuzz entry: any bytes, any split, no panic, no disagreement.
#[test]
fn fuzz_any_bytes() {
    bolero::check!()
        .with_type::<(Vec<u8>, u8)>()
        .for_each(|(bytes, piece)| {
            let expected = whole(bytes);
            assert_eq!(
                run(bytes, Limits::default(), || usize::from(*piece)),
                expected
            );
            let prefixed = [
                b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
                &bytes[..],
            ]
            .concat();
            assert_eq!(
                run(&prefixed, Limits::default(), || usize::from(*piece)),
                whole(&prefixed)
            );
        });
}
