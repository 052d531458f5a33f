//! Which target a flow belongs to: VIP, slot, and for the few slots that are not settled, the flow's note.

pub mod admission;
pub mod clock;
pub mod events;
pub mod features;
pub mod notes;
pub mod server_ids;
pub mod vips;

use foobar_common::address::Address;
use foobar_common::admission::FEATURE_TRACKING;
use foobar_common::counters::Counter;
use foobar_common::flow::flow_hash;
use foobar_common::settings::Settings;
use foobar_common::slot::{HOT_LANES, Member, NONE, Phase, Slot, UNSETTLED};
use foobar_common::steering::{Segment, Tracking, decide};
use foobar_common::target::{TARGET_DOWN, TARGET_GONE};
use foobar_common::vip::{
    Lanes, VIP_CANDIDATES, VIP_SOURCE_HASH, VIP_STRICT, VIP_TRACK_ALL, VIP_TRACK_NONE, Vip,
};

use crate::forward::count;
use crate::maps::{COLD_SLOTS, HOT_SLOTS, LEASES, TARGETS};
use crate::packet::transport::Transport;
pub use clock::now_ns;
use notes::Flow;

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

/// Where a flow's slot is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The flow's hash.
    pub hash: u64,
    index: u32,
    hot: u16,
}

/// What chooses a flow's slot, and what its outer headers vary by: its source and the four bytes of its ports, or its
/// source alone.
#[inline(always)]
pub fn placing(settings: &Settings, vip: &Vip, source: [u64; 2], ports_be: u32) -> u64 {
    let ports_be = if vip.flags & VIP_SOURCE_HASH == 0 {
        ports_be
    } else {
        0
    };
    flow_hash(settings.flow_seed, source, ports_be)
}

/// The slot of a flow of a VIP.
#[inline(always)]
pub fn place(settings: &Settings, vip: &Vip, source: [u64; 2], ports_be: u32) -> Option<Place> {
    let hash = placing(settings, vip, source, ports_be);
    let index = vip.slot_base + (hash as u32 & vip.slot_mask);
    // SAFETY: a word of an array map, which the daemon writes as one, also while the entry is in force.
    let lanes = Lanes::from_word(unsafe { (&raw const vip.lanes).cast::<u64>().read_volatile() });
    let lane = lanes.index(index);
    let element = HOT_SLOTS.get_ptr(lane / HOT_LANES)?;
    // SAFETY: a pointer to a lane of an element of an array map; the daemon writes each as one.
    let lane = unsafe {
        element
            .cast::<u16>()
            .add((lane % HOT_LANES) as usize)
            .read_volatile()
    };
    Some(Place {
        hash,
        index,
        hot: lanes.hot(lane),
    })
}

/// The slot whose `current` a packet goes to where nothing but the slot decides: one that is settled and has a
/// member, of a VIP that doesn't note all flows; or one that is kept with its candidates, which is not counted here.
/// Else a slot of nobody's: not an option, whose payload the compiler would store without having set it. `FEATURED` as
/// in [`crate::path::common`].
#[inline(always)]
pub fn plain<const FEATURED: bool>(vip: &Vip, place: Place) -> Slot {
    const NOT_PLAIN: Slot = Slot::settled(NONE);
    let (all, candidates) = if FEATURED && features::has(FEATURE_TRACKING) {
        (vip.flags & VIP_TRACK_ALL != 0, vip.flags & VIP_CANDIDATES != 0)
    } else {
        (false, false)
    };
    if place.hot & UNSETTLED == 0 {
        return if all { NOT_PLAIN } else { Slot::settled(place.hot) };
    }
    if !candidates {
        return NOT_PLAIN;
    }
    let Some(slot) = cold(place.index) else {
        return NOT_PLAIN;
    };
    if !matches!(slot.phase(), Phase::Kept) || slot.current == NONE {
        return NOT_PLAIN;
    }
    slot
}

#[inline(always)]
fn cold(index: u32) -> Option<Slot> {
    let cold = COLD_SLOTS.get_ptr(index)?;
    // SAFETY: a pointer into an array map; the daemon writes the slot's word as one.
    Some(Slot::from_word(unsafe { cold.cast::<u64>().read_volatile() }))
}

/// Who gets a packet, in one word, so that it is returned in a register whose every bit is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(u32);

impl Owner {
    /// A slot that isn't there.
    pub const INTERNAL: Self = Self(1 << 16);
    /// A flow that has no note where only notes count.
    pub const UNKNOWN: Self = Self(2 << 16);
    /// A packet that no service takes.
    pub const NO_SERVICE: Self = Self(3 << 16);
    /// A packet whose source is denied.
    pub const DENIED: Self = Self(4 << 16);
    /// A SYN above its VIP's limit.
    pub const SYN_LIMIT: Self = Self(5 << 16);
    /// A SYN above its source's limit.
    pub const SOURCE_LIMIT: Self = Self(6 << 16);

    /// A member, or [`NONE`].
    #[inline(always)]
    pub const fn of(member: Member) -> Self {
        Self(member as u32)
    }

    /// Nobody, for a reason of [`admission::refusal`].
    #[inline(always)]
    pub const fn refused(reason: Counter) -> Self {
        match reason {
            Counter::DropDenied => Self::DENIED,
            Counter::DropSynLimit => Self::SYN_LIMIT,
            Counter::DropSourceLimit => Self::SOURCE_LIMIT,
            _ => Self::INTERNAL,
        }
    }

    /// The member; else why it goes to nobody.
    #[inline(always)]
    pub const fn member(self) -> Result<Member, Counter> {
        if self.0 != NONE as u32 && self.0 <= Member::MAX as u32 {
            Ok(self.0 as Member)
        } else if self.0 == Self::UNKNOWN.0 {
            Err(Counter::DropNoNote)
        } else if self.0 == Self::NO_SERVICE.0 {
            Err(Counter::DropNoService)
        } else if self.0 == Self::INTERNAL.0 {
            Err(Counter::DropInternal)
        } else if self.0 == Self::DENIED.0 {
            Err(Counter::DropDenied)
        } else if self.0 == Self::SYN_LIMIT.0 {
            Err(Counter::DropSynLimit)
        } else if self.0 == Self::SOURCE_LIMIT.0 {
            Err(Counter::DropSourceLimit)
        } else {
            Err(Counter::DropNoMember)
        }
    }
}

/// Who gets any packet of a VIP; and its slot, as far as that has candidates.
#[inline(always)]
pub fn owner(
    settings: &Settings,
    vip: &Vip,
    place: Place,
    source: &Address,
    transport: Transport,
) -> (Owner, Slot) {
    let tracking = tracking(vip.flags);
    if place.hot & UNSETTLED == 0 && !matches!(tracking, Tracking::All | Tracking::AllStrict) {
        return (Owner::of(place.hot), Slot::settled(place.hot));
    }
    let Some(slot) = cold(place.index) else {
        return (Owner::INTERNAL, Slot::settled(NONE));
    };
    let alone = (Owner::of(slot.current), Slot::settled(slot.current));
    match slot.phase() {
        Phase::Settled if matches!(tracking, Tracking::Transitions) => return alone,
        Phase::Settled => (),
        Phase::Open => count(Counter::SlotOpen),
        Phase::Moving => count(Counter::SlotMoving),
        Phase::Fresh | Phase::Moved => count(Counter::SlotMoved),
        Phase::Kept => count(Counter::SlotKept),
    }
    if matches!(tracking, Tracking::None) {
        if vip.flags & VIP_CANDIDATES == 0 {
            return alone;
        }
        let slot = match transport.segment {
            Segment::Open => slot,
            Segment::Data | Segment::End | Segment::Datagram | Segment::Error => slot.for_known_flows(),
        };
        return (Owner::of(slot.current), slot);
    }
    // A client's flows may share a slot, but each has a note of its own.
    let hash = if vip.flags & VIP_SOURCE_HASH == 0 {
        place.hash
    } else {
        flow_hash(settings.flow_seed, source.words(), transport.ports_be)
    };
    let flow = Flow::new(settings, vip, place.index, hash, *source, transport);
    let note = flow.find();
    let decision = decide(slot, transport.segment, note.known(), tracking, |member| {
        target_flags(member) & (TARGET_DOWN | TARGET_GONE) != 0
    });
    flow.record(&note, decision);
    let owner = if decision.member == NONE && slot.current != NONE && matches!(tracking, Tracking::AllStrict)
    {
        Owner::UNKNOWN
    } else {
        Owner::of(decision.member)
    };
    (owner, Slot::settled(decision.member))
}

#[inline(always)]
fn tracking(vip_flags: u32) -> Tracking {
    if !features::has(FEATURE_TRACKING) {
        Tracking::Transitions
    } else if vip_flags & VIP_TRACK_NONE != 0 {
        Tracking::None
    } else if vip_flags & VIP_TRACK_ALL == 0 {
        Tracking::Transitions
    } else if vip_flags & VIP_STRICT != 0 {
        Tracking::AllStrict
    } else {
        Tracking::All
    }
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
