//! Backends that fail, by half or wholly, one or all; each comes back.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::Result;
use foobar_tests::lb::Balancer;
use foobar_tests::streams::report::Cause;

use crate::story::{
    CHECK_PORT, PATIENCE, STREAMS, assert_says, checked_elsewhere, config, held_by, hold, of, reached, serve,
    until, world,
};

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
    let too_early = Cell::new(false);
    balancer.wait("backend 2 is given up", |status| {
        let backend = of(status, 2);
        // Softly down on its way, it is still who its flows belong to.
        too_early.set(too_early.get() || backend["state"] == "soft_down" && backend["earlier_slots"] == 0);
        backend["state"] == "hard_down" && backend["slots"] == 0 && backend["earlier_slots"] == 0
    })?;
    assert!(!too_early.get(), "given up while it was but softly down");
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
