//! The canary: connections that this balancer makes to its own VIPs, through its own data plane. Its packets never meet
//! the NIC's program by themselves, so they go through a veth pair on whose far end the same program is, and leave by the
//! NIC as users' do; the backend's answers come as answers to any client of this host's address.
//!
//! It shows what health checks can't: that the program steers, and to somebody who answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use foobar_common::check::CANARY_MARK;
use tokio::sync::mpsc;

use super::presence;
use super::steering::{Steering, Vip};
use crate::balancer::plan::Serving;
use crate::config::{Check, Config, Probe, Protocol, Service};
use crate::dataplane::CanaryExit;
use crate::health::{CheckStatus, CheckedTarget, HealthEvent, Scheduler, State};
use crate::network::{CANARY_NEAR, CanaryPair, CheckMark, CheckRoute, Interface, MacAddress, MarkedWay};

/// Transitions that wait for the loop.
const EVENTS: usize = 1024;

const MARK: CheckMark = CheckMark((CANARY_MARK >> 16) as u16);

/// What the way depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    nic: u32,
    mac: MacAddress,
    sources: Vec<IpAddr>,
}

/// The connections to all services, and the way that they take.
pub(super) struct Canaries {
    scheduler: Scheduler,
    events: mpsc::Receiver<HealthEvent>,
    /// The services by their index.
    services: Vec<Service>,
    way: Option<Way>,
    exit: Option<CanaryExit>,
}

impl Canaries {
    /// None yet.
    pub(super) fn new(at_once: usize) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        Self {
            scheduler: Scheduler::new(sender, at_once),
            events,
            services: Vec::new(),
            way: None,
            exit: None,
        }
    }

    /// Follows the configuration that is in force, and the interface.
    pub(super) async fn set(&mut self, config: &Config, interface: &Interface, steering: &mut Steering) {
        let Some(canary) = config.canary else {
            self.scheduler.set(Vec::new());
            steering.canaries.clear();
            self.way = None;
            // An earlier daemon may have left it.
            if let Err(error) = self.take_down(steering).await {
                tracing::warn!("the canary's way stays: {error:#}");
            }
            return;
        };
        let tried = steering.vips.iter().filter(|vip| is_tried(vip));
        self.services = tried.map(|vip| vip.config.service()).collect();
        // Until it is known to hold, it is not.
        let state = |service: &Service| steering.canaries.get(service).cloned().unwrap_or_default();
        steering.canaries = self
            .services
            .iter()
            .map(|service| (*service, state(service)))
            .collect();
        let way = Way {
            nic: interface.index,
            mac: interface.mac,
            sources: presence::sources(config, interface).found,
        };
        if self.way.as_ref() != Some(&way) || self.has_lost_its_way().await {
            self.way = None;
            self.scheduler.set(Vec::new());
            if let Err(error) = self.lay(&way, steering).await {
                tracing::error!(
                    "the canary has no way into the data plane, VIPs are not known to be served: {error:#}"
                );
                return;
            }
            self.way = Some(way);
        }
        let target = |(id, service): (u32, &Service)| {
            let port = service.ports.first();
            CheckedTarget {
                id,
                mark: CANARY_MARK,
                address: SocketAddr::new(service.address, port),
                check: Check {
                    port,
                    probe: Probe::Tcp,
                    timing: canary.timing(),
                },
                initial: steering
                    .canaries
                    .get(service)
                    .map_or(State::Unknown, |canary| canary.state),
            }
        };
        self.scheduler
            .set((0..).zip(&self.services).map(target).collect());
    }

    /// Lays the way: first where packets go, at last what leads them there.
    async fn lay(&mut self, way: &Way, steering: &mut Steering) -> Result<()> {
        self.take_down(steering).await?;
        let pair = CanaryPair::lay(way.mac).await?;
        let pins = steering.plane.pins().context("the data plane is not pinned")?;
        self.exit = Some(CanaryExit::attach(pins, CANARY_NEAR, way.nic)?);
        steering.plane.attach_canary(Some(pair.far))?;
        for source in &way.sources {
            CheckRoute::install(pair.near, *source, MarkedWay::of_canary(MARK, way.mac)).await?;
        }
        Ok(())
    }

    async fn take_down(&mut self, steering: &mut Steering) -> Result<()> {
        steering.plane.attach_canary(None)?;
        self.exit = None;
        remove().await
    }

    /// Whether the way is gone that was laid. What nothing leads there goes by this host's other routes, to whoever has
    /// the VIP: it has to be laid again.
    pub(super) async fn has_lost_its_way(&self) -> bool {
        self.way.is_some() && matches!(CanaryPair::is_laid().await, Ok(false))
    }

    /// Sees what has become of the connections.
    pub(super) fn look(&mut self, steering: &mut Steering) {
        while let Ok(event) = self.events.try_recv() {
            let Some(service) = self.services.get(event.id as usize) else {
                continue;
            };
            match event.state {
                State::Up => tracing::info!(%service, "the canary holds"),
                _ => tracing::error!(
                    %service,
                    reason = event.reason,
                    "the canary fails: connections through this balancer's data plane are not answered"
                ),
            }
        }
        for (id, status) in self.scheduler.snapshot() {
            if let Some(service) = self.services.get(id as usize) {
                steering.canaries.insert(*service, Canary::of(status));
            }
        }
    }

    /// Ends the connections, and takes their way down.
    pub(super) async fn stop(mut self, steering: &mut Steering) {
        self.scheduler.set(Vec::new());
        if let Err(error) = self.take_down(steering).await {
            tracing::warn!("the canary's way stays: {error:#}");
        }
    }
}

/// What is known of a service's canary.
#[derive(Clone, Debug)]
pub(super) struct Canary {
    pub(super) state: State,
    /// The last result in words; empty before the first.
    pub(super) last: String,
    pub(super) latency_us: Option<u64>,
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            state: State::Unknown,
            last: String::new(),
            latency_us: None,
        }
    }
}

impl Canary {
    fn of(status: CheckStatus) -> Self {
        Self {
            state: status.state,
            last: status.last,
            latency_us: status.latency.map(|latency| latency.as_micros() as u64),
        }
    }
}

/// What is known of the canaries of all services.
pub(super) type Known = BTreeMap<Service, Canary>;

/// Whether a service is one that connections can be made to.
fn is_tried(vip: &Vip) -> bool {
    vip.config.protocol == Protocol::Tcp && !vip.config.backends.is_empty()
}

impl Steering {
    /// Whether a service has healthy backends, and this balancer's data plane leads to none of them.
    pub(super) fn is_cut_off(&self, vip: &Vip) -> bool {
        vip.serving == Serving::Healthy && matches!(self.canary(vip), Some(State::SoftDown | State::HardDown))
    }

    /// Whether it is not known yet if a service's canary holds.
    pub(super) fn is_untried(&self, vip: &Vip) -> bool {
        self.canary(vip) == Some(State::Unknown)
    }

    fn canary(&self, vip: &Vip) -> Option<State> {
        let canary = self.canaries.get(&vip.config.service());
        canary.map(|canary| canary.state)
    }
}

/// Removes what a daemon may have left of the way.
///
/// # Errors
/// The kernel refuses, or something of it is somebody else's.
pub(super) async fn remove() -> Result<()> {
    if !CanaryPair::is_laid().await? {
        return Ok(());
    }
    // The rules first: what they lead nowhere goes by other routes, to whoever has the VIP.
    for any in [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ] {
        let way = MarkedWay::of_canary(MARK, MacAddress::default());
        CheckRoute::left(0, any, way).lead_nobody().await?;
    }
    CanaryPair::remove().await?;
    Ok(())
}
