//! What the balancer answers with in the name of its VIPs, and how often at most.

/// Nanoseconds that an answer to a packet that is too big costs its CPU: 1,000 a second.
pub const TOO_BIG_COST_NS: u64 = 1_000_000;

/// How far ahead of now a CPU's bucket of such answers may be: a burst of 100.
pub const TOO_BIG_DEPTH_NS: u64 = 100 * TOO_BIG_COST_NS;
