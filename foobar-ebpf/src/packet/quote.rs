//! The packet that an ICMP error quotes (RFC 792, RFC 4443 section 2.4 c): the one that it is about.

use foobar_common::address::Address;

use super::{Frame, Payload, Piece, ipv4, ipv6};

/// What a quoted packet says, seen from its sender: the VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Its source.
    pub source: Address,
    /// Its destination: the client.
    pub destination: Address,
    /// TCP or UDP.
    pub protocol: u8,
    /// Source and destination port, the four bytes as they stand in the packet.
    pub ports_be: u32,
}

/// Extension headers that are walked in a quoted packet.
const MAX_EXTENSIONS: usize = 2;

/// Reads the IPv4 packet quoted in `place`; `None` where it is too short, a later fragment, or of another
/// protocol.
#[inline(always)]
pub fn v4(frame: &Frame, place: Payload) -> Option<Quote> {
    let ip = ipv4::Header::at(frame, place.offset)?;
    let (header, _) = ip.lengths().ok()?;
    if matches!(ip.piece(), Piece::Later) {
        return None;
    }
    Some(Quote {
        source: Address::from_ipv4_raw(ip.source()),
        destination: Address::from_ipv4_raw(ip.destination()),
        protocol: ip.protocol(),
        ports_be: ports(frame, place, header, ip.protocol())?,
    })
}

/// Reads the IPv6 packet quoted in `place`, as [`v4`].
#[inline(always)]
pub fn v6(frame: &Frame, place: Payload) -> Option<Quote> {
    let ip = ipv6::Header::at(frame, place.offset)?;
    if ip.version() != 6 {
        return None;
    }
    let mut protocol = ip.next_header();
    let mut header = ipv6::LENGTH;
    for _ in 0..MAX_EXTENSIONS {
        if !ipv6::is_extension(protocol) {
            break;
        }
        let extension = frame.at::<u64>(place.offset + header)?;
        header += if protocol == ipv6::FRAGMENT {
            if u16::from_be(extension.get::<u16, 2>()) & !7 != 0 {
                return None;
            }
            8
        } else {
            (extension.get::<u8, 1>() as usize + 1) * 8
        };
        protocol = extension.get::<u8, 0>();
    }
    Some(Quote {
        source: ipv6::address(ip.source()),
        destination: ipv6::address(ip.destination()),
        protocol,
        ports_be: ports(frame, place, header, protocol)?,
    })
}

#[inline(always)]
fn ports(frame: &Frame, place: Payload, header: usize, protocol: u8) -> Option<u32> {
    if (protocol != ipv4::TCP && protocol != ipv4::UDP) || header + 4 > place.length {
        return None;
    }
    Some(frame.at::<u32>(place.offset + header)?.get::<u32, 0>())
}
