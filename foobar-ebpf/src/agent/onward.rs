//! To another candidate: the packet stays in its tunnel, the outer header goes to somebody else.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use foobar_common::address::Address;
use foobar_common::agent::{AgentCounter, NextHop};
use foobar_common::gue;
use foobar_common::gue::OPTION_RETURNED;
use foobar_ebpf::packet::{Frame, View, checksum, ethernet, ipv4, ipv6};

use crate::maps::{AGENT_TX_PORTS, Job, NEIGHBOURS, WANTED};
use crate::outer::UDP;
use crate::{count, drop};

/// All offsets of tunnel headers are below it.
const OFFSET_MASK: u16 = 0x7f;

/// Where, behind the outer IP header, the list of candidates begins.
const LIST: usize = UDP + gue::LENGTH + gue::PRIVATE_LENGTH;

/// What is written into the packet.
struct Change {
    /// The candidate's place in the list.
    place: usize,
    /// How many candidates then have had their turn.
    next: u8,
    options: u8,
}

/// Sends a packet to the listed candidate at `place`.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(always)]
pub(crate) unsafe fn send(context: *mut xdp_md, job: &Job, place: u8, next: u8, options: u8) -> u32 {
    let change = u32::from(place) | u32::from(next) << 8 | u32::from(options) << 16;
    // SAFETY: the caller's.
    unsafe { rewrite(context, job, change) }
}

/// # Safety
/// As [`Frame::of_context`].
#[inline(never)]
unsafe fn rewrite(context: *mut xdp_md, job: &Job, change: u32) -> u32 {
    let change = Change {
        place: (change & 1) as usize,
        next: (change >> 8) as u8,
        options: (change >> 16) as u8,
    };
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    // First what is in front: the compiler leaves out the check of what it sees to be there by a later one,
    // and the verifier does not see that.
    let Some(ethernet) = ethernet::Header::of(frame) else {
        return drop(AgentCounter::DropTruncated);
    };
    let rewritten = if job.outer_v4 {
        v4(frame, ethernet, job, &change)
    } else {
        v6(frame, ethernet, job, &change)
    };
    match rewritten {
        Ok(hop) => {
            // SAFETY: a pointer to a live element of a hash map; one that is replaced meanwhile is not reused
            // before this packet's end, or else by another backend's next hop, whose agent passes it on again.
            let ifindex = unsafe { (*hop).ifindex };
            let verdict = if ifindex == 0 {
                xdp_action::XDP_TX
            } else if AGENT_TX_PORTS
                .redirect(ifindex, u64::from(xdp_action::XDP_DROP))
                .is_ok()
            {
                xdp_action::XDP_REDIRECT
            } else {
                return drop(AgentCounter::DropRedirect);
            };
            count(if change.options & OPTION_RETURNED != 0 {
                AgentCounter::SentBack
            } else {
                AgentCounter::GivenOn
            });
            verdict
        }
        Err(reason) => drop(reason),
    }
}

#[inline(always)]
fn v4(
    frame: &Frame,
    ethernet: ethernet::Header,
    job: &Job,
    change: &Change,
) -> Result<*const NextHop, AgentCounter> {
    let tunnel = (job.tunnel & OFFSET_MASK) as usize;
    let header = frame
        .at::<[u8; LIST]>(tunnel)
        .ok_or(AgentCounter::DropTruncated)?;
    let ip =
        ipv4::Header::at(frame, (job.outer & OFFSET_MASK) as usize).ok_or(AgentCounter::DropTruncated)?;
    let entry = frame
        .at::<u32>(tunnel + LIST + change.place * 4)
        .ok_or(AgentCounter::DropTruncated)?;
    let candidate = entry.get::<u32, 0>();
    let hop = way(ethernet, Address::from_ipv4_raw(candidate))?;
    ip.hop().ok_or(AgentCounter::DropTtl)?;
    entry.set::<u32, 0>(ip.destination());
    ip.set_destination(candidate);
    turn(header, change);
    Ok(hop)
}

#[inline(always)]
fn v6(
    frame: &Frame,
    ethernet: ethernet::Header,
    job: &Job,
    change: &Change,
) -> Result<*const NextHop, AgentCounter> {
    let tunnel = (job.tunnel & OFFSET_MASK) as usize;
    let header = frame
        .at::<[u8; LIST]>(tunnel)
        .ok_or(AgentCounter::DropTruncated)?;
    let ip =
        ipv6::Header::at(frame, (job.outer & OFFSET_MASK) as usize).ok_or(AgentCounter::DropTruncated)?;
    let entry = frame
        .at::<[u8; 16]>(tunnel + LIST + change.place * 16)
        .ok_or(AgentCounter::DropTruncated)?;
    let candidate = [entry.get::<u64, 0>(), entry.get::<u64, 8>()];
    let hop = way(ethernet, ipv6::address(candidate))?;
    ip.hop().ok_or(AgentCounter::DropTtl)?;
    let own = ip.destination();
    entry.set::<u64, 0>(own[0]);
    entry.set::<u64, 8>(own[1]);
    ip.set_addresses(ip.source(), candidate);
    turn(header, change);
    Ok(hop)
}

/// Writes the MAC addresses of the way to a candidate; where that is not known, the daemon is told.
#[inline(always)]
fn way(ethernet: ethernet::Header, candidate: Address) -> Result<*const NextHop, AgentCounter> {
    let Some(hop) = NEIGHBOURS.get_ptr(candidate) else {
        // Full of others that are wanted is as good as wanted.
        let _ = WANTED.insert(candidate, 0, 0);
        return Err(AgentCounter::DropNoNextHop);
    };
    // SAFETY: the first 12 bytes of a next hop are its two MAC addresses, and it is aligned.
    let (head, tail) = unsafe { (*hop.cast::<u64>(), *hop.cast::<u32>().add(2)) };
    ethernet.set_addresses(head, tail);
    Ok(hop)
}

/// Writes whose turn it is. Of what the UDP checksum covers, where there is one, only this word changes: the
/// two addresses have changed places.
#[inline(always)]
fn turn(header: View<[u8; LIST]>, change: &Change) {
    let old = header.get::<u16, 14>();
    let listed = header.get::<u8, 14>() & 0x0f;
    header.set::<u8, 14>(change.next << 4 | listed);
    header.set::<u8, 15>(change.options);
    let sum = header.get::<u16, 6>();
    if sum != 0 {
        let sum = checksum::update(sum, old, header.get::<u16, 14>());
        // 0 would say that there is none (RFC 768).
        header.set::<u16, 6>(if sum == 0 { u16::MAX } else { sum });
    }
}
