//! ARP over Ethernet for IPv4 (RFC 826, RFC 5227).

use super::{Frame, View};

/// An ARP packet behind an Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct Arp(View<[u8; 28]>);

/// Hardware type Ethernet, protocol type IPv4, as the four bytes stand in the packet.
const TYPES: u32 = u32::from_be_bytes([0, 1, 0x08, 0]).to_be();
/// Address lengths 6 and 4, operation request.
const REQUEST: u32 = u32::from_be_bytes([6, 4, 0, 1]).to_be();
const REPLY: u32 = u32::from_be_bytes([6, 4, 0, 2]).to_be();

impl Arp {
    /// The ARP request for an IPv4 address that begins `offset` bytes into the frame, if it is one.
    #[inline(always)]
    pub fn request(frame: &Frame, offset: usize) -> Option<Self> {
        let view = frame.at::<[u8; 28]>(offset)?;
        (view.get::<u32, 0>() == TYPES && view.get::<u32, 4>() == REQUEST).then_some(Self(view))
    }

    /// Who asks, as it stands in the packet; 0 for a probe (RFC 5227 section 2.1).
    #[inline(always)]
    pub fn sender(&self) -> u32 {
        self.0.get::<u32, 14>()
    }

    /// The address asked for, as it stands in the packet.
    #[inline(always)]
    pub fn target(&self) -> u32 {
        self.0.get::<u32, 24>()
    }

    /// Turns the request into the reply that the target is at `own`.
    #[inline(always)]
    pub fn reply(&self, own: u64) {
        let (sender, target) = (self.sender(), self.target());
        let sender_mac = self.0.get::<u64, 8>();
        self.0.set::<u32, 4>(REPLY);
        self.0.set::<u32, 8>(own as u32);
        self.0.set::<u16, 12>((own >> 32) as u16);
        self.0.set::<u32, 14>(target);
        self.0.set::<u32, 18>(sender_mac as u32);
        self.0.set::<u16, 22>((sender_mac >> 32) as u16);
        self.0.set::<u32, 24>(sender);
    }
}
