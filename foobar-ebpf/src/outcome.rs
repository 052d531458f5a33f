//! How a packet's path can end.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use foobar_common::counters::Counter;

use crate::forward::count;

/// The program did something with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Rewritten for a target behind the interface it came in by.
    Transmit,
    /// Rewritten for a target behind another interface, to which the kernel was told to redirect it.
    Redirect,
    /// Turned into an answer to its sender.
    Answer(Counter),
    /// As [`Self::Answer`], of so many bytes: the entry point cuts off the rest of the frame.
    Cut(Counter, u32),
}

/// The program did nothing with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not for a VIP: the kernel's.
    Pass,
    /// For a VIP, and not to be forwarded, for this reason.
    Drop(Counter),
}

/// The verdict of a path's end, counted.
///
/// # Safety
/// The context is the kernel's, and no frame of it is used any more.
#[inline(always)]
pub unsafe fn conclude(context: *mut xdp_md, outcome: Result<Action, Refusal>) -> u32 {
    match outcome {
        Ok(Action::Transmit) => xdp_action::XDP_TX,
        Ok(Action::Redirect) => xdp_action::XDP_REDIRECT,
        Ok(Action::Cut(counter, length)) => {
            // SAFETY: the caller's.
            let surplus = unsafe { bpf_xdp_get_buff_len(context) } as i32 - length as i32;
            // SAFETY: the caller's.
            if unsafe { bpf_xdp_adjust_tail(context, -surplus) } != 0 {
                return drop(context, Counter::DropInternal);
            }
            count(counter);
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
        Err(Refusal::Drop(reason)) => drop(context, reason),
    }
}

/// The verdict on a packet that is dropped, counted by its reason.
#[inline(always)]
pub fn drop(_context: *mut xdp_md, reason: Counter) -> u32 {
    #[cfg(feature = "bpf-log")]
    aya_log_ebpf::debug!(
        &aya_ebpf::programs::XdpContext::new(_context),
        "drop {}",
        reason as u32
    );
    count(reason);
    xdp_action::XDP_DROP
}
