//! Balancers of one cluster, made by the commands that users have.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::artifacts;
use crate::lb::Balancer;
use crate::world::{LB, LB2, Lb, World};

/// The port that balancers listen on for each other.
pub const LINK_PORT: u16 = 7117;

/// The directory of a balancer's place in the cluster.
pub fn directory(world: &World, lb: Lb) -> PathBuf {
    world.directory().join(format!("{}.cluster", lb.name()))
}

/// Where a balancer listens for its peer.
pub const fn address(lb: Lb) -> Ipv4Addr {
    match lb {
        Lb::First => LB,
        Lb::Second => LB2,
    }
}

/// Makes a cluster of both balancers, with this seed of the flow hash.
pub fn form(world: &World, seed: u64) -> Result<()> {
    let at = |lb: Lb| {
        [
            "--address".to_owned(),
            SocketAddr::from((address(lb), LINK_PORT)).to_string(),
        ]
    };
    let [address, port] = at(Lb::First);
    run(
        world,
        Lb::First,
        &["init", "--name", Lb::First.name(), &address, &port],
        "",
    )?;
    write_seed(&directory(world, Lb::First), seed)?;
    let invitation = run(world, Lb::First, &["invite"], "")?;
    let [address, port] = at(Lb::Second);
    let card = run(
        world,
        Lb::Second,
        &["join", "--name", Lb::Second.name(), &address, &port],
        &invitation,
    )?;
    run(world, Lb::First, &["admit"], &card)?;
    Ok(())
}

/// Gives a cluster's directory another seed.
pub fn write_seed(directory: &Path, seed: u64) -> Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(directory.join("seed"))?;
    Ok(writeln!(file, "{seed:016x}{:016x}", !seed)?)
}

/// `foobar cluster`, with this on stdin: what it prints.
pub fn run(world: &World, lb: Lb, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(artifacts::binary()?)
        .arg("cluster")
        .args(arguments)
        .env("FOOBAR_CLUSTER", directory(world, lb))
        .env(
            "FOOBAR_SOCKET",
            world.directory().join(format!("{}.sock", lb.name())),
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("its stdin")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "foobar cluster {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until a balancer agrees with its peer about everything, and may take VIPs.
pub fn wait_agreed(balancer: &mut Balancer<'_>) -> Result<Value> {
    balancer.wait("the balancers agree", |status| {
        let peer = &status["cluster"]["peers"][0];
        status["cluster"]["ready"] == true
            && peer["complete"] == true
            && peer["same_configuration"] == true
            && peer["differing"].as_array().is_some_and(Vec::is_empty)
    })
}
