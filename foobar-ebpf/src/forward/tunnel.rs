//! Tunnels: the packet goes to the backend inside of another one, IP in IP (RFC 2003, RFC 4213, RFC 2473) or
//! Generic UDP Encapsulation ([`foobar_common::gue`]), whatever the two families are.
//!
//! The outer header's TOS or traffic class is the packet's own, ECN included (RFC 6040 section 4.1), its TTL
//! the balancer's. It says not to fragment, for what is too big was answered before. The outer UDP checksum is
//! 0 (RFC 6935 section 5: the packet inside bears its own). The packet itself stays as it is.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_get_buff_len};
use foobar_common::admission::{FEATURE_TUNNELS, PLANTED_OUTER_LENGTH};
use foobar_common::counters::Counter;
use foobar_common::gue;
use foobar_common::settings::Settings;
use foobar_common::slot::{Member, Slot};
use foobar_common::steering::Segment;
use foobar_common::target::{HOT_CANDIDATE, HOT_GUE, HOT_IPIP, HOT_V4, TARGET_GUE, TARGET_IPIP};
use foobar_common::vip::{VIP_CANDIDATES, VIP_RESET};

use super::answer::TTL;
use super::{hot, l2, too_big};
use crate::outcome::{Refusal, conclude, drop};
use crate::packet::{Frame, ethernet, ipv4, ipv6};
use crate::steer::{features, opens};

/// Length in bytes of UDP's header and GUE's after it.
pub(super) const UDP_GUE: usize = 8 + gue::LENGTH;

/// What is to be known of a packet to encapsulate it, in one word each, as a function of its own takes them.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The flow's hash: outer headers vary by it.
    pub hash: u64,
    /// A slot's word: `current` is where the packet goes, `previous` and `older` are further candidates.
    pub slot: u64,
    /// The offset of the packet's IP header in the frame: 14, or more behind VLAN tags.
    pub offset: usize,
    /// What the packet says about its flow.
    pub segment: Segment,
    /// The VIP's flags.
    pub flags: u32,
}

/// Instead of a verdict: the packet is too big, and the rest is what it may have.
const TOO_BIG: u32 = 1 << 16;

/// The offset of the packet.
const OFFSET: u64 = 0x1f;
/// The packet opens a flow.
const OPENS: u64 = 1 << 32;
/// It carries candidates.
const CANDIDATES: u64 = 1 << 33;
/// The last candidate drops what it does not know.
const SILENT: u64 = 1 << 34;

/// Encapsulates a packet for a target that is reached through a tunnel, and gives its verdict.
///
/// # Safety
/// As [`Frame::of_context`]; frames made before are not used afterwards.
#[inline(always)]
pub unsafe fn forward(context: *mut xdp_md, settings: &Settings, load: Load) -> u32 {
    let mut how = load.offset as u64;
    if opens(load.segment) {
        how |= OPENS;
    }
    if load.flags & VIP_CANDIDATES != 0 {
        how |= CANDIDATES;
        if load.flags & VIP_RESET == 0 {
            how |= SILENT;
        }
    }
    // SAFETY: the caller's; each reads the frame's place anew. One after the other, and not one from within
    // the other, because the stack has to do for both.
    unsafe {
        let sent = send(context, settings, load.hash, load.slot, how);
        if sent < TOO_BIG {
            sent
        } else {
            // Who reported an error is told of none (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 e).
            if matches!(load.segment, Segment::Error) {
                return drop(context, Counter::DropTooBig);
            }
            too_big::answer(context, settings, how & OFFSET, u64::from(sent - TOO_BIG))
        }
    }
}

/// The IPv4 address in a mapped one, as its bytes stand in a packet.
#[inline(always)]
pub(super) const fn v4_of(address: [u64; 2]) -> u32 {
    (address[1] >> 32) as u32
}

/// What is read from the packet before its frame is moved.
struct Inner {
    protocol: u8,
    traffic_class: u8,
    length: usize,
}

#[inline(always)]
fn inner(frame: &Frame, offset: usize) -> Option<Inner> {
    let first = frame.at::<u16>(offset)?.get::<u16, 0>();
    let [high, low] = first.to_ne_bytes();
    if high >> 4 == 4 {
        Some(Inner {
            protocol: gue::PROTO_IPV4,
            traffic_class: low,
            length: ipv4::Header::at(frame, offset)?.total(),
        })
    } else {
        Some(Inner {
            protocol: gue::PROTO_IPV6,
            traffic_class: high << 4 | low >> 4,
            length: ipv6::Header::at(frame, offset)?.payload_length() + ipv6::LENGTH,
        })
    }
}

/// The VLAN tags of a frame, and whatever follows them, in 8 bytes; 0 where it has none.
#[inline(always)]
fn tags(frame: &Frame, offset: usize) -> Option<u64> {
    if offset == ethernet::LENGTH {
        Some(0)
    } else {
        Some(frame.at::<u64>(12)?.get::<u64, 0>())
    }
}

/// The candidates behind the first one.
pub(super) struct Candidates {
    pub(super) first: [u64; 2],
    pub(super) second: [u64; 2],
    pub(super) count: usize,
}

/// The address of a member that may own flows and is reached by GUE over the same family.
#[inline(always)]
fn candidate(member: Member, over_v4: bool) -> Option<[u64; 2]> {
    let target = hot::Target::of(member);
    let wanted = if over_v4 {
        HOT_CANDIDATE | HOT_V4
    } else {
        HOT_CANDIDATE
    };
    (target.flags() & (HOT_CANDIDATE | HOT_V4) == wanted).then(|| target.address())
}

/// Nobody, who has no flags there, is no candidate.
#[inline(always)]
pub(super) fn candidates(slot: Slot, over_v4: bool) -> Candidates {
    let mut list = Candidates {
        first: [0; 2],
        second: [0; 2],
        count: 0,
    };
    if slot.previous != slot.current
        && let Some(address) = candidate(slot.previous, over_v4)
    {
        list.first = address;
        list.count = 1;
    }
    if slot.older != slot.current
        && slot.older != slot.previous
        && let Some(address) = candidate(slot.older, over_v4)
    {
        if list.count == 0 {
            list.first = address;
        } else {
            list.second = address;
        }
        list.count += 1;
    }
    list
}

/// Bytes that an outer header adds at most: what a packet may be long must not change with its slot.
#[inline(always)]
pub(super) const fn most(over_v4: bool, is_gue: bool, with_candidates: bool) -> usize {
    let (header, address) = if over_v4 {
        (ipv4::LENGTH, 4)
    } else {
        (ipv6::LENGTH, 16)
    };
    if !is_gue {
        header
    } else if with_candidates {
        header + UDP_GUE + gue::PRIVATE_LENGTH + gue::MAX_LISTED * address
    } else {
        header + UDP_GUE
    }
}

/// [`forward`], with what it needs in five words.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
unsafe fn send(context: *mut xdp_md, settings: &Settings, hash: u64, slot: u64, how: u64) -> u32 {
    let slot = Slot::from_word(slot);
    let offset = (how & OFFSET) as usize;
    let (Some(target), true) = (
        l2::target(slot.current),
        (ethernet::LENGTH..=ethernet::MAX_LENGTH).contains(&offset),
    ) else {
        return drop(context, Counter::DropInternal);
    };
    let (flags, address, mtu) = (target.flags(), target.address(), target.mtu());
    let over_v4 = ipv6::is_mapped(address);
    let is_gue = flags & TARGET_IPIP == 0;
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let (Some(inner), Some(tags)) = (inner(frame, offset), tags(frame, offset)) else {
        return drop(context, Counter::DropInternal);
    };
    let (length, most) = (inner.length, most(over_v4, is_gue, how & CANDIDATES != 0));
    if length + most > mtu as usize {
        return TOO_BIG + u32::from(mtu).saturating_sub(most as u32);
    }
    let action = match target.way() {
        Ok(action) => action,
        Err(Refusal::Drop(reason)) => return drop(context, reason),
        Err(Refusal::Pass) => return drop(context, Counter::DropInternal),
    };
    let listed = if is_gue && how & CANDIDATES != 0 {
        candidates(slot, over_v4)
    } else {
        Candidates {
            first: [0; 2],
            second: [0; 2],
            count: 0,
        }
    };
    let (header, size) = if over_v4 {
        (ipv4::LENGTH, 4)
    } else {
        (ipv6::LENGTH, 16)
    };
    let private = if !is_gue || how & CANDIDATES == 0 || (listed.count == 0 && how & SILENT == 0) {
        0
    } else {
        gue::PRIVATE_LENGTH + listed.count * size
    };
    let behind = if is_gue { UDP_GUE + private } else { 0 };
    let linear = frame.len();
    // SAFETY: the context is the kernel's; the frame is made anew below.
    if unsafe { bpf_xdp_adjust_head(context, -((header + behind) as i32)) } != 0 {
        return drop(context, Counter::DropInternal);
    }
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let protocol = if is_gue { ipv4::UDP } else { inner.protocol };
    let outer = Outer {
        payload: behind + length + usize::from(features::planted(PLANTED_OUTER_LENGTH)),
        protocol,
        traffic_class: inner.traffic_class,
        hash,
        destination: address,
    };
    let written = outer.write(frame, settings, offset, over_v4).is_some()
        && (!is_gue
            || gue_header(frame, settings, offset + header, &outer, inner.protocol, private).is_some())
        && (private == 0 || private_data(frame, offset + header + UDP_GUE, &listed, over_v4, how).is_some())
        && ethernet_header(frame, target, tags, offset, over_v4).is_some();
    if !written {
        return drop(context, Counter::DropInternal);
    }
    // A frame that ends with its packet is not in several buffers; any other may be.
    let bytes = if offset + length == linear {
        (linear + header + behind) as u64
    } else {
        // SAFETY: the context is the kernel's.
        unsafe { bpf_xdp_get_buff_len(context) }
    };
    l2::sent(slot.current, how & OPENS != 0, bytes);
    // SAFETY: the context is the kernel's, and no frame of it is used any more.
    unsafe { conclude(context, Ok(action)) }
}

/// An outer IP header.
struct Outer {
    payload: usize,
    protocol: u8,
    traffic_class: u8,
    hash: u64,
    destination: [u64; 2],
}

impl Outer {
    #[inline(always)]
    fn write(&self, frame: &Frame, settings: &Settings, offset: usize, over_v4: bool) -> Option<()> {
        if over_v4 {
            let ip = ipv4::Header::at(frame, offset)?;
            let [high, low] = ((ipv4::LENGTH + self.payload) as u16).to_be_bytes();
            let vary = settings.tunnel_vary_v4;
            ip.write([
                u32::from_be_bytes([0x45, self.traffic_class, high, low]).to_be(),
                u32::from_be_bytes([0, 0, 0x40, 0]).to_be(),
                u32::from_be_bytes([TTL, self.protocol, 0, 0]).to_be(),
                settings.tunnel_source_v4 | (self.hash >> 24) as u32 & vary,
                v4_of(self.destination),
            ]);
        } else {
            let ip = ipv6::Header::at(frame, offset)?;
            ip.write(self.payload as u16, self.protocol, TTL);
            ip.set_flow(self.traffic_class, (self.hash >> 20) as u32);
            let (source, vary) = (settings.tunnel_source_v6, settings.tunnel_vary_v6);
            ip.set_addresses(
                [source[0] | self.hash & vary[0], source[1] | self.hash & vary[1]],
                self.destination,
            );
        }
        Some(())
    }
}

#[inline(always)]
fn gue_header(
    frame: &Frame,
    settings: &Settings,
    offset: usize,
    outer: &Outer,
    protocol: u8,
    private: usize,
) -> Option<()> {
    let udp = frame.at::<[u8; UDP_GUE]>(offset)?;
    udp.set::<u16, 0>(gue::source_port_be(outer.hash));
    udp.set::<u16, 2>(settings.gue_port_be);
    udp.set::<u16, 4>((outer.payload as u16).to_be());
    udp.set::<u16, 6>(0);
    let [words, protocol] = gue::head(private / 4, protocol);
    udp.set::<u32, 8>(u32::from_be_bytes([words, protocol, 0, 0]).to_be());
    Some(())
}

#[inline(always)]
fn private_data(frame: &Frame, offset: usize, listed: &Candidates, over_v4: bool, how: u64) -> Option<()> {
    let [high, low] = gue::MAGIC.to_be_bytes();
    let options = if how & SILENT == 0 { 0 } else { gue::OPTION_DROP };
    let head = frame.at::<u32>(offset)?;
    head.set::<u32, 0>(u32::from_be_bytes([high, low, listed.count as u8, options]).to_be());
    let mut place = offset + gue::PRIVATE_LENGTH;
    if listed.count > 0 {
        place = write_address(frame, place, listed.first, over_v4)?;
    }
    if listed.count > 1 {
        write_address(frame, place, listed.second, over_v4)?;
    }
    Some(())
}

/// Writes an address, and gives the offset behind it.
#[inline(always)]
fn write_address(frame: &Frame, offset: usize, address: [u64; 2], over_v4: bool) -> Option<usize> {
    if over_v4 {
        frame.at::<u32>(offset)?.set::<u32, 0>(v4_of(address));
        Some(offset + 4)
    } else {
        let place = frame.at::<[u64; 2]>(offset)?;
        place.set::<u64, 0>(address[0]);
        place.set::<u64, 8>(address[1]);
        Some(offset + 16)
    }
}

/// Writes the Ethernet header anew, with the VLAN tags that it had: `tags` are the 8 bytes behind its MACs.
#[inline(always)]
fn ethernet_header(frame: &Frame, target: l2::Entry, tags: u64, offset: usize, over_v4: bool) -> Option<()> {
    target.write_macs(ethernet::Header::of(frame)?);
    let ether_type = if over_v4 { ethernet::IPV4 } else { ethernet::IPV6 };
    ethernet::write_tags(frame, tags, offset, ether_type)
}

/// The target of a member, if it is reached through a tunnel.
#[inline(always)]
pub fn of(member: Member) -> Option<hot::Target> {
    if !features::has(FEATURE_TUNNELS) {
        return None;
    }
    let target = hot::Target::of(member);
    (target.flags() & (HOT_IPIP | HOT_GUE) != 0).then_some(target)
}

/// Whether a target is reached through a tunnel.
#[inline(always)]
pub fn leads_to(target: l2::Entry) -> bool {
    features::has(FEATURE_TUNNELS) && target.flags() & (TARGET_IPIP | TARGET_GUE) != 0
}
