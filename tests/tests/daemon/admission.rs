//! Source lists and SYN limits: what an operator turns on and off while traffic flows.

use std::net::{SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::netns;
use foobar_tests::steady::SERVICE;
use foobar_tests::world::{VIP, World};
use serde_json::Value;

use crate::story::{assert_says, config, connects, hold, reached, until, world, xdp_on};

const LIST: &str = "[[list]]\nname = \"abusers\"\nfile = \"abusers.txt\"";
const NOBODY: &str = "203.0.113.0/24\n2001:db8:bad::/48\n";
/// The client, and others.
const CLIENT: &str = "# the client\n192.0.2.10\n203.0.113.0/24\n";
const GENEROUS: &str = "syn_limit = { rate = \"100000/s\", source_rate = \"100000/s\" }";

/// Writes the list's file.
fn list(world: &World, text: &str) -> Result<()> {
    std::fs::write(world.directory().join("abusers.txt"), text).context("the list's file")
}

fn with(lines: &[&'static str]) -> Config {
    let mut config = config();
    config.vip_lines.extend(lines);
    config.tables.push(LIST);
    config
}

fn counter(status: &Value, name: &str) -> u64 {
    status["counters"][name].as_u64().unwrap_or_default()
}

/// Datagrams to the VIP that no service takes, one after another until they are to end: each that meets a
/// program is counted by it.
fn trickle(world: &World, end: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    netns::inside(world.client().name(), || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let nowhere = SocketAddrV4::new(VIP, 9);
        while !end.load(Ordering::Relaxed) {
            socket.send_to(b"anybody?", nowhere)?;
            sent.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_micros(300));
        }
        Ok(())
    })
}

#[test]
fn admission_comes_and_goes_by_reloads_and_not_one_packet_is_lost() -> Result<()> {
    let (world, _servers) = world()?;
    list(&world, NOBODY)?;
    let balancer = Balancer::start(&world, &with(&[]))?;
    let client = hold(&world)?;
    let before = counter(&balancer.status()?, "drop_no_service");
    let (end, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let programs = thread::scope(|scope| -> Result<Vec<Option<u64>>> {
        let trickle = scope.spawn(|| trickle(&world, &end, &sent));
        let reloads = || {
            let mut programs = vec![xdp_on(world.lb(), "eth0")?];
            let deny: &[&str] = &["deny = [\"abusers\"]"];
            for lines in [deny, &[], &[deny[0], GENEROUS], &[GENEROUS], &[], deny, &[]] {
                let last = programs[programs.len() - 1];
                balancer.reload(&with(lines))?;
                until("another program is there", || {
                    Ok(xdp_on(world.lb(), "eth0")? != last)
                })?;
                programs.push(xdp_on(world.lb(), "eth0")?);
                thread::sleep(Duration::from_millis(200));
            }
            Ok(programs)
        };
        let programs = reloads();
        end.store(true, Ordering::Relaxed);
        match trickle.join() {
            Ok(result) => result?,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        programs
    })?;
    assert!(programs.iter().all(Option::is_some), "{programs:?}");
    let sent = sent.into_inner();
    assert!(sent > 1_000, "{sent} packets are no traffic");
    // What is still on its way when the last one is sent arrives within a moment.
    until("all that was sent is counted", || {
        Ok(counter(&balancer.status()?, "drop_no_service") - before >= sent)
    })?;
    assert_eq!(counter(&balancer.status()?, "drop_no_service") - before, sent);
    let report = client.stop()?;
    assert_eq!((report.failed(), report.corrupt_bytes), (0, 0), "{report}");
    Ok(())
}

#[test]
fn a_denied_client_is_served_again_when_its_line_is_gone_and_a_bad_line_changes_nothing() -> Result<()> {
    let (world, _servers) = world()?;
    list(&world, CLIENT)?;
    let mut balancer = Balancer::start(&world, &with(&["deny = [\"abusers\"]", "unserved = \"reset\""]))?;
    assert!(!connects(&world)?, "a denied client is served");
    let status = balancer.status()?;
    assert!(counter(&status, "drop_denied") > 0, "{status}");
    assert_eq!(counter(&status, "answer_reset"), 0);

    list(&world, "203.0.113.0/24\n192.0.2.0/33\n")?;
    balancer.hangup()?;
    let status = balancer.wait("the bad list was read", |status| {
        !status["last_reload_error"].is_null()
    })?;
    assert_says(
        status["last_reload_error"].as_str().unwrap_or_default(),
        &["abusers.txt:2", "192.0.2.0/33"],
    );
    assert!(!connects(&world)?, "a bad line lets the client in");

    // A new daemon does not know what the lists in force are, but leaves them there until it has its own.
    list(&world, CLIENT)?;
    balancer.kill()?;
    assert!(!connects(&world)?, "the list ends with the daemon");
    balancer.run()?;
    assert!(!connects(&world)?, "the list ends with another daemon");

    list(&world, NOBODY)?;
    balancer.hangup()?;
    until("the client is served", || connects(&world))?;
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}

#[test]
fn only_those_who_are_allowed_are_served() -> Result<()> {
    let (world, _servers) = world()?;
    list(&world, NOBODY)?;
    let balancer = Balancer::start(&world, &with(&["deny = [\"all\"]", "allow = [\"abusers\"]"]))?;
    assert!(!connects(&world)?, "a client that nobody allows is served");
    balancer.reload(&with(&[
        "deny = [\"all\"]",
        "allow = [\"abusers\", \"192.0.2.0/28\"]",
    ]))?;
    until("the client is served", || connects(&world))?;
    Ok(())
}

#[test]
fn a_source_above_its_limit_opens_no_more_connections_and_keeps_those_that_it_has() -> Result<()> {
    const ATTEMPTS: usize = 60;
    let (world, _servers) = world()?;
    list(&world, NOBODY)?;
    let mut balancer = Balancer::start(&world, &with(&[]))?;
    let client = hold(&world)?;
    let before = xdp_on(world.lb(), "eth0")?;
    balancer.reload(&with(&[
        "syn_limit = { source_rate = \"1/m\", source_burst = 20 }",
    ]))?;
    until("the limit's program is there", || {
        Ok(xdp_on(world.lb(), "eth0")? != before)
    })?;
    // It is there before the VIP that is limited; the daemon answers when it has done both.
    balancer.wait("the limit is in force", |_| true)?;
    let opened = world.client().run(|| {
        let connect =
            || TcpStream::connect_timeout(&SocketAddr::V4(SERVICE), Duration::from_millis(100)).is_ok();
        Ok((0..ATTEMPTS).filter(|_| connect()).count())
    })?;
    // The burst, and one more a minute.
    assert!((18..=24).contains(&opened), "{opened} of {ATTEMPTS} were opened");
    balancer.wait("SYNs were refused", |status| {
        counter(status, "drop_source_limit") > 10
    })?;
    let report = client.stop()?;
    assert_eq!((report.failed(), report.corrupt_bytes), (0, 0), "{report}");
    assert!(!connects(&world)?, "the limit is gone");

    balancer.reload(&with(&[]))?;
    until("nothing is limited any more", || connects(&world))?;
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}
