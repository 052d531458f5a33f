//! What was done to the balancers, and when.

use std::time::{Duration, Instant};

use serde::Serialize;

/// What an event is to those who read the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// Something went wrong: what stands still from here on counts for it.
    Fault,
    /// It is being put right: a fault's time is over.
    Return,
    /// Anything else that is worth a line in the picture.
    Note,
}

/// Something that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, since the origin.
    pub at: Duration,
    /// What it is.
    pub mark: Mark,
    /// In words.
    pub what: String,
}

/// Events in their order.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// What all times count from.
    pub origin: Instant,
    /// What was done.
    pub events: Vec<Event>,
}

impl Timeline {
    /// An empty one, from now on.
    pub fn begin() -> Self {
        Self {
            origin: Instant::now(),
            events: Vec::new(),
        }
    }

    /// Something begins now.
    pub fn mark(&mut self, mark: Mark, what: impl Into<String>) {
        let (at, what) = (self.origin.elapsed(), what.into());
        self.events.push(Event { at, mark, what });
    }
}

/// From each fault to when it was put right, another came, or everything ended.
pub fn faults(events: &[Event], end: Duration) -> Vec<(Duration, Duration)> {
    let ends = |event: &&Event| event.mark != Mark::Note;
    let of = |(place, event): (usize, &Event)| {
        let until = events[place + 1..]
            .iter()
            .find(ends)
            .map_or(end, |event| event.at);
        (event.mark == Mark::Fault).then_some((event.at, until))
    };
    events.iter().enumerate().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_lasts_until_it_is_put_right_or_the_next_one() {
        let second = Duration::from_secs;
        let marks = [Mark::Fault, Mark::Note, Mark::Return, Mark::Fault, Mark::Fault];
        let events: Vec<Event> = (1..)
            .zip(marks)
            .map(|(at, mark)| Event {
                at: second(at),
                mark,
                what: String::new(),
            })
            .collect();
        assert_eq!(
            faults(&events, second(9)),
            [(1, 3), (4, 5), (5, 9)].map(|(from, to)| (second(from), second(to)))
        );
    }
}
