//! What balancers agree on between them: who owns which VIP.
//!
//! `vrrp` does so on one layer 2 segment. It knows no slots, members or health: it is given groups of VIPs, and
//! reasons to want them less; it renews the leases that the data plane answers by.

pub mod vrrp;
