//! `balancer`: the XDP program of the balancer's NIC. From the outcome of a packet's path to its verdict.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![expect(
    missing_docs,
    unreachable_pub,
    reason = "the entry point that the attribute makes has neither"
)]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_tail;
use aya_ebpf::{macros::xdp, programs::XdpContext};
use foobar_common::counters::Counter;
use foobar_ebpf::forward::{count, reset};
use foobar_ebpf::maps::SETTINGS;
use foobar_ebpf::outcome::{Action, Refusal};
use foobar_ebpf::packet::Frame;
use foobar_ebpf::path;

/// Steers packets for VIPs; everything else is the kernel's.
#[xdp]
pub fn balancer(context: XdpContext) -> u32 {
    let Some(settings) = SETTINGS.get(0) else {
        return drop(&context, Counter::DropInternal);
    };
    // SAFETY: the kernel gives the frame to this program alone; no helper moves it before the path's end.
    let frame = unsafe { Frame::new(context.data(), context.data_end(), length(&context)) };
    match path::balance(&frame, settings) {
        Ok(Action::Transmit) => xdp_action::XDP_TX,
        Ok(Action::Redirect) => xdp_action::XDP_REDIRECT,
        Ok(Action::Answer(Counter::AnswerReset)) => {
            let surplus = frame.len() as i32 - reset::LENGTH as i32;
            // SAFETY: the context is the kernel's; the frame is not touched any more.
            if unsafe { bpf_xdp_adjust_tail(context.ctx, -surplus) } != 0 {
                return drop(&context, Counter::DropInternal);
            }
            count(Counter::AnswerReset);
            xdp_action::XDP_TX
        }
        Ok(Action::Answer(counter)) => {
            count(counter);
            xdp_action::XDP_TX
        }
        Err(Refusal::Pass) => {
            count(Counter::PassNotVip);
            xdp_action::XDP_PASS
        }
        Err(Refusal::Drop(reason)) => drop(&context, reason),
    }
}

/// The frame's length, loaded anew: see [`Frame::new`].
#[inline(always)]
fn length(context: &XdpContext) -> usize {
    // SAFETY: the context is the kernel's, valid for the program's run.
    unsafe {
        let end = core::ptr::addr_of!((*context.ctx).data_end).read_volatile() as usize;
        let start = core::ptr::addr_of!((*context.ctx).data).read_volatile() as usize;
        end.wrapping_sub(start)
    }
}

#[inline(always)]
fn drop(_context: &XdpContext, reason: Counter) -> u32 {
    #[cfg(feature = "bpf-log")]
    aya_log_ebpf::debug!(_context, "drop {}", reason as u32);
    count(reason);
    xdp_action::XDP_DROP
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
