//! CORE: the frame of an unsolicited neighbour advertisement (RFC 4861 section 7.2.6; the form that keepalived sends).

use std::net::Ipv6Addr;

use crate::packet;

const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
/// The option with the sender's link-layer address, of 1 × 8 bytes.
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

/// From and about `address`, to all nodes: whoever has it in a table learns that it is at `mac` now. `router`: whether this node forwards
/// IPv6, which its neighbours must not be told otherwise.
pub(crate) fn announcement(mac: [u8; 6], address: Ipv6Addr, router: bool) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
    let flags = OVERRIDE | if router { ROUTER } else { 0 };
    let mut message = [
        &[NEIGHBOUR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0][..],
        &address.octets(),
        &TARGET_LINK_LAYER_ADDRESS,
        &mac,
    ]
    .concat();
    let checksum = packet::checksum_over_ipv6(address, ALL_NODES, ICMPV6, &message);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&checksum);
    }
    let length = u16::try_from(message.len()).unwrap_or_default();
    [
        &ALL_NODES_MAC[..],
        &mac,
        &[0x86, 0xdd],    // IPv6
        &[0x60, 0, 0, 0], // version
        &length.to_be_bytes(),
        &[ICMPV6, packet::TTL],
        &address.octets(),
        &ALL_NODES.octets(),
        &message,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_the_one_that_keepalived_sends() {
        let pcap = include_bytes!("../tests/fixtures/v3-ipv6.pcap");
        for vip in ["fe80::100", "2001:db8::100"] {
            let frame = announcement([2, 0, 0, 0, 0, 0x0a], vip.parse().unwrap(), false);
            let found = pcap
                .windows(frame.len())
                .filter(|window| *window == frame)
                .count();
            assert_eq!(found, 5, "one burst of it is in the capture: {vip}");
        }
    }
}
