//! What the daemon's stories have in common: a world of two backends that serve, held streams, and what a
//! status says. It knows nothing of slots and notes but what `foobar status` tells.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use foobar_tests::lb::Config;
use foobar_tests::netns::Namespace;
use foobar_tests::pattern::seed;
use foobar_tests::steady::{PORT, SERVICE};
use foobar_tests::streams::client::{Client, Load};
use foobar_tests::streams::server::Server;
use foobar_tests::world::{Backend, World, backend_address};
use serde_json::Value;

/// What the checks of some stories ask, so that they fail while the service itself goes on.
pub(crate) const CHECK_PORT: u16 = 7001;
/// Timings that let a story end soon; `hard_after` can't be shorter.
const QUICK: [&str; 7] = [
    "interval = \"300ms\"",
    "doubt_interval = \"100ms\"",
    "down_interval = \"300ms\"",
    "timeout = \"500ms\"",
    "fall = 2",
    "rise = 2",
    "hard_after = \"1s\"",
];
pub(crate) const STREAMS: usize = 40;
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A world of two backends that serve.
pub(crate) fn world() -> Result<(World, Vec<Server>)> {
    let world = World::new(2)?;
    let servers = serve(&world, PORT)?;
    Ok((world, servers))
}

pub(crate) fn serve(world: &World, port: u16) -> Result<Vec<Server>> {
    world
        .backends()
        .map(|backend| Server::start(world, backend, port))
        .collect()
}

/// Two backends, few slots, quick checks.
pub(crate) fn config() -> Config {
    Config {
        vip_lines: vec!["slots = 256"],
        check_lines: QUICK.to_vec(),
        ..Config::new(PORT, [1, 2], seed())
    }
}

/// [`config`], with checks that ask another port than the service's.
pub(crate) fn checked_elsewhere() -> Config {
    let mut config = config();
    config.check_lines.push("port = 7001");
    config
}

/// Holds streams that are never silent for long.
pub(crate) fn hold(world: &World) -> Result<Client> {
    let load = Load {
        held: STREAMS,
        short_rate: 0,
        gap: (Duration::from_millis(100), Duration::from_millis(200)),
        longest_gap: Duration::from_millis(300),
        patience: PATIENCE,
        ..Load::new(SERVICE, seed())
    };
    let client = Client::start(world, load)?;
    client.wait_held(STREAMS, PATIENCE)?;
    Ok(client)
}

/// The backends that new streams reach; not one of them may fail.
pub(crate) fn reached(world: &World) -> Result<Vec<Backend>> {
    let report = hold(world)?.stop()?;
    ensure!(
        report.failed() == 0 && report.corrupt_bytes == 0,
        "new streams failed: {report}"
    );
    Ok(report.spread.into_keys().collect())
}

/// How many held streams a backend serves.
pub(crate) fn held_by(client: &Client, backend: Backend) -> u64 {
    client
        .held()
        .iter()
        .filter(|held| held.backend == backend)
        .count() as u64
}

/// Whether the client gets a connection, by one SYN and its first retransmission.
pub(crate) fn connects(world: &World) -> Result<bool> {
    world
        .client()
        .run(|| Ok(TcpStream::connect_timeout(&SocketAddr::V4(SERVICE), Duration::from_millis(1500)).is_ok()))
}

/// What a status says of a backend; null where it does not name it.
pub(crate) fn told(status: &Value, address: Ipv4Addr) -> Value {
    let backends = status["vips"][0]["backends"].as_array();
    backends
        .and_then(|all| {
            all.iter()
                .find(|backend| backend["address"] == address.to_string())
        })
        .cloned()
        .unwrap_or_default()
}

pub(crate) fn of(status: &Value, backend: Backend) -> Value {
    told(status, backend_address(backend))
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub(crate) fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "it does not say {word:?}:\n{text}");
    }
}

/// The XDP program on an interface.
pub(crate) fn xdp_on(host: &Namespace, interface: &str) -> Result<Option<u64>> {
    let link = host.ip(&["-json", "-details", "link", "show", "dev", interface])?;
    let link: Value = serde_json::from_str(&link)?;
    Ok(link[0]["xdp"]["prog"]["id"].as_u64())
}

/// What the daemon has in the balancer's kernel besides pins.
pub(crate) fn traces(world: &World) -> Result<Vec<String>> {
    let mut traces = Vec::new();
    for (arguments, mark) in [
        (["rule", "show"].as_slice(), "26210"),
        (&["route", "show", "table", "all"], "table 26210"),
        (&["neighbour", "show"], "169.254.102.98"),
    ] {
        let shown = world.lb().ip(arguments)?;
        traces.extend(
            shown
                .lines()
                .filter(|line| line.contains(mark))
                .map(str::to_owned),
        );
    }
    traces.extend(xdp_on(world.lb(), "eth0")?.map(|id| format!("XDP program {id}")));
    Ok(traces)
}
