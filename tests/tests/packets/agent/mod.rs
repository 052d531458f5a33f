//! The agent's program: out of the tunnel, and to the next candidate. Its other harness is `endpoint`.

mod candidates;
mod decapsulation;
mod refusals;
mod sockets;
