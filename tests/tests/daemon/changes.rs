//! What an operator changes: reloads, removals, and the end.

use std::time::{Duration, Instant};

use anyhow::Result;
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::streams::report::{Cause, Report};
use serde_json::Value;

use crate::story::{
    PATIENCE, STREAMS, assert_says, config, connects, held_by, hold, of, reached, traces, until, world,
};

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
