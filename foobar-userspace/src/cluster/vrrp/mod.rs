//! VRRP version 3 (RFC 9568) for groups of VIPs: which balancer of a segment answers for them.
//!
//! `packet` is the wire format and `machine` the state machine, both pure; `socket` sends and receives. `standing`
//! says what tracked reasons make of a router, `instance` is a virtual router with its counters, and `speaker` the
//! thread in which all of them run. An instance renews, with each advertisement that was sent, the leases by which
//! the data plane answers for its addresses: a daemon that dies leaves leases that end.
//!
//! A group with addresses of both families has two virtual routers of the same identifier, one a family, which
//! move independently. Accept_Mode (section 6.1) is not a setting: whether Active or not, no packet for a VIP is ever
//! delivered to the balancer's own kernel, and the data plane answers ARP, neighbour solicitations and ping for it.

mod instance;
pub mod machine;
pub mod packet;
mod socket;
mod speaker;
mod standing;

pub use instance::Snapshot;
pub use machine::State;
pub use packet::{Checksum, Interval, MAX_ADDRESSES};
pub use speaker::{Group, Speaker, Told};
pub use standing::Reason;

/// The group that the tests set up.
#[cfg(test)]
fn example() -> crate::config::Vrrp {
    use crate::config::{Lowering, Track, Vrrp};

    Vrrp {
        name: "site".to_owned(),
        router_id: 51,
        priority: 200,
        interval: Interval::centiseconds(10).expect("a multiple of 10 ms"),
        preempt: true,
        preempt_delay: std::time::Duration::ZERO,
        checksum: Checksum::Message,
        link_local: None,
        track: Track {
            no_backend: Lowering::By(50),
            detached: Lowering::Resign,
            canary: Lowering::By(50),
            differing: Lowering::By(0),
        },
    }
}
