//! The VRRPv3 advertisement as bytes (RFC 9568 section 5), and what is checked of a received one (section 7.1). Pure:
//! bytes and addresses in, values out. It knows no virtual router: whose an advertisement is, is for others to say.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// The IP protocol number (section 5.1).
pub const PROTOCOL: u8 = 112;
/// Where IPv4 advertisements go (section 5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where IPv6 advertisements go (section 5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The TTL or hop limit that no router can have lowered.
pub const HOP_LIMIT: u8 = 255;
/// Addresses that one advertisement has room for: its count is a byte.
pub const MAX_ADDRESSES: usize = 255;

const VERSION: u8 = 3;
/// The only type there is: ADVERTISEMENT.
const TYPE: u8 = 1;
const CHECKSUM: std::ops::Range<usize> = 6..8;
const IPV4_HEADER: usize = 20;

/// The group that advertisements of this family go to.
#[must_use]
pub const fn group(is_v4: bool) -> IpAddr {
    if is_v4 {
        IpAddr::V4(GROUP_V4)
    } else {
        IpAddr::V6(GROUP_V6)
    }
}

/// Max Advertise Interval: 12 bits of centiseconds, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(u16);

impl Interval {
    /// The longest that the field can say.
    const MAX: u16 = 0xfff;

    /// The interval of so many centiseconds, 1 to 4095.
    #[must_use]
    pub const fn centiseconds(count: u16) -> Option<Self> {
        if count == 0 || count > Self::MAX {
            None
        } else {
            Some(Self(count))
        }
    }

    /// A duration that is a whole number of centiseconds, of which the field has room for.
    #[must_use]
    pub fn exactly(duration: Duration) -> Option<Self> {
        let count = u16::try_from(duration.as_millis() / 10).ok()?;
        let interval = Self::centiseconds(count)?;
        (interval.duration() == duration).then_some(interval)
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }
}

/// What the checksum of an IPv4 advertisement is made of. IPv6 always has its pseudo-header. Both are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The message alone, as RFC 9568 has made clear (section 5.2.8).
    Message,
    /// A pseudo-header as well, as RFC 5798 was read by keepalived, FRR and others, which take nothing else.
    PseudoHeader,
}

/// What an advertisement says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Virtual Router Identifier, 1 to 255.
    pub router_id: u8,
    /// Of the sender; 0: it gives up.
    pub priority: u8,
    /// How often the sender sends.
    pub interval: Interval,
    /// The virtual router's addresses, of one family.
    pub addresses: Vec<IpAddr>,
}

/// What the IP header of a packet said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who sent it.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// IPv4's TTL, IPv6's hop limit.
    pub hop_limit: u8,
}

/// Why a packet is no advertisement that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invalid {
    /// It went to another address than the group's.
    Destination,
    /// A router may have passed it on: its TTL or hop limit is not 255.
    HopLimit,
    /// It is not of version 3.
    Version,
    /// It is no advertisement.
    Type,
    /// It is shorter than it says.
    Length,
    /// Its checksum is neither of those that are known.
    Checksum,
    /// It is of no virtual router: identifier 0.
    RouterId,
    /// It says that it is sent without a pause.
    Interval,
    /// It names no address.
    Count,
    /// It comes from this host's own address.
    Own,
}

impl Invalid {
    /// Its name in counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Destination => "destination",
            Self::HopLimit => "hop_limit",
            Self::Version => "version",
            Self::Type => "type",
            Self::Length => "length",
            Self::Checksum => "checksum",
            Self::RouterId => "router_id",
            Self::Interval => "interval",
            Self::Count => "count",
            Self::Own => "own_address",
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Advertisement {
    /// The message for a packet from `source` to its family's group. Addresses of the other family, and those
    /// beyond [`MAX_ADDRESSES`], are left out.
    #[must_use]
    pub fn encode(&self, source: IpAddr, checksum: Checksum) -> Vec<u8> {
        let addresses: Vec<IpAddr> = self
            .addresses
            .iter()
            .filter(|address| address.is_ipv4() == source.is_ipv4())
            .take(MAX_ADDRESSES)
            .copied()
            .collect();
        let [high, low] = self.interval.0.to_be_bytes();
        let mut message = vec![
            VERSION << 4 | TYPE,
            self.router_id,
            self.priority,
            addresses.len() as u8,
            high,
            low,
            0,
            0,
        ];
        for address in addresses {
            match address {
                IpAddr::V4(address) => message.extend(address.octets()),
                IpAddr::V6(address) => message.extend(address.octets()),
            }
        }
        let with_header = source.is_ipv6() || checksum == Checksum::PseudoHeader;
        let header = if with_header {
            pseudo_header(source, group(source.is_ipv4()), message.len())
        } else {
            0
        };
        let sum = !fold(header + words(&message));
        message[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// Reads the message of a received packet.
    ///
    /// # Errors
    /// The first thing in the order of section 7.1 that is wrong with it.
    pub fn decode(message: &[u8], envelope: &Envelope) -> Result<Self, Invalid> {
        let is_v4 = envelope.source.is_ipv4();
        if envelope.destination != group(is_v4) {
            return Err(Invalid::Destination);
        }
        if envelope.hop_limit != HOP_LIMIT {
            return Err(Invalid::HopLimit);
        }
        let &[kind, router_id, priority, count, high, low, _, _, ref rest @ ..] = message else {
            return Err(Invalid::Length);
        };
        if kind >> 4 != VERSION {
            return Err(Invalid::Version);
        }
        if kind & 0xf != TYPE {
            return Err(Invalid::Type);
        }
        let size = if is_v4 { 4 } else { 16 };
        let Some(list) = rest.get(..usize::from(count) * size) else {
            return Err(Invalid::Length);
        };
        if !is_sound(message, envelope) {
            return Err(Invalid::Checksum);
        }
        if router_id == 0 {
            return Err(Invalid::RouterId);
        }
        // The upper four bits are reserved, and ignored (section 5.2.6).
        let interval = u16::from_be_bytes([high, low]) & Interval::MAX;
        let interval = Interval::centiseconds(interval).ok_or(Invalid::Interval)?;
        if count == 0 {
            return Err(Invalid::Count);
        }
        let addresses = if is_v4 {
            let (chunks, _) = list.as_chunks::<4>();
            chunks
                .iter()
                .map(|octets| Ipv4Addr::from(*octets).into())
                .collect()
        } else {
            let (chunks, _) = list.as_chunks::<16>();
            chunks
                .iter()
                .map(|octets| Ipv6Addr::from(*octets).into())
                .collect()
        };
        Ok(Self {
            router_id,
            priority,
            interval,
            addresses,
        })
    }
}

/// The identifier of the virtual router that a message is for, sound or not.
#[must_use]
pub fn router_id(message: &[u8]) -> Option<u8> {
    message.get(1).copied()
}

/// The IP header and the payload of an IPv4 packet, as a raw socket gives it.
#[must_use]
pub fn open_ipv4(packet: &[u8]) -> Option<(Envelope, &[u8])> {
    let header = packet.get(..IPV4_HEADER)?;
    let length = usize::from(header[0] & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || length < IPV4_HEADER || header[9] != PROTOCOL {
        return None;
    }
    let payload = packet.get(length..total)?;
    let address = |at: usize| {
        let octets = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        IpAddr::V4(octets.into())
    };
    let envelope = Envelope {
        source: address(12),
        destination: address(16),
        hop_limit: header[8],
    };
    Some((envelope, payload))
}

fn is_sound(message: &[u8], envelope: &Envelope) -> bool {
    let sum = words(message);
    let header = pseudo_header(envelope.source, envelope.destination, message.len());
    fold(sum + header) == 0xffff || envelope.source.is_ipv4() && fold(sum) == 0xffff
}

/// The sum of a pseudo-header's words: IPv6's (RFC 8200 section 8.1), or IPv4's of the same form.
fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u64 {
    let address = |address| match address {
        IpAddr::V4(address) => words(&address.octets()),
        IpAddr::V6(address) => words(&address.octets()),
    };
    address(source) + address(destination) + length as u64 + u64::from(PROTOCOL)
}

/// The sum of the big-endian words, the last one padded with a zero (RFC 1071).
fn words(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let sum: u64 = pairs
        .iter()
        .map(|pair| u64::from(u16::from_be_bytes(*pair)))
        .sum();
    sum + rest.first().map_or(0, |&last| u64::from(last) << 8)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests;
