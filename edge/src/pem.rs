//! CORE: the certificates of a PEM file (RFC 7468), as DER.
//!
//! For the `ca` of an upstream. Other blocks are skipped; whether a certificate can be trusted is not judged here.

/// Why a file holds no certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No block at all.
    #[error("the file holds no `-----BEGIN CERTIFICATE-----`")]
    Empty,
    /// A block without its end.
    #[error("a certificate has no `-----END CERTIFICATE-----`")]
    Unfinished,
    /// Something between the lines that is not base64.
    #[error("a certificate is not base64")]
    NotBase64,
}

/// The certificates of `text`, in its order.
pub fn certificates(text: &str) -> Result<Vec<Vec<u8>>, PemError> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, block)) = rest.split_once("-----BEGIN CERTIFICATE-----") {
        let (body, after) = block
            .split_once("-----END CERTIFICATE-----")
            .ok_or(PemError::Unfinished)?;
        found.push(decode(body).ok_or(PemError::NotBase64)?);
        rest = after;
    }
    if found.is_empty() {
        Err(PemError::Empty)
    } else {
        Ok(found)
    }
}

/// Base64 with white space anywhere (RFC 4648 section 4). `None` if it is not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0u32);
    let symbols: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if symbols.is_empty() || !symbols.len().is_multiple_of(4) {
        return None;
    }
    let data = symbols
        .strip_suffix(b"==")
        .or_else(|| symbols.strip_suffix(b"="))
        .unwrap_or(&symbols);
    for symbol in data {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_is_found_and_other_blocks_are_not() {
        let text = "a comment\n-----BEGIN CERTIFICATE-----\naGVs\nbG8=\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n\
                    -----BEGIN CERTIFICATE-----\r\nd29ybGQ+/w==\r\n-----END CERTIFICATE-----\n";
        assert_eq!(
            certificates(text),
            Ok(vec![b"hello".to_vec(), b"world>\xff".to_vec()])
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let block = |body: &str| {
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
        };
        assert_eq!(certificates(""), Err(PemError::Empty));
        assert_eq!(
            certificates("-----BEGIN CERTIFICATE-----\naGVs\n"),
            Err(PemError::Unfinished)
        );
        for body in ["", "aGV", "aG*s", "a=Vs"] {
            assert_eq!(
                certificates(&block(body)),
                Err(PemError::NotBase64),
                "{body}"
            );
        }
    }
}
