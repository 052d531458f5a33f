//! Where backends are on the segment, and where they must not be.

use std::net::Ipv4Addr;

use anyhow::Result;
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::world::LB;

use crate::story::{assert_says, config, hold, of, reached, told, world};

#[test]
fn a_backend_that_changes_its_mac_is_followed() -> Result<()> {
    const NEW: &str = "02:00:c0:00:02:99";
    let (world, _servers) = world()?;
    let mut balancer = Balancer::start(&world, &config())?;
    let old = world.backend(2)?.mac_of("eth0")?;
    balancer.wait("the old MAC is known", |status| of(status, 2)["mac"] == old)?;
    let client = hold(&world)?;

    // With arp_notify its kernel tells the segment, as a failover of its NICs would.
    world.backend(2)?.sysctl("net/ipv4/conf/eth0/arp_notify", "1")?;
    world.backend(2)?.ip(&["link", "set", "eth0", "address", NEW])?;
    balancer.wait("the new MAC is known", |status| of(status, 2)["mac"] == NEW)?;
    assert_eq!(reached(&world)?, [1, 2]);
    let report = client.stop()?;
    assert_eq!(report.failed(), 0, "{report}");
    Ok(())
}

#[test]
fn backends_that_frames_cannot_reach_are_refused_in_words() -> Result<()> {
    const ROUTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 21);
    const LOOPING: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
    let (world, _servers) = world()?;
    let lb = world.lb();
    lb.ip(&["route", "add", "198.51.100.0/24", "via", "192.0.2.10"])?;
    // As proxy ARP on the segment would have it.
    lb.teach_neighbour(LOOPING.into(), &lb.mac_of("eth0")?)?;
    let mut balancer = Balancer::start(
        &world,
        &Config {
            strangers: vec![ROUTED, LOOPING, LB],
            ..config()
        },
    )?;
    for (address, trouble) in [
        (ROUTED, "is behind the gateway 192.0.2.10"),
        (LOOPING, "resolves to a balancer's own MAC address"),
        (LB, "resolves to a balancer's own MAC address"),
    ] {
        let status = balancer.wait("the trouble is told", |status| {
            let backend = told(status, address);
            backend["trouble"]
                .as_str()
                .is_some_and(|said| said.contains(trouble))
                && backend["slots"] == 0
        })?;
        assert!(told(&status, address)["mac"].is_null(), "{status}");
        assert_says(&balancer.status_text(&[])?, &[trouble]);
    }
    assert_eq!(reached(&world)?, [1, 2]);
    Ok(())
}
