//! Admission: may this packet's source use the VIP, and is there room for another connection?
//!
//! It is asked for every packet of a service that has a source list, and for the SYNs of one that limits them,
//! once a packet and before anything is noted. The source of an ICMP error is a router on the way, of which a
//! list says nothing: errors are not looked up.

use core::ptr::null_mut;

use aya_ebpf::btf_maps::lpm_trie::Key;
use foobar_common::admission::{FEATURE_LISTS, FEATURE_SYN_LIMITS, LIST_DENY, source_buckets, take};
use foobar_common::counters::Counter;
use foobar_common::settings::Settings;
use foobar_common::steering::Segment;
use foobar_common::vip::{VIP_LIST, VIP_LIST_ONLY, VIP_SYN_LIMIT, Vip};

use super::{features, now_ns};
use crate::maps::{LISTS, SYN_BUCKETS, SYN_LIMITS};
use crate::packet::ipv6;

/// Why a packet is not let in, if it isn't. `source` is the client's address as its words.
#[inline(always)]
pub fn refusal(settings: &Settings, vip: &Vip, source: [u64; 2], segment: Segment) -> Option<Counter> {
    if !features::has(FEATURE_LISTS | FEATURE_SYN_LIMITS) || vip.flags & (VIP_LIST | VIP_SYN_LIMIT) == 0 {
        return None;
    }
    if features::has(FEATURE_LISTS)
        && vip.flags & VIP_LIST != 0
        && !matches!(segment, Segment::Error)
        && denied(vip, source)
    {
        return Some(Counter::DropDenied);
    }
    if features::has(FEATURE_SYN_LIMITS) && vip.flags & VIP_SYN_LIMIT != 0 && matches!(segment, Segment::Open)
    {
        return excess(settings, vip, source);
    }
    None
}

#[inline(always)]
fn denied(vip: &Vip, source: [u64; 2]) -> bool {
    // SAFETY: both are 16 plain bytes.
    let address = unsafe { core::mem::transmute::<[u64; 2], [u8; 16]>(source) };
    let list = u32::from(vip.list);
    match LISTS.get_value_ptr_mut(list, &Key::new(128, address)) {
        // SAFETY: a pointer to a live value: a list that is replaced stays until no program uses it.
        Some(verdict) => (unsafe { verdict.read_volatile() }) == LIST_DENY,
        None => vip.flags & VIP_LIST_ONLY != 0,
    }
}

/// Whose limit a SYN exceeds, if it does; else it is charged to the VIP and its source.
///
/// There is no atomic exchange here: of SYNs that two CPUs judge in the same instant, one may go uncharged.
/// A limit so errs by letting through a few more, never fewer.
#[inline(always)]
fn excess(settings: &Settings, vip: &Vip, source: [u64; 2]) -> Option<Counter> {
    let Some(limit) = SYN_LIMITS.get_ptr_mut(u32::from(vip.limit)) else {
        return Some(Counter::DropInternal);
    };
    // SAFETY: a pointer into an array map; the daemon fills the element before a VIP names it, and only the
    // bucket changes afterwards.
    let (word, cost_ns, depth_ns, source_cost_ns, source_depth_ns) = unsafe {
        (
            &raw mut (*limit).bucket,
            (*limit).cost_ns,
            (*limit).depth_ns,
            (*limit).source_cost_ns,
            (*limit).source_depth_ns,
        )
    };
    let now = now_ns();
    let mut filled = 0;
    // Words that are always set: of an option, the compiler would read a payload that it never set.
    let mut own: [*mut u64; 2] = [null_mut(); 2];
    if source_cost_ns != 0 {
        // SAFETY: as above.
        let mask = unsafe {
            if ipv6::is_mapped(source) {
                (*limit).source_mask_v4
            } else {
                (*limit).source_mask_v6
            }
        };
        let prefix = [source[0] & mask[0], source[1] & mask[1]];
        let [a, b] = source_buckets(settings.flow_seed, prefix, vip.limit, settings.syn_bucket_mask);
        let (Some(a), Some(b)) = (SYN_BUCKETS.get_ptr_mut(a), SYN_BUCKETS.get_ptr_mut(b)) else {
            return Some(Counter::DropInternal);
        };
        // SAFETY: pointers to aligned words of an array map.
        let fuller = unsafe { a.read_volatile().min(b.read_volatile()) };
        match take(fuller, now, source_cost_ns, source_depth_ns) {
            Some(bucket) => filled = bucket,
            None => return Some(Counter::DropSourceLimit),
        }
        own = [a, b];
    }
    if cost_ns != 0 {
        // SAFETY: a pointer to an aligned word of an array map, which programs on other CPUs write as well.
        match take(unsafe { word.read_volatile() }, now, cost_ns, depth_ns) {
            // SAFETY: as above.
            Some(bucket) => unsafe { word.write_volatile(bucket) },
            None => return Some(Counter::DropSynLimit),
        }
    }
    for bucket in own {
        // What a stranger has taken from one of them counts against the stranger only.
        // SAFETY: as above.
        unsafe {
            if !bucket.is_null() && bucket.read_volatile() < filled {
                bucket.write_volatile(filled);
            }
        }
    }
    None
}
