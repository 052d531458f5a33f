//! Two balancers behind a router that spreads flows over both: a VIP is announced while a balancer may serve it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use foobar_tests::bgp::bird::Bird;
use foobar_tests::bgp::{Place, config, next_hops, session, wait_announced, wait_routed, wait_withdrawn};
use foobar_tests::lb::Balancer;
use foobar_tests::world::{LB2, Lb, VIP};

use crate::story::{BACKENDS, Pair, Streams, let_streams_talk, serve, usual, world};

/// Packets that a balancer has sent to backends.
fn packets(balancer: &Balancer<'_>) -> Result<u64> {
    let status = balancer.status()?;
    let vips = status["vips"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(vips.iter().filter_map(|vip| vip["packets"].as_u64()).sum())
}

#[test]
fn flows_are_spread_over_two_balancers_and_a_drained_one_loses_them_without_a_reset() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let router = Bird::start(&world, "")?;
    let mut pair = Pair::start(&world, [Place::default(); 2])?;
    wait_routed(&world, &Lb::BOTH)?;
    let streams = Streams::open(&world)?;
    ensure!(packets(&pair.first)? > 300 && packets(&pair.second)? > 300);

    pair.first.operate_balancer("drain")?;
    wait_routed(&world, &[Lb::Second])?;
    wait_withdrawn(&mut pair.first, "drained")?;
    // The session stays: the router is told of nothing in it.
    let status = pair.first.wait("nothing is told in the session", |status| {
        session(status)["state"] == "established"
            && session(status)["exported"] == serde_json::json!({ "ipv4": 0, "ipv6": 0 })
    })?;
    ensure!(status["vips"][0]["owned"] == false, "{status:#}");
    let text = pair.first.status_text(&[])?;
    ensure!(
        text.contains("WITHDRAWN (drained)") && text.contains("DRAINED"),
        "{text}"
    );
    let_streams_talk();
    let before = packets(&pair.first)?;
    let_streams_talk();
    ensure!(packets(&pair.first)? == before, "the drained one gets packets");

    // It outlasts the daemon.
    pair.first.stop()?;
    pair.first.run()?;
    pair.first.wait("the session is back", |status| {
        session(status)["state"] == "established"
    })?;
    wait_withdrawn(&mut pair.first, "drained")?;
    wait_routed(&world, &[Lb::Second])?;

    pair.first.operate_balancer("undrain")?;
    wait_routed(&world, &Lb::BOTH)?;
    let status = wait_announced(&mut pair.first)?;
    ensure!(status["vips"][0]["owned"] == true, "{status:#}");
    let_streams_talk();
    ensure!(packets(&pair.first)? > before);
    streams.assert_whole()?;
    // Nothing but the VIPs has come to the router.
    let routes = router.ask(&["show", "route", "count"])?;
    ensure!(
        routes.contains("4 of 4 routes for 2 networks") || routes.contains("of 4 routes"),
        "{routes}"
    );
    Ok(())
}

#[test]
fn a_clean_stop_withdraws_first_and_a_return_announces_again() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Bird::start(&world, "")?;
    let mut pair = Pair::start(&world, [Place::default(); 2])?;
    wait_routed(&world, &Lb::BOTH)?;
    let streams = Streams::open(&world)?;
    for _ in 0..2 {
        pair.first.stop()?;
        // At once: it has ended only after they were withdrawn.
        let left = next_hops(world.router()?, VIP.into())?;
        ensure!(left == [LB2.into()].into(), "{left:?}");
        let_streams_talk();
        pair.first.run()?;
        wait_announced(&mut pair.first)?;
        wait_routed(&world, &Lb::BOTH)?;
        let_streams_talk();
    }
    streams.assert_whole()
}

#[test]
fn nothing_is_announced_before_backends_are_checked_and_while_none_is_healthy() -> Result<()> {
    let world = world()?;
    let router = Bird::start(&world, "")?;
    // Nobody listens.
    let mut first = Balancer::prepare(&world, &usual(Lb::First))?;
    first.run()?;
    first.wait("the session is there", |status| {
        session(status)["state"] == "established"
    })?;
    wait_withdrawn(&mut first, "no_backend")?;
    // What the router ever heard.
    let counts = router.ask(&["show", "protocols", "all", "lb"])?;
    let updates: Vec<&str> = counts
        .lines()
        .filter(|line| line.contains("Import updates:"))
        .collect();
    ensure!(
        updates.len() == 2
            && updates
                .iter()
                .all(|line| line.split_whitespace().nth(2) == Some("0")),
        "{counts}"
    );
    let log = first.log()?;
    ensure!(!log.contains("the VIP is announced"), "{log}");

    let servers = serve(&world)?;
    wait_announced(&mut first)?;
    wait_routed(&world, &[Lb::First])?;
    drop(servers);
    wait_routed(&world, &[])?;
    wait_withdrawn(&mut first, "no_backend")?;

    // An operator who would rather serve by whoever is left.
    let lenient = Place {
        lines: "track = { no_backend = \"announce\" }",
        ..Place::default()
    };
    first.reload(&config(Lb::First, lenient, BACKENDS))?;
    wait_routed(&world, &[Lb::First])?;
    Ok(())
}

#[test]
fn a_program_that_is_gone_and_a_link_that_is_down_withdraw() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Bird::start(&world, "")?;
    let mut pair = Pair::start(&world, [Place::default(); 2])?;
    pair.first.detach_by_force()?;
    wait_routed(&world, &[Lb::Second])?;
    wait_withdrawn(&mut pair.first, "detached")?;

    let host = world.balancer(Lb::Second)?;
    host.ip(&["link", "set", "eth0", "down"])?;
    wait_routed(&world, &[])?;
    wait_withdrawn(&mut pair.second, "link_down")?;
    Ok(())
}

/// How often a host dies in the story of dead hosts.
const DEATHS: usize = 5;

#[test]
fn a_dead_host_is_noticed_when_bfd_has_missed_three_packets_and_no_stream_breaks() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let router = Bird::start(&world, "")?;
    let mut pair = Pair::start(&world, [Place::default(); 2])?;
    wait_routed(&world, &Lb::BOTH)?;
    let streams = Streams::open(&world)?;
    let mut noticed = Vec::new();
    for _ in 0..DEATHS {
        let died = Instant::now();
        // Its port of the bridge, and all its processes; nobody's carrier changes.
        world.bridge().ip(&["link", "set", "lb", "nomaster"])?;
        pair.first.kill()?;
        wait_routed(&world, &[Lb::Second])?;
        noticed.push(died.elapsed());
        let said = router.ask(&["show", "protocols", "lb"])?;
        ensure!(said.contains("BFD session down"), "{said}");
        let_streams_talk();
        world.bridge().ip(&["link", "set", "lb", "master", "br0"])?;
        pair.first.run()?;
        wait_announced(&mut pair.first)?;
        wait_routed(&world, &Lb::BOTH)?;
    }
    streams.assert_whole()?;
    noticed.sort_unstable();
    println!("a dead host was noticed after {noticed:?}");
    let median = noticed[DEATHS / 2];
    // 100 to 150 ms, and what looking at routes takes on a busy machine.
    ensure!(
        (Duration::from_millis(80)..Duration::from_millis(500)).contains(&median),
        "{noticed:?}"
    );
    Ok(())
}
