//! The daemon's loop: one task owns the steering state; checks, the resolver, signals and the admin API send
//! it events.

mod answer;
mod reload;
mod seed;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use foobar_common::check::CHECK_MARK;
use foobar_common::time::ticks;
use nix::time::{ClockId, clock_gettime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use self::seed::{read_seed, set_seed};
use super::bgp::{Announcements, Route};
use super::canary::{self, Canaries};
use super::election::Attached;
use super::fleet::Fleet;
use super::link::{Cluster, Happened};
use super::peers::Peers;
use super::presence::{self, Presence};
use super::steering::Steering;
use super::{adopt, features, preflight};
use crate::admin::{self, SweepStatus};
use crate::cluster::link::identity::Identity;
use crate::cluster::renewals::Renewals;
use crate::cluster::vrrp::{Group, Speaker};
use crate::config::Config;
use crate::dataplane::{self, Attachment, CheckProgram, Claim, DataPlane, Mode, Pins, Sizes, monotonic_ns};
use crate::health::Scheduler;
use crate::network::{
    self, CheckMark, CheckRoute, Interface, MarkedWay, OperationalState, Resolver, ResolverHandle, XdpMode,
};

const TICK: Duration = Duration::from_millis(200);
/// A sweep is due this long after the last one ended, or ten times as long as that one took.
const SWEEP: Duration = Duration::from_secs(1);

/// So many events are taken at once: a switch that fails concerns thousands of targets in the same second.
const EVENTS: usize = 4096;

/// How often it is looked whether the program is still on the interface.
const ATTACHED: Duration = Duration::from_secs(1);

/// The mark of health checks, as the network module takes it.
const CHECKS: MarkedWay = MarkedWay::of_checks(CheckMark((CHECK_MARK >> 16) as u16));

struct Daemon {
    path: PathBuf,
    config: Config,
    /// The part of the configuration that a fleet shares.
    fleet: Fleet,
    steering: Steering,
    interface: Interface,
    scheduler: Scheduler,
    resolver: ResolverHandle,
    presence: Presence,
    /// Elects the owners of the VIPs that are in groups; while there are none, there is no thread.
    speaker: Option<Speaker>,
    /// The link to the other balancers, where there are some.
    cluster: Option<Cluster>,
    /// What the speaker was told last.
    groups: Vec<Group>,
    announcements: Announcements,
    watched: watch::Receiver<Option<Interface>>,
    attached: Attached,
    next_look: Instant,
    started: Instant,
    last_reload_error: Option<String>,
    next_sweep: Instant,
    sweeps: SweepStatus,
    canaries: Canaries,
    check_program: Result<CheckProgram, dataplane::Error>,
    pins: Pins,
    _claim: Claim,
}

/// Runs the daemon until it is told to stop. What it put into the kernel stays and goes on forwarding.
pub(super) async fn run(path: PathBuf) -> Result<()> {
    let stop = crate::signals::stop()?;
    let mut hangup = signal(SignalKind::hangup())?;
    preflight::check()?;
    let (fleet, config) = Fleet::start(&path).await?;
    let interface = network::lookup(&config.interface).await?;
    for warning in network::warnings(&config.interface) {
        tracing::warn!(interface = config.interface, "{warning}");
    }

    for vip in &config.vips {
        if interface.addresses.iter().any(|net| net.addr() == vip.address) {
            tracing::warn!(
                vip = vip.name,
                address = %vip.address,
                "the VIP is an address of this machine's kernel: remove it, VIPs belong to the data plane alone"
            );
        }
    }

    let pins = Pins::new(&config.pin_dir, &config.interface);
    // Before anything is pinned. One that comes between this and the attaching, the kernel refuses to replace.
    if !pins.link().exists() && network::xdp_mode(&config.interface).await? != XdpMode::None {
        return Err(dataplane::Error::Foreign {
            interface: config.interface,
        }
        .into());
    }
    let identity = config
        .cluster
        .as_deref()
        .map(Identity::load)
        .transpose()
        .context("cluster")?;
    let seed = match (&identity, &config.seed_file) {
        (Some(identity), _) => Some(identity.seed()?),
        (None, Some(file)) => Some(read_seed(file)?),
        (None, None) => None,
    };
    let limits = config.limits;
    let sizes = Sizes {
        slots: limits.slots,
        targets: limits.targets,
        notes: limits.notes,
        pending_notes: limits.pending_notes,
        syn_buckets: limits.syn_buckets,
    };
    pins.create()?;
    let claim = pins.claim()?;
    let plane = DataPlane::open(Some(pins.clone()), sizes, features::of_config(&config))?;
    set_seed(&plane, seed)?;
    plane.set_macs(interface.mac, &config.peer_macs);
    let mut steering = adopt::adopt(plane, interface.index, &config, monotonic_ns());
    let is_newcomer = steering.vips.is_empty();
    // How full the notes are decides whether a change may be made at once.
    steering.sweep(monotonic_ns())?;

    let (resolver, mut next_hops) = Resolver::start(config.peer_macs.iter().copied().collect())?;
    let (events, mut health) = mpsc::channel(EVENTS);
    let mut interfaces = network::watch(&config.interface).await?;
    let check = CheckProgram::attach(&pins, &config.interface).context("the health checks' program")?;
    let mut daemon = Daemon {
        path,
        fleet,
        steering,
        scheduler: Scheduler::new(events, preflight::checks_at_once()),
        resolver,
        presence: Presence::default(),
        speaker: None,
        cluster: None,
        groups: Vec::new(),
        announcements: Announcements::new(&config.admin_socket),
        watched: interfaces.clone(),
        attached: Attached::Yes,
        next_look: Instant::now() + ATTACHED,
        started: Instant::now(),
        last_reload_error: None,
        next_sweep: Instant::now(),
        sweeps: SweepStatus::default(),
        canaries: Canaries::new(preflight::checks_at_once()),
        interface,
        config,
        check_program: Ok(check),
        pins,
        _claim: claim,
    };
    let config = daemon.config.clone();
    daemon.steering.apply(&config, monotonic_ns())?;
    daemon.fleet.put_in_force();
    if let (Some(identity), Some(directory)) = (identity, config.cluster) {
        daemon.join(directory, identity, is_newcomer).await?;
    }
    daemon.attach()?;
    daemon.follow().await;
    daemon.announce();
    daemon.elect().await?;
    daemon.tell_routers()?;

    let (requests, mut admin) = mpsc::channel(64);
    let server = admin::serve(&daemon.config.admin_socket, requests)?;
    tracing::info!(
        interface = daemon.config.interface,
        vips = daemon.config.vips.len(),
        socket = %daemon.config.admin_socket.display(),
        "ready"
    );
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut judgements, mut ways) = (Vec::new(), Vec::new());
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            _ = hangup.recv() => daemon.reload().await,
            () = daemon.fleet.news() => daemon.on_fleet().await,
            1.. = health.recv_many(&mut judgements, EVENTS) => {
                daemon.steering.on_health(&judgements, monotonic_ns());
                judgements.clear();
                daemon.check();
            }
            1.. = next_hops.recv_many(&mut ways, EVENTS) => {
                if daemon.steering.on_next_hops(&ways, monotonic_ns()) {
                    daemon.resolver.set(daemon.steering.neighbours());
                }
                ways.clear();
                daemon.check();
            }
            happened = next(&mut daemon.cluster) => daemon.on_cluster(happened),
            Some(request) = admin.recv() => daemon.answer(request).await,
            Ok(()) = interfaces.changed() => {
                let interface = interfaces.borrow_and_update().clone();
                daemon.on_interface(interface).await;
            }
            _ = tick.tick() => daemon.tick().await,
        }
        daemon.post();
    }
    if let Some(cluster) = daemon.cluster.take() {
        cluster.stop(&mut daemon.steering).await;
    }
    daemon.announcements.stop().await;
    if let Some(speaker) = daemon.speaker.take() {
        tracing::info!("VIPs of VRRP groups are given up");
        speaker.stop().await;
    }
    daemon.canaries.stop(&mut daemon.steering).await;
    drop(server);
    tracing::info!("stopped; the data plane goes on forwarding (`foobar lb detach` removes it)");
    Ok(())
}

impl Daemon {
    fn attach(&mut self) -> Result<()> {
        let attachment = self
            .steering
            .plane
            .attach(&self.config.interface, self.interface.index)?;
        let how = match attachment {
            Attachment::New(Mode::Native) => "native",
            Attachment::New(Mode::Generic) => "generic",
            Attachment::Replaced => "in the place of the program that was there",
        };
        tracing::info!(interface = self.config.interface, how, "XDP program attached");
        Ok(())
    }

    /// Becomes a member of the cluster.
    async fn join(&mut self, directory: PathBuf, identity: Identity, is_newcomer: bool) -> Result<()> {
        let now_ns = monotonic_ns();
        let nodes = identity.peers.iter().map(|peer| peer.name.clone());
        let peers = Peers::new(nodes, is_newcomer, now_ns);
        let places = self.steering.plane.notes().places();
        self.steering.peers = Some(peers);
        self.steering.renewals = Some(Renewals::new(places, ticks(now_ns)));
        self.steering.set_configuration(&self.config.vips, now_ns);
        self.steering.tick_peers(now_ns);
        let notes = self.steering.plane.note_events()?;
        self.cluster = Some(Cluster::start(directory, identity, notes).await?);
        Ok(())
    }

    fn on_cluster(&mut self, happened: Happened) {
        if let Some(cluster) = &mut self.cluster {
            cluster.take(happened, &mut self.steering, monotonic_ns());
        }
    }

    /// Sends what the last event made to be sent, and checks what it made to be checked.
    fn post(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            self.steering.converse_if_changed(monotonic_ns());
            cluster.post(&mut self.steering);
        }
        if std::mem::take(&mut self.steering.has_new_checks) {
            self.check();
        }
    }

    /// The interface has changed: another MAC address, other addresses, gone, or back as another one.
    async fn on_interface(&mut self, interface: Option<Interface>) {
        let Some(interface) = interface else {
            tracing::error!(
                interface = self.config.interface,
                "the interface is gone: nothing is forwarded"
            );
            return;
        };
        if interface.state != self.interface.state {
            tracing::warn!(interface = interface.name, state = ?interface.state, "the interface's state changed");
        }
        let replaced = interface.index != self.interface.index;
        // Going down takes routes and neighbours along.
        let revived = interface.state == OperationalState::Up && self.interface.state != OperationalState::Up;
        let readdressed =
            interface.mac != self.interface.mac || interface.addresses != self.interface.addresses;
        self.interface = interface;
        if replaced {
            self.steering.ingress = self.interface.index;
            self.check_program = CheckProgram::attach(&self.pins, &self.config.interface);
            if let Err(error) = &self.check_program {
                tracing::error!(%error, "health checks can't be led to their backends");
            }
            if let Err(error) = self.attach() {
                tracing::error!(%error, "the interface is back as another one, and can't be attached to");
            }
        }
        if replaced || readdressed || revived {
            self.steering
                .plane
                .set_macs(self.interface.mac, &self.config.peer_macs);
            self.follow().await;
            self.announce();
        }
    }

    /// Lets resolver, checks and the checks' routes follow what the configuration names.
    async fn follow(&mut self) {
        self.resolver.set(self.steering.neighbours());
        let sources = presence::sources(&self.config, &self.interface);
        for family in sources.missing {
            tracing::error!(
                interface = self.config.interface,
                "the interface has no {family} address of its own: health checks of {family} VIPs can't be sent. Give \
                 it one; a link-local address is not enough"
            );
        }
        for source in sources.found {
            if let Err(error) = CheckRoute::install(self.interface.index, source, CHECKS).await {
                tracing::error!(%error, %source, "health checks can't be led to the interface");
            }
        }
        self.canaries
            .set(&self.config, &self.interface, &mut self.steering)
            .await;
        self.check();
    }

    fn check(&mut self) {
        self.scheduler.set(self.steering.checks());
    }

    /// Has the owners of the VIPs in groups elected, by what the configuration and the reasons say now.
    async fn elect(&mut self) -> Result<()> {
        let groups = self.steering.groups(&self.config, self.attached);
        // What it owned is still owned for a lease: a new thread goes on with it.
        self.speaker.take_if(|speaker| speaker.has_ended());
        if groups == self.groups && (self.speaker.is_some() || groups.is_empty()) {
            return Ok(());
        }
        if self.speaker.is_none() {
            let started = Speaker::start(self.steering.plane.leases(), self.watched.clone());
            self.speaker = Some(started.context("the thread for VRRP")?);
        }
        if let Some(speaker) = &self.speaker {
            speaker.set(groups.clone()).await;
        }
        self.groups = groups;
        // Until now, addresses that are in no group any more were renewed.
        self.steering.settle_leases();
        Ok(())
    }

    /// As [`Self::elect`] and [`Self::tell_routers`], where an error is no reason to end.
    async fn elect_again(&mut self) {
        if let Err(error) = self.elect().await {
            tracing::error!("VIPs in VRRP groups have no owner here: {error:#}");
        }
        let routes = self.routes();
        self.announcements.set_again(&self.config, routes);
        self.steering.set_announced(self.announcements.announced());
    }

    /// Has routers be told which VIPs they may send here.
    fn tell_routers(&mut self) -> Result<()> {
        let routes = self.routes();
        self.announcements.set(&self.config, routes)?;
        self.steering.set_announced(self.announcements.announced());
        Ok(())
    }

    fn routes(&self) -> Vec<Route> {
        let bgp = self.config.bgp.iter();
        let of = |bgp| self.steering.routes(bgp, self.attached, self.interface.state);
        bgp.flat_map(of).collect()
    }

    /// Tells the segment which of the VIPs are here.
    fn announce(&mut self) {
        self.presence.tell(&self.config, &self.interface);
    }

    async fn tick(&mut self) {
        let now_ns = monotonic_ns();
        if self.steering.tick(now_ns) {
            self.check();
        }
        self.steering.tick_peers(now_ns);
        self.canaries.look(&mut self.steering);
        let begin = Instant::now();
        if begin >= self.next_sweep && self.steering.needs_sweep() {
            let cpu = cpu_time();
            if let Err(error) = self.steering.sweep(now_ns) {
                tracing::error!(%error, "the notes can't be read: no slot settles");
            }
            self.sweeps.count += 1;
            self.sweeps.cpu_us += cpu_time().saturating_sub(cpu).as_micros() as u64;
            self.steering.tell_renewed(now_ns);
            self.resolver.set(self.steering.neighbours());
            self.check();
            self.next_sweep = Instant::now() + SWEEP.max(begin.elapsed() * 10);
        }
        self.steering.share_slots(now_ns);
        let is_tracked = !self.config.vrrp.is_empty() || self.config.bgp.is_some();
        if is_tracked && begin >= self.next_look {
            self.next_look = begin + ATTACHED;
            if self.canaries.has_lost_its_way().await {
                tracing::warn!("somebody has removed the canary's way: it is laid again");
                self.canaries
                    .set(&self.config, &self.interface, &mut self.steering)
                    .await;
            }
            self.attached = match network::xdp_mode(&self.config.interface).await {
                Ok(XdpMode::None) | Err(_) => Attached::No,
                Ok(XdpMode::Native | XdpMode::Generic | XdpMode::Multiple) => Attached::Yes,
            };
        }
        self.elect_again().await;
    }
}

/// What happens in the cluster; nothing where there is none.
async fn next(cluster: &mut Option<Cluster>) -> Happened {
    match cluster {
        Some(cluster) => cluster.next().await,
        None => std::future::pending().await,
    }
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}

/// Takes away the route that health checks took.
pub(super) async fn forget_check_route(config: &Config) {
    let Ok(interface) = network::lookup(&config.interface).await else {
        return;
    };
    for any in [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ] {
        // The VIPs that the daemon ran with may be others than the file's now.
        let alike = |address: IpAddr| address.is_ipv4() == any.is_ipv4();
        let in_use = interface.addresses.iter().any(|net| alike(net.addr()))
            || config.vips.iter().any(|vip| alike(vip.address));
        if in_use && let Err(error) = CheckRoute::left(interface.index, any, CHECKS).remove().await {
            eprintln!("foobar: the health checks' route stays: {error}");
        }
    }
    if let Err(error) = canary::remove().await {
        eprintln!("foobar: the canary's way stays: {error}");
    }
}
