//! BIRD's life: it dies with the daemon, is started again when it dies alone or hangs, and keeps secrets.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use foobar_tests::bgp::bird::Bird;
use foobar_tests::bgp::{Place, config, session, wait_announced, wait_routed};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::vrrp::until;
use foobar_tests::world::Lb;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::story::{BACKENDS, Pair, Streams, serve, usual, world};

/// The process id of a balancer's BIRD.
pub(crate) fn bird_of(balancer: &Balancer<'_>) -> Result<i32> {
    let process = balancer.status()?["bgp"]["process"].as_i64().context("no BIRD")?;
    Ok(i32::try_from(process)?)
}

/// Whether a process is there, and not only waits to be buried.
fn lives(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

#[test]
fn bird_dies_with_a_killed_daemon_and_flows_go_to_the_other_balancer() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Bird::start(&world, "")?;
    let mut pair = Pair::start(&world, [Place::default(); 2])?;
    wait_routed(&world, &[Lb::First, Lb::Second])?;
    let streams = Streams::open(&world)?;
    for _ in 0..3 {
        let bird = bird_of(&pair.first)?;
        ensure!(lives(bird));
        pair.first.kill()?;
        let died = until("BIRD dies", || Ok(!lives(bird)))?;
        wait_routed(&world, &[Lb::Second])?;
        let started = Instant::now();
        pair.first.run()?;
        wait_routed(&world, &[Lb::First, Lb::Second])?;
        println!(
            "BIRD was gone {died:?} after the daemon, and the VIPs routed {:?} after another one's start",
            started.elapsed()
        );
        wait_announced(&mut pair.first)?;
    }
    streams.assert_whole()
}

#[test]
fn a_bird_that_dies_or_hangs_is_started_again() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Bird::start(&world, "")?;
    let mut first = Balancer::start(&world, &usual(Lb::First))?;
    for (restarts, signal) in [(1, Signal::SIGKILL), (2, Signal::SIGSTOP)] {
        wait_announced(&mut first)?;
        wait_routed(&world, &[Lb::First])?;
        let bird = bird_of(&first)?;
        kill(Pid::from_raw(bird), signal)?;
        wait_routed(&world, &[])?;
        first.wait("another BIRD", |status| {
            let process = status["bgp"]["process"].as_i64();
            process.is_some_and(|process| process != i64::from(bird)) && status["bgp"]["restarts"] == restarts
        })?;
        let status = wait_announced(&mut first)?;
        ensure!(status["bgp"]["trouble"].is_null(), "{status:#}");
    }
    wait_routed(&world, &[Lb::First])
}

#[test]
fn without_bird_the_daemon_says_what_to_install() -> Result<()> {
    let world = world()?;
    let missing = Place {
        lines: "bird = \"/usr/sbin/no-such-bird\"",
        ..Place::default()
    };
    let mut balancer = Balancer::prepare(&world, &config(Lb::First, missing, BACKENDS))?;
    let said = balancer.refusal(&[])?;
    ensure!(
        said.contains("/usr/sbin/no-such-bird") && said.contains("install the package bird2"),
        "{said}"
    );
    // A reload is no reason to end.
    let without = Config {
        announced: false,
        further: String::new(),
        ..usual(Lb::First)
    };
    balancer.configure(&without)?;
    balancer.run()?;
    ensure!(balancer.status()?["bgp"].is_null());
    balancer.reload(&config(Lb::First, missing, BACKENDS))?;
    balancer.wait("the status says so", |status| {
        let trouble = status["bgp"]["trouble"].as_str();
        trouble.is_some_and(|trouble| trouble.contains("install the package bird2"))
    })?;
    Ok(())
}

const PASSWORD: &str = "not-for-the-log";

#[test]
fn a_session_needs_the_password_and_nobody_sees_it() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Bird::start(&world, &format!("password \"{PASSWORD}\";\n ttl security on;"))?;
    let file = world.directory().join("password");
    let write = |text: &str| -> Result<()> {
        std::fs::write(&file, text)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        Ok(())
    };
    let mut with_password = usual(Lb::First);
    let lines = format!("gtsm = true\npassword_file = {file:?}\n[[vip]]\nname = \"six\"");
    with_password.further = with_password.further.replace("[[vip]]\nname = \"six\"", &lines);
    write("wrong\n")?;
    let mut first = Balancer::start(&world, &with_password)?;
    std::thread::sleep(Duration::from_secs(3));
    let status = first.status()?;
    ensure!(session(&status)["state"] != "established", "{status:#}");
    write(&format!("{PASSWORD}\n"))?;
    first.hangup()?;
    wait_announced(&mut first)?;
    wait_routed(&world, &[Lb::First])?;

    let directory = first.socket().with_extension("bgp");
    let mode = |path: PathBuf| -> Result<u32> { Ok(std::fs::metadata(path)?.permissions().mode() & 0o777) };
    ensure!(mode(directory.join("bird.conf"))? == 0o600 && mode(directory.clone())? == 0o700);
    let bird = bird_of(&first)?;
    let arguments = std::fs::read_to_string(format!("/proc/{bird}/cmdline"))?;
    ensure!(
        !arguments.contains(PASSWORD) && arguments.contains("bird.conf"),
        "{arguments}"
    );
    ensure!(!first.log()?.contains(PASSWORD));
    ensure!(!first.status()?.to_string().contains(PASSWORD));
    first.stop()?;
    ensure!(!directory.join("bird.conf").exists(), "the password stays behind");
    Ok(())
}

#[test]
fn announcements_begin_and_end_with_a_reload_and_change_in_a_running_session() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let router = Bird::start(&world, "")?;
    let owned = Config {
        announced: false,
        further: usual(Lb::First).further.replace("bgp = true", "owned = false"),
        ..usual(Lb::First)
    };
    let mut first = Balancer::start(&world, &owned)?;
    first.reload(&usual(Lb::First))?;
    wait_announced(&mut first)?;
    let bird = bird_of(&first)?;

    let standby = Place {
        lines: "med = 77\nprepend = 2",
        ..Place::default()
    };
    first.reload(&config(Lb::First, standby, BACKENDS))?;
    until("the router sees MED and path", || {
        let route = router.ask(&["show", "route", "all", "for", "192.0.2.101"])?;
        Ok(route.contains("BGP.med: 77") && route.contains("BGP.as_path: 64512 64512 64512"))
    })?;
    ensure!(bird_of(&first)? == bird, "BIRD was started anew");
    let ended = "BGP: the session has ended";
    ensure!(!first.log()?.contains(ended), "{}", first.log()?);

    let without = Config {
        announced: false,
        further: String::new(),
        ..usual(Lb::First)
    };
    first.reload(&without)?;
    first.wait("nobody announces", |status| status["bgp"].is_null())?;
    ensure!(!lives(bird));
    wait_routed(&world, &[])
}
