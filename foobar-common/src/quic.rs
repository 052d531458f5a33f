//! QUIC: the server id in a connection id, in the plaintext form of QUIC-LB (draft-ietf-quic-load-balancers).
//!
//! ```text
//! connection id: | config 3 bits, length or random 5 bits | server id, 1 to 8 bytes | nonce |
//! ```
//!
//! The configuration number 7 says that the id names no server.

/// The longest server id, in bytes.
pub const MAX_SERVER_ID: usize = 8;

/// The configuration number of connection ids that name no server.
pub const CONFIG_NONE: u8 = 7;

/// The configuration number that a connection id's first byte names.
#[inline(always)]
pub const fn config_of(first: u8) -> u8 {
    first >> 5
}

/// The key of a server id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerIdKey {
    /// The VIP's id.
    pub vip: u32,
    /// Unused.
    pub reserved: u32,
    /// The server id as its bytes stand in the packet, followed by zeros.
    pub id: [u8; MAX_SERVER_ID],
}

/// Whose a server id is: an element of the map of server ids.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerId {
    /// The member.
    pub member: crate::slot::Member,
    /// Unused.
    pub reserved: u16,
}

impl ServerIdKey {
    /// The key of a server id in one word, as [`server_id`] gives it.
    #[inline(always)]
    pub const fn new(vip: u32, server_id: u64) -> Self {
        Self {
            vip,
            reserved: 0,
            id: server_id.to_ne_bytes(),
        }
    }
}

/// The server id of `length` bytes that ends with the last of 8 bytes, loaded as they stand in memory: its bytes,
/// followed by zeros, in one word.
#[inline(always)]
pub const fn server_id(word: u64, length: u8) -> u64 {
    word >> (((8 - (length as u32 & 15)) * 8) & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_id_is_the_last_bytes_of_the_word() {
        let word = u64::from_ne_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
        for length in 1..=8u8 {
            let kept = ServerIdKey::new(0, server_id(word, length)).id;
            let expected: [u8; 8] = core::array::from_fn(|i| match i as u8 {
                i if i < length => 9 - length + i,
                _ => 0,
            });
            assert_eq!(kept, expected, "{length}");
        }
    }

    #[test]
    fn the_first_three_bits_name_the_configuration() {
        assert_eq!(config_of(0b1110_0000), CONFIG_NONE);
        assert_eq!(config_of(0b0011_1111), 1);
    }
}
