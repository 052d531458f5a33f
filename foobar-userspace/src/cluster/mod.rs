//! What balancers agree on between them: who owns which VIP, and where its flows belong.
//!
//! `vrrp` elects the owner on one layer 2 segment. It knows no slots, members or health: it is given groups of VIPs,
//! and reasons to want them less; it renews the leases that the data plane answers by. `bgp` tells routers which VIPs
//! are here, for networks in which routers choose the balancer; it does not know why they are.
//!
//! The other modules are how balancers come to steer alike: what they say to each other (`message`, `name`), in what
//! order it is taken (`inbox`), the common judgement on health (`health`), the session with a peer (`agreement`), peers
//! that steer by something else (`differences`), and slots told and taken in (`replica`). They are pure: messages and times in, messages and changes out. `link` carries
//! the messages; `lb` lets them meet members, slots and notes.

pub mod agreement;
pub mod bgp;
pub mod differences;
pub mod health;
pub mod inbox;
pub mod link;
pub mod message;
pub mod name;
pub mod renewals;
pub mod replica;
pub mod vrrp;
