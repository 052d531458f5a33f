//! `check`: the tc egress program of the balancer's NIC. A health check's packets carry their target in the
//! socket's mark; the program writes that target's next hop into the frame, so that a check goes to the VIP
//! through one backend, the way that users' packets go. Every other packet stays as it is.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point that the attribute makes has neither"
)]

use aya_ebpf::bindings::{TC_ACT_OK, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::{macros::classifier, programs::TcContext};
use foobar_common::check::member_of;
use foobar_common::target::TARGET_RESOLVED;
use foobar_ebpf::maps::TARGETS;

/// Sends a check's packet to its target.
#[classifier]
pub fn check(context: TcContext) -> i32 {
    // SAFETY: the context is the kernel's, valid for the program's run.
    let mark = unsafe { (*context.skb.skb).mark };
    let Some(member) = member_of(mark) else {
        return TC_ACT_UNSPEC;
    };
    let Some(target) = TARGETS.get(u32::from(member)) else {
        return TC_ACT_SHOT;
    };
    if target.flags & TARGET_RESOLVED == 0 {
        return TC_ACT_SHOT;
    }
    let (destination, source) = (target.destination_mac, target.source_mac);
    if context.store(0, &destination, 0).is_err() || context.store(6, &source, 0).is_err() {
        return TC_ACT_SHOT;
    }
    if target.ifindex == 0 {
        return TC_ACT_OK;
    }
    // SAFETY: the helper takes any index, and drops the packet where there is no such interface.
    unsafe { bpf_redirect(target.ifindex, 0) as i32 }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
