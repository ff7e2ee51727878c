use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

use conf::platform::{LogEscape, LogFormat, LogPiece, LogVariable};
use http::HeaderValue;
use http::header::{ETAG, REFERER, USER_AGENT};

use super::*;

const TIMES: Times<'static> = Times {
    local: "23/Nov/2026:07:34:48 +0000",
    iso8601: "2026-11-23T07:34:48+00:00",
};

static SERVER: Endpoint = Endpoint::Ip(SocketAddr::V4(SocketAddrV4::new(
    Ipv4Addr::new(192, 0, 2, 9),
    443,
)));

fn headers(fields: &[(http::HeaderName, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn line<'a>(attempts: &'a [Attempt], fields: &'a HeaderMap) -> Line<'a> {
    Line {
        client: "::ffff:192.0.2.1".parse::<IpAddr>().unwrap().into(),
        peer: Peer::Ip("[::ffff:192.0.2.8]:5000".parse().unwrap()),
        server: &SERVER,
        tls: Some(Tls {
            version: "TLSv1.3",
            server_name: "shop.example",
            resumed: true,
            client: Some(b"abc"),
        }),
        request: b"GET /%61/../a\"b?q=1?2 HTTP/1.1",
        host: b"Shop.example:443",
        fields: Some(fields),
        sent: Some(fields),
        request_id: b"0af7",
        status: 200,
        bytes: 12,
        duration: Duration::from_micros(12_345),
        attempts,
        site: "*.example",
        route: "*.example/",
        upstream: if attempts.is_empty() { "" } else { "app" },
        note: "",
    }
}

fn attempts() -> Vec<Attempt> {
    vec![
        Attempt {
            address: Endpoint::Unix("/run/app.sock".into()),
            status: 0,
            time: Duration::from_millis(1),
        },
        Attempt {
            address: SocketAddr::from(([10, 0, 0, 2], 80)).into(),
            status: 200,
            time: Duration::from_millis(2),
        },
    ]
}

/// The value alone.
fn value(line: &Line<'_>, variable: LogVariable, escape: LogEscape) -> String {
    let format = LogFormat {
        pieces: vec![LogPiece::Variable(variable)],
        escape,
    };
    let mut out = Vec::new();
    line.write(TIMES, &AccessLogFormat::Custom(format), &mut out);
    assert_eq!(out.pop(), Some(b'\n'));
    String::from_utf8(out).unwrap()
}

#[test]
fn combined_starts_as_nginx_does_and_cannot_be_forged() {
    let (attempts, fields) = (attempts(), headers(&[(USER_AGENT, b"curl\t\xff")]));
    let mut out = Vec::new();
    line(&attempts, &fields).write(TIMES, &AccessLogFormat::Combined, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "192.0.2.1 - - [23/Nov/2026:07:34:48 +0000] \"GET /%61/../a\\x22b?q=1?2 HTTP/1.1\" 200 12 \"-\" \"curl\\x09\\xFF\" \
         host=\"Shop.example:443\" time=0.012 upstream=app server=unix:/run/app.sock,10.0.0.2:80 server_status=-,200 server_time=0.001,0.002\n"
    );
}

#[test]
fn json_is_one_object_per_line() {
    let (attempts, fields) = (attempts(), HeaderMap::new());
    let mut out = Vec::new();
    line(&attempts, &fields).write(TIMES, &AccessLogFormat::Json, &mut out);
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    for (key, wanted) in [
        ("status", serde_json::json!(200)),
        ("client", "192.0.2.1".into()),
        ("peer", "192.0.2.8:5000".into()),
        ("http_version", "HTTP/1.1".into()),
        ("tls_version", "TLSv1.3".into()),
        ("tls_server_name", "shop.example".into()),
        ("request_id", "0af7".into()),
        ("route", "*.example/".into()),
        ("request", "GET /%61/../a\"b?q=1?2 HTTP/1.1".into()),
    ] {
        assert_eq!(value[key], wanted, "{key}");
    }
    assert_eq!(value["servers"][1]["address"], "10.0.0.2:80");
    assert_eq!(value["servers"][0]["time"], 0.001);
}

#[test]
fn every_variable_has_its_value() {
    use LogVariable as V;
    let attempts = attempts();
    let fields = headers(&[(REFERER, b"a"), (REFERER, b"b"), (ETAG, b"W/\"1\"")]);
    let line = Line {
        note: "cut",
        ..line(&attempts, &fields)
    };
    let table = [
        (V::RemoteAddr, "192.0.2.1"),
        (V::RealipRemoteAddr, "192.0.2.8"),
        (V::RemotePort, "5000"),
        (V::RemoteUser, "-"),
        (V::TimeLocal, "23/Nov/2026:07:34:48 +0000"),
        (V::TimeIso8601, "2026-11-23T07:34:48+00:00"),
        (V::Request, "GET /%61/../a\\x22b?q=1?2 HTTP/1.1"),
        (V::RequestMethod, "GET"),
        (V::RequestUri, "/%61/../a\\x22b?q=1?2"),
        (V::Uri, "/a%22b"),
        (V::Args, "q=1?2"),
        (V::ServerProtocol, "HTTP/1.1"),
        (V::Status, "200"),
        (V::BodyBytesSent, "12"),
        (V::Host, "shop.example"),
        (V::RequestTime, "0.012"),
        (V::RequestId, "0af7"),
        (V::Scheme, "https"),
        (V::ServerAddr, "192.0.2.9"),
        (V::ServerPort, "443"),
        (V::SslProtocol, "TLSv1.3"),
        (V::SslServerName, "shop.example"),
        (V::SslSessionReused, "r"),
        // Names and number of what is no certificate are empty; `tls/client.rs` tests those of one.
        (V::SslClientVerify, "SUCCESS"),
        (V::SslClientSDn, "-"),
        (V::SslClientIDn, "-"),
        (V::SslClientSerial, "-"),
        (
            V::SslClientFingerprint,
            "a9993e364706816aba3e25717850c26c9cd0d89d",
        ),
        (
            V::SslClientEscapedCert,
            "-----BEGIN%20CERTIFICATE-----%0AYWJj%0A-----END%20CERTIFICATE-----%0A",
        ),
        (V::UpstreamAddr, "unix:/run/app.sock, 10.0.0.2:80"),
        (V::UpstreamStatus, "-, 200"),
        (V::UpstreamResponseTime, "0.001, 0.002"),
        (V::Upstream, "app"),
        (V::Site, "*.example"),
        (V::Route, "*.example/"),
        (V::Note, "cut"),
    ];
    assert_eq!(table.len(), V::NAMES.len(), "a variable is not tested");
    for (variable, wanted) in table {
        let name = format!("{variable:?}");
        assert_eq!(value(&line, variable, LogEscape::Default), wanted, "{name}");
    }
    for (variable, wanted) in [
        (V::Http("referer".to_owned()), "a, b"),
        (V::Http("x-none".to_owned()), "-"),
        (V::SentHttp("etag".to_owned()), "W/\\x221\\x22"),
    ] {
        assert_eq!(value(&line, variable, LogEscape::Default), wanted);
    }
}

#[test]
fn what_is_not_there_is_a_dash_or_nothing_in_json() {
    use LogVariable as V;
    let fields = HeaderMap::new();
    let line = Line {
        tls: None,
        request: b"\x16\x03",
        host: b"",
        fields: None,
        sent: None,
        request_id: b"",
        site: "",
        route: "",
        ..line(&[], &fields)
    };
    for variable in [
        V::RemoteUser,
        V::RequestMethod,
        V::RequestUri,
        V::Uri,
        V::Args,
        V::ServerProtocol,
        V::Host,
        V::RequestId,
        V::SslProtocol,
        V::SslServerName,
        V::SslSessionReused,
        V::UpstreamAddr,
        V::UpstreamStatus,
        V::UpstreamResponseTime,
        V::Upstream,
        V::Site,
        V::Route,
        V::Note,
        V::Http("host".to_owned()),
        V::SentHttp("date".to_owned()),
    ] {
        assert_eq!(value(&line, variable.clone(), LogEscape::Default), "-");
        assert_eq!(value(&line, variable, LogEscape::Json), "");
    }
    assert_eq!(value(&line, V::Scheme, LogEscape::Default), "http");
}

#[test]
fn the_path_of_an_absolute_target_begins_behind_its_host() {
    let fields = HeaderMap::new();
    for (request, path) in [
        (&b"GET http://a.example/b/../c?d HTTP/1.1"[..], "/c"),
        (b"GET http://a.example HTTP/1.1", "/"),
        (b"GET /go/http://b/ HTTP/1.1", "/go/http:/b/"),
        (b"OPTIONS * HTTP/1.1", "/"),
        (b"GET /%00 HTTP/1.1", "/%00"),
    ] {
        let line = Line {
            request,
            ..line(&[], &fields)
        };
        assert_eq!(value(&line, LogVariable::Uri, LogEscape::Default), path);
    }
}

/// Every byte in every place that a client fills: one line, and neither quote nor field ends early.
#[test]
fn no_bytes_forge_a_line() {
    use LogVariable as V;
    let hostile: Vec<u8> = (0..=255).chain(*b"\" 200 0\n\\\" \xc3\xa9\xc3").collect();
    let in_field: Vec<u8> = hostile
        .iter()
        .copied()
        .filter(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f))
        .collect();
    let request = [b"GET /", hostile.as_slice(), b"?", &hostile, b" HTTP/1.1"].concat();
    let fields = headers(&[(REFERER, &in_field), (USER_AGENT, &in_field)]);
    let line = Line {
        request: &request,
        host: &hostile,
        request_id: &in_field,
        ..line(&[], &fields)
    };
    let client = [
        V::Request,
        V::RequestMethod,
        V::RequestUri,
        V::Uri,
        V::Args,
        V::ServerProtocol,
        V::Host,
        V::RequestId,
        V::Http("referer".to_owned()),
        V::SentHttp("user-agent".to_owned()),
    ];
    for variable in client {
        let plain = value(&line, variable.clone(), LogEscape::Default);
        assert!(
            plain.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) && !plain.contains('"'),
            "{variable:?}: {plain}"
        );
        let json = value(&line, variable.clone(), LogEscape::Json);
        let read: Result<String, _> = serde_json::from_str(&format!("\"{json}\""));
        assert!(read.is_ok(), "{variable:?}: {json}: {read:?}");
    }
    for format in [AccessLogFormat::Combined, AccessLogFormat::Json] {
        let mut out = Vec::new();
        line.write(TIMES, &format, &mut out);
        assert_eq!(
            out.iter().position(|byte| *byte == b'\n'),
            Some(out.len() - 1)
        );
    }
}

#[test]
fn a_connection_over_a_unix_socket_has_no_address() {
    let (attempts, fields) = (attempts(), HeaderMap::new());
    let server = Endpoint::Unix("/run/edge.sock".into());
    let line = Line {
        client: Client::Unix,
        peer: Peer::Unix,
        server: &server,
        ..line(&attempts, &fields)
    };
    for (variable, shown) in [
        (LogVariable::RemoteAddr, "unix:"),
        (LogVariable::RealipRemoteAddr, "unix:"),
        (LogVariable::RemotePort, "-"),
        (LogVariable::ServerAddr, "unix:/run/edge.sock"),
        (LogVariable::ServerPort, "-"),
    ] {
        assert_eq!(value(&line, variable, LogEscape::Default), shown);
    }
    let mut out = Vec::new();
    line.write(TIMES, &AccessLogFormat::Json, &mut out);
    let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        (&object["client"], &object["peer"]),
        (&"unix:".into(), &"unix:".into())
    );
    assert!(object["server_port"].is_null(), "{object}");
    out.clear();
    line.write(TIMES, &AccessLogFormat::Combined, &mut out);
    assert!(out.starts_with(b"unix: - - ["));
}
