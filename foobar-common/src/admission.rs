//! Admission: which sources a VIP serves, and how many new TCP connections. All of it is off by default, and
//! compiled out of the running program where no VIP asks for it ([`Features`]).

/// What a program is loaded with: a constant to the verifier, which removes what is not asked for.
pub type Features = u32;
/// Some VIP has a source list.
pub const FEATURE_LISTS: Features = 1 << 0;
/// Some VIP limits SYNs.
pub const FEATURE_SYN_LIMITS: Features = 1 << 1;
/// Some VIP has QUIC server ids.
pub const FEATURE_QUIC: Features = 1 << 2;
/// Some VIP has candidates, or notes all flows or none.
pub const FEATURE_TRACKING: Features = 1 << 3;
/// Some target is reached through a tunnel.
pub const FEATURE_TUNNELS: Features = 1 << 4;
/// All that VIPs and targets ask for.
pub const FEATURES_ALL: Features =
    FEATURE_LISTS | FEATURE_SYN_LIMITS | FEATURE_QUIC | FEATURE_TRACKING | FEATURE_TUNNELS;

/// Peers are to hear of notes: the program tells of them ([`crate::note_event`]). No VIP asks for it, and a packet that
/// its slot alone decides about takes the same way with it and without.
pub const FEATURE_NOTE_EVENTS: Features = 1 << 5;

/// Faults of a program that was compiled to have them, for the tests of the packet fuzzer: the check of IPv4's total
/// length is missing.
pub const PLANTED_LENGTH_CHECK: Features = 1 << 29;
/// An outer header's length is one byte too much.
pub const PLANTED_OUTER_LENGTH: Features = 1 << 30;
/// Server ids are followed to members that don't live.
pub const PLANTED_DEAD_SERVER_ID: Features = 1 << 31;

/// Source lists that there can be.
pub const MAX_LISTS: u32 = 256;

/// The key of a source list's longest-prefix match: an IPv4 prefix in its mapped form has 96 bits more.
pub type ListKey = [u8; 16];

/// A source list's verdict on a prefix.
pub type ListVerdict = u32;
/// Sources of the prefix are denied.
pub const LIST_DENY: ListVerdict = 0;
/// Sources of the prefix are served.
pub const LIST_ALLOW: ListVerdict = 1;

/// SYN limits that there can be.
pub const MAX_LIMITS: u32 = 4096;

/// A token bucket as the time at which it is full again (the theoretical arrival time of GCRA, ITU-T I.371),
/// CLOCK_MONOTONIC in nanoseconds.
pub type Bucket = u64;

/// How a VIP limits new connections: an element of the array of limits.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynLimit {
    /// The bucket of the VIP's SYNs; the data plane writes it.
    pub bucket: Bucket,
    /// Nanoseconds that one SYN costs the VIP; 0: the VIP is not limited.
    pub cost_ns: u64,
    /// How far ahead of now the VIP's bucket may be: cost times burst.
    pub depth_ns: u64,
    /// Nanoseconds that one SYN costs its source; 0: sources are not limited.
    pub source_cost_ns: u64,
    /// How far ahead of now a source's buckets may be.
    pub source_depth_ns: u64,
    /// Bits of an IPv4 source that make it one, as a mask over [`crate::address::Address::words`].
    pub source_mask_v4: [u64; 2],
    /// Bits of an IPv6 source that make it one.
    pub source_mask_v6: [u64; 2],
}

/// What a SYN does to a bucket: its new value, or `None` where the SYN is too much.
#[inline(always)]
pub const fn take(bucket: Bucket, now_ns: u64, cost_ns: u64, depth_ns: u64) -> Option<Bucket> {
    let begin = if bucket > now_ns { bucket } else { now_ns };
    if begin - now_ns > depth_ns - cost_ns {
        None
    } else {
        Some(begin + cost_ns)
    }
}

/// The two buckets of a source, of a power of two. A SYN is refused only where both are used up, so that a
/// stranger who shares one is not.
#[inline(always)]
pub const fn source_buckets(seed: [u64; 2], source: [u64; 2], limit: u16, mask: u32) -> [u32; 2] {
    let hash = crate::flow::flow_hash([seed[1], seed[0]], source, limit as u32);
    [hash as u32 & mask, (hash >> 32) as u32 & mask]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let (cost, depth) = (100, 300);
        let mut bucket = 0;
        for _ in 0..3 {
            bucket = take(bucket, 1_000, cost, depth).expect("within the burst");
        }
        assert_eq!(take(bucket, 1_000, cost, depth), None);
        assert_eq!(take(bucket, 1_099, cost, depth), None);
        let next = take(bucket, 1_100, cost, depth).expect("one more after its cost");
        assert_eq!(take(next, 1_100, cost, depth), None);
        assert!(take(next, 9_000, cost, depth).is_some());
    }
}
