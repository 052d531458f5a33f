//! A reference model of the data plane: what has to become of a packet, by the rules as they are written down
//! and not by the program's code.
//!
//! It parses with etherparse, keeps VIPs, slots, notes and fragments in plain maps, and says of each frame the
//! action, every byte afterwards, every counter and whom it was sent to. It is slow and simple on purpose. It
//! shares with the program what is data (phases, counters' names, members) and nothing that decides: not the
//! parser, not the steering rule, not the hash, not the headers that it puts around packets. Of time it knows what
//! token buckets need ([`Moment`]); lifetimes it doesn't: whoever compares it with the program keeps them away from
//! their ends, or makes notes that are past them.

mod admission;
mod answer;
mod arp;
mod fragment;
mod icmp;
mod ip;
mod link;
mod neighbour;
mod notes;
mod quic;
mod quote;
mod steering;
mod too_big;
mod transport;
mod tunnel;
mod verdict;
mod world;

pub use admission::{Bucket, Limit, Moment, Rate, Served, SourceList};
pub use fragment::Datagram;
pub use notes::{Age, FlowId, Held, Key, Notes, Written};
pub use quic::ConnectionIds;
pub use steering::Owners;
pub use tunnel::{Forward, OuterSource};
pub use verdict::{Expected, Fate, Sent};
pub use world::{Backend, Policy, Service, State, Table, Tracking, VipAddress, World};
