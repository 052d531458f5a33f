//! How long to wait before BIRD is started again. Pure.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// One that has run for so long did not fail for the reason that made it fail before.
const SOUND: Duration = Duration::from_secs(30);

/// Waits that double with each failure in a row.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Backoff {
    /// How long to wait after it has ended.
    pub(super) fn after(&mut self, ran_for: Duration) -> Duration {
        if ran_for >= SOUND {
            self.next = SHORTEST;
        }
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_limit_and_begin_anew_after_a_sound_run() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9)
            .map(|_| backoff.after(Duration::ZERO).as_millis())
            .collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(backoff.after(SOUND), SHORTEST);
        assert_eq!(backoff.after(Duration::from_secs(1)), 2 * SHORTEST);
    }
}
