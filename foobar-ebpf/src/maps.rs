//! The maps. Sizes that an operator chooses are set when the program is loaded; those here are for tests.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, ArrayOfMaps, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use foobar_common::{
    admission::{Bucket, ListKey, ListVerdict, MAX_LIMITS, MAX_LISTS, SynLimit},
    counters::Counters,
    fragment::{FragmentKey, FragmentNote},
    note::{NoteSet, PendingSet},
    note_event::NOTE_EVENT_RING_BYTES,
    quic::{ServerId, ServerIdKey},
    settings::Settings,
    slot::{ColdSlot, HotSlots},
    target::{HotTargets, HotTunnels, Target, TargetTraffic},
    vip::{Lease, MAX_LEASES, PORT_RANGE_ENTRIES, PortRange, VipTable},
};

use crate::path::rare::Job;
use crate::steer::clock::Clock;

/// An index that is at most `MASK`, a power of two less one, by an AND that stays where it is: the compiler takes one
/// away that it finds needless, and the verifier of Linux 6.1 cannot follow why it is.
#[inline(always)]
pub fn within<const MASK: u32>(index: u32) -> usize {
    const { assert!(MASK & (MASK + 1) == 0, "not a power of two less one") };
    let mut index = u64::from(index);
    #[cfg(target_arch = "bpf")]
    // SAFETY: an AND of a register with a constant.
    unsafe {
        core::arch::asm!("{0} &= {1}", inout(reg) index, const MASK, options(pure, nomem, nostack));
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        index &= u64::from(MASK);
    }
    index as usize
}

/// Writes `new` to a word if it is `expected`, in one step, and gives what it was.
///
/// # Safety
/// An aligned word of an array map's element.
#[inline(always)]
pub unsafe fn exchange(place: *mut u64, expected: u64, new: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let seen;
        // SAFETY: the caller's. (BPF_CMPXCHG, which the compiler has no name for on this target.)
        unsafe {
            core::arch::asm!("r0 = cmpxchg_64({0} + 0, r0, {1})", in(reg) place, in(reg) new,
                inout("r0") expected => seen, options(nostack));
        }
        seen
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        // SAFETY: the caller's.
        let word = unsafe { core::sync::atomic::AtomicU64::from_ptr(place) };
        let order = core::sync::atomic::Ordering::AcqRel;
        match word.compare_exchange(expected, new, order, core::sync::atomic::Ordering::Acquire) {
            Ok(seen) | Err(seen) => seen,
        }
    }
}

/// The place in memory of the only element of a map, as a constant of the program: no key, no look-up, no question
/// whether it is there.
///
/// To the verifier that is `BPF_PSEUDO_MAP_VALUE` (linux/bpf.h), which names the map by a file descriptor. What loads
/// the program writes it where the mark stands ([`foobar_common::direct`]).
#[cfg(target_arch = "bpf")]
macro_rules! direct {
    ($map:ident, $mark:ident) => {{
        let place: u64;
        // SAFETY: an instruction that loads a constant.
        unsafe {
            core::arch::asm!("{0} = {1} ll", out(reg) place, const foobar_common::direct::$mark,
                options(nomem, nostack, preserves_flags));
        }
        place as *const ()
    }};
}
/// As above, where there is no verifier and no map.
#[cfg(not(target_arch = "bpf"))]
macro_rules! direct {
    ($map:ident, $mark:ident) => {
        $map.get_ptr(0).unwrap_or(core::ptr::null()).cast::<()>()
    };
}

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// The settings, by their place in memory.
#[inline(always)]
pub fn settings() -> &'static Settings {
    let place = direct!(SETTINGS, SETTINGS).cast::<Settings>();
    // SAFETY: the only element of an array map, which lives as long as the program; the daemon writes each word of it
    // as one.
    unsafe { &*place }
}

/// The VIP table, by its place in memory.
#[inline(always)]
pub fn vip_table() -> *const VipTable {
    direct!(VIPS, VIPS).cast()
}

/// The targets' hot words, by their place in memory.
#[inline(always)]
pub fn hot_targets() -> *const HotTargets {
    direct!(HOT_TARGETS, HOT_TARGETS).cast()
}

/// What packets in tunnels have to know of the targets, by its place in memory.
#[inline(always)]
pub fn hot_tunnels() -> *const HotTunnels {
    direct!(HOT_TUNNELS, HOT_TUNNELS).cast()
}

/// One element.
#[btf_map]
pub static SETTINGS: Array<Settings, 1, MMAPABLE> = Array::new();

/// Two halves of the VIP table.
#[btf_map]
pub static VIPS: Array<VipTable, 1, MMAPABLE> = Array::new();

/// Two halves of the port ranges.
#[btf_map]
pub static RANGES: Array<PortRange, { 2 * PORT_RANGE_ENTRIES as usize }> = Array::new();

/// The leases of the VIPs' addresses.
#[btf_map]
pub static LEASES: Array<Lease, { MAX_LEASES as usize }, MMAPABLE> = Array::new();

/// The slots' hot entries, four an element.
#[btf_map]
pub static HOT_SLOTS: Array<HotSlots, 16384, MMAPABLE> = Array::new();

/// The slots' cold entries.
#[btf_map]
pub static COLD_SLOTS: Array<ColdSlot, 65536, MMAPABLE> = Array::new();

/// What the common way has to know of the targets.
#[btf_map]
pub static HOT_TARGETS: Array<HotTargets, 1, MMAPABLE> = Array::new();

/// What packets in tunnels have to know of the targets.
#[btf_map]
pub static HOT_TUNNELS: Array<HotTunnels, 1, MMAPABLE> = Array::new();

/// The targets; index 0 stays unused.
#[btf_map]
pub static TARGETS: Array<Target, 1024, MMAPABLE> = Array::new();

/// What each target has been sent, a row a CPU. Not a per-CPU array: there each element has a place of its own, which a
/// table has to be asked for; together they are twice the memory that packets go through, and cannot be mapped.
#[btf_map]
pub static TARGET_TRAFFIC: Array<TargetTraffic, 1024, MMAPABLE> = Array::new();

/// The new TCP connections among that, in the same rows.
#[btf_map]
pub static TARGET_CONNECTIONS: Array<u64, 1024, MMAPABLE> = Array::new();

/// Notes of flows in unsettled slots.
#[btf_map]
pub static NOTES: Array<NoteSet, 16384, MMAPABLE> = Array::new();

/// Whose QUIC server ids are.
#[btf_map]
pub static SERVER_IDS: HashMap<ServerIdKey, ServerId, 1024> = HashMap::new();

/// Where first fragments went; the least recently used go first.
#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentNote, 16384> = LruHashMap::new();

/// The packet that is on the rare way, one a CPU.
#[btf_map]
pub static JOBS: PerCpuArray<Job, 1> = PerCpuArray::new();

/// The bucket of this CPU's answers to packets that are too big.
#[btf_map]
pub static TOO_BIG_BUCKET: PerCpuArray<Bucket, 1> = PerCpuArray::new();

/// What this CPU's clock said last.
#[btf_map]
pub static CLOCK: PerCpuArray<Clock, 1> = PerCpuArray::new();

/// First notes.
#[btf_map]
pub static PENDING_NOTES: Array<PendingSet, 4096, MMAPABLE> = Array::new();

/// What peers must hear of notes, as the words of [`foobar_common::note_event::NoteEvent`].
#[btf_map]
pub static NOTE_EVENTS: RingBuf<[u64; 5], { NOTE_EVENT_RING_BYTES as usize }> = RingBuf::new();

/// One element a CPU.
#[btf_map]
pub static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// The interfaces, by their index, that targets are reached by besides the one that packets come in by.
#[btf_map]
pub static TX_PORTS: DevMapHash<64> = DevMapHash::new();

/// A list of sources: their prefixes, of which the longest that matches decides.
pub type List = LpmTrie<ListKey, ListVerdict, 1>;

/// The lists of sources, each as large as it is made.
#[btf_map]
pub static LISTS: ArrayOfMaps<List, { MAX_LISTS as usize }> = ArrayOfMaps::new();

/// How VIPs limit new connections.
#[btf_map]
pub static SYN_LIMITS: Array<SynLimit, { MAX_LIMITS as usize }, MMAPABLE> = Array::new();

/// The buckets that sources share.
#[btf_map]
pub static SYN_BUCKETS: Array<Bucket, 65536, MMAPABLE> = Array::new();
