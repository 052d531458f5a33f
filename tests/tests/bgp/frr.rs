//! FRR as the router: a standby by MED, and flows spread over equals.

use anyhow::{Result, ensure};
use foobar_tests::bgp::frr::Frr;
use foobar_tests::bgp::{Place, session, wait_routed};
use foobar_tests::world::Lb;

use crate::story::{Pair, Streams, let_streams_talk, serve, world};

#[test]
fn frr_prefers_the_lower_med_and_takes_the_standby_when_that_one_is_drained_or_dead() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let router = Frr::start(&world, |_| String::new())?;
    let standby = Place {
        lines: "med = 100",
        ..Place::default()
    };
    let mut pair = Pair::start(&world, [Place::default(), standby])?;
    wait_routed(&world, &[Lb::First])?;
    let shown = router.ask("show bgp ipv4 unicast 192.0.2.101/32")?;
    ensure!(
        shown.contains("metric 100") && shown.contains("2 available"),
        "{shown}"
    );
    pair.first
        .wait("BFD is up", |status| session(status)["bfd"] == "up")?;
    let streams = Streams::open(&world)?;
    pair.first.operate_balancer("drain")?;
    wait_routed(&world, &[Lb::Second])?;
    let_streams_talk();
    pair.first.operate_balancer("undrain")?;
    wait_routed(&world, &[Lb::First])?;
    let_streams_talk();
    world.bridge().ip(&["link", "set", "lb", "nomaster"])?;
    pair.first.kill()?;
    wait_routed(&world, &[Lb::Second])?;
    let_streams_talk();
    streams.assert_whole()
}

#[test]
fn frr_spreads_flows_over_two_balancers_and_a_stop_loses_none() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let _router = Frr::start(&world, |_| String::new())?;
    let mut pair = Pair::start(&world, [Place::default(); 2])?;
    wait_routed(&world, &[Lb::First, Lb::Second])?;
    let streams = Streams::open(&world)?;
    pair.first.stop()?;
    wait_routed(&world, &[Lb::Second])?;
    let_streams_talk();
    pair.first.run()?;
    wait_routed(&world, &[Lb::First, Lb::Second])?;
    let_streams_talk();
    streams.assert_whole()
}
