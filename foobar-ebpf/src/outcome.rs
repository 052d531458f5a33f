//! How a packet's path can end.

use foobar_common::counters::Counter;

/// The program did something with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Rewritten for a target behind the interface it came in by.
    Transmit,
    /// Rewritten for a target behind another interface, to which the kernel was told to redirect it.
    Redirect,
    /// Turned into an answer to its sender.
    Answer(Counter),
}

/// The program did nothing with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not for a VIP: the kernel's.
    Pass,
    /// For a VIP, and not to be forwarded, for this reason.
    Drop(Counter),
}
