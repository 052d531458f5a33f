//! Health checks in numbers: ten thousand targets, each of them checked through the data plane, with one rule.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use foobar_tests::agents::{Agent, AgentConfig};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::pattern::seed;
use foobar_tests::steady::PORT;
use foobar_tests::world::{Backend, VIP, World};
use nix::sys::socket::{Backlog, listen};
use serde_json::Value;

const VIPS: u8 = 100;
/// Addresses of each of the two hosts that serve.
const ADDRESSES: u8 = 50;
const TARGETS: usize = 2 * ADDRESSES as usize * VIPS as usize;
/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(180);
/// Patient enough that no check fails because the machine is busy.
const CHECK: &str = "[vip.check]\nkind = \"tcp\"\ninterval = \"5s\"\ndoubt_interval = \"2s\"\ndown_interval = \"5s\"\n\
                     timeout = \"4s\"\nhard_after = \"120s\"\n";
/// Far fewer than there are targets.
const FILES: u64 = 1024;

/// The VIP of a number; every other one is reached through tunnels.
fn vip(number: u8) -> Ipv4Addr {
    match number {
        0 => VIP,
        _ => Ipv4Addr::new(198, 51, 100, number),
    }
}

const fn forward(number: u8) -> &'static str {
    if number.is_multiple_of(2) {
        "forward = \"l2\""
    } else {
        "forward = \"gue\""
    }
}

fn addresses(host: Backend) -> impl Iterator<Item = Ipv4Addr> {
    (0..ADDRESSES).map(move |place| Ipv4Addr::new(192, 0, 2, 80 + host * ADDRESSES + place))
}

/// A hundred VIPs, each with a hundred backends.
fn config() -> Config {
    let all: Vec<Ipv4Addr> = addresses(1).chain(addresses(2)).collect();
    let mut further = String::new();
    for number in 1..VIPS {
        let _ = write!(
            further,
            "[[vip]]\nname = \"v{number}\"\naddress = \"{}\"\nport = {PORT}\nslots = 256\n{}\n{CHECK}",
            vip(number),
            forward(number)
        );
        for address in &all {
            let _ = writeln!(further, "[[vip.backend]]\naddress = \"{address}\"");
        }
    }
    Config {
        targets: TARGETS as u32 + 100,
        vip_lines: vec!["slots = 256", forward(0)],
        check_lines: CHECK.lines().skip(2).collect(),
        strangers: all,
        further,
        tables: vec!["[tunnel]\nsource_v4 = \"203.0.113.64/26\""],
        ..Config::new(PORT, [], seed())
    }
}

/// Gives a host its addresses and the VIPs.
fn furnish(world: &World, host: Backend) -> Result<()> {
    let namespace = world.backend(host)?;
    for address in addresses(host) {
        namespace.ip(&["addr", "add", &format!("{address}/32"), "dev", "eth0"])?;
    }
    for number in 1..VIPS {
        namespace.ip(&["addr", "add", &format!("{}/32", vip(number)), "dev", "lo"])?;
    }
    Ok(())
}

/// Accepts connections, and counts them. Dropped, it refuses them.
struct Door {
    accepted: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    fn open(world: &World, host: Backend) -> Result<Self> {
        let listener = world.backend(host)?.run(|| {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
            // Again, with room for many at a time.
            listen(&listener, Backlog::new(4096)?)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })?;
        let (accepted, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&accepted), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok(_) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self {
            accepted,
            ended,
            thread: Some(thread),
        })
    }

    fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has no result.
            let _ = thread.join();
        }
    }
}

/// How many targets of each host are in a state.
fn in_state(status: &Value, state: &str) -> [usize; 2] {
    let of = |host: Backend| {
        let own: Vec<String> = addresses(host).map(|address| address.to_string()).collect();
        let backends = status["vips"].as_array().into_iter().flatten();
        backends
            .filter_map(|vip| vip["backends"].as_array())
            .flatten()
            .filter(|backend| backend["state"] == state)
            .filter(|backend| own.iter().any(|address| backend["address"] == address.as_str()))
            .count()
    };
    [of(1), of(2)]
}

/// Waits until so many targets of each host are up, and so many down; how long that took.
fn wait_states(balancer: &Balancer<'_>, up: [usize; 2], down: [usize; 2]) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let status = balancer.status()?;
        let found = (in_state(&status, "up"), in_state(&status, "soft_down"));
        if found == (up, down) {
            return Ok(start.elapsed());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "up and down have to be {up:?} and {down:?}, are {found:?}"
        );
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What the balancer's kernel has: rules, and routes of any table.
fn led(world: &World) -> Result<[usize; 2]> {
    let count = |arguments: &[&str]| Ok::<_, anyhow::Error>(world.lb().ip(arguments)?.lines().count());
    Ok([
        count(&["rule", "show"])?,
        count(&["route", "show", "table", "all"])?,
    ])
}

/// Processor time so far, and memory in kB.
fn used(balancer: &Balancer<'_>) -> Result<(Duration, u64)> {
    let process = format!("/proc/{}", balancer.id()?);
    let stat = std::fs::read_to_string(format!("{process}/stat"))?;
    // utime and stime of proc(5), of a hundredth of a second each; the first field here is the third there.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    let status = std::fs::read_to_string(format!("{process}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let memory = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
    Ok((Duration::from_millis(ticks * 10), memory.unwrap_or(0)))
}

#[test]
fn ten_thousand_targets_are_checked_through_the_data_plane_by_one_rule() -> Result<()> {
    const EACH: usize = TARGETS / 2;
    let world = World::new(2)?;
    for host in [1, 2] {
        furnish(&world, host)?;
    }
    let tunnelled = (0..VIPS).filter(|number| !number.is_multiple_of(2));
    let agent = AgentConfig {
        vips: tunnelled.map(|number| IpAddr::from(vip(number))).collect(),
        trusted: vec!["203.0.113.64/26".to_owned()],
        peers: Vec::new(),
    };
    let agents = [
        Agent::start_as(&world, 1, &agent)?,
        Agent::start_as(&world, 2, &agent)?,
    ];
    let first = Door::open(&world, 1)?;
    let second = Door::open(&world, 2)?;
    let before = led(&world)?;
    let start = Instant::now();
    let mut balancer = Balancer::prepare(&world, &config())?;
    balancer.run_under(&["prlimit", &format!("--nofile={FILES}:{FILES}")])?;
    println!("ready after {:?}", start.elapsed());
    wait_states(&balancer, [EACH, EACH], [0, 0])?;
    let (cpu, memory) = used(&balancer)?;
    println!("all are up after {:?}; CPU {cpu:?}, {memory} kB", start.elapsed());
    // A check is three packets at least, and half of the targets are behind tunnels.
    for agent in &agents {
        assert!(agent.count("decapsulated_gue")? >= 3 * EACH as u64 / 2);
    }
    let one_more = before.map(|count| count + 1);
    assert_eq!(led(&world)?, one_more, "one rule and one route");

    // And again, in each interval, by both hosts' account. (A full queue forgets some that have been reset.)
    let (begin, marks) = (Instant::now(), [first.accepted(), second.accepted()]);
    while first.accepted() < marks[0] + EACH as u64 || second.accepted() < marks[1] + EACH as u64 {
        ensure!(begin.elapsed() < PATIENCE, "one of the hosts is checked no more");
        std::thread::sleep(Duration::from_millis(50));
    }
    let (later, memory) = used(&balancer)?;
    println!(
        "as many checks again in {:?}; CPU {:?}, {memory} kB",
        begin.elapsed(),
        later - cpu
    );

    // Each check has met its own target: one host's refusals are no other's.
    drop(second);
    let fell = wait_states(&balancer, [EACH, 0], [0, EACH])?;
    let (at_fall, _) = used(&balancer)?;
    let _second = Door::open(&world, 2)?;
    let rose = wait_states(&balancer, [EACH, EACH], [0, 0])?;
    let (at_rise, memory) = used(&balancer)?;
    println!(
        "half are down after {fell:?}, CPU {:?}; up again after {rose:?}, CPU {:?}, {memory} kB",
        at_fall - later,
        at_rise - at_fall
    );
    assert_eq!(led(&world)?, one_more);
    let log = balancer.log()?;
    let said: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("cannot check"))
        .take(3)
        .collect();
    assert_eq!(said, [""; 0], "the daemon has to do with its open files");
    Ok(())
}
