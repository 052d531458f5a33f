//! Neighbour solicitations (RFC 4861 section 4.3) and advertisements (section 4.4).

use super::{Frame, View, checksum, ipv6};

/// The type of a solicitation.
const SOLICITATION: u8 = 135;
/// Type and code of an advertisement, as the two bytes stand in the packet.
const ADVERTISEMENT: u16 = u16::from_be_bytes([136, 0]).to_be();

/// Length in bytes of a message without options.
const LENGTH: usize = 24;
/// Length in bytes of an advertisement with a target link-layer address.
pub const ADVERTISEMENT_LENGTH: usize = 32;

/// Units of 8 bytes that the options of a solicitation may take.
const MAX_UNITS: usize = 32;

/// Flags of an advertisement (RFC 4861 section 4.4), in the first byte of their word.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// All nodes of a link: `ff02::1`, as [`foobar_common::address::Address::words`].
pub const ALL_NODES: [u64; 2] = [0xff02_0000_0000_0000u64.to_be(), 1u64.to_be()];
/// The MAC address of all nodes, as [`foobar_common::settings::mac_word`] packs it.
pub const ALL_NODES_MAC: u64 = u64::from_le_bytes([0x33, 0x33, 0, 0, 0, 1, 0, 0]);

/// A solicitation, sound or not.
#[derive(Clone, Copy, Debug)]
pub struct Solicitation {
    view: View<[u8; LENGTH]>,
    ip: ipv6::Header,
    offset: usize,
}

impl Solicitation {
    /// The message directly behind an IPv6 header at `offset`, if its type is a solicitation's.
    #[inline(always)]
    pub fn of(frame: &Frame, ip: ipv6::Header, offset: usize) -> Option<Self> {
        if ip.version() != 6 || ip.next_header() != ipv6::ICMP || ip.payload_length() < LENGTH {
            return None;
        }
        let offset = offset + ipv6::LENGTH;
        let view = frame.at::<[u8; LENGTH]>(offset)?;
        (view.get::<u8, 0>() == SOLICITATION).then_some(Self { view, ip, offset })
    }

    /// The address asked for, as [`foobar_common::address::Address::words`].
    #[inline(always)]
    pub fn target(&self) -> [u64; 2] {
        [self.view.get::<u64, 8>(), self.view.get::<u64, 16>()]
    }

    /// Whether a host has to heed it (RFC 4861 section 7.1.1): hop limit, code, checksum, options, and who is
    /// asked. Options are read up to 256 bytes of them.
    #[inline(always)]
    pub fn is_valid(&self, frame: &Frame) -> bool {
        let (source, destination, target) = (self.ip.source(), self.ip.destination(), self.target());
        let group = is_group_of(destination, target);
        if self.ip.hop_limit() != 255
            || self.view.get::<u8, 1>() != 0
            || ipv6::is_multicast(source)
            || ipv6::is_multicast(target)
            || !(group || (destination == target && source != [0, 0]))
        {
            return false;
        }
        let length = self.ip.payload_length();
        let mut sum = checksum::add(0, (length as u32).to_be());
        sum = checksum::add(sum, u32::from(ipv6::ICMP).to_be());
        sum = checksum::add_wide(checksum::add_wide(sum, source[0]), source[1]);
        sum = checksum::add_wide(checksum::add_wide(sum, destination[0]), destination[1]);
        sum = checksum::add_wide(sum, self.view.get::<u64, 0>());
        sum = checksum::add_wide(checksum::add_wide(sum, target[0]), target[1]);
        let mut option = 0usize;
        for unit in 0..=MAX_UNITS {
            if LENGTH + unit * 8 == length {
                return option == 0 && checksum::is_right(sum);
            }
            if unit == MAX_UNITS || LENGTH + unit * 8 + 8 > length {
                return false;
            }
            let Some(word) = frame.at::<u64>(self.offset + LENGTH + unit * 8) else {
                return false;
            };
            if option == 0 {
                option = word.get::<u8, 1>() as usize;
                if option == 0 {
                    return false;
                }
            }
            option -= 1;
            sum = checksum::add_wide(sum, word.get::<u64, 0>());
        }
        false
    }
}

/// Whether an address is the solicited-node group of another (RFC 4291 section 2.7.1).
#[inline(always)]
const fn is_group_of(group: [u64; 2], address: [u64; 2]) -> bool {
    let low = u64::from_le_bytes([0, 0, 0, 1, 0xff, 0, 0, 0]);
    let mask = u64::from_le_bytes([0, 0, 0, 0, 0, 0xff, 0xff, 0xff]);
    group[0] == ALL_NODES[0] && group[1] == low | (address[1] & mask)
}

/// Writes an advertisement that `target` is at `own`, to `destination` (both as
/// [`foobar_common::address::Address::words`]): IPv6 header and message, from `offset` on.
#[inline(always)]
pub fn advertise(
    frame: &Frame,
    offset: usize,
    target: [u64; 2],
    destination: [u64; 2],
    own: u64,
) -> Option<()> {
    let ip = ipv6::Header::at(frame, offset)?;
    let message = frame.at::<[u8; ADVERTISEMENT_LENGTH]>(offset + ipv6::LENGTH)?;
    ip.write(ADVERTISEMENT_LENGTH as u16, ipv6::ICMP, 255);
    ip.set_addresses(target, destination);
    let flags = if ipv6::is_multicast(destination) {
        OVERRIDE
    } else {
        SOLICITED | OVERRIDE
    };
    // The option: type 2, one unit of 8 bytes, the address.
    let option = u64::from_le_bytes([2, 1, 0, 0, 0, 0, 0, 0]) | own << 16;
    let flags = u32::from_be_bytes([flags, 0, 0, 0]).to_be();
    let mut sum = checksum::add(0, (ADVERTISEMENT_LENGTH as u32).to_be());
    sum = checksum::add(sum, u32::from(ipv6::ICMP).to_be());
    sum = checksum::add_wide(checksum::add_wide(sum, target[0]), target[1]);
    sum = checksum::add_wide(checksum::add_wide(sum, target[0]), target[1]);
    sum = checksum::add_wide(checksum::add_wide(sum, destination[0]), destination[1]);
    sum = checksum::add(sum, u32::from(ADVERTISEMENT));
    sum = checksum::add_wide(checksum::add(sum, flags), option);
    message.set::<u16, 0>(ADVERTISEMENT);
    message.set::<u16, 2>(!checksum::fold(sum));
    message.set::<u32, 4>(flags);
    message.set::<u64, 8>(target[0]);
    message.set::<u64, 16>(target[1]);
    message.set::<u64, 24>(option);
    Some(())
}
