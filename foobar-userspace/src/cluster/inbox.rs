//! A peer's messages, each once and in the order in which they were sent, whatever the way made of them. Pure.
//!
//! Within one TCP connection nothing is lost, late or twice; the automaton does not rely on it.

use std::collections::BTreeMap;

use super::message::{Envelope, Message};

/// So many messages wait for one that is late; then it counts as lost.
const MOST_WAITING: usize = 1 << 14;
/// After so many pulses a late message counts as lost.
const PATIENCE: u32 = 2;

/// A number so far ahead that no honest peer has come to it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("message {got} came where {next} was to come")]
pub struct Nonsense {
    /// The number that came.
    pub got: u64,
    /// The number to come.
    pub next: u64,
}

/// The messages of a session that have come and are not taken yet.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    next: u64,
    waiting: BTreeMap<u64, Message>,
    pulses_waited: u32,
}

impl Inbox {
    /// A message has come.
    ///
    /// # Errors
    /// Where its number is nonsense.
    pub fn put(&mut self, envelope: Envelope) -> Result<(), Nonsense> {
        let Envelope { sequence, message } = envelope;
        if sequence < self.next {
            return Ok(());
        }
        if sequence - self.next > MOST_WAITING as u64 * 64 {
            return Err(Nonsense {
                got: sequence,
                next: self.next,
            });
        }
        if sequence > self.next && matches!(message, Message::Pulse(_)) {
            self.pulses_waited += 1;
        }
        self.waiting.insert(sequence, message);
        Ok(())
    }

    /// The next message in order.
    pub fn take(&mut self) -> Option<Message> {
        let message = self.waiting.remove(&self.next)?;
        self.next += 1;
        self.pulses_waited = 0;
        Some(message)
    }

    /// Whether a message is lost: others have waited for it for too long. They are given up with it.
    pub fn give_up(&mut self) -> bool {
        let lost = self.pulses_waited >= PATIENCE || self.waiting.len() > MOST_WAITING;
        if lost && let Some((last, _)) = self.waiting.pop_last() {
            self.waiting.clear();
            self.next = last + 1;
            self.pulses_waited = 0;
        }
        lost
    }

    /// The number of the message that is to be taken next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::message::{Digest, Pulse};

    fn numbered(sequence: u64) -> Envelope {
        Envelope {
            sequence,
            message: Message::Pull,
        }
    }

    fn pulse(sequence: u64) -> Envelope {
        Envelope {
            sequence,
            message: Message::Pulse(Pulse {
                configuration: Digest::from([0; 16]),
                ready: true,
            }),
        }
    }

    #[test]
    fn messages_are_taken_in_order_and_once() {
        let mut inbox = Inbox::default();
        for sequence in [1, 1, 2] {
            inbox.put(numbered(sequence)).unwrap();
            assert_eq!(inbox.take(), None);
        }
        inbox.put(numbered(0)).unwrap();
        let taken = std::iter::from_fn(|| inbox.take()).count();
        assert_eq!((taken, inbox.next()), (3, 3));
        inbox.put(numbered(1)).unwrap();
        assert_eq!(inbox.take(), None, "it came before");
        assert!(!inbox.give_up());
    }

    #[test]
    fn a_message_that_others_wait_for_over_two_pulses_is_lost() {
        let mut inbox = Inbox::default();
        inbox.put(numbered(1)).unwrap();
        inbox.put(pulse(2)).unwrap();
        assert!(!inbox.give_up());
        inbox.put(pulse(3)).unwrap();
        assert!(inbox.give_up());
        inbox.put(numbered(4)).unwrap();
        assert_eq!((inbox.take(), inbox.next()), (Some(Message::Pull), 5));
    }

    #[test]
    fn numbers_far_ahead_are_nonsense() {
        assert!(Inbox::default().put(numbered(u64::MAX)).is_err());
    }
}
