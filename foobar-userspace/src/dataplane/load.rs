//! Loading, adopting and replacing the balancer's program.

use std::io;
use std::mem::offset_of;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use aya::maps::{ArrayOfMaps, HashMap, LpmTrie, Map, MapData, PerCpuArray};
use aya::programs::links::LinkError;
use aya::programs::xdp::XdpLinkId;
use aya::programs::{ProgramError, ProgramFd, Xdp, XdpMode};
use aya::{Ebpf, EbpfError, EbpfLoader};
use foobar_common::admission::{Bucket, Features, ListKey, ListVerdict, SynLimit};
use foobar_common::counters::Counters;
use foobar_common::fragment::{FragmentKey, FragmentNote};
use foobar_common::note::{MAX_SLOTS, PENDING_WAYS, note_sets};
use foobar_common::quic::{ServerId, ServerIdKey};
use foobar_common::settings::{MAX_PEERS, Settings, mac_word};
use foobar_common::slot::{ColdSlot, HOT_LANES, HotSlots, hot_elements};
use foobar_common::target::{COUNTER_ROW_STEP, HotTunnel, Target, TargetTraffic};
use foobar_common::vip::{PortRange, Vip};

use super::attach::{self, Attachment, Verdict};
use super::counters::{Value, cpu_numbers};
use super::direct::DirectMaps;
use super::notes::Notes;
use super::objects;
use super::pins::Pins;
use super::region::Region;
use super::vips::Leases;

/// How long a program that is running now may run at most, with a margin of a thousand.
pub const GRACE: Duration = Duration::from_millis(5);

const MAPS: [&str; 21] = [
    "SETTINGS",
    "VIPS",
    "RANGES",
    "LEASES",
    "HOT_SLOTS",
    "COLD_SLOTS",
    "TARGETS",
    "HOT_TARGETS",
    "HOT_TUNNELS",
    "TARGET_TRAFFIC",
    "TARGET_CONNECTIONS",
    "NOTES",
    "NOTE_EVENTS",
    "SERVER_IDS",
    "FRAGMENTS",
    "PENDING_NOTES",
    "COUNTERS",
    "TX_PORTS",
    "LISTS",
    "SYN_LIMITS",
    "SYN_BUCKETS",
];

/// What can go wrong between the daemon and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary has no eBPF objects.
    #[error(
        "this binary was built without its eBPF programs: run `cargo xtask build` (or `cargo xtask build-ebpf`, then build again)"
    )]
    NotBuilt,
    /// An object lacks a program or a map.
    #[error("the eBPF object has no {0:?}: it is of another version")]
    Missing(&'static str),
    /// The object can't be loaded.
    #[error("cannot load the eBPF object: {0}")]
    Object(#[from] EbpfError),
    /// The program can't be loaded or attached.
    #[error("the kernel refuses the eBPF program: {0}")]
    Program(#[from] ProgramError),
    /// A link can't be taken over.
    #[error("cannot take over the pinned link: {0}")]
    Link(#[from] LinkError),
    /// Something else is attached to the interface.
    #[error(
        "another XDP program is attached to {interface}: it stays. Detach it (ip link set dev {interface} xdp off) or choose another interface"
    )]
    Foreign {
        /// The interface.
        interface: String,
    },
    /// The program can't be loaded again.
    #[error("the maps are not pinned: another program could not use them")]
    Unpinned,
    /// A map can't be used.
    #[error("a map of the data plane can't be used: {0}")]
    Map(#[from] io::Error),
}

/// The sizes of the maps, fixed when they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Slots of all VIPs together.
    pub slots: u32,
    /// Targets: backends, each counted once a VIP.
    pub targets: u32,
    /// Notes.
    pub notes: u32,
    /// Pending notes.
    pub pending_notes: u32,
    /// Buckets that the sources of SYNs share.
    pub syn_buckets: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            slots: 1 << 20,
            targets: 4_096,
            notes: 1 << 18,
            pending_notes: 1 << 18,
            syn_buckets: 1 << 18,
        }
    }
}

/// The balancer's program and its maps.
pub struct DataPlane {
    pub(super) object: Ebpf,
    pins: Option<Pins>,
    sizes: Sizes,
    features: Features,
    /// The index of the canary's interface, and the link there.
    canary: Option<(u32, XdpLinkId)>,
    pub(super) settings: Region<Settings>,
    pub(super) vips: Region<Vip>,
    pub(super) ranges: aya::maps::Array<MapData, Value<PortRange>>,
    pub(super) leases: Leases,
    pub(super) hot: Region<HotSlots>,
    pub(super) cold: Region<ColdSlot>,
    pub(super) targets: Region<Target>,
    pub(super) hot_targets: Region<u64>,
    pub(super) hot_tunnels: Region<HotTunnel>,
    pub(super) target_traffic: Region<TargetTraffic>,
    pub(super) target_connections: Region<u64>,
    pub(super) counters: PerCpuArray<MapData, Value<Counters>>,
    pub(super) notes: Notes,
    pub(super) fragments: HashMap<MapData, Value<FragmentKey>, Value<FragmentNote>>,
    pub(super) server_ids: HashMap<MapData, Value<ServerIdKey>, Value<ServerId>>,
    pub(super) last_flip: Option<Instant>,
    tx_ports: aya::maps::xdp::DevMapHash<MapData>,
    pub(super) lists: ArrayOfMaps<MapData, LpmTrie<MapData, ListKey, ListVerdict>>,
    pub(super) limits: Region<SynLimit>,
    pub(super) source_buckets: Region<Bucket>,
}

impl DataPlane {
    /// Loads the program, with these features. Maps that are pinned already are adopted, with the sizes that
    /// they have; the others are made and, where there are `pins`, pinned. Nothing is attached.
    ///
    /// # Errors
    /// Where the objects are not in the binary, the kernel refuses them, or the pins can't be used.
    pub fn open(pins: Option<Pins>, sizes: Sizes, features: Features) -> Result<Self, Error> {
        if let Some(pins) = &pins {
            pins.create()?;
        }
        let object = load(embedded()?, pins.as_ref(), sizes, features)?;
        Self::of(object, pins, sizes, features)
    }

    /// As [`Self::open`] without pins, of another object than the binary's: what the tests are tested with.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn open_object(bytes: &[u8], sizes: Sizes, features: Features) -> Result<Self, Error> {
        Self::of(load(bytes, None, sizes, features)?, None, sizes, features)
    }

    fn of(mut object: Ebpf, pins: Option<Pins>, sizes: Sizes, features: Features) -> Result<Self, Error> {
        let source_buckets = region::<Bucket>(&mut object, "SYN_BUCKETS")?;
        let plane = Self {
            settings: region(&mut object, "SETTINGS")?,
            vips: region(&mut object, "VIPS")?,
            ranges: take(&mut object, "RANGES")?
                .try_into()
                .map_err(io::Error::other)?,
            leases: Leases::of(region(&mut object, "LEASES")?),
            hot: region(&mut object, "HOT_SLOTS")?,
            cold: region(&mut object, "COLD_SLOTS")?,
            targets: region(&mut object, "TARGETS")?,
            hot_targets: region(&mut object, "HOT_TARGETS")?,
            hot_tunnels: region(&mut object, "HOT_TUNNELS")?,
            target_traffic: region(&mut object, "TARGET_TRAFFIC")?,
            target_connections: region(&mut object, "TARGET_CONNECTIONS")?,
            counters: take(&mut object, "COUNTERS")?
                .try_into()
                .map_err(io::Error::other)?,
            notes: Notes::of(
                region(&mut object, "NOTES")?,
                region(&mut object, "PENDING_NOTES")?,
            ),
            server_ids: take(&mut object, "SERVER_IDS")?
                .try_into()
                .map_err(io::Error::other)?,
            tx_ports: take(&mut object, "TX_PORTS")?
                .try_into()
                .map_err(io::Error::other)?,
            lists: take(&mut object, "LISTS")?.try_into().map_err(io::Error::other)?,
            limits: region(&mut object, "SYN_LIMITS")?,
            source_buckets,
            fragments: take(&mut object, "FRAGMENTS")?
                .try_into()
                .map_err(io::Error::other)?,
            last_flip: None,
            object,
            pins,
            sizes,
            features,
            canary: None,
        };
        plane
            .settings
            .u32(0, offset_of!(Settings, pending_mask))
            .store(plane.notes.pending_sets() - 1, Ordering::Release);
        plane
            .settings
            .u32(0, offset_of!(Settings, note_sets))
            .store(plane.notes.noted.len(), Ordering::Release);
        plane
            .settings
            .u32(0, offset_of!(Settings, syn_bucket_mask))
            .store(plane.source_buckets.len() - 1, Ordering::Release);
        plane
            .settings
            .u32(0, offset_of!(Settings, counter_row))
            .store(plane.counter_row()?, Ordering::Release);
        Ok(plane)
    }

    pub(super) fn program(&mut self) -> Result<&mut Xdp, Error> {
        let program: &mut Xdp = self
            .object
            .program_mut("balancer")
            .ok_or(Error::Missing("balancer"))?
            .try_into()
            .map_err(Error::Program)?;
        if program.fd().is_err() {
            program.load()?;
        }
        Ok(program)
    }

    /// Attaches the program to the interface, or puts it in the place of the one that is pinned there. The
    /// link is pinned: it outlives the daemon.
    ///
    /// # Errors
    /// Where a foreign program is attached, or the kernel refuses.
    pub fn attach(&mut self, interface: &str, ifindex: u32) -> Result<Attachment, Error> {
        #[cfg(feature = "bpf-log")]
        super::log::follow(&mut self.object);
        let pins = self.pins.clone();
        attach::attach(self.program()?, pins.as_ref(), interface, ifindex)
    }

    /// Attaches the program to the interface by which the canary's packets come as well, whose index this is; for as
    /// long as this value lives, or until it is another one or `None`. Behind the driver: the kernel's own packets have
    /// no checksums yet, which would be lost in it.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn attach_canary(&mut self, ifindex: Option<u32>) -> Result<(), Error> {
        if let Some((_, link)) = self.canary.take() {
            // Gone where the interface is.
            drop(self.program()?.detach(link));
        }
        if let Some(ifindex) = ifindex {
            let link = self.program()?.attach_to_if_index(ifindex, XdpMode::Skb)?;
            self.canary = Some((ifindex, link));
        }
        Ok(())
    }

    /// What the program was loaded with.
    pub const fn features(&self) -> Features {
        self.features
    }

    /// Loads the program again, with these features, upon the same maps. Where the link is pinned, the new
    /// program takes the old one's place in it: a packet meets the one or the other.
    ///
    /// # Errors
    /// Where the kernel refuses, or the maps are not pinned; the old program stays then.
    pub fn set_features(&mut self, features: Features) -> Result<(), Error> {
        if features == self.features {
            return Ok(());
        }
        let pins = self.pins.as_ref().ok_or(Error::Unpinned)?;
        let (object, link) = (load(embedded()?, Some(pins), self.sizes, features)?, pins.link());
        let old = std::mem::replace(&mut self.object, object);
        #[cfg(feature = "bpf-log")]
        super::log::follow(&mut self.object);
        if link.exists()
            && let Err(error) = self.program().and_then(|program| attach::replace(program, &link))
        {
            self.object = old;
            return Err(error);
        }
        self.features = features;
        // The canary's link was the old program's.
        drop(old);
        let canary = self.canary.take().map(|(ifindex, _)| ifindex);
        if let Err(error) = self.attach_canary(canary) {
            tracing::warn!(%error, "the canary's packets don't meet the program any more");
        }
        Ok(())
    }

    /// Runs the program on a frame (BPF_PROG_TEST_RUN).
    ///
    /// # Errors
    /// Where the kernel refuses, for example a frame shorter than an Ethernet header.
    pub fn test_run(&mut self, frame: &[u8]) -> Result<Verdict, Error> {
        attach::test_run(self.program()?, frame)
    }

    /// The loaded program, for others that call it.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn program_fd(&mut self) -> Result<&ProgramFd, Error> {
        Ok(self.program()?.fd()?)
    }

    /// The seed of the flow hash; two zeros where none was set yet.
    pub fn flow_seed(&self) -> [u64; 2] {
        [0, 8].map(|offset| {
            self.settings
                .u64(0, offset_of!(Settings, flow_seed) + offset)
                .load(Ordering::Acquire)
        })
    }

    /// Sets the seed of the flow hash: before any slot is filled, for it decides every flow's slot.
    pub fn set_flow_seed(&self, seed: [u64; 2]) {
        for (word, seed) in seed.into_iter().enumerate() {
            self.settings
                .u64(0, offset_of!(Settings, flow_seed) + word * 8)
                .store(seed, Ordering::Release);
        }
    }

    /// Sets the interface's own MAC address and those of the peers, of which [`MAX_PEERS`] at most count.
    pub fn set_macs(&self, own: [u8; 6], peers: &[[u8; 6]]) {
        self.settings
            .u64(0, offset_of!(Settings, own_mac))
            .store(mac_word(own), Ordering::Release);
        for place in 0..MAX_PEERS {
            let word = peers.get(place).map_or(0, |&mac| mac_word(mac));
            self.settings
                .u64(0, offset_of!(Settings, peer_macs) + place * 8)
                .store(word, Ordering::Release);
        }
        let count = peers.len().min(MAX_PEERS) as u32;
        self.settings
            .u32(0, offset_of!(Settings, peers))
            .store(count, Ordering::Release);
        for member in 1..=self.highest_target() {
            self.show(member);
        }
    }

    /// Lets targets be reached by another interface than the one that packets come in by.
    ///
    /// # Errors
    /// Where the map is full or the interface is not there.
    pub fn add_tx_port(&mut self, ifindex: u32) -> io::Result<()> {
        self.tx_ports
            .insert(ifindex, ifindex, None, 0)
            .map_err(io::Error::other)
    }

    /// Where things are pinned.
    pub const fn pins(&self) -> Option<&Pins> {
        self.pins.as_ref()
    }
}

/// The binary's own object.
fn embedded() -> Result<&'static [u8], Error> {
    objects::BALANCER.ok_or(Error::NotBuilt)
}

/// Loads an object and its program; both refer to the maps that are pinned, where there are any.
fn load(bytes: &[u8], pins: Option<&Pins>, sizes: Sizes, features: Features) -> Result<Ebpf, Error> {
    let slots = sizes
        .slots
        .clamp(HOT_LANES, MAX_SLOTS)
        .next_multiple_of(HOT_LANES);
    let sets = (sizes.pending_notes.max(1) / PENDING_WAYS as u32)
        .max(1)
        .next_power_of_two();
    let row = (sizes.targets.max(1) + 1).next_multiple_of(COUNTER_ROW_STEP);
    let counters = row.saturating_mul(cpu_numbers()?);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("FEATURES", &features, true)
        .map_max_entries("HOT_SLOTS", hot_elements(slots))
        .map_max_entries("COLD_SLOTS", slots)
        .map_max_entries("TARGETS", sizes.targets.max(1) + 1)
        .map_max_entries("TARGET_TRAFFIC", counters)
        .map_max_entries("TARGET_CONNECTIONS", counters)
        .map_max_entries("NOTES", note_sets(sizes.notes))
        .map_max_entries("SERVER_IDS", sizes.targets.max(1))
        .map_max_entries("PENDING_NOTES", sets)
        .map_max_entries("SYN_BUCKETS", sizes.syn_buckets.max(1).next_power_of_two());
    if let Some(pins) = pins {
        for name in MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    let mut bytes = bytes.to_vec();
    let mut direct = DirectMaps::reserve(&mut bytes)?;
    let mut object = loader.load(&bytes)?;
    direct.settle(&object)?;
    // The program refers to the maps by their file descriptors, most of which are closed afterwards.
    let program: &mut Xdp = object
        .program_mut("balancer")
        .ok_or(Error::Missing("balancer"))?
        .try_into()?;
    program.load()?;
    Ok(object)
}

pub(super) fn take(object: &mut Ebpf, name: &'static str) -> Result<Map, Error> {
    object.take_map(name).ok_or(Error::Missing(name))
}

fn region<T: Copy>(object: &mut Ebpf, name: &'static str) -> Result<Region<T>, Error> {
    match take(object, name)? {
        Map::Array(data) => Ok(Region::of(&data)?),
        _ => Err(Error::Missing(name)),
    }
}
