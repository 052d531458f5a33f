//! What `cargo xtask pktgen` runs: live frames through the balancer's program on a veth at full speed, counted
//! at each point of their way.
//!
//! ```text
//! generator -> lb |=| eth0  balancer       the same veth back: XDP_TX
//!                  \
//!             segment's switch -> b1 |=| b1  receiver
//!                              -> bN |=| bN  receiver
//! ```
//!
//! The generator makes frames by BPF_PROG_TEST_RUN (`BPF_F_TEST_XDP_LIVE_FRAMES`) and redirects them into the
//! balancer's veth. What the balancer transmits comes out of the same veth, where the segment's switch delivers
//! it by its destination's MAC address. The packets are those of the bench's cases ([`case`]), from documentation
//! addresses. Nothing here is a host with a network stack of its own: no other packet is on the way.
//!
//! [`segment`] makes the namespaces, [`frames`] loads the programs and sends; [`veth`] reads what the kernel has
//! counted, and [`counts`] sets it against what the programs have: at every hop, what came has to be what went
//! on and what ended or was lost by a name. [`run`](mod@run) runs a case, [`report`] tells people.

pub mod case;
pub mod counts;
pub mod frames;
pub mod report;
pub mod run;
pub mod segment;
pub mod veth;
