//! A made segment: machines that hear each other, messages that are lost, kills and returns, for years.

use proptest::prelude::*;

use super::*;

/// What the routers' addresses are like.
#[derive(Clone, Debug)]
struct Router {
    /// None while it is dead.
    machine: Option<Machine>,
    parameters: Parameters,
    /// Until when its data plane answers.
    lease: Duration,
}

impl Router {
    fn answers(&self, now: Duration) -> bool {
        self.lease > now
    }
}

#[derive(Debug)]
struct Segment {
    now: Duration,
    routers: Vec<Router>,
    /// Each link that is cut, from and to.
    cut: Vec<(usize, usize)>,
}

const ON_THE_WIRE: Duration = Duration::from_micros(50);

impl Segment {
    fn new(priorities: &[u8]) -> Self {
        let routers = priorities
            .iter()
            .zip(11..)
            .map(|(&priority, last)| {
                let parameters = Parameters {
                    address: address(last),
                    ..parameters(priority)
                };
                Router {
                    machine: None,
                    parameters,
                    lease: Duration::ZERO,
                }
            })
            .collect();
        Self {
            now: Duration::ZERO,
            routers,
            cut: Vec::new(),
        }
    }

    fn start(&mut self, at: usize) {
        let parameters = self.routers[at].parameters;
        let mut machine = Machine::new(parameters);
        let event = if self.routers[at].answers(self.now) {
            Event::Resume
        } else {
            Event::Startup
        };
        let actions = machine.on(event, self.now);
        self.routers[at].machine = Some(machine);
        self.act(at, actions);
    }

    /// Its data plane goes on answering until the lease ends.
    fn kill(&mut self, at: usize) {
        self.routers[at].machine = None;
    }

    fn on(&mut self, at: usize, event: Event) {
        let Some(machine) = &mut self.routers[at].machine else {
            return;
        };
        let actions = machine.on(event, self.now);
        self.act(at, actions);
    }

    fn act(&mut self, at: usize, actions: Vec<Action>) {
        for action in actions {
            let own = self.routers[at].parameters;
            let priority = match action {
                Action::Advertise => {
                    self.routers[at].lease = self.now + lease(own.interval);
                    own.priority
                }
                Action::GiveUp => 0,
                Action::StopAnswering => {
                    self.routers[at].lease = Duration::ZERO;
                    continue;
                }
                Action::Announce => continue,
            };
            self.now += ON_THE_WIRE;
            let event = Event::Advertisement {
                priority,
                source: own.address,
                interval: own.interval,
            };
            for to in 0..self.routers.len() {
                if to != at && !self.cut.contains(&(at, to)) {
                    self.on(to, event);
                }
            }
        }
    }

    /// Lets time pass until `end`; `check` looks at each moment in which something happened.
    fn run(&mut self, end: Duration, mut check: impl FnMut(&Self)) {
        loop {
            let next = (0..self.routers.len())
                .filter_map(|at| Some((self.routers[at].machine.as_ref()?.deadline()?, at)))
                .min();
            let Some((deadline, at)) = next.filter(|(deadline, _)| *deadline <= end) else {
                self.now = self.now.max(end);
                return;
            };
            self.now = self.now.max(deadline);
            self.on(at, Event::Timer);
            check(self);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.run(self.now + time, |_| ());
    }

    fn active(&self) -> Vec<usize> {
        (0..self.routers.len())
            .filter(|&at| {
                let machine = self.routers[at].machine.as_ref();
                machine.is_some_and(|machine| machine.state() == State::Active)
            })
            .collect()
    }

    fn answering(&self) -> Vec<usize> {
        (0..self.routers.len())
            .filter(|&at| self.routers[at].answers(self.now))
            .collect()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_highest_is_active_for_a_year() {
    let mut segment = Segment::new(&[100, 200, 150]);
    // A second each: a tenth would be 315 million advertisements.
    for router in &mut segment.routers {
        router.parameters.interval = cs(4_000);
    }
    (0..3).for_each(|at| segment.start(at));
    segment.pass(10 * MINUTE);
    let mut looked = 0_u32;
    let end = segment.now + MINUTE * 60 * 24 * 365;
    segment.run(end, |segment| {
        looked += 1;
        assert_eq!(segment.active(), [1]);
        assert_eq!(segment.answering(), [1]);
    });
    assert!(looked > 700_000, "{looked}");
}

#[test]
fn a_dead_routers_data_plane_stops_before_the_next_one_answers() {
    let mut segment = Segment::new(&[254, 253]);
    (0..2).for_each(|at| segment.start(at));
    segment.pass(MINUTE);
    assert_eq!(segment.active(), [0]);
    segment.kill(0);
    let killed = segment.now;
    segment.run(killed + MINUTE, |segment| {
        assert!(segment.answering().len() <= 1, "{segment:?}");
    });
    assert_eq!(segment.answering(), [1]);
    segment.start(0);
    segment.pass(MINUTE);
    assert_eq!(segment.answering(), [0], "it is back");
}

#[test]
fn a_router_that_is_back_within_its_lease_goes_on() {
    let mut segment = Segment::new(&[200, 100]);
    (0..2).for_each(|at| segment.start(at));
    segment.pass(MINUTE);
    segment.kill(0);
    segment.pass(seconds(0.15));
    segment.start(0);
    assert_eq!(segment.active(), [0]);
    segment.pass(MINUTE);
    assert_eq!(segment.active(), [0]);
}

#[test]
fn an_orderly_end_leaves_no_moment_without_an_answer() {
    let mut segment = Segment::new(&[200, 100]);
    (0..2).for_each(|at| segment.start(at));
    segment.pass(MINUTE);
    segment.on(0, Event::Shutdown);
    segment.run(segment.now + MINUTE, |segment| {
        assert!(!segment.answering().is_empty(), "{segment:?}");
    });
    assert_eq!(segment.answering(), [1]);
}

/// What may happen to a segment.
#[derive(Clone, Copy, Debug)]
enum Change {
    Start(usize),
    Kill(usize),
    Stop(usize),
    Fail(usize),
    Cut(usize, usize),
    Priority(usize, u8),
    Wait(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let router = 0..3_usize;
    prop_oneof![
        router.clone().prop_map(Change::Start),
        router.clone().prop_map(Change::Kill),
        router.clone().prop_map(Change::Stop),
        router.clone().prop_map(Change::Fail),
        (router.clone(), router.clone()).prop_map(|(from, to)| Change::Cut(from, to)),
        (router, 1..=254_u8).prop_map(|(at, priority)| Change::Priority(at, priority)),
        (0..700_u64).prop_map(Change::Wait),
    ]
}

proptest! {
    /// However they came to where they are: when all links are whole again, one of the living is Active within a
    /// few seconds, of the highest priority (an equal one is not preempted); nobody else answers.
    #[test]
    fn after_any_history_one_of_the_highest_living_routers_alone_is_active(
        changes in prop::collection::vec(change(), 0..60),
        lives in prop::collection::vec(any::<bool>(), 3),
    ) {
        let mut segment = Segment::new(&[100, 150, 150]);
        for change in changes {
            match change {
                Change::Start(at) => segment.start(at),
                Change::Kill(at) => segment.kill(at),
                Change::Stop(at) => segment.on(at, Event::Shutdown),
                Change::Fail(at) => segment.on(at, Event::Fail),
                Change::Cut(from, to) => segment.cut.push((from, to)),
                Change::Priority(at, priority) => {
                    segment.routers[at].parameters.priority = priority;
                    let parameters = segment.routers[at].parameters;
                    segment.on(at, Event::Changed(parameters));
                }
                Change::Wait(milliseconds) => segment.pass(Duration::from_millis(milliseconds)),
            }
        }
        segment.cut.clear();
        for (at, lives) in lives.iter().enumerate() {
            segment.kill(at);
            if *lives {
                segment.start(at);
            }
        }
        segment.pass(Duration::from_secs(5));
        let priority = |at: usize| segment.routers[at].parameters.priority;
        let highest = (0..3).filter(|&at| lives[at]).map(priority).max();
        let active = segment.active();
        prop_assert_eq!(active.len(), usize::from(highest.is_some()));
        prop_assert_eq!(active.first().map(|&at| priority(at)), highest);
        prop_assert_eq!(segment.answering(), active);
    }
}
