//! The flow hash: 64-bit multiply-xorshift with secret seeds.
//!
//! It decides a flow's slot, and with the same seed it does so alike on every balancer of a cluster. It
//! spreads structured clients (consecutive ports, consecutive addresses) evenly, which a linear multiply-shift
//! does not, and costs a fraction of a nanosecond more. The seed keeps an attacker from aiming at a slot.

const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0xbf58_476d_1ce4_e5b9;
const K2: u64 = 0x94d0_49bb_1331_11eb;

/// The hash of a flow.
///
/// `source` is [`crate::address::Address::words`]; `ports_be` holds the source port and the destination port
/// as the four bytes stand in the packet (0 where only the source counts).
#[inline(always)]
pub const fn flow_hash(seed: [u64; 2], source: [u64; 2], ports_be: u32) -> u64 {
    let mut h = (source[1] ^ seed[0]).wrapping_mul(K0);
    h ^= h >> 32;
    h = h.wrapping_add(source[0]);
    h = (h ^ seed[1] ^ (ports_be as u64) << 16).wrapping_mul(K1);
    h ^= h >> 29;
    h = h.wrapping_mul(K2);
    h ^ h >> 32
}

/// Both ports, each network byte order, as [`flow_hash`] takes them.
pub const fn ports_be(source_be: u16, destination_be: u16) -> u32 {
    let (s, d) = (source_be.to_ne_bytes(), destination_be.to_ne_bytes());
    u32::from_ne_bytes([s[0], s[1], d[0], d[1]])
}

/// The two positions that a VIP's entry may take in a table of `mask + 1` entries.
///
/// `service` holds port (as it stands in the packet), protocol and kind, as [`crate::vip::VipKey::tail`]
/// packs them. User space chooses a `seed` with which all entries find a place.
#[inline(always)]
pub const fn vip_positions(seed: u64, address: [u64; 2], service: u32, mask: u32) -> [u32; 2] {
    let mut h = (address[1] ^ seed).wrapping_mul(K0);
    h ^= h >> 32;
    h = (h.wrapping_add(address[0]) ^ (service as u64) << 13).wrapping_mul(K1);
    h ^= h >> 32;
    [h as u32 & mask, (h >> 16) as u32 & mask]
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec;

    /// Variance over mean of the slots' loads: about 1 for a random function.
    fn dispersion(flows: impl Iterator<Item = (u64, u32)>) -> f64 {
        let mut slots = vec![0f64; 65_536];
        let mut count = 0f64;
        for (source, ports) in flows {
            let hash = flow_hash([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210], [0, source], ports);
            slots[hash as usize & 0xffff] += 1.0;
            count += 1.0;
        }
        let mean = count / 65_536.0;
        slots.iter().map(|n| (n - mean) * (n - mean)).sum::<f64>() / 65_536.0 / mean
    }

    fn v4(n: u32) -> u64 {
        crate::address::Address::from_ipv4_raw(n.to_be()).words()[1]
    }

    #[test]
    fn structured_clients_are_spread_like_random_ones() {
        let port = |p: u32| u32::from(443u16.to_be()) << 16 | u32::from((p as u16).to_be());
        let one_host = dispersion((0..65_536u32).map(|p| (v4(0xc000_0201), port(p))));
        let many_hosts = dispersion((0..1 << 20).map(|n| (v4(0x0a00_0000 + n), port(40_000))));
        let every_fourth =
            dispersion((0..1 << 20).map(|n| (v4(0x0a00_0000 + (n >> 6) * 256), port(1024 + (n & 63) * 4))));
        for (what, ratio) in [
            ("one host", one_host),
            ("many hosts", many_hosts),
            ("strided", every_fourth),
        ] {
            assert!((0.9..1.1).contains(&ratio), "{what}: variance/mean {ratio}");
        }
    }

    #[test]
    fn another_seed_is_another_spread() {
        let a = flow_hash([1, 2], [0, v4(7)], 9);
        assert_ne!(a, flow_hash([3, 2], [0, v4(7)], 9));
        assert_ne!(a, flow_hash([1, 4], [0, v4(7)], 9));
    }
}
