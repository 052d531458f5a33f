//! When each exchange of a client began and how long it took, and when which stream broke: what a report's totals
//! cannot say.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::report::Cause;
use crate::world::Backend;

/// Which of a client's streams something happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A held one, by its place; a stream that is opened anew keeps it.
    Held(u32),
    /// One of the short ones.
    Short,
}

/// What took time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From the SYN to a connection.
    Opening,
    /// From a request to its whole answer.
    Exchange,
}

/// Something that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// Which stream's.
    pub of: Of,
    /// What.
    pub step: Step,
    /// When it began, since the record's origin.
    pub at: Duration,
    /// How long it took.
    pub took: Duration,
}

/// A stream that broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which one.
    pub of: Of,
    /// When, since the record's origin.
    pub at: Duration,
    /// Why.
    pub cause: Cause,
    /// Who had answered it, if anybody had.
    pub backend: Option<Backend>,
    /// The client's end, if it was opened at all.
    pub local: Option<SocketAddr>,
}

/// Everything that was recorded, in the order of its end.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// What was done.
    pub timed: Vec<Timed>,
    /// What broke.
    pub broken: Vec<Broken>,
}

/// Records what a client's streams do.
#[derive(Debug)]
pub struct Record {
    origin: Instant,
    first: u32,
    entries: Mutex<Entries>,
}

impl Record {
    /// A record whose times count from `origin`, and whose held streams are numbered from `first` on.
    pub fn new(origin: Instant, first: u32) -> Self {
        Self {
            origin,
            first,
            entries: Mutex::default(),
        }
    }

    /// Held stream `place` of this client, as the record numbers it.
    pub const fn held(&self, place: u32) -> Of {
        Of::Held(self.first + place)
    }

    /// Notes something that began at `start` and has ended just now.
    pub fn timed(&self, of: Of, step: Step, start: Instant, took: Duration) {
        let at = start.saturating_duration_since(self.origin);
        self.change(|entries| entries.timed.push(Timed { of, step, at, took }));
    }

    /// Notes a stream that has broken just now.
    pub fn broken(&self, of: Of, cause: Cause, backend: Option<Backend>, local: Option<SocketAddr>) {
        let at = self.origin.elapsed();
        self.change(|entries| {
            entries.broken.push(Broken {
                of,
                at,
                cause,
                backend,
                local,
            });
        });
    }

    /// Everything so far; the record is empty afterwards.
    pub fn take(&self) -> Entries {
        self.change(std::mem::take)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Entries) -> T) -> T {
        change(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
