//! Frames that really travel: made by the generator, delivered by the segment's switch, counted where they
//! arrive. What is not counted here is `XDP_ABORTED`, and missing in the sums.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{Array, DevMap, PerCpuArray};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_xdp_adjust_tail};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use foobar_common::bench::{
    Flow, LIVE_INTERFACES, LIVE_SURPLUS, Live, MAX_LIVE_BACKENDS, SEEN_TOGETHER, Seen, received, switched,
};
use foobar_ebpf::packet::{Frame, ethernet};

use crate::wrapper::{self, TRAFFIC};

#[btf_map]
pub static LIVE: Array<Live, 1> = Array::new();

/// The segment's ports, by their members' numbers.
#[btf_map]
static PORTS: DevMap<{ MAX_LIVE_BACKENDS as usize + 1 }> = DevMap::new();

/// Packets by the places of [`switched`].
#[btf_map]
static SWITCHED: PerCpuArray<u64, { switched::PLACES as usize }> = PerCpuArray::new();

/// Packets by the places of [`received`], of each backend by its number.
#[btf_map]
static RECEIVED: PerCpuArray<[u64; received::PLACES], { MAX_LIVE_BACKENDS as usize + 1 }> =
    PerCpuArray::new();

/// Each flow's packets. The number of elements is set when the programs are loaded.
#[btf_map]
static FLOWS: Array<[Seen; SEEN_TOGETHER as usize], 1> = Array::new();

/// Makes the next packet. The frame is as a packet before it was left, or new.
#[inline(always)]
pub fn generate(context: &XdpContext) -> Option<u32> {
    let traffic = TRAFFIC.get(0)?;
    let flow = Flow::live(wrapper::turn(traffic)?);
    // SAFETY: the context is the kernel's; there is no view of the frame yet.
    if unsafe { bpf_xdp_adjust_tail(context.ctx, -(LIVE_SURPLUS as i32)) } != 0 {
        return None;
    }
    // SAFETY: the context is the kernel's, and nothing moves the frame from now on.
    let frame = unsafe { Frame::of_context(context.ctx) };
    if frame.len() != traffic.length as usize {
        return None;
    }
    wrapper::restore(&frame, traffic)?;
    wrapper::write(&frame, traffic, flow)?;
    // SAFETY: the helper has no preconditions.
    Some(unsafe { bpf_redirect(LIVE.get(0)?.interface as u32, 0) } as u32)
}

/// Delivers a frame of the balancer by its destination. Answers have arrived.
#[inline(always)]
pub fn switch(context: &XdpContext) -> Option<u32> {
    let live = LIVE.get(0)?;
    // SAFETY: as above.
    let frame = unsafe { Frame::of_context(context.ctx) };
    let place = match destination(&frame, live)? {
        Destination::Member(member) if member != 0 && member <= MAX_LIVE_BACKENDS => member,
        Destination::Router => switched::ROUTER,
        Destination::Member(_) | Destination::Nobody => switched::NOBODY,
    };
    let packets = SWITCHED.get_ptr_mut(place)?;
    // SAFETY: this CPU's element of a per-CPU array.
    unsafe { *packets += 1 };
    if place == switched::ROUTER || place == switched::NOBODY {
        return Some(xdp_action::XDP_DROP);
    }
    PORTS.redirect(place, u64::from(xdp_action::XDP_DROP)).ok()
}

/// Counts a frame at the backend that the interface's index names.
#[inline(always)]
pub fn receive(context: &XdpContext) -> Option<u32> {
    let live = LIVE.get(0)?;
    // SAFETY: the context is the kernel's.
    let backend = unsafe { (*context.ctx).ingress_ifindex }.wrapping_sub(LIVE_INTERFACES);
    // SAFETY: as above.
    let frame = unsafe { Frame::of_context(context.ctx) };
    let counts = RECEIVED.get_ptr_mut(backend)?;
    let place = match destination(&frame, live)? {
        Destination::Member(member) if member == backend => match note_frame(&frame, live, backend) {
            Some(()) => received::FLOWS,
            None => received::UNKNOWN,
        },
        Destination::Member(_) | Destination::Router | Destination::Nobody => received::FOREIGN,
    };
    // SAFETY: this CPU's element of a per-CPU array, and a place of it.
    unsafe { (*counts)[place] += 1 };
    Some(xdp_action::XDP_DROP)
}

/// Whom a frame is for.
pub enum Destination {
    Member(u32),
    Router,
    Nobody,
}

/// Whom a frame is for, by its destination MAC address.
#[inline(always)]
pub fn destination(frame: &Frame, live: &Live) -> Option<Destination> {
    let view = frame.at::<[u8; ethernet::LENGTH]>(0)?;
    let (head, tail) = (u64::from(view.get::<u32, 0>()), view.get::<u16, 4>());
    Some(if head == live.targets {
        Destination::Member(u32::from(u16::from_be(tail)))
    } else if head | u64::from(tail) << 32 == live.router {
        Destination::Router
    } else {
        Destination::Nobody
    })
}

/// Notes the packet at its flow, which the frame tells.
#[inline(always)]
fn note_frame(frame: &Frame, live: &Live, backend: u32) -> Option<()> {
    let client = frame.at::<u32>((live.client_at & 0xff) as usize)?.get::<u32, 0>();
    let port = frame.at::<u16>((live.port_at & 0xff) as usize)?.get::<u16, 0>();
    let client = u32::from_be(client).wrapping_sub(TRAFFIC.get(0)?.client as u32);
    note(Flow::live_number(client, u16::from_be(port))?, backend)
}

/// Notes a packet at its flow. Backends of one flow would be on several CPUs: then the packets are not all
/// counted, but the moves between them tell.
#[inline(always)]
pub fn note(flow: u64, backend: u32) -> Option<()> {
    let together = FLOWS.get_ptr_mut(flow as u32 / SEEN_TOGETHER)?;
    // SAFETY: a pointer into an element of an array map, which is plain words.
    unsafe {
        let seen = together
            .cast::<Seen>()
            .add((flow as u32 % SEEN_TOGETHER) as usize);
        let before = (*seen).backend;
        if before != 0 && u32::from(before) != backend {
            (*seen).moves = (*seen).moves.saturating_add(1);
        }
        (*seen).backend = backend as u16;
        (*seen).packets += 1;
    }
    Some(())
}
