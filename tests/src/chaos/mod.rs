//! What `cargo xtask chaos` runs: two balancers on one segment, a thousand streams through them, and something that
//! goes wrong, again and again. What broke is counted, by cause; how long anything stood still is measured.
//!
//! [`stage`] has the world and the load, [`pair`] the two balancers ([`classic`]: two HAProxies with keepalived),
//! [`scenes`] what is done to them. Of that come [`figures`], a pure matter of what was recorded; [`claims`] judges
//! them, [`report`] and [`picture`] show them.

pub mod claims;
pub mod classic;
pub mod figures;
pub mod interrupt;
pub mod noted;
pub mod pair;
pub mod picture;
pub mod probe;
pub mod report;
pub mod run;
pub mod scenario;
pub mod scenes;
pub mod stage;
pub mod timeline;
