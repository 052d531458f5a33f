//! keepalived as the other router, of both families at once: each of the two as the master that is stopped, killed, and
//! comes back.

use anyhow::{Result, ensure};
use foobar_tests::lb::Balancer;
use foobar_tests::vrrp::keepalived::Keepalived;
use foobar_tests::vrrp::{Place, all_are, answers_alone, config, router, wait_state};
use foobar_tests::world::{Lb, World};
use serde_json::Value;

use crate::story::{assert_understood, listen, world};

/// Nothing of what keepalived sent was refused, or contradicted the configuration; nor the other way round.
fn assert_both_understand(status: &Value, keepalived: &Keepalived<'_>) -> Result<()> {
    assert_understood(status)?;
    let log = keepalived.log()?.to_lowercase();
    for complaint in ["invalid", "mismatch", "expected", "bogus", "ignor", "drop"] {
        ensure!(!log.contains(complaint), "{complaint}: {log}");
    }
    Ok(())
}

fn macs(world: &World) -> Result<[String; 2]> {
    Ok([
        world.balancer(Lb::First)?.mac_of("eth0")?,
        world.balancer(Lb::Second)?.mac_of("eth0")?,
    ])
}

#[test]
fn foobar_is_master_over_keepalived_is_stopped_killed_and_returns() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let [ours, theirs] = macs(&world)?;
    let mut foobar = Balancer::start(&world, &config(Place::of(200), true, 1))?;
    wait_state(&mut foobar, "active")?;
    let keepalived = Keepalived::start(&world, Lb::Second, 100)?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    keepalived.wait_master(false)?;
    answers_alone(world.client(), &ours)?;

    foobar.stop()?;
    keepalived.wait_master(true)?;
    answers_alone(world.client(), &theirs)?;

    foobar.run()?;
    wait_state(&mut foobar, "active")?;
    keepalived.wait_master(false)?;
    answers_alone(world.client(), &ours)?;
    assert_both_understand(&foobar.status()?, &keepalived)?;

    foobar.kill()?;
    keepalived.wait_master(true)?;
    answers_alone(world.client(), &theirs)?;

    foobar.run()?;
    wait_state(&mut foobar, "active")?;
    keepalived.wait_master(false)?;
    answers_alone(world.client(), &ours)?;
    assert_both_understand(&foobar.status()?, &keepalived)
}

#[test]
fn keepalived_is_master_over_foobar_is_stopped_killed_and_returns() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let [ours, theirs] = macs(&world)?;
    let keepalived = Keepalived::start(&world, Lb::Second, 200)?;
    keepalived.wait_master(true)?;
    let mut foobar = Balancer::start(&world, &config(Place::of(100), true, 1))?;
    let heard = |status: &Value| {
        let is_heard = |family| router(status, family)["received"].as_u64() > Some(0);
        is_heard("ipv4") && is_heard("ipv6")
    };
    let status = foobar.wait("keepalived is heard", heard)?;
    ensure!(all_are(&status, "backup"), "{status:#}");
    ensure!(router(&status, "ipv4")["active"] == "192.0.2.12", "{status:#}");
    assert_both_understand(&status, &keepalived)?;
    answers_alone(world.client(), &theirs)?;

    keepalived.stop()?;
    wait_state(&mut foobar, "active")?;
    answers_alone(world.client(), &ours)?;

    let keepalived = Keepalived::start(&world, Lb::Second, 200)?;
    keepalived.wait_master(true)?;
    wait_state(&mut foobar, "backup")?;
    answers_alone(world.client(), &theirs)?;

    keepalived.kill()?;
    wait_state(&mut foobar, "active")?;
    answers_alone(world.client(), &ours)?;
    Ok(())
}
