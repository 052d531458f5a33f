//! The target array.

use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::thread;

use foobar_common::settings::Settings;
use foobar_common::slot::{MAX_MEMBER, Member};
use foobar_common::target::{TARGET_RESOLVED, Target};

use super::load::{DataPlane, GRACE};

impl DataPlane {
    /// The highest index that a target can have; index 0 stays unused.
    pub fn highest_target(&self) -> Member {
        let row = self.settings.u32(0, offset_of!(Settings, counter_row));
        let counted = row.load(Ordering::Acquire);
        (self.targets.len().min(counted) - 1).min(u32::from(MAX_MEMBER)) as Member
    }

    /// A target.
    pub fn target(&self, member: Member) -> Target {
        self.targets.get(u32::from(member))
    }

    /// Fills a target that no slot and no note names.
    pub fn set_target(&self, member: Member, target: &Target) {
        self.targets.set(u32::from(member), *target);
        self.show(member);
    }

    /// Sets a target's flags, and its deadline (CLOCK_MONOTONIC, nanoseconds; 0: none).
    pub fn set_target_state(&self, member: Member, flags: u16, weight: u16, deadline_ns: u64) {
        let element = u32::from(member);
        self.targets
            .u64(element, offset_of!(Target, deadline_ns))
            .store(deadline_ns, Ordering::Release);
        self.targets
            .u16(element, offset_of!(Target, weight))
            .store(weight, Ordering::Release);
        self.targets
            .u16(element, offset_of!(Target, flags))
            .store(flags, Ordering::Release);
        self.show(member);
    }

    /// Sets how often an operator has said whether a target is drained.
    pub fn set_target_drains(&self, member: Member, drains: u16) {
        self.targets
            .u16(u32::from(member), offset_of!(Target, drains))
            .store(drains, Ordering::Release);
    }

    /// Sets by which name balancers tell a target's life from others of its address.
    pub fn set_target_incarnation(&self, member: Member, incarnation: u64) {
        self.targets
            .u64(u32::from(member), offset_of!(Target, incarnation))
            .store(incarnation, Ordering::Release);
    }

    /// Sets where a target's frames go: MAC addresses, and the interface (0: the one they came in by).
    ///
    /// The destination is one store. Only where the interface changes as well, packets for the target are
    /// dropped (and counted) for a moment.
    pub fn set_next_hop(&self, member: Member, destination: [u8; 6], source: [u8; 6], ifindex: u32) {
        let element = u32::from(member);
        let old = self.targets.get(element);
        let flags = self.targets.u16(element, offset_of!(Target, flags));
        if old.ifindex != ifindex && old.flags & TARGET_RESOLVED != 0 {
            flags.store(old.flags & !TARGET_RESOLVED, Ordering::Release);
            self.show(member);
            thread::sleep(GRACE);
        }
        let [d0, d1, d2, d3, d4, d5] = destination;
        let [s0, s1, s2, s3, s4, s5] = source;
        self.targets
            .u32(element, 8)
            .store(u32::from_ne_bytes([s2, s3, s4, s5]), Ordering::Release);
        self.targets
            .u32(element, offset_of!(Target, ifindex))
            .store(ifindex, Ordering::Release);
        self.targets.u64(element, 0).store(
            u64::from_ne_bytes([d0, d1, d2, d3, d4, d5, s0, s1]),
            Ordering::Release,
        );
        flags.store(old.flags | TARGET_RESOLVED, Ordering::Release);
        self.show(member);
    }

    /// Sets the longest packet that the way through a target's tunnel takes, outer headers included.
    pub fn set_target_mtu(&self, member: Member, mtu: u16) {
        self.targets
            .u16(u32::from(member), offset_of!(Target, mtu))
            .store(mtu, Ordering::Release);
        self.show(member);
    }

    /// Says that a target's next hop is not known: packets for it are dropped and counted.
    pub fn clear_next_hop(&self, member: Member) {
        let flags = self.targets.u16(u32::from(member), offset_of!(Target, flags));
        flags.fetch_and(!TARGET_RESOLVED, Ordering::AcqRel);
        self.show(member);
    }

    /// Brings up to date what the common way knows of a target. An address changes only while nothing names it; the
    /// words that change at any time are each written as one.
    pub(super) fn show(&self, member: Member) {
        let element = u32::from(member);
        let own = self
            .settings
            .u64(0, offset_of!(Settings, own_mac))
            .load(Ordering::Acquire);
        let target = self.targets.get(element);
        self.hot_targets
            .u64(element, 0)
            .store(target.hot(own), Ordering::Release);
        self.hot_tunnels.set(element, target.hot_tunnel());
    }
}
