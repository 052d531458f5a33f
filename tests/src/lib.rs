//! Harness of the tests against the real program and the real lab.
//!
//! A test sets up a [`world::World`] of network namespaces, lets [`streams`] run through it, does one thing
//! to the balancer ([`lb`]), and asserts what the streams' two ends saw. Everything that a world makes bears
//! its owner's process id, goes when the world is dropped, and is swept by the next run if it could not be.
//! Where the whole stack is needed, a test starts a [`lab::Lab`], the one that `cargo xtask up` starts.

pub mod agents;
pub mod artifacts;
pub mod bench;
pub mod bgp;
pub mod chaos;
pub mod churn;
pub mod cluster;
pub mod etcd;
pub mod fuzz;
pub mod lab;
pub mod lb;
pub mod model;
pub mod netns;
pub mod packets;
pub mod pattern;
pub mod pins;
pub mod pktgen;
pub mod process;
pub mod site;
pub mod steady;
pub mod stop;
pub mod streams;
pub mod table;
pub mod takeover;
pub mod vrrp;
pub mod watch;
pub mod world;
