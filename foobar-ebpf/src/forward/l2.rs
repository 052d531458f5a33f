//! Layer 2, direct server return: the frame goes to the backend's MAC, the packet in it stays as it is (TTL
//! and IP options included), and the backend answers the client by itself.

use aya_ebpf::bindings::xdp_action::XDP_DROP;
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use foobar_common::counters::Counter;
use foobar_common::settings::Settings;
use foobar_common::slot::Member;
use foobar_common::steering::Segment;
use foobar_common::target::{TARGET_ENTRIES, TARGET_RESOLVED, Target};

use crate::maps::{self, TARGET_CONNECTIONS, TARGET_TRAFFIC, TARGETS, TX_PORTS, within};
use crate::outcome::{Action, Refusal};
use crate::packet::ethernet;
use crate::steer::opens;

/// A target's place in the array, whose fields the daemon writes each as one.
#[derive(Clone, Copy, Debug)]
pub struct Entry(*const Target);

/// The target of a member.
#[inline(always)]
pub fn target(member: Member) -> Option<Entry> {
    TARGETS.get_ptr(u32::from(member)).map(Entry)
}

impl Entry {
    /// Its `TARGET_*` bits.
    #[inline(always)]
    pub fn flags(self) -> u16 {
        // SAFETY: a pointer into an array map, as `target` made it.
        unsafe { core::ptr::addr_of!((*self.0).flags).read_volatile() }
    }

    /// Its address, which changes only while nothing names it, as [`foobar_common::address::Address::words`].
    #[inline(always)]
    pub fn address(self) -> [u64; 2] {
        // SAFETY: as in `flags`.
        unsafe { (*self.0).address.words() }
    }

    /// The longest packet that the way to it takes.
    #[inline(always)]
    pub fn mtu(self) -> u16 {
        // SAFETY: as in `flags`.
        unsafe { (*self.0).mtu }
    }

    /// How frames for it leave. To be asked first, for it may fail: what is dropped must not be counted as
    /// sent.
    #[inline(always)]
    pub fn way(self) -> Result<Action, Refusal> {
        // SAFETY: as in `flags`. The daemon changes the interface while the target is not resolved.
        let ifindex = unsafe { (*self.0).ifindex };
        if self.flags() & TARGET_RESOLVED == 0 {
            Err(Refusal::Drop(Counter::DropNoNextHop))
        } else if ifindex == 0 {
            Ok(Action::Transmit)
        } else if TX_PORTS.redirect(ifindex, u64::from(XDP_DROP)).is_ok() {
            Ok(Action::Redirect)
        } else {
            Err(Refusal::Drop(Counter::DropRedirect))
        }
    }

    /// The MAC addresses of the way to it, destination first: their first 8 bytes, and the last 4.
    #[inline(always)]
    pub fn macs(self) -> (u64, u32) {
        // SAFETY: the first 12 bytes of a target are its two MAC addresses, and it is aligned. The daemon
        // writes the first word as one, so that the destination is never seen half written.
        unsafe { (self.0.cast::<u64>().read_volatile(), *self.0.cast::<u32>().add(2)) }
    }

    /// Writes the MAC addresses of the way to it.
    #[inline(always)]
    pub fn write_macs(self, ethernet: ethernet::Header) {
        let (head, tail) = self.macs();
        ethernet.set_addresses(head, tail);
    }
}

/// Rewrites a plain frame for a member whose target needs nothing else, and says whether it did.
#[inline(always)]
pub fn rewrite(ethernet: ethernet::Header, settings: &Settings, member: Member) -> bool {
    let place = maps::hot_targets()
        .cast::<u64>()
        .wrapping_add(within::<{ TARGET_ENTRIES as u32 - 1 }>(u32::from(member)));
    // SAFETY: a pointer into an array map, inside of the element by the mask; the daemon writes each word as one.
    let word = unsafe { place.read_volatile() };
    if word == 0 {
        return false;
    }
    ethernet.set_addresses(word, (settings.own_mac >> 16) as u32);
    true
}

/// Counts a frame of `bytes` bytes that was sent to a member; `opened` where it opens a connection.
#[inline(always)]
pub fn sent(member: Member, opened: bool, bytes: u64) {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let place = cpu * maps::settings().counter_row + u32::from(member);
    if let Some(traffic) = TARGET_TRAFFIC.get_ptr_mut(place) {
        // SAFETY: an element of this CPU's row, which nobody else adds to.
        unsafe {
            (*traffic).packets += 1;
            (*traffic).bytes += bytes;
        }
    }
    if opened && let Some(connections) = TARGET_CONNECTIONS.get_ptr_mut(place) {
        // SAFETY: as above.
        unsafe { *connections += 1 }
    }
}

/// Rewrites the frame of `bytes` bytes for a member's target, and counts it there.
#[inline(always)]
pub fn forward(
    ethernet: ethernet::Header,
    target: Entry,
    member: Member,
    segment: Segment,
    bytes: usize,
) -> Result<Action, Refusal> {
    let action = target.way()?;
    target.write_macs(ethernet);
    sent(member, opens(segment), bytes as u64);
    Ok(action)
}
