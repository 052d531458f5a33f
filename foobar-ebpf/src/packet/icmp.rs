//! ICMP echo (RFC 792).

use super::{Frame, View, checksum, ipv4};

/// An ICMP echo request.
#[derive(Clone, Copy, Debug)]
pub struct Echo(View<[u8; 8]>);

/// Type 8, code 0, as the two bytes stand in the packet.
const REQUEST: u16 = u16::from_be_bytes([8, 0]).to_be();
const REPLY: u16 = 0;

impl Echo {
    /// The echo request that an IP payload holds, if it is one.
    #[inline(always)]
    pub fn request(frame: &Frame, payload: ipv4::Payload) -> Option<Self> {
        if payload.length < 8 {
            return None;
        }
        let view = frame.at::<[u8; 8]>(payload.offset)?;
        (view.get::<u16, 0>() == REQUEST).then_some(Self(view))
    }

    /// Turns the request into its reply.
    #[inline(always)]
    pub fn reply(&self) {
        self.0.set::<u16, 0>(REPLY);
        self.0
            .set::<u16, 2>(checksum::update(self.0.get::<u16, 2>(), REQUEST, REPLY));
    }
}
