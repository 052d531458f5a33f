//! Neighbour solicitations (RFC 4861 section 7.2): answered for an owned VIP.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use foobar_common::counters::Counter;
use foobar_common::settings::Settings;
use foobar_common::vip::VipKey;

use super::own_frame;
use crate::outcome::{Action, Refusal};
use crate::packet::neighbour::{ADVERTISEMENT_LENGTH, ALL_NODES, ALL_NODES_MAC, Solicitation, advertise};
use crate::packet::{Frame, ethernet, ipv6};
use crate::steer::{self, vips};

/// What became of a solicitation: in one word, so that it is returned in a register.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solicited {
    /// Not for a VIP.
    Passed,
    /// Answered.
    Answered,
    /// For a VIP of another balancer.
    NotOwner,
    /// For a VIP, and not to be heeded.
    Invalid,
    /// For a VIP, from a source that no host on the way can have.
    Martian,
    /// For a VIP, and not as long as it says.
    Truncated,
    /// For a VIP, but another host's MAC.
    ForeignMac,
    /// For a VIP, from a balancer's MAC.
    Loop,
    /// The frame could not be made as long as the answer.
    Internal,
}

impl From<Solicited> for Result<Action, Refusal> {
    #[inline(always)]
    fn from(solicited: Solicited) -> Self {
        Err(Refusal::Drop(match solicited {
            Solicited::Passed => return Err(Refusal::Pass),
            Solicited::Answered => return Ok(Action::Answer(Counter::AnswerNeighbour)),
            Solicited::NotOwner => Counter::DropNotOwner,
            Solicited::Invalid => Counter::DropIcmp,
            Solicited::Martian => Counter::DropMartian,
            Solicited::Truncated => Counter::DropTruncated,
            Solicited::ForeignMac => Counter::DropForeignMac,
            Solicited::Loop => Counter::DropLoop,
            Solicited::Internal => Counter::DropInternal,
        }))
    }
}

/// Whether the IPv6 packet at `offset` is a solicitation, sound or not.
#[inline(always)]
pub fn is_solicitation(frame: &Frame, ip: ipv6::Header, offset: usize) -> bool {
    Solicitation::of(frame, ip, offset).is_some()
}

/// Answers the solicitation at `offset`, or says why not.
///
/// # Safety
/// As [`Frame::of_context`]; frames made before are not used afterwards.
#[inline(never)]
pub unsafe fn solicitation(context: *mut xdp_md, settings: &Settings, offset: usize) -> Solicited {
    if offset > ethernet::MAX_LENGTH {
        return Solicited::Passed;
    }
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let (Some(ethernet), Some(ip)) = (ethernet::Header::of(frame), ipv6::Header::at(frame, offset)) else {
        return Solicited::Passed;
    };
    let Some(message) = Solicitation::of(frame, ip, offset) else {
        return Solicited::Passed;
    };
    // SAFETY: the context is the kernel's.
    let length = unsafe { bpf_xdp_get_buff_len(context) as usize };
    let whole = offset + ipv6::LENGTH + ip.payload_length() <= length;
    let (to, sender) = (ethernet.destination(), ethernet.source());
    if ipv6::is_mapped(ip.destination()) {
        return Solicited::Passed;
    }
    let destination = VipKey::address(ipv6::address(ip.destination()));
    if vips::find(settings, &destination).is_some() {
        // A packet for a VIP as any other, and judged as one before it is judged as a solicitation.
        match own_frame(ethernet, settings) {
            Err(Refusal::Drop(Counter::DropForeignMac)) => return Solicited::ForeignMac,
            Err(_) if sender == settings.own_mac => return Solicited::Passed,
            Err(_) => return Solicited::Loop,
            Ok(()) if !whole => return Solicited::Truncated,
            Ok(()) if ip.is_martian() => return Solicited::Martian,
            Ok(()) if !message.is_valid(frame) => return Solicited::Invalid,
            Ok(()) => (),
        }
    } else {
        let heard = to == settings.own_mac || to as u16 == 0x3333;
        if !whole || !heard || sender == settings.own_mac || !message.is_valid(frame) {
            return Solicited::Passed;
        }
    }
    let target = message.target();
    let key = VipKey::address(ipv6::address(target));
    let Some((_, vip)) = vips::find(settings, &key) else {
        return Solicited::Passed;
    };
    if ipv6::is_mapped(target) {
        return Solicited::Passed;
    }
    if !steer::owned(vip) {
        return Solicited::NotOwner;
    }
    let source = ip.source();
    let (destination, destination_mac) = if source == [0, 0] {
        (ALL_NODES, ALL_NODES_MAC)
    } else {
        (source, sender)
    };
    let wanted = offset + ipv6::LENGTH + ADVERTISEMENT_LENGTH;
    // SAFETY: the context is the kernel's; the frame is made anew below.
    if unsafe { bpf_xdp_adjust_tail(context, wanted as i32 - length as i32) } != 0 {
        return Solicited::Internal;
    }
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let Some(ethernet) = ethernet::Header::of(frame) else {
        return Solicited::Internal;
    };
    if advertise(frame, offset, target, destination, settings.own_mac).is_none() {
        return Solicited::Internal;
    }
    ethernet.answer_from(settings.own_mac);
    ethernet.set_destination(destination_mac);
    Solicited::Answered
}
