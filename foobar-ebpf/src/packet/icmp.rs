//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, and the types of errors.

use super::{Frame, Payload, View, checksum};

/// An ICMP or ICMPv6 message's first 8 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Message(View<[u8; LENGTH]>);

/// Length in bytes of what comes before a quoted packet.
pub const LENGTH: usize = 8;

/// Types and codes of echo request and reply, the two bytes as they stand in the packet.
#[derive(Clone, Copy, Debug)]
pub struct EchoTypes {
    request: u16,
    reply: u16,
}

/// ICMP's (RFC 792).
pub const ECHO_V4: EchoTypes = EchoTypes {
    request: u16::from_be_bytes([8, 0]).to_be(),
    reply: 0,
};
/// ICMPv6's (RFC 4443 section 4).
pub const ECHO_V6: EchoTypes = EchoTypes {
    request: u16::from_be_bytes([128, 0]).to_be(),
    reply: u16::from_be_bytes([129, 0]).to_be(),
};

impl Message {
    /// The message that an IP payload holds, if it has 8 bytes.
    #[inline(always)]
    pub fn of(frame: &Frame, payload: Payload) -> Option<Self> {
        if payload.length < LENGTH {
            return None;
        }
        frame.at(payload.offset).map(Self)
    }

    /// Its type.
    #[inline(always)]
    pub fn kind(&self) -> u8 {
        self.0.get::<u8, 0>()
    }

    /// Whether it is the echo request of a family.
    #[inline(always)]
    pub fn is_echo(&self, types: EchoTypes) -> bool {
        self.0.get::<u16, 0>() == types.request
    }

    /// Turns an echo request into its reply.
    #[inline(always)]
    pub fn reply(&self, types: EchoTypes) {
        self.0.set::<u16, 0>(types.reply);
        let sum = checksum::update(self.0.get::<u16, 2>(), types.request, types.reply);
        self.0.set::<u16, 2>(sum);
    }
}

/// Whether an ICMP type is an error's: destination unreachable, time exceeded, parameter problem.
#[inline(always)]
pub const fn is_error_v4(kind: u8) -> bool {
    matches!(kind, 3 | 11 | 12)
}

/// Whether an ICMPv6 type is an error's: destination unreachable, packet too big, time exceeded, parameter
/// problem.
#[inline(always)]
pub const fn is_error_v6(kind: u8) -> bool {
    matches!(kind, 1..=4)
}
