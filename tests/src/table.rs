//! A data plane without a daemon: the real program in a world, with a table that the test itself writes.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result};
use foobar::dataplane::{DataPlane, Pins, Sizes, monotonic_ns};
use foobar_common::address::Address;
use foobar_common::slot::{Member, Phase, Slot};
use foobar_common::target::{TARGET_USED, Target};
use foobar_common::time::note_lifetime;
use foobar_common::vip::{Vip, VipKey};

use crate::pattern::Random;
use crate::world::{Backend, World, backend_address};

const SLOTS: u32 = 1024;
const TCP: u8 = 6;
const IDLE_NS: u64 = 60_000_000_000;

/// The program on the interface of a world's balancer. Each backend is the member of its number.
pub struct Table {
    plane: DataPlane,
}

impl Table {
    /// Loads and attaches the program, and spreads the service's slots over all backends, settled.
    pub fn start(world: &World, service: SocketAddrV4, seed: u64) -> Result<Self> {
        let sizes = Sizes {
            slots: SLOTS,
            targets: 64,
            notes: 8192,
            pending_notes: 8192,
            syn_buckets: 1024,
        };
        let mac = mac(&world.lb().mac_of("eth0")?)?;
        let plane = world.lb().run(|| {
            let pins = Pins::new(&world.bpffs(), "eth0");
            let mut plane = DataPlane::open(Some(pins), sizes, 0)?;
            let mut random = Random::new(seed, 0);
            plane.set_flow_seed([random.bits(), random.bits()]);
            plane.set_macs(mac, &[]);
            plane.attach("eth0", nix::net::if_::if_nametoindex("eth0")?)?;
            Ok(plane)
        })?;
        let mut table = Self { plane };
        for backend in world.backends() {
            let target = Target {
                flags: TARGET_USED,
                address: Address::from(backend_address(backend)),
                ..Target::default()
            };
            table.plane.set_target(Member::from(backend), &target);
            let to = self::mac(&world.backend(backend)?.mac_of("eth0")?)?;
            table.plane.set_next_hop(Member::from(backend), to, mac, 0);
        }
        let backends = u32::from(world.backends().count() as Backend);
        for index in 0..SLOTS {
            table.plane.set_slot(
                index,
                Slot::settled((index % backends + 1) as Member),
                monotonic_ns(),
            );
        }
        let address = Address::from(*service.ip());
        let slots = Vip {
            key: VipKey::service(address, service.port().to_be(), TCP),
            id: 1,
            slot_base: 0,
            slot_mask: SLOTS - 1,
            note_lifetime: note_lifetime(IDLE_NS),
            ..Vip::default()
        };
        let lease = Vip {
            key: VipKey::address(address),
            id: 0,
            ..Vip::default()
        };
        table.plane.set_lease(lease.id, u64::MAX);
        table.plane.set_services(&[slots, lease])?;
        Ok(table)
    }

    /// Gives every slot to another owner; `phase` says what becomes of the old one.
    pub fn move_all(&self, phase: Phase, owner_of: impl Fn(Member) -> Member) {
        for index in 0..SLOTS {
            let (old, _) = self.plane.slot(index);
            let current = owner_of(old.current);
            let slot = match phase {
                Phase::Settled => Slot::settled(current),
                Phase::Open | Phase::Moving | Phase::Fresh | Phase::Moved | Phase::Kept => Slot {
                    current,
                    previous: old.current,
                    phase: phase as u16,
                    ..Slot::default()
                },
            };
            self.plane.set_slot(index, slot, monotonic_ns());
        }
    }
}

/// A MAC address as `ip` writes it.
fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16))
        .collect::<Result<_, _>>()
        .with_context(|| format!("{text} is no MAC address"))?;
    bytes
        .try_into()
        .ok()
        .with_context(|| format!("{text} is no MAC address"))
}
