//! IPv6 VIPs on the segment: what the daemon tells switches and neighbours, and how it checks their backends.

use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::steady::PORT;
use foobar_tests::world::{CLIENT, LB, VIP6, World, backend_address, ipv6_of};
use serde_json::Value;

use crate::story::{assert_says, config, until, world};

/// The solicited-node group of [`VIP6`].
const GROUP: &str = "ff02::1:ff00:101";

/// The stories' configuration with an IPv6 VIP besides.
fn with_ipv6() -> Config {
    let mut config = config();
    config.further = format!(
        "[[vip]]\nname = \"six\"\naddress = \"{VIP6}\"\nport = {PORT}\nslots = 256\n\
         [vip.check]\nkind = \"tcp\"\ninterval = \"300ms\"\ndoubt_interval = \"100ms\"\n"
    );
    for backend in [1, 2] {
        let address = ipv6_of(backend_address(backend));
        config.further += &format!("[[vip.backend]]\naddress = \"{address}\"\n");
    }
    config
}

/// Backends that accept connections by IPv6; the stories' servers do by IPv4 only.
fn listen(world: &World) -> Result<Vec<TcpListener>> {
    let on = |backend| {
        world
            .backend(backend)?
            .run(|| Ok(TcpListener::bind((VIP6, PORT))?))
    };
    world.backends().map(on).collect()
}

fn six(status: &Value) -> Value {
    let vips = status["vips"].as_array();
    vips.and_then(|vips| vips.iter().find(|vip| vip["name"] == "six"))
        .cloned()
        .unwrap_or_default()
}

fn states(status: &Value) -> Vec<String> {
    let backends = six(status)["backends"].as_array().cloned().unwrap_or_default();
    let of = |backend: &Value| backend["state"].as_str().unwrap_or_default().to_owned();
    backends.iter().map(of).collect()
}

/// What the bridge has learned of groups.
fn groups(world: &World) -> Result<String> {
    world.bridge().command("bridge", &["mdb", "show", "dev", "br0"])
}

/// Whether the bridge forwards frames for the VIP's group to the balancer's port.
fn is_forwarded(world: &World) -> Result<bool> {
    let group = format!("grp {GROUP} ");
    Ok(groups(world)?
        .lines()
        .any(|line| line.contains("port lb ") && line.contains(&group)))
}

/// Whether the client, which knows no MAC for the VIP, gets a connection.
fn connects(world: &World) -> Result<bool> {
    let vip = SocketAddr::from((VIP6, PORT));
    let client = world.client();
    client.ip(&["-6", "neigh", "flush", "dev", "eth0"])?;
    client.run(|| Ok(TcpStream::connect_timeout(&vip, Duration::from_millis(1500)).is_ok()))
}

/// Makes the bridge a switch that snoops, and one that asks: it withholds a group's frames from ports that have
/// not reported it only where a querier is known.
fn snoop(world: &World) -> Result<()> {
    let bridge = world.bridge();
    // MLD queries come from a link-local address.
    bridge.sysctl("net/ipv6/conf/br0/accept_dad", "0")?;
    bridge.sysctl("net/ipv6/conf/br0/disable_ipv6", "0")?;
    for (setting, value) in [
        // In hundredths of a second: hosts answer soon, and one that has left is forgotten soon.
        ("mcast_query_response_interval", "50"),
        ("mcast_last_member_interval", "20"),
        ("mcast_snooping", "1"),
        ("mcast_querier", "1"),
    ] {
        bridge.ip(&["link", "set", "br0", "type", "bridge", setting, value])?;
    }
    let client = format!("grp {}", solicited_node_of_client());
    until("the bridge's query is answered", || {
        Ok(groups(world)?.lines().any(|line| line.contains(&client)))
    })
}

/// Where backends ask for the client's MAC.
fn solicited_node_of_client() -> Ipv6Addr {
    let last = ipv6_of(CLIENT).segments()[7];
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, last)
}

#[test]
fn a_switch_that_snoops_learns_where_ipv6_vips_are_asked_for() -> Result<()> {
    let (world, _servers) = world()?;
    world.add_ipv6()?;
    snoop(&world)?;
    assert!(!is_forwarded(&world)?, "before the daemon has begun");
    let mut balancer = Balancer::start(&world, &with_ipv6())?;
    until("the bridge knows the group", || is_forwarded(&world))?;
    let _listeners = listen(&world)?;
    until("the client resolves the VIP and connects", || connects(&world))?;

    balancer.reload(&config())?;
    until("the group is left with its last VIP", || {
        Ok(!is_forwarded(&world)?)
    })?;
    balancer.reload(&with_ipv6())?;
    until("the client resolves the VIP again", || connects(&world))?;
    assert!(is_forwarded(&world)?);

    // The program still answers, but it is the membership that brings it the question.
    balancer.stop()?;
    until("the group is left with the daemon", || Ok(!is_forwarded(&world)?))?;
    assert!(!connects(&world)?, "the switch does not withhold anything");
    let bridge = ["link", "set", "br0", "type", "bridge"];
    let without = [&bridge[..], &["mcast_snooping", "0"]].concat();
    world.bridge().ip(&without)?;
    assert!(connects(&world)?, "it is not the switch that withholds");
    Ok(())
}

#[test]
fn neighbours_that_know_an_ipv6_vip_elsewhere_are_told_where_it_is() -> Result<()> {
    let (world, _servers) = world()?;
    world.add_ipv6()?;
    let (vip, own) = (VIP6.to_string(), world.lb().mac_of("eth0")?);
    let client = world.client();
    let elsewhere = ["lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale"];
    client.ip(&[&["neigh", "replace", vip.as_str()], &elsewhere[..]].concat())?;
    let _balancer = Balancer::start(&world, &with_ipv6())?;
    until("the client knows the balancer's MAC", || {
        Ok(client.ip(&["neigh", "show", &vip])?.contains(&own))
    })
}

#[test]
fn backends_of_ipv6_vips_are_resolved_and_checked_by_ipv6() -> Result<()> {
    let (world, _servers) = world()?;
    world.add_ipv6()?;
    let listeners = listen(&world)?;
    let mut balancer = Balancer::start(&world, &with_ipv6())?;
    balancer.wait("both are up", |status| states(status) == ["up", "up"])?;
    assert_says(
        &balancer.status_text(&[])?,
        &["[2001:db8:0:1::101]:7000/tcp", "2001:db8:0:1::22"],
    );
    drop(listeners);
    balancer.wait("both refuse", |status| {
        states(status) == ["soft_down", "soft_down"]
    })?;

    // A neighbour that is silent from the beginning.
    let mut silent = with_ipv6();
    let stranger: Ipv6Addr = "2001:db8:0:1::77".parse()?;
    silent.further += &format!("[[vip.backend]]\naddress = \"{stranger}\"\n");
    balancer.reload(&silent)?;
    balancer.wait("the silence is told", |status| {
        six(status)["backends"][2]["trouble"] == "does not answer neighbour discovery"
    })?;

    // Stopped and detached, nothing of the checks is left.
    balancer.stop()?;
    balancer.detach()?;
    for left in [
        &["-6", "rule", "show"][..],
        &["-6", "route", "show", "table", "all"],
    ] {
        let shown = world.lb().ip(left)?;
        assert!(!shown.contains("26210"), "{shown}");
    }
    Ok(())
}

#[test]
fn an_interface_without_an_ipv6_address_is_told_and_checks_begin_when_it_has_one() -> Result<()> {
    let (world, _servers) = world()?;
    world.add_ipv6()?;
    let _listeners = listen(&world)?;
    let address = format!("{}/64", ipv6_of(LB));
    world.lb().ip(&["addr", "del", &address, "dev", "eth0"])?;
    let mut balancer = Balancer::start(&world, &with_ipv6())?;
    assert_says(
        &balancer.log()?,
        &[
            "ERROR",
            "no IPv6 address of its own",
            "a link-local address is not enough",
        ],
    );
    balancer.wait("no check passes", |status| {
        states(status).iter().all(|state| state.contains("down"))
    })?;
    world
        .lb()
        .ip(&["addr", "add", &address, "dev", "eth0", "nodad"])?;
    balancer.wait("both are up", |status| states(status) == ["up", "up"])?;
    Ok(())
}
