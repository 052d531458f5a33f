//! The real program with maps of its own, set up as a world says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use foobar::dataplane::{DataPlane, NoteEntry, OuterSource, Sizes, SourceTrie, Sweep, Verdict, monotonic_ns};
use foobar_common::address::Address;
use foobar_common::admission::Features;
use foobar_common::counters::Counters;
use foobar_common::note::{FlowKey, NOTE_ENDED, NOTE_PENDING, Note, PENDING_WAYS};
use foobar_common::slot::{Member, Slot};
use foobar_common::target::{
    TARGET_CUT, TARGET_DOWN, TARGET_DRAINED, TARGET_GONE, TARGET_GUE, TARGET_IPIP, TARGET_REMOVED,
    TARGET_RESOLVED, TARGET_USED, Target, TargetCounters,
};
use foobar_common::time::ticks;
use foobar_common::vip::{Lanes, Vip, VipKey};

use super::change::Change;
use super::entries::{entries, entry, limit_of, policy, server_ids, until};
use super::fault::Fault;
use super::scene::{NOTES, PORT, SETS, SLOTS, SOURCE_BUCKETS};
use crate::artifacts;
use crate::model::{Age, Backend, Bucket, FlowId, Forward, Held, Key, SourceList, State, World, Written};

/// Room for targets, and with it for server ids, of which there are more.
const TARGETS: u32 = 256;

/// How long notes count, in ticks: longer than any episode.
pub(super) const NOTE_LIFETIME: u32 = 1 << 20;

/// All that packets left behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remains {
    notes: BTreeMap<Key, Held>,
    pending: Vec<(u32, u16, Member)>,
    fragments: Vec<(IpAddr, IpAddr, u32, u32, Member)>,
}

/// The program.
pub(super) struct Bench {
    plane: DataPlane,
    fault: Option<Fault>,
    features: Features,
    /// The ids of services that read their hot slots elsewhere.
    sharing: BTreeSet<u32>,
    /// The bucket of answers to what is too big, which outlives an episode.
    pub(super) answers: Bucket,
}

impl Bench {
    /// The program, with a fault where one is wanted.
    ///
    /// # Errors
    /// Where it can't be loaded, or the caller may not.
    pub(super) fn new(fault: Option<Fault>, features: Features) -> Result<Self> {
        ensure!(
            nix::unistd::geteuid().is_root(),
            "this loads an eBPF program: run it as root"
        );
        let sizes = Sizes {
            slots: SLOTS,
            targets: TARGETS,
            notes: NOTES,
            pending_notes: SETS * PENDING_WAYS as u32,
            syn_buckets: SOURCE_BUCKETS,
        };
        let mut plane = match fault {
            Some(fault) if fault.planted() != 0 => {
                let path = artifacts::object("planted/balancer")?;
                let bytes =
                    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                DataPlane::open_object(&bytes, sizes, features | fault.planted())?
            }
            _ => DataPlane::open(None, sizes, features)?,
        };
        plane.add_tx_port(PORT)?;
        Ok(Self {
            plane,
            fault,
            features,
            sharing: BTreeSet::new(),
            answers: Bucket::default(),
        })
    }

    /// What the program was loaded with.
    pub(super) const fn features(&self) -> Features {
        self.features
    }

    /// Empties what packets leave behind and puts a world in force.
    pub(super) fn install(&mut self, world: &World) -> Result<()> {
        self.plane.sweep_notes(|_| Sweep::Delete);
        self.plane.forget_fragments()?;
        self.plane.forget_sources();
        self.install_lists(world)?;
        self.plane.set_server_ids(&server_ids(world))?;
        self.plane.set_outer_source(&OuterSource {
            v4: world.outer.v4,
            v6: world.outer.v6,
            gue_port: world.outer.gue_port,
        });
        let fault = self.fault;
        let own = fault.map_or(world.own, |fault| fault.own(world.own));
        self.plane.set_macs(own, &world.peers);
        self.plane
            .set_flow_seed(fault.map_or(world.seed, |fault| fault.seed(world.seed)));
        for (&member, &backend) in &world.members {
            self.set_member(member, backend);
        }
        self.sharing.clear();
        for (index, &slot) in (0..).zip(&world.slots) {
            self.set_slot(world, index, slot);
        }
        for limit in world.services.iter().filter_map(|service| service.limit) {
            self.plane.set_limit(limit.index, limit_of(limit));
        }
        let mut entries: Vec<Vip> = world
            .services
            .iter()
            .map(|service| entry(world, service))
            .collect();
        self.share(&mut entries);
        for (lease, (&address, vip)) in (0..).zip(&world.addresses) {
            entries.push(Vip {
                key: VipKey::address(address.into()),
                id: lease,
                flags: policy(vip.policy),
                ..Vip::default()
            });
            self.plane.set_lease(lease, until(vip.owned));
        }
        self.plane.set_services(&entries)?;
        Ok(())
    }

    /// Makes a change that the world has seen.
    pub(super) fn apply(&mut self, world: &World, change: &Change) -> Result<()> {
        match *change {
            Change::Slot(index, slot) => self.set_slot(world, index, slot),
            Change::Member(member, backend) => self.set_member(member, backend),
            Change::Owned(address, owned) => {
                let lease = world.addresses.keys().position(|&vip| vip == address);
                self.plane
                    .set_lease(lease.unwrap_or_default() as u32, until(owned));
            }
            Change::ServerId(..) => self.plane.set_server_ids(&server_ids(world))?,
            Change::List(place, ref list) => self.install_list(place as u16, list)?,
            Change::Limit(_, limit) => self.plane.set_limit(limit.index, limit_of(limit)),
            Change::Admission(nth, _, limit) => {
                if let Some(limit) = limit {
                    self.plane.set_limit(limit.index, limit_of(limit));
                }
                let changed = entry(world, &world.services[nth]);
                let mut entries = self.plane.services();
                for held in &mut entries {
                    if held.key == changed.key {
                        *held = Vip {
                            lanes: held.lanes,
                            ..changed
                        };
                    }
                }
                self.plane.set_services(&entries)?;
            }
        }
        Ok(())
    }

    fn install_lists(&mut self, world: &World) -> Result<()> {
        for (index, list) in (0..).zip(&world.lists) {
            self.install_list(index, list)?;
        }
        Ok(())
    }

    fn install_list(&mut self, index: u16, list: &SourceList) -> Result<()> {
        let mut entries = entries(list);
        if let Some(fault) = self.fault {
            fault.list(&mut entries);
        }
        Ok(self.plane.set_list(index, &SourceTrie::new(&entries)?)?)
    }

    /// Lets some services read their hot slots elsewhere, until one of them changes. Unlike the daemon's, these need not
    /// be settled, and what is added to their lanes is any number.
    fn share(&mut self, entries: &mut [Vip]) {
        let mut room = self.plane.shared_slots();
        for vip in entries.iter_mut().filter(|vip| vip.id % 2 == 1) {
            let slots = vip.slot_mask + 1;
            if slots as usize > room.len() {
                continue;
            }
            let members = (vip.id as u16).wrapping_mul(0x9e37);
            vip.lanes = Lanes::new(room.start.wrapping_sub(vip.slot_base), members);
            let lanes: Vec<Member> = (vip.slot_base..vip.slot_base + slots)
                .map(|index| vip.lanes.lane(self.plane.slot(index).0.hot()))
                .collect();
            self.plane.set_shared_slots(room.start, &lanes);
            room.start += slots;
            self.sharing.insert(vip.id);
        }
    }

    fn set_slot(&mut self, world: &World, index: u32, slot: Slot) {
        let service = world.services.iter().find(|service| service.has(index));
        if let Some(service) = service
            && self.sharing.remove(&service.id)
            && self.fault != Some(Fault::StaleSlots)
        {
            self.plane.set_lanes(&entry(world, service).key, Lanes::OWN);
        }
        let slot = match (self.fault, service) {
            (Some(fault), Some(service)) => fault.slot(service, index, slot),
            _ => slot,
        };
        self.plane.set_slot(index, slot, monotonic_ns());
    }

    fn set_member(&mut self, member: Member, backend: Backend) {
        let state = match backend.state {
            State::Up => 0,
            State::Down => TARGET_DOWN,
            State::Gone => TARGET_GONE | TARGET_DOWN,
            State::Drained => TARGET_DRAINED,
            State::Removed => TARGET_REMOVED,
            State::Cut => TARGET_CUT,
        };
        let resolved = if backend.resolved { TARGET_RESOLVED } else { 0 };
        let forward = match backend.forward {
            Forward::Frame => 0,
            Forward::IpInIp => TARGET_IPIP,
            Forward::Gue => TARGET_GUE,
        };
        let mac = backend.destination;
        self.plane.set_target(
            member,
            &Target {
                destination_mac: self.fault.map_or(mac, |fault| fault.backend(member, mac)),
                source_mac: backend.source,
                ifindex: backend.interface,
                flags: TARGET_USED | resolved | state | forward,
                weight: 1,
                address: Address::from(backend.address),
                mtu: backend.mtu,
                ..Target::default()
            },
        );
    }

    /// Writes a note that no packet made.
    pub(super) fn insert_note(&mut self, id: &FlowId, note: Written) -> Result<()> {
        let now = ticks(monotonic_ns());
        let used = match note.age {
            Age::Fresh => now,
            Age::Expired => now.wrapping_sub(2 * NOTE_LIFETIME),
        };
        let flag = |is: bool, flag: u16| if is { flag } else { 0 };
        let key = FlowKey {
            source: Address::from(id.client),
            source_port_be: id.client_port.to_be(),
            destination_port_be: id.port.to_be(),
            vip: id.service,
        };
        let written = self.plane.insert_note(
            key,
            Note {
                member: note.member,
                flags: flag(note.pending, NOTE_PENDING) | flag(note.ended, NOTE_ENDED),
                used,
            },
        );
        // With another seed than the model's there may be no room where the model has some.
        if self.fault.is_none() {
            written?;
        }
        Ok(())
    }

    /// Runs the program on a frame.
    pub(super) fn run(&mut self, frame: &[u8]) -> Result<Verdict> {
        Ok(self.plane.test_run(frame)?)
    }

    /// All counters.
    pub(super) fn counters(&self) -> Result<Counters> {
        Ok(self.plane.counters()?)
    }

    /// A member's counters.
    pub(super) fn sent(&self, member: Member) -> TargetCounters {
        self.plane.target_counters(member)
    }

    /// What packets left behind in the program's maps.
    pub(super) fn remains(&mut self) -> Result<Remains> {
        let (mut notes, mut pending) = (BTreeMap::new(), Vec::new());
        self.plane.sweep_notes(|note| {
            match note {
                NoteEntry::Noted { key, note, .. } => {
                    let ports = (
                        u16::from_be(key.source_port_be),
                        u16::from_be(key.destination_port_be),
                    );
                    notes.insert(
                        (key.source.into(), ports.0, ports.1, key.vip),
                        (
                            note.member,
                            note.flags & NOTE_PENDING != 0,
                            note.flags & NOTE_ENDED != 0,
                        ),
                    );
                }
                NoteEntry::Pending { note, .. } => {
                    pending.push((note.slot(), (note.0 >> 27) as u16 & 0x1fff, note.member()));
                }
            }
            Sweep::Keep
        });
        let fragments = self
            .plane
            .fragments()?
            .into_iter()
            .map(|(key, note)| {
                // IPv4's two bytes, and two of zero.
                let identification = match (key.protocol, key.identification_be.to_ne_bytes()) {
                    (0, bytes) => u32::from_be_bytes(bytes),
                    (_, [a, b, ..]) => u32::from(u16::from_be_bytes([a, b])),
                };
                (
                    key.source.into(),
                    key.destination.into(),
                    identification,
                    key.protocol,
                    note.slot.current,
                )
            })
            .collect();
        Ok(Remains::of(notes, pending, fragments))
    }
}

impl Remains {
    fn of(
        notes: BTreeMap<Key, Held>,
        mut pending: Vec<(u32, u16, Member)>,
        mut fragments: Vec<(IpAddr, IpAddr, u32, u32, Member)>,
    ) -> Self {
        pending.sort_unstable();
        fragments.sort_unstable();
        Self {
            notes,
            pending,
            fragments,
        }
    }

    /// What packets should have left behind.
    pub(super) fn expected(world: &World) -> Self {
        Self::of(
            world.notes.list().into_iter().collect(),
            world.notes.list_pending(),
            world
                .fragments
                .iter()
                .map(|(datagram, owners)| {
                    (
                        datagram.source,
                        datagram.destination,
                        datagram.identification,
                        datagram.protocol.map_or(0, |protocol| protocol.0.into()),
                        owners.first,
                    )
                })
                .collect(),
        )
    }

    /// Says where these differ from those that were expected.
    pub(super) fn difference(&self, expected: &Self) -> Option<String> {
        if self == expected {
            return None;
        }
        let mut said = String::from("what was left behind:");
        for (what, program, model) in [
            ("notes", list(&self.notes), list(&expected.notes)),
            ("pending notes", list(&self.pending), list(&expected.pending)),
            ("fragments", list(&self.fragments), list(&expected.fragments)),
        ] {
            for only in program.iter().filter(|one| !model.contains(one)) {
                said.push_str(&format!("\n  {what}, the program only: {only}"));
            }
            for only in model.iter().filter(|one| !program.contains(one)) {
                said.push_str(&format!("\n  {what}, the model only: {only}"));
            }
        }
        Some(said)
    }
}

fn list<T: std::fmt::Debug>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|one| format!("{one:?}")).collect()
}
