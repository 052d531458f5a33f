//! VIPs that move between balancers by VRRP, each claim told as a story on a segment of two balancers, or of one and
//! another implementation's router.

#[path = "vrrp/canary.rs"]
mod canary;
#[path = "vrrp/frr.rs"]
mod frr;
#[path = "vrrp/keepalived.rs"]
mod keepalived;
#[path = "vrrp/pair.rs"]
mod pair;
#[path = "vrrp/story.rs"]
mod story;
