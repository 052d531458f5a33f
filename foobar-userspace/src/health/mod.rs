//! Whether the backends serve: checks through the path of users' packets, and the judgement on them.
//!
//! A check connects to the *VIP*; its socket's mark tells the data plane which target it is for. This module
//! knows neither steering nor maps: it reports transitions, and the daemon decides what they change (that
//! all backends of a VIP being down takes none of them out, for instance).

mod http;
mod machine;
mod probe;
mod scheduler;

pub use machine::{Contact, Machine, State, Transition, Verdict};
pub use probe::{Failure, Outcome, probe};
pub use scheduler::{CheckStatus, CheckedTarget, HealthEvent, Scheduler};
