//! FRR's vrrpd as the other router, of both families at once: each of the two as the master that is stopped, killed, and
//! comes back.

use anyhow::Result;
use foobar_tests::lb::Balancer;
use foobar_tests::vrrp::frr::Frr;
use foobar_tests::vrrp::{Place, answers_alone, config, router, wait_state};
use foobar_tests::world::Lb;
use serde_json::Value;

use crate::story::{assert_understood, listen, world};

#[test]
fn foobar_is_master_over_vrrpd_is_stopped_killed_and_returns() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let ours = world.balancer(Lb::First)?.mac_of("eth0")?;
    let theirs = "00:00:5e:00:01:33";
    let mut foobar = Balancer::start(&world, &config(Place::of(200), true, 1))?;
    wait_state(&mut foobar, "active")?;
    let frr = Frr::start(&world, Lb::Second, 100)?;
    frr.wait("Backup")?;
    answers_alone(world.client(), &ours)?;

    foobar.stop()?;
    frr.wait("Master")?;
    answers_alone(world.client(), theirs)?;
    foobar.run()?;
    wait_state(&mut foobar, "active")?;
    frr.wait("Backup")?;
    answers_alone(world.client(), &ours)?;
    assert_understood(&foobar.status()?)?;

    foobar.kill()?;
    frr.wait("Master")?;
    answers_alone(world.client(), theirs)?;
    foobar.run()?;
    wait_state(&mut foobar, "active")?;
    frr.wait("Backup")?;
    answers_alone(world.client(), &ours)
}

#[test]
fn vrrpd_is_master_over_foobar_is_stopped_killed_and_returns() -> Result<()> {
    let world = world()?;
    let _servers = listen(&world)?;
    let ours = world.balancer(Lb::First)?.mac_of("eth0")?;
    let theirs = "00:00:5e:00:01:33";
    let frr = Frr::start(&world, Lb::Second, 200)?;
    frr.wait("Master")?;
    let mut foobar = Balancer::start(&world, &config(Place::of(100), true, 1))?;
    let heard = |status: &Value| {
        let is_heard = |family| router(status, family)["received"].as_u64() > Some(0);
        is_heard("ipv4") && is_heard("ipv6")
    };
    assert_understood(&foobar.wait("vrrpd is heard", heard)?)?;
    wait_state(&mut foobar, "backup")?;
    answers_alone(world.client(), theirs)?;

    frr.stop()?;
    wait_state(&mut foobar, "active")?;
    answers_alone(world.client(), &ours)?;

    let frr = Frr::start(&world, Lb::Second, 200)?;
    wait_state(&mut foobar, "backup")?;
    frr.wait("Master")?;
    answers_alone(world.client(), theirs)?;

    frr.kill()?;
    wait_state(&mut foobar, "active")?;
    answers_alone(world.client(), &ours)
}
