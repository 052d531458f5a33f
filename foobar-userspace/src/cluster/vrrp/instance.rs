//! One virtual router of one family: its machine, what the machine's actions do, and what is told of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::machine::{Action, Event, Machine, Parameters, State, lease};
use super::packet::{Advertisement, Invalid};
use super::standing::{Reason, Standing, standing};
use crate::config::Vrrp;

/// When announcements are repeated: the first may meet a full queue, a port that still learns, or a host that is
/// just starting.
const REPEATS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
];
/// Announcements are not begun anew more often, however often two routers contradict each other.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// What an instance acts upon.
pub(super) trait Outside {
    /// Sends an advertisement of a family.
    fn send(&mut self, source: IpAddr, message: &[u8]) -> io::Result<()>;
    /// Tells the segment that these addresses are here.
    fn announce(&mut self, addresses: &[IpAddr]);
    /// Sets when the lease with this index ends, on the monotonic clock; zero: now.
    fn set_lease(&mut self, index: u32, until: Duration);
}

/// An address of a virtual router, and the index of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) address: IpAddr,
    pub(super) lease: u32,
}

/// What a virtual router is to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) group: &'a Vrrp,
    pub(super) addresses: &'a [Owned],
    pub(super) reasons: BTreeSet<Reason>,
    /// Where its advertisements come from.
    pub(super) own: Option<IpAddr>,
    /// Whether its addresses are still answered for, from an earlier life or an earlier way of owning them.
    pub(super) resumes: bool,
}

/// What is told of a virtual router.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The group's name.
    pub group: String,
    /// VRID.
    pub router_id: u8,
    /// Whether it is the IPv4 one.
    pub is_v4: bool,
    /// Its state.
    pub state: State,
    /// The priority that it contends with; 0: not at all.
    pub priority: u8,
    /// The priority that is configured.
    pub configured_priority: u8,
    /// Why they differ.
    pub reasons: Vec<Reason>,
    /// Who is Active, as far as it is known.
    pub active: Option<IpAddr>,
    /// How long the state has lasted.
    pub since: Duration,
    /// How often it became Active or ceased to be.
    pub transitions: u64,
    /// Advertisements sent.
    pub sent: u64,
    /// Advertisements that could not be sent.
    pub not_sent: u64,
    /// Sound advertisements received.
    pub received: u64,
    /// Others, by what was wrong.
    pub invalid: BTreeMap<&'static str, u64>,
    /// Sound ones that contradict the configuration, by what does.
    pub mismatched: BTreeMap<&'static str, u64>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Why advertisements can't be sent, at the last try.
    pub trouble: Option<String>,
}

/// A virtual router.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) group: Vrrp,
    pub(super) is_v4: bool,
    addresses: Vec<Owned>,
    reasons: BTreeSet<Reason>,
    standing: Standing,
    machine: Machine,
    /// Until when the addresses are owned.
    owned_until: Duration,
    announced_at: Option<Duration>,
    /// When to announce again, the next one last.
    announcements: Vec<Duration>,
    since: Duration,
    transitions: u64,
    sent: u64,
    not_sent: u64,
    received: u64,
    invalid: BTreeMap<&'static str, u64>,
    mismatched: BTreeMap<&'static str, u64>,
    trouble: Option<String>,
}

impl Instance {
    /// A virtual router that waits for [`Self::update`].
    pub(super) fn new(group: Vrrp, is_v4: bool, own: IpAddr, now: Duration) -> Self {
        let parameters = parameters(&group, own, group.priority, true);
        Self {
            group,
            is_v4,
            addresses: Vec::new(),
            reasons: BTreeSet::new(),
            standing: Standing::Mute,
            machine: Machine::new(parameters),
            owned_until: Duration::ZERO,
            announced_at: None,
            announcements: Vec::new(),
            since: now,
            transitions: 0,
            sent: 0,
            not_sent: 0,
            received: 0,
            invalid: BTreeMap::new(),
            mismatched: BTreeMap::new(),
            trouble: None,
        }
    }

    /// Brings it to what is wanted.
    pub(super) fn update(&mut self, wanted: Wanted<'_>, outside: &mut impl Outside, now: Duration) {
        let Wanted {
            group,
            addresses,
            reasons,
            own,
            resumes,
        } = wanted;
        let was_drained = self.reasons.contains(&Reason::Drained);
        let is_drained = reasons.contains(&Reason::Drained);
        let fresh: Vec<Owned> = addresses
            .iter()
            .filter(|address| !self.addresses.contains(address))
            .copied()
            .collect();
        let others = addresses != self.addresses;
        self.group = group.clone();
        self.addresses = addresses.to_vec();
        self.standing = standing(group, &reasons);
        self.reasons = reasons;
        let starts = self.machine.state() == State::Initialize;
        let resumes = resumes && starts && !is_drained;
        if !resumes || matches!(self.standing, Standing::Mute | Standing::Out) {
            let until = self.owned_until;
            for owned in &fresh {
                outside.set_lease(owned.lease, until);
            }
        }
        let own = own.unwrap_or(self.machine.parameters().address);
        let (priority, ready) = match self.standing {
            Standing::Mute => {
                self.on(Event::Fail, outside, now);
                return;
            }
            Standing::Out => {
                self.on(Event::Shutdown, outside, now);
                return;
            }
            Standing::Contends { priority, ready } => (priority, ready),
        };
        if is_drained && !was_drained {
            self.on(Event::Resign, outside, now);
        }
        let sent = self.sent;
        self.on(
            Event::Changed(parameters(group, own, priority, ready)),
            outside,
            now,
        );
        match self.machine.state() {
            State::Initialize => {
                let event = if resumes { Event::Resume } else { Event::Startup };
                self.on(event, outside, now);
            }
            State::Active if others => {
                if self.sent == sent {
                    self.perform(&[Action::Advertise], outside, now);
                }
                if !fresh.is_empty() {
                    self.announced_at = None;
                    self.perform(&[Action::Announce], outside, now);
                }
            }
            State::Active | State::Backup => (),
        }
    }

    /// When [`Self::timer`] is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let announcement = self.announcements.last().copied();
        self.machine.deadline().into_iter().chain(announcement).min()
    }

    /// Does what is due.
    pub(super) fn timer(&mut self, outside: &mut impl Outside, now: Duration) {
        self.on(Event::Timer, outside, now);
        if self.announcements.last().is_some_and(|due| *due <= now) {
            if self.owned_until > now {
                self.announcements.pop();
                self.announce(outside, now);
            } else if let Some(next) = self.announcements.last_mut() {
                // No advertisement could be sent: nothing is owned.
                *next = now + LEAST_PAUSE;
            }
        }
    }

    /// A sound advertisement of another router has come.
    pub(super) fn heard(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        outside: &mut impl Outside,
        now: Duration,
    ) {
        self.received += 1;
        // One that gives up may have lost its addresses already.
        if advertisement.priority > 0 {
            let interval = advertisement.interval != self.machine.parameters().interval;
            self.compare("interval", interval, source);
            let own: BTreeSet<IpAddr> = self.advertised().into_iter().collect();
            let theirs: BTreeSet<IpAddr> = advertisement.addresses.iter().copied().collect();
            self.compare("addresses", own != theirs, source);
        }
        let event = Event::Advertisement {
            priority: advertisement.priority,
            source,
            interval: advertisement.interval,
        };
        self.on(event, outside, now);
    }

    /// Section 7.1: what does not match should be logged; once for each time that it begins.
    fn compare(&mut self, what: &'static str, differs: bool, source: IpAddr) {
        if !differs {
            return;
        }
        let count = self.mismatched.entry(what).or_default();
        *count += 1;
        if count.is_power_of_two() {
            tracing::warn!(
                group = self.group.name,
                router_id = self.group.router_id,
                %source,
                count = *count,
                "VRRP: another router's {what} differ from those configured here"
            );
        }
    }

    /// A packet for this virtual router has come that does not count.
    pub(super) fn refuse(&mut self, why: Invalid, source: IpAddr) {
        let count = self.invalid.entry(why.name()).or_default();
        *count += 1;
        if count.is_power_of_two() {
            tracing::warn!(
                group = self.group.name,
                router_id = self.group.router_id,
                %source,
                reason = %why,
                count = *count,
                "VRRP: an advertisement does not count"
            );
        }
    }

    /// The addresses are at another MAC from now on, if they are here.
    pub(super) fn moved(&mut self, outside: &mut impl Outside, now: Duration) {
        if self.machine.state() == State::Active {
            self.announced_at = None;
            self.perform(&[Action::Announce], outside, now);
        }
    }

    /// Gives up in an orderly way.
    pub(super) fn stop(&mut self, outside: &mut impl Outside, now: Duration) {
        self.on(Event::Shutdown, outside, now);
    }

    /// Until when it waits for its successor to be heard, if it does.
    pub(super) fn lingers_until(&self) -> Option<Duration> {
        self.machine.lingers().then_some(self.owned_until)
    }

    /// What is told of it.
    pub(super) fn snapshot(&self, now: Duration) -> Snapshot {
        Snapshot {
            group: self.group.name.clone(),
            router_id: self.group.router_id,
            is_v4: self.is_v4,
            state: self.machine.state(),
            priority: match self.standing {
                Standing::Contends { priority, .. } => priority,
                Standing::Mute | Standing::Out => 0,
            },
            configured_priority: self.group.priority,
            reasons: self.reasons.iter().copied().collect(),
            active: self.machine.active(),
            since: now.saturating_sub(self.since),
            transitions: self.transitions,
            sent: self.sent,
            not_sent: self.not_sent,
            received: self.received,
            invalid: self.invalid.clone(),
            mismatched: self.mismatched.clone(),
            addresses: self.addresses.iter().map(|owned| owned.address).collect(),
            trouble: self.trouble.clone(),
        }
    }

    fn on(&mut self, event: Event, outside: &mut impl Outside, now: Duration) {
        let before = self.machine.state();
        let actions = self.machine.on(event, now);
        let state = self.machine.state();
        if state != before {
            self.since = now;
            self.transitions += u64::from(state == State::Active || before == State::Active);
            let (group, router_id) = (&self.group.name, self.group.router_id);
            let family = if self.is_v4 { "IPv4" } else { "IPv6" };
            let active = self.machine.active().map(tracing::field::display);
            let reasons: Vec<&str> = self.reasons.iter().map(|reason| reason.name()).collect();
            tracing::info!(
                group,
                router_id,
                family,
                from = ?before,
                to = ?state,
                active,
                ?reasons,
                "VRRP: the state changed"
            );
        }
        self.perform(&actions, outside, now);
    }

    fn perform(&mut self, actions: &[Action], outside: &mut impl Outside, now: Duration) {
        for action in actions {
            match action {
                Action::Advertise => {
                    if self.send(self.machine.parameters().priority, outside) {
                        self.own_until(now + lease(self.machine.parameters().interval), outside);
                    }
                }
                Action::GiveUp => {
                    self.announcements.clear();
                    if self.send(0, outside) {
                        // Who takes over may be late, and is heard.
                        self.own_until(now + lease(self.machine.parameters().interval), outside);
                    }
                }
                Action::Announce => {
                    self.announcements = REPEATS.iter().rev().map(|after| now + *after).collect();
                    let recent = self.announced_at.is_some_and(|at| now < at + LEAST_PAUSE);
                    if self.owned_until > now && !recent {
                        self.announce(outside, now);
                    } else if !recent {
                        self.announcements.push(now + LEAST_PAUSE);
                    }
                }
                Action::StopAnswering => {
                    self.announcements.clear();
                    self.own_until(Duration::ZERO, outside);
                }
            }
        }
    }

    fn own_until(&mut self, until: Duration, outside: &mut impl Outside) {
        self.owned_until = until;
        for owned in &self.addresses {
            outside.set_lease(owned.lease, until);
        }
    }

    fn announce(&mut self, outside: &mut impl Outside, now: Duration) {
        self.announced_at = Some(now);
        let addresses: Vec<IpAddr> = self.addresses.iter().map(|owned| owned.address).collect();
        outside.announce(&addresses);
    }

    /// The addresses as they are advertised: of IPv6 a link-local one comes first (section 5.2.9).
    fn advertised(&self) -> Vec<IpAddr> {
        let link_local = self.group.link_local.filter(|_| !self.is_v4).map(IpAddr::V6);
        let owned = self.addresses.iter().map(|owned| owned.address);
        link_local.into_iter().chain(owned).collect()
    }

    fn send(&mut self, priority: u8, outside: &mut impl Outside) -> bool {
        let own = self.machine.parameters();
        let advertisement = Advertisement {
            router_id: self.group.router_id,
            priority,
            interval: own.interval,
            addresses: self.advertised(),
        };
        let message = advertisement.encode(own.address, self.group.checksum);
        match outside.send(own.address, &message) {
            Ok(()) => {
                self.sent += 1;
                self.trouble = None;
                true
            }
            Err(error) => {
                self.not_sent += 1;
                if self.trouble.is_none() {
                    tracing::error!(
                        group = self.group.name,
                        router_id = self.group.router_id,
                        %error,
                        "VRRP: an advertisement can't be sent: ownership ends if this lasts"
                    );
                }
                self.trouble = Some(error.to_string());
                false
            }
        }
    }
}

const fn parameters(group: &Vrrp, own: IpAddr, priority: u8, ready: bool) -> Parameters {
    Parameters {
        priority,
        interval: group.interval,
        preempt: group.preempt,
        preempt_delay: group.preempt_delay,
        ready,
        address: own,
    }
}

#[cfg(test)]
mod tests;
