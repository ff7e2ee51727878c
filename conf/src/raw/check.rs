//! CORE: health checks as written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::decode::{At, Text, WholeNumber, short_or_table, table, words};
use crate::unit::{Interval, Percent};

words! {
    /// What a check asks.
    Kind {
        /// The TCP handshake succeeds.
        Tcp = "tcp",
        /// An HTTP request is answered with an accepted status.
        Http = "http",
        /// The same over TLS.
        Https = "https",
        /// Edge's own readiness endpoint.
        Edge = "edge",
        /// A TLS handshake with a valid certificate.
        Tls = "tls",
        /// A DNS query is answered.
        Dns = "dns",
        /// A UDP datagram is answered, or not refused.
        Udp = "udp",
        /// An ICMP echo request is answered.
        Icmp = "icmp",
        /// An SMTP greeting and HELO are accepted.
        Smtp = "smtp",
        /// A program exits with 0.
        Exec = "exec",
    }
}

words! {
    /// A type of DNS records.
    Record {
        /// An IPv4 address.
        A = "A",
        /// An IPv6 address.
        Aaaa = "AAAA",
        /// The name's canonical name.
        Cname = "CNAME",
        /// A mail exchanger.
        Mx = "MX",
        /// A name server.
        Ns = "NS",
        /// A pointer to a name.
        Ptr = "PTR",
        /// The start of a zone.
        Soa = "SOA",
        /// A service's host and port.
        Srv = "SRV",
        /// Text.
        Txt = "TXT",
    }
}

words! {
    /// A DNS response code.
    Rcode {
        /// 0: no error.
        NoError = "NOERROR",
        /// 1: the server did not understand the query.
        FormErr = "FORMERR",
        /// 2: the server failed.
        ServFail = "SERVFAIL",
        /// 3: the name does not exist.
        NxDomain = "NXDOMAIN",
        /// 4: the kind of query is not supported.
        NotImp = "NOTIMP",
        /// 5: the server refuses.
        Refused = "REFUSED",
    }
}

words! {
    /// What is believed before the first result.
    Initial {
        /// No traffic until the first success.
        Down = "down",
        /// Traffic until `fall` failures.
        Up = "up",
    }
}

table! {
    /// A health check.
    Check {
        required {
            /// What is asked.
            kind: Kind,
        }
        optional {
            /// Time between two checks of one target. Default 2s.
            interval: Interval,
            /// How long one check may take. Default 1s.
            timeout: Interval,
            /// Successes in a row that make a target healthy. Default 2.
            rise: WholeNumber<1, 100>,
            /// Failures in a row that make it unhealthy. Default 3.
            fall: WholeNumber<1, 100>,
            /// Time to the next check after a failure that did not yet change the verdict; default: interval.
            retry_delay: Interval,
            /// What is believed before the first result. Default down.
            initial: Initial,
            /// Each interval is varied by up to this share. Default 10%.
            jitter: Percent,
            /// Source address of the check.
            bind: IpAddr,
            /// Checked address, if it is not the server's own.
            address: IpAddr,
            /// Checked port, if it is not the server's own.
            port: WholeNumber<1, 65535>,
            /// http, https: the request method. Default GET.
            method: String,
            /// http, https: the request target. Default `/`.
            path: String,
            /// http, https: the Host header; default: the checked address and port, of a unix socket `localhost`.
            host: String,
            /// http, https: accepted status codes, such as 200 or "200-399". Default 200-399.
            status: Vec<At<Status>>,
            /// http, https: text that the answer's first 64 KiB must contain.
            body: String,
            /// http, https: a regular expression that must match within the answer's first 64 KiB.
            body_regex: String,
            /// http, https: a regular expression that must not match within the answer's first 64 KiB.
            body_not_regex: String,
            /// http, https: further request headers.
            headers: BTreeMap<String, At<String>>,
            /// https, tls: the name sent by SNI and verified.
            server_name: String,
            /// https, tls: an absolute path of PEM certificates to trust instead of the system's.
            ca_file: String,
            /// https, tls: whether chain and name of the certificate are verified. Default true.
            verify: bool,
            /// https, tls: the certificate must live at least this long. Default 0s.
            min_validity: Interval,
            /// dns: the name asked for. Default `.`
            name: String,
            /// dns: the record type. Default SOA.
            record: Record,
            /// dns: accepted response codes. Default NOERROR.
            rcode: Vec<At<Rcode>>,
            /// dns: a record that the answer must hold, as zone files write it, such as "10.0.0.1" or "10 mail.shop.example.".
            answer: String,
            /// udp: what is sent, as text. Default nothing.
            payload: String,
            /// udp: the same as hexadecimal digits.
            payload_hex: String,
            /// udp: how the answer must begin, as text; "": any answer. Default: none is needed.
            expect: String,
            /// udp: the same as hexadecimal digits.
            expect_hex: String,
            /// smtp: the name sent with EHLO and HELO. Default localhost.
            helo: String,
            /// exec: an absolute path of a program, and its arguments.
            command: Vec<At<String>>,
        }
    }
}

words! {
    /// A status class, for readability.
    StatusClass {
        /// 200 to 299.
        Success = "2xx",
        /// 300 to 399.
        Redirect = "3xx",
        /// 400 to 499.
        ClientError = "4xx",
        /// 500 to 599.
        ServerError = "5xx",
    }
}

/// A status code, or a range of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl crate::decode::Decode for Status {
    fn decode(
        value: &crate::value::Value,
        decoder: &mut crate::decode::Decoder<'_>,
    ) -> Option<Self> {
        if let crate::value::Kind::Integer(_) = value.kind {
            let code = WholeNumber::<100, 599>::decode(value, decoder)?.narrow();
            return Some(Self {
                first: code,
                last: code,
            });
        }
        let text = Text::decode(value, decoder)?;
        let range = match StatusClass::from_word(&text.0) {
            Some(StatusClass::Success) => Some((200, 299)),
            Some(StatusClass::Redirect) => Some((300, 399)),
            Some(StatusClass::ClientError) => Some((400, 499)),
            Some(StatusClass::ServerError) => Some((500, 599)),
            None => text.0.split_once('-').and_then(|(first, last)| {
                let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                (100 <= first && first <= last && last <= 599).then_some((first, last))
            }),
        };
        if range.is_none() {
            let message = format!("`{}` is not a status code or a range of them", text.0);
            decoder
                .report(crate::codes::BAD_STATUS, value.span, message)
                .help("write 204, \"200-399\" or \"2xx\"; codes run from 100 to 599");
        }
        range.map(|(first, last)| Self { first, last })
    }
}

impl schemars::JsonSchema for Status {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Status".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A status code, a range such as \"200-399\", or a class such as \"2xx\".",
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": r"^([1-5][0-9]{2} ?- ?[1-5][0-9]{2}|[2-5]xx)$" }
            ]
        })
    }
}

short_or_table! {
    /// The name of a `[check.X]`, or a check written in place.
    CheckRef { Name(String), Inline(Check) }
}

table! {
    /// What a check leaves out.
    CheckDefaults {
        required {}
        optional {
            /// Time between two checks of one target.
            interval: Interval,
            /// How long one check may take.
            timeout: Interval,
            /// Successes in a row that make a target healthy.
            rise: WholeNumber<1, 100>,
            /// Failures in a row that make it unhealthy.
            fall: WholeNumber<1, 100>,
            /// Time to the next check after a failure that did not yet change the verdict.
            retry_delay: Interval,
            /// What is believed before the first result.
            initial: Initial,
            /// Each interval is varied by up to this share.
            jitter: Percent,
        }
    }
}
