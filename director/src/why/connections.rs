//! CORE: what `/proc/net/ip_vs_conn` says of one client: what exists counts more than what a scheduler would choose.
//!
//! The file is read up to [`MOST`] lines only: with a million connections a whole look takes the kernel seconds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Lines that are looked at.
pub const MOST: usize = 5_000;
/// Connections that are shown.
const SHOWN: usize = 5;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// The client.
    pub client: Option<IpAddr>,
    /// Its entries.
    pub entries: Vec<Entry>,
    /// Whether the table has more lines than were looked at.
    pub partial: bool,
}

/// An entry of the connection table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `TCP`, `UDP`, `SCTP`, or `IP` for a persistence template.
    pub protocol: String,
    /// The client. A persistence template has port 0.
    pub client: SocketAddr,
    /// The virtual address.
    pub virtual_address: SocketAddr,
    /// The real server.
    pub server: SocketAddr,
    /// Such as `ESTABLISHED`.
    pub state: String,
    /// Seconds until the entry is forgotten, unless packets come.
    pub expires: u64,
}

impl Seen {
    /// Picks a client's entries out of the first lines of the table.
    pub fn read<'a>(lines: impl Iterator<Item = &'a str>, client: IpAddr) -> Self {
        let mut seen = Self {
            client: Some(client),
            ..Self::default()
        };
        for (count, line) in lines.enumerate() {
            if count >= MOST {
                seen.partial = true;
                break;
            }
            seen.entries
                .extend(entry(line).filter(|entry| entry.client.ip() == client));
        }
        seen
    }

    /// In sentences.
    pub fn lines(&self) -> Vec<String> {
        let Some(client) = self.client else {
            return Vec::new();
        };
        let mut lines: Vec<String> = self
            .entries
            .iter()
            .take(SHOWN)
            .map(|entry| {
                let Entry { protocol, client, virtual_address, server, state, expires } = entry;
                match client.port() {
                    0 => format!("in the table: {client} keeps {server} (template, {expires} s left)"),
                    _ => format!("in the table: {protocol} {client} -> {virtual_address} is on {server} ({state}, {expires} s left)"),
                }
            })
            .collect();
        if self.entries.len() > SHOWN {
            lines.push(format!(
                "… and {} more of {client}",
                self.entries.len() - SHOWN
            ));
        }
        if self.partial {
            lines.push(format!("the first {MOST} entries of the connection table were looked at for {client}, not the rest"));
        } else if self.entries.is_empty() {
            lines.push(format!("the connection table has nothing of {client}"));
        }
        lines
    }
}

/// One line: protocol, then address and port of client, service and real server in hexadecimal, state, seconds.
fn entry(line: &str) -> Option<Entry> {
    let mut words = line.split_whitespace();
    let protocol = words.next()?.to_owned();
    let mut socket = || {
        let address = address(words.next()?)?;
        let port = u16::from_str_radix(words.next()?, 16).ok()?;
        Some(SocketAddr::new(address, port))
    };
    let (client, virtual_address, server) = (socket()?, socket()?, socket()?);
    let state = words.next()?.to_owned();
    let expires = words.next()?.parse().ok()?;
    Some(Entry {
        protocol,
        client,
        virtual_address,
        server,
        state,
        expires,
    })
}

fn address(word: &str) -> Option<IpAddr> {
    let bare = word.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        return Some(address.into());
    }
    let bits = u32::from_str_radix(word, 16)
        .ok()
        .filter(|_| word.len() == 8)?;
    Some(Ipv4Addr::from_bits(bits).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n\
        TCP 0A090002 C350 0A000064 0050 0A00000B 0050 ESTABLISHED     899\n\
        TCP 0A090003 C351 0A000064 0050 0A00000C 0050 FIN_WAIT         12\n\
        IP  0A090002 0000 0A000064 0050 0A00000B 0050 NONE            290\n\
        TCP 20010db8000000000000000000000002 C350 0A000064 0050 0A00000B 0050 ESTABLISHED     899\n\
        TCP 2001:0db8:0000:0000:0000:0000:0000:0002 C350 2001:0db8:0000:0000:0000:0000:0000:0100 0050 2001:0db8:0000:0000:0000:0000:0000:0011 0050 ESTABLISHED     899\n";

    #[test]
    fn the_entries_of_a_client_are_found() {
        let seen = Seen::read(TABLE.lines(), "10.9.0.2".parse().unwrap());
        assert_eq!(
            seen.lines(),
            [
                "in the table: TCP 10.9.0.2:50000 -> 10.0.0.100:80 is on 10.0.0.11:80 (ESTABLISHED, 899 s left)",
                "in the table: 10.9.0.2:0 keeps 10.0.0.11:80 (template, 290 s left)",
            ]
        );
        assert_eq!(
            Seen::read(TABLE.lines(), "2001:db8::2".parse().unwrap())
                .entries
                .len(),
            1
        );
        let none = Seen::read(TABLE.lines(), "10.9.0.9".parse().unwrap());
        assert_eq!(
            none.lines(),
            ["the connection table has nothing of 10.9.0.9"]
        );
    }

    #[test]
    fn a_large_table_is_not_read_to_its_end() {
        let line = "TCP 0A090002 C350 0A000064 0050 0A00000B 0050 ESTABLISHED     899";
        let seen = Seen::read(std::iter::repeat(line), "10.9.0.2".parse().unwrap());
        assert!(seen.partial);
        assert_eq!(seen.lines().len(), SHOWN + 2);
    }
}
