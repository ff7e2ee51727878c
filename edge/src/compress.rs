//! CORE: which responses are compressed, and by which coding: the negotiation of RFC 9110 section 12.5.3 and what a response's head then says.
//!
//! Pingora's own module reads no q-values, knows one fixed list of types, keeps the pieces of a stream back until its end, and costs every
//! request something; so the decision is here, and the work in `encoder.rs`.

mod encoder;
#[cfg(test)]
mod tests;

use conf::platform::{Coding, Compression};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};

pub(crate) use encoder::Encoder;

use crate::rewrite::Fields;

/// Digests of the bytes: whoever sends one means these bytes.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("content-md5"),
];

/// What becomes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: whatever the client accepts, this response goes as it is.
    Untouched,
    /// It goes as it is because of what this client accepts; caches must know.
    Plain,
    /// It is compressed.
    Encode(Coding),
}

/// Decides on a response. `version` and `accepted` are the request's.
pub fn decide(
    rules: &Compression,
    version: Version,
    accepted: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
) -> Verdict {
    let bodyless = status.is_informational()
        || matches!(
            status,
            StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        );
    let fixed = response.contains_key(header::CONTENT_ENCODING)
        || response.contains_key(header::CONTENT_RANGE)
        || DIGESTS.iter().any(|name| response.contains_key(name))
        || no_transform(response)
        || no_transform(accepted);
    if bodyless || fixed || !is_of_type(rules, response) || is_small(rules, response) {
        return Verdict::Untouched;
    }
    // To HTTP/1.0 a body of unknown length ends with the connection, and its end cannot be told from its loss.
    if version < Version::HTTP_11 {
        return Verdict::Plain;
    }
    let values = accepted.get_all(header::ACCEPT_ENCODING);
    negotiate(values.iter().map(HeaderValue::as_bytes), &rules.algorithms)
        .map_or(Verdict::Plain, Verdict::Encode)
}

/// The coding that the client likes best; among those it likes equally, the first of `offered`. `None`: none, or it likes better to have none.
pub fn negotiate<'a>(values: impl Iterator<Item = &'a [u8]>, offered: &[Coding]) -> Option<Coding> {
    let mut named: [Option<u16>; 3] = [None; 3];
    let (mut any, mut identity) = (None, None);
    for member in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        let mut parts = member.split(|byte| *byte == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let Some(quality) = parts.next().map_or(Some(1000), quality) else {
            continue;
        };
        let place = match name {
            b"*" => &mut any,
            _ if name.eq_ignore_ascii_case(b"identity") => &mut identity,
            _ => match Coding::ALL.iter().zip(&mut named).find(|(coding, _)| {
                name.eq_ignore_ascii_case(coding.name().as_bytes())
                    || (**coding == Coding::Gzip && name.eq_ignore_ascii_case(b"x-gzip"))
            }) {
                Some((_, place)) => place,
                None => continue,
            },
        };
        place.get_or_insert(quality);
    }
    let mut best: Option<(u16, Coding)> = None;
    for coding in offered {
        let own = Coding::ALL
            .iter()
            .zip(named)
            .find(|(one, _)| *one == coding);
        let quality = own.and_then(|(_, quality)| quality).or(any).unwrap_or(0);
        if quality > best.map_or(0, |(quality, _)| quality) {
            best = Some((quality, *coding));
        }
    }
    best.filter(|(quality, _)| *quality >= identity.unwrap_or(0))
        .map(|(_, coding)| coding)
}

/// Says in a response's head that its body is encoded. Its length is not known any more, ranges are of other bytes, and its ETag is a weak one,
/// as nginx makes it: the same for all codings.
pub fn encoded(fields: &mut impl Fields, coding: Coding) {
    fields.set(
        header::CONTENT_ENCODING,
        HeaderValue::from_static(coding.name()),
    );
    fields.unset(&header::CONTENT_LENGTH);
    fields.unset(&header::ACCEPT_RANGES);
    let Some(tag) = fields.map().get(header::ETAG).map(HeaderValue::as_bytes) else {
        return;
    };
    if tag.starts_with(b"W/") {
        return;
    }
    let weak = tag
        .starts_with(b"\"")
        .then(|| HeaderValue::from_bytes(&[b"W/", tag].concat()).ok());
    match weak.flatten() {
        Some(weak) => fields.set(header::ETAG, weak),
        // No entity tag at all.
        None => fields.unset(&header::ETAG),
    }
}

/// Says that the response depends on Accept-Encoding.
pub fn vary(fields: &mut impl Fields) {
    let mut joined = Vec::new();
    for value in fields.map().get_all(header::VARY) {
        let value = value.as_bytes();
        let mut names = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        if names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding")) {
            return;
        }
        joined.extend_from_slice(value);
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(b"Accept-Encoding");
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        fields.set(header::VARY, value);
    }
}

/// `q=0.5` in thousandths (RFC 9110 section 12.4.2). `None` is none, and then the member counts as if it were not there.
fn quality(parameter: &[u8]) -> Option<u16> {
    let parameter = parameter.trim_ascii();
    let (name, value) = parameter.split_at_checked(2)?;
    if !name.eq_ignore_ascii_case(b"q=") {
        return None;
    }
    let (whole, rest) = value.split_first()?;
    let fraction = match rest.split_first() {
        None => &[],
        Some((b'.', fraction)) if fraction.len() <= 3 => fraction,
        Some(_) => return None,
    };
    let mut thousandths: u16 = match whole {
        b'0' => 0,
        b'1' => 1000,
        _ => return None,
    };
    for (digit, worth) in fraction.iter().zip([100, 10, 1]) {
        let digit = u16::from(digit.checked_sub(b'0').filter(|digit| *digit <= 9)?);
        thousandths = thousandths.checked_add(digit.checked_mul(worth)?)?;
    }
    (thousandths <= 1000).then_some(thousandths)
}

/// RFC 9111 sections 5.2.1.6 and 5.2.2.6.
fn no_transform(fields: &HeaderMap) -> bool {
    fields.get_all(header::CACHE_CONTROL).iter().any(|value| {
        let mut words = value.as_bytes().split(|byte| *byte == b',');
        words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
    })
}

fn is_of_type(rules: &Compression, response: &HeaderMap) -> bool {
    let Some(value) = response.get(header::CONTENT_TYPE) else {
        return false;
    };
    let value = value.as_bytes();
    let own = value.split(|byte| *byte == b';').next().unwrap_or(value);
    let own = own.trim_ascii();
    rules.types.iter().any(|wanted| {
        let wanted = wanted.as_bytes();
        match wanted.strip_suffix(b"*") {
            Some(kind) => own
                .get(..kind.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(kind)),
            None => own.eq_ignore_ascii_case(wanted),
        }
    })
}

fn is_small(rules: &Compression, response: &HeaderMap) -> bool {
    let length = response
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length < rules.min_size.get().max(1))
}
