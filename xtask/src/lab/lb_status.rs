//! What a balancer says of its backends: `foobar status --json`, read for what the lab waits for.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::network;
use super::topology::{Host, Run};
use crate::{exec, workspace};

/// The part of the status that matters here.
#[derive(Debug, Deserialize)]
struct Status {
    vips: Vec<Vip>,
}

#[derive(Debug, Deserialize)]
struct Vip {
    name: String,
    backends: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    address: String,
    health: String,
}

/// A balancer's admin socket.
pub(crate) fn socket(run: &Run, host: Host) -> PathBuf {
    run.directory().join(format!("{host}.sock"))
}

/// Nothing if the balancer runs and all backends of all its VIPs are up, else which one isn't.
pub(crate) fn all_up(run: &Run, host: Host) -> Result<()> {
    let mut command = network::in_namespace(&run.namespace(host));
    command
        .arg(workspace::foobar_binary())
        .args(["status", "--json", "--socket"])
        .arg(socket(run, host));
    judge(&exec::output(&mut command)?)
}

fn judge(json: &str) -> Result<()> {
    let status: Status = serde_json::from_str(json).context("the balancer's status is not as expected")?;
    for vip in &status.vips {
        if vip.backends.is_empty() {
            bail!("{} has no backends", vip.name);
        }
        for backend in &vip.backends {
            if backend.health != "up" {
                bail!("{} is {} for {}", backend.address, backend.health, vip.name);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_is_not_up_is_named() {
        let json = |health: &str| {
            format!(
                r#"{{"vips":[{{"name":"a","backends":[{{"address":"192.0.2.21","health":"{health}"}}]}}]}}"#
            )
        };
        assert!(judge(&json("up")).is_ok());
        let error = judge(&json("unknown")).unwrap_err().to_string();
        assert_eq!(error, "192.0.2.21 is unknown for a");
    }
}
