//! `agent`: the XDP program of a backend's NIC. It passes everything: in L2 mode a backend needs no more.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point that the attribute makes has neither"
)]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::{macros::xdp, programs::XdpContext};
use foobar_ebpf as _;

/// Passes everything to the kernel.
#[xdp]
pub fn agent(_context: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
