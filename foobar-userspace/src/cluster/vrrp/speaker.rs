//! The thread in which all virtual routers run: it waits for packets, timers and what the daemon tells it. It has a
//! thread and a runtime of its own, so that no work of the daemon's loop delays an advertisement; of the data plane it
//! knows the leases alone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::instance::{Instance, Outside, Owned, Snapshot, Wanted};
use super::packet::{Advertisement, Invalid, router_id};
use super::socket::{Received, Sources, VrrpSocket};
use super::standing::Reason;
use crate::config::Vrrp;
use crate::dataplane::{Leases, monotonic_ns};
use crate::network::{Announcer, Interface, OperationalState};

/// Packets of one family that are taken before timers are looked at.
const AT_ONCE: usize = 64;
/// A socket that could not be opened is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// A stopping daemon waits no longer for its successors.
const LONGEST_LINGER: Duration = Duration::from_secs(10);

/// A group of VIPs, as the daemon wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What the configuration says.
    pub config: Vrrp,
    /// Its addresses with the indices of their leases.
    pub addresses: Vec<(IpAddr, u32)>,
    /// Reasons that the daemon knows of.
    pub reasons: BTreeSet<Reason>,
}

/// What the speaker tells.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The virtual routers.
    pub routers: Vec<Snapshot>,
    /// Packets that are for none of them, by what was wrong; `other_router`: nothing.
    pub unclaimed: BTreeMap<&'static str, u64>,
}

enum Command {
    Set(Vec<Group>, oneshot::Sender<()>),
    Tell(oneshot::Sender<Told>),
    Stop,
}

/// The running thread. When this is dropped without [`Self::stop`], it ends in an orderly way as well, unobserved.
#[derive(Debug)]
pub struct Speaker {
    commands: mpsc::UnboundedSender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl Speaker {
    /// Starts the thread, without groups.
    ///
    /// # Errors
    /// The thread or its runtime can't be made.
    pub fn start(leases: Leases, interface: watch::Receiver<Option<Interface>>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (commands, received) = mpsc::unbounded_channel();
        let thread = std::thread::Builder::new()
            .name("vrrp".to_owned())
            .spawn(move || runtime.block_on(Routers::new(leases, interface).run(received)))?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Puts these groups in force, in the place of those before; returns when they are.
    pub async fn set(&self, groups: Vec<Group>) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Set(groups, done)).is_err() || is_done.await.is_err() {
            tracing::error!("VRRP: the thread has ended: what is owned is lost when its leases end");
        }
    }

    /// Whether the thread is gone, which it never should be.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.commands.is_closed()
    }

    /// What there is to tell.
    pub async fn tell(&self) -> Told {
        let (reply, told) = oneshot::channel();
        // A thread that has ended has nothing to tell.
        drop(self.commands.send(Command::Tell(reply)));
        told.await.unwrap_or_default()
    }

    /// Gives up everything in an orderly way: returns when the successors are heard, or the leases have ended.
    pub async fn stop(mut self) {
        drop(self.commands.send(Command::Stop));
        if let Some(thread) = self.thread.take() {
            let ended = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::error!("VRRP: the thread has panicked");
            }
        }
    }
}

/// Time on the clock of leases.
fn now() -> Duration {
    Duration::from_nanos(monotonic_ns())
}

struct Routers {
    instances: Vec<Instance>,
    groups: Vec<Group>,
    unclaimed: BTreeMap<&'static str, u64>,
    io: Io,
    interface: watch::Receiver<Option<Interface>>,
    /// The interface's index, name and MAC, as sockets were opened with.
    opened_on: Option<(u32, String, [u8; 6])>,
    retry_at: Option<Duration>,
    /// Set while it is stopping: the latest moment to end.
    stops_at: Option<Duration>,
}

struct Io {
    v4: Option<VrrpSocket>,
    v6: Option<VrrpSocket>,
    announcer: Option<Announcer>,
    leases: Leases,
}

impl Io {
    const fn socket(&self, is_v4: bool) -> Option<&VrrpSocket> {
        if is_v4 { self.v4.as_ref() } else { self.v6.as_ref() }
    }
}

impl Outside for Io {
    fn send(&mut self, source: IpAddr, message: &[u8]) -> io::Result<()> {
        match self.socket(source.is_ipv4()) {
            Some(socket) => socket.send(source, message),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn announce(&mut self, addresses: &[IpAddr]) {
        let Some(announcer) = &self.announcer else {
            return;
        };
        if let Err(error) = announcer.announce_once(addresses) {
            tracing::warn!(%error, "VRRP: addresses could not be announced");
        }
    }

    fn set_lease(&mut self, index: u32, until: Duration) {
        self.leases.set(index, until.as_nanos() as u64);
    }
}

async fn readable(socket: Option<&VrrpSocket>) {
    match socket {
        Some(socket) if socket.readable().await.is_ok() => (),
        _ => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.saturating_sub(now())).await,
        None => std::future::pending().await,
    }
}

impl Routers {
    const fn new(leases: Leases, interface: watch::Receiver<Option<Interface>>) -> Self {
        Self {
            instances: Vec::new(),
            groups: Vec::new(),
            unclaimed: BTreeMap::new(),
            io: Io {
                v4: None,
                v6: None,
                announcer: None,
                leases,
            },
            interface,
            opened_on: None,
            retry_at: None,
            stops_at: None,
        }
    }

    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut follows = true;
        loop {
            let deadline = self
                .instances
                .iter()
                .filter_map(Instance::deadline)
                .chain(self.retry_at)
                .chain(self.stops_at)
                .min();
            tokio::select! {
                biased;
                () = readable(self.io.v4.as_ref()) => (),
                () = readable(self.io.v6.as_ref()) => (),
                command = commands.recv(), if self.stops_at.is_none() => match command {
                    Some(Command::Set(groups, done)) => {
                        self.groups = groups;
                        self.update();
                        // Who asked may be gone.
                        _ = done.send(());
                    }
                    Some(Command::Tell(reply)) => drop(reply.send(self.told())),
                    Some(Command::Stop) | None => self.begin_to_stop(),
                },
                changed = self.interface.changed(), if follows => {
                    follows = changed.is_ok();
                    self.update();
                }
                () = sleep_until(deadline) => (),
            }
            // What was heard comes before timers: a thread that was late must not take for dead who is alive.
            self.receive(true);
            self.receive(false);
            if self.retry_at.is_some_and(|at| at <= now()) {
                self.update();
            }
            for instance in &mut self.instances {
                let now = now();
                if instance.deadline().is_some_and(|deadline| deadline <= now) {
                    instance.timer(&mut self.io, now);
                }
            }
            if self.has_stopped() {
                return;
            }
        }
    }

    fn begin_to_stop(&mut self) {
        let now = now();
        for instance in &mut self.instances {
            instance.stop(&mut self.io, now);
        }
        let lingers = self.instances.iter().filter_map(Instance::lingers_until).max();
        self.stops_at = Some(lingers.unwrap_or(now).min(now + LONGEST_LINGER));
    }

    fn has_stopped(&self) -> bool {
        self.stops_at.is_some_and(|end| {
            end <= now()
                || self
                    .instances
                    .iter()
                    .all(|instance| instance.lingers_until().is_none())
        })
    }

    fn told(&self) -> Told {
        let now = now();
        Told {
            routers: self
                .instances
                .iter()
                .map(|instance| instance.snapshot(now))
                .collect(),
            unclaimed: self.unclaimed.clone(),
        }
    }

    /// Brings sockets and instances to the groups and to the interface.
    fn update(&mut self) {
        if self.stops_at.is_some() {
            return;
        }
        let interface = self.interface.borrow_and_update().clone();
        let now = now();
        let wants = |is_v4: bool| {
            let mut addresses = self.groups.iter().flat_map(|group| &group.addresses);
            addresses.any(|(address, _)| address.is_ipv4() == is_v4)
        };
        let (wants_v4, wants_v6) = (wants(true), wants(false));
        let moved = self.open(interface.as_ref(), wants_v4, wants_v6, now);
        let is_up = interface
            .as_ref()
            .is_some_and(|interface| interface.state == OperationalState::Up);
        let sources = interface.as_ref().map_or_else(Sources::default, |interface| {
            Sources::of(interface.addresses.iter().map(|net| net.addr()))
        });

        let mut before = std::mem::take(&mut self.instances);
        let mut wanted = Vec::new();
        for group in &self.groups {
            for is_v4 in [true, false] {
                let addresses: Vec<Owned> = group
                    .addresses
                    .iter()
                    .filter(|(address, _)| address.is_ipv4() == is_v4)
                    .map(|&(address, lease)| Owned { address, lease })
                    .collect();
                if !addresses.is_empty() {
                    wanted.push((group, is_v4, addresses));
                }
            }
        }
        let is_same = |instance: &Instance, group: &Group, is_v4: bool| {
            instance.group.router_id == group.config.router_id && instance.is_v4 == is_v4
        };
        before.retain_mut(|instance| {
            let stays = wanted
                .iter()
                .any(|(group, is_v4, _)| is_same(instance, group, *is_v4));
            if !stays {
                instance.stop(&mut self.io, now);
            }
            stays
        });
        for (group, is_v4, addresses) in wanted {
            let own = sources.get(is_v4);
            let mut reasons = group.reasons.clone();
            for (holds, reason) in [
                (!is_up, Reason::LinkDown),
                (own.is_none(), Reason::NoAddress),
                (self.io.socket(is_v4).is_none(), Reason::NoSocket),
            ] {
                if holds {
                    reasons.insert(reason);
                }
            }
            let place = before.iter().position(|instance| is_same(instance, group, is_v4));
            let mut instance = match place {
                Some(place) => before.swap_remove(place),
                None => {
                    let none = if is_v4 {
                        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
                    } else {
                        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                    };
                    Instance::new(group.config.clone(), is_v4, own.unwrap_or(none), now)
                }
            };
            let is_new = place.is_none();
            let resumes = is_new
                && addresses
                    .iter()
                    .any(|owned| self.io.leases.get(owned.lease) > now.as_nanos() as u64);
            let wanted = Wanted {
                group: &group.config,
                addresses: &addresses,
                reasons,
                own,
                resumes,
            };
            instance.update(wanted, &mut self.io, now);
            if moved {
                instance.moved(&mut self.io, now);
            }
            self.instances.push(instance);
        }
    }

    /// Opens what is wanted on the interface as it is; whether it is another one, or has another MAC, than before.
    fn open(&mut self, interface: Option<&Interface>, wants_v4: bool, wants_v6: bool, now: Duration) -> bool {
        let on = interface.map(|interface| (interface.index, interface.name.clone(), interface.mac));
        let moved = on != self.opened_on;
        if moved {
            (self.io.v4, self.io.v6, self.io.announcer) = (None, None, None);
            self.opened_on = on;
        }
        // What fails again is told once.
        let told = !moved && self.retry_at.is_some();
        self.retry_at = None;
        let Some(interface) = interface else {
            return moved;
        };
        for (is_v4, wanted) in [(true, wants_v4), (false, wants_v6)] {
            let socket = if is_v4 { &mut self.io.v4 } else { &mut self.io.v6 };
            if !wanted {
                *socket = None;
            } else if socket.is_none() {
                match VrrpSocket::open(is_v4, &interface.name, interface.index) {
                    Ok(open) => *socket = Some(open),
                    Err(error) => {
                        if !told {
                            tracing::error!(
                                interface = interface.name,
                                family = if is_v4 { "IPv4" } else { "IPv6" },
                                %error,
                                "VRRP: no socket (CAP_NET_RAW is needed, and the family on the interface)"
                            );
                        }
                        self.retry_at = Some(now + RETRY);
                    }
                }
            }
        }
        if self.io.announcer.is_none() && (wants_v4 || wants_v6) {
            match Announcer::open(interface.index, interface.mac) {
                Ok(announcer) => self.io.announcer = Some(announcer),
                Err(error) => {
                    if !told {
                        tracing::error!(%error, "VRRP: addresses can't be announced");
                    }
                    self.retry_at = Some(now + RETRY);
                }
            }
        }
        moved
    }

    fn receive(&mut self, is_v4: bool) {
        let packets = match self.io.socket(is_v4) {
            Some(socket) => socket.take(AT_ONCE),
            None => return,
        };
        let sources: Vec<IpAddr> = self
            .interface
            .borrow()
            .iter()
            .flat_map(|interface| interface.addresses.iter().map(|net| net.addr()))
            .collect();
        for packet in packets {
            let Received::Packet(envelope, message) = packet else {
                *self.unclaimed.entry("header").or_default() += 1;
                continue;
            };
            let id = router_id(&message);
            let instance = self
                .instances
                .iter_mut()
                .find(|instance| instance.is_v4 == is_v4 && Some(instance.group.router_id) == id);
            let read = if sources.contains(&envelope.source) {
                Err(Invalid::Own)
            } else {
                Advertisement::decode(&message, &envelope)
            };
            match (instance, read) {
                (Some(instance), Ok(advertisement)) => {
                    instance.heard(&advertisement, envelope.source, &mut self.io, now());
                }
                (Some(instance), Err(why)) => instance.refuse(why, envelope.source),
                (None, Ok(_)) => *self.unclaimed.entry("other_router").or_default() += 1,
                (None, Err(why)) => *self.unclaimed.entry(why.name()).or_default() += 1,
            }
        }
    }
}
