//! CORE: single values: text, numbers in a range, units, addresses. Each says what it wanted when it was given something else.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{At, Decode, Decoder, short};
use crate::codes;
use crate::platform::PeerRange;
use crate::unit::{Bytes, Interval, Percent, Priority, Rate, UnitError, Vrid, Weight};
use crate::value::{Kind, Value};

/// A string that another type reads further.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct Text(pub(crate) String);

impl Decode for Text {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        match &value.kind {
            Kind::String(text) => Some(Self(text.clone())),
            _ => decoder.wrong_type(value, "a string"),
        }
    }
}

impl Decode for String {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        Text::decode(value, decoder).map(|text| text.0)
    }
}

/// One text, or several.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum Texts {
    /// The one-line form.
    One(String),
    /// Several, in order.
    Many(Vec<At<String>>),
}

impl Decode for Texts {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        match value.kind {
            Kind::String(_) => String::decode(value, decoder).map(Self::One),
            Kind::Array(_) => Vec::decode(value, decoder).map(Self::Many),
            _ => decoder.wrong_type(value, "a string or a list of strings"),
        }
    }
}

impl At<Texts> {
    /// Each text, and where it stands.
    pub(crate) fn each(&self) -> impl Iterator<Item = At<String>> + '_ {
        let (one, many) = match &self.value {
            Texts::One(text) => (Some(text), None),
            Texts::Many(texts) => (None, Some(texts)),
        };
        let one = one.into_iter().map(|text| At {
            value: text.clone(),
            span: self.span,
        });
        one.chain(many.into_iter().flatten().cloned())
    }
}

impl Decode for bool {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        match value.kind {
            Kind::Boolean(flag) => Some(flag),
            _ => decoder.wrong_type(value, "true or false"),
        }
    }
}

/// A whole number between two bounds, both allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WholeNumber<const MIN: i64, const MAX: i64>(pub(crate) i64);

impl<const MIN: i64, const MAX: i64> WholeNumber<MIN, MAX> {
    /// As a narrower type; the bounds make it fit, so nothing is lost.
    pub(crate) fn narrow<T: TryFrom<i64> + Default>(self) -> T {
        T::try_from(self.0).unwrap_or_default()
    }
}

impl<const MIN: i64, const MAX: i64> Decode for WholeNumber<MIN, MAX> {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Kind::Integer(number) = value.kind else {
            return decoder.wrong_type(value, "a whole number");
        };
        if let Some(number) = number.filter(|number| (MIN..=MAX).contains(number)) {
            return Some(Self(number));
        }
        let message = match number {
            Some(number) => format!("`{}` is {number}, which is out of range", decoder.path()),
            None => format!("`{}` is out of range", decoder.path()),
        };
        let help = if MAX == i64::MAX {
            format!("allowed: {MIN} and more")
        } else {
            format!("allowed: {MIN} to {MAX}")
        };
        decoder
            .report(codes::OUT_OF_RANGE, value.span, message)
            .help(help);
        None
    }
}

impl<const MIN: i64, const MAX: i64> JsonSchema for WholeNumber<MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Integer{MIN}to{MAX}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        if MAX == i64::MAX {
            json_schema!({ "type": "integer", "minimum": MIN })
        } else {
            json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
        }
    }
}

/// Reads a string with `parse`; a refusal is reported with its own sentence.
fn parsed<T>(
    value: &Value,
    wanted: &str,
    decoder: &mut Decoder<'_>,
    parse: impl FnOnce(&str) -> Result<T, UnitError>,
) -> Option<T> {
    let Kind::String(text) = &value.kind else {
        return decoder.wrong_type(value, wanted);
    };
    match parse(text) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            decoder
                .report(codes::BAD_UNIT, value.span, error.to_string())
                .label(format!("expected {}", short(wanted)));
            None
        }
    }
}

macro_rules! unit {
    ($type:ty, $name:literal, $wanted:literal, $pattern:literal, $description:literal) => {
        impl Decode for $type {
            fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
                parsed(value, $wanted, decoder, str::parse)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

unit!(
    Interval,
    "Duration",
    "a duration such as \"100ms\" or \"5s\"",
    r"^[0-9]+(\.[0-9]+)? ?(us|ms|s|m|h|d)$",
    "A duration with its unit: us, ms, s, m, h or d."
);
unit!(
    Bytes,
    "Size",
    "a size such as \"32KiB\" or \"10MiB\"",
    r"^[0-9]+(\.[0-9]+)? ?(B|KB|KiB|MB|MiB|GB|GiB)$",
    "A size with its unit: B, KB, KiB, MB, MiB, GB or GiB."
);
unit!(
    Percent,
    "Percent",
    "a percentage such as \"5%\"",
    r"^(100|[0-9]{1,2}) ?%$",
    "Whole percent, 0% to 100%."
);

unit!(
    Rate,
    "Rate",
    "a rate such as \"20/s\" or \"5/m\"",
    r"^0*[1-9][0-9]{0,5} ?/[sm]$",
    "1 to 999999 a second or a minute."
);

macro_rules! number {
    ($type:ty, $min:literal, $max:literal) => {
        impl Decode for $type {
            fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
                let number = WholeNumber::<$min, $max>::decode(value, decoder)?;
                Self::new(number.0).ok()
            }
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "integer", "minimum": $min, "maximum": $max })
            }
        }
    };
}

number!(Weight, 0, 65535);
number!(Vrid, 1, 255);
number!(Priority, 1, 255);

/// Reads an address of some form.
fn address<T>(
    value: &Value,
    wanted: &str,
    decoder: &mut Decoder<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let Kind::String(text) = &value.kind else {
        return decoder.wrong_type(value, wanted);
    };
    let parsed = parse(text);
    if parsed.is_none() {
        let message = format!("`{text}` is not {wanted}");
        decoder.report(codes::BAD_ADDRESS, value.span, message);
    }
    parsed
}

impl Decode for IpAddr {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        address(
            value,
            "an IP address such as \"10.0.0.5\" or \"2001:db8::5\"",
            decoder,
            |text| text.parse().ok(),
        )
    }
}

macro_rules! text_schema {
    ($type:ty, $name:literal, $description:literal, $pattern:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $description })
            }
        }
    };
}

/// An address range, or an address with its prefix length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cidr(pub(crate) IpNet);

impl Decode for Cidr {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        address(
            value,
            "an address with a prefix length such as \"10.0.0.0/24\" or \"2001:db8::/64\"",
            decoder,
            |text| text.parse().map(Self).ok(),
        )
    }
}

text_schema!(
    Cidr,
    "Cidr",
    "An address with its prefix length.",
    r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$"
);

/// Peers of a listener: an address range, or `unix:` for those that come over a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peers(pub(crate) PeerRange);

impl Decode for Peers {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        address(
            value,
            "an address with a prefix length such as \"10.0.0.0/24\", or \"unix:\"",
            decoder,
            |text| match text {
                "unix:" => Some(Self(PeerRange::Unix)),
                _ => text
                    .parse()
                    .map(|network| Self(PeerRange::Network(network)))
                    .ok(),
            },
        )
    }
}

text_schema!(
    Peers,
    "Peers",
    "An address with its prefix length, or `unix:` for peers on a unix socket.",
    r"^([0-9A-Fa-f:.]+/[0-9]{1,3}|unix:)$"
);

/// An address with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddressPort(pub(crate) SocketAddr);

impl Decode for AddressPort {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        address(
            value,
            "an address with a port such as \"127.0.0.1:9181\"",
            decoder,
            |text| text.parse().map(Self).ok(),
        )
    }
}

text_schema!(
    AddressPort,
    "AddressPort",
    "An address with a port; IPv6 in square brackets.",
    r"^[0-9A-Fa-f:.\[\]]+:[0-9]{1,5}$"
);

/// A MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MacAddress(pub(crate) [u8; 6]);

impl Decode for MacAddress {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        address(
            value,
            "a MAC address such as \"52:54:00:12:34:56\"",
            decoder,
            |text| {
                let mut bytes = [0_u8; 6];
                let mut parts = text.split(':');
                for byte in &mut bytes {
                    let part = parts.next().filter(|part| part.len() == 2)?;
                    *byte = u8::from_str_radix(part, 16).ok()?;
                }
                parts.next().is_none().then_some(Self(bytes))
            },
        )
    }
}

text_schema!(
    MacAddress,
    "MacAddress",
    "Six bytes in hexadecimal, with colons.",
    r"^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$"
);

/// One port, or a range of ports: `80` or `"8000-8010"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Decode for PortRange {
    fn decode(value: &Value, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Kind::Integer(_) = value.kind {
            let port = WholeNumber::<1, 65535>::decode(value, decoder)?.narrow();
            return Some(Self {
                first: port,
                last: port,
            });
        }
        address(
            value,
            "a port such as 80, or a range such as \"8000-8010\"",
            decoder,
            |text| {
                let (first, last) = text.split_once('-')?;
                let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
                (first > 0 && first <= last).then_some(Self { first, last })
            },
        )
    }
}

impl JsonSchema for PortRange {
    fn schema_name() -> Cow<'static, str> {
        "PortRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A port, or a range of ports.",
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": r"^[0-9]{1,5} ?- ?[0-9]{1,5}$" }
            ]
        })
    }
}
