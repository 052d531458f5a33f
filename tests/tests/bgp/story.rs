//! What the stories share: the world, servers, and balancers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foobar_tests::bgp::{Place, config, paths, wait_announced};
use foobar_tests::cluster;
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::steady::PORT;
use foobar_tests::streams::client::{Client, Held, Load};
use foobar_tests::streams::report::Report;
use foobar_tests::streams::server::Server;
use foobar_tests::world::{Backend, Lb, VIP, VIP6, World};

/// Backends of the world.
pub(crate) const BACKENDS: Backend = 2;

/// Two balancers' hosts, backends, and the client behind a router; of both families.
pub(crate) fn world() -> Result<World> {
    let mut world = World::new(BACKENDS)?;
    world.add_balancer()?;
    world.put_client_behind_router()?;
    world.add_ipv6()?;
    Ok(world)
}

/// Streams' servers on all backends, at both VIPs.
pub(crate) fn serve(world: &World) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for backend in world.backends() {
        servers.push(Server::listen(world, backend, (VIP, PORT).into())?);
        servers.push(Server::listen(world, backend, (VIP6, PORT).into())?);
    }
    Ok(servers)
}

/// The usual configuration of a balancer.
pub(crate) fn usual(lb: Lb) -> Config {
    config(lb, Place::default(), BACKENDS)
}

/// Two balancers.
pub(crate) struct Pair<'a> {
    pub(crate) first: Balancer<'a>,
    pub(crate) second: Balancer<'a>,
}

impl<'a> Pair<'a> {
    /// Starts both, and waits until their sessions carry both VIPs.
    pub(crate) fn start(world: &'a World, places: [Place; 2]) -> Result<Self> {
        let [one, other] = places;
        let (one, other) = (
            config(Lb::First, one, BACKENDS),
            config(Lb::Second, other, BACKENDS),
        );
        Self::start_with(world, [&one, &other])
    }

    /// The same of a cluster, in its usual configuration.
    pub(crate) fn start_clustered(world: &'a World) -> Result<Self> {
        let [one, other] = [Lb::First, Lb::Second].map(|lb| Config {
            clustered: true,
            ..usual(lb)
        });
        cluster::form(world, one.seed)?;
        let mut pair = Self::start_with(world, [&one, &other])?;
        cluster::wait_agreed(&mut pair.first)?;
        cluster::wait_agreed(&mut pair.second)?;
        Ok(pair)
    }

    fn start_with(world: &'a World, [one, other]: [&Config; 2]) -> Result<Self> {
        let start = |lb, config| {
            let mut balancer = Balancer::prepare_on(world, lb, config)?;
            balancer.run()?;
            anyhow::Ok(balancer)
        };
        let mut pair = Self {
            first: start(Lb::First, one)?,
            second: start(Lb::Second, other)?,
        };
        for (balancer, config) in [(&mut pair.first, one), (&mut pair.second, other)] {
            balancer.wait_owners(config)?;
            wait_announced(balancer)?;
        }
        Ok(pair)
    }
}

/// Streams to both VIPs.
pub(crate) struct Streams {
    held: usize,
    clients: [(SocketAddr, Client); 2],
}

/// How many are held to each VIP.
pub(crate) const HELD: usize = 150;

impl Streams {
    /// Opens them, and short ones besides.
    pub(crate) fn open(world: &World) -> Result<Self> {
        let load = Load::new((VIP, PORT), 7);
        Self::hold(world, HELD, load.short_rate, load.seed)
    }

    /// Opens so many to each VIP, and a second so many short ones besides.
    pub(crate) fn hold(world: &World, held: usize, short_rate: u32, seed: u64) -> Result<Self> {
        let open = |to: SocketAddr| -> Result<_> {
            let load = Load {
                held,
                short_rate,
                gap: (Duration::from_millis(50), Duration::from_millis(400)),
                longest_gap: Duration::from_millis(400),
                ..Load::new(to, seed)
            };
            Ok((to, Client::start(world, load)?))
        };
        let clients = [open((VIP, PORT).into())?, open((VIP6, PORT).into())?];
        for (_, client) in &clients {
            client.wait_held(held, Duration::from_secs(20))?;
        }
        Ok(Self { held, clients })
    }

    /// Which balancer the router sends each of them to, by VIP.
    pub(crate) fn paths(&self, world: &World) -> Result<[BTreeMap<SocketAddr, Lb>; 2]> {
        let all = paths::observed(world, PORT)?;
        let of = |(_, client): &(SocketAddr, Client)| -> Result<BTreeMap<SocketAddr, Lb>> {
            let path = |held: Held| {
                let lb = all.get(&held.local).context("a stream that says nothing")?;
                Ok((held.local, *lb))
            };
            client.held().into_iter().map(path).collect()
        };
        Ok([of(&self.clients[0])?, of(&self.clients[1])?])
    }

    /// Closes them, and says what happened, by VIP.
    pub(crate) fn stop(self) -> Result<[Report; 2]> {
        let [(_, first), (_, second)] = self.clients;
        let reports = [first.stop()?, second.stop()?];
        reports.iter().for_each(|report| println!("{report}"));
        Ok(reports)
    }

    /// Closes them: none failed, no byte was wrong, and each said something while it was looked at.
    pub(crate) fn assert_whole(self) -> Result<()> {
        let held = self.held as u64;
        for report in self.stop()? {
            ensure!(
                report.failed() == 0 && report.corrupt_bytes == 0 && report.exchanges > held,
                "{report}"
            );
        }
        Ok(())
    }
}

/// A pause in which every stream says something.
pub(crate) fn let_streams_talk() {
    std::thread::sleep(Duration::from_millis(900));
}
