//! One virtual router's state machine (RFC 9568 section 6), pure: events and the time come in, actions go out.
//!
//! Times are those of one monotonic clock. What it does beyond the RFC is marked so: a delay before preemption, a
//! gate that keeps a router that is not ready behind any living one, and answering on after giving up, until the
//! successor is heard.

use std::net::IpAddr;
use std::time::Duration;

use super::packet::Interval;

/// What a virtual router is run with; all of it can change at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// What is advertised and compared, 1 to 254. An owner (255) there is not: a VIP is no balancer's own address.
    pub priority: u8,
    /// Advertisement_Interval.
    pub interval: Interval,
    /// Preempt_Mode.
    pub preempt: bool,
    /// How long a lower router is heard before it is preempted. (Not in the RFC.)
    pub preempt_delay: Duration,
    /// Whether it may take over from a living router. One that is not ready takes over only where nobody is heard.
    /// (Not in the RFC.)
    pub ready: bool,
    /// Its own primary address: where its advertisements come from.
    pub address: IpAddr,
}

/// What happens to a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Startup (section 6.4.1).
    Startup,
    /// Startup of a router whose earlier life was Active a moment ago, and whose addresses are still answered for.
    /// (Not in the RFC: there, it would wait as Backup while nobody else takes over.)
    Resume,
    /// Shutdown (sections 6.4.2 and 6.4.3).
    Shutdown,
    /// Nothing can be sent or received any more. (Not in the RFC.)
    Fail,
    /// An operator wants another router to be Active. (Not in the RFC: as if by Shutdown and Startup.)
    Resign,
    /// Time has passed, [`Machine::deadline`] perhaps.
    Timer,
    /// An advertisement for this virtual router has come.
    Advertisement {
        /// Of its sender; 0: the sender gives up.
        priority: u8,
        /// Its sender.
        source: IpAddr,
        /// Max Advertise Interval.
        interval: Interval,
    },
    /// The parameters have changed.
    Changed(Parameters),
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send an advertisement with the own priority. If it is sent, the addresses are owned for [`lease`] from now on.
    Advertise,
    /// Send an advertisement with priority 0. The addresses are still answered for, until [`lease`] from now on ends or
    /// [`Action::StopAnswering`] comes.
    GiveUp,
    /// Tell the segment, by gratuitous ARP and unsolicited neighbour advertisements, that the addresses are here;
    /// repeatedly.
    Announce,
    /// The addresses are not owned any more.
    StopAnswering,
}

/// A state of section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for Startup.
    Initialize,
    /// Another router is Active.
    Backup,
    /// The addresses are this router's.
    Active,
}

/// What Active_Down_Timer was set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// Active_Down_Interval.
    ActiveDown,
    /// Skew_Time: the Active router has given up.
    Skew,
    /// An interval and Skew_Time: likewise, but routers that are ready come first. They need less than an interval.
    LateSkew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timers {
    Initialize,
    Backup {
        /// When Active_Down_Timer was set.
        set_at: Duration,
        wait: Wait,
        /// Active_Adver_Interval, once learned.
        learned: Option<Interval>,
        /// When a lower router was first heard that is to be preempted.
        lower_since: Option<Duration>,
    },
    Active {
        /// When Adver_Timer fires.
        advertise_at: Duration,
    },
}

/// One virtual router.
#[derive(Clone, Debug)]
pub struct Machine {
    parameters: Parameters,
    timers: Timers,
    /// Who was last heard to be Active.
    heard: Option<IpAddr>,
    /// It is not Active any more, and the addresses may be answered for until somebody else is heard.
    lingers: bool,
}

impl Machine {
    /// A virtual router in Initialize.
    #[must_use]
    pub const fn new(parameters: Parameters) -> Self {
        Self {
            parameters,
            timers: Timers::Initialize,
            heard: None,
            lingers: false,
        }
    }

    /// The state.
    #[must_use]
    pub const fn state(&self) -> State {
        match self.timers {
            Timers::Initialize => State::Initialize,
            Timers::Backup { .. } => State::Backup,
            Timers::Active { .. } => State::Active,
        }
    }

    /// What it is run with.
    #[must_use]
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The address of the Active router, as far as it is known.
    #[must_use]
    pub const fn active(&self) -> Option<IpAddr> {
        match self.timers {
            Timers::Active { .. } => Some(self.parameters.address),
            Timers::Initialize | Timers::Backup { .. } => self.heard,
        }
    }

    /// Whether it waits for a successor to be heard.
    #[must_use]
    pub const fn lingers(&self) -> bool {
        self.lingers
    }

    /// When [`Event::Timer`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match self.timers {
            Timers::Initialize => None,
            Timers::Backup {
                set_at,
                wait,
                learned,
                ..
            } => {
                let interval = learned.unwrap_or(self.parameters.interval);
                let priority = self.parameters.priority;
                Some(
                    set_at
                        + match wait {
                            Wait::ActiveDown => active_down(interval, priority),
                            Wait::Skew => skew(interval, priority),
                            Wait::LateSkew => interval.duration() + skew(interval, priority),
                        },
                )
            }
            Timers::Active { advertise_at } => Some(advertise_at),
        }
    }

    /// Lets an event happen.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match (self.timers, event) {
            (_, Event::Changed(parameters)) => self.change(parameters, now),

            (Timers::Initialize, Event::Startup) => {
                self.begin_backup(now);
                Vec::new()
            }
            (Timers::Initialize, Event::Resume) => self.become_active(now),
            (Timers::Initialize, Event::Advertisement { priority: 1.., .. }) => self.stop_lingering(),
            (Timers::Initialize, Event::Fail) => self.stop_lingering(),
            (Timers::Initialize, _) => Vec::new(),

            (Timers::Backup { .. }, Event::Shutdown) => {
                self.timers = Timers::Initialize;
                Vec::new()
            }
            (Timers::Backup { .. }, Event::Fail) => {
                self.timers = Timers::Initialize;
                self.heard = None;
                self.stop_lingering()
            }
            (Timers::Backup { .. }, Event::Timer) if self.is_due(now) => self.become_active(now),
            (
                Timers::Backup { .. },
                Event::Advertisement {
                    priority,
                    source,
                    interval,
                },
            ) => self.heard_as_backup(priority, source, interval, now),
            (Timers::Backup { .. }, Event::Startup | Event::Resume | Event::Resign | Event::Timer) => {
                Vec::new()
            }

            (Timers::Active { .. }, Event::Shutdown) => {
                self.timers = Timers::Initialize;
                self.heard = None;
                self.lingers = true;
                vec![Action::GiveUp]
            }
            (Timers::Active { .. }, Event::Resign) => {
                self.begin_backup(now);
                self.lingers = true;
                vec![Action::GiveUp]
            }
            (Timers::Active { .. }, Event::Fail) => {
                self.timers = Timers::Initialize;
                self.heard = None;
                vec![Action::StopAnswering]
            }
            (Timers::Active { .. }, Event::Timer) if self.is_due(now) => self.advertise(now),
            (
                Timers::Active { .. },
                Event::Advertisement {
                    priority,
                    source,
                    interval,
                },
            ) => self.heard_as_active(priority, source, interval, now),
            (Timers::Active { .. }, Event::Startup | Event::Resume | Event::Timer) => Vec::new(),
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    fn begin_backup(&mut self, now: Duration) {
        self.heard = None;
        self.timers = Timers::Backup {
            set_at: now,
            wait: Wait::ActiveDown,
            learned: None,
            lower_since: None,
        };
    }

    fn become_active(&mut self, now: Duration) -> Vec<Action> {
        self.lingers = false;
        self.heard = None;
        let mut actions = self.advertise(now);
        actions.push(Action::Announce);
        actions
    }

    fn advertise(&mut self, now: Duration) -> Vec<Action> {
        self.timers = Timers::Active {
            advertise_at: now + self.parameters.interval.duration(),
        };
        vec![Action::Advertise]
    }

    fn stop_lingering(&mut self) -> Vec<Action> {
        if std::mem::take(&mut self.lingers) {
            vec![Action::StopAnswering]
        } else {
            Vec::new()
        }
    }

    /// Section 6.4.2, "if an ADVERTISEMENT is received".
    fn heard_as_backup(
        &mut self,
        priority: u8,
        source: IpAddr,
        interval: Interval,
        now: Duration,
    ) -> Vec<Action> {
        let Timers::Backup {
            learned, lower_since, ..
        } = self.timers
        else {
            return Vec::new();
        };
        let own = self.parameters;
        if priority == 0 {
            self.heard = None;
            self.timers = Timers::Backup {
                set_at: now,
                wait: if own.ready { Wait::Skew } else { Wait::LateSkew },
                learned,
                lower_since: None,
            };
            return Vec::new();
        }
        self.heard = Some(source);
        let may_preempt = own.preempt && own.ready && priority < own.priority;
        let since = may_preempt.then(|| lower_since.unwrap_or(now));
        let is_patient = since.is_none_or(|since| now < since + own.preempt_delay);
        if is_patient {
            self.timers = Timers::Backup {
                set_at: now,
                wait: Wait::ActiveDown,
                learned: Some(interval),
                lower_since: since,
            };
        } else if let Timers::Backup { lower_since, .. } = &mut self.timers {
            // Discarded: Active_Down_Timer goes on, and fires.
            *lower_since = since;
        }
        self.stop_lingering()
    }

    /// Section 6.4.3, "if an ADVERTISEMENT is received".
    fn heard_as_active(
        &mut self,
        priority: u8,
        source: IpAddr,
        interval: Interval,
        now: Duration,
    ) -> Vec<Action> {
        let own = self.parameters;
        if priority == 0 {
            return self.advertise(now);
        }
        if priority > own.priority || priority == own.priority && source > own.address {
            self.heard = Some(source);
            self.timers = Timers::Backup {
                set_at: now,
                wait: Wait::ActiveDown,
                learned: Some(interval),
                lower_since: None,
            };
            return vec![Action::StopAnswering];
        }
        // The lower router has told the segment that the addresses are there.
        let mut actions = self.advertise(now);
        actions.push(Action::Announce);
        actions
    }

    fn change(&mut self, parameters: Parameters, now: Duration) -> Vec<Action> {
        let before = std::mem::replace(&mut self.parameters, parameters);
        match &mut self.timers {
            // Who waits for this router has to learn its interval and its priority.
            Timers::Active { .. } if before != parameters => self.advertise(now),
            // What was heard of a lower router is of another judgement.
            Timers::Backup { lower_since, .. } if before.priority != parameters.priority => {
                *lower_since = None;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

/// Skew_Time (section 6.1).
#[must_use]
pub fn skew(interval: Interval, priority: u8) -> Duration {
    interval.duration() * (256 - u32::from(priority)) / 256
}

/// Active_Down_Interval (section 6.1).
#[must_use]
pub fn active_down(interval: Interval, priority: u8) -> Duration {
    3 * interval.duration() + skew(interval, priority)
}

/// Packets are compared with a clock that is as old as the last timer tick: up to this much, at 100 ticks a second.
const TICK: Duration = Duration::from_millis(10);

/// How long addresses are owned after an advertisement was sent: what the most eager peer waits at least before it
/// takes over, less what the data plane's clock may be late.
#[must_use]
pub fn lease(interval: Interval) -> Duration {
    let interval = interval.duration();
    3 * interval - TICK.min(interval / 2)
}

#[cfg(test)]
mod tests;
