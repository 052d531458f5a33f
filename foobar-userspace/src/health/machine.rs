//! The judgement on one target: rise and fall, soft and hard down. Pure: results and times go in, states and
//! delays come out; it knows no clock, no socket and no chance.
//!
//! Counting is consecutive, never cumulative: one result to the contrary starts a run anew.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::Serialize;

use crate::config::Timing;

/// By how much a delay is stretched or shortened at most.
const JITTER: f64 = 0.1;

/// What is held to be true of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// New, not judged yet: up from its first pass, down after `fall` failures. A new backend takes no new
    /// flows while it is unknown, except when no backend of its VIP has been judged yet.
    Unknown,
    /// It serves.
    Up,
    /// Its check fails, but its host was heard from within `hard_after`: new flows move, established ones
    /// stay.
    SoftDown,
    /// Nothing but silence for `hard_after`: its established flows are lost to it as well.
    HardDown,
}

/// Whether a failed check heard anything at all from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// A refusal, a wrong status, a TLS alert, a connection that then went quiet.
    Answered,
    /// No TCP answer: a timeout while connecting, host or network unreachable.
    Silent,
}

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed(Contact),
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// A new target's first pass.
    Up,
    /// `fall` consecutive failures; or a hard-down host that answers again without passing.
    SoftDown,
    /// Silence for `hard_after`.
    HardDown,
    /// `rise` consecutive passes of a target that was down.
    Recovered,
}

/// A run of silent failures.
#[derive(Debug, Clone, Copy)]
struct Silence {
    /// When the first of them ended.
    since: Duration,
    checks: u32,
}

/// The state of one target and the runs that may change it.
#[derive(Debug, Clone)]
pub struct Machine {
    timing: Timing,
    state: State,
    /// Consecutive passes.
    passes: u32,
    /// Consecutive failures.
    failures: u32,
    /// Consecutive results with an answer of any kind.
    answers: u32,
    silence: Option<Silence>,
}

impl Machine {
    /// Starts from a state: [`State::Unknown`] for a new target, another where a daemon takes over one that
    /// was judged before. The runs start empty.
    #[must_use]
    pub fn new(timing: Timing, initial: State) -> Self {
        Self {
            timing,
            state: initial,
            passes: 0,
            failures: 0,
            answers: 0,
            silence: None,
        }
    }

    /// The state in force.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Takes one result; `now` is when the check ended, since an origin of the caller's.
    pub fn on(&mut self, now: Duration, verdict: Verdict) -> Option<Transition> {
        match verdict {
            Verdict::Passed => {
                self.passes = self.passes.saturating_add(1);
                self.failures = 0;
            }
            Verdict::Failed(_) => {
                self.passes = 0;
                self.failures = self.failures.saturating_add(1);
            }
        }
        match verdict {
            Verdict::Passed | Verdict::Failed(Contact::Answered) => {
                self.answers = self.answers.saturating_add(1);
                self.silence = None;
            }
            Verdict::Failed(Contact::Silent) => {
                self.answers = 0;
                let silence = self.silence.get_or_insert(Silence {
                    since: now,
                    checks: 0,
                });
                silence.checks = silence.checks.saturating_add(1);
            }
        }
        let before = self.state;
        self.state = self.judge(now);
        match (before, self.state) {
            (before, after) if before == after => None,
            (State::Unknown, State::Up) => Some(Transition::Up),
            (_, State::Up) => Some(Transition::Recovered),
            (_, State::SoftDown) => Some(Transition::SoftDown),
            (_, State::HardDown) => Some(Transition::HardDown),
            (_, State::Unknown) => None,
        }
    }

    fn judge(&self, now: Duration) -> State {
        let fell = self.failures >= self.timing.fall;
        let rose = self.passes >= self.timing.rise;
        match self.state {
            State::Unknown if self.passes > 0 => State::Up,
            State::Unknown | State::Up if fell && self.is_silent(now) => State::HardDown,
            State::Unknown | State::Up if fell => State::SoftDown,
            State::SoftDown | State::HardDown if rose => State::Up,
            State::SoftDown if self.is_silent(now) => State::HardDown,
            State::HardDown if self.answers >= self.timing.rise => State::SoftDown,
            state => state,
        }
    }

    /// Silent for long enough, and in enough checks that a pause of the daemon cannot pass for silence.
    fn is_silent(&self, now: Duration) -> bool {
        self.silence.is_some_and(|silence| {
            silence.checks >= self.timing.fall && now.saturating_sub(silence.since) >= self.timing.hard_after
        })
    }

    /// From the start of the check that just ended, at `now`, to the start of the next.
    ///
    /// `jitter` from -1 to 1 stretches it by up to 10 % either way, so that checks do not march in step.
    #[must_use]
    pub fn delay(&self, now: Duration, jitter: f64) -> Duration {
        let in_doubt = match self.state {
            State::Unknown => true,
            State::Up => self.failures > 0,
            State::SoftDown => self.passes > 0,
            State::HardDown => self.answers > 0,
        };
        let delay = match self.state {
            _ if in_doubt => self.timing.doubt_interval,
            State::Unknown | State::Up => self.timing.interval,
            State::SoftDown => self.until_hard(now).min(self.timing.down_interval),
            State::HardDown => self.timing.down_interval,
        };
        let jitter = if jitter.is_finite() {
            jitter.clamp(-1.0, 1.0)
        } else {
            0.0
        };
        delay.mul_f64(1.0 + JITTER * jitter)
    }

    /// A silent target is checked again when its silence may have lasted long enough, not up to a whole
    /// `down_interval` later.
    fn until_hard(&self, now: Duration) -> Duration {
        self.silence.map_or(Duration::MAX, |silence| {
            let lasted = now.saturating_sub(silence.since);
            self.timing
                .hard_after
                .saturating_sub(lasted)
                .max(self.timing.doubt_interval)
        })
    }
}
