//! Generic UDP Encapsulation, version 0, variant with an IP packet inside (draft-ietf-intarea-gue), and the
//! candidates that the balancer puts into its private data.
//!
//! ```text
//!  0               1               2               3
//! +---+-+---------+---------------+-------------------------------+
//! | 0 |0|  hlen   | proto 4 or 41 |            flags 0            |   hlen: words that follow, 0 to 31
//! +---+-+---------+---------------+-------------------------------+
//! |    magic 0xf0b1               | next  | count |    options    |   private data: only with candidates
//! +-------------------------------+-------+-------+---------------+
//! |                 candidate 1 (4 or 16 bytes), ...              |   of the outer header's family
//! +---------------------------------------------------------------+
//! ```
//!
//! `next` are the upper four bits of their byte, `count` the lower four.
//! A receiver that doesn't know the private data skips it by `hlen`, as a kernel's own decapsulation does.
//! The candidates are the slot's `current`, `previous` and `older`, without repetition. The outer destination
//! is candidate 0, which is not listed; `count` candidates are listed, and `next` of them have had their turn:
//! a host that doesn't own the packet's flow sends it to listed candidate `next`, with `next` one more, and
//! keeps it where `next` equals `count`.
//!
//! A host that passes a packet on exchanges the outer destination with the listed candidate that it names: the
//! list goes on to hold every address but the one that the packet is going to, and the sums over them stay.
//! The entries before `next` so are the hosts that had their turn. One of them that has only a TIME_WAIT socket
//! for the flow writes its place there into the options ([`OPTION_WAITER`]); the last candidate sends the packet
//! back to it where nobody owns the flow, marked with [`OPTION_RETURNED`].

/// The default destination port (IANA: gue-udp).
pub const PORT: u16 = 6080;

/// Length of the header without private data, in bytes.
pub const LENGTH: usize = 4;

/// Begins the private data: the two bytes as a number.
pub const MAGIC: u16 = 0xf0b1;

/// Length of the private data before the candidates, in bytes.
pub const PRIVATE_LENGTH: usize = 4;

/// Candidates that are listed at most.
pub const MAX_LISTED: usize = 2;

/// Of the options: the last candidate drops a TCP segment whose flow it doesn't own, instead of letting its
/// kernel answer with RST.
pub const OPTION_DROP: u8 = 1 << 0;

/// Of the options: one more than the place, in the list of candidates, of the first host that has the flow's
/// socket in TIME_WAIT; 0 where there is none.
pub const OPTION_WAITER: u8 = 3 << OPTION_WAITER_SHIFT;
/// By how many bits [`OPTION_WAITER`] is shifted.
pub const OPTION_WAITER_SHIFT: u32 = 1;

/// Of the options: the last candidate has sent the packet back, and whoever gets it keeps it.
pub const OPTION_RETURNED: u8 = 1 << 3;

/// The IP protocol numbers of an IP packet inside of something.
pub const PROTO_IPV4: u8 = 4;
/// IPv6.
pub const PROTO_IPV6: u8 = 41;

/// The header's first two bytes for `words` words of private data.
#[inline(always)]
pub const fn head(words: usize, proto: u8) -> [u8; 2] {
    [words as u8 & 0x1f, proto]
}

/// The source port of a flow's outer header, network byte order: one of the dynamic ones (49152 to 65535), so
/// that receivers spread flows over their queues.
#[inline(always)]
pub const fn source_port_be(hash: u64) -> u16 {
    (0xc000 | (hash >> 34) as u16 & 0x3fff).to_be()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_are_dynamic_ones() {
        for hash in [0, u64::MAX, 0x1234_5678_9abc_def0] {
            assert!(u16::from_be(source_port_be(hash)) >= 49_152);
        }
        assert_ne!(source_port_be(0), source_port_be(1 << 34));
    }

    #[test]
    fn the_head_holds_its_length_in_words() {
        assert_eq!(head(0, PROTO_IPV4), [0, 4]);
        assert_eq!(head(9, PROTO_IPV6), [9, 41]);
    }
}
