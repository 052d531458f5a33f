//! The Ethernet header.

use foobar_common::settings::MAC_MASK;

use super::{Frame, View};

/// The header's length in bytes.
pub const LENGTH: usize = 14;
/// The longest that a frame is because a shorter one was padded: 60 bytes (IEEE 802.3 section 4.2.3.3), and 4 of
/// a VLAN tag or of a check sequence that was not taken into account.
pub const PADDED: usize = 64;

/// The EtherType of IPv4, as it stands in the packet.
pub const IPV4: u16 = 0x0800u16.to_be();
/// The EtherType of ARP, as it stands in the packet.
pub const ARP: u16 = 0x0806u16.to_be();

/// The EtherType of IPv6, as it stands in the packet.
pub const IPV6: u16 = 0x86ddu16.to_be();

/// The EtherTypes of a VLAN tag (IEEE 802.1Q): customer's and service's, as they stand in the packet.
const TAGS: [u16; 2] = [0x8100u16.to_be(), 0x88a8u16.to_be()];

/// The most bytes before the network layer: with two tags.
pub const MAX_LENGTH: usize = LENGTH + 8;

/// The broadcast address, as [`Header::destination`] gives it.
pub const BROADCAST: u64 = MAC_MASK;

/// An Ethernet header.
#[derive(Clone, Copy, Debug)]
pub struct Header(View<[u8; LENGTH]>);

impl Header {
    /// The frame's header.
    #[inline(always)]
    pub fn of(frame: &Frame) -> Option<Self> {
        frame.at(0).map(Self)
    }

    /// The destination MAC, as [`foobar_common::settings::mac_word`] packs it.
    #[inline(always)]
    pub fn destination(&self) -> u64 {
        self.0.get::<u64, 0>() & MAC_MASK
    }

    /// The source MAC, as [`foobar_common::settings::mac_word`] packs it.
    #[inline(always)]
    pub fn source(&self) -> u64 {
        // The two words that the rewrite writes, and no third one across them.
        self.0.get::<u64, 0>() >> 48 | u64::from(self.0.get::<u32, 8>()) << 16
    }

    /// The last four bytes of the source MAC, as they stand in the packet.
    #[inline(always)]
    pub fn source_end(&self) -> u32 {
        self.0.get::<u32, 8>()
    }

    /// The EtherType, as it stands in the packet.
    #[inline(always)]
    pub fn ether_type(&self) -> u16 {
        self.0.get::<u16, 12>()
    }

    /// What the frame bears and where it begins: the EtherType behind at most two VLAN tags, as it stands in
    /// the packet, and the offset behind it.
    #[inline(always)]
    pub fn network(&self, frame: &Frame) -> Option<(u16, usize)> {
        let mut ether_type = self.ether_type();
        let mut offset = LENGTH;
        while offset < MAX_LENGTH && (ether_type == TAGS[0] || ether_type == TAGS[1]) {
            ether_type = frame.at::<u32>(offset)?.get::<u16, 2>();
            offset += 4;
        }
        Some((ether_type, offset))
    }

    /// Writes destination and source: `head` their first 8 bytes, `tail` the last 4.
    #[inline(always)]
    pub fn set_addresses(&self, head: u64, tail: u32) {
        self.0.set::<u64, 0>(head);
        self.0.set::<u32, 8>(tail);
    }

    /// Sends the frame back: to where it came from, from `own`.
    #[inline(always)]
    pub fn answer_from(&self, own: u64) {
        let sender = self.source();
        self.0.set::<u32, 0>(sender as u32);
        self.0.set::<u16, 4>((sender >> 32) as u16);
        self.0.set::<u32, 6>(own as u32);
        self.0.set::<u16, 10>((own >> 32) as u16);
    }
}

impl Header {
    /// Writes the destination, as [`foobar_common::settings::mac_word`] packs it.
    #[inline(always)]
    pub fn set_destination(&self, mac: u64) {
        self.0.set::<u32, 0>(mac as u32);
        self.0.set::<u16, 4>((mac >> 32) as u16);
    }
}

/// Writes what is between a header's addresses and the network layer at `offset`: the VLAN tags, which are
/// the first of `tags`' 8 bytes, and the EtherType.
#[inline(always)]
pub fn write_tags(frame: &Frame, tags: u64, offset: usize, ether_type: u16) -> Option<()> {
    let place = frame.at::<[u8; MAX_LENGTH]>(0)?;
    if offset == LENGTH {
        place.set::<u16, 12>(ether_type);
    } else if offset == LENGTH + 4 {
        place.set::<u32, 12>(tags as u32);
        place.set::<u16, 16>(ether_type);
    } else {
        place.set::<u64, 12>(tags);
        place.set::<u16, 20>(ether_type);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::frame_of;
    use foobar_common::settings::mac_word;

    #[test]
    fn an_answer_swaps_the_addresses() {
        let mut bytes = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 8, 0];
        let header = Header::of(&frame_of(&mut bytes)).expect("long enough");
        assert_eq!(header.destination(), mac_word([1, 2, 3, 4, 5, 6]));
        assert_eq!(header.source(), mac_word([11, 12, 13, 14, 15, 16]));
        assert_eq!(header.ether_type(), IPV4);
        header.answer_from(mac_word([21, 22, 23, 24, 25, 26]));
        assert_eq!(bytes, [11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26, 8, 0]);
    }
}
