//! Admission: source lists by the longest prefix, and token buckets of new connections.
//!
//! The program's clock has ticks. What it read is known to lie between two readings, so that a bucket is known by the
//! earliest and the latest time at which it is full again; mostly both are one. Where they leave open whether a
//! packet passes, the model takes what the program did, and knows the bucket better from then on.

use std::net::IpAddr;

use foobar_common::counters::Counter;

use super::steering::{hash, octets};
use super::world::{Service, World};

/// What a prefix says of its sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// They are served.
    Yes,
    /// They are not.
    No,
}

/// A source list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceList {
    /// What becomes of a source that no prefix has.
    pub others: Served,
    /// Prefixes by address and length, none of them twice.
    pub prefixes: Vec<(IpAddr, u8, Served)>,
}

impl SourceList {
    fn serves(&self, source: IpAddr) -> bool {
        let longest = self
            .prefixes
            .iter()
            .filter(|(prefix, length, _)| begins_with(source, *prefix, *length))
            .max_by_key(|(_, length, _)| length);
        longest.map_or(self.others, |&(_, _, served)| served) == Served::Yes
    }
}

/// Whether an address has the first `length` bits of a prefix of its own family.
fn begins_with(address: IpAddr, prefix: IpAddr, length: u8) -> bool {
    match (address, prefix) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= u32::from(length)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            differ.leading_zeros() >= u32::from(length)
        }
        _ => false,
    }
}

/// A rate: what one costs, and how many there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds in which one is earned.
    pub cost_ns: u64,
    /// How many a full bucket has.
    pub burst: u64,
}

/// How a service limits new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Its index, which no other service's has.
    pub index: u16,
    /// Of all sources together.
    pub all: Option<Rate>,
    /// Of each source.
    pub source: Option<Rate>,
    /// Bits of an IPv4 address that make it a source.
    pub bits_v4: u8,
    /// Bits of an IPv6 address that do.
    pub bits_v6: u8,
}

/// When a packet came, by the program's clock, and what is needed where that leaves something open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Not before this.
    pub earliest_ns: u64,
    /// Not after this.
    pub latest_ns: u64,
    /// What the program dropped the packet for.
    pub dropped: Option<Counter>,
}

/// A token bucket: when it is full again, as far as that is known. A new one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    earliest_ns: u64,
    latest_ns: u64,
}

impl Bucket {
    /// The fuller of two.
    fn fuller(self, other: Self) -> Self {
        Self {
            earliest_ns: self.earliest_ns.min(other.earliest_ns),
            latest_ns: self.latest_ns.min(other.latest_ns),
        }
    }

    /// As empty as another one, if it is not emptier.
    fn empty_to(&mut self, other: Self) {
        self.earliest_ns = self.earliest_ns.max(other.earliest_ns);
        self.latest_ns = self.latest_ns.max(other.latest_ns);
    }

    /// The bucket after one more, or `None` where there is no room for it: which it would be dropped for as `reason`.
    fn after(&mut self, moment: &Moment, reason: Counter, rate: Rate) -> Option<Self> {
        let wait = rate.cost_ns * (rate.burst - 1);
        let surely = self.latest_ns <= moment.earliest_ns + wait;
        let perhaps = self.earliest_ns <= moment.latest_ns + wait;
        let passes = match (surely, perhaps) {
            (true, _) => true,
            (false, false) => false,
            (false, true) => moment.dropped != Some(reason),
        };
        if !passes {
            // It was emptier than that at the time.
            self.earliest_ns = self.earliest_ns.max(moment.earliest_ns + wait + 1);
            return None;
        }
        let begin = |full: u64, now: u64| full.max(now) + rate.cost_ns;
        Some(Self {
            earliest_ns: begin(self.earliest_ns, moment.earliest_ns),
            latest_ns: begin(self.latest_ns.min(moment.latest_ns + wait), moment.latest_ns),
        })
    }

    /// Takes one out, if there is one.
    pub(super) fn take(&mut self, moment: &Moment, reason: Counter, rate: Rate) -> bool {
        match self.after(moment, reason, rate) {
            Some(after) => {
                *self = after;
                true
            }
            None => false,
        }
    }
}

impl World {
    /// Why a packet of a source is not let in to a service, if it isn't.
    pub(super) fn turns_away(&mut self, service: &Service, source: IpAddr, opens: bool) -> Option<Counter> {
        let denied = service.list.is_some_and(|list| !self.lists[list].serves(source));
        if denied {
            return Some(Counter::DropDenied);
        }
        match service.limit {
            Some(limit) if opens => self.exceeds(&limit, source),
            _ => None,
        }
    }

    /// Which limit one more connection of a source exceeds; else it is charged to both. Whom one of them refuses takes
    /// nothing from the other.
    fn exceeds(&mut self, limit: &Limit, source: IpAddr) -> Option<Counter> {
        let moment = self.moment;
        let mut own = None;
        if let Some(rate) = limit.source {
            let places = self.buckets_of(limit, source);
            let [a, b] = places.map(|place| self.source_buckets[place]);
            let mut fuller = a.fuller(b);
            match fuller.after(&moment, Counter::DropSourceLimit, rate) {
                Some(after) => own = Some((places, after)),
                None => return Some(Counter::DropSourceLimit),
            }
        }
        if let Some(rate) = limit.all {
            let bucket = self.limits.entry(limit.index).or_default();
            if !bucket.take(&moment, Counter::DropSynLimit, rate) {
                return Some(Counter::DropSynLimit);
            }
        }
        if let Some((places, after)) = own {
            for place in places {
                self.source_buckets[place].empty_to(after);
            }
        }
        None
    }

    /// The two buckets of a source: its prefix and the limit choose them.
    fn buckets_of(&self, limit: &Limit, source: IpAddr) -> [usize; 2] {
        let prefix: IpAddr = match source {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(limit.bits_v4)).unwrap_or(0);
                std::net::Ipv4Addr::from_bits(v4.to_bits() & mask).into()
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(limit.bits_v6)).unwrap_or(0);
                std::net::Ipv6Addr::from_bits(v6.to_bits() & mask).into()
            }
        };
        let [first, second] = self.seed;
        let hash = hash(
            [second, first],
            octets(prefix),
            u32::from(limit.index).to_le_bytes(),
        );
        let buckets = self.source_buckets.len() as u64;
        [(hash % buckets) as usize, ((hash >> 32) % buckets) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        cost_ns: 10,
        burst: 3,
    };

    fn at(earliest_ns: u64, latest_ns: u64, dropped: Option<Counter>) -> Moment {
        Moment {
            earliest_ns,
            latest_ns,
            dropped,
        }
    }

    fn takes(bucket: &mut Bucket, moment: Moment) -> bool {
        bucket.take(&moment, Counter::DropSynLimit, RATE)
    }

    #[test]
    fn a_full_bucket_has_its_burst_and_then_one_for_each_cost() {
        let mut bucket = Bucket::default();
        let took = |bucket: &mut Bucket, now| takes(bucket, at(now, now, None));
        assert_eq!(
            [1000; 4].map(|now| took(&mut bucket, now)),
            [true, true, true, false]
        );
        assert!(!took(&mut bucket, 1009));
        assert!(took(&mut bucket, 1010));
        assert!(!took(&mut bucket, 1010));
    }

    #[test]
    fn where_the_clock_leaves_it_open_the_program_decides_and_the_bucket_is_known_better() {
        let mut used_up = Bucket::default();
        for _ in 0..3 {
            assert!(takes(&mut used_up, at(1000, 1000, None)));
        }
        let mut passed = used_up;
        assert!(takes(&mut passed, at(1005, 1015, None)));
        assert!(
            !takes(&mut passed, at(1019, 1019, None)),
            "the next one is earned at 1020"
        );
        let mut refused = used_up;
        let dropped = Some(Counter::DropSynLimit);
        assert!(!takes(&mut refused, at(1005, 1015, dropped)));
        assert!(takes(&mut refused, at(1010, 1010, None)));
        // Of another reason, it passed here.
        let mut other = used_up;
        assert!(takes(&mut other, at(1005, 1015, Some(Counter::DropNoMember))));
    }

    #[test]
    fn the_longest_prefix_of_the_sources_own_family_decides() {
        let prefix = |text: &str, length, served| (text.parse().expect("an address"), length, served);
        let list = SourceList {
            others: Served::Yes,
            prefixes: vec![
                prefix("203.0.113.0", 24, Served::No),
                prefix("203.0.113.77", 32, Served::Yes),
                prefix("2001:db8::", 32, Served::No),
                prefix("0.0.0.0", 1, Served::Yes),
            ],
        };
        let serves = |text: &str| list.serves(text.parse().expect("an address"));
        assert!(serves("203.0.113.77") && serves("203.0.114.1") && serves("2001:db9::1"));
        assert!(!serves("203.0.113.78") && !serves("2001:db8:ffff::"));
    }
}
