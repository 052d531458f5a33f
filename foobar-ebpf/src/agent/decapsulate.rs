//! Out of the tunnel: the Ethernet header moves to the packet, what was between them goes.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use foobar_common::agent::AgentCounter;
use foobar_ebpf::packet::{Frame, View, ecn, ethernet, ipv4, ipv6};

use crate::inner::OFFSET_MASK;
use crate::maps::Job;
use crate::{count, drop};

/// Gives the packet in the tunnel to the kernel.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
pub(crate) unsafe fn decapsulate(context: *mut xdp_md, job: &Job) -> u32 {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let removed = match prepare(frame, job) {
        Ok(removed) => removed,
        Err(reason) => return drop(reason),
    };
    // SAFETY: the context is the kernel's; the frame is not used afterwards.
    if unsafe { bpf_xdp_adjust_head(context, removed as i32) } != 0 {
        return drop(AgentCounter::DropInternal);
    }
    count(if job.gue {
        AgentCounter::DecapsulatedGue
    } else {
        AgentCounter::DecapsulatedIpip
    });
    xdp_action::XDP_PASS
}

/// Tells the packet of congestion, and copies the Ethernet header to in front of it; the number of bytes that
/// are then to go.
#[inline(always)]
fn prepare(frame: &Frame, job: &Job) -> Result<usize, AgentCounter> {
    let Some(from) = frame.at::<[u8; ethernet::MAX_LENGTH]>(0) else {
        return Err(AgentCounter::DropTruncated);
    };
    let inner = job.packet.offset();
    let ether_type = if job.inner_v4 {
        let ip = ipv4::Header::at(frame, inner).ok_or(AgentCounter::DropTruncated)?;
        if let Some(field) = marked(job.traffic_class, ip.traffic_class())? {
            ip.set_ecn(field);
        }
        ethernet::IPV4
    } else {
        let ip = ipv6::Header::at(frame, inner).ok_or(AgentCounter::DropTruncated)?;
        if let Some(field) = marked(job.traffic_class, ip.traffic_class())? {
            ip.set_ecn(field);
        }
        ethernet::IPV6
    };
    // Not calculated here: the compiler would find the check of the bytes in front of the packet to be one with
    // the check of its header, which the verifier cannot follow.
    let removed = (job.removed & OFFSET_MASK) as usize;
    let layer_2 = job.outer as usize;
    // At most two tags: three copies, each of a constant size.
    if layer_2 == ethernet::LENGTH {
        copy::<{ ethernet::LENGTH }>(frame, from, removed, ether_type)
    } else if layer_2 == ethernet::LENGTH + 4 {
        copy::<{ ethernet::LENGTH + 4 }>(frame, from, removed, ether_type)
    } else {
        copy::<{ ethernet::LENGTH + 8 }>(frame, from, removed, ether_type)
    }
}

/// The ECN field that a packet is to get, if it has another one now.
#[inline(always)]
fn marked(outer: u8, inner: u8) -> Result<Option<u8>, AgentCounter> {
    let Some(field) = ecn::leaving(outer, inner) else {
        return Err(AgentCounter::DropCongestion);
    };
    if field == inner & ecn::MASK {
        return Ok(None);
    }
    if field == ecn::CE {
        count(AgentCounter::CongestionNoted);
    }
    Ok(Some(field))
}

/// Copies an Ethernet header of `LENGTH` bytes, tags included, with another EtherType. The outer IP header is
/// longer than the Ethernet header could reach: the two places do not overlap.
#[inline(always)]
fn copy<const LENGTH: usize>(
    frame: &Frame,
    from: View<[u8; ethernet::MAX_LENGTH]>,
    removed: usize,
    ether_type: u16,
) -> Result<usize, AgentCounter> {
    let to = frame
        .at::<[u8; ethernet::MAX_LENGTH]>(removed)
        .ok_or(AgentCounter::DropTruncated)?;
    let (addresses, rest) = (from.get::<u64, 0>(), from.get::<u32, 8>());
    let tags = (from.get::<u32, 12>(), from.get::<u32, 16>());
    to.set::<u64, 0>(addresses);
    to.set::<u32, 8>(rest);
    if LENGTH == ethernet::LENGTH {
        to.set::<u16, 12>(ether_type);
    } else if LENGTH == ethernet::LENGTH + 4 {
        to.set::<u32, 12>(tags.0);
        to.set::<u16, 16>(ether_type);
    } else {
        to.set::<u32, 12>(tags.0);
        to.set::<u32, 16>(tags.1);
        to.set::<u16, 20>(ether_type);
    }
    Ok(removed)
}
