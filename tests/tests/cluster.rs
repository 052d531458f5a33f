//! Two balancers of one cluster: each claim told as a story.

use std::time::Duration;

use anyhow::{Result, ensure};
use foobar_tests::artifacts;
use foobar_tests::cluster::{self, directory, form, wait_agreed, write_seed};
use foobar_tests::lb::{Balancer, Config};
use foobar_tests::steady::PORT;
use foobar_tests::streams::client::{Client, Load};
use foobar_tests::streams::server::Server;
use foobar_tests::vrrp::{Place, config, router, until, wait_state};
use foobar_tests::world::{Family, Lb, World, backend_address};
use serde_json::Value;

const BACKENDS: u8 = 2;
const SEED: u64 = 11;

fn world() -> Result<World> {
    let mut world = World::new(BACKENDS)?;
    world.add_balancer()?;
    Ok(world)
}

fn servers(world: &World) -> Result<Vec<Server>> {
    world
        .backends()
        .map(|backend| Server::start(world, backend, PORT))
        .collect()
}

fn configuration(lb: Lb) -> Config {
    let priority = match lb {
        Lb::First => 200,
        Lb::Second => 100,
    };
    Config {
        clustered: true,
        ..config(Place::of(priority), false, BACKENDS)
    }
}

/// Two that have agreed.
fn start(world: &World) -> Result<[Balancer<'_>; 2]> {
    form(world, SEED)?;
    let mut pair = [
        Balancer::start_on(world, Lb::First, &configuration(Lb::First))?,
        Balancer::start_on(world, Lb::Second, &configuration(Lb::Second))?,
    ];
    for balancer in &mut pair {
        wait_agreed(balancer)?;
    }
    Ok(pair)
}

fn status_text(world: &World, lb: Lb) -> String {
    // Its exit code says whether all is well.
    match cluster::run(world, lb, &["status"], "") {
        Ok(text) => text,
        Err(error) => format!("refused: {error:#}"),
    }
}

fn backend<'a>(status: &'a Value, address: &str) -> &'a Value {
    let backends = status["vips"][0]["backends"].as_array();
    backends
        .and_then(|backends| backends.iter().find(|backend| backend["address"] == address))
        .unwrap_or(&Value::Null)
}

#[test]
fn two_balancers_agree_and_say_so_and_a_restart_comes_back() -> Result<()> {
    let world = world()?;
    let _servers = servers(&world)?;
    let mut pair = start(&world)?;
    for lb in Lb::BOTH {
        let said = status_text(&world, lb);
        ensure!(said.contains("agrees") && said.contains(", ready"), "{said}");
    }
    let [first, second] = &mut pair;
    wait_state(first, "active")?;
    wait_state(second, "backup")?;
    second.kill()?;
    first.wait("the peer is missed", |status| {
        status["cluster"]["peers"][0]["connected"] == false
    })?;
    let said = status_text(&world, Lb::First);
    ensure!(
        said.starts_with("refused"),
        "all is well without the peer: {said}"
    );
    second.run()?;
    wait_agreed(second)?;
    wait_agreed(first)?;
    Ok(())
}

/// As a fleet is upgraded: one is of the next release, then the other is as well; and one goes back.
#[test]
fn balancers_of_two_releases_work_together_with_equal_tables_and_are_upgraded_one_by_one() -> Result<()> {
    let world = world()?;
    let _servers = servers(&world)?;
    let [this, next] = [artifacts::binary()?, artifacts::next_release()?];
    let mut pair = start(&world)?;
    wait_state(&mut pair[0], "active")?;
    let client = Client::start(
        &world,
        Load {
            held: 200,
            ..Load::new((Family::V4.vip(), PORT), SEED)
        },
    )?;
    client.wait_held(200, Duration::from_secs(20))?;
    let own = env!("CARGO_PKG_VERSION");
    let releases = [own.to_owned(), format!("{own}-next")];
    // Who is upgraded or taken back, and what the two are afterwards.
    for (which, release, are) in [(1, 1, [0, 1]), (0, 1, [1, 1]), (1, 0, [1, 0])] {
        pair[which].stop()?;
        pair[which].use_binary([&this, &next][release].clone());
        pair[which].run()?;
        for place in [0, 1] {
            let other = &releases[are[1 - place]];
            pair[place].wait("the peer's release", |status| {
                let peer = &status["cluster"]["peers"][0];
                peer["connected"] == true && peer["release"] == *other
            })?;
            wait_agreed(&mut pair[place])?;
        }
        // What one is told, both do, whichever release has said it.
        for (at, drained) in [(0, true), (1, false)] {
            if drained {
                pair[at].drain(1)?;
            } else {
                pair[at].undrain(1)?;
            }
            for balancer in &mut pair {
                balancer.wait("the backend is drained at both, or at neither", |status| {
                    let backend = backend(status, &backend_address(1).to_string());
                    backend["drained"] == drained && (backend["slots"] == 0) == drained
                })?;
                wait_agreed(balancer)?;
            }
        }
        wait_state(&mut pair[0], "active")?;
    }
    let report = client.stop()?;
    ensure!(report.failed() == 0 && report.exchanges > 1_000, "{report}");
    Ok(())
}

#[test]
fn what_an_operator_drains_at_one_is_drained_at_both_and_outlives_restarts() -> Result<()> {
    let world = world()?;
    let _servers = servers(&world)?;
    let mut pair = start(&world)?;
    let address = backend_address(1).to_string();
    let is_drained = |drained: bool| {
        let address = address.clone();
        move |status: &Value| {
            let backend = backend(status, &address);
            backend["drained"] == drained && (backend["slots"] == 0) == drained
        }
    };
    pair[0].drain(1)?;
    for balancer in &mut pair {
        balancer.wait("drained", is_drained(true))?;
        wait_agreed(balancer)?;
    }
    // The other one takes the last word back while the first is away.
    pair[0].kill()?;
    pair[1].undrain(1)?;
    pair[0].run()?;
    for balancer in &mut pair {
        balancer.wait("not drained", is_drained(false))?;
        wait_agreed(balancer)?;
    }
    Ok(())
}

#[test]
fn a_backend_that_one_balancer_cannot_reach_gets_no_new_flows_from_either() -> Result<()> {
    let world = world()?;
    let _servers = servers(&world)?;
    let mut pair = start(&world)?;
    let address = backend_address(1);
    // The way from the second one leads nowhere.
    let lb = world.balancer(Lb::Second)?;
    let mac = world.backend(1)?.mac_of("eth0")?;
    lb.teach_neighbour(address.into(), "02:00:00:00:00:99")?;
    let address_text = address.to_string();
    let shunned = |status: &Value| backend(status, &address_text)["slots"] == 0;
    for balancer in &mut pair {
        balancer.wait("it is shunned", shunned)?;
    }
    let status = pair[0].status()?;
    let seen = backend(&status, &address_text);
    ensure!(seen["state"] == "up" && seen["common"] == "soft_down", "{seen:#}");
    lb.teach_neighbour(address.into(), &mac)?;
    for balancer in &mut pair {
        balancer.wait("it serves again", |status| {
            let backend = backend(status, &address_text);
            backend["common"] == "up" && backend["slots"] != 0
        })?;
        wait_agreed(balancer)?;
    }
    Ok(())
}

#[test]
fn another_seed_is_refused_by_name_and_nothing_is_taken_over_from_the_peer() -> Result<()> {
    let world = world()?;
    let _servers = servers(&world)?;
    form(&world, SEED)?;
    write_seed(&directory(&world, Lb::Second), SEED + 1)?;
    let mut first = Balancer::start_on(&world, Lb::First, &configuration(Lb::First))?;
    let _second = Balancer::start_on(&world, Lb::Second, &configuration(Lb::Second))?;
    first.wait("the seed is refused", |status| {
        let peer = &status["cluster"]["peers"][0];
        peer["connected"] == false && peer["trouble"].as_str().is_some_and(|why| why.contains("seed"))
    })?;
    let said = status_text(&world, Lb::First);
    ensure!(said.starts_with("refused"), "{said}");
    Ok(())
}

#[test]
fn configurations_that_differ_are_told_and_a_change_waits_no_longer_than_a_moment() -> Result<()> {
    let world = world()?;
    let _servers = servers(&world)?;
    let mut pair = start(&world)?;
    let mut less = configuration(Lb::First);
    less.backends.remove(&2);
    pair[0].reload(&less)?;
    pair[0].wait("the backend has no slots here", |status| {
        backend(status, &backend_address(2).to_string())["slots"] == 0
    })?;
    until("the difference is told", || {
        Ok(Lb::BOTH.into_iter().all(|lb| {
            pair[usize::from(lb == Lb::Second)]
                .status()
                .is_ok_and(|status| status["cluster"]["peers"][0]["same_configuration"] == false)
        }))
    })?;
    // One that lasts is looked into: which slots are they?
    pair[0].wait("the slots that differ are told", |status| {
        let differing = &status["cluster"]["peers"][0]["differing"][0];
        differing["slots"].as_u64() > Some(50)
            && differing["first_slots"]
                .as_array()
                .is_some_and(|slots| slots.len() == 16)
    })?;
    // And it is a reason that can be tracked, until it is over.
    let reasons = |status: &Value| router(status, "ipv4")["reasons"].to_string();
    for balancer in &mut pair {
        balancer.wait("differing is a reason", |status| {
            reasons(status).contains("differing")
        })?;
    }
    let mut less = configuration(Lb::Second);
    less.backends.remove(&2);
    pair[1].reload(&less)?;
    for balancer in &mut pair {
        wait_agreed(balancer)?;
        balancer.wait("no reason is left", |status| reasons(status) == "[]")?;
    }
    Ok(())
}

#[test]
fn certificates_are_renewed_while_the_session_goes_on() -> Result<()> {
    let world = world()?;
    let _servers = servers(&world)?;
    let mut pair = start(&world)?;
    let certificate = |status: &Value| status["cluster"]["certificate"].clone();
    let before = certificate(&pair[0].status()?);
    let sent = pair[0].status()?["cluster"]["peers"][0]["sent"].as_u64();
    let card = cluster::run(&world, Lb::First, &["rotate"], "")?;
    cluster::run(&world, Lb::Second, &["admit"], &card)?;
    cluster::run(&world, Lb::First, &["rotate", "--finish"], "")?;
    let status = wait_agreed(&mut pair[0])?;
    ensure!(certificate(&status) != before, "{status:#}");
    ensure!(
        status["cluster"]["peers"][0]["sent"].as_u64() >= sent,
        "another session: {status:#}"
    );
    // A session that begins now is by the new one.
    pair[1].kill()?;
    pair[1].run()?;
    let status = wait_agreed(&mut pair[1])?;
    let seen = &status["cluster"]["peers"][0]["certificate"];
    ensure!(*seen != before, "{status:#}");
    // And who is expelled stays out.
    cluster::run(&world, Lb::First, &["expel", Lb::Second.name()], "")?;
    pair[1].wait("it is alone", |status| {
        status["cluster"]["peers"][0]["connected"] == false
    })?;
    ensure!(
        pair[0].status()?["cluster"]["peers"] == serde_json::json!([]),
        "the peer is still there"
    );
    Ok(())
}
