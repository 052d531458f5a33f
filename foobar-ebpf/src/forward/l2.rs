//! Layer 2, direct server return: the frame goes to the backend's MAC, the packet in it stays as it is (TTL
//! and IP options included), and the backend answers the client by itself.

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use foobar_common::counters::Counter;
use foobar_common::slot::Member;
use foobar_common::steering::Segment;
use foobar_common::target::TARGET_RESOLVED;

use crate::maps::{TARGET_COUNTERS, TARGETS, TX_PORTS};
use crate::outcome::{Action, Refusal};
use crate::packet::ethernet;
use crate::steer::opens;

/// Rewrites the frame of `bytes` bytes for a target, and counts it there.
#[inline(always)]
pub fn forward(
    ethernet: ethernet::Header,
    member: Member,
    segment: Segment,
    bytes: usize,
) -> Result<Action, Refusal> {
    let Some(target) = TARGETS.get_ptr(u32::from(member)) else {
        return Err(Refusal::Drop(Counter::DropInternal));
    };
    // SAFETY: a pointer into an array map. The daemon changes the interface while the target is not resolved.
    let (flags, ifindex) = unsafe { ((*target).flags, (*target).ifindex) };
    if flags & TARGET_RESOLVED == 0 {
        return Err(Refusal::Drop(Counter::DropNoNextHop));
    }
    // First, for it may fail: what is dropped must not be counted as sent.
    let action = if ifindex == 0 {
        Action::Transmit
    } else if TX_PORTS.redirect(ifindex, u64::from(XDP_DROP)).is_ok() {
        Action::Redirect
    } else {
        return Err(Refusal::Drop(Counter::DropRedirect));
    };
    // SAFETY: the first 12 bytes of a target are its two MAC addresses, and it is aligned. The daemon writes
    // the first word as one, so that the destination is never seen half written.
    let (head, tail) = unsafe { (target.cast::<u64>().read_volatile(), *target.cast::<u32>().add(2)) };
    ethernet.set_addresses(head, tail);
    if let Some(counters) = TARGET_COUNTERS.get_ptr_mut(u32::from(member)) {
        // SAFETY: this CPU's element of a per-CPU array.
        unsafe {
            (*counters).packets += 1;
            (*counters).bytes += bytes as u64;
            if opens(segment) {
                (*counters).connections += 1;
            }
        }
    }
    Ok(action)
}
