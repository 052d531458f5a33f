//! The slot: one entry of a VIP's steering table, with the history that replaces a flow table.
//!
//! Two arrays hold it. The *hot* one has two bytes a slot, the current member and whether the slot is
//! settled: all that nearly every packet needs. The *cold* one has the whole [`Slot`]. A writer writes the
//! cold entry first, then the hot one; a reader that finds the hot entry unsettled believes the cold one.

/// A member of a VIP: the index of its target in the target array; 0 names nobody.
pub type Member = u16;

/// No member.
pub const NONE: Member = 0;

/// The highest index that a member can have: the hot entry keeps a bit for itself.
pub const MAX_MEMBER: Member = 0x7fff;

/// The bit of a hot entry that says that the cold entry has to be looked at.
pub const UNSETTLED: u16 = 0x8000;

/// What a slot is going through.
#[repr(u16)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    /// One owner, no history: no flow look-up, no state.
    #[default]
    Settled = 0,
    /// A peer's note came for a slot that is settled here: the peer changed first.
    Open = 1,
    /// The owner changed less than the idle time T ago.
    Moving = 2,
    /// T has passed, less than a second ago: new flows are still noted.
    Fresh = 3,
    /// T has passed: every old flow that lives has a note by now.
    Moved = 4,
    /// Nothing is noted; earlier owners are kept as candidates for flows that `current` doesn't know
    /// ([`crate::vip::VIP_CANDIDATES`]).
    Kept = 5,
}

impl Phase {
    /// The phase that a cold entry's number stands for; an unknown number counts as settled.
    #[inline(always)]
    pub const fn from_raw(raw: u16) -> Self {
        match raw {
            1 => Self::Open,
            2 => Self::Moving,
            3 => Self::Fresh,
            4 => Self::Moved,
            5 => Self::Kept,
            _ => Self::Settled,
        }
    }
}

/// A slot's owners and phase: 8 bytes, read and written as one word.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Takes the new connections.
    pub current: Member,
    /// The owner before `current`, or [`NONE`].
    pub previous: Member,
    /// The owner before `previous`, or [`NONE`].
    pub older: Member,
    /// A [`Phase`] as its number.
    pub phase: u16,
}

impl Slot {
    /// A settled slot of one owner.
    pub const fn settled(current: Member) -> Self {
        Self {
            current,
            previous: NONE,
            older: NONE,
            phase: Phase::Settled as u16,
        }
    }

    /// The slot's phase.
    #[inline(always)]
    pub const fn phase(&self) -> Phase {
        Phase::from_raw(self.phase)
    }

    /// The member that owns flows without a note while the slot moves: `older`, else `previous`, else
    /// `current`.
    #[inline(always)]
    pub const fn unnoted_owner(&self) -> Member {
        if self.older != NONE {
            self.older
        } else if self.previous != NONE {
            self.previous
        } else {
            self.current
        }
    }

    /// The slot for a packet that opens nothing: where nobody takes new flows, the earlier owners still have
    /// theirs, so that the latest of them comes first.
    #[inline(always)]
    pub const fn for_known_flows(self) -> Self {
        if self.current == NONE {
            Self {
                current: self.previous,
                previous: self.older,
                older: NONE,
                ..self
            }
        } else {
            self
        }
    }

    /// The slot as the word that the maps hold (`current` in the lowest 16 bits).
    #[inline(always)]
    pub const fn to_word(self) -> u64 {
        self.current as u64
            | (self.previous as u64) << 16
            | (self.older as u64) << 32
            | (self.phase as u64) << 48
    }

    /// The slot that a word stands for.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            current: word as u16,
            previous: (word >> 16) as u16,
            older: (word >> 32) as u16,
            phase: (word >> 48) as u16,
        }
    }

    /// The slot's hot entry.
    pub const fn hot(&self) -> u16 {
        match self.phase() {
            Phase::Settled => self.current,
            Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved | Phase::Kept => {
                self.current | UNSETTLED
            }
        }
    }
}

/// An element of the cold slot array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdSlot {
    /// Owners and phase; the data plane reads just this, as one word.
    pub slot: Slot,
    /// When the phase began, CLOCK_MONOTONIC in nanoseconds; for the daemon, which may be restarted.
    pub since_ns: u64,
}

/// Slots in an element of the hot slot array: array elements are multiples of 8 bytes.
pub const HOT_LANES: u32 = 4;

/// Elements of the hot slot array where there are so many slots: one lane for each, and half as many again for tables
/// that VIPs share ([`crate::vip::Lanes`]). A shared table has two VIPs at least.
pub const fn hot_elements(slots: u32) -> u32 {
    (slots + slots / 2).div_ceil(HOT_LANES)
}

/// An element of the hot slot array: four slots.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HotSlots {
    /// Each the current member, and [`UNSETTLED`].
    pub lanes: [u16; HOT_LANES as usize],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_and_its_slot_are_the_same_bytes() {
        let slot = Slot {
            current: 1,
            previous: 2,
            older: 3,
            phase: Phase::Moved as u16,
        };
        assert_eq!(Slot::from_word(slot.to_word()), slot);
        // SAFETY: both are 8 plain bytes.
        let bytes: u64 = unsafe { core::mem::transmute(slot) };
        assert_eq!(bytes, slot.to_word());
    }

    #[test]
    fn a_slot_that_lost_its_last_owner_still_has_candidates_for_known_flows() {
        let slot = Slot {
            previous: 2,
            older: 3,
            phase: Phase::Kept as u16,
            ..Slot::settled(NONE)
        };
        let known = slot.for_known_flows();
        assert_eq!((known.current, known.previous, known.older), (2, 3, NONE));
        assert_eq!(known.for_known_flows(), known);
    }

    #[test]
    fn only_a_settled_slot_has_a_plain_hot_entry() {
        assert_eq!(Slot::settled(7).hot(), 7);
        let moving = Slot {
            phase: Phase::Moving as u16,
            ..Slot::settled(7)
        };
        assert_eq!(moving.hot(), 7 | UNSETTLED);
    }

    #[test]
    fn the_oldest_known_owner_owns_flows_without_a_note() {
        let mut slot = Slot {
            current: 1,
            previous: 2,
            older: 3,
            phase: Phase::Moving as u16,
        };
        assert_eq!(slot.unnoted_owner(), 3);
        slot.older = NONE;
        assert_eq!(slot.unnoted_owner(), 2);
        slot.previous = NONE;
        assert_eq!(slot.unnoted_owner(), 1);
    }
}
