//! The canary: a balancer whose data plane leads nowhere, though backends and checks are well, lets another one have the
//! VIPs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foobar_common::slot::Slot;
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::steady::PORT;
use foobar_tests::vrrp::{Place, config, router, wait_state};
use foobar_tests::world::{Lb, VIP, VIP6, World};
use serde_json::Value;

use crate::story::world;

const CANARY: &str = "[canary]\ninterval = \"150ms\"\ntimeout = \"100ms\"\nfall = 3\n";

/// The backend accepts connections to both VIPs, and ends them.
fn serve(world: &World) -> Result<()> {
    for vip in [SocketAddr::from((VIP, PORT)), SocketAddr::from((VIP6, PORT))] {
        let listener = world.backend(1)?.run(|| Ok(TcpListener::bind(vip)?))?;
        std::thread::spawn(move || listener.incoming().for_each(drop));
    }
    Ok(())
}

fn with_canary(priority: u8) -> Config {
    let mut config = config(Place::of(priority), true, 1);
    // Before the arrays of tables.
    config.further = format!("{CANARY}{}", config.further);
    config
}

/// The states of the canaries of both services.
fn canaries(status: &Value) -> [&str; 2] {
    [0, 1].map(|vip| status["vips"][vip]["canary"]["state"].as_str().unwrap_or("none"))
}

fn connect(world: &World, mac: &str) -> Result<()> {
    let client = world.client();
    client.teach_neighbour(VIP.into(), mac)?;
    let to = SocketAddr::from((VIP, PORT));
    client.run(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(2)).map(drop)?))
}

#[test]
fn a_data_plane_that_leads_nowhere_hands_the_vips_over_until_it_is_mended() -> Result<()> {
    let world = world()?;
    serve(&world)?;
    let mut first = Balancer::start_on(&world, Lb::First, &with_canary(200))?;
    first.wait("the canary holds, by both families", |status| {
        canaries(status) == ["up", "up"]
    })?;
    wait_state(&mut first, "active")?;
    let mut second = Balancer::start_on(&world, Lb::Second, &with_canary(180))?;
    // It is the backup's way as well: whoever owns the VIP.
    second.wait("the backup's canary holds", |status| {
        canaries(status) == ["up", "up"]
    })?;
    wait_state(&mut second, "backup")?;
    let mac = world.balancer(Lb::First)?.mac_of("eth0")?;
    connect(&world, &mac)?;

    // The slots of one service name nobody.
    let mut pins = first.pins()?;
    let range = pins.range_of((VIP, PORT))?;
    let slots = pins.slots(range)?;
    let nobody = vec![Slot::settled(0); slots.len()];
    pins.put_all(range, &nobody)?;
    wait_state(&mut second, "active")?;
    let status = wait_state(&mut first, "backup")?;
    let told = router(&status, "ipv4");
    ensure!(
        told["reasons"] == serde_json::json!(["canary"]) && told["priority"] == 150,
        "{status:#}"
    );
    ensure!(canaries(&status) == ["down", "up"], "{status:#}");
    ensure!(
        status["vips"][0]["backends"][0]["state"] == "up" && status["vips"][0]["serving"] == "healthy",
        "checks don't see it: {status:#}"
    );
    let text = first.status_text(&[])?;
    ensure!(text.contains("CANARY FAILS"), "{text}");
    ensure!(connect(&world, &mac).is_err(), "nor do users get through");

    pins.put_all(range, &slots)?;
    wait_state(&mut first, "active")?;
    let status = first.wait("no reason is left", |status| {
        router(status, "ipv4")["reasons"] == serde_json::json!([])
    })?;
    ensure!(canaries(&status) == ["up", "up"], "{status:#}");

    // Backends that are down are no fault of the data plane.
    world.backend(1)?.ip(&["link", "set", "eth0", "down"])?;
    first.wait("the canaries fail with their backends", |status| {
        canaries(status) == ["down", "down"]
            && router(status, "ipv4")["reasons"] == serde_json::json!(["no_backend"])
    })?;
    Ok(())
}

#[test]
fn the_canarys_way_comes_and_goes_with_the_configuration_and_the_daemon() -> Result<()> {
    let world = world()?;
    serve(&world)?;
    let host = world.balancer(Lb::First)?;
    let links = || -> Result<String> {
        let output = host.run(|| Ok(std::process::Command::new("ip").args(["-o", "link"]).output()?))?;
        String::from_utf8(output.stdout).context("ip link")
    };
    let config = with_canary(200);
    let plain = foobar_tests::vrrp::config(Place::of(200), true, 1);
    let mut balancer = Balancer::start(&world, &config)?;
    let holds = |status: &Value| canaries(status) == ["up", "up"];
    balancer.wait("the canary holds", holds)?;
    ensure!(links()?.contains("foobar-near"));

    balancer.reload(&plain)?;
    balancer.wait("no canary, and no way for one", |status| {
        canaries(status) == ["none", "none"] && links().is_ok_and(|links| !links.contains("foobar-"))
    })?;
    balancer.reload(&config)?;
    balancer.wait("the canary holds again", holds)?;

    // Nor does it go by other routes for long when somebody removes its own.
    host.ip(&["link", "del", "foobar-near"])?;
    balancer.wait("the way is laid again", |_| {
        links().is_ok_and(|links| links.contains("foobar-near"))
    })?;
    balancer.wait("the canary holds on it", holds)?;

    // What a killed daemon leaves is no hindrance to the next one.
    balancer.kill()?;
    ensure!(links()?.contains("foobar-near"));
    balancer.run()?;
    balancer.wait("the canary holds after a kill", holds)?;
    // A program that is loaded anew, with other features, is the one that the canary tries.
    let mut limited = config.clone();
    limited.vip_lines.push("syn_limit = { rate = 1000 }");
    balancer.reload(&limited)?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(holds(&balancer.status()?));
    balancer.stop()?;
    ensure!(!links()?.contains("foobar-"), "{}", links()?);
    Ok(())
}
