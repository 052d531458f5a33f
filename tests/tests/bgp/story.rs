//! What the stories share: the world, servers, and balancers.

use std::time::Duration;

use anyhow::{Result, ensure};
use foobar_tests::bgp::{Place, config, wait_announced};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::steady::PORT;
use foobar_tests::streams::client::{Client, Load};
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
        let start = |lb, place| Balancer::start_on(world, lb, &config(lb, place, BACKENDS));
        let mut pair = Self {
            first: start(Lb::First, places[0])?,
            second: start(Lb::Second, places[1])?,
        };
        wait_announced(&mut pair.first)?;
        wait_announced(&mut pair.second)?;
        Ok(pair)
    }
}

/// Streams to both VIPs.
pub(crate) struct Streams([Client; 2]);

/// How many are held to each VIP.
pub(crate) const HELD: usize = 150;

impl Streams {
    /// Opens them.
    pub(crate) fn open(world: &World) -> Result<Self> {
        let open = |to: std::net::SocketAddr| {
            let load = Load {
                held: HELD,
                gap: (Duration::from_millis(50), Duration::from_millis(400)),
                longest_gap: Duration::from_millis(400),
                ..Load::new(to, 7)
            };
            Client::start(world, load)
        };
        let streams = Self([open((VIP, PORT).into())?, open((VIP6, PORT).into())?]);
        for client in &streams.0 {
            client.wait_held(HELD, Duration::from_secs(20))?;
        }
        Ok(streams)
    }

    /// Closes them: none failed, no byte was wrong, and each said something while it was looked at.
    pub(crate) fn assert_whole(self) -> Result<()> {
        for client in self.0 {
            let report = client.stop()?;
            println!("{report}");
            ensure!(
                report.failed() == 0 && report.corrupt_bytes == 0 && report.exchanges > HELD as u64,
                "{report}"
            );
        }
        Ok(())
    }
}
