//! The whole path end to end: what `cargo xtask up` starts, used by a browser, by curls, and by an operator who
//! breaks things.
//!
//! One lab serves all stages, in order. Each says what it claims and how long it took; one that fails does not
//! keep the others from running, and the lab goes in any case.

mod failures;
mod ipv6;
mod isolation;
mod operators;
mod resolver;
mod scaling;
mod visitors;

use std::time::Instant;

use anyhow::{Context as _, Result};
use foobar_tests::artifacts;
use foobar_tests::lab::Lab;

type Stage = (&'static str, fn(&Lab) -> Result<String>);

const STAGES: [Stage; 12] = [
    ("a command on the client just works", visitors::commands_just_work),
    (
        "a browser signs up and publishes an article",
        visitors::a_browser_publishes,
    ),
    (
        "200 parallel curls are spread over both web servers",
        visitors::curls_are_spread,
    ),
    ("names, pings and 200 curls by IPv6", ipv6::ipv6_works_throughout),
    (
        "a caching resolver believes the zone",
        resolver::a_resolver_believes_the_zone,
    ),
    (
        "nothing on the edge reaches app or database",
        isolation::tiers_are_isolated,
    ),
    ("status and maps are readable", operators::operators_can_read),
    (
        "a killed web server is left out, the other's connections stay",
        failures::a_web_server_dies,
    ),
    (
        "a killed balancer's VIP moves to the other one and back, and no connection breaks",
        failures::a_balancer_dies,
    ),
    ("the database goes and comes back", failures::the_database_returns),
    (
        "the lab grows and shrinks without breaking a connection",
        scaling::the_lab_is_scaled,
    ),
    ("down leaves nothing behind", operators::nothing_is_left),
];

#[test]
fn the_whole_path() -> Result<()> {
    let start = Instant::now();
    let lab = Lab::start().context("the lab does not start")?;
    println!(
        "the lab {} is up after {:.1} s",
        lab.run(),
        start.elapsed().as_secs_f32()
    );
    let mut failed = Vec::new();
    for (name, stage) in STAGES {
        let start = Instant::now();
        let result = stage(&lab);
        let took = start.elapsed().as_secs_f32();
        match result {
            Ok(report) => println!("ok     {name} ({took:.1} s): {report}"),
            Err(error) => {
                println!("FAILED {name} ({took:.1} s): {error:#}");
                let logs = artifacts::target_directory()?.join("e2e/logs");
                match lab.keep_logs(&logs) {
                    Ok(()) => println!("       the lab's logs are kept in {}", logs.display()),
                    Err(error) => println!("       the lab's logs are lost: {error:#}"),
                }
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "failed: {failed:#?}");
    Ok(())
}
