//! Addresses as the maps hold them: 16 bytes, IPv4 as IPv4-mapped IPv6 (RFC 4291 section 2.5.5.2).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv6 address, or an IPv4 address in its mapped form, in network byte order.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The 16 bytes as they would stand in an IPv6 header.
    pub bytes: [u8; 16],
}

impl Address {
    /// The mapped form of an IPv4 address whose four bytes were loaded, as they stand, into `raw`.
    ///
    /// Built from words: of single bytes the BPF back end would make a call of `memset`.
    #[inline(always)]
    pub const fn from_ipv4_raw(raw: u32) -> Self {
        const PREFIX: u64 = u64::from_le_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        // SAFETY: both are 16 plain bytes.
        unsafe { core::mem::transmute::<[u64; 2], Self>([0, (PREFIX | (raw as u64) << 32).to_le()]) }
    }

    /// The address as two words, each loaded as it stands in memory: what hashes and comparisons work on.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 2] {
        // SAFETY: both are 16 plain bytes. Of single bytes the BPF back end would load each.
        unsafe { core::mem::transmute::<Self, [u64; 2]>(*self) }
    }

    /// Whether it is an IPv4 address.
    pub const fn is_mapped(&self) -> bool {
        matches!(self.bytes, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..])
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        let v6 = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self { bytes: v6.octets() }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(address: Ipv4Addr) -> Self {
        IpAddr::V4(address).into()
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        Ipv6Addr::from(address.bytes).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_survives_the_mapping() {
        let v4 = Ipv4Addr::new(192, 0, 2, 101);
        let mapped = Address::from(v4);
        assert_eq!(mapped.bytes[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        assert_eq!(IpAddr::from(mapped), IpAddr::V4(v4));
        assert_eq!(Address::from_ipv4_raw(u32::from_ne_bytes(v4.octets())), mapped);
    }
}
