//! The bench's programs: `wrapper` makes the next packet of a rotating set of flows and tail-calls the
//! program that is measured: the balancer, or one of those here. `null` does nothing, `resizing` changes the
//! frame's length and nothing else: they give the wrapper's own cost. `floor` is the least that a balancer
//! of this design could do. `witness` is the wrapper that also sees where each packet went.
//!
//! For `cargo xtask pktgen` there are `generator`, `segment` and `receiver`: frames that really travel.
//!
//! They have maps of their own, and know the balancer only as what is called. As it does, they take frames in
//! several buffers: the kernel lets programs call each other only if they agree on that.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry points that the attribute makes have neither"
)]

mod floor;
mod live;
mod witness;
mod wrapper;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::ProgramArray;
use aya_ebpf::macros::btf_map;
use aya_ebpf::{macros::xdp, programs::XdpContext};

/// The program that is measured.
#[btf_map]
static SUBJECT: ProgramArray<1> = ProgramArray::new();

/// Makes the next packet and calls the program under test with it.
#[xdp(frags)]
pub fn wrapper(context: XdpContext) -> u32 {
    if wrapper::next(&context).is_some() {
        // SAFETY: nothing here has anything to drop.
        unsafe { SUBJECT.tail_call(&context, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Sees where the packet before went, and does what [`wrapper`] does.
#[xdp(frags)]
pub fn witness(context: XdpContext) -> u32 {
    if witness::see(&context).is_some() && wrapper::next(&context).is_some() {
        // SAFETY: nothing here has anything to drop.
        unsafe { SUBJECT.tail_call(&context, 0) };
    }
    xdp_action::XDP_ABORTED
}

/// Does nothing.
#[xdp(frags)]
pub fn null(_context: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// Leaves the frame with the length that the program under test would leave it with.
#[xdp(frags)]
pub fn resizing(context: XdpContext) -> u32 {
    wrapper::leave(&context).unwrap_or(xdp_action::XDP_ABORTED)
}

/// Parses, hashes, reads one slot and one target, counts, rewrites the addresses, transmits.
#[xdp(frags)]
pub fn floor(context: XdpContext) -> u32 {
    floor::forward(&context).unwrap_or(xdp_action::XDP_ABORTED)
}

/// Makes the next packet and sends it to the balancer.
#[xdp]
pub fn generator(context: XdpContext) -> u32 {
    live::generate(&context).unwrap_or(xdp_action::XDP_ABORTED)
}

/// The segment's switch, on the port of the balancer.
#[xdp]
pub fn segment(context: XdpContext) -> u32 {
    live::switch(&context).unwrap_or(xdp_action::XDP_ABORTED)
}

/// A backend's end.
#[xdp]
pub fn receiver(context: XdpContext) -> u32 {
    live::receive(&context).unwrap_or(xdp_action::XDP_ABORTED)
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
