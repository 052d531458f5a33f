//! The balancers' cluster: made by the commands that an operator has, before the balancers start.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::roles;
use super::topology::{Host, Run, Segment};
use crate::{exec, workspace};

/// Where balancers listen for each other.
const PORT: u16 = 7117;

/// Where a balancer keeps what it is in the cluster: what its configuration says too.
fn directory(run: &Run, host: Host) -> PathBuf {
    run.directory().join("secrets").join(format!("{host}.cluster"))
}

/// Makes the cluster; one that is there stays.
pub(crate) fn create(run: &Run) -> Result<()> {
    let [first, second] = [Host::Lb(1), Host::Lb(2)];
    if directory(run, second).join("cluster.toml").exists() {
        return Ok(());
    }
    // Of a start that was interrupted.
    for host in [first, second] {
        let directory = directory(run, host);
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
    }
    let own = |host: Host| -> Result<[String; 4]> {
        let address = SocketAddr::from((roles::address(host, Segment::Edge)?, PORT));
        let words = ["--name", &host.to_string(), "--address", &address.to_string()];
        Ok(words.map(str::to_owned))
    };
    let command = |host: Host, verb: &str| {
        let mut command = Command::new(workspace::foobar_binary());
        command.args(["cluster", verb, "--dir"]).arg(directory(run, host));
        command
    };
    exec::output(command(first, "init").args(own(first)?))?;
    let invitation = exec::output(&mut command(first, "invite"))?;
    let card = exec::filter(command(second, "join").args(own(second)?), &invitation)?;
    exec::filter(&mut command(first, "admit"), &card).map(drop)
}
