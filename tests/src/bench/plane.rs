//! The balancer with the tables that a row asks for.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use foobar::balancer::sharing::SharedTables;
use foobar::dataplane::{DataPlane, ListEntry, OuterSource, Sizes, SourceTrie, monotonic_ns};
use foobar_common::address::Address;
use foobar_common::admission::{
    FEATURE_LISTS, FEATURE_QUIC, FEATURE_TRACKING, FEATURE_TUNNELS, Features, LIST_ALLOW, LIST_DENY,
};
use foobar_common::counters::{Counter, Counters};
use foobar_common::quic::{ServerIdKey, server_id};
use foobar_common::slot::{MAX_MEMBER, Member, NONE, Phase, Slot};
use foobar_common::target::{TARGET_GUE, TARGET_IPIP, TARGET_RESOLVED, TARGET_USED, Target, TargetCounters};
use foobar_common::time::note_lifetime;
use foobar_common::vip::{VIP_CANDIDATES, VIP_LIST, VIP_QUIC, VIP_RESET, VIP_TRACK_NONE, Vip, VipKey};

use super::case::{Met, Packet, Pools, Row, Way};
use super::traffic::{PORT, QUIC_CONFIG, SERVER_ID};
use crate::packets::frame::{Mac, OWN};

/// The source list of VIPs that have one, and prefixes in it besides.
const LIST: u16 = 7;
const LISTED: u32 = 1_000;

const IDLE_NS: u64 = 900_000_000_000;

/// Notes that there is room for besides those that the case has.
const SPARE_NOTES: u64 = 4_096;

/// A member's MAC address.
pub const fn mac(member: Member) -> Mac {
    let [high, low] = member.to_be_bytes();
    [0x02, 0xbe, 0xc0, 0xde, high, low]
}

/// The balancer's program and its maps.
pub struct Plane {
    /// The program and its maps.
    pub plane: DataPlane,
    row: Row,
    members: u32,
}

/// What the program is loaded with: as the daemon does it, nothing that the case does not need.
const fn features(row: &Row) -> Features {
    let way = match row.case.way {
        Way::L2 => 0,
        Way::Ipip | Way::CrossIpip | Way::Gue => FEATURE_TUNNELS,
        Way::Candidates => FEATURE_TUNNELS | FEATURE_TRACKING,
    };
    let packet = match row.case.packet {
        Packet::Quic => FEATURE_QUIC,
        Packet::Data | Packet::Syn | Packet::Datagram | Packet::Error => 0,
    };
    let met = match row.case.met {
        Met::Denied => FEATURE_LISTS,
        Met::Nothing | Met::NoMember | Met::Slots(_) | Met::Noted(_) => 0,
    };
    way | packet | met
}

/// What the program has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// What did not simply go to a target.
    pub counters: Counters,
    /// What went to targets, all of them together.
    pub targets: TargetCounters,
}

impl Plane {
    /// Loads the program and fills its tables. Where the case has notes, its slots are moving at first.
    pub fn new(row: &Row) -> Result<Self> {
        let members = (row.vips * row.backends).min(u32::from(MAX_MEMBER));
        let notes = match row.case.met {
            // As `limits.notes` should be: where it is just enough, ten flows of a million find no place.
            Met::Noted(_) => row.flows * 5 / 4 + SPARE_NOTES,
            Met::Nothing | Met::NoMember | Met::Denied | Met::Slots(_) => SPARE_NOTES,
        };
        let mut plane = Self {
            plane: DataPlane::open(
                None,
                Sizes {
                    slots: row.vips * row.slots,
                    targets: members,
                    notes: notes as u32,
                    ..Sizes::default()
                },
                features(row),
            )?,
            row: *row,
            members,
        };
        plane.plane.set_macs(OWN, &[]);
        plane
            .plane
            .set_flow_seed([0x0f1e_2d3c_4b5a_6978, 0x1122_3344_5566_7788]);
        plane.set_targets();
        plane.set_slots(match row.case.met {
            Met::Noted(_) => Phase::Moving,
            Met::Slots(phase) => phase,
            Met::Nothing | Met::NoMember | Met::Denied => Phase::Settled,
        });
        plane.set_services()?;
        plane.share_slots();
        Ok(plane)
    }

    fn set_targets(&self) {
        let own = OuterSource::default();
        self.plane
            .set_outer_source(&match self.row.plan.own(self.row.case.outer()) {
                IpAddr::V4(address) => OuterSource {
                    v4: (address, 32),
                    ..own
                },
                IpAddr::V6(address) => OuterSource {
                    v6: (address, 128),
                    ..own
                },
            });
        let (flags, mtu) = match self.row.case.way {
            Way::L2 => (0, 0),
            Way::Ipip | Way::CrossIpip => (TARGET_IPIP, 1500),
            Way::Gue | Way::Candidates => (TARGET_GUE, 1500),
        };
        for member in 1..=self.members as Member {
            self.plane.set_target(
                member,
                &Target {
                    destination_mac: mac(member),
                    source_mac: OWN,
                    flags: TARGET_USED | TARGET_RESOLVED | flags,
                    weight: 1,
                    address: Address::from(self.row.plan.backend(self.row.case.outer(), member)),
                    mtu,
                    ..Target::default()
                },
            );
        }
    }

    /// Gives every slot a member, with another one before it unless it is settled.
    pub fn set_slots(&self, phase: Phase) {
        let now = monotonic_ns();
        for vip in 0..self.row.vips {
            for place in 0..self.row.slots {
                // Neither neighbours nor strides of slots have one owner.
                let pool = match self.row.case.pools {
                    Pools::One => 0,
                    Pools::Own => u64::from(vip) << 32,
                };
                let pick = ((pool | u64::from(place)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
                let current = self.member(vip, pick);
                let slot = match (self.row.case.met, phase) {
                    (Met::NoMember, _) => Slot::settled(NONE),
                    (_, Phase::Settled) => Slot::settled(current),
                    _ => Slot {
                        current,
                        previous: self.member(vip, pick + 1),
                        older: match phase {
                            Phase::Kept => self.member(vip, pick + 2),
                            _ => NONE,
                        },
                        phase: phase as u16,
                    },
                };
                self.plane.set_slot(vip * self.row.slots + place, slot, now);
            }
        }
    }

    /// A member of a VIP. Where there are more members than targets, VIPs share some.
    fn member(&self, vip: u32, pick: u32) -> Member {
        let block = vip % (self.members / self.row.backends);
        (block * self.row.backends + pick % self.row.backends + 1) as Member
    }

    /// Lets VIPs of one pool read one table, as the daemon does it where all their slots are settled.
    fn share_slots(&self) {
        if self.row.vips == 1 || self.row.case.met != Met::Slots(Phase::Settled) {
            return;
        }
        let mut tables = SharedTables::new(self.plane.shared_slots());
        let services = self.plane.services();
        for vip in services.iter().filter(|vip| vip.key.port_be != 0) {
            let owners: Vec<Member> = (vip.slot_base..=vip.slot_base + vip.slot_mask)
                .map(|index| self.plane.slot(index).0.current)
                .collect();
            let write = |at, owners: &[Member]| self.plane.set_shared_slots(at, owners);
            let lanes = tables.share(vip.slot_base, &owners, write);
            self.plane.set_lanes(&vip.key, lanes.unwrap_or_default());
        }
    }

    fn set_services(&mut self) -> Result<()> {
        let mut flags = match self.row.case.met {
            Met::NoMember => VIP_RESET,
            Met::Denied => VIP_LIST,
            Met::Nothing | Met::Slots(_) | Met::Noted(_) => 0,
        };
        if self.row.case.way == Way::Candidates {
            flags |= VIP_TRACK_NONE | VIP_CANDIDATES;
        }
        if self.row.case.packet == Packet::Quic {
            flags |= VIP_QUIC;
        }
        self.deny_clients()?;
        self.name_servers()?;
        let addresses = self
            .row
            .plan
            .vips(self.row.case.family, self.row.vips)
            .zip(0u32..);
        let entries: Vec<Vip> = addresses
            .flat_map(|(address, nth)| {
                let address = Address::from(address);
                let service = Vip {
                    key: VipKey::service(address, PORT.to_be(), self.row.case.packet.protocol()),
                    id: nth + 1,
                    flags,
                    slot_base: nth * self.row.slots,
                    slot_mask: self.row.slots - 1,
                    note_lifetime: note_lifetime(IDLE_NS),
                    list: LIST,
                    server_id_length: SERVER_ID.0,
                    quic_config: QUIC_CONFIG,
                    ..Vip::default()
                };
                let lease = Vip {
                    key: VipKey::address(address),
                    id: nth,
                    flags,
                    ..Vip::default()
                };
                [service, lease]
            })
            .collect();
        Ok(self.plane.set_services(&entries)?)
    }

    /// The source list of VIPs that have one, among other prefixes: it denies all clients.
    fn deny_clients(&mut self) -> Result<()> {
        let Met::Denied = self.row.case.met else {
            return Ok(());
        };
        // First in the order of addresses.
        let all = ListEntry {
            address: [0; 16],
            length: 0,
            verdict: LIST_DENY,
        };
        let others = (0..LISTED).map(|nth| ListEntry {
            address: Address::from(Ipv4Addr::from(10 << 24 | nth << 8)).bytes,
            length: 96 + 24,
            verdict: LIST_ALLOW,
        });
        let entries: Vec<_> = std::iter::once(all).chain(others).collect();
        Ok(self.plane.set_list(LIST, &SourceTrie::new(&entries)?)?)
    }

    /// Every VIP's first member has the server id that connection ids name.
    fn name_servers(&mut self) -> Result<()> {
        let Packet::Quic = self.row.case.packet else {
            return Ok(());
        };
        let (length, byte) = SERVER_ID;
        let id = server_id(u64::from_ne_bytes([byte; 8]), length);
        let ids = (0..self.row.vips)
            .map(|vip| (ServerIdKey::new(vip + 1, id), self.member(vip, 0)))
            .collect();
        Ok(self.plane.set_server_ids(&ids)?)
    }

    /// What the program has counted so far.
    pub fn counted(&self) -> Result<Counted> {
        let mut targets = TargetCounters::default();
        for member in 1..=self.members as Member {
            let one = self.plane.target_counters(member);
            targets.packets += one.packets;
            targets.bytes += one.bytes;
            targets.connections += one.connections;
        }
        Ok(Counted {
            counters: self.plane.counters()?,
            targets,
        })
    }
}

impl Counted {
    /// By how much a counter has grown since.
    pub const fn since(&self, before: &Self, counter: Counter) -> u64 {
        self.counters.get(counter) - before.counters.get(counter)
    }

    /// By how much the targets' counters have grown since.
    pub const fn sent_since(&self, before: &Self) -> TargetCounters {
        TargetCounters {
            packets: self.targets.packets - before.targets.packets,
            bytes: self.targets.bytes - before.targets.bytes,
            connections: self.targets.connections - before.targets.connections,
        }
    }
}
