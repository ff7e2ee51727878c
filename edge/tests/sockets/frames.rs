//! HTTP/2 on raw frames: what is malformed or abusive reaches no server, ends no more than it must, and whole requests go on beside it.

use std::collections::BTreeMap;

use crate::client::Client;
use crate::harness::{Edge, app, platform};
use crate::origin::Origin;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Literals without indexing and without Huffman's code (RFC 7541 section 6.2.2).
fn block(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name.as_bytes(), value] {
            length(text.len(), &mut block);
            block.extend_from_slice(text);
        }
    }
    block
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(mut length: usize, block: &mut Vec<u8>) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    length -= 127;
    while length >= 128 {
        block.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    block.push(u8::try_from(length).unwrap());
}

const GET: [(&str, &[u8]); 4] = [
    (":method", b"GET"),
    (":scheme", b"http"),
    (":path", b"/"),
    (":authority", b"test"),
];

/// GET with more fields.
fn get_with(more: &[(&str, &[u8])]) -> Vec<u8> {
    block(&[&GET[..], more].concat())
}

/// GET with one of its pseudo fields changed, or left out.
fn get_but(name: &str, value: Option<&[u8]>) -> Vec<u8> {
    let fields = GET.iter().filter_map(|(field, own)| match (field, value) {
        (field, Some(value)) if *field == name => Some((*field, value)),
        (field, None) if *field == name => None,
        _ => Some((*field, *own)),
    });
    block(&fields.collect::<Vec<_>>())
}

fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// How a stream, or the whole connection, went.
#[derive(Debug, Clone, Default)]
struct Heard {
    statuses: BTreeMap<u32, u16>,
    bodies: BTreeMap<u32, usize>,
    resets: BTreeMap<u32, u32>,
    goaway: Option<u32>,
    ended: bool,
}

impl Heard {
    /// Refused in some way: an error status, a reset, or the end of the connection.
    fn refuses(&self, stream: u32) -> bool {
        let status = self.statuses.get(&stream);
        let refused = status.is_some_and(|status| (400..500).contains(status) || *status == 501);
        let over = self.goaway.is_some() || self.ended;
        refused || status.is_none() && (self.resets.contains_key(&stream) || over)
    }
}

/// A connection on which the client has said hello.
struct Raw(Client);

impl Raw {
    fn connect(edge: &Edge) -> Raw {
        let mut client = Client::connect(&edge.front());
        client.send(PREFACE);
        // No dynamic table: statuses come as they are in the static one, or in digits.
        client.send(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
        Raw(client)
    }

    fn send(&mut self, frames: &[u8]) -> bool {
        self.0.try_send(frames)
    }

    /// Listens until PING is answered, or the connection ends: all that came before it has been dealt with, and what it started has had its time.
    fn hear(&mut self, until: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = Heard::default();
        while !until(&heard) {
            let Some((kind, flags, stream, payload)) = self.0.frame() else {
                heard.ended = true;
                break;
            };
            match kind {
                HEADERS => {
                    heard.statuses.entry(stream).or_insert(status(&payload));
                }
                DATA => *heard.bodies.entry(stream).or_default() += payload.len(),
                RST_STREAM => {
                    let code = u32::from_be_bytes(payload[..4].try_into().unwrap());
                    heard.resets.insert(stream, code);
                }
                GOAWAY => {
                    heard.goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()))
                }
                SETTINGS if flags & 1 == 0 => {
                    self.send(&frame(SETTINGS, 1, 0, &[]));
                }
                _ => {}
            }
        }
        heard
    }

    /// Listens until something is known of a stream.
    fn outcome(&mut self, stream: u32) -> Heard {
        self.hear(|heard| {
            heard.statuses.contains_key(&stream)
                || heard.resets.contains_key(&stream)
                || heard.goaway.is_some()
        })
    }
}

/// The status at the beginning of a block of response fields.
fn status(block: &[u8]) -> u16 {
    let known = [200, 204, 206, 304, 400, 404, 500];
    // A change of the table's size may come first.
    let block = match block {
        [first, rest @ ..] if first & 0xe0 == 0x20 => rest,
        other => other,
    };
    match block {
        [first @ 0x88..=0x8e, ..] => known[usize::from(first - 0x88)],
        [_, length, rest @ ..] if length & 0x80 == 0 => {
            let digits = &rest[..usize::from(*length)];
            std::str::from_utf8(digits).unwrap().parse().unwrap()
        }
        [_, length, rest @ ..] => digits(&rest[..usize::from(length & 0x7f)]),
        _ => panic!("no status in {block:?}"),
    }
}

/// Three digits in Huffman's code (RFC 7541, appendix B): 0 to 2 have five bits, 3 to 9 six.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u8> = coded
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1))
        .collect();
    let (mut number, mut at) = (0, 0);
    for _ in 0..3 {
        let take = |count: usize| {
            bits[at..at + count]
                .iter()
                .fold(0u16, |value, bit| value << 1 | u16::from(*bit))
        };
        let five = take(5);
        let digit = if five < 3 {
            at += 5;
            five
        } else {
            let six = take(6);
            at += 6;
            six - 0x19 + 3
        };
        number = number * 10 + digit;
    }
    number
}

fn start(origin: &Origin) -> Edge {
    let limits = "limits = { header_size = \"8KiB\", header_count = 50, target_size = \"1KiB\", body_timeout = \"1s\", header_timeout = \"1s\" }";
    Edge::start(|address| platform(address, limits, &app(&[(origin.address(), 1)], "")))
}

#[test]
fn whole_requests_pass_in_whatever_frames_they_come() {
    let origin = Origin::start("a");
    let edge = start(&origin);
    let whole = get_with(&[("x-field", b"value")]);
    let (first, rest) = whole.split_at(10);
    let (second, third) = rest.split_at(10);
    let padded = [&[3][..], &whole, &[0; 3]].concat();
    let prioritised = [&[0, 0, 0, 0, 15][..], &whole].concat();
    let pieces = [
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, 0, 1, second),
        frame(CONTINUATION, END_HEADERS, 1, third),
    ]
    .concat();
    let post = get_but(":method", Some(b"POST"));
    let echo = block(&[
        (":method", b"POST"),
        (":scheme", b"http"),
        (":path", b"/echo"),
        (":authority", b"test"),
        ("content-length", b"5"),
    ]);
    let body = [
        frame(HEADERS, END_HEADERS, 1, &echo),
        frame(DATA, 0, 1, b"he"),
        frame(DATA, PADDED, 1, &[1, b'l', 0]),
        frame(DATA, END_STREAM, 1, b"lo"),
    ]
    .concat();
    let trailers = [
        frame(HEADERS, END_HEADERS, 1, &post),
        frame(DATA, 0, 1, b"body"),
        frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            1,
            &block(&[("x-trailer", b"y")]),
        ),
    ]
    .concat();
    let cases: [(&str, Vec<u8>); 12] = [
        ("one frame", request(1, &whole)),
        ("three frames", pieces),
        (
            "padding",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &padded),
        ),
        (
            "a priority",
            frame(HEADERS, END_STREAM | END_HEADERS | 0x20, 1, &prioritised),
        ),
        ("a body in pieces", body),
        ("trailers", trailers),
        (
            "an unknown frame",
            [frame(0xfa, 0, 0, b"x"), request(1, &whole)].concat(),
        ),
        (
            "an unknown setting",
            [
                frame(SETTINGS, 0, 0, &[0x7f, 0xff, 0, 0, 0, 1]),
                request(1, &whole),
            ]
            .concat(),
        ),
        ("a later stream", request(101, &whole).into_iter().collect()),
        (
            "Host in place of :authority",
            request(
                1,
                &block(&[
                    (":method", b"GET"),
                    (":scheme", b"http"),
                    (":path", b"/"),
                    ("host", b"test"),
                ]),
            ),
        ),
        (
            "te: trailers",
            request(1, &get_with(&[("te", b"trailers")])),
        ),
        (
            "cookies in pieces",
            request(1, &get_with(&[("cookie", b"a=b"), ("cookie", b"c=d")])),
        ),
    ];
    for (name, frames) in cases {
        let stream = if name == "a later stream" { 101 } else { 1 };
        let before = origin.requests();
        let mut raw = Raw::connect(&edge);
        raw.send(&frames);
        let heard = raw.outcome(stream);
        assert_eq!(heard.statuses.get(&stream), Some(&200), "{name}: {heard:?}");
        assert_eq!(origin.requests(), before + 1, "{name}");
    }
}

#[test]
fn malformed_requests_reach_no_server_and_end_their_stream_only() {
    let origin = Origin::start("a");
    let edge = start(&origin);
    let with = |name: &'static str, value: &'static [u8]| get_with(&[(name, value)]);
    let but = |name: &'static str, value: &'static [u8]| get_but(name, Some(value));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a name in capitals", with("X-Field", b"y")),
        ("connection", with("connection", b"close")),
        ("transfer-encoding", with("transfer-encoding", b"chunked")),
        ("keep-alive", with("keep-alive", b"5")),
        ("proxy-connection", with("proxy-connection", b"close")),
        ("upgrade", with("upgrade", b"h2c")),
        ("te: gzip", with("te", b"gzip")),
        ("an empty name", with("", b"y")),
        ("a space in a name", with("x y", b"z")),
        ("a colon in a name", with("x:y", b"z")),
        ("a line end in a name", with("x\r\ny", b"z")),
        ("a NUL in a name", with("x\0", b"y")),
        ("a line end in a value", with("x", b"y\r\nz: a")),
        ("an LF in a value", with("x", b"y\nz: a")),
        ("a NUL in a value", with("x", b"y\0")),
        ("no method", get_but(":method", None)),
        ("no scheme", get_but(":scheme", None)),
        ("no path", get_but(":path", None)),
        ("no host at all", get_but(":authority", None)),
        ("two methods", get_with(&[(":method", b"GET")])),
        ("two paths", get_with(&[(":path", b"/x")])),
        ("two authorities", get_with(&[(":authority", b"test")])),
        ("an unknown pseudo field", get_with(&[(":x", b"y")])),
        (
            "a pseudo field of responses",
            get_with(&[(":status", b"200")]),
        ),
        (
            "a pseudo field behind others",
            block(&[
                (":method", b"GET"),
                (":scheme", b"http"),
                ("x", b"y"),
                (":path", b"/"),
                (":authority", b"test"),
            ]),
        ),
        ("an empty path", but(":path", b"")),
        ("a path without a slash", but(":path", b"x")),
        ("a path of an asterisk", but(":path", b"*")),
        ("a space in a path", but(":path", b"/x y")),
        (
            "a line end in a path",
            but(":path", b"/ HTTP/1.1\r\nhost: other\r\n\r\nGET /hidden"),
        ),
        ("a path above the root", but(":path", b"/../x")),
        ("a NUL in a path", but(":path", b"/%00")),
        (
            "a space in a method",
            but(":method", b"GET /hidden HTTP/1.1\r\n\r\nGET"),
        ),
        ("an empty method", but(":method", b"")),
        ("CONNECT", but(":method", b"CONNECT")),
        ("a user in the authority", but(":authority", b"user@test")),
        ("a space in the authority", but(":authority", b"te st")),
        ("a slash in the authority", but(":authority", b"test/x")),
        (
            "a line end in the authority",
            but(":authority", b"test\r\nx: y"),
        ),
        ("an authority without a host", but(":authority", b":80")),
        ("another Host", with("host", b"other")),
        (
            "two Hosts",
            get_with(&[("host", b"test"), ("host", b"other")]),
        ),
        ("a length without a body", with("content-length", b"5")),
        ("a length that is no number", with("content-length", b"+0")),
        (
            "two lengths",
            get_with(&[("content-length", b"0"), ("content-length", b"1")]),
        ),
    ];
    for (name, block) in cases {
        let before = origin.requests();
        let mut raw = Raw::connect(&edge);
        raw.send(&request(1, &block));
        let heard = raw.outcome(1);
        assert!(heard.refuses(1), "{name}: {heard:?}");
        assert_eq!(origin.requests(), before, "{name}: {heard:?}");
        if heard.goaway.is_none() && !heard.ended {
            raw.send(&request(3, &get_with(&[])));
            let heard = raw.outcome(3);
            assert_eq!(
                heard.statuses.get(&3),
                Some(&200),
                "behind {name}: {heard:?}"
            );
        }
    }
    // A body that is not as long as was announced.
    for (length, body) in [("3", &b"hello"[..]), ("9", b"hello")] {
        let mut raw = Raw::connect(&edge);
        let post = block(&[
            (":method", b"POST"),
            (":scheme", b"http"),
            (":path", b"/echo"),
            (":authority", b"test"),
            ("content-length", length.as_bytes()),
        ]);
        raw.send(&frame(HEADERS, END_HEADERS, 1, &post));
        raw.send(&frame(DATA, END_STREAM, 1, body));
        let heard = raw.outcome(1);
        assert_ne!(heard.statuses.get(&1), Some(&200), "{length}: {heard:?}");
    }
}

#[test]
fn frames_that_break_the_protocol_end_their_connection() {
    let origin = Origin::start("a");
    let edge = start(&origin);
    let good = get_with(&[]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("HEADERS on stream 0", request(0, &good)),
        ("HEADERS on an even stream", request(2, &good)),
        ("DATA on an idle stream", frame(DATA, 0, 5, b"x")),
        (
            "RST_STREAM on an idle stream",
            frame(RST_STREAM, 0, 5, &[0; 4]),
        ),
        (
            "WINDOW_UPDATE on an idle stream",
            frame(WINDOW_UPDATE, 0, 5, &[0, 0, 0, 1]),
        ),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4])),
        (
            "RST_STREAM of three bytes",
            [request(1, &good), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        ),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[])),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        (
            "an answer to SETTINGS with bytes",
            frame(SETTINGS, 1, 0, &[0; 6]),
        ),
        (
            "a setting out of range",
            frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        ),
        (
            "a frame size out of range",
            frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
        ),
        ("PING of seven bytes", frame(PING, 0, 0, &[0; 7])),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8])),
        ("a window of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a window beyond its limit",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "PUSH_PROMISE of a client",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        ),
        (
            "CONTINUATION of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &good),
        ),
        (
            "something else within a head",
            [
                frame(HEADERS, END_STREAM, 1, &good),
                frame(PING, 0, 0, &[0; 8]),
            ]
            .concat(),
        ),
        (
            "another stream within a head",
            [
                frame(HEADERS, END_STREAM, 1, &good),
                frame(CONTINUATION, END_HEADERS, 3, &good),
            ]
            .concat(),
        ),
        (
            "a stream that is older",
            [request(5, &good), request(3, &good)].concat(),
        ),
        ("a frame of 20000 bytes", frame(DATA, 0, 1, &[0; 20_000])),
        (
            "padding longer than its frame",
            frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[200, 0, 0]),
        ),
        (
            "an index that is not there",
            request(1, &[0xff, 0xff, 0x7f]),
        ),
        ("an index of nothing", request(1, &[0x80])),
        (
            "fields that are cut off",
            request(1, &good[..good.len() - 3]),
        ),
        (
            "a table that is too large",
            request(1, &[&[0x3f, 0xff, 0xff, 0xff, 0x7f][..], &good].concat()),
        ),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        ("HTTP/1", b"GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_vec()),
    ];
    for (name, frames) in cases {
        let mut raw = Raw::connect(&edge);
        raw.send(&frames);
        // What is not answered at once is silent; then the idle time would end it. No such case is among these.
        let heard = raw.hear(|heard| heard.goaway.is_some() || heard.resets.contains_key(&1));
        assert!(
            heard.goaway.is_some() || heard.ended || heard.resets.contains_key(&1),
            "{name}: {heard:?}"
        );
        assert_eq!(
            Client::connect(&edge.front()).get("/").status,
            200,
            "after {name}"
        );
    }
}

#[test]
fn what_would_cost_much_is_bounded() {
    let origin = Origin::start("a");
    let edge = start(&origin);
    // A head without an end.
    let mut raw = Raw::connect(&edge);
    raw.send(&frame(HEADERS, END_STREAM, 1, &get_with(&[])));
    let piece = frame(CONTINUATION, 0, 1, &block(&[("x", b"y")]).repeat(100));
    let sent = (0..100_000).take_while(|_| raw.send(&piece)).count();
    assert!(sent < 100_000, "a head without an end is taken for ever");
    // A small block that stands for a large list: one long field in the table, then its number again and again.
    let mut raw = Raw::connect(&edge);
    let mut bomb = get_with(&[]);
    bomb.extend_from_slice(&[0x40, 1, b'x']);
    length(3000, &mut bomb);
    bomb.extend_from_slice(&[b'y'; 3000]);
    bomb.extend_from_slice(&[0xbe; 5000]);
    let before = origin.requests();
    raw.send(&request(1, &bomb));
    let heard = raw.outcome(1);
    assert!(heard.refuses(1), "{heard:?}");
    assert_eq!(origin.requests(), before);
    // More streams than are allowed at once: the surplus is refused, the others are served.
    let mut raw = Raw::connect(&edge);
    let waiting = get_but(":path", Some(b"/wait"));
    for number in 0..120 {
        raw.send(&request(number * 2 + 1, &waiting));
    }
    let heard = raw.hear(|heard| heard.resets.len() >= 20 || heard.goaway.is_some());
    assert!(
        heard.resets.len() >= 20 || heard.goaway.is_some() || heard.ended,
        "{heard:?}"
    );
    origin.release();
    // Streams that are opened and reset at once.
    let mut raw = Raw::connect(&edge);
    let before = origin.requests();
    let mut number = 0;
    while number < 20_000 {
        let stream = number * 2 + 1;
        let storm = [
            request(stream, &get_with(&[])),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat();
        if !raw.send(&storm) {
            break;
        }
        number += 1;
    }
    // All of it may fit into the sockets' buffers, so who minds says so afterwards.
    let heard = raw.hear(|heard| heard.goaway.is_some());
    assert!(
        heard.goaway.is_some() || heard.ended,
        "nobody minds a storm of resets"
    );
    assert!(
        origin.requests() - before < 2000,
        "{} requests came through",
        origin.requests() - before
    );
    assert_eq!(Client::connect(&edge.front()).get("/").status, 200);
}

#[test]
fn a_client_that_takes_nothing_is_cut() {
    let origin = Origin::start("a");
    let edge = start(&origin);
    let mut raw = Raw::connect(&edge);
    raw.send(&request(1, &get_but(":path", Some(b"/big"))));
    // The windows of 64 KiB are never opened: a megabyte cannot come.
    let heard = raw.hear(|heard| heard.resets.contains_key(&1) || heard.goaway.is_some());
    assert!(heard.bodies[&1] < 100_000, "{heard:?}");
    assert!(heard.resets.contains_key(&1) || heard.ended, "{heard:?}");
}
