//! Changes of a balancer's backends, drawn from a seed: added, drained, reweighted, removed.

use std::collections::BTreeMap;
use std::fmt;

use crate::pattern::Random;
use crate::world::Backend;

/// The weight that a backend is added with.
pub const WEIGHT: u16 = 100;
/// So many backends take new streams at any time.
const FEWEST_SERVING: usize = 2;

/// A backend of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its weight in the file; 0 drains it.
    pub weight: u16,
    /// Whether the operator drains it.
    pub drained: bool,
}

impl Member {
    /// A member that takes its share.
    pub const fn serving() -> Self {
        Self {
            weight: WEIGHT,
            drained: false,
        }
    }

    /// Whether it takes new streams.
    pub const fn serves(self) -> bool {
        self.weight > 0 && !self.drained
    }
}

/// The backends of a configuration.
pub type Backends = BTreeMap<Backend, Member>;

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A backend comes into the file.
    Add(Backend),
    /// The operator drains a backend.
    Drain(Backend),
    /// The operator takes that back.
    Undrain(Backend),
    /// A backend gets another weight in the file.
    Reweight(Backend, u16),
    /// A backend goes from the file.
    Remove(Backend),
}

impl Change {
    /// Makes the change.
    pub fn apply(self, backends: &mut Backends) {
        match self {
            Self::Add(backend) => {
                backends.insert(backend, Member::serving());
            }
            Self::Drain(backend) => Self::alter(backends, backend, |member| member.drained = true),
            Self::Undrain(backend) => Self::alter(backends, backend, |member| member.drained = false),
            Self::Reweight(backend, weight) => {
                Self::alter(backends, backend, |member| member.weight = weight)
            }
            Self::Remove(backend) => {
                backends.remove(&backend);
            }
        }
    }

    fn alter(backends: &mut Backends, backend: Backend, change: impl FnOnce(&mut Member)) {
        if let Some(member) = backends.get_mut(&backend) {
            change(member);
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(backend) => write!(f, "+b{backend}"),
            Self::Drain(backend) => write!(f, "drain-b{backend}"),
            Self::Undrain(backend) => write!(f, "undrain-b{backend}"),
            Self::Reweight(backend, weight) => write!(f, "b{backend}={weight}"),
            Self::Remove(backend) => write!(f, "-b{backend}"),
        }
    }
}

/// The next change of `backends`, of a world that has backends 1 to `all`.
pub fn next_change(random: &mut Random, backends: &Backends, all: Backend) -> Change {
    let which = |is_so: fn(&Member) -> bool| -> Vec<Backend> {
        backends
            .iter()
            .filter(|&(_, member)| is_so(member))
            .map(|(&backend, _)| backend)
            .collect()
    };
    let serving = which(|member| member.serves());
    let drained = which(|member| member.drained);
    let idle = which(|member| member.weight == 0 && !member.drained);
    let outside: Vec<Backend> = (1..=all)
        .filter(|backend| !backends.contains_key(backend))
        .collect();
    let mut possible = Vec::new();
    if let Some(&backend) = random.choose(&outside) {
        // Twice: two changes take backends away.
        possible.extend([Change::Add(backend); 2]);
    }
    if let Some(&backend) = random.choose(&drained) {
        possible.push(Change::Undrain(backend));
    }
    if let Some(&backend) = random.choose(&idle) {
        possible.extend([Change::Reweight(backend, WEIGHT), Change::Remove(backend)]);
    }
    if let Some(&backend) = random.choose(&serving) {
        possible.push(Change::Reweight(backend, random.between(20, 256) as u16));
        if serving.len() > FEWEST_SERVING {
            possible.extend([
                Change::Drain(backend),
                Change::Remove(backend),
                Change::Reweight(backend, 0),
            ]);
        }
    }
    random.choose(&possible).copied().unwrap_or(Change::Add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn churn_makes_every_change_and_keeps_enough_backends() {
        let mut random = Random::new(1, 0);
        let mut backends: Backends = (1..=4).map(|backend| (backend, Member::serving())).collect();
        let mut seen = [0; 6];
        for _ in 0..600 {
            let change = next_change(&mut random, &backends, 8);
            seen[match change {
                Change::Add(_) => 0,
                Change::Drain(_) => 1,
                Change::Undrain(_) => 2,
                Change::Reweight(_, 0) => 3,
                Change::Reweight(..) => 4,
                Change::Remove(_) => 5,
            }] += 1;
            let before = backends.clone();
            change.apply(&mut backends);
            assert!(
                before != backends || matches!(change, Change::Reweight(..)),
                "{change}"
            );
            assert!(backends.values().filter(|member| member.serves()).count() >= FEWEST_SERVING);
            assert!(backends.keys().all(|&backend| (1..=8).contains(&backend)));
        }
        assert!(seen.iter().all(|&times| times > 40), "{seen:?}");
    }
}
