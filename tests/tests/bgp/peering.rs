//! Sessions with routers of the balancers' own AS, and with one that is not on the segment.

use std::time::Duration;

use anyhow::{Result, ensure};
use foobar_tests::bgp::bird::{Bird, Router};
use foobar_tests::bgp::reflector::Reflector;
use foobar_tests::bgp::{BALANCERS_AS, Place, config, next_hops, session, wait_announced, wait_routed};
use foobar_tests::lb::Balancer;
use foobar_tests::world::{FAR_ROUTER, Lb, VIP};

use crate::story::{BACKENDS, HELD, Pair, Streams, let_streams_talk, serve, world};

#[test]
fn a_router_of_the_same_as_spreads_flows_and_prefers_by_med() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let router = Router {
        own_as: BALANCERS_AS,
        // BIRD takes a neighbor of its own AS for a distant one otherwise, and speaks BFD accordingly.
        lines: "direct;",
        ..Router::default()
    };
    let router = Bird::start_as(&world, router)?;
    let internal = Place {
        router_as: BALANCERS_AS,
        ..Place::default()
    };
    let mut pair = Pair::start(&world, [internal; 2])?;
    wait_routed(&world, &[Lb::First, Lb::Second])?;
    let route = router.ask(&["show", "route", "all", "for", "192.0.2.101"])?;
    // Nobody has prepended an AS, and the next hops are the balancers themselves.
    ensure!(
        route.contains("BGP.as_path: \n") && route.contains("BGP.next_hop: 192.0.2.11\n"),
        "{route}"
    );
    let streams = Streams::open(&world)?;
    pair.first.operate_balancer("drain")?;
    wait_routed(&world, &[Lb::Second])?;
    let_streams_talk();
    pair.first.operate_balancer("undrain")?;
    wait_routed(&world, &[Lb::First, Lb::Second])?;
    let standby = Place {
        lines: "med = 100",
        ..internal
    };
    pair.second.reload(&config(Lb::Second, standby, BACKENDS))?;
    wait_routed(&world, &[Lb::First])?;
    let_streams_talk();
    pair.first.stop()?;
    wait_routed(&world, &[Lb::Second])?;
    let_streams_talk();
    streams.assert_whole()
}

#[test]
fn a_router_two_hops_away_is_told_where_it_takes_what_came_so_far_and_no_farther() -> Result<()> {
    let mut world = world()?;
    world.add_far_router()?;
    let _servers = serve(&world)?;
    let _routers = Reflector::start(&world, "ttl security on;")?;
    let far = |neighbor| Place {
        router: FAR_ROUTER,
        neighbor,
        ..Place::default()
    };
    let unsafe_one = far("multihop = 2\nsource = \"192.0.2.11\"");
    let mut first = Balancer::start(&world, &config(Lb::First, unsafe_one, BACKENDS))?;
    // Its packets could be from anywhere, by their TTL: the router takes none of them once it looks at that.
    std::thread::sleep(Duration::from_secs(4));
    let hops = next_hops(world.router()?, VIP.into())?;
    ensure!(hops.is_empty(), "{hops:?}");

    let safe_one = far("multihop = 2\nsource = \"192.0.2.11\"\ngtsm = true");
    first.reload(&config(Lb::First, safe_one, BACKENDS))?;
    wait_announced(&mut first)?;
    first.wait("BFD over two hops is up", |status| session(status)["bfd"] == "up")?;
    wait_routed(&world, &[Lb::First])?;
    let streams = Streams::hold(&world, HELD, 20, 7)?;
    let_streams_talk();
    streams.assert_whole()?;

    first.operate_balancer("drain")?;
    wait_routed(&world, &[])?;
    first.operate_balancer("undrain")?;
    wait_routed(&world, &[Lb::First])?;
    first.stop()?;
    wait_routed(&world, &[])
}
