//! The world of a scenario and the load in it: streams, short requests, visits of the site and UDP echo, of both
//! families.
//!
//! It knows nothing about who balances.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::noted::Death;
use super::pair::Ownership;
use super::probe::{Echo, Echoes, Probe};
use super::timeline::{Event, Timeline};
use crate::agents::{Agent, AgentConfig};
use crate::site::Site;
use crate::site::visitors::{Visit, Visitors};
use crate::streams::client::{Client, Load};
use crate::streams::record::{Entries, Record};
use crate::streams::report::Report;
use crate::streams::server::Server;
use crate::world::{Backend, Family, World};

/// The streams' port.
pub const PORT: u16 = 7_000;
/// UDP echo's port.
pub const ECHO_PORT: u16 = 7_001;
/// Where outer headers come from, where there are agents.
pub const TUNNEL_SOURCE: &str = "203.0.113.64/26";
/// Short requests a second, of each family.
const SHORT_RATE: u32 = 50;
/// How long the streams may take until all of them are open.
const OPEN: Duration = Duration::from_secs(60);

/// How packets get to backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// By their MAC addresses; balancers remember flows.
    L2,
    /// In GUE, with candidates for the backends' agents; balancers remember nothing.
    Agents,
}

/// Two balancers' hosts, a client and backends, of both families; where a router decides, the client is behind one.
///
/// # Errors
/// Where it can't be built.
pub fn world(backends: Backend, ownership: Ownership) -> Result<World> {
    let mut world = World::new(backends)?;
    world.add_balancer()?;
    if ownership == Ownership::Router {
        world.put_client_behind_router()?;
    }
    world.add_ipv6()?;
    Ok(world)
}

/// Everything in a world but the balancers.
#[derive(Debug)]
pub struct Stage<'w> {
    /// The world.
    pub world: &'w World,
    /// What is done to the balancers.
    pub timeline: Timeline,
    /// Both balancers' notes at a death.
    pub deaths: Vec<Death>,
    servers: Vec<Vec<Server>>,
    corrupt: u64,
    _echoes: Vec<Echo>,
    _agents: Vec<Agent<'w>>,
    clients: Vec<(Client, Arc<Record>)>,
    probes: Vec<Probe>,
    visitors: Vec<Visitors>,
    site: Site,
}

/// Everything that was seen.
#[derive(Debug)]
pub struct Observed {
    /// Streams of all clients, which number them from 0 on.
    pub entries: Entries,
    /// UDP echo of each family.
    pub echoes: Vec<(Family, Echoes)>,
    /// Visits of the site.
    pub visits: Vec<Visit>,
    /// What both balancers had noted at a death, where that is of interest.
    pub deaths: Vec<Death>,
    /// What was done.
    pub events: Vec<Event>,
    /// When it was over.
    pub end: Duration,
    /// What each client counted.
    pub reports: Vec<Report>,
    /// Bytes that servers found wrong.
    pub corrupt_at_servers: u64,
    /// Streams that were held when the load ended.
    pub held: usize,
    /// TCP segments that the client sent again.
    pub retransmitted: u64,
}

impl<'w> Stage<'w> {
    /// Starts the backends' servers, the site and, where packets need them, agents.
    ///
    /// # Errors
    /// Where one does not start.
    pub fn set(world: &'w World, forward: Forward) -> Result<Self> {
        let agents = match forward {
            Forward::L2 => Vec::new(),
            Forward::Agents => world
                .backends()
                .map(|own| agent(world, own))
                .collect::<Result<_>>()?,
        };
        let mut echoes = Vec::new();
        for backend in world.backends() {
            for family in Family::BOTH {
                let on = SocketAddr::new(family.vip(), ECHO_PORT);
                echoes.push(Echo::start(world.backend(backend)?, backend, on)?);
            }
        }
        Ok(Self {
            world,
            timeline: Timeline::begin(),
            deaths: Vec::new(),
            servers: world
                .backends()
                .map(|backend| servers(world, backend))
                .collect::<Result<_>>()?,
            corrupt: 0,
            _echoes: echoes,
            _agents: agents,
            clients: Vec::new(),
            probes: Vec::new(),
            visitors: Vec::new(),
            site: Site::start(world).context("the site")?,
        })
    }

    /// Starts the load and waits until all streams are open. Times count from the beginning of this.
    ///
    /// # Errors
    /// Where streams can't be opened, or the site does not answer.
    pub fn load(&mut self, streams: usize, seed: u64, limit: Duration) -> Result<()> {
        let trust = self.site.trust()?;
        self.timeline = Timeline::begin();
        let origin = self.timeline.origin;
        let each = streams / Family::BOTH.len();
        for (nth, family) in Family::BOTH.into_iter().enumerate() {
            let record = Arc::new(Record::new(origin, (nth * each) as u32));
            let load = Load {
                held: each,
                short_rate: SHORT_RATE,
                gap: (Duration::from_millis(100), Duration::from_millis(1_500)),
                longest_gap: Duration::from_millis(1_500),
                limit,
                record: Some(Arc::clone(&record)),
                ..Load::new(SocketAddr::new(family.vip(), PORT), seed + nth as u64)
            };
            self.clients.push((Client::start(self.world, load)?, record));
            let to = SocketAddr::new(family.vip(), ECHO_PORT);
            self.probes.push(Probe::start(self.world.client(), to, origin)?);
        }
        for (client, _) in &self.clients {
            client.wait_held(each, OPEN)?;
        }
        for family in Family::BOTH {
            let visitors = Visitors::start(self.world, &trust, family, seed, origin)?;
            self.visitors.push(visitors);
        }
        Ok(())
    }

    /// Streams that are held now.
    pub fn held(&self) -> usize {
        self.clients.iter().map(|(client, _)| client.held().len()).sum()
    }

    /// Kills a backend's servers.
    ///
    /// # Errors
    /// Where one has panicked.
    pub fn stop_servers(&mut self, backend: Backend) -> Result<()> {
        self.corrupt += self.corrupt_of(backend);
        self.of(backend)?.iter_mut().try_for_each(Server::stop)?;
        self.of(backend)?.clear();
        Ok(())
    }

    /// Starts a backend's servers again.
    ///
    /// # Errors
    /// Where one does not start.
    pub fn start_servers(&mut self, backend: Backend) -> Result<()> {
        let fresh = servers(self.world, backend)?;
        *self.of(backend)? = fresh;
        Ok(())
    }

    fn of(&mut self, backend: Backend) -> Result<&mut Vec<Server>> {
        self.servers
            .get_mut(usize::from(backend).wrapping_sub(1))
            .with_context(|| format!("there is no backend {backend}"))
    }

    fn corrupt_of(&self, backend: Backend) -> u64 {
        let servers = self.servers.get(usize::from(backend).wrapping_sub(1));
        let counts = servers.into_iter().flatten().map(|server| &server.seen().corrupt);
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Ends the load, and says what was seen.
    ///
    /// # Errors
    /// Where a part of it has failed.
    pub fn end(mut self) -> Result<Observed> {
        let held = self.held();
        let end = self.timeline.origin.elapsed();
        let echoes = Family::BOTH
            .into_iter()
            .zip(self.probes.drain(..))
            .map(|(family, probe)| Ok((family, probe.stop()?)))
            .collect::<Result<_>>()?;
        let mut visits = Vec::new();
        for visitors in self.visitors.drain(..) {
            visits.extend(visitors.stop()?);
        }
        let (clients, records): (Vec<_>, Vec<_>) = self.clients.drain(..).unzip();
        let reports = stop_all(clients)?;
        let mut entries = Entries::default();
        for record in records {
            let Entries { timed, broken } = record.take();
            entries.timed.extend(timed);
            entries.broken.extend(broken);
        }
        let corrupt: u64 = self
            .world
            .backends()
            .map(|backend| self.corrupt_of(backend))
            .sum();
        Ok(Observed {
            entries,
            echoes,
            visits,
            deaths: self.deaths,
            events: self.timeline.events,
            end,
            reports,
            corrupt_at_servers: self.corrupt + corrupt,
            held,
            retransmitted: retransmitted(self.world)?,
        })
    }
}

/// Stops clients, all at once.
fn stop_all(clients: Vec<Client>) -> Result<Vec<Report>> {
    std::thread::scope(|scope| {
        let stopping: Vec<_> = clients
            .into_iter()
            .map(|client| scope.spawn(|| client.stop()))
            .collect();
        let joined = stopping.into_iter().map(|thread| {
            thread
                .join()
                .map_err(|_| anyhow!("a thread that stops a client panicked"))?
        });
        joined.collect()
    })
}

/// A backend's servers: on its own IPv4 address as well, by which proxies reach it.
fn servers(world: &World, backend: Backend) -> Result<Vec<Server>> {
    Ok(vec![
        Server::listen(world, backend, (Ipv4Addr::UNSPECIFIED, PORT).into())?,
        Server::listen(world, backend, SocketAddr::new(Family::V6.vip(), PORT))?,
    ])
}

fn agent(world: &World, own: Backend) -> Result<Agent<'_>> {
    let config = AgentConfig {
        vips: Family::BOTH.map(Family::vip).to_vec(),
        trusted: vec![TUNNEL_SOURCE.to_owned()],
        peers: world
            .backends()
            .filter(|&peer| peer != own)
            .map(|peer| Family::V4.backend(peer))
            .collect(),
    };
    Agent::start_as(world, own, &config)
}

/// RetransSegs of the client's namespace (RFC 4022).
fn retransmitted(world: &World) -> Result<u64> {
    let text = world
        .client()
        .run(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let column = names.split(' ').position(|name| name == "RetransSegs");
    let value = column.and_then(|column| values.split(' ').nth(column));
    value
        .and_then(|value| value.parse().ok())
        .with_context(|| format!("no RetransSegs in {text}"))
}
