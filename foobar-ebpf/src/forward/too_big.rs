//! The answer to a packet that does not fit into the tunnel's path: fragmentation needed (RFC 1191 section 4)
//! or packet too big (RFC 4443 section 3.2), in the name of the VIP. It quotes 512 bytes.
//!
//! IPv4 packets that may be fragmented get it too: their sender then makes them smaller itself. Of fragments that IPv4
//! has already made, the first one is answered.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
};
use foobar_common::answers::{TOO_BIG_COST_NS, TOO_BIG_DEPTH_NS};
use foobar_common::counters::Counter;
use foobar_common::settings::Settings;

use super::answer::TTL;
use super::count;
use crate::maps::TOO_BIG_BUCKET;
use crate::outcome::drop;
use crate::packet::{Frame, checksum, ethernet, icmp, ipv4, ipv6};
use crate::steer::now_ns;
use foobar_common::admission::take;

/// Bytes of the packet that the answer quotes: what one call of the checksum's helper can take.
const QUOTED: usize = 512;

/// The bits of IPv4's fragment offset, as they stand in the packet.
const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();

/// Whether another answer may be sent on this CPU.
#[inline(always)]
fn may_answer() -> bool {
    let Some(bucket) = TOO_BIG_BUCKET.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's element of a per-CPU array.
    unsafe {
        match take(*bucket, now_ns(), TOO_BIG_COST_NS, TOO_BIG_DEPTH_NS) {
            Some(filled) => {
                *bucket = filled;
                true
            }
            None => false,
        }
    }
}

/// Turns a packet whose IP header is at `offset` into the answer that says the `mtu`, and gives the verdict.
///
/// # Safety
/// As [`Frame::of_context`]; frames made before are not used afterwards.
#[inline(never)]
pub unsafe fn answer(context: *mut xdp_md, settings: &Settings, offset: u64, mtu: u64) -> u32 {
    let offset = (offset & 0x1f) as usize;
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let (Some(ethernet), Some(tags), Some(version), Some(quote)) = (
        ethernet::Header::of(frame),
        frame.at::<[u8; ethernet::MAX_LENGTH]>(0),
        frame.at::<u8>(offset),
        frame.at::<[u8; QUOTED]>(offset),
    ) else {
        return drop(context, Counter::DropTooBig);
    };
    let is_v4 = version.get::<u8, 0>() >> 4 == 4;
    // Of IPv4's fragments only the first one is answered (RFC 1812 section 4.3.2.7).
    let is_later = is_v4 && quote.get::<u16, 6>() & FRAGMENT_OFFSET != 0;
    if is_later || !may_answer() {
        return drop(context, Counter::DropTooBig);
    }
    // SAFETY: a readable place of that many bytes in the frame.
    let quoted = unsafe {
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            quote.as_mut_ptr().cast(),
            QUOTED as u32,
            0,
        )
    };
    let (sender, tags) = (ethernet.source(), tags.get::<u64, 12>());
    let added = icmp::LENGTH + if is_v4 { ipv4::LENGTH } else { ipv6::LENGTH };
    let wanted = offset + added + QUOTED;
    // SAFETY: the context is the kernel's; the frame is made anew below.
    let moved = unsafe {
        bpf_xdp_adjust_head(context, -(added as i32)) == 0
            && bpf_xdp_adjust_tail(context, wanted as i32 - bpf_xdp_get_buff_len(context) as i32) == 0
    };
    if !moved {
        return drop(context, Counter::DropInternal);
    }
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let sum = u64::from(quoted as u32);
    let written = if is_v4 {
        v4(frame, offset, mtu as u32, sum)
    } else {
        v6(frame, offset, mtu as u32, sum)
    };
    if written.is_none() || head(frame, settings, sender, tags, offset, is_v4).is_none() {
        return drop(context, Counter::DropInternal);
    }
    count(Counter::AnswerTooBig);
    aya_ebpf::bindings::xdp_action::XDP_TX
}

#[inline(always)]
fn v4(frame: &Frame, offset: usize, mtu: u32, quoted: u64) -> Option<()> {
    let packet = ipv4::Header::at(frame, offset + ipv4::LENGTH + icmp::LENGTH)?;
    let (source, destination) = (packet.source(), packet.destination());
    let [high, low] = ((ipv4::LENGTH + icmp::LENGTH + QUOTED) as u16).to_be_bytes();
    ipv4::Header::at(frame, offset)?.write([
        u32::from_be_bytes([0x45, 0, high, low]).to_be(),
        u32::from_be_bytes([0, 0, 0x40, 0]).to_be(),
        u32::from_be_bytes([TTL, ipv4::ICMP, 0, 0]).to_be(),
        destination,
        source,
    ]);
    let message = frame.at::<u64>(offset + ipv4::LENGTH)?;
    let (head, mtu) = (u32::from_be_bytes([3, 4, 0, 0]).to_be(), (mtu & 0xffff).to_be());
    message.set::<u32, 0>(head);
    message.set::<u32, 4>(mtu);
    let sum = checksum::add(checksum::add(quoted, head), mtu);
    message.set::<u16, 2>(!checksum::fold(sum));
    Some(())
}

#[inline(always)]
fn v6(frame: &Frame, offset: usize, mtu: u32, quoted: u64) -> Option<()> {
    let packet = ipv6::Header::at(frame, offset + ipv6::LENGTH + icmp::LENGTH)?;
    let (source, destination) = (packet.source(), packet.destination());
    let length = (icmp::LENGTH + QUOTED) as u16;
    let ip = ipv6::Header::at(frame, offset)?;
    ip.write(length, ipv6::ICMP, TTL);
    ip.set_addresses(destination, source);
    let message = frame.at::<u64>(offset + ipv6::LENGTH)?;
    let (head, mtu) = (u32::from_be_bytes([2, 0, 0, 0]).to_be(), mtu.to_be());
    message.set::<u32, 0>(head);
    message.set::<u32, 4>(mtu);
    let mut sum = checksum::add(checksum::add(quoted, head), mtu);
    // The pseudo header (RFC 8200 section 8.1).
    sum = checksum::add_wide(checksum::add_wide(sum, source[0]), source[1]);
    sum = checksum::add_wide(checksum::add_wide(sum, destination[0]), destination[1]);
    sum = checksum::add(sum, u32::from(length).to_be());
    sum = checksum::add(sum, u32::from(ipv6::ICMP).to_be());
    message.set::<u16, 2>(!checksum::fold(sum));
    Some(())
}

/// Writes the Ethernet header anew: to the packet's sender, with its VLAN tags.
#[inline(always)]
fn head(
    frame: &Frame,
    settings: &Settings,
    sender: u64,
    tags: u64,
    offset: usize,
    is_v4: bool,
) -> Option<()> {
    let place = frame.at::<[u8; ethernet::LENGTH]>(0)?;
    place.set::<u64, 0>(sender | settings.own_mac << 48);
    place.set::<u32, 8>((settings.own_mac >> 16) as u32);
    let ether_type = if is_v4 { ethernet::IPV4 } else { ethernet::IPV6 };
    ethernet::write_tags(frame, tags, offset, ether_type)
}
