//! CORE: the frame of a gratuitous ARP announcement (RFC 5227 section 3; the form that keepalived sends).

use std::net::Ipv4Addr;

/// An ARP request, sender and target both `address`, to everyone: whoever has `address` in a table learns that it is at `mac` now.
pub(crate) fn announcement(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    const BROADCAST: [u8; 6] = [0xff; 6];
    let ip = address.octets();
    [
        &BROADCAST[..],
        &mac,
        &[0x08, 0x06],          // ARP
        &[0, 1, 0x08, 0, 6, 4], // Ethernet, IPv4, their lengths
        &[0, 1],                // request
        &mac,
        &ip,
        &BROADCAST,
        &ip,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_the_one_that_keepalived_sends() {
        let pcap = include_bytes!("../tests/fixtures/v3-ipv4.pcap");
        let frame = announcement([2, 0, 0, 0, 0, 0x0a], Ipv4Addr::new(192, 0, 2, 100));
        assert_eq!(frame.len(), 42);
        let found = pcap
            .windows(frame.len())
            .filter(|window| *window == frame)
            .count();
        assert_eq!(found, 5, "one burst of it is in the capture");
    }
}
