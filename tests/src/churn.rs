//! Changes of a balancer's backends, drawn from a seed: added, drained, reweighted, removed.

use std::collections::BTreeMap;
use std::fmt;

use crate::pattern::Random;
use crate::world::Backend;

/// The weight that a backend is added with.
pub const WEIGHT: u16 = 100;
/// So many backends take new streams at any time.
const FEWEST_SERVING: usize = 2;

/// The backends of a configuration, with their weights; weight 0 is drained.
pub type Backends = BTreeMap<Backend, u16>;

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A backend that was not in the file, or was drained, takes streams.
    Add(Backend),
    /// A backend keeps what it has.
    Drain(Backend),
    /// A backend gets another weight.
    Reweight(Backend, u16),
    /// A backend goes from the file.
    Remove(Backend),
}

impl Change {
    /// Makes the change.
    pub fn apply(self, backends: &mut Backends) {
        match self {
            Self::Add(backend) => backends.insert(backend, WEIGHT),
            Self::Drain(backend) => backends.insert(backend, 0),
            Self::Reweight(backend, weight) => backends.insert(backend, weight),
            Self::Remove(backend) => backends.remove(&backend),
        };
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(backend) => write!(f, "+b{backend}"),
            Self::Drain(backend) => write!(f, "~b{backend}"),
            Self::Reweight(backend, weight) => write!(f, "b{backend}={weight}"),
            Self::Remove(backend) => write!(f, "-b{backend}"),
        }
    }
}

/// The next change of `backends`, of a world that has backends 1 to `all`.
pub fn next_change(random: &mut Random, backends: &Backends, all: Backend) -> Change {
    let serving: Vec<Backend> = backends
        .iter()
        .filter(|&(_, &weight)| weight > 0)
        .map(|(&backend, _)| backend)
        .collect();
    let spare: Vec<Backend> = (1..=all).filter(|backend| !serving.contains(backend)).collect();
    let add = random.choose(&spare).map(|&backend| Change::Add(backend));
    let Some(&backend) = random.choose(&serving) else {
        return add.unwrap_or(Change::Add(1));
    };
    let may_stop = serving.len() > FEWEST_SERVING;
    match random.between(1, 4) {
        1 if may_stop => Change::Drain(backend),
        2 if may_stop => Change::Remove(backend),
        3 => Change::Reweight(backend, random.between(20, 256) as u16),
        _ => add.unwrap_or(Change::Reweight(backend, WEIGHT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn churn_makes_every_change_and_keeps_enough_backends() {
        let mut random = Random::new(1, 0);
        let mut backends: Backends = (1..=4).map(|backend| (backend, WEIGHT)).collect();
        let mut seen = [0; 4];
        for _ in 0..400 {
            let change = next_change(&mut random, &backends, 8);
            seen[match change {
                Change::Add(_) => 0,
                Change::Drain(_) => 1,
                Change::Reweight(..) => 2,
                Change::Remove(_) => 3,
            }] += 1;
            change.apply(&mut backends);
            assert!(backends.values().filter(|&&weight| weight > 0).count() >= FEWEST_SERVING);
            assert!(backends.keys().all(|&backend| (1..=8).contains(&backend)));
        }
        assert!(seen.iter().all(|&times| times > 40), "{seen:?}");
    }
}
