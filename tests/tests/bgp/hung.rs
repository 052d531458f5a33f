//! A BIRD that hangs, while somebody asks for the status all the time and a backend dies: it costs the daemon nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use foobar_tests::artifacts;
use foobar_tests::bgp::bird::Bird;
use foobar_tests::bgp::{wait_announced, wait_routed};
use foobar_tests::lb::Balancer;
use foobar_tests::netns::run_command;
use foobar_tests::steady::PORT;
use foobar_tests::streams::report::Cause;
use foobar_tests::streams::server::Server;
use foobar_tests::vrrp::until;
use foobar_tests::world::{Backend, Lb, VIP, VIP6, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::life::bird_of;
use crate::story::{Pair, Streams, serve, usual, world};

/// The backend that dies.
const DYING: Backend = 2;
/// The longest that a status may take, on a busy machine: a third of what a hung BIRD would have cost.
const ANSWER: Duration = Duration::from_secs(1);

/// Somebody who asks for the status, as a dashboard does, ten times a second.
struct Dashboard {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Seen>>,
}

/// What it saw.
#[derive(Default)]
struct Seen {
    longest: Duration,
    answers: usize,
    troubles: BTreeSet<String>,
}

impl Dashboard {
    fn start(socket: &Path) -> Result<Self> {
        let (binary, socket) = (artifacts::binary()?, socket.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !stopped.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let mut command = Command::new(&binary);
                let said = run_command(command.args(["status", "--json", "--socket"]).arg(&socket))?;
                seen.longest = seen.longest.max(asked.elapsed());
                seen.answers += 1;
                let status: Value = serde_json::from_str(&said)?;
                let trouble = status["bgp"]["trouble"].as_str();
                seen.troubles.extend(trouble.map(str::to_owned));
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(seen)
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the dashboard panicked"))?
    }
}

/// Ends a backend's servers; how long it takes until no slot is the backend's any more.
fn notice(balancer: &Balancer<'_>, servers: Vec<Server>) -> Result<Duration> {
    let pins = balancer.pins()?;
    let range = pins.range_of((VIP, PORT))?;
    drop(servers);
    until("the dead backend owns no slot", || {
        let owners: Result<Vec<Option<Backend>>> = range.all().map(|slot| pins.owner(slot)).collect();
        Ok(!owners?.contains(&Some(DYING)))
    })
}

fn serve_again(world: &World, balancers: [&mut Balancer<'_>; 2]) -> Result<Vec<Server>> {
    let servers = vec![
        Server::listen(world, DYING, (VIP, PORT).into())?,
        Server::listen(world, DYING, (VIP6, PORT).into())?,
    ];
    for balancer in balancers {
        balancer.wait_owners(&usual(Lb::First))?;
    }
    Ok(servers)
}

/// Whether a process is stopped.
fn is_stopped(process: i32) -> Result<bool> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a process has a name")?;
    Ok(rest.starts_with('T'))
}

#[test]
fn a_bird_that_hangs_costs_the_daemon_nothing_is_told_of_and_is_replaced() -> Result<()> {
    let world = world()?;
    let mut servers = serve(&world)?;
    let dying = servers.split_off(2);
    let _router = Bird::start(&world, "")?;
    // Flows go from one balancer to the other and back while slots are moving: that takes a cluster.
    let mut pair = Pair::start_clustered(&world)?;
    wait_routed(&world, &Lb::BOTH)?;
    let streams = Streams::hold(&world, 60, 0, 7)?;
    let usually = notice(&pair.first, dying)?;
    let dying = serve_again(&world, [&mut pair.first, &mut pair.second])?;

    let dashboard = Dashboard::start(pair.first.socket())?;
    let bird = bird_of(&pair.first)?;
    let stopped = Instant::now();
    kill(Pid::from_raw(bird), Signal::SIGSTOP)?;
    // It has been asked something by then, and has not answered.
    std::thread::sleep(Duration::from_millis(700));
    let noticed = notice(&pair.first, dying)?;
    ensure!(
        is_stopped(bird)?,
        "BIRD was replaced before the backend was missed"
    );
    wait_routed(&world, &[Lb::Second])?;
    pair.first.wait("another BIRD", |status| {
        let process = status["bgp"]["process"].as_i64();
        process.is_some_and(|process| process != i64::from(bird)) && status["bgp"]["restarts"] == 1
    })?;
    let replaced = stopped.elapsed();
    let status = wait_announced(&mut pair.first)?;
    ensure!(status["bgp"]["trouble"].is_null(), "{status:#}");
    wait_routed(&world, &Lb::BOTH)?;
    let Seen {
        longest,
        answers,
        troubles,
    } = dashboard.stop()?;
    println!(
        "a backend's death was noticed in {noticed:?} while BIRD hung, in {usually:?} before; BIRD was replaced after \
         {replaced:?}; of {answers} answers, the longest took {longest:?}"
    );
    ensure!(
        noticed < usually + ANSWER && longest < ANSWER,
        "{noticed:?}, {longest:?}"
    );
    let says = |what: &str| troubles.iter().any(|trouble| trouble.contains(what));
    ensure!(
        says("has not answered for 1s; after 3s it is killed"),
        "{troubles:?}"
    );
    // From 3 s after the first question, which came within half a second.
    ensure!(
        (Duration::from_secs(3)..Duration::from_secs(6)).contains(&replaced),
        "{replaced:?}"
    );
    for report in streams.stop()? {
        let lost = [Cause::Silent, Cause::Unanswered].map(|cause| report.failed_by(cause));
        ensure!(
            report.failed_on(1) == 0 && lost == [0, 0] && report.corrupt_bytes == 0 && report.exchanges > 600,
            "{report}"
        );
    }
    Ok(())
}

/// An operator's orders do not wait for it either, but for what becomes of them.
#[test]
fn a_drain_while_bird_hangs_ends_when_routers_know_and_a_stop_waits_no_longer_than_for_its_end() -> Result<()>
{
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Bird::start(&world, "")?;
    let mut first = Balancer::start(&world, &usual(Lb::First))?;
    wait_announced(&mut first)?;
    kill(Pid::from_raw(bird_of(&first)?), Signal::SIGSTOP)?;
    let asked = Instant::now();
    first.operate_balancer("drain")?;
    let drained = asked.elapsed();
    let status = first.wait("another BIRD", |status| status["bgp"]["restarts"] == 1)?;
    ensure!(status["bgp"]["routes"][0]["announced"] == false, "{status:#}");
    first.operate_balancer("undrain")?;
    wait_announced(&mut first)?;
    wait_routed(&world, &[Lb::First])?;

    kill(Pid::from_raw(bird_of(&first)?), Signal::SIGSTOP)?;
    let asked = Instant::now();
    first.stop()?;
    let ended = asked.elapsed();
    println!("with a BIRD that hung, a drain took {drained:?} and a stop {ended:?}");
    ensure!(drained < Duration::from_secs(6) && ended < Duration::from_secs(8));
    wait_routed(&world, &[])
}
