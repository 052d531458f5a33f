//! Which notes are to be told of again: those used well after the last use that peers know of. Pure; times are ticks.
//!
//! A peer's copy of a note may lag by T/4 (a note counts for 5/4 T). A sweep says which notes are due, those whose use
//! is T/8 past the one that is known; with sweeps at most T/8 apart no copy lags by more than T/4.
//!
//! What peers know is kept by the note's place in the array of notes. The first that is seen of a note there is no
//! reason to tell of it: it was told of when it was made, which was after the sweep before, or heard.

use foobar_common::note::FlowKey;
use foobar_common::time::{Ticks, age};

/// What peers know of the notes.
#[derive(Clone, Debug)]
pub struct Renewals {
    places: Vec<Known>,
    /// When the sweep before this one began, and this one.
    before: Ticks,
    begun: Ticks,
}

/// What peers know of a place's note.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Tells the flow from the one that had the place before; 0: nothing is known of any.
    flow: u32,
    /// The last use that peers know of.
    used: Ticks,
}

impl Renewals {
    /// For an array of so many places. Notes that are there already are taken as told: a peer that joins is told of all.
    #[must_use]
    pub fn new(places: u32, now: Ticks) -> Self {
        Self {
            places: vec![Known::default(); places as usize],
            before: now,
            begun: now,
        }
    }

    /// A sweep begins.
    pub const fn begin(&mut self, now: Ticks) {
        self.before = self.begun;
        self.begun = now;
    }

    /// Whether peers are to be told of the note at a place, of the flow with this key, used then, in a VIP with this
    /// idle time T in ticks. If so it is taken as told.
    pub fn due(&mut self, place: u32, key: &FlowKey, used: Ticks, idle: u32) -> bool {
        let Some(known) = self.places.get_mut(place as usize) else {
            return false;
        };
        let flow = identity(key);
        if known.flow != flow {
            // Made since the sweep before: its first use was told of then.
            let used = if is_later(used, self.before) {
                self.before
            } else {
                used
            };
            *known = Known { flow, used };
        }
        let due = is_later(used, known.used) && age(used, known.used) > idle / 8;
        if due {
            known.used = used;
        }
        due
    }

    /// Peers know of this use: one of them has told of it.
    pub fn known(&mut self, place: u32, key: &FlowKey, used: Ticks) {
        if let Some(known) = self.places.get_mut(place as usize) {
            let flow = identity(key);
            if known.flow != flow || is_later(used, known.used) {
                *known = Known { flow, used };
            }
        }
    }
}

const fn is_later(one: Ticks, other: Ticks) -> bool {
    one.wrapping_sub(other).cast_signed() > 0
}

/// 32 bits of a key, never 0. Two flows that follow one another in a place and share them are told apart by nothing; the
/// later one is then told of once more, or an eighth of T later, than it would have to be.
fn identity(key: &FlowKey) -> u32 {
    let [first, second, tail] = key.words();
    let mixed = (first.rotate_left(23) ^ second ^ tail.rotate_left(41)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use foobar_common::address::Address;

    const T: u32 = 800_000;
    const EIGHTH: u32 = T / 8;

    fn key(n: u16) -> FlowKey {
        FlowKey {
            source: Address::from(std::net::Ipv4Addr::new(198, 51, 100, 7)),
            source_port_be: n.to_be(),
            destination_port_be: 443u16.to_be(),
            vip: 3,
        }
    }

    #[test]
    fn a_note_is_due_when_its_use_is_an_eighth_of_t_past_the_known_one() {
        let mut renewals = Renewals::new(4, 0);
        renewals.known(2, &key(1), 100);
        assert!(!renewals.due(2, &key(1), 100 + EIGHTH, T));
        assert!(renewals.due(2, &key(1), 101 + EIGHTH, T));
        assert!(!renewals.due(2, &key(1), 101 + EIGHTH, T), "it is told");
        assert!(!renewals.due(2, &key(1), 50, T), "a use may be written late");
        assert!(renewals.due(2, &key(1), 102 + 2 * EIGHTH, T));
    }

    #[test]
    fn what_a_peer_says_need_not_be_told_back() {
        let mut renewals = Renewals::new(4, 0);
        renewals.known(0, &key(1), 100);
        renewals.known(0, &key(1), 100 + 3 * EIGHTH);
        assert!(!renewals.due(0, &key(1), 100 + 3 * EIGHTH, T));
        renewals.known(0, &key(1), 100);
        assert!(
            !renewals.due(0, &key(1), 100 + 4 * EIGHTH, T),
            "an earlier use is no news"
        );
    }

    #[test]
    fn a_place_that_another_flow_has_got_begins_anew() {
        let mut renewals = Renewals::new(4, 0);
        renewals.known(0, &key(1), 100);
        renewals.begin(200);
        renewals.begin(200 + EIGHTH);
        assert!(
            !renewals.due(0, &key(2), 200 + EIGHTH, T),
            "told when it was made"
        );
        assert!(renewals.due(0, &key(2), 201 + EIGHTH, T));
        assert!(
            !renewals.due(0, &key(1), 200 + EIGHTH, T),
            "and told again when it was made again"
        );
    }

    /// Sweeps an eighth of T apart, a flow with packets all the time: what peers know never lags by more than T/4.
    #[test]
    fn no_copy_lags_by_more_than_a_quarter() {
        let start = u32::MAX - 3 * EIGHTH; // across the wrap
        let mut renewals = Renewals::new(1, start);
        let mut known = start.wrapping_add(7);
        for sweep in 1..50 {
            let now = start.wrapping_add(sweep * EIGHTH);
            renewals.begin(now);
            assert!(age(now, known) <= T / 4, "sweep {sweep}");
            if renewals.due(0, &key(1), now, T) {
                known = now;
            }
        }
        assert_ne!(known, start.wrapping_add(7));
    }

    #[test]
    fn a_place_that_is_not_there_is_nobodys() {
        let mut renewals = Renewals::new(1, 0);
        renewals.known(9, &key(1), 100);
        assert!(!renewals.due(9, &key(1), 10 * T, T));
    }
}
