//! Sees where each packet of the wrapper went: the kernel hands the frame of one packet to the next as the program
//! under test has left it, and before that is written over, its destination is read. The last packet of a run is not
//! seen.

use aya_ebpf::programs::XdpContext;
use foobar_ebpf::packet::Frame;

use crate::live::{self, Destination, LIVE};
use crate::wrapper::{PROGRESS, TRAFFIC};

/// Writes down, at its flow, which member the packet before was sent to. One that was sent to none, as the first of a
/// run and what is dropped, is not counted.
#[inline(always)]
pub fn see(context: &XdpContext) -> Option<()> {
    let (live, traffic) = (LIVE.get(0)?, TRAFFIC.get(0)?);
    // SAFETY: the context is the kernel's, and here nothing moves the frame.
    let frame = unsafe { Frame::of_context(context.ctx) };
    match live::destination(&frame, live)? {
        Destination::Member(member) => {
            let flow = PROGRESS.get(traffic.lane as u32)?.flow;
            live::note(flow, member)
        }
        Destination::Router | Destination::Nobody => Some(()),
    }
}
