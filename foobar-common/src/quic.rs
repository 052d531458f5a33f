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

/// The mask of a server id's `length` bytes in the first 8 bytes behind a connection id's first one, loaded
/// as they stand in memory.
#[inline(always)]
pub const fn server_id_mask(length: u8) -> u64 {
    u64::MAX >> (((8 - (length as u32 & 7)) * 8) & 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_keeps_the_ids_bytes() {
        for length in 1..=8u8 {
            let kept = server_id_mask(length).to_ne_bytes();
            let expected: [u8; 8] = core::array::from_fn(|i| if i < length as usize { 0xff } else { 0 });
            assert_eq!(kept, expected, "{length}");
        }
    }

    #[test]
    fn the_first_three_bits_name_the_configuration() {
        assert_eq!(config_of(0b1110_0000), CONFIG_NONE);
        assert_eq!(config_of(0b0011_1111), 1);
    }
}
