use std::io::Read as _;

use super::*;

fn rules() -> Compression {
    Compression {
        types: vec!["text/html".to_owned(), "application/*".to_owned()],
        min_size: conf::unit::Bytes::kib(1),
        algorithms: Coding::ALL.to_vec(),
        level: None,
    }
}

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn negotiation_follows_the_client_s_liking() {
    use Coding::{Br, Gzip, Zstd};
    let all = [Zstd, Br, Gzip];
    let table: [(&[&str], &[Coding], Option<Coding>); 30] = [
        (&[], &all, None),
        (&[""], &all, None),
        (&["gzip"], &all, Some(Gzip)),
        (&["GZip"], &all, Some(Gzip)),
        (&["x-gzip"], &all, Some(Gzip)),
        (&["gzip, deflate, br, zstd"], &all, Some(Zstd)),
        (&["gzip, deflate, br"], &all, Some(Br)),
        (&["gzip", "br"], &all, Some(Br)),
        (&["gzip, br, zstd"], &[Gzip, Br], Some(Gzip)),
        (&["br;q=0.5, gzip;q=0.9"], &all, Some(Gzip)),
        (&["br ; q=0.5 ,gzip ; Q=0.501"], &all, Some(Gzip)),
        (&["br;q=0.500, gzip;q=0.5"], &all, Some(Br)),
        (&["gzip;q=0"], &all, None),
        (&["gzip;q=0.000, br;q=0.001"], &all, Some(Br)),
        (&["*"], &all, Some(Zstd)),
        (&["*;q=0"], &all, None),
        (&["zstd;q=0, *"], &all, Some(Br)),
        (&["gzip, *;q=0"], &all, Some(Gzip)),
        (&["gzip;q=0.2, *;q=0.1"], &all, Some(Gzip)),
        (&["identity"], &all, None),
        (&["identity, gzip"], &all, Some(Gzip)),
        (&["identity;q=1, gzip;q=0.5"], &all, None),
        (&["identity;q=0.5, gzip;q=1"], &all, Some(Gzip)),
        (&["identity;q=0"], &all, None),
        (&["deflate, compress"], &all, None),
        (&["br;q=2, gzip"], &all, Some(Gzip)),
        (&["br;q=0.1234, gzip"], &all, Some(Gzip)),
        (&["br;q=, gzip;q"], &all, None),
        (&["br;q=1.001"], &all, None),
        (&["gzip;q=0, gzip"], &all, None),
    ];
    for (values, offered, wanted) in table {
        let values_bytes = values.iter().map(|value| value.as_bytes());
        assert_eq!(negotiate(values_bytes, offered), wanted, "{values:?}");
    }
}

#[test]
fn what_is_compressed_is_decided_by_both_heads() {
    const HTML: (&str, &str) = ("content-type", "Text/HTML; charset=utf-8");
    let gzip = map(&[("accept-encoding", "gzip")]);
    let encode = Verdict::Encode(Coding::Gzip);
    type Head = [(&'static str, &'static str)];
    let table: [(u16, &Head, Verdict); 24] = [
        (200, &[HTML], encode),
        (200, &[HTML, ("content-length", "1024")], encode),
        (200, &[HTML, ("content-length", "1023")], Verdict::Untouched),
        (200, &[HTML, ("content-length", "0")], Verdict::Untouched),
        (404, &[HTML], encode),
        (503, &[HTML], encode),
        (200, &[("content-type", "application/json")], encode),
        (
            200,
            &[("content-type", "applicationx/json")],
            Verdict::Untouched,
        ),
        (200, &[("content-type", "text/htm")], Verdict::Untouched),
        (200, &[("content-type", "text/html5")], Verdict::Untouched),
        (
            200,
            &[("content-type", "text/event-stream")],
            Verdict::Untouched,
        ),
        (200, &[("content-type", "image/png")], Verdict::Untouched),
        (200, &[], Verdict::Untouched),
        (101, &[HTML], Verdict::Untouched),
        (103, &[HTML], Verdict::Untouched),
        (204, &[HTML], Verdict::Untouched),
        (206, &[HTML], Verdict::Untouched),
        (304, &[HTML], Verdict::Untouched),
        (200, &[HTML, ("content-encoding", "br")], Verdict::Untouched),
        (
            200,
            &[HTML, ("content-range", "bytes 0-9/99")],
            Verdict::Untouched,
        ),
        (
            200,
            &[HTML, ("cache-control", "public, No-Transform")],
            Verdict::Untouched,
        ),
        (200, &[HTML, ("cache-control", "public, max-age=1")], encode),
        (
            200,
            &[HTML, ("repr-digest", "sha-256=:AA==:")],
            Verdict::Untouched,
        ),
        (200, &[HTML, ("etag", "\"1\"")], encode),
    ];
    for (status, response, wanted) in table {
        let status = StatusCode::from_u16(status).unwrap();
        let verdict = decide(&rules(), Version::HTTP_11, &gzip, status, &map(response));
        assert_eq!(verdict, wanted, "{status} {response:?}");
    }
    let html = map(&[HTML]);
    let of = |version, accepted: &[(&'static str, &str)]| {
        decide(&rules(), version, &map(accepted), StatusCode::OK, &html)
    };
    let both = ("accept-encoding", "gzip, zstd");
    assert_eq!(of(Version::HTTP_2, &[both]), Verdict::Encode(Coding::Zstd));
    assert_eq!(of(Version::HTTP_10, &[both]), Verdict::Plain);
    assert_eq!(of(Version::HTTP_11, &[]), Verdict::Plain);
    assert_eq!(
        of(Version::HTTP_11, &[both, ("cache-control", "no-transform")]),
        Verdict::Untouched
    );
}

#[test]
fn the_head_says_what_the_body_is() {
    for (tag, weak) in [
        (Some("\"a\""), Some("W/\"a\"")),
        (Some("W/\"a\""), Some("W/\"a\"")),
        (Some("a"), None),
        (None, None),
    ] {
        let mut head = map(&[("content-length", "5"), ("accept-ranges", "bytes")]);
        if let Some(tag) = tag {
            head.insert("etag", HeaderValue::from_static(tag));
        }
        encoded(&mut head, Coding::Br);
        assert_eq!(head.get("content-encoding").unwrap(), "br");
        assert!(!head.contains_key("content-length") && !head.contains_key("accept-ranges"));
        assert_eq!(head.get("etag").map(|tag| tag.to_str().unwrap()), weak);
    }
    for (before, after) in [
        (&[][..], "Accept-Encoding"),
        (&["Cookie"], "Cookie, Accept-Encoding"),
        (&["Cookie", "Origin"], "Cookie, Origin, Accept-Encoding"),
        (&["Cookie, accept-encoding"], "Cookie, accept-encoding"),
        (&["*"], "*"),
    ] {
        let fields: Vec<_> = before.iter().map(|value| ("vary", *value)).collect();
        let mut head = map(&fields);
        vary(&mut head);
        assert_eq!(head.get("vary").unwrap(), after, "{before:?}");
        assert_eq!(head.get_all("vary").iter().count(), 1);
    }
}

fn decoded(coding: Coding, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    match coding {
        Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut out)?,
        Coding::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut out)?,
        Coding::Zstd => zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut out)?,
    };
    Ok(out)
}

#[test]
fn every_coding_comes_back_whole_at_every_level_and_in_any_pieces() {
    let body: Vec<u8> = (0..40_000_u32)
        .flat_map(|number| format!("{} ", number * number % 977).into_bytes())
        .collect();
    for coding in Coding::ALL {
        for level in [None, Some(1), Some(9)] {
            for pieces in [1, 7, 5000, body.len()] {
                let mut encoder = Encoder::new(coding, level).unwrap();
                let mut bytes = Vec::new();
                for piece in body.chunks(body.len().div_ceil(pieces).max(64)) {
                    bytes.extend(encoder.encode(piece, false).unwrap());
                }
                bytes.extend(encoder.encode(b"", true).unwrap());
                assert!(bytes.len() < body.len(), "{coding:?} {level:?} {pieces}");
                assert_eq!(
                    decoded(coding, &bytes).unwrap(),
                    body,
                    "{coding:?} {pieces}"
                );
                assert!(encoder.encode(b"late", true).unwrap().is_empty());
            }
        }
        let whole = Encoder::new(coding, None).unwrap().encode(b"abc", true);
        assert_eq!(decoded(coding, &whole.unwrap()).unwrap(), b"abc");
        let empty = Encoder::new(coding, None).unwrap().encode(b"", true);
        assert_eq!(decoded(coding, &empty.unwrap()).unwrap(), b"");
    }
}

/// What is there after a piece is enough for that piece: nothing waits for the end.
#[test]
fn every_piece_can_be_read_at_once() {
    for coding in Coding::ALL {
        let mut encoder = Encoder::new(coding, None).unwrap();
        let (mut bytes, mut sent) = (Vec::new(), Vec::new());
        for number in 0..3 {
            let event = format!("data: {number}\n\n");
            bytes.extend(encoder.encode(event.as_bytes(), false).unwrap());
            sent.extend(event.into_bytes());
            let mut seen = vec![0; sent.len()];
            match coding {
                Coding::Gzip => flate2::read::GzDecoder::new(&*bytes).read_exact(&mut seen),
                Coding::Br => brotli::Decompressor::new(&*bytes, 4096).read_exact(&mut seen),
                Coding::Zstd => zstd::stream::read::Decoder::new(&*bytes)
                    .unwrap()
                    .read_exact(&mut seen),
            }
            .unwrap_or_else(|error| panic!("{coding:?} {number}: {error}"));
            assert_eq!(seen, sent);
        }
    }
}
