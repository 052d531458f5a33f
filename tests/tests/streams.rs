//! Streams end to end: what users keep while the balancer's backends change.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use foobar_common::counters::Counter;
use foobar_common::slot::Phase;
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::pattern::seed;
use foobar_tests::pins::Pins;
use foobar_tests::process::Process;
use foobar_tests::steady::{self, Case, History, PORT, SERVICE};
use foobar_tests::streams::client::{Client, Load};
use foobar_tests::streams::report::Cause;
use foobar_tests::streams::server::Server;
use foobar_tests::table::Table;
use foobar_tests::watch::Watch;
use foobar_tests::world::{Backend, VIP, World, backend_address};

/// Overrides how many seconds backends change in every case.
const SECONDS_VARIABLE: &str = "FOOBAR_STREAMS_SECONDS";

/// The harness's own test, without a balancer: streams live by a plain route, and a route that changes under
/// them is seen as resets.
#[test]
fn the_harness_sees_resets() -> Result<()> {
    let world = World::new(2)?;
    let servers = world
        .backends()
        .map(|b| Server::start(&world, b, PORT))
        .collect::<Result<Vec<_>>>()?;
    world.route_vip_via(backend_address(1))?;
    let load = Load {
        held: 200,
        ..Load::new(SERVICE, seed())
    };
    let client = Client::start(&world, load)?;
    client.wait_held(200, Duration::from_secs(20))?;
    std::thread::sleep(Duration::from_secs(3));
    let before = client.report();
    println!("{before}");
    assert_eq!(before.failed(), 0, "{before}");
    assert_eq!(before.spread.keys().copied().collect::<Vec<_>>(), [1]);
    assert!(before.exchanges > 400, "{before}");

    world.route_vip_via(backend_address(2))?;
    std::thread::sleep(Duration::from_secs(3));
    client.wait_held(200, Duration::from_secs(20))?;
    let after = client.stop()?;
    println!("{after}");
    assert!(after.failed_by(Cause::Reset) >= 200, "{after}");
    assert_eq!(after.failed_by(Cause::Reset), after.failed_on(1), "{after}");
    assert_eq!(after.corrupt_bytes, 0, "{after}");
    assert!(
        servers
            .iter()
            .all(|s| s.seen().corrupt.load(Ordering::Relaxed) == 0)
    );
    Ok(())
}

/// The data plane by itself, on a table that is written here: streams outlive a change of every slot's owner
/// where the slots keep their history, and break where they don't.
#[test]
fn a_slots_history_keeps_streams_without_a_daemon() -> Result<()> {
    let world = World::new(3)?;
    let _servers = world
        .backends()
        .map(|b| Server::start(&world, b, PORT))
        .collect::<Result<Vec<_>>>()?;
    let seed = seed();
    let table = Table::start(&world, SERVICE, seed)?;
    let load = Load {
        held: 300,
        ..Load::new(SERVICE, seed)
    };
    let client = Client::start(&world, load)?;
    client.wait_held(300, Duration::from_secs(20))?;
    table.move_all(Phase::Moving, |old| old % 3 + 1);
    std::thread::sleep(Duration::from_secs(5));
    let pins = Pins::open(&world.bpffs())?;
    let watch = Watch::new(pins.range_of(SERVICE)?, PORT);
    let kept = client.report();
    println!("{kept}");
    assert_eq!(kept.failed(), 0, "{kept}");
    assert_eq!(kept.spread.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(watch.elsewhere(&pins, &client.held())?.len(), 300);
    assert!(pins.counter(Counter::NotePromoted)? >= 300);

    table.move_all(Phase::Settled, |old| old);
    std::thread::sleep(Duration::from_secs(5));
    let lost = client.stop()?;
    println!("{lost}");
    assert!(lost.failed_by(Cause::Reset) >= 300, "{lost}");
    assert_eq!(lost.corrupt_bytes, 0, "{lost}");
    Ok(())
}

/// The namespaces, run directories and mounts of a world.
fn traces(world: &str) -> Result<Vec<String>> {
    let mut traces = Vec::new();
    for directory in [Path::new("/run/netns"), &std::env::temp_dir()] {
        for entry in std::fs::read_dir(directory)? {
            traces.extend(entry?.file_name().into_string().ok());
        }
    }
    traces.extend(
        std::fs::read_to_string("/proc/mounts")?
            .lines()
            .map(str::to_owned),
    );
    traces.retain(|trace| trace.contains(world));
    Ok(traces)
}

/// After a failure too: a world is dropped while its test unwinds.
#[test]
fn a_world_leaves_nothing_behind() -> Result<()> {
    let world = World::new(1)?;
    let name = world
        .directory()
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .into_owned();
    // Four hosts and the directory, a bpffs in it, and `ip netns`'s mounts of the four.
    assert!(traces(&name)?.len() >= 6, "{:?}", traces(&name)?);
    let log = world.directory().join("log");
    let sleeper = Process::start(world.client(), Command::new("sleep").arg("600"), &log)?;
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _both = (sleeper, world);
        panic!("a test that fails");
    }));
    assert!(failed.is_err());
    assert_eq!(traces(&name)?, [""; 0]);
    Ok(())
}

fn case(seconds: u64) -> Case {
    let seconds = std::env::var(SECONDS_VARIABLE)
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(seconds);
    Case {
        duration: Duration::from_secs(seconds),
        idle: None,
        kill_every: None,
        history: History::Kept,
        seed: seed(),
    }
}

/// No stream broke, no byte was wrong, and the case was worth it: the slots of 30 % of the streams changed
/// owner under them.
fn assert_nothing_broke(outcome: &steady::Outcome) {
    println!("{outcome}");
    assert_eq!(outcome.report.failed(), 0, "{outcome}");
    assert_eq!(
        outcome.report.corrupt_bytes + outcome.corrupt_at_servers,
        0,
        "{outcome}"
    );
    assert_eq!(outcome.held, 1000, "{outcome}");
    assert!(outcome.changed * 10 >= outcome.held * 3, "{outcome}");
}

#[test]
fn held_streams_survive_a_minute_of_changes() -> Result<()> {
    let outcome = steady::run(case(60))?;
    assert_nothing_broke(&outcome);
    assert!(outcome.steered.0 > 0, "{outcome}");
    Ok(())
}

#[test]
fn held_streams_survive_slots_that_move_and_settle() -> Result<()> {
    let idle = Duration::from_secs(3);
    let outcome = steady::run(Case {
        idle: Some((idle, Duration::from_millis(2200))),
        ..case(35)
    })?;
    let gap = outcome.report.longest_gap;
    assert!(
        gap < idle,
        "this machine is too busy: a stream was silent for {gap:?}
{outcome}"
    );
    assert_nothing_broke(&outcome);
    assert!(outcome.steered.0 > 0 && outcome.steered.1 > 0, "{outcome}");
    assert!(outcome.settled_again > 0, "{outcome}");
    Ok(())
}

#[test]
fn held_streams_survive_a_daemon_that_is_killed() -> Result<()> {
    let every = Duration::from_secs(5);
    let case = Case {
        kill_every: Some(every),
        ..case(35)
    };
    let outcome = steady::run(case)?;
    assert_nothing_broke(&outcome);
    // The last one may fall into the end of the run.
    let kills = (case.duration.as_secs() / every.as_secs())
        .saturating_sub(1)
        .max(1);
    assert!(u64::from(outcome.kills) >= kills, "{outcome}");
    Ok(())
}

/// The control: with the same changes, but slots that forget their history, streams break.
#[test]
fn held_streams_break_without_the_slots_history() -> Result<()> {
    let outcome = steady::run(Case {
        history: History::Forgotten,
        ..case(15)
    })?;
    println!("{outcome}");
    assert!(outcome.forgotten > 0, "{outcome}");
    assert!(outcome.report.failed_by(Cause::Reset) >= 50, "{outcome}");
    assert_eq!(
        outcome.report.corrupt_bytes + outcome.corrupt_at_servers,
        0,
        "{outcome}"
    );
    Ok(())
}

/// A server's death: new streams are served again within the detection time, other backends' streams do not
/// notice; and it is used again when it is back.
#[test]
fn a_killed_servers_streams_are_the_only_ones_that_break() -> Result<()> {
    const DEAD: Backend = 2;
    let world = World::new(4)?;
    let seed = seed();
    let start = |backend| Server::start(&world, backend, PORT);
    let mut servers = world.backends().map(start).collect::<Result<Vec<_>>>()?;
    let interval = Duration::from_millis(800);
    let mut config = Config::new(PORT, world.backends(), seed);
    config.check_interval = Some(interval);
    let mut balancer = Balancer::start(&world, &config)?;
    let load = Load {
        held: 400,
        short_rate: 100,
        ..Load::new(SERVICE, seed)
    };
    let client = Client::start(&world, load)?;
    client.wait_held(400, Duration::from_secs(20))?;
    assert_eq!(client.report().failed(), 0, "{}", client.report());

    let died = Instant::now();
    servers[usize::from(DEAD) - 1].stop()?;
    // The detection itself is a matter of the machine's load: it is reported. What is asserted is that it
    // ends: once the balancer says that the server is down, no new stream meets it.
    balancer.wait("the dead server is seen to be down", |status| {
        status["vips"][0]["backends"].as_array().is_some_and(|backends| {
            backends
                .iter()
                .filter(|backend| backend["state"] == "soft_down")
                .count()
                == 1
        })
    })?;
    let detected = Instant::now();
    println!("down after {} ms", detected.duration_since(died).as_millis());
    // A stream that was refused just before may be opened anew a quarter of a second later.
    let margin = Duration::from_secs(1);
    std::thread::sleep(margin + Duration::from_secs(3));
    let after = client.report();
    println!("{after}");
    let refused = after.failed_by(Cause::Refused);
    assert!(refused > 0, "nobody was refused by a dead server: {after}");
    // Whom the dead server had accepted, or would have, but not answered yet: nobody had said who serves them.
    let nameless = [Cause::Reset, Cause::Closed].map(|cause| after.failures.get(&(cause, None)));
    let nameless: u64 = nameless.into_iter().flatten().sum();
    assert_eq!(
        after.failed(),
        refused + after.failed_on(DEAD) + nameless,
        "others broke: {after}"
    );
    let last = after.last_refusal.context("no refusal")?;
    println!("served again after {} ms", last.duration_since(died).as_millis());
    assert!(
        last <= detected + margin,
        "still refused {:?} after the server was seen to be down: {after}",
        last.duration_since(detected)
    );

    let before = after.spread.get(&DEAD).copied().unwrap_or(0);
    servers[usize::from(DEAD) - 1] = start(DEAD)?;
    let back = Instant::now();
    while client.report().spread.get(&DEAD).copied().unwrap_or(0) == before {
        assert!(
            back.elapsed() < Duration::from_secs(20),
            "the server is not used again"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let end = client.stop()?;
    assert_eq!(end.failed(), after.failed(), "{end}");
    Ok(())
}

/// A switch floods frames for MAC addresses that it doesn't know: the balancer must leave them alone.
#[test]
fn a_frame_for_another_mac_is_not_forwarded() -> Result<()> {
    let world = World::new(1)?;
    let _server = Server::start(&world, 1, PORT)?;
    let balancer = Balancer::start(&world, &Config::new(PORT, [1], seed()))?;
    let pins = balancer.pins()?;
    let connect = |patience| {
        world
            .client()
            .run(|| Ok(TcpStream::connect_timeout(&SocketAddr::V4(SERVICE), patience).is_ok()))
    };
    let teach = |mac: &str| world.client().teach_neighbour(VIP.into(), mac);

    let refused = pins.counter(Counter::DropForeignMac)?;
    teach("02:00:00:00:00:99")?;
    assert!(
        !connect(Duration::from_millis(2500))?,
        "a frame for another MAC was forwarded"
    );
    assert!(
        pins.counter(Counter::DropForeignMac)? > refused,
        "the balancer has not seen the frame"
    );

    // The same with the balancer's own MAC gets through: the MAC is what made the difference.
    teach(&world.lb().mac_of("eth0")?)?;
    assert!(
        connect(Duration::from_secs(5))?,
        "the balancer does not forward at all"
    );
    Ok(())
}
