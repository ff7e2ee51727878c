//! The bytes that are sent, and what must come of them at edge. Each case is followed by a last request on the same connection, so that what
//! one parser leaves over and another takes up shows as an answer too many, too few, or as another request at the origin.

/// What follows every case.
pub(crate) const LAST: &str = "GET /last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/// What must come of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is passed on as these requests, each of which is answered with 200; then the last one.
    Passes(Vec<String>),
    /// It is answered with this status, nothing is passed on, and the connection ends.
    Refused(u16),
    /// It is answered with this status, nothing is passed on, and the connection goes on with the last one.
    Answered(u16),
    /// It is passed on as these requests, and the connection ends with their answers.
    Ends(Vec<String>),
}

/// Some bytes.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Expected,
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    request_lines(&mut cases);
    targets(&mut cases);
    hosts(&mut cases);
    fields(&mut cases);
    lengths(&mut cases);
    codings(&mut cases);
    chunks(&mut cases);
    connections(&mut cases);
    limits(&mut cases);
    cases
}

fn add(cases: &mut Vec<Case>, name: &str, bytes: impl AsRef<[u8]>, expected: Expected) {
    let name = name.escape_debug().to_string();
    cases.push(Case {
        name,
        bytes: bytes.as_ref().to_vec(),
        expected,
    });
}

fn passes(requests: &[&str]) -> Expected {
    Expected::Passes(requests.iter().map(|one| (*one).to_owned()).collect())
}

fn ends(requests: &[&str]) -> Expected {
    Expected::Ends(requests.iter().map(|one| (*one).to_owned()).collect())
}

const BAD: Expected = Expected::Refused(400);

/// Bytes that no token holds, beside those that end one anyway.
const SEPARATORS: &[u8] = b"\"(),/;<=>?@[\\]{}";
const CONTROLS: [u8; 12] = [0, 1, 7, 8, 9, 11, 12, 14, 27, 31, 127, 128];

fn request_lines(cases: &mut Vec<Case>) {
    for method in [
        "GET",
        "POST",
        "PUT",
        "DELETE",
        "PATCH",
        "OPTIONS",
        "PROPFIND",
        "M-SEARCH",
        "get",
        "A!#$%&'*+-.^_`|~1",
    ] {
        let bytes = format!("{method} /c HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        let line = format!("{method} /c");
        add(cases, &format!("method {method}"), bytes, passes(&[&line]));
    }
    for byte in SEPARATORS.iter().chain(&CONTROLS).chain(b":") {
        let bytes = [b"G", &[*byte][..], b"T /c HTTP/1.1\r\nHost: test\r\n\r\n"].concat();
        add(cases, &format!("method with byte {byte:#04x}"), bytes, BAD);
    }
    let lines: [(&str, &str, Expected); 27] = [
        ("two spaces before the target", "GET  /c HTTP/1.1", BAD),
        ("two spaces before the version", "GET /c  HTTP/1.1", BAD),
        ("a space first", " GET /c HTTP/1.1", BAD),
        ("a space last", "GET /c HTTP/1.1 ", BAD),
        ("tabs for spaces", "GET\t/c\tHTTP/1.1", BAD),
        ("without a version", "GET /c", BAD),
        ("without a target", "GET HTTP/1.1", BAD),
        ("an empty target", "GET  HTTP/1.1", BAD),
        ("a word too many", "GET /c HTTP/1.1 x", BAD),
        ("a space in the target", "GET /c d HTTP/1.1", BAD),
        ("one word", "GET", BAD),
        ("version 0.9", "GET /c HTTP/0.9", Expected::Refused(505)),
        ("version 1.2", "GET /c HTTP/1.2", Expected::Refused(505)),
        ("version 2.0", "GET /c HTTP/2.0", Expected::Refused(505)),
        ("version 9.9", "GET /c HTTP/9.9", Expected::Refused(505)),
        ("version 1", "GET /c HTTP/1", BAD),
        ("version 1.", "GET /c HTTP/1.", BAD),
        ("version 11", "GET /c HTTP/11", BAD),
        ("version 1.10", "GET /c HTTP/1.10", BAD),
        ("version 01.1", "GET /c HTTP/01.1", BAD),
        ("version -1.1", "GET /c HTTP/-1.1", BAD),
        ("version in small letters", "GET /c http/1.1", BAD),
        ("another protocol", "GET /c HTTPS/1.1", BAD),
        ("a shortened protocol", "GET /c HTP/1.1", BAD),
        ("a space in the version", "GET /c HTTP/ 1.1", BAD),
        ("a NUL in the version", "GET /c HTTP/1.1\0", BAD),
        ("a CR inside", "GET /c\rX HTTP/1.1", BAD),
    ];
    for (name, line, expected) in lines {
        let bytes = format!("{line}\r\nHost: test\r\n\r\n");
        add(cases, name, bytes, expected);
    }
    let starts: [(&str, &str, Expected); 8] = [
        (
            "an empty line first",
            "\r\nGET /c HTTP/1.1\r\nHost: test\r\n\r\n",
            passes(&["GET /c"]),
        ),
        (
            "two empty lines first",
            "\r\n\r\nGET /c HTTP/1.1\r\nHost: test\r\n\r\n",
            BAD,
        ),
        (
            "an LF first",
            "\nGET /c HTTP/1.1\r\nHost: test\r\n\r\n",
            BAD,
        ),
        ("line ends of LF", "GET /c HTTP/1.1\nHost: test\n\n", BAD),
        (
            "a request line that ends with LF",
            "GET /c HTTP/1.1\nHost: test\r\n\r\n",
            BAD,
        ),
        (
            "a last line that ends with LF",
            "GET /c HTTP/1.1\r\nHost: test\r\n\n",
            BAD,
        ),
        ("line ends of CR", "GET /c HTTP/1.1\rHost: test\r\r", BAD),
        ("a handshake of TLS", "\x16\x03\x01\x02\0\x01", BAD),
    ];
    for (name, bytes, expected) in starts {
        add(cases, name, bytes, expected);
    }
}

fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}

fn targets(cases: &mut Vec<Case>) {
    let as_it_is = [
        "/",
        "/c",
        "/c?",
        "/c?a=b&c=d",
        "/c?a=%20",
        "/%41",
        "/%7e",
        "/c//d",
        "/c/./d",
        "/c/../d",
        "/c/",
        "/c;p=1/d",
        "/-._~!$&'()*+,;=:@",
        "/c?/?:@",
        "/c%20d",
        "/%C3%A9",
        "/c?x=%00",
        "/c?http://other/",
    ];
    for text in as_it_is {
        add(
            cases,
            &format!("target {text}"),
            target(text),
            passes(&[&format!("GET {text}")]),
        );
    }
    for text in [
        "/%",
        "/%4",
        "/%zz",
        "/%00",
        "/c%00d",
        "/..",
        "/../c",
        "/c/../../d",
        "/%2e%2e/c",
    ] {
        add(
            cases,
            &format!("path {text}"),
            target(text),
            Expected::Answered(400),
        );
    }
    let refused = [
        "c",
        "#",
        "/c#d",
        "/c?a#b",
        "http:/c",
        "http:",
        "://test/c",
        "ftp://test/c",
        "http://",
        "http:///c",
        "http://user@test/c",
        "http://te st/c",
        "http://other/c",
        "http://test:81/c",
        "http://[::1/c",
        "*",
        "test:80",
    ];
    for text in refused {
        add(cases, &format!("target {text}"), target(text), BAD);
    }
    for byte in CONTROLS.iter().chain(&[0xc3, 0xff]) {
        let bytes = [b"GET /", &[*byte][..], b" HTTP/1.1\r\nHost: test\r\n\r\n"].concat();
        add(cases, &format!("target with byte {byte:#04x}"), bytes, BAD);
    }
    // No URI holds these (RFC 3986), but browsers send some of them, and servers take them.
    for byte in "\"\\^{|}".chars() {
        let text = format!("/{byte}");
        add(
            cases,
            &format!("target with {byte}"),
            target(&text),
            passes(&[&format!("GET {text}")]),
        );
    }
    for byte in "<>`".chars() {
        add(
            cases,
            &format!("target with {byte}"),
            target(&format!("/{byte}")),
            BAD,
        );
    }
    let absolute = [
        ("http://test/c", "/c"),
        ("HTTP://test/c", "/c"),
        ("http://test", "/"),
        ("http://test?a", "/?a"),
        ("https://test/c", "/c"),
    ];
    for (text, path) in absolute {
        let line = format!("GET {path}");
        add(
            cases,
            &format!("absolute target {text}"),
            target(text),
            passes(&[&line]),
        );
    }
    for text in ["http://test:80/c", "http://TEST/c"] {
        add(cases, &format!("absolute target {text}"), target(text), BAD);
    }
    add(
        cases,
        "CONNECT",
        "CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n",
        Expected::Refused(405),
    );
    add(
        cases,
        "CONNECT with a path",
        "CONNECT /c HTTP/1.1\r\nHost: test\r\n\r\n",
        BAD,
    );
    add(
        cases,
        "CONNECT without a port",
        "CONNECT test HTTP/1.1\r\nHost: test\r\n\r\n",
        BAD,
    );
    add(
        cases,
        "OPTIONS *",
        "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n",
        passes(&["OPTIONS *"]),
    );
}

fn with(fields: &str) -> String {
    format!("GET /c HTTP/1.1\r\n{fields}\r\n\r\n")
}

fn hosts(cases: &mut Vec<Case>) {
    for host in [
        "test",
        "TEST",
        "test:80",
        "test:8080",
        "test.",
        "www.test.example",
        "a-b.test",
        "127.0.0.1",
        "[::1]",
        "[2001:db8::1]:80",
        "te_st",
        "test:",
        "1.2.3",
    ] {
        add(
            cases,
            &format!("Host: {host}"),
            with(&format!("Host: {host}")),
            passes(&["GET /c"]),
        );
    }
    for host in [
        "",
        " ",
        "te st",
        "test/",
        "/test",
        "test?",
        "test#",
        "user@test",
        "test:80:80",
        "test:99999",
        "test:-1",
        "test:+80",
        "test:abc",
        "test: 80",
        "::1",
        "[::1",
        "[::zz]",
        "[::1]x",
        "te,st",
        "test,other",
        "te\"st",
        "te<st>",
        "te\\st",
        "te^st",
        "te`st",
        "te{st",
        "te|st",
        "te%00st",
        "te\u{7f}st",
        "tést",
        "..",
        ".test",
        "te..st",
        ":80",
        "@",
    ] {
        add(
            cases,
            &format!("Host: {host}"),
            with(&format!("Host: {host}")),
            BAD,
        );
    }
    for byte in [0, 1, 9, 11, 12, 31] {
        let bytes = [b"GET /c HTTP/1.1\r\nHost: te", &[byte][..], b"st\r\n\r\n"].concat();
        add(cases, &format!("Host with byte {byte:#04x}"), bytes, BAD);
    }
    add(cases, "no Host", with("X: y"), BAD);
    add(cases, "two Hosts", with("Host: test\r\nHost: other"), BAD);
    add(
        cases,
        "one Host twice",
        with("Host: test\r\nHost: test"),
        BAD,
    );
    add(cases, "a folded Host", with("Host: te\r\n st"), BAD);
    add(
        cases,
        "a space before the colon of Host",
        with("Host : test"),
        BAD,
    );
    add(
        cases,
        "no Host in HTTP/1.0",
        "GET /c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        passes(&["GET /c"]),
    );
    add(
        cases,
        "a bad Host in HTTP/1.0",
        "GET /c HTTP/1.0\r\nHost: te st\r\nConnection: keep-alive\r\n\r\n",
        BAD,
    );
}

fn fields(cases: &mut Vec<Case>) {
    let field = |bytes: &[u8]| [b"GET /c HTTP/1.1\r\nHost: test\r\n", bytes, b"\r\n\r\n"].concat();
    for byte in SEPARATORS.iter().chain(&CONTROLS).chain(b" ") {
        let bytes = field(&[b"X", &[*byte][..], b"Y: z"].concat());
        add(
            cases,
            &format!("field name with byte {byte:#04x}"),
            bytes,
            BAD,
        );
    }
    for byte in [0, 1, 7, 8, 11, 12, 14, 27, 31, 127] {
        let bytes = field(&[b"X: a", &[byte][..], b"b"].concat());
        add(
            cases,
            &format!("field value with byte {byte:#04x}"),
            bytes,
            BAD,
        );
    }
    for byte in [9, 32, 128, 255] {
        let bytes = field(&[b"X: a", &[byte][..], b"b"].concat());
        add(
            cases,
            &format!("field value with byte {byte:#04x}"),
            bytes,
            passes(&["GET /c"]),
        );
    }
    let rows: [(&str, &[u8], Expected); 14] = [
        ("an empty value", b"X:", passes(&["GET /c"])),
        ("no space after the colon", b"X:y", passes(&["GET /c"])),
        ("blanks around a value", b"X: \t y \t", passes(&["GET /c"])),
        (
            "a name of all token bytes",
            b"!#$%&'*+-.^_`|~09azAZ: y",
            passes(&["GET /c"]),
        ),
        ("a field without a colon", b"X", BAD),
        ("a field without a name", b": y", BAD),
        ("a space before the colon", b"X : y", BAD),
        ("a tab before the colon", b"X\t: y", BAD),
        ("a folded field", b"X: y\r\n z", BAD),
        ("a field folded with a tab", b"X: y\r\n\tz", BAD),
        ("a field folded to nothing", b"X: y\r\n ", BAD),
        ("a field that ends with LF", b"X: y\nZ: a", BAD),
        ("a CR in a value", b"X: y\rZ: a", BAD),
        ("a field that ends with CR CR LF", b"X: y\r\r\nZ: a", BAD),
    ];
    for (name, bytes, expected) in rows {
        add(cases, name, field(bytes), expected);
    }
    let blank = "GET /c HTTP/1.1\r\n Host: test\r\n\r\n";
    add(cases, "a blank before the first field", blank, BAD);
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /c HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n{body}")
}

fn lengths(cases: &mut Vec<Case>) {
    let hello = passes(&["POST /c hello"]);
    for length in ["5", " 5", "5 ", "\t5", "05", "0000000005"] {
        let bytes = post(&format!("Content-Length: {length}"), "hello");
        add(
            cases,
            &format!("Content-Length: {length}"),
            bytes,
            hello.clone(),
        );
    }
    for length in [
        "",
        "+5",
        "-5",
        "5,5",
        "5, 5",
        "5,6",
        "5;",
        "0x5",
        "5 5",
        "5.0",
        "1e1",
        "five",
        "5\u{b}",
        "\u{c}5",
        "5\0",
        "99999999999999999999",
        "18446744073709551616",
        "５",
    ] {
        let bytes = post(&format!("Content-Length: {length}"), "hello");
        add(cases, &format!("Content-Length: {length}"), bytes, BAD);
    }
    add(
        cases,
        "a length twice",
        post("Content-Length: 5\r\nContent-Length: 5", "hello"),
        BAD,
    );
    add(
        cases,
        "two lengths",
        post("Content-Length: 5\r\nContent-Length: 6", "hello"),
        BAD,
    );
    add(
        cases,
        "a length and a folded one",
        post("Content-Length: 5\r\n 6", "hello"),
        BAD,
    );
    add(
        cases,
        "a space before the colon of a length",
        post("Content-Length : 5", "hello"),
        BAD,
    );
    add(
        cases,
        "a length with an underscore",
        post("Content_Length: 6\r\nContent-Length: 5", "hello"),
        hello,
    );
    add(
        cases,
        "a length of nothing",
        post("Content-Length: 0", ""),
        passes(&["POST /c"]),
    );
    add(cases, "no length", post("X: y", ""), passes(&["POST /c"]));
    let get = "GET /c HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello";
    add(cases, "GET with a body", get, passes(&["GET /c hello"]));
    let head = "POST /c HTTP/1.0\r\nHost: test\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello";
    add(
        cases,
        "a body in HTTP/1.0",
        head,
        passes(&["POST /c hello"]),
    );
    let hidden = format!(
        "GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n{}",
        "x".repeat(0)
    );
    let bytes = post(&format!("Content-Length: {}", hidden.len()), &hidden);
    add(
        cases,
        "a request as a body",
        bytes,
        passes(&[&format!("POST /c {}", hidden.trim_end())]),
    );
}

fn codings(cases: &mut Vec<Case>) {
    const CHUNKS: &str = "5\r\nhello\r\n0\r\n\r\n";
    let hello = passes(&["POST /c hello"]);
    for coding in ["chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked"] {
        let bytes = post(&format!("Transfer-Encoding: {coding}"), CHUNKS);
        add(
            cases,
            &format!("Transfer-Encoding: {coding}"),
            bytes,
            hello.clone(),
        );
    }
    for coding in [
        "",
        "identity",
        "gzip",
        "cow",
        "xchunked",
        "chunkedx",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "chunked;q=1",
        "\"chunked\"",
        "chun ked",
        "chunked\0",
        "\u{b}chunked",
        "chunked\u{b}",
        "chunKed\u{7f}",
        "ch\u{fc}nked",
    ] {
        let bytes = post(&format!("Transfer-Encoding: {coding}"), CHUNKS);
        add(cases, &format!("Transfer-Encoding: {coding}"), bytes, BAD);
    }
    let rows = [
        (
            "a length, then chunks",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        (
            "chunks, then a length",
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
        ),
        (
            "chunks, then a length of nothing",
            "Transfer-Encoding: chunked\r\nContent-Length: 0",
        ),
        (
            "chunked twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ),
        (
            "chunked, then identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        ),
        (
            "identity, then chunked",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        ),
        (
            "a space before the colon of a coding",
            "Transfer-Encoding : chunked",
        ),
        ("a folded coding", "Transfer-Encoding:\r\n chunked"),
        (
            "a coding that is folded in",
            "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 5",
        ),
        (
            "a coding behind a CR",
            "X: y\rTransfer-Encoding: chunked\r\nContent-Length: 5",
        ),
        (
            "a coding behind an LF",
            "X: y\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        ),
    ];
    for (name, fields) in rows {
        add(cases, name, post(fields, CHUNKS), BAD);
    }
    let bytes = post("Transfer_Encoding: chunked\r\nContent-Length: 5", "hello");
    add(cases, "a coding with an underscore", bytes, hello.clone());
    let old = "POST /c HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    add(cases, "chunks in HTTP/1.0", old, BAD);
    let get = "GET /c HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    add(cases, "GET with chunks", get, passes(&["GET /c hello"]));
    let hidden = "GET /hidden HTTP/1.1\r\nHost: test\r\n\r\n";
    let both = post(
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        &format!("0\r\n\r\n{hidden}"),
    );
    add(
        cases,
        "a request behind chunks that a length hides",
        both,
        BAD,
    );
}

fn chunks(cases: &mut Vec<Case>) {
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    let hello = passes(&["POST /c hello"]);
    let good: [(&str, &str); 13] = [
        ("one chunk", "5\r\nhello\r\n0\r\n\r\n"),
        ("two chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        (
            "a chunk for each byte",
            "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n",
        ),
        ("a size with zeros", "0005\r\nhello\r\n0\r\n\r\n"),
        ("a last chunk of zeros", "5\r\nhello\r\n000\r\n\r\n"),
        ("an extension", "5;a\r\nhello\r\n0\r\n\r\n"),
        ("an extension with a value", "5;a=b\r\nhello\r\n0\r\n\r\n"),
        (
            "an extension in quotes",
            "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "an extension of the last chunk",
            "5\r\nhello\r\n0;a\r\n\r\n",
        ),
        ("two extensions", "5;a;b=c\r\nhello\r\n0\r\n\r\n"),
        ("a trailer", "5\r\nhello\r\n0\r\nX: y\r\n\r\n"),
        ("two trailers", "5\r\nhello\r\n0\r\nX: y\r\nZ: a\r\n\r\n"),
        ("a trailer without a value", "5\r\nhello\r\n0\r\nX:\r\n\r\n"),
    ];
    for (name, body) in good {
        add(cases, name, chunked(body), hello.clone());
    }
    let bad: [(&str, &str); 33] = [
        ("an empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a minus", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size that is no number", "g\r\nhello\r\n0\r\n\r\n"),
        ("a size with a letter behind", "5g\r\nhello\r\n0\r\n\r\n"),
        ("a blank before a size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("a blank after a size", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a tab after a size", "5\t\r\nhello\r\n0\r\n\r\n"),
        ("a comma after a size", "5,5\r\nhello\r\n0\r\n\r\n"),
        ("a NUL after a size", "5\0\r\nhello\r\n0\r\n\r\n"),
        ("a size that ends with LF", "5\nhello\r\n0\r\n\r\n"),
        ("a size that ends with CR", "5\rhello\r\n0\r\n\r\n"),
        (
            "a size of 17 digits",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "a size of 20 zeros and a five",
            "000000000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
        ("an extension that ends with LF", "5;a\nhello\r\n0\r\n\r\n"),
        ("an LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("a CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("a NUL in an extension", "5;a\0\r\nhello\r\n0\r\n\r\n"),
        ("data without an end", "5\r\nhelloX\r\n0\r\n\r\n"),
        ("data that is longer", "5\r\nhello!\r\n0\r\n\r\n"),
        ("data that ends with LF", "5\r\nhello\n0\r\n\r\n"),
        ("data that ends with CR", "5\r\nhello\r0\r\n\r\n"),
        ("data that ends with CR CR LF", "5\r\nhello\r\r\n0\r\n\r\n"),
        ("a last chunk that ends with LF", "5\r\nhello\r\n0\n\r\n"),
        ("an end of LF", "5\r\nhello\r\n0\r\n\n"),
        (
            "a trailer that ends with LF",
            "5\r\nhello\r\n0\r\nX: y\n\r\n",
        ),
        ("a trailer without a colon", "5\r\nhello\r\n0\r\nX\r\n\r\n"),
        ("a folded trailer", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"),
        (
            "a space before the colon of a trailer",
            "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
        ),
        (
            "a length as a trailer",
            "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            "a coding as a trailer",
            "5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "a Host as a trailer",
            "5\r\nhello\r\n0\r\nHost: other\r\n\r\n",
        ),
    ];
    for (name, body) in bad {
        add(cases, name, chunked(body), BAD);
    }
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(4000));
    add(cases, "an extension of 4000 bytes", chunked(&long), BAD);
    let large = format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "a".repeat(20_000));
    add(
        cases,
        "a trailer of 20000 bytes",
        chunked(&large),
        Expected::Refused(431),
    );
}

fn connections(cases: &mut Vec<Case>) {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    for count in [2, 3, 10, 50] {
        let bytes: String = (0..count)
            .map(|number| get(&format!("/{number}")))
            .collect();
        let lines: Vec<String> = (0..count).map(|number| format!("GET /{number}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        add(
            cases,
            &format!("{count} requests at once"),
            bytes,
            passes(&lines),
        );
    }
    let mixed = [
        post("Content-Length: 5", "hello"),
        get("/d"),
        post("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
        get("/e"),
    ]
    .concat();
    add(
        cases,
        "bodies between requests",
        mixed,
        passes(&["POST /c hello", "GET /d", "POST /c abc", "GET /e"]),
    );
    let bad = [get("/c"), "GET /d HTTP/1.1\r\n\r\n".to_owned()].concat();
    cases.push(Case {
        name: "a bad request behind a good one".to_owned(),
        bytes: bad.into_bytes(),
        expected: Expected::Ends(vec!["GET /c".to_owned(), "400".to_owned()]),
    });
    let one = "GET /c HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    add(cases, "Connection: close", one, ends(&["GET /c"]));
    let one = "GET /c HTTP/1.1\r\nHost: test\r\nConnection: x, CLOSE\r\n\r\n";
    add(cases, "Connection: close in a list", one, ends(&["GET /c"]));
    let one = "GET /c HTTP/1.0\r\nHost: test\r\n\r\n";
    add(cases, "HTTP/1.0", one, ends(&["GET /c"]));
    let one = "GET /c HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n";
    add(cases, "HTTP/1.0 that is kept", one, passes(&["GET /c"]));
    let one = "GET /c HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    add(cases, "an upgrade to h2c", one, passes(&["GET /c"]));
    let one = "GET /c HTTP/1.1\r\nHost: test\r\nConnection: X-Named\r\nX-Named: y\r\n\r\n";
    add(
        cases,
        "a field that Connection names",
        one,
        passes(&["GET /c"]),
    );
    let one = post("Content-Length: 5\r\nExpect: 100-continue", "hello");
    add(
        cases,
        "Expect: 100-continue",
        one,
        passes(&["POST /c hello"]),
    );
    let one = "GET /c HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n";
    add(cases, "TE: trailers", one, passes(&["GET /c"]));
}

fn limits(cases: &mut Vec<Case>) {
    let get =
        |target: &str, fields: &str| format!("GET {target} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
    let fields = |count: usize| -> String {
        (0..count)
            .map(|number| format!("X-{number}: y\r\n"))
            .collect()
    };
    add(
        cases,
        "100 fields",
        get("/c", &fields(99)),
        passes(&["GET /c"]),
    );
    add(
        cases,
        "101 fields",
        get("/c", &fields(100)),
        Expected::Refused(431),
    );
    let path = format!("/{}", "x".repeat(8000));
    add(
        cases,
        "a target of 8001 bytes",
        get(&path, ""),
        passes(&[&format!("GET {path}")]),
    );
    let path = format!("/{}", "x".repeat(9000));
    add(
        cases,
        "a target of 9001 bytes",
        get(&path, ""),
        Expected::Refused(414),
    );
    let large = |size: usize| format!("X: {}\r\n", "y".repeat(size));
    add(
        cases,
        "a field of 7000 bytes",
        get("/c", &large(7000)),
        passes(&["GET /c"]),
    );
    add(
        cases,
        "a field of 30000 bytes",
        get("/c", &large(30_000)),
        passes(&["GET /c"]),
    );
    add(
        cases,
        "a field of 40000 bytes",
        get("/c", &large(40_000)),
        Expected::Refused(431),
    );
    add(
        cases,
        "four fields of 7000 bytes",
        get("/c", &large(7000).repeat(4)),
        passes(&["GET /c"]),
    );
    add(
        cases,
        "six fields of 7000 bytes",
        get("/c", &large(7000).repeat(6)),
        Expected::Refused(431),
    );
    let method = format!("{} /c HTTP/1.1\r\nHost: test\r\n\r\n", "G".repeat(100));
    add(cases, "a method of 100 bytes", method, BAD);
    let body = post("Content-Length: 10485761", "");
    cases.push(Case {
        name: "a body that is announced too large".to_owned(),
        bytes: body.into_bytes(),
        expected: Expected::Refused(413),
    });
}
