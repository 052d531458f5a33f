//! Makes packets: the template restored, then the fields that tell the flow.
//!
//! What is read right after it was written, and in another width, waits for the write to reach the cache. No frame
//! from a NIC has that, so it must not be charged to the program under test, whoever waits. So the bytes that every
//! forwarded frame has changed, the Ethernet header's, are written without a look at them, and like the flow's fields
//! in the widths that they are read in. A word behind them is written only if it has to be.

use aya_ebpf::bindings::{BPF_F_MMAPABLE, xdp_action};
use aya_ebpf::btf_maps::Array;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_xdp_adjust_head, bpf_xdp_adjust_tail};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use foobar_common::bench::{BLOCK, Flow, LANES, Progress, STAMPS, Shape, TEMPLATE_WORDS, Traffic};
use foobar_ebpf::packet::{Frame, View, checksum, ethernet, ipv4};

#[btf_map]
pub static TRAFFIC: Array<Traffic, 1> = Array::new();

/// Not per CPU: one run at a time, and its thread may be moved between two of them.
#[btf_map]
pub static PROGRESS: Array<Progress, { LANES as usize }> = Array::new();

/// When each block of packets began, CLOCK_MONOTONIC in nanoseconds.
#[btf_map]
static TIMES: Array<u64, { STAMPS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

const SHORT: usize = 64;
const MIDDLE: usize = 80;
const LONG: usize = TEMPLATE_WORDS * 8;

/// Makes the next packet.
#[inline(always)]
pub fn next(context: &XdpContext) -> Option<()> {
    let traffic = TRAFFIC.get(0)?;
    let flow = Flow::of(turn(traffic)?, traffic.vips);
    // SAFETY: the context is the kernel's, and here nothing moves the frame.
    let mut frame = unsafe { Frame::of_context(context.ctx) };
    if frame.len() != traffic.length as usize {
        restore_length(context, frame.len() as i32 - traffic.length as i32)?;
        // SAFETY: as above; the frame before the move is not used any more.
        frame = unsafe { Frame::of_context(context.ctx) };
    }
    restore(&frame, traffic)?;
    write(&frame, traffic, flow)
}

/// The number of the flow whose turn it is.
#[inline(always)]
pub fn turn(traffic: &Traffic) -> Option<u64> {
    let progress = PROGRESS.get_ptr_mut(traffic.lane as u32)?;
    // SAFETY: a pointer into an array map, which no other program uses during a run.
    let progress = unsafe { &mut *progress };
    let packets = progress.packets;
    if packets & (BLOCK - 1) == 0 {
        let time = TIMES.get_ptr_mut((packets / BLOCK) as u32 & (STAMPS - 1))?;
        // SAFETY: a pointer into an array map; the helper has no preconditions.
        unsafe { *time = bpf_ktime_get_ns() };
    }
    Some(progress.turn(traffic.flows, traffic.dwell))
}

/// Takes away what an encapsulation put before the frame, or gives back what an answer cut off behind it.
#[inline(always)]
fn restore_length(context: &XdpContext, surplus: i32) -> Option<()> {
    // SAFETY: the context is the kernel's; no view of the frame is used any more.
    let failed = unsafe {
        if surplus > 0 {
            bpf_xdp_adjust_head(context.ctx, surplus)
        } else {
            bpf_xdp_adjust_tail(context.ctx, -surplus)
        }
    };
    (failed == 0).then_some(())
}

/// The reverse of [`restore_length`], for the length that the program under test leaves.
#[inline(always)]
pub fn leave(context: &XdpContext) -> Option<u32> {
    let traffic = TRAFFIC.get(0)?;
    let surplus = traffic.left as i32 - traffic.length as i32;
    // SAFETY: as above.
    let failed = unsafe {
        if surplus > 0 {
            bpf_xdp_adjust_head(context.ctx, -surplus)
        } else {
            bpf_xdp_adjust_tail(context.ctx, surplus)
        }
    };
    (failed == 0).then_some(xdp_action::XDP_TX)
}

/// Restores what is the same in every packet.
#[inline(always)]
pub fn restore(frame: &Frame, traffic: &Traffic) -> Option<()> {
    let short = frame.at::<[u8; SHORT]>(0)?;
    macro_rules! words {
        ($view:ident: $($word:literal)+) => {
            $(word::<_, { $word * 8 }>(&$view, traffic.template[$word], traffic.fixed[$word]);)+
        };
    }
    short.set::<u64, 0>(traffic.template[0]);
    short.set::<u32, 8>(traffic.template[1] as u32);
    short.set::<u16, 12>((traffic.template[1] >> 32) as u16);
    let begin = (traffic.template[1] >> 48) as u16;
    if short.get::<u16, 14>() != begin {
        short.set::<u16, 14>(begin);
    }
    words!(short: 2 3 4 5 6 7);
    if let Some(middle) = frame.at::<[u8; MIDDLE]>(0) {
        words!(middle: 8 9);
    }
    if let Some(long) = frame.at::<[u8; LONG]>(0) {
        words!(long: 10 11 12 13 14 15);
    }
    Some(())
}

#[inline(always)]
fn word<T: foobar_ebpf::packet::Plain, const OFFSET: usize>(view: &View<T>, template: u64, fixed: u64) {
    let have = view.get::<u64, OFFSET>();
    if (have ^ template) & fixed != 0 {
        view.set::<u64, OFFSET>(template & fixed | have & !fixed);
    }
}

const IP: usize = ethernet::LENGTH;
const V6: usize = 40;
const ICMP: usize = 8;

/// Writes what tells the flow.
#[inline(always)]
pub fn write(frame: &Frame, traffic: &Traffic, flow: Flow) -> Option<()> {
    let client = (traffic.client as u32).wrapping_add(flow.client).to_be();
    let vip = (traffic.vip as u32).wrapping_add(flow.vip).to_be();
    let port_be = u32::from(flow.port.to_be());
    let service_be = traffic.port_be as u32 & 0xffff;
    // Source and destination port, as they stand in memory.
    let there = port_be | service_be << 16;
    let back = service_be | port_be << 16;
    if traffic.shape == Shape::V4 as u64 {
        let view = frame.at::<[u8; SHORT]>(0)?;
        identify(&view, traffic, client, vip);
        view.set::<u32, { IP + 12 }>(client);
        view.set::<u32, { IP + 16 }>(vip);
        view.set::<u32, { IP + ipv4::LENGTH }>(there);
    } else if traffic.shape == Shape::V6 as u64 {
        let view = frame.at::<[u8; MIDDLE]>(0)?;
        view.set::<u64, { IP + 16 }>(u64::from(client) << 32);
        view.set::<u64, { IP + 32 }>(u64::from(vip) << 32);
        view.set::<u32, { IP + V6 }>(there);
    } else if traffic.shape == Shape::ErrorV4 as u64 {
        const QUOTE: usize = IP + ipv4::LENGTH + ICMP;
        let view = frame.at::<[u8; MIDDLE]>(0)?;
        let source = view.get::<u32, { IP + 12 }>();
        identify(&view, traffic, source, vip);
        view.set::<u32, { IP + 16 }>(vip);
        view.set::<u32, { QUOTE + 12 }>(vip);
        view.set::<u32, { QUOTE + 16 }>(client);
        view.set::<u32, { QUOTE + ipv4::LENGTH }>(back);
    } else {
        const QUOTE: usize = IP + V6 + ICMP;
        let view = frame.at::<[u8; LONG]>(0)?;
        view.set::<u64, { IP + 32 }>(u64::from(vip) << 32);
        view.set::<u64, { QUOTE + 16 }>(u64::from(vip) << 32);
        view.set::<u64, { QUOTE + 32 }>(u64::from(client) << 32);
        view.set::<u32, { QUOTE + V6 }>(back);
    }
    Some(())
}

/// Writes the identification with which the header's checksum is right for these addresses.
#[inline(always)]
fn identify<T: foobar_ebpf::packet::Plain>(view: &View<T>, traffic: &Traffic, source: u32, destination: u32) {
    let mut addresses = checksum::add(0, source);
    addresses = checksum::add(addresses, destination);
    // One's complement: adding the complement subtracts.
    let identification = checksum::fold(traffic.sum + u64::from(!checksum::fold(addresses)));
    let flags = view.get::<u16, { IP + 6 }>();
    view.set::<u32, { IP + 4 }>(u32::from(identification) | u32::from(flags) << 16);
}
