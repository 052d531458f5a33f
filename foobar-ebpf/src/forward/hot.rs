//! What packets in tunnels have to know of a target: 32 bytes of one line, at a known place in memory. All of a target
//! is in [`super::l2::Entry`].

use foobar_common::slot::Member;
use foobar_common::target::{HotTunnel, TARGET_ENTRIES};

use crate::maps::{self, within};

/// A target's place in the map, and its state when it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    place: *const HotTunnel,
    state: u64,
}

impl Target {
    /// The target of a member; all of it 0 where there is none.
    #[inline(always)]
    pub fn of(member: Member) -> Self {
        let index = within::<{ TARGET_ENTRIES as u32 - 1 }>(u32::from(member));
        let place = maps::hot_tunnels().cast::<HotTunnel>().wrapping_add(index);
        // SAFETY: a pointer into an array map, inside of the element by the mask; the daemon writes the word as one.
        let state = unsafe { core::ptr::addr_of!((*place).state).read_volatile() };
        Self { place, state }
    }

    /// Its `HOT_*` bits.
    #[inline(always)]
    pub const fn flags(self) -> u16 {
        (self.state >> 48) as u16
    }

    /// The longest packet that the way to it takes, outer headers included.
    #[inline(always)]
    pub const fn mtu(self) -> usize {
        (self.state >> 32 & 0xffff) as usize
    }

    /// The MAC addresses of the way to it, destination first: their first 8 bytes, and the last 4.
    #[inline(always)]
    pub fn macs(self) -> (u64, u32) {
        // SAFETY: as in `of`.
        let head = unsafe { core::ptr::addr_of!((*self.place).head).read_volatile() };
        (head, self.state as u32)
    }

    /// Its address, which changes only while nothing names it, as [`foobar_common::address::Address::words`].
    #[inline(always)]
    pub fn address(self) -> [u64; 2] {
        // SAFETY: as in `of`.
        unsafe { (*self.place).address.words() }
    }
}
