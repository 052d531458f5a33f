//! Which target a flow belongs to: VIP, slot, and for the few slots that are not settled, the flow's note.

pub mod notes;
pub mod vips;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use foobar_common::address::Address;
use foobar_common::counters::Counter;
use foobar_common::flow::flow_hash;
use foobar_common::settings::Settings;
use foobar_common::slot::{HOT_LANES, Member, Phase, Slot, UNSETTLED};
use foobar_common::steering::{Segment, Tracking, decide};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};
use foobar_common::vip::Vip;

use crate::forward::count;
use crate::maps::{COLD_SLOTS, HOT_SLOTS, LEASES, TARGETS};
use crate::outcome::Refusal;
use crate::packet::transport::Transport;
use notes::Flow;

/// CLOCK_MONOTONIC in nanoseconds, as of the last timer tick.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: the helper has no arguments and no preconditions.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Whether this balancer owns the address of an entry of kind address.
#[inline(always)]
pub fn owned(vip: &Vip) -> bool {
    let Some(lease) = LEASES.get_ptr(vip.id) else {
        return false;
    };
    // SAFETY: a pointer into an array map; the daemon writes the word as one.
    let until = unsafe { core::ptr::addr_of!((*lease).until_ns).read_volatile() };
    until == u64::MAX || until > now_ns()
}

/// The member that a packet of a VIP goes to; [`foobar_common::slot::NONE`] where there is none.
#[inline(always)]
pub fn member(
    settings: &Settings,
    vip: &Vip,
    source: Address,
    transport: Transport,
) -> Result<Member, Refusal> {
    let hash = flow_hash(settings.flow_seed, source.words(), transport.ports_be);
    let index = vip.slot_base + (hash as u32 & vip.slot_mask);
    let Some(element) = HOT_SLOTS.get_ptr(index / HOT_LANES) else {
        return Err(Refusal::Drop(Counter::DropInternal));
    };
    // SAFETY: a pointer to 8 aligned bytes of an array map; the daemon writes each lane as one.
    let lanes = unsafe { element.cast::<u64>().read_volatile() };
    let hot = (lanes >> ((index % HOT_LANES) * 16)) as u16;
    if hot & UNSETTLED == 0 {
        return Ok(hot);
    }
    unsettled(settings, vip, index, hash, source, transport)
}

#[inline(always)]
fn unsettled(
    settings: &Settings,
    vip: &Vip,
    index: u32,
    hash: u64,
    source: Address,
    transport: Transport,
) -> Result<Member, Refusal> {
    let Some(cold) = COLD_SLOTS.get_ptr(index) else {
        return Err(Refusal::Drop(Counter::DropInternal));
    };
    // SAFETY: a pointer into an array map; the daemon writes the slot's word as one.
    let slot = Slot::from_word(unsafe { cold.cast::<u64>().read_volatile() });
    count(match slot.phase() {
        Phase::Settled => return Ok(slot.current),
        Phase::Open => Counter::SlotOpen,
        Phase::Moving => Counter::SlotMoving,
        Phase::Fresh | Phase::Moved => Counter::SlotMoved,
        Phase::Kept => Counter::SlotKept,
    });
    let flow = Flow::new(settings, vip, index, hash, source, transport);
    let note = flow.find();
    let decision = decide(
        slot,
        transport.segment,
        note.known(),
        Tracking::Transitions,
        |member| target_flags(member) & (TARGET_DOWN | TARGET_GONE) != 0,
    );
    flow.record(&note, decision);
    Ok(decision.member)
}

/// A target's flags; those of a gone one where there is no such target.
#[inline(always)]
pub fn target_flags(member: Member) -> u16 {
    match TARGETS.get_ptr(member as u32) {
        // SAFETY: a pointer into an array map; the field is written as one.
        Some(target) => unsafe { core::ptr::addr_of!((*target).flags).read_volatile() },
        None => TARGET_GONE,
    }
}

/// Whether a segment asks for a new TCP connection.
#[inline(always)]
pub const fn opens(segment: Segment) -> bool {
    matches!(segment, Segment::Open)
}
