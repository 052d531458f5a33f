//! `balancer`: the XDP program of the balancer's NIC. From the outcome of a packet's path to its verdict.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point that the attribute makes has neither"
)]

use aya_ebpf::{macros::xdp, programs::XdpContext};
use foobar_ebpf::maps;
use foobar_ebpf::path;
use foobar_ebpf::steer::features;

/// Steers packets for VIPs; everything else is the kernel's. Frames may be in several buffers: all headers
/// are read from the first one.
// The entry point that the attribute makes calls it: a call and a return for nothing, were it not inlined.
#[xdp(frags)]
#[inline(always)]
pub fn balancer(context: XdpContext) -> u32 {
    let settings = maps::settings();
    // SAFETY: the kernel gives the frame to this program alone, and no view of it is kept.
    unsafe {
        let common = if features::any() {
            path::common::<true>(context.ctx, settings)
        } else {
            path::common::<false>(context.ctx, settings)
        };
        let step = match common {
            Some(step) => step,
            None => path::rare::begin(context.ctx, settings),
        };
        if step < path::rare::ON {
            return step;
        }
        path::rare::go_on(context.ctx, settings, step)
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
