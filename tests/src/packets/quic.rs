//! QUIC packets as far as a balancer reads them: the header's form and the connection id. The rest is filling.

/// A connection id by a configuration with a server id, and a nonce of 4 bytes.
#[must_use]
pub fn connection_id(config: u8, id: &[u8]) -> Vec<u8> {
    [&[config << 5 | 9][..], id, &[0x11, 0x22, 0x33, 0x44]].concat()
}

/// A packet with a short header (RFC 9000 section 17.3).
#[must_use]
pub fn short(id: &[u8]) -> Vec<u8> {
    [&[0x43][..], id, &[0x5a; 24]].concat()
}

/// A packet with a long header (RFC 8999 section 5.1), whose type has these two bits.
#[must_use]
pub fn long(version: u32, kind: u8, id: &[u8]) -> Vec<u8> {
    [
        &[0xc3 | kind << 4][..],
        &version.to_be_bytes(),
        &[id.len() as u8],
        id,
        &[4, 9, 9, 9, 9],
        &[0x5a; 40],
    ]
    .concat()
}
