//! A VIP that is moved by hand from one balancer to another and back, while backends come and go at both. The two
//! have the same seed and configuration, and no link between them.
//!
//! A slot has at most three owners, by construction: the table is rendezvous, all but two backends stay, and so
//! whom a slot can ever belong to are those two and the best of the others.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::agents::{Agent, AgentConfig};
use crate::churn::{Backends, Change, Member, WEIGHT};
use crate::pattern::Random;
use crate::steady::PORT;
use crate::streams::client::{Client, Load};
use crate::streams::report::Report;
use crate::streams::server::Server;
use crate::world::{Backend, Family, World};

mod pair;

use pair::{Order, Pair};

/// Backends that stay, and all of the world.
const STAY: Backend = 3;
const BACKENDS: Backend = 5;
/// A change and a move a second.
const ROUND: Duration = Duration::from_secs(1);
const STREAMS: usize = 250;
const DEADLINE: Duration = Duration::from_secs(20);
/// Where outer headers come from.
const TRUSTED: [&str; 2] = ["203.0.113.64/26", "2001:db8:0:7f::/64"];

/// What packets of flows that may be another's carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// The slot's earlier owners as candidates.
    Second,
    /// The control: nothing. Each balancer has notes of the flows that it has seen, and only of them.
    OnlyOne,
}

/// What makes one case differ from another.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The VIP's family.
    pub vip: Family,
    /// The outer headers' family.
    pub outer: Family,
    /// A backend behind a gateway.
    pub far: Option<Backend>,
    /// What packets carry.
    pub chance: Chance,
    /// Changes, each with a move.
    pub rounds: u32,
    /// The seed of everything.
    pub seed: u64,
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    /// What the client saw.
    pub report: Report,
    /// Bytes that the servers found wrong.
    pub corrupt_at_servers: u64,
    /// Streams that were held after a change and a move, over all rounds.
    pub moved: usize,
    /// Those of them whose slot belonged to another backend than the stream's at that time.
    pub elsewhere: usize,
    /// Packets that agents gave to the next candidate.
    pub given_on: u64,
    /// Packets with candidates that an agent kept because it had the socket.
    pub kept_owned: u64,
    /// Packets that each balancer steered.
    pub packets: [u64; 2],
    /// Slots in which a change waited at the end, at both balancers.
    pub waiting: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.report)?;
        write!(
            f,
            "streams under moves {}, of them owned elsewhere {}; packets given on {}, kept by their owner {}; by the \
             balancers {:?}; slots that wait {}; corrupt bytes at servers {}",
            self.moved,
            self.elsewhere,
            self.given_on,
            self.kept_owned,
            self.packets,
            self.waiting,
            self.corrupt_at_servers
        )
    }
}

/// Runs a case. At its end the VIP's owner dies, and the other takes the VIP once more.
pub fn run(case: Case) -> Result<Outcome> {
    let mut world = World::new(BACKENDS)?;
    world.add_balancer()?;
    if let Some(far) = case.far {
        world.put_behind_gateway(far)?;
    }
    if [case.vip, case.outer].contains(&Family::V6) {
        world.add_ipv6()?;
    }
    let agents = agents(&world, case)?;
    let on = SocketAddr::new(case.vip.vip(), PORT);
    let servers: Vec<Server> = world
        .backends()
        .map(|backend| Server::listen(&world, backend, on))
        .collect::<Result<_>>()?;
    let mut pair = Pair::start(&world, case)?;
    let client = Client::start(
        &world,
        Load {
            held: STREAMS,
            life: Some((Duration::from_secs(1), Duration::from_secs(6))),
            gap: (Duration::from_millis(100), Duration::from_millis(800)),
            longest_gap: Duration::from_millis(1200),
            limit: ROUND * case.rounds * 3 + Duration::from_secs(60),
            ..Load::new(on, case.seed)
        },
    )?;
    client.wait_held(STREAMS * 9 / 10, DEADLINE)?;

    let mut random = Random::new(case.seed, u64::MAX);
    let (mut moved, mut elsewhere) = (0, 0);
    let mut story = String::new();
    let start = Instant::now();
    for round in 1..=case.rounds {
        let order = [Order::ChangeFirst, Order::Together, Order::MoveFirst][round as usize % 3];
        let change = match round {
            1 => Change::Add(BACKENDS),
            _ => next_change(&mut random, &pair.config.backends),
        };
        let began = Instant::now();
        pair.round(change, order)?;
        let held = client.held();
        moved += held.len();
        elsewhere += pair.elsewhere(&held)?;
        let _ = write!(story, " {change} {order:?} {} ms,", began.elapsed().as_millis());
        pair.wait_given_up()?;
        pair.stays_until(start + ROUND * round)?;
    }
    println!("rounds:{story}");
    let told = pair.told()?;
    pair.die()?;
    std::thread::sleep(ROUND);
    let report = client.stop()?;
    let count = |counter: &str| -> Result<u64> { agents.iter().map(|agent| agent.count(counter)).sum() };
    Ok(Outcome {
        report,
        corrupt_at_servers: servers
            .iter()
            .map(|server| server.seen().corrupt.load(Ordering::Relaxed))
            .sum(),
        moved,
        elsewhere,
        given_on: count("given_on")?,
        kept_owned: count("kept_owned")?,
        packets: told.map(|(packets, _)| packets),
        waiting: told.iter().map(|(_, waiting)| waiting).sum(),
    })
}

fn agents(world: &World, case: Case) -> Result<Vec<Agent<'_>>> {
    let of = |own: Backend| {
        let config = AgentConfig {
            vips: vec![case.vip.vip()],
            trusted: TRUSTED.map(str::to_owned).to_vec(),
            peers: world
                .backends()
                .filter(|&peer| peer != own)
                .map(|peer| case.outer.backend(peer))
                .collect(),
        };
        Agent::start_as(world, own, &config)
    };
    world.backends().map(of).collect()
}

/// The next change: one of the backends that come and go does so.
fn next_change(random: &mut Random, backends: &Backends) -> Change {
    let backend = random.between(u64::from(STAY) + 1, u64::from(BACKENDS)) as Backend;
    let possible = match backends.get(&backend) {
        None => vec![Change::Add(backend)],
        Some(Member { drained: true, .. }) => vec![Change::Undrain(backend)],
        Some(Member { weight: 0, .. }) => vec![Change::Reweight(backend, WEIGHT), Change::Remove(backend)],
        Some(_) => vec![
            Change::Drain(backend),
            Change::Reweight(backend, 0),
            Change::Remove(backend),
            Change::Remove(backend),
        ],
    };
    random.choose(&possible).copied().unwrap_or(Change::Add(backend))
}
