//! The daemon's promises to an operator: what it refuses and in which words, what a reload, a failure and a
//! removal do to traffic, and what `detach` leaves.
//!
//! It relies on the binary that users get, in a world of two backends; it knows nothing of slots and notes but
//! what `foobar status` says. `streams` has the other half: that changes break no stream.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use foobar_tests::artifacts;
use foobar_tests::lb::{Balancer, Config, VIP_NAME};
use foobar_tests::netns::Namespace;
use foobar_tests::pattern::seed;
use foobar_tests::steady::{PORT, SERVICE};
use foobar_tests::streams::client::{Client, Load};
use foobar_tests::streams::report::{Cause, Report};
use foobar_tests::streams::server::Server;
use foobar_tests::world::{Backend, LB, World, backend_address};
use serde_json::Value;

/// What the checks of some stories ask, so that they fail while the service itself goes on.
const CHECK_PORT: u16 = 7001;
/// Timings that let a story end soon; `hard_after` can't be shorter.
const QUICK: [&str; 7] = [
    "interval = \"300ms\"",
    "doubt_interval = \"100ms\"",
    "down_interval = \"300ms\"",
    "timeout = \"300ms\"",
    "fall = 2",
    "rise = 2",
    "hard_after = \"1s\"",
];
const STREAMS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(20);

/// A world of two backends that serve.
fn world() -> Result<(World, Vec<Server>)> {
    let world = World::new(2)?;
    let servers = serve(&world, PORT)?;
    Ok((world, servers))
}

fn serve(world: &World, port: u16) -> Result<Vec<Server>> {
    world
        .backends()
        .map(|backend| Server::start(world, backend, port))
        .collect()
}

/// Two backends, few slots, quick checks.
fn config() -> Config {
    Config {
        vip_lines: vec!["slots = 256"],
        check_lines: QUICK.to_vec(),
        ..Config::new(PORT, [1, 2], seed())
    }
}

/// [`config`], with checks that ask another port than the service's.
fn checked_elsewhere() -> Config {
    let mut config = config();
    config.check_lines.push("port = 7001");
    config
}

/// Holds streams that are never silent for long.
fn hold(world: &World) -> Result<Client> {
    let load = Load {
        held: STREAMS,
        short_rate: 0,
        gap: (Duration::from_millis(100), Duration::from_millis(200)),
        longest_gap: Duration::from_millis(300),
        ..Load::new(SERVICE, seed())
    };
    let client = Client::start(world, load)?;
    client.wait_held(STREAMS, PATIENCE)?;
    Ok(client)
}

/// The backends that new streams reach; not one of them may fail.
fn reached(world: &World) -> Result<Vec<Backend>> {
    let report = hold(world)?.stop()?;
    ensure!(
        report.failed() == 0 && report.corrupt_bytes == 0,
        "new streams failed: {report}"
    );
    Ok(report.spread.into_keys().collect())
}

/// How many held streams a backend serves.
fn held_by(client: &Client, backend: Backend) -> u64 {
    client
        .held()
        .iter()
        .filter(|held| held.backend == backend)
        .count() as u64
}

/// Whether the client gets a connection, by one SYN and its first retransmission.
fn connects(world: &World) -> Result<bool> {
    world
        .client()
        .run(|| Ok(TcpStream::connect_timeout(&SocketAddr::V4(SERVICE), Duration::from_millis(1500)).is_ok()))
}

/// What a status says of a backend; null where it does not name it.
fn told(status: &Value, address: Ipv4Addr) -> Value {
    let backends = status["vips"][0]["backends"].as_array();
    backends
        .and_then(|all| {
            all.iter()
                .find(|backend| backend["address"] == address.to_string())
        })
        .cloned()
        .unwrap_or_default()
}

fn of(status: &Value, backend: Backend) -> Value {
    told(status, backend_address(backend))
}

fn until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "it does not say {word:?}:\n{text}");
    }
}

/// The XDP program on an interface.
fn xdp_on(host: &Namespace, interface: &str) -> Result<Option<u64>> {
    let link = host.ip(&["-json", "-details", "link", "show", "dev", interface])?;
    let link: Value = serde_json::from_str(&link)?;
    Ok(link[0]["xdp"]["prog"]["id"].as_u64())
}

/// What the daemon has in the balancer's kernel besides pins.
fn traces(world: &World) -> Result<Vec<String>> {
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

/// A program of somebody else, attached as long as it is not dropped.
fn attach_foreign(world: &World, mode: XdpMode) -> Result<Ebpf> {
    world.lb().run(|| {
        let mut object = Ebpf::load_file(artifacts::object("agent")?)?;
        let program: &mut Xdp = object.program_mut("agent").context("no program")?.try_into()?;
        program.load()?;
        program.attach("eth0", mode)?;
        Ok(object)
    })
}

#[test]
fn a_foreign_program_is_never_replaced() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::prepare(&world, &config())?;
    for mode in [XdpMode::Driver, XdpMode::Skb] {
        let foreign = attach_foreign(&world, mode)?;
        let id = xdp_on(world.lb(), "eth0")?;
        assert!(id.is_some(), "no foreign program to be replaced");
        let said = balancer.refusal(&[])?;
        assert_says(&said, &["another XDP program is attached to eth0: it stays"]);
        assert_eq!(xdp_on(world.lb(), "eth0")?, id, "{mode:?}");
        assert!(
            balancer.pins().is_err(),
            "a refused start has left its maps pinned"
        );
        drop(foreign);
    }
    // It was the foreign program that made the difference.
    balancer.run()?;
    balancer.wait_owners(&config())?;
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}

#[test]
fn it_needs_its_capabilities_and_no_other() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::prepare(&world, &config())?;
    let without = |capabilities: &str| {
        balancer.refusal(&[
            "setpriv",
            "--bounding-set",
            capabilities,
            "--inh-caps",
            capabilities,
        ])
    };
    let said = without("-bpf")?;
    assert_says(&said, &["missing capabilities: CAP_BPF. Run as root"]);
    let said = without("-all")?;
    assert_says(&said, &["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    assert_eq!(traces(&world)?, [""; 0]);
    assert!(balancer.pins().is_err() && !balancer.socket().exists());

    let exactly = "-all,+bpf,+net_admin,+perfmon,+net_raw";
    balancer.run_under(&["setpriv", "--bounding-set", exactly, "--inh-caps", exactly])?;
    balancer.wait_owners(&config())?;
    assert_eq!(reached(&world)?, [1, 2]);
    let log = balancer.log()?;
    assert!(!log.contains("ERROR") && !log.contains("could not"), "{log}");
    Ok(())
}

/// A bridge has no XDP of its own: the kernel runs the program on what the bridge hands up.
#[test]
fn a_driver_without_xdp_gets_generic_xdp_with_a_warning() -> Result<()> {
    let (world, _servers) = world()?;
    let lb = world.lb();
    let address = format!("{LB}/24");
    lb.ip(&[
        "link",
        "add",
        "br0",
        "type",
        "bridge",
        "stp_state",
        "0",
        "forward_delay",
        "0",
    ])?;
    lb.ip(&["addr", "del", &address, "dev", "eth0"])?;
    lb.ip(&["addr", "add", &address, "dev", "br0"])?;
    lb.ip(&["link", "set", "eth0", "master", "br0"])?;
    lb.ip(&["link", "set", "br0", "up"])?;
    let mut balancer = Balancer::start(
        &world,
        &Config {
            interface: "br0",
            ..config()
        },
    )?;
    balancer.wait("the checks pass", |status| {
        [1, 2].iter().all(|&backend| of(status, backend)["state"] == "up")
    })?;
    assert_eq!(balancer.status()?["mode"], "generic");
    assert_says(&balancer.status_text(&[])?, &["on br0 (generic XDP)"]);
    assert_says(
        &balancer.log()?,
        &["WARN", "falling back to generic XDP", "several times"],
    );
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}

#[test]
fn a_bad_reload_changes_nothing_and_says_why() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::start(&world, &config())?;
    let client = hold(&world)?;
    let good = std::fs::read_to_string(balancer.config_file())?;
    let target = of(&balancer.status()?, 2)["target"].clone();

    // Without backend 2, and with a key that nobody knows: nothing of it may count.
    let mut without = config();
    without.backends.remove(&2);
    balancer.configure(&without)?;
    let bad = std::fs::read_to_string(balancer.config_file())? + "wieght = 5\n";
    std::fs::write(balancer.config_file(), bad)?;
    balancer.hangup()?;
    let status = balancer.wait("the bad file was read", |status| {
        !status["last_reload_error"].is_null()
    })?;
    assert_says(
        status["last_reload_error"].as_str().unwrap_or_default(),
        &["wieght", "lb.toml"],
    );
    assert_says(&balancer.status_text(&[])?, &["RELOAD REFUSED", "wieght"]);
    assert_says(&balancer.log()?, &["the old one stays in force"]);
    let backend = of(&status, 2);
    assert_eq!(
        (&backend["target"], &backend["removed"]),
        (&target, &Value::Bool(false))
    );
    assert!(backend["slots"].as_u64() > Some(100), "{backend}");
    assert_eq!(reached(&world)?, [1, 2]);

    std::fs::write(balancer.config_file(), good)?;
    balancer.hangup()?;
    balancer.wait("the good file was read", |status| {
        status["last_reload_error"].is_null()
    })?;
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    Ok(())
}

#[test]
fn where_all_are_down_all_are_used() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::start(&world, &checked_elsewhere())?;
    let status = balancer.wait("none is up", |status| {
        status["vips"][0]["serving"] == "none_up"
            && [1, 2]
                .iter()
                .all(|&backend| of(status, backend)["state"] == "soft_down")
    })?;
    for backend in [1, 2] {
        assert!(of(&status, backend)["slots"].as_u64() > Some(100), "{status}");
    }
    assert_says(&balancer.status_text(&[])?, &["ALL BACKENDS DOWN, all are used"]);
    assert_says(&balancer.log()?, &["ERROR", "ALL BACKENDS ARE DOWN"]);
    assert_eq!(reached(&world)?, [1, 2]);

    let client = hold(&world)?;
    let _checked = serve(&world, CHECK_PORT)?;
    balancer.wait("both are up", |status| {
        status["vips"][0]["serving"] == "healthy"
            && [1, 2].iter().all(|&backend| of(status, backend)["state"] == "up")
    })?;
    assert_eq!(reached(&world)?, [1, 2]);
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    Ok(())
}

#[test]
fn a_silent_backend_leaves_its_slots_and_comes_back_as_another_target() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::start(&world, &config())?;
    let before = balancer.wait("both are up", |status| {
        [1, 2].iter().all(|&backend| of(status, backend)["state"] == "up")
    })?;
    let client = hold(&world)?;
    let lost = held_by(&client, 2);
    assert!(lost > 0, "no stream to lose");

    world.backend(2)?.ip(&["link", "set", "eth0", "down"])?;
    let silent = Instant::now();
    balancer.wait("backend 2 is given up", |status| {
        let backend = of(status, 2);
        backend["state"] == "hard_down" && backend["slots"] == 0 && backend["earlier_slots"] == 0
    })?;
    assert!(
        silent.elapsed() >= Duration::from_secs(1),
        "given up before hard_after"
    );
    until("its streams are told", || Ok(client.report().failed() >= lost))?;
    client.wait_held(STREAMS, PATIENCE)?;
    let report = client.stop()?;
    assert_eq!(report.failed_by(Cause::Reset), lost, "{report}");
    assert_eq!((report.failed_on(2), report.failed()), (lost, lost), "{report}");
    assert_eq!(reached(&world)?, [1]);

    world.backend(2)?.ip(&["link", "set", "eth0", "up"])?;
    let after = balancer.wait("backend 2 is back", |status| {
        let backend = of(status, 2);
        backend["state"] == "up" && backend["slots"].as_u64() > Some(100)
    })?;
    assert_ne!(of(&after, 2)["target"], of(&before, 2)["target"]);
    assert_eq!(of(&after, 1)["target"], of(&before, 1)["target"]);
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}

#[test]
fn a_backend_whose_check_fails_keeps_its_flows_and_gets_no_new_ones() -> Result<()> {
    let (world, servers) = world()?;
    let mut checked = serve(&world, CHECK_PORT)?;
    let mut balancer = Balancer::start(&world, &checked_elsewhere())?;
    balancer.wait("both are up", |status| {
        [1, 2].iter().all(|&backend| of(status, backend)["state"] == "up")
    })?;
    let client = hold(&world)?;
    let stay = held_by(&client, 2);
    assert!(stay > 0, "no stream to keep");

    checked[1].stop()?;
    balancer.wait("backend 2 is softly down", |status| {
        let backend = of(status, 2);
        backend["state"] == "soft_down"
            && backend["slots"] == 0
            && backend["earlier_slots"].as_u64() > Some(100)
    })?;
    assert_eq!(reached(&world)?, [1]);
    let blocks = || {
        servers[1]
            .seen()
            .blocks
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    let enough = blocks() + 5 * stay;
    until("its streams go on", || Ok(blocks() >= enough))?;
    assert_eq!(held_by(&client, 2), stay);
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    Ok(())
}

#[test]
fn a_removed_backends_flows_are_cut_at_the_drain_deadline_and_not_before() -> Result<()> {
    const DRAIN: Duration = Duration::from_secs(3);
    let (world, _servers) = world()?;
    let mut config = config();
    config.vip_lines.push("drain_timeout = \"3s\"");
    let mut balancer = Balancer::start(&world, &config)?;
    let client = hold(&world)?;
    let left = held_by(&client, 2);
    assert!(left > 0, "no stream to cut");

    config.backends.remove(&2);
    let removed = Instant::now();
    balancer.reload(&config)?;
    balancer.wait("backend 2 drains", |status| of(status, 2)["removed"] == true)?;
    until("the first stream is cut", || Ok(client.report().failed() > 0))?;
    assert!(
        removed.elapsed() >= DRAIN,
        "cut after {:?}: {}",
        removed.elapsed(),
        client.report()
    );
    until("all its streams are cut", || Ok(client.report().failed() >= left))?;
    balancer.wait("backend 2 is gone", |status| of(status, 2).is_null())?;
    client.wait_held(STREAMS, PATIENCE)?;
    let report = client.stop()?;
    assert_eq!(report.failed_by(Cause::Reset), left, "{report}");
    assert_eq!((report.failed_on(2), report.failed()), (left, left), "{report}");
    assert_says(&balancer.log()?, &["drain deadline: flows that are left are cut"]);
    Ok(())
}

#[test]
fn a_removed_backend_stays_as_long_as_its_flows_do() -> Result<()> {
    const IDLE: Duration = Duration::from_secs(2);
    let (world, _servers) = world()?;
    let mut config = Config {
        idle_timeout: Some(IDLE),
        ..config()
    };
    let mut balancer = Balancer::start(&world, &config)?;
    let client = hold(&world)?;
    let stay = held_by(&client, 2);
    assert!(stay > 0, "no stream to keep");

    config.backends.remove(&2);
    balancer.reload(&config)?;
    // T has passed, and a sweep: only slots that flows of backend 2 hold open are left.
    let status = balancer.wait("slots have moved and settled", |status| {
        let phases = &status["vips"][0]["phases"];
        of(status, 2)["removed"] == true && phases["moving"] == 0 && phases["settled"].as_u64() > Some(200)
    })?;
    let backend = of(&status, 2);
    assert_eq!(backend["slots"], 0, "{backend}");
    assert_eq!(held_by(&client, 2), stay);
    let report: Report = client.stop()?;
    assert!(report.longest_gap < IDLE, "this machine is too busy: {report}");
    assert_eq!(report.failed(), 0, "{report}");

    let status = balancer.wait("backend 2 is gone and all slots have settled", |status| {
        of(status, 2).is_null() && status["vips"][0]["phases"]["settled"] == 256
    })?;
    assert_eq!(of(&status, 1)["slots"], 256);
    assert_says(&balancer.log()?, &["removed backend has drained"]);
    Ok(())
}

#[test]
fn a_backend_that_changes_its_mac_is_followed() -> Result<()> {
    const NEW: &str = "02:00:c0:00:02:99";
    let (world, _servers) = world()?;
    let mut balancer = Balancer::start(&world, &config())?;
    let old = world.backend(2)?.mac_of("eth0")?;
    balancer.wait("the old MAC is known", |status| of(status, 2)["mac"] == old)?;
    let client = hold(&world)?;

    // With arp_notify its kernel tells the segment, as a failover of its NICs would.
    world.backend(2)?.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    world.backend(2)?.ip(&["link", "set", "eth0", "address", NEW])?;
    balancer.wait("the new MAC is known", |status| of(status, 2)["mac"] == NEW)?;
    assert_eq!(reached(&world)?, [1, 2]);
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    Ok(())
}

#[test]
fn backends_that_frames_cannot_reach_are_refused_in_words() -> Result<()> {
    const ROUTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 21);
    const LOOPING: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
    let (world, _servers) = world()?;
    let lb = world.lb();
    lb.ip(&["route", "add", "198.51.100.0/24", "via", "192.0.2.10"])?;
    // As proxy ARP on the segment would have it.
    let (looping, own) = (LOOPING.to_string(), lb.mac_of("eth0")?);
    lb.ip(&[
        "neigh",
        "replace",
        &looping,
        "lladdr",
        &own,
        "dev",
        "eth0",
        "nud",
        "permanent",
    ])?;
    let mut balancer = Balancer::start(
        &world,
        &Config {
            strangers: vec![ROUTED, LOOPING, LB],
            ..config()
        },
    )?;
    for (address, trouble) in [
        (ROUTED, "is behind the gateway 192.0.2.10"),
        (LOOPING, "resolves to a balancer's own MAC address"),
        (LB, "resolves to a balancer's own MAC address"),
    ] {
        let status = balancer.wait("the trouble is told", |status| {
            let backend = told(status, address);
            backend["trouble"]
                .as_str()
                .is_some_and(|said| said.contains(trouble))
                && backend["slots"] == 0
        })?;
        assert!(told(&status, address)["mac"].is_null(), "{status}");
        assert_says(&balancer.status_text(&[])?, &[trouble]);
    }
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}

#[test]
fn only_detach_ends_forwarding_and_it_leaves_nothing() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::start(&world, &config())?;
    let client = hold(&world)?;
    balancer.stop()?;
    assert_eq!(reached(&world)?, [1, 2]);
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    assert!(traces(&world)?.len() >= 4, "{:?}", traces(&world)?);

    assert_says(&balancer.detach()?, &["eth0: detached;", "removed"]);
    assert!(!connects(&world)?, "packets are still forwarded");
    assert_eq!(traces(&world)?, [""; 0]);
    assert_says(&balancer.detach()?, &["eth0: nothing was attached by foobar"]);
    assert_eq!(traces(&world)?, [""; 0]);

    balancer.run()?;
    balancer.wait_owners(&config())?;
    assert!(connects(&world)?, "a start after a detach does not forward");
    Ok(())
}

#[test]
fn another_seed_than_the_running_one_is_refused() -> Result<()> {
    let (world, _servers) = world()?;
    let mut balancer = Balancer::start(&world, &config())?;
    let client = hold(&world)?;
    balancer.stop()?;
    balancer.write_seed(!seed())?;
    let said = balancer.refusal(&[])?;
    assert_says(
        &said,
        &[
            "the seed file differs",
            "would move every flow",
            "foobar lb detach",
        ],
    );

    balancer.write_seed(seed())?;
    balancer.run()?;
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    Ok(())
}

#[test]
fn config_check_tells_good_from_bad_and_where() -> Result<()> {
    let world = World::new(1)?;
    let balancer = Balancer::prepare(&world, &config())?;
    let check = || -> Result<(Option<i32>, String)> {
        let output = Command::new(artifacts::binary()?)
            .args(["config", "check"])
            .arg(balancer.config_file())
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    let (code, said) = check()?;
    assert_eq!(code, Some(0), "{said}");
    assert_says(&said, &["valid", "192.0.2.101:7000/tcp", "2 backends", VIP_NAME]);

    let good = std::fs::read_to_string(balancer.config_file())?;
    let at = good
        .lines()
        .position(|line| line == "weight = 100")
        .context("no weight")?
        + 1;
    let bad = good.replacen("weight = 100", "weight = 257", 1) + "   wieght = 5\n";
    std::fs::write(balancer.config_file(), bad)?;
    let (code, said) = check()?;
    assert_eq!(code, Some(1), "{said}");
    // Both errors in one run, each with its line and column.
    let path = balancer.config_file().display();
    let second = good.lines().count() + 1;
    let places = [format!("{path}:{at}:10"), format!("{path}:{second}:4")];
    assert_says(&said, &[&places[0], "257", &places[1], "wieght"]);
    Ok(())
}
