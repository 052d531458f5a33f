//! VIPs that a router is told of by BGP, each claim told as a story of two balancers and the router that the client is
//! behind.

#[path = "bgp/ecmp.rs"]
mod ecmp;
#[path = "bgp/frr.rs"]
mod frr;
#[path = "bgp/hung.rs"]
mod hung;
#[path = "bgp/life.rs"]
mod life;
#[path = "bgp/peering.rs"]
mod peering;
#[path = "bgp/preference.rs"]
mod preference;
#[path = "bgp/story.rs"]
mod story;
#[path = "bgp/withdrawal.rs"]
mod withdrawal;
