//! CORE: what a check of each kind asks, with its defaults.

use crate::codes;
use crate::decode::At;
use crate::pattern::Pattern;
use crate::platform::{CheckBody, CheckKind, CheckTls, StatusRange};
use crate::problems::Tiers;
use crate::raw::check::{Check as RawCheck, Kind, Rcode, Record};
use crate::resolve::{Resolver, given};
use crate::unit::Interval;

/// 3xx counts as healthy, as nginx and HAProxy have it.
const DEFAULT_STATUS: StatusRange = StatusRange {
    first: 200,
    last: 399,
};
/// RFC 1035 section 2.3.4.
const LABEL_LIMIT: usize = 63;
const NAME_LIMIT: usize = 253;

impl Resolver<'_> {
    pub(super) fn kind(
        &mut self,
        raw: &RawCheck,
        kind: &At<Kind>,
        key: &str,
        tiers: Tiers,
    ) -> Option<CheckKind> {
        Some(match kind.value {
            Kind::Tcp => CheckKind::Tcp,
            Kind::Edge => CheckKind::Edge,
            Kind::Icmp => CheckKind::Icmp,
            Kind::Http | Kind::Https => self.http(raw, kind.value == Kind::Https, key, tiers),
            Kind::Tls => CheckKind::Tls(self.tls(raw, key, tiers)),
            Kind::Dns => self.dns(raw, key, tiers),
            Kind::Udp => self.udp(raw, key, tiers),
            Kind::Smtp => CheckKind::Smtp {
                helo: self.helo(raw, key, tiers),
            },
            Kind::Exec => CheckKind::Exec {
                command: self.command(raw, key, tiers)?,
                user: self.exec_user(),
            },
        })
    }

    fn http(&mut self, raw: &RawCheck, tls: bool, key: &str, tiers: Tiers) -> CheckKind {
        let path = raw
            .path
            .as_deref()
            .cloned()
            .unwrap_or_else(|| "/".to_owned());
        if let Some(written) = raw
            .path
            .as_ref()
            .filter(|path| !path.starts_with('/') || path.contains([' ', '\r', '\n']))
        {
            self.report(
                codes::BAD_PATH,
                tiers,
                written.span,
                format!("{key}.path"),
                format!("`{}` is not a path that can be requested", written.value),
            )
            .help("a path begins with `/` and has no spaces");
        }
        for (name, value) in raw.headers.iter().flat_map(|headers| &headers.value) {
            self.header(name, value, &format!("{key}.headers"), tiers);
        }
        if let Some(method) = raw
            .method
            .as_ref()
            .filter(|method| method.is_empty() || !method.chars().all(|c| c.is_ascii_uppercase()))
        {
            self.report(
                codes::BAD_METHOD,
                tiers,
                method.span,
                format!("{key}.method"),
                format!("`{}` is not a request method", method.value),
            )
            .help("methods are written in capitals: GET, HEAD, OPTIONS");
        }
        let status: Vec<StatusRange> = raw
            .status
            .iter()
            .flat_map(|status| &status.value)
            .map(|status| StatusRange {
                first: status.first,
                last: status.last,
            })
            .collect();
        let mut headers: Vec<(&String, &At<String>)> = raw
            .headers
            .iter()
            .flat_map(|headers| &headers.value)
            .collect();
        headers.sort_by_key(|(_, value)| value.span.start);
        CheckKind::Http {
            tls: tls.then(|| self.tls(raw, key, tiers)),
            method: raw
                .method
                .as_deref()
                .cloned()
                .unwrap_or_else(|| "GET".to_owned()),
            path,
            host: raw.host.as_deref().cloned(),
            status: if status.is_empty() {
                vec![DEFAULT_STATUS]
            } else {
                status
            },
            body: CheckBody {
                contains: raw.body.as_deref().cloned(),
                matches: self.pattern(&raw.body_regex, key, "body_regex", tiers),
                excludes: self.pattern(&raw.body_not_regex, key, "body_not_regex", tiers),
            },
            headers: headers
                .into_iter()
                .map(|(name, value)| (name.clone(), value.value.clone()))
                .collect(),
        }
    }

    fn pattern(
        &mut self,
        written: &Option<At<String>>,
        key: &str,
        option: &str,
        tiers: Tiers,
    ) -> Option<Pattern> {
        let written = written.as_ref()?;
        Pattern::new(written)
            .inspect_err(|reason| {
                self.report(
                    codes::BAD_REGEX,
                    tiers,
                    written.span,
                    format!("{key}.{option}"),
                    format!("`{}` is not a regular expression that can be used: {reason}", written.value),
                )
                .help("write it in single quotes so that `\\` stays as it is; look-around and back references do not exist here");
            })
            .ok()
    }

    fn tls(&mut self, raw: &RawCheck, key: &str, tiers: Tiers) -> CheckTls {
        let verify = given(&raw.verify).unwrap_or(true);
        if verify {
            self.wanted(&raw.server_name, raw.span, key, "server_name", tiers);
        }
        if let Some(file) = &raw.ca_file {
            if !file.starts_with('/') {
                self.report(
                    codes::RELATIVE_PATH,
                    tiers,
                    file.span,
                    format!("{key}.ca_file"),
                    format!("`{}` is not an absolute path", file.value),
                );
            }
            if !verify {
                self.report(
                    codes::CA_UNUSED,
                    tiers,
                    file.span,
                    format!("{key}.ca_file"),
                    "the CA file is not used: `verify = false` accepts every certificate",
                )
                .help("leave out one of the two");
            }
        }
        CheckTls {
            server_name: raw.server_name.as_deref().cloned(),
            ca_file: raw.ca_file.as_deref().cloned(),
            verify,
            min_validity: given(&raw.min_validity).unwrap_or(Interval::from_secs(0)),
        }
    }

    fn dns(&mut self, raw: &RawCheck, key: &str, tiers: Tiers) -> CheckKind {
        let name = raw.name.as_deref().map_or(".", String::as_str);
        if let Some(written) = raw.name.as_ref().filter(|name| !is_dns_name(name)) {
            self.report(
                codes::BAD_DNS_NAME,
                tiers,
                written.span,
                format!("{key}.name"),
                format!("`{}` is not a name that can be asked for", written.value),
            )
            .help("a name is labels of 1 to 63 letters, digits, `-` and `_` between dots, or `.` for the root");
        }
        let record = given(&raw.record).unwrap_or(Record::Soa);
        self.list(raw.rcode.as_ref(), tiers, &format!("{key}.rcode"), |code| {
            Rcode::WORDS
                .get(*code as usize)
                .copied()
                .unwrap_or_default()
                .to_owned()
        });
        let rcode: Vec<u8> = raw
            .rcode
            .iter()
            .flat_map(|codes| &codes.value)
            .map(|code| code.value as u8)
            .collect();
        CheckKind::Dns {
            name: name.to_owned(),
            record: Record::WORDS
                .get(record as usize)
                .copied()
                .unwrap_or_default()
                .to_owned(),
            rcode: if rcode.is_empty() { vec![0] } else { rcode },
            answer: raw.answer.as_deref().cloned(),
        }
    }

    fn udp(&mut self, raw: &RawCheck, key: &str, tiers: Tiers) -> CheckKind {
        let payload = self.octets(&raw.payload, &raw.payload_hex, key, "payload", tiers);
        let expect = self.octets(&raw.expect, &raw.expect_hex, key, "expect", tiers);
        if expect.is_none() {
            self.report(
                codes::UDP_WITHOUT_ANSWER,
                tiers,
                raw.span,
                key,
                "a server that is dead or cut off looks healthy to this check: only an ICMP refusal makes it fail",
            )
            .label("no `expect`")
            .help("send a `payload` that the service answers, and say in `expect` how the answer begins; \"\" is any answer");
        }
        CheckKind::Udp {
            payload: payload.unwrap_or_default(),
            expect,
        }
    }

    /// Bytes that are written as text or as hexadecimal digits.
    fn octets(
        &mut self,
        text: &Option<At<String>>,
        hex: &Option<At<String>>,
        key: &str,
        option: &str,
        tiers: Tiers,
    ) -> Option<Vec<u8>> {
        let Some(written) = hex else {
            return text.as_ref().map(|text| text.as_bytes().to_vec());
        };
        if let Some(text) = text {
            self.report(
                codes::ONE_OF,
                tiers,
                written.span,
                format!("{key}.{option}_hex"),
                format!("`{option}` and `{option}_hex` say the same"),
            )
            .also(text.span, "the other one")
            .help("keep one of them");
        }
        let bytes = hex_bytes(written);
        if bytes.is_none() {
            self.report(
                codes::BAD_HEX,
                tiers,
                written.span,
                format!("{key}.{option}_hex"),
                format!("`{}` is not a row of bytes", written.value),
            )
            .help("write two hexadecimal digits for each byte, such as \"0d0a\" or \"0d 0a\"");
        }
        bytes
    }

    fn helo(&mut self, raw: &RawCheck, key: &str, tiers: Tiers) -> String {
        let Some(written) = &raw.helo else {
            return "localhost".to_owned();
        };
        // An address literal such as `[10.0.0.5]` is allowed (RFC 5321 section 4.1.3).
        let literal = written
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| {
                !inner.is_empty()
                    && inner
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':'))
            });
        if !literal && (written.value == "." || !is_dns_name(written)) {
            self.report(
                codes::BAD_DNS_NAME,
                tiers,
                written.span,
                format!("{key}.helo"),
                format!("`{}` is not a name to say EHLO with", written.value),
            )
            .help("write a host name, or an address in brackets: \"[10.0.0.5]\"");
        }
        written.value.clone()
    }

    fn command(&mut self, raw: &RawCheck, key: &str, tiers: Tiers) -> Option<Vec<String>> {
        let Some(command) = raw.command.as_ref().filter(|command| !command.is_empty()) else {
            self.option_missing(raw.span, key, "command", tiers);
            return None;
        };
        if let Some(program) = command.first().filter(|program| !program.starts_with('/')) {
            self.report(
                codes::RELATIVE_PATH,
                tiers,
                program.span,
                format!("{key}.command"),
                format!("`{}` is not an absolute path", program.value),
            )
            .help("there is no shell and no search path: name the program's file");
        }
        Some(command.iter().map(|word| word.value.clone()).collect())
    }
}

/// Names as servers have them; a final dot is allowed.
fn is_dns_name(name: &str) -> bool {
    let name = match name {
        "." => return true,
        name => name.strip_suffix('.').unwrap_or(name),
    };
    let label = |label: &str| {
        (1..=LABEL_LIMIT).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= NAME_LIMIT && name.split('.').all(label)
}

/// Pairs of hexadecimal digits; blanks between them are for the eye.
fn hex_bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(hex_bytes("0d 0A ff"), Some(vec![13, 10, 255]));
        assert_eq!(hex_bytes(""), Some(Vec::new()));
        for wrong in ["0", "0d0", "0x0d", "zz", "é1"] {
            assert_eq!(hex_bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_have_labels_of_letters_and_digits() {
        let longest = "a".repeat(63);
        for name in [
            ".",
            "a",
            "shop.example.",
            "_sip._udp.shop.example",
            &longest,
        ] {
            assert!(is_dns_name(name), "{name}");
        }
        let label = "a".repeat(64);
        let name = format!("{longest}.{longest}.{longest}.{longest}");
        for wrong in ["", "..", "a..b", ".a", "a b", "a\r\nb", "é", &label, &name] {
            assert!(!is_dns_name(wrong), "{wrong}");
        }
    }
}
