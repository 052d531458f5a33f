//! What the slots went through, judged from the pinned maps once in a while.

use std::collections::HashSet;
use std::net::SocketAddr;

use anyhow::Result;
use foobar_common::slot::{Phase, Slot};

use crate::pins::{Pins, SlotRange};
use crate::streams::client::Held;

/// Slots by their phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// No history.
    pub settled: usize,
    /// Opened by a peer.
    pub open: usize,
    /// Changed less than T ago.
    pub moving: usize,
    /// T has passed.
    pub moved: usize,
}

impl Phases {
    /// Counts slots.
    pub fn of(slots: &[Slot]) -> Self {
        let count = |phases: &[Phase]| slots.iter().filter(|slot| phases.contains(&slot.phase())).count();
        Self {
            settled: count(&[Phase::Settled]),
            open: count(&[Phase::Open]),
            moving: count(&[Phase::Moving]),
            moved: count(&[Phase::Fresh, Phase::Moved]),
        }
    }
}

/// How far a slot has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Seen {
    #[default]
    Nothing,
    Moving,
    Moved,
    SettledAgain,
}

/// Remembers what the slots of one service went through.
pub struct Watch {
    range: SlotRange,
    port: u16,
    seen: Vec<Seen>,
    most: Phases,
    changed: HashSet<SocketAddr>,
}

impl Watch {
    /// Begins to watch.
    pub fn new(range: SlotRange, port: u16) -> Self {
        Self {
            range,
            port,
            seen: vec![Seen::default(); range.all().count()],
            most: Phases::default(),
            changed: HashSet::new(),
        }
    }

    /// Looks at all slots, and at the owners of those that held streams belong to.
    pub fn look(&mut self, pins: &Pins, held: &[Held]) -> Result<()> {
        let slots = pins.slots(self.range)?;
        for (seen, slot) in self.seen.iter_mut().zip(&slots) {
            *seen = match (*seen, slot.phase()) {
                (Seen::Nothing, Phase::Moving) => Seen::Moving,
                (Seen::Moving, Phase::Fresh | Phase::Moved) => Seen::Moved,
                (Seen::Moved, Phase::Settled) => Seen::SettledAgain,
                (seen, _) => seen,
            };
        }
        let now = Phases::of(&slots);
        self.most = Phases {
            settled: self.most.settled.max(now.settled),
            open: self.most.open.max(now.open),
            moving: self.most.moving.max(now.moving),
            moved: self.most.moved.max(now.moved),
        };
        for stream in self.elsewhere(pins, held)? {
            self.changed.insert(stream.local);
        }
        Ok(())
    }

    /// The streams whose slot belongs to another backend than the one that serves them.
    pub fn elsewhere(&self, pins: &Pins, held: &[Held]) -> Result<Vec<Held>> {
        let mut elsewhere = Vec::new();
        for stream in held {
            if pins.owner(self.range.of_flow(stream.local, self.port))? != Some(stream.backend) {
                elsewhere.push(*stream);
            }
        }
        Ok(elsewhere)
    }

    /// How many of the streams were seen to have their slot owned by another backend.
    pub fn changed(&self, held: &[Held]) -> usize {
        held.iter()
            .filter(|stream| self.changed.contains(&stream.local))
            .count()
    }

    /// The most slots that were seen in each phase at a time.
    pub const fn most(&self) -> Phases {
        self.most
    }

    /// How many slots were seen moving, then moved, then settled.
    pub fn settled_again(&self) -> usize {
        self.seen
            .iter()
            .filter(|&&seen| seen == Seen::SettledAgain)
            .count()
    }
}
