//! The app servers, and which of them is asked next: the one with the fewest requests under way, in turn
//! among equals; one that could not be reached a moment ago only when the others fail.
//!
//! Opens no connection: it is told how the attempts went.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an app server that could not be reached is asked last.
const SHUNNED_FOR: Duration = Duration::from_secs(2);

/// The app servers of one configuration.
#[derive(Debug)]
pub struct Upstreams {
    members: Vec<Arc<Upstream>>,
    turn: AtomicUsize,
}

/// One app server.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    pending: AtomicUsize,
    unreachable_at: Mutex<Option<Instant>>,
}

/// A request under way; dropped when its answer has been passed on.
#[derive(Debug)]
pub struct Pending(Arc<Upstream>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// Counts a request until the returned value is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Pending {
        self.pending.fetch_add(1, Ordering::Relaxed);
        Pending(Arc::clone(self))
    }

    /// Notes that a connection could, or could not, be made.
    pub fn reached(&self, failure: Option<Instant>) {
        *self.unreachable_at.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn is_shunned(&self, now: Instant) -> bool {
        let since = *self.unreachable_at.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| now.saturating_duration_since(since) < SHUNNED_FOR)
    }
}

impl Upstreams {
    /// The app servers at these addresses. Those that `before` has too keep their counts.
    #[must_use]
    pub fn new(addresses: &[SocketAddr], before: Option<&Self>) -> Self {
        let known = |address: &SocketAddr| before?.members.iter().find(|member| member.address == *address);
        let make = |address: &SocketAddr| {
            known(address).cloned().unwrap_or_else(|| {
                Arc::new(Upstream {
                    address: *address,
                    pending: AtomicUsize::new(0),
                    unreachable_at: Mutex::new(None),
                })
            })
        };
        Self {
            members: addresses.iter().map(make).collect(),
            turn: AtomicUsize::new(0),
        }
    }

    /// All of them, in the order in which a request should try them.
    #[must_use]
    pub fn candidates(&self, now: Instant) -> Vec<Arc<Upstream>> {
        let mut members = self.members.clone();
        if !members.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % members.len();
            members.rotate_left(turn);
        }
        members.sort_by_cached_key(|member| (member.is_shunned(now), member.pending.load(Ordering::Relaxed)));
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> [SocketAddr; 3] {
        [31, 32, 33].map(|host| SocketAddr::from(([198, 51, 100, host], 8000)))
    }

    fn first(upstreams: &Upstreams, now: Instant) -> u16 {
        match upstreams.candidates(now)[0].address.ip() {
            std::net::IpAddr::V4(address) => u16::from(address.octets()[3]),
            std::net::IpAddr::V6(_) => 0,
        }
    }

    #[test]
    fn equals_take_turns_and_the_least_busy_comes_first() {
        let (upstreams, now) = (Upstreams::new(&addresses(), None), Instant::now());
        assert_eq!([(); 4].map(|()| first(&upstreams, now)), [31, 32, 33, 31]);
        let busy: Vec<_> = [0, 1]
            .iter()
            .map(|&index| upstreams.members[index].begin())
            .collect();
        assert_eq!([(); 3].map(|()| first(&upstreams, now)), [33, 33, 33]);
        drop(busy);
        let firsts = [(); 3].map(|()| first(&upstreams, now));
        assert!(firsts.contains(&31), "{firsts:?}");
    }

    #[test]
    fn the_unreachable_come_last_for_a_while() {
        let (upstreams, now) = (Upstreams::new(&addresses(), None), Instant::now());
        let busy = upstreams.members[1].begin();
        upstreams.members[0].reached(Some(now));
        for _ in 0..3 {
            assert_eq!(
                upstreams.candidates(now)[2].address,
                addresses()[0],
                "even after the busy one"
            );
        }
        let later = now + SHUNNED_FOR;
        let firsts = [(); 3].map(|()| first(&upstreams, later));
        assert!(firsts.contains(&31), "{firsts:?}");
        drop(busy);
    }

    #[test]
    fn a_reload_keeps_the_counts_of_those_that_stay() {
        let before = Upstreams::new(&addresses(), None);
        let _pending = before.members[2].begin();
        let after = Upstreams::new(&addresses()[1..], Some(&before));
        assert_eq!(after.members.len(), 2);
        assert_eq!(after.members[1].pending.load(Ordering::Relaxed), 1);
    }
}
