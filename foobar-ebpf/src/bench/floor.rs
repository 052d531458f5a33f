//! The floor: what any program has to do that takes a flow to its slot's target, and nothing else. One kind
//! of packet, one VIP that is not looked up, no other case.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, PerCpuArray};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use foobar_common::address::Address;
use foobar_common::flow::flow_hash;
use foobar_common::slot::{HOT_LANES, HotSlots};
use foobar_common::target::TargetCounters;
use foobar_ebpf::packet::{Frame, ethernet, ipv4};

const SLOTS: u32 = 65_536;
const SEED: [u64; 2] = [0x0f1e_2d3c_4b5a_6978, 0x1122_3344_5566_7788];

#[btf_map]
static FLOOR_SLOTS: Array<HotSlots, { (SLOTS / HOT_LANES) as usize }> = Array::new();

/// Each 64 bytes: destination and source MAC address, and what a target has besides.
#[btf_map]
static FLOOR_TARGETS: Array<[u64; 8], 1024> = Array::new();

#[btf_map]
static FLOOR_COUNTERS: PerCpuArray<TargetCounters, 1024> = PerCpuArray::new();

/// Sends a TCP packet of IPv4 without options to its target; `None` where it is anything else.
#[inline(always)]
pub fn forward(context: &XdpContext) -> Option<u32> {
    // SAFETY: the context is the kernel's, and nothing moves the frame.
    let frame = unsafe { Frame::of_context(context.ctx) };
    let headers = frame.at::<[u8; ethernet::LENGTH + ipv4::LENGTH + 4]>(0)?;
    if headers.get::<u16, 12>() != ethernet::IPV4
        || headers.get::<u8, 14>() != 0x45
        || headers.get::<u8, 23>() != ipv4::TCP
    {
        return None;
    }
    let source = Address::from_ipv4_raw(headers.get::<u32, 26>());
    let hash = flow_hash(SEED, source.words(), headers.get::<u32, 34>());
    let index = hash as u32 & (SLOTS - 1);
    let slots = FLOOR_SLOTS.get_ptr(index / HOT_LANES)?;
    // SAFETY: a pointer to 8 aligned bytes of an array map.
    let lanes = unsafe { slots.cast::<u64>().read_volatile() };
    let member = u32::from((lanes >> ((index % HOT_LANES) * 16)) as u16);
    let target = FLOOR_TARGETS.get(member)?;
    let counters = FLOOR_COUNTERS.get_ptr_mut(member)?;
    // SAFETY: this CPU's element of a per-CPU array.
    unsafe {
        (*counters).packets += 1;
        (*counters).bytes += frame.len() as u64;
    }
    headers.set::<u64, 0>(target[0]);
    headers.set::<u32, 8>(target[1] as u32);
    Some(xdp_action::XDP_TX)
}
