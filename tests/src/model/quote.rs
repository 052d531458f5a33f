//! The packet that an ICMP error quotes: one that a member sent to a client, in the VIP's name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpNumber, Ipv6FragmentHeaderSlice, Ipv6RawExtHeaderSlice};

use super::steering::Flow;

/// Extension headers that are walked.
const MAX_EXTENSIONS: usize = 2;

/// What an error is about.
pub(super) struct Quoted {
    /// The flow, seen from the client.
    pub(super) flow: Flow,
    /// TCP or UDP.
    pub(super) protocol: IpNumber,
}

/// The flow that a quoted packet belongs to; none where it is not the VIP's, or can't be told.
pub(super) fn parse(quoted: &[u8], vip: IpAddr) -> Option<Quoted> {
    let (source, client, protocol, rest) = match vip {
        IpAddr::V4(_) => v4(quoted)?,
        IpAddr::V6(_) => v6(quoted)?,
    };
    if source != vip || !matches!(protocol, IpNumber::TCP | IpNumber::UDP) {
        return None;
    }
    let ports = rest.get(..4)?;
    Some(Quoted {
        flow: Flow {
            client,
            client_port: u16::from_be_bytes([ports[2], ports[3]]),
            port: u16::from_be_bytes([ports[0], ports[1]]),
        },
        protocol,
    })
}

type Parts<'a> = (IpAddr, IpAddr, IpNumber, &'a [u8]);

/// Its total length may well go beyond the quote, but not end inside its own header.
fn v4(quoted: &[u8]) -> Option<Parts<'_>> {
    let fixed = quoted.get(..20)?;
    let (version, words) = (fixed[0] >> 4, usize::from(fixed[0] & 0xf));
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let offset = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff;
    if version != 4 || words < 5 || total < words * 4 || offset != 0 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = fixed[at..at + 4].try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    Some((
        address(12)?,
        address(16)?,
        IpNumber(fixed[9]),
        quoted.get(words * 4..)?,
    ))
}

fn v6(quoted: &[u8]) -> Option<Parts<'_>> {
    let fixed = quoted.get(..40)?;
    if fixed[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = fixed[at..at + 16].try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let mut protocol = IpNumber(fixed[6]);
    let mut rest = &quoted[40..];
    for _ in 0..MAX_EXTENSIONS {
        match protocol {
            IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_DESTINATION_OPTIONS
            | IpNumber::IPV6_ROUTE_HEADER => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest).ok()?;
                protocol = header.next_header();
                rest = &rest[header.slice().len()..];
            }
            IpNumber::IPV6_FRAGMENTATION_HEADER => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
                if header.fragment_offset().value() != 0 {
                    return None;
                }
                protocol = header.next_header();
                rest = &rest[header.slice().len()..];
            }
            _ => break,
        }
    }
    Some((address(8)?, address(24)?, protocol, rest))
}
