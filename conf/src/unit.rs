//! CORE: the values with a unit or a range: parsed once, then always valid.
//!
//! In the file a duration is `"100ms"` (`us`, `ms`, `s`, `m`, `h`, `d`), a size `"32KiB"` (`B`, `KiB`, `MiB`, `GiB`, `KB`, `MB`, `GB`),
//! a percentage `"5%"`. A number without its unit is refused: nginx's seconds and keepalived's centiseconds look alike.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a value was refused: one sentence that names the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(pub(crate) String);

impl UnitError {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A duration as written in the file, with microsecond precision. `"0s"` is allowed; the key that reads it says what zero means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Interval(u64);

impl Interval {
    /// An interval of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// An interval of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// An interval of `micros` microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// As the standard library's duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_micros(self.0)
    }

    /// Whether it is zero.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Interval> for Duration {
    fn from(interval: Interval) -> Duration {
        interval.as_duration()
    }
}

const INTERVAL_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl FromStr for Interval {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_scaled(text, INTERVAL_UNITS).map(Self).ok_or_else(|| {
            UnitError::new(format!("`{text}` is not a duration: write a number and its unit, such as `100ms`, `2s`, `5m`, `1h` or `7d`"))
        })
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, INTERVAL_UNITS, "s")
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(u64);

impl Bytes {
    /// `count` bytes.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// `count` KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1024))
    }

    /// `count` MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1024 * 1024))
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }
}

const BYTE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
];

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_scaled(text, BYTE_UNITS).map(Self).ok_or_else(|| {
            UnitError::new(format!("`{text}` is not a size: write a number and its unit, such as `512B`, `32KiB` or `10MiB`"))
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary: &[(&str, u64)] = &[
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
        ];
        write_scaled(f, self.0, binary, "B")
    }
}

/// A share from 0 % to 100 %, in whole percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Percent(u8);

impl Percent {
    /// Nothing.
    pub const ZERO: Percent = Percent(0);
    /// All of it.
    pub const FULL: Percent = Percent(100);

    /// `value` percent, if it is at most 100.
    pub fn new(value: u64) -> Result<Self, UnitError> {
        match u8::try_from(value) {
            Ok(value) if value <= 100 => Ok(Self(value)),
            _ => Err(UnitError::new(format!(
                "{value} % is out of range: 0 % to 100 %"
            ))),
        }
    }

    /// 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = || {
            UnitError::new(format!(
                "`{text}` is not a percentage: write a whole number and `%`, such as `5%`"
            ))
        };
        let digits = text.strip_suffix('%').ok_or_else(refused)?;
        Self::new(digits.trim_end().parse().map_err(|_| refused())?)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// How often: requests a second or a minute, kept in thousandths of a request a second, rounded down as nginx's `rate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Rate(u64);

impl Rate {
    /// The largest number that is written.
    const LARGEST: u64 = 999_999;

    /// Thousandths of a request a second; at least 1.
    pub const fn per_1000_seconds(self) -> u64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refused = |why: &str| {
            UnitError::new(format!(
                "`{text}` is not a rate{why}: write a whole number a second or a minute, such as `20/s` or `5/m`"
            ))
        };
        let (count, seconds) = match text.split_once('/') {
            Some((count, "s")) => (count, 1),
            Some((count, "m")) => (count, 60),
            _ => return Err(refused("")),
        };
        let count: u64 = count.trim_end().parse().map_err(|_| refused(""))?;
        match count {
            1..=Self::LARGEST => Ok(Self(count * 1000 / seconds)),
            _ => Err(refused(" between 1/m and 999999/s")),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1000 {
            0 => write!(f, "{}/s", self.0 / 1000),
            // What was rounded down when it was read.
            _ => write!(f, "{}/m", (self.0 * 60).div_ceil(1000)),
        }
    }
}

/// A server's share of the load: 0 to 65535, where 0 takes no new work (drain). IPVS and nginx agree on small whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Weight(u16);

impl Weight {
    /// The default weight.
    pub const ONE: Weight = Weight(1);
    /// Takes no new work.
    pub const ZERO: Weight = Weight(0);

    /// A weight, if it is at most 65535.
    pub fn new(value: i64) -> Result<Self, UnitError> {
        u16::try_from(value)
            .map(Self)
            .map_err(|_| UnitError::new(format!("weight {value} is out of range: 0 to 65535")))
    }

    /// 0 to 65535.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A virtual router identifier, 1 to 255 (RFC 9568 section 5.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Vrid(u8);

impl Vrid {
    /// A virtual router identifier, if it is 1 to 255.
    pub fn new(value: i64) -> Result<Self, UnitError> {
        match u8::try_from(value) {
            Ok(id) if id != 0 => Ok(Self(id)),
            _ => Err(UnitError::new(format!(
                "virtual router id {value} is out of range: 1 to 255"
            ))),
        }
    }

    /// 1 to 255.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A VRRP priority that a file may name: 1 to 255; 255 is the address owner, 0 is reserved for "stops now" (RFC 9568 section 5.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(u8);

impl Priority {
    /// A priority, if it is 1 to 255.
    pub fn new(value: i64) -> Result<Self, UnitError> {
        match u8::try_from(value) {
            Ok(priority) if priority != 0 => Ok(Self(priority)),
            _ => Err(UnitError::new(format!(
                "priority {value} is out of range: 1 to 254, or 255 for the address owner"
            ))),
        }
    }

    /// 1 to 255.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// `12.5ms` with a table of units to the smallest unit; `None` for an unknown unit, a sign, or an overflow.
fn parse_scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    match number.split_once('.') {
        None => number.parse::<u64>().ok()?.checked_mul(*scale),
        Some((whole, fraction)) => {
            if whole.is_empty()
                || fraction.is_empty()
                || fraction.len() > 9
                || fraction.contains('.')
            {
                return None;
            }
            let ten = 10u128.pow(u32::try_from(fraction.len()).ok()?);
            let digits = whole
                .parse::<u128>()
                .ok()?
                .checked_mul(ten)?
                .checked_add(fraction.parse::<u128>().ok()?)?;
            let scaled = digits.checked_mul(u128::from(*scale))?;
            // `1.5B` or `0.1us` would have to be rounded: not what was written.
            if scaled % ten != 0 {
                None
            } else {
                u64::try_from(scaled / ten).ok()
            }
        }
    }
}

/// Writes with the largest unit that loses nothing.
fn write_scaled(
    f: &mut fmt::Formatter<'_>,
    value: u64,
    units: &[(&str, u64)],
    zero: &str,
) -> fmt::Result {
    if value == 0 {
        return write!(f, "0{zero}");
    }
    match units
        .iter()
        .rev()
        .find(|(_, scale)| value.is_multiple_of(*scale))
    {
        Some((unit, scale)) => write!(f, "{}{unit}", value / scale),
        None => write!(f, "{value}{zero}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_nginx_s() {
        let rate = |text: &str| text.parse::<Rate>().map(Rate::per_1000_seconds);
        assert_eq!(rate("20/s"), Ok(20_000));
        assert_eq!(rate("5/m"), Ok(83), "rounded down, as nginx does");
        assert_eq!(rate("120 /m"), Ok(2_000));
        for wrong in [
            "",
            "20",
            "20/h",
            "0/s",
            "-1/s",
            "1.5/s",
            "1000000/s",
            "99999999999999999999/s",
        ] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        for text in ["20/s", "5/m", "1/m", "59/m", "61/m"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn intervals_have_units() {
        assert_eq!(
            "100ms".parse::<Interval>().unwrap(),
            Interval::from_millis(100)
        );
        assert_eq!(
            "1.5s".parse::<Interval>().unwrap(),
            Interval::from_millis(1500)
        );
        assert_eq!("2 m".parse::<Interval>().unwrap(), Interval::from_secs(120));
        assert_eq!("250us".parse::<Interval>().unwrap().as_micros(), 250);
        for wrong in [
            "",
            "5",
            "ms",
            "-1s",
            "1.s",
            ".5s",
            "1..5s",
            "1w",
            "1S",
            "99999999999999999999s",
            "0.1us",
            "1s2",
        ] {
            assert!(wrong.parse::<Interval>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn intervals_print_as_written() {
        for text in ["100ms", "1500ms", "2m", "1h", "7d", "250us", "0s"] {
            assert_eq!(text.parse::<Interval>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("32KiB".parse::<Bytes>().unwrap().get(), 32768);
        assert_eq!("1KB".parse::<Bytes>().unwrap().get(), 1000);
        assert_eq!("1.5MiB".parse::<Bytes>().unwrap().get(), 1_572_864);
        assert!("10".parse::<Bytes>().is_err());
        assert!("10kib".parse::<Bytes>().is_err());
        assert_eq!(Bytes::mib(10).to_string(), "10MiB");
        assert_eq!(Bytes::new(1000).to_string(), "1000B");
    }

    #[test]
    fn ranges_are_kept() {
        assert!(Vrid::new(0).is_err() && Vrid::new(256).is_err() && Vrid::new(-1).is_err());
        assert_eq!(Vrid::new(255).unwrap().get(), 255);
        assert!(Priority::new(0).is_err());
        assert!(Weight::new(65_536).is_err() && Weight::new(-1).is_err());
        assert!(Percent::new(101).is_err());
        assert_eq!("5%".parse::<Percent>().unwrap().get(), 5);
        assert!("5".parse::<Percent>().is_err());
    }
}
