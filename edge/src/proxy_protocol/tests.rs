#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use super::*;

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, body].concat()
}

fn client(text: &str) -> Result<Progress, HeaderError> {
    Ok(Progress::Client(Some(text.parse().unwrap())))
}

#[test]
fn both_versions_name_the_client() {
    let four = [192, 0, 2, 1, 10, 0, 0, 1, 0xc0, 0x01, 0x01, 0xbb];
    let mut six = [0; 36];
    six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    six[15] = 9;
    six[32..34].copy_from_slice(&[0x10, 0x00]);
    let with_extension = [&four[..], &[0x04, 0, 1, 0]].concat();
    let cases: [(&[u8], _); 9] = [
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 49153 443\r\n",
            client("192.0.2.1:49153"),
        ),
        (
            b"PROXY TCP6 2001:db8::9 2001:db8::1 4096 443\r\n",
            client("[2001:db8::9]:4096"),
        ),
        (b"PROXY UNKNOWN\r\n", Ok(Progress::Client(None))),
        (
            b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n",
            Ok(Progress::Client(None)),
        ),
        (&v2(0x21, 0x11, &four), client("192.0.2.1:49153")),
        (&v2(0x21, 0x11, &with_extension), client("192.0.2.1:49153")),
        (&v2(0x21, 0x21, &six), client("[2001:db8::9]:4096")),
        (&v2(0x20, 0x00, &[]), Ok(Progress::Client(None))),
        (&v2(0x21, 0x31, &[0; 216]), Ok(Progress::Client(None))),
    ];
    for (bytes, expected) in cases {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(parse(bytes), expected, "{text:?}");
        // Read as the shell does, it is never asked for a byte too many.
        let mut have = 0;
        while let Ok(Progress::Need(more)) = parse(&bytes[..have]) {
            have += more;
            assert!(have <= bytes.len(), "{text:?}");
        }
        assert_eq!(have, bytes.len(), "{text:?}");
    }
}

#[test]
fn anything_else_is_refused() {
    let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
    let cases: [(&[u8], HeaderError); 14] = [
        (b"GET / HTTP/1.1\r\n", HeaderError::Missing),
        (b"PROXYTCP4", HeaderError::Missing),
        (b"\r\n\r\nGET", HeaderError::Missing),
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1 443\n",
            HeaderError::Malformed,
        ),
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n",
            HeaderError::Malformed,
        ),
        (
            b"PROXY TCP4 2001:db8::1 10.0.0.1 1 2\r\n",
            HeaderError::Malformed,
        ),
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 01 2\r\n",
            HeaderError::Malformed,
        ),
        (
            b"PROXY TCP4 192.0.2.1 10.0.0.1 99999 2\r\n",
            HeaderError::Malformed,
        ),
        (
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n",
            HeaderError::Malformed,
        ),
        (&long, HeaderError::TooLong),
        (&v2(0x31, 0x11, &[0; 12]), HeaderError::Malformed),
        (&v2(0x22, 0x11, &[0; 12]), HeaderError::Malformed),
        (&v2(0x21, 0x11, &[0; 11]), HeaderError::Malformed),
        (&v2(0x21, 0x11, &[0; 5000])[..16], HeaderError::TooLong),
    ];
    for (bytes, expected) in cases {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(parse(bytes), Err(expected), "{text:?}");
    }
}

/// The fuzz entry: no input panics, and it always knows what it waits for.
#[test]
fn fuzz_any_bytes() {
    bolero::check!().for_each(|bytes: &[u8]| {
        for start in [&SIGNATURE[..], b"PROXY TCP4 ", b""] {
            let bytes = [start, bytes].concat();
            if let Ok(Progress::Need(more)) = parse(&bytes) {
                assert!(more > 0);
            }
        }
    });
}
