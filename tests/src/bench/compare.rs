//! A run against a saved one.

use super::report::{Measured, count, figure, table};

/// What a row may lose without being called slower: the noise of the fastest of many rounds.
const TOLERATED: f64 = 1.10;
/// The same in nanoseconds, for rows of which a tenth is next to nothing.
const TOLERATED_NS: f64 = 1.0;

/// A row now and then.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The saved row.
    pub then: &'a Measured,
    /// The same now.
    pub now: &'a Measured,
}

impl Pair<'_> {
    /// Whether it got slower: in nanoseconds and as a multiple of the floor, for a machine that is slower as
    /// a whole says nothing about the program. One that is no longer valid counts as slower.
    pub fn is_slower(&self) -> bool {
        let (Some(then), Some(floors_then)) = (self.then.net_ns_min, self.then.times_floor()) else {
            return false;
        };
        let (Some(now), Some(floors_now)) = (self.now.net_ns_min, self.now.times_floor()) else {
            return true;
        };
        now > then * TOLERATED && now > then + TOLERATED_NS && floors_now > floors_then * TOLERATED
    }
}

/// The rows that both runs have.
pub fn pairs<'a>(then: &'a [Measured], now: &'a [Measured]) -> Vec<Pair<'a>> {
    now.iter()
        .filter_map(|now| {
            let then = then.iter().find(|then| then.is_row_of(now))?;
            Some(Pair { then, now })
        })
        .collect()
}

/// The comparison for people.
pub fn rendered(pairs: &[Pair<'_>]) -> String {
    table(
        [
            "case",
            "flows",
            "VIPs",
            "backends",
            "then",
            "now",
            "x floor then",
            "now",
            "",
        ],
        pairs.iter().map(|pair| {
            [
                pair.now.case.clone(),
                count(pair.now.flows),
                pair.now.vips.to_string(),
                pair.now.backends.to_string(),
                figure(pair.then.net_ns_min),
                figure(pair.now.net_ns_min),
                figure(pair.then.times_floor()),
                figure(pair.now.times_floor()),
                if pair.is_slower() { "SLOWER" } else { "" }.to_owned(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(net: Option<f64>, floor: f64) -> Measured {
        Measured {
            case: "v4".to_owned(),
            flows: 1,
            vips: 1,
            slots: 4,
            backends: 3,
            net_ns_min: net,
            net_ns_median: net,
            floor_ns_min: Some(floor),
            wrapper_ns_min: Some(30.0),
            rounds: 21,
            invalid: None,
        }
    }

    fn slower(then: Measured, now: Measured) -> bool {
        let (then, now) = ([then], [now]);
        let pairs = pairs(&then, &now);
        assert_eq!(pairs.len(), 1);
        pairs[0].is_slower()
    }

    #[test]
    fn slower_is_more_than_noise() {
        assert!(slower(row(Some(20.0), 8.0), row(Some(25.0), 8.0)));
        assert!(!slower(row(Some(20.0), 8.0), row(Some(21.0), 8.0)));
        assert!(!slower(row(Some(5.0), 8.0), row(Some(5.9), 8.0)));
        assert!(slower(row(Some(20.0), 8.0), row(None, 8.0)));
        assert!(!slower(row(None, 8.0), row(Some(20.0), 8.0)));
    }

    #[test]
    fn a_slower_machine_is_not_a_slower_program() {
        assert!(!slower(row(Some(20.0), 8.0), row(Some(40.0), 16.0)));
    }

    #[test]
    fn another_row_is_not_compared() {
        let then = [row(Some(20.0), 8.0)];
        let mut now = [row(Some(20.0), 8.0)];
        now[0].flows = 2;
        assert!(pairs(&then, &now).is_empty());
    }
}
