//! Two VIPs, each preferred at another balancer: both work, and each is the other's standby.

use anyhow::{Result, ensure};
use foobar_tests::bgp::bird::Bird;
use foobar_tests::bgp::{Place, config, wait_announced, wait_routed, wait_routed_each};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::world::{Lb, World};

use crate::story::{BACKENDS, Streams, let_streams_talk, serve, world};

/// The IPv4 VIP in one group, the IPv6 one in another.
fn grouped(lb: Lb, lines: &'static str) -> Config {
    let place = Place {
        lines,
        ..Place::default()
    };
    let mut config = config(lb, place, BACKENDS);
    config.group = Some("a");
    config.further = config.further.replace("bgp = true", "bgp = \"b\"");
    config
}

const PREFERS_A: &str = "group = [{ name = \"a\", med = 10 }, { name = \"b\", med = 20 }]";
const PREFERS_B: &str = "group = [{ name = \"a\", med = 20 }, { name = \"b\", med = 10 }]";
const ONE: &[Lb] = &[Lb::First];
const OTHER: &[Lb] = &[Lb::Second];

/// The host dies: its port of the bridge, and all its processes.
fn die(world: &World, balancer: &mut Balancer<'_>, lb: Lb) -> Result<()> {
    world.bridge().ip(&["link", "set", lb.name(), "nomaster"])?;
    balancer.kill()
}

#[test]
fn each_of_two_vips_is_where_it_is_preferred_and_both_are_where_somebody_lives() -> Result<()> {
    let world = world()?;
    let _servers = serve(&world)?;
    let router = Bird::start(&world, "")?;
    let mut first = Balancer::start_on(&world, Lb::First, &grouped(Lb::First, PREFERS_A))?;
    let mut second = Balancer::start_on(&world, Lb::Second, &grouped(Lb::Second, PREFERS_B))?;
    wait_announced(&mut first)?;
    wait_announced(&mut second)?;
    wait_routed_each(&world, ONE, OTHER)?;
    let streams = Streams::open(&world)?;

    die(&world, &mut second, Lb::Second)?;
    wait_routed(&world, ONE)?;
    let_streams_talk();
    world.bridge().ip(&["link", "set", "lb2", "master", "br0"])?;
    second.run()?;
    wait_routed_each(&world, ONE, OTHER)?;
    let_streams_talk();
    first.operate_balancer("drain")?;
    wait_routed(&world, OTHER)?;
    let_streams_talk();
    first.operate_balancer("undrain")?;
    wait_routed_each(&world, ONE, OTHER)?;

    // By the path's length it is the same, and in the session that there is. A community says what it is for.
    let standby = "group = [{ name = \"a\", prepend = 2, communities = [\"64512:100\", \"64512:1:2\"] }, { name = \"b\" }]";
    let equal = "group = [{ name = \"a\" }, { name = \"b\" }]";
    first.reload(&grouped(Lb::First, standby))?;
    second.reload(&grouped(Lb::Second, equal))?;
    wait_routed_each(&world, OTHER, &[Lb::First, Lb::Second])?;
    let_streams_talk();
    let route = router.ask(&["show", "route", "all", "for", "192.0.2.101"])?;
    ensure!(
        route.contains("BGP.as_path: 64512 64512 64512\n")
            && route.contains("BGP.community: (64512,100)\n")
            && route.contains("BGP.large_community: (64512, 1, 2)\n"),
        "{route}"
    );
    let route = router.ask(&["show", "route", "all", "for", "2001:db8:0:1::101"])?;
    ensure!(
        !route.contains("community") && !route.contains("64512 64512"),
        "{route}"
    );
    die(&world, &mut second, Lb::Second)?;
    wait_routed(&world, ONE)?;
    let_streams_talk();
    streams.assert_whole()
}
