//! `agent`: the XDP program of a backend's NIC. It takes packets for the backend's VIPs out of their tunnels
//! and gives them to the kernel; of those that carry candidates, the ones whose flow the kernel does not own it
//! passes on. Everything else stays as it came, and without settings that is everything.
//!
//! It goes in steps, each a function of its own that finds the [`Job`] as the step before left it (see
//! `path::rare` for the reason): `outer` and `inner` say what came, `judge` asks the kernel, `onward` and
//! `decapsulate` do what follows. It knows nothing of balancers' tables.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point that the attribute makes has neither"
)]

mod decapsulate;
mod inner;
mod judge;
mod maps;
mod onward;
mod outer;

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::{macros::xdp, programs::XdpContext};
use foobar_common::agent::{AgentCounter, AgentCounters, AgentSettings, Course, course};
use foobar_common::counters::Counter;
use foobar_common::gue::{PROTO_IPV4, PROTO_IPV6};
use foobar_ebpf::packet::{Frame, ethernet, ipv4, ipv6};

use maps::{AGENT_ACTIVE, AGENT_COUNTERS, AGENT_JOBS, AGENT_SETTINGS, Job};

/// What a step returns where another one follows; else the packet's verdict.
const ON: u32 = 16;

/// Decapsulates what is in a tunnel for a VIP, and passes everything else to the kernel.
#[xdp(frags)]
pub fn agent(context: XdpContext) -> u32 {
    // SAFETY: the kernel gives the frame to this program alone, and no view of it is kept.
    if unsafe { in_tunnel(context.ctx) }.is_none() {
        return pass(AgentCounter::PassOther);
    }
    let active = AGENT_ACTIVE.get(0).copied().unwrap_or_default();
    let (Some(settings), Some(job)) = (AGENT_SETTINGS.get(active), AGENT_JOBS.get_ptr_mut(0)) else {
        return pass(AgentCounter::PassOther);
    };
    // SAFETY: the kernel's context. The job is this CPU's element, which no other packet uses before this
    // one's end.
    unsafe { receive(context.ctx, settings, &mut *job) }
}

/// Whether a frame may bear a tunnel's packet: IP in IP or UDP.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(always)]
unsafe fn in_tunnel(context: *mut xdp_md) -> Option<()> {
    // SAFETY: the caller's.
    let frame = &unsafe { Frame::of_context(context) };
    let (ether_type, offset) = ethernet::Header::of(frame)?.network(frame)?;
    let protocol = match ether_type {
        ethernet::IPV4 => ipv4::Header::at(frame, offset)?.protocol(),
        ethernet::IPV6 => ipv6::Header::at(frame, offset)?.next_header(),
        _ => return None,
    };
    matches!(protocol, PROTO_IPV4 | PROTO_IPV6 | ipv4::UDP).then_some(())
}

/// What becomes of a packet in a tunnel.
///
/// # Safety
/// As [`Frame::of_context`].
#[inline(always)]
unsafe fn receive(context: *mut xdp_md, settings: &AgentSettings, job: &mut Job) -> u32 {
    // SAFETY: the caller's; each step reads the frame's place anew.
    unsafe {
        let mut step = outer::read(context, settings, job);
        if step == ON {
            step = inner::read(context, job);
        }
        if step != ON {
            return step;
        }
        if job.listed != 0 {
            let finding = judge::judge(context, job);
            match course(judge::finding(finding), job.next, job.listed, job.options) {
                Course::Onward { options } => {
                    return onward::send(context, job, job.next, job.next + 1, options);
                }
                Course::Back { place, options } => {
                    return onward::send(context, job, place, job.next, options);
                }
                Course::Drop => return drop(AgentCounter::DropNobody),
                Course::Last => count(AgentCounter::KeptLast),
                Course::Keep => count(judge::kept_as(finding)),
            }
        }
        decapsulate::decapsulate(context, job)
    }
}

/// Counts on this CPU.
#[inline(always)]
fn count(counter: AgentCounter) {
    if let Some(counters) = AGENT_COUNTERS.get_ptr_mut(0) {
        const { assert!(size_of::<AgentCounters>() == AgentCounter::ALL.len() * 8) };
        // SAFETY: `AgentCounters` is one u64 a counter, in the counters' order; this CPU's element is ours.
        unsafe { *counters.cast::<u64>().add(counter as usize) += 1 }
    }
}

/// The verdict on a packet that stays as it came, counted by its reason.
#[inline(always)]
fn pass(reason: AgentCounter) -> u32 {
    count(reason);
    xdp_action::XDP_PASS
}

/// The verdict on a packet that is dropped, counted by its reason.
#[inline(always)]
fn drop(reason: AgentCounter) -> u32 {
    count(reason);
    xdp_action::XDP_DROP
}

/// The agent's name for what is wrong with an IP header.
#[inline(always)]
const fn wrong(reason: Counter) -> AgentCounter {
    match reason {
        Counter::DropTruncated => AgentCounter::DropTruncated,
        _ => AgentCounter::DropMalformed,
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
