//! What happened to the streams, by cause and by backend.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::world::Backend;

/// Why a stream ended before it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// It was not opened: refused.
    Refused,
    /// It was not opened: nobody answered in time.
    Unanswered,
    /// RST.
    Reset,
    /// FIN, though the client had not closed.
    Closed,
    /// An answer did not come in time.
    Silent,
    /// A byte was wrong, or another backend answered.
    Corrupt,
    /// Any other error of the socket.
    Other,
}

/// Counts of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Streams opened.
    pub opened: u64,
    /// Blocks that were sent and answered.
    pub exchanges: u64,
    /// Bytes checked by the client, headers excluded.
    pub bytes: u64,
    /// Bytes that were wrong at the client.
    pub corrupt_bytes: u64,
    /// The longest time from a block to its whole answer.
    pub longest_stall: Duration,
    /// Exchanges that took longer than a second: one retransmission's first timeouts and more.
    pub stalls: u64,
    /// The longest time that a held stream was silent between two blocks: a busy machine makes it longer than
    /// the load asked for.
    pub longest_gap: Duration,
    /// Streams opened, by the backend that answered.
    pub spread: BTreeMap<Backend, u64>,
    /// Streams that failed, by cause and, where one had answered, by backend.
    pub failures: BTreeMap<(Cause, Option<Backend>), u64>,
    /// When a stream was last refused. (A stream that is closed may notice only at its next exchange.)
    pub last_refusal: Option<Instant>,
    /// The first failures, for people.
    pub examples: Vec<String>,
}

impl Report {
    /// Streams that failed by a cause.
    pub fn failed_by(&self, cause: Cause) -> u64 {
        self.failures
            .iter()
            .filter(|((by, _), _)| *by == cause)
            .map(|(_, count)| count)
            .sum()
    }

    /// Streams that failed, by whatever cause.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Streams of a backend that failed.
    pub fn failed_on(&self, backend: Backend) -> u64 {
        self.failures
            .iter()
            .filter(|((_, on), _)| *on == Some(backend))
            .map(|(_, count)| count)
            .sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "streams opened {}, failed {}; exchanges {}, bytes {}, corrupt bytes {}; over 1 s {}, longest stall {} ms, longest gap {} ms",
            self.opened,
            self.failed(),
            self.exchanges,
            self.bytes,
            self.corrupt_bytes,
            self.stalls,
            self.longest_stall.as_millis(),
            self.longest_gap.as_millis(),
        )?;
        write!(f, "spread:")?;
        for (backend, streams) in &self.spread {
            write!(f, " b{backend} {streams}")?;
        }
        for ((cause, backend), count) in &self.failures {
            match backend {
                Some(backend) => write!(f, "\n{cause:?} on b{backend}: {count}")?,
                None => write!(f, "\n{cause:?}: {count}")?,
            }
        }
        for example in &self.examples {
            write!(f, "\n  {example}")?;
        }
        Ok(())
    }
}
