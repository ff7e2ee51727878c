//! CORE: what the connection table takes of the memory, and whether it has enough buckets. The numbers come from the kernel; see
//! `struct ip_vs_conn` (320 bytes in its slab on 64-bit machines) and the table's hash chains (one pointer per bucket).

use serde::Serialize;

use crate::observe::Observation;

/// Bytes of one connection entry.
const ENTRY: u64 = 320;
/// Bytes of one bucket.
const BUCKET: u64 = 8;
/// Connections per bucket from which looking one up is felt.
const CHAIN: u64 = 2;
/// What the module accepts on kernel 6.1 (`conn_tab_bits`).
const MOST_BITS: u32 = 20;

/// What is known of the connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// Connections that the file expects at the busiest time.
    pub expected: u64,
    /// Connection entries of our services now.
    pub connections: u64,
    /// Buckets of the table.
    pub buckets: u64,
    /// Bytes at the busiest time: the table and an entry for each connection.
    pub bytes: u64,
    /// Bytes that the machine can still give, if known.
    pub available: Option<u64>,
}

impl Forecast {
    /// A forecast for `expected` connections.
    pub fn new(expected: u64, connections: u64, buckets: u32, available: Option<u64>) -> Self {
        let buckets = u64::from(buckets);
        Self {
            expected,
            connections,
            buckets,
            bytes: buckets
                .saturating_mul(BUCKET)
                .saturating_add(expected.saturating_mul(ENTRY)),
            available,
        }
    }

    /// What should be changed.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let chain = |connections: u64| connections > self.buckets.saturating_mul(CHAIN);
        let bits = bits(self.expected.max(self.connections));
        let advice = format!(
            "write `options ip_vs conn_tab_bits={bits}` into /etc/modprobe.d and load the module anew"
        );
        let buckets = self.buckets;
        if buckets > 0 && chain(self.connections) {
            warnings.push(format!(
                "{} connections in a table of {buckets} buckets: each look-up goes through a long chain; {advice}",
                self.connections
            ));
        } else if buckets > 0 && chain(self.expected) {
            warnings.push(format!(
                "{buckets} buckets are too few for the {} connections that `expected_connections` says; {advice}",
                self.expected
            ));
        }
        let missing = self
            .expected
            .saturating_sub(self.connections)
            .saturating_mul(ENTRY);
        if let Some(available) = self.available.filter(|available| *available < missing) {
            warnings.push(format!(
                "{} connections need {} MiB more memory, and {} MiB are available",
                self.expected,
                mebi(missing),
                mebi(available)
            ));
        }
        warnings
    }
}

/// Connection entries of all services: what the kernel counts at their destinations.
pub fn connections(observed: &Observation) -> u64 {
    observed
        .destinations
        .values()
        .map(|activity| u64::from(activity.active) + u64::from(activity.inactive))
        .sum()
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
pub fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibi: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibi.checked_mul(1024)
}

/// Whole MiB.
pub fn mebi(bytes: u64) -> u64 {
    bytes / (1024 * 1024)
}

/// The bits of a table with a bucket per connection.
fn bits(connections: u64) -> u32 {
    connections
        .max(2)
        .next_power_of_two()
        .trailing_zeros()
        .clamp(12, MOST_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_connections_take_313_mib_and_need_2_to_the_20_buckets() {
        let forecast = Forecast::new(1_000_000, 0, 1 << 20, Some(4 << 30));
        assert_eq!(mebi(forecast.bytes), 313);
        assert_eq!(forecast.warnings(), Vec::<String>::new());
        let few = Forecast::new(1_000_000, 0, 4096, Some(4 << 30)).warnings();
        assert!(few[0].contains("conn_tab_bits=20"), "{few:?}");
        let short = Forecast::new(1_000_000, 0, 1 << 20, Some(100 << 20)).warnings();
        assert_eq!(
            short,
            ["1000000 connections need 305 MiB more memory, and 100 MiB are available"]
        );
    }

    #[test]
    fn what_is_there_now_is_worse_than_what_is_expected() {
        let warnings = Forecast::new(5000, 10_000, 4096, None).warnings();
        assert!(
            warnings[0].starts_with("10000 connections in a table of 4096 buckets")
                && warnings[0].contains("conn_tab_bits=14"),
            "{warnings:?}"
        );
        assert_eq!(
            Forecast::new(5000, 100, 4096, None).warnings(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn available_memory_is_read() {
        let text = "MemTotal:       16000 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available(text), Some(2 << 20));
        assert_eq!(available(""), None);
    }
}
