//! The frame of an unsolicited neighbour advertisement (RFC 4861 section 7.2.6): IPv6's gratuitous ARP. Pure:
//! addresses in, bytes out.

use std::net::Ipv6Addr;

use super::MacAddress;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
/// The advertisement with one option, the target's link-layer address.
const ICMP: usize = 32;
const FRAME_LENGTH: usize = ETHERNET + IPV6 + ICMP;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// [`ALL_NODES`] on Ethernet (RFC 2464 section 7).
const ALL_NODES_MAC: MacAddress = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Not solicited, of no router, and what neighbours know is to be overwritten.
const OVERRIDE: u8 = 0x20;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// What a receiver insists on: no router has passed it on (RFC 4861 section 7.1.2).
const HOP_LIMIT: u8 = 255;

/// The frame that announces `vip` at `mac`: to all nodes of the link, from the VIP itself.
#[must_use]
pub fn neighbour_advertisement(mac: MacAddress, vip: Ipv6Addr) -> [u8; FRAME_LENGTH] {
    let mut frame = [0; FRAME_LENGTH];
    frame[0..6].copy_from_slice(&ALL_NODES_MAC);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&0x86dd_u16.to_be_bytes());

    let header = &mut frame[ETHERNET..ETHERNET + IPV6];
    header[0] = 6 << 4;
    header[4..6].copy_from_slice(&(ICMP as u16).to_be_bytes());
    header[6] = ICMPV6;
    header[7] = HOP_LIMIT;
    header[8..24].copy_from_slice(&vip.octets());
    header[24..40].copy_from_slice(&ALL_NODES.octets());

    let message = &mut frame[ETHERNET + IPV6..];
    message[0] = NEIGHBOUR_ADVERTISEMENT;
    message[4] = OVERRIDE;
    message[8..24].copy_from_slice(&vip.octets());
    // The option's length counts units of eight bytes.
    message[24..26].copy_from_slice(&[TARGET_LINK_LAYER_ADDRESS, 1]);
    message[26..32].copy_from_slice(&mac);
    let checksum = checksum(vip, ALL_NODES, message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// The ICMPv6 checksum of a message whose checksum field is zero (RFC 8200 section 8.1). Its length is even.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks_exact(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum()
    };
    let mut sum = words(&source.octets())
        + words(&destination.octets())
        + message.len() as u32
        + u32::from(ICMPV6)
        + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advertisement_comes_from_the_vip_to_all_nodes_and_overrides() {
        let vip: Ipv6Addr = "2001:db8:0:1::101".parse().unwrap();
        let frame = neighbour_advertisement([2, 0, 0, 0, 0, 7], vip);
        let expected = [
            0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x86, 0xdd, // Ethernet
            0x60, 0, 0, 0, 0, 32, 58, 255, // IPv6: 32 bytes of ICMPv6, hop limit 255
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, // from the VIP
            0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // to all nodes
            136, 0, 0xf7, 0x22, 0x20, 0, 0, 0, // advertisement, checksum, override
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, // target
            2, 1, 2, 0, 0, 0, 0, 7, // the target's link-layer address
        ];
        assert_eq!(frame, expected);
    }
}
