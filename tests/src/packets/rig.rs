//! The balancer's program with maps of its own: two VIPs, their services, eight targets.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use foobar::dataplane::{DataPlane, NoteEntry, Sizes, Sweep, monotonic_ns};
use foobar_common::address::Address;
use foobar_common::admission::{FEATURES_ALL, Features};
use foobar_common::counters::{Counter, Counters};
use foobar_common::note::{FlowKey, Note, PendingNote};
use foobar_common::slot::{Member, Phase, Slot};
use foobar_common::target::{TARGET_RESOLVED, TARGET_USED, Target, TargetCounters};
use foobar_common::vip::{VIP_RESET, Vip, VipKey};

use super::frame::{Mac, OTHER_VIP, OWN, PEER, VIP};
use super::outcome::{Outcome, Sent};

/// The TCP service of [`VIP`] with one slot.
pub const WEB: u16 = 80;
/// The UDP service of [`VIP`] with one slot.
pub const DNS: u16 = 53;
/// The TCP service of [`VIP`] with [`WIDE_SLOTS`] slots.
pub const WIDE: u16 = 8443;
/// How many slots [`WIDE`] has.
pub const WIDE_SLOTS: u32 = 64;

/// The index of [`WEB`]'s slot.
pub const WEB_SLOT: u32 = 5;
/// The index of [`DNS`]'s slot.
pub const DNS_SLOT: u32 = 6;
/// The index of the first of [`WIDE`]'s slots.
pub const WIDE_BASE: u32 = 64;

/// Slots that there is room for.
pub const SLOTS: u32 = 512;

/// The id of [`WEB`].
pub const WEB_ID: u32 = 71;
/// The id of [`DNS`].
pub const DNS_ID: u32 = 72;
/// The id of [`WIDE`].
pub const WIDE_ID: u32 = 73;

/// The index of [`VIP`]'s lease.
pub const LEASE: u32 = 3;
/// The index of [`OTHER_VIP`]'s lease.
pub const OTHER_LEASE: u32 = 4;

/// Targets that are set up, from 1 on.
pub const TARGETS: Member = 8;

/// TCP's IP protocol number.
pub const TCP: u8 = 6;
/// UDP's IP protocol number.
pub const UDP: u8 = 17;

/// What a VIP does with packets that nobody can own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They are dropped.
    Drop,
    /// TCP segments are answered with RST.
    Reset,
}

/// What a rig is made of.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The VIPs' policy.
    pub policy: Policy,
    /// Room for notes.
    pub notes: u32,
    /// Room for pending notes, of which eight make a set.
    pub pending_notes: u32,
    /// How long a note counts, in ticks.
    pub note_lifetime: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: Policy::Drop,
            notes: 64,
            pending_notes: 512,
            note_lifetime: 1 << 20,
        }
    }
}

/// The notes that there are.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// From the map of notes.
    pub noted: Vec<(FlowKey, Note)>,
    /// First notes.
    pub pending: Vec<PendingNote>,
}

/// The program, its maps, and what its tables say.
pub struct Rig {
    /// The program and its maps.
    pub plane: DataPlane,
    setup: Setup,
}

/// The MAC address of a target's backend.
pub const fn backend_mac(member: Member) -> Mac {
    [0x02, 0xbe, 0xc0, 0xde, 0x00, member as u8]
}

/// A slot with history.
pub const fn slot(phase: Phase, current: Member, previous: Member, older: Member) -> Slot {
    Slot {
        current,
        previous,
        older,
        phase: phase as u16,
    }
}

impl Rig {
    /// A rig of VIPs that drop what nobody can own.
    pub fn new() -> Result<Self> {
        Self::with(Setup::default())
    }

    /// A rig of VIPs that reset what nobody can own.
    pub fn resetting() -> Result<Self> {
        Self::with(Setup {
            policy: Policy::Reset,
            ..Setup::default()
        })
    }

    /// A rig with all slots settled at target 1, and both addresses owned.
    pub fn with(setup: Setup) -> Result<Self> {
        Self::with_features(setup, FEATURES_ALL)
    }

    /// As [`Self::with`], of a program that was loaded with these features alone.
    pub fn with_features(setup: Setup, features: Features) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "the packet tests load the program: run them as root"
        );
        let sizes = Sizes {
            slots: SLOTS,
            targets: 16,
            notes: setup.notes,
            pending_notes: setup.pending_notes,
            syn_buckets: 1024,
        };
        let mut rig = Self {
            plane: DataPlane::open(None, sizes, features)?,
            setup,
        };
        rig.plane.set_macs(OWN, &[PEER]);
        rig.plane
            .set_flow_seed([0x0f1e_2d3c_4b5a_6978, 0x1122_3344_5566_7788]);
        for member in 1..=TARGETS {
            rig.plane.set_target(
                member,
                &Target {
                    destination_mac: backend_mac(member),
                    source_mac: OWN,
                    flags: TARGET_USED | TARGET_RESOLVED,
                    weight: 1,
                    vip: WEB_ID,
                    address: Address::from(Ipv4Addr::new(198, 51, 100, 100 + member as u8)),
                    ..Target::default()
                },
            );
        }
        for index in [WEB_SLOT, DNS_SLOT]
            .into_iter()
            .chain(WIDE_BASE..WIDE_BASE + WIDE_SLOTS)
        {
            rig.set(index, Slot::settled(1));
        }
        let services = rig.services();
        rig.plane.set_services(&services)?;
        rig.plane.set_lease(LEASE, u64::MAX);
        rig.plane.set_lease(OTHER_LEASE, u64::MAX);
        Ok(rig)
    }

    /// The VIP table that a rig begins with.
    pub fn services(&self) -> Vec<Vip> {
        vec![
            self.service(VIP, WEB, TCP, WEB_ID, WEB_SLOT, 1),
            self.service(VIP, DNS, UDP, DNS_ID, DNS_SLOT, 1),
            self.service(VIP, WIDE, TCP, WIDE_ID, WIDE_BASE, WIDE_SLOTS),
            self.address(VIP, LEASE),
            self.address(OTHER_VIP, OTHER_LEASE),
        ]
    }

    /// The entry of a service whose slots are the `slots` from `base` on.
    pub fn service(
        &self,
        address: impl Into<Address>,
        port: u16,
        protocol: u8,
        id: u32,
        base: u32,
        slots: u32,
    ) -> Vip {
        Vip {
            key: VipKey::service(address.into(), port.to_be(), protocol),
            id,
            flags: self.flags(),
            slot_base: base,
            slot_mask: slots - 1,
            note_lifetime: self.setup.note_lifetime,
            ..Vip::default()
        }
    }

    /// The entry of a VIP's address.
    pub fn address(&self, address: impl Into<Address>, lease: u32) -> Vip {
        Vip {
            key: VipKey::address(address.into()),
            id: lease,
            flags: self.flags(),
            ..Vip::default()
        }
    }

    const fn flags(&self) -> u32 {
        match self.setup.policy {
            Policy::Drop => 0,
            Policy::Reset => VIP_RESET,
        }
    }

    /// Writes a slot.
    pub fn set(&self, index: u32, slot: Slot) {
        self.plane.set_slot(index, slot, monotonic_ns());
    }

    /// Sets a target's flags, besides those of one that exists and is resolved.
    pub fn set_target_flags(&self, member: Member, flags: u16) {
        self.plane
            .set_target_state(member, TARGET_USED | TARGET_RESOLVED | flags, 1, 0);
    }

    /// Runs the program on a frame.
    pub fn send(&mut self, frame: &[u8]) -> Outcome {
        let before = self.snapshot();
        let verdict = self
            .plane
            .test_run(frame)
            .expect("the program runs on frames of 14 bytes and more");
        let after = self.snapshot();
        let counters = Counter::ALL
            .iter()
            .map(|&counter| (counter.name(), after.0.get(counter) - before.0.get(counter)))
            .filter(|&(_, by)| by != 0)
            .collect();
        let targets = before
            .1
            .iter()
            .zip(&after.1)
            .zip(1..)
            .filter(|((before, after), _)| before != after)
            .map(|((before, after), member)| Sent {
                member,
                packets: after.packets - before.packets,
                bytes: after.bytes - before.bytes,
                connections: after.connections - before.connections,
            })
            .collect();
        Outcome {
            frame: frame.to_owned(),
            verdict,
            counters,
            targets,
        }
    }

    fn snapshot(&self) -> (Counters, Vec<TargetCounters>) {
        let counters = self.plane.counters().expect("the counters can be read");
        let targets = (1..=self.plane.highest_target())
            .map(|member| self.plane.target_counters(member))
            .collect();
        (counters, targets)
    }

    /// All notes.
    pub fn notes(&mut self) -> Notes {
        let mut notes = Notes::default();
        self.plane.sweep_notes(|entry| {
            match entry {
                NoteEntry::Noted { key, note, .. } => notes.noted.push((key, note)),
                NoteEntry::Pending { note, .. } => notes.pending.push(note),
            }
            Sweep::Keep
        });
        notes
    }
}
