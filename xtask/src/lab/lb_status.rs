//! What a balancer says of its backends: `foobar status --json`, read for what the lab waits for.

use std::net::IpAddr;
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
    cluster: Option<Cluster>,
}

#[derive(Debug, Deserialize)]
struct Cluster {
    /// It may take VIPs over.
    ready: bool,
    /// Why it may not.
    waits_for: Option<String>,
    peers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    name: String,
    /// Its tables and notes are there.
    complete: bool,
    same_configuration: Option<bool>,
    /// The services for which it steers by something else.
    differing: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Vip {
    name: String,
    /// Whether this balancer answers for its address.
    owned: bool,
    backends: Vec<Backend>,
}

#[derive(Debug, Deserialize)]
struct Backend {
    address: IpAddr,
    /// `up`, `soft_down`, `hard_down` or `unknown`.
    state: String,
    /// Not in the configuration any more, and kept for its flows.
    removed: bool,
    /// Slots whose new flows it gets.
    slots: usize,
}

/// A balancer's admin socket.
pub(crate) fn socket(run: &Run, host: Host) -> PathBuf {
    run.directory().join(format!("{host}.sock"))
}

/// Nothing if the balancer runs and all backends of all its VIPs are up, else which one isn't.
pub(crate) fn all_up(run: &Run, host: Host) -> Result<()> {
    judge(&ask(run, host)?)
}

/// Nothing if the balancer gives this backend no new flows, else for which VIP it does.
pub(crate) fn sends_nothing_new(run: &Run, host: Host, backend: IpAddr) -> Result<()> {
    judge_leaving(&ask(run, host)?, backend)
}

/// Nothing if the balancer answers for all services of this VIP, else for which one it doesn't.
pub(crate) fn owns(run: &Run, host: Host, vip: &str) -> Result<()> {
    judge_ownership(&ask(run, host)?, host, vip)
}

/// Nothing if the balancer agrees with its peers, else about what it does not.
pub(crate) fn agrees(run: &Run, host: Host) -> Result<()> {
    judge_agreement(&ask(run, host)?, host)
}

/// The VIPs that the balancer answers for, where it can be asked.
pub(crate) fn owned(run: &Run, host: Host) -> Option<Vec<String>> {
    let status = ask(run, host).ok()?;
    let owned = status.vips.into_iter().filter(|vip| vip.owned);
    Some(owned.map(|vip| vip.name).collect())
}

fn ask(run: &Run, host: Host) -> Result<Status> {
    let mut command = network::in_namespace(&run.namespace(host));
    command
        .arg(workspace::foobar_binary())
        .args(["status", "--json", "--socket"])
        .arg(socket(run, host));
    parse(&exec::output(&mut command)?)
}

fn parse(json: &str) -> Result<Status> {
    serde_json::from_str(json).context("the balancer's status is not as expected")
}

fn judge(status: &Status) -> Result<()> {
    for vip in &status.vips {
        if vip.backends.is_empty() {
            bail!("{} has no backends", vip.name);
        }
        for backend in vip.backends.iter().filter(|backend| !backend.removed) {
            if backend.state != "up" {
                bail!("{} is {} for {}", backend.address, backend.state, vip.name);
            }
        }
    }
    Ok(())
}

fn judge_leaving(status: &Status, backend: IpAddr) -> Result<()> {
    for vip in &status.vips {
        let left = vip
            .backends
            .iter()
            .find(|b| b.address == backend && (!b.removed || b.slots > 0));
        if let Some(left) = left {
            bail!("{backend} still has {} slots of {}", left.slots, vip.name);
        }
    }
    Ok(())
}

fn judge_ownership(status: &Status, host: Host, vip: &str) -> Result<()> {
    let mut services = status
        .vips
        .iter()
        .filter(|held| held.name.starts_with(vip))
        .peekable();
    if services.peek().is_none() {
        bail!("{host} has no VIP {vip}");
    }
    match services.find(|held| !held.owned) {
        Some(other) => bail!("{} is not {host}'s yet", other.name),
        None => Ok(()),
    }
}

fn judge_agreement(status: &Status, host: Host) -> Result<()> {
    let Some(cluster) = &status.cluster else {
        bail!("{host} is in no cluster");
    };
    if !cluster.ready {
        bail!(
            "{host} waits: {}",
            cluster.waits_for.as_deref().unwrap_or_default()
        );
    }
    for peer in &cluster.peers {
        if !peer.complete {
            bail!("{host} does not have what {} has", peer.name);
        }
        if peer.same_configuration != Some(true) || !peer.differing.is_empty() {
            bail!("{host} steers by something else than {}", peer.name);
        }
    }
    if cluster.peers.is_empty() {
        bail!("{host} has no peer");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: &str, removed: bool, slots: usize) -> Status {
        let backend = format!(
            r#"{{"address":"192.0.2.21","state":"{state}","removed":{removed},"slots":{slots},"weight":100}}"#
        );
        parse(&format!(
            r#"{{"version":"1","vips":[{{"name":"a","owned":true,"backends":[{backend}]}}]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn a_backend_that_is_not_up_is_named() {
        assert!(judge(&status("up", false, 9)).is_ok());
        let error = judge(&status("unknown", false, 9)).unwrap_err().to_string();
        assert_eq!(error, "192.0.2.21 is unknown for a");
        assert!(
            judge(&status("hard_down", true, 0)).is_ok(),
            "one that leaves need not be up"
        );
    }

    #[test]
    fn a_vip_is_owned_when_it_is_there_and_every_service_is() {
        let mut status = status("up", false, 9);
        let host = Host::Lb(1);
        assert!(judge_ownership(&status, host, "a").is_ok());
        assert!(
            judge_ownership(&status, host, "b").is_err(),
            "nobody has heard of it"
        );
        status.vips[0].owned = false;
        assert!(judge_ownership(&status, host, "a").is_err());
    }

    #[test]
    fn balancers_agree_when_each_has_all_of_the_other() {
        let judged = |cluster: &str| {
            let status = parse(&format!(r#"{{"vips":[],"cluster":{cluster}}}"#)).unwrap();
            judge_agreement(&status, Host::Lb(1)).map_err(|error| error.to_string())
        };
        let peer = |complete: bool, same: &str, differing: &str| {
            format!(
                r#"{{"ready":true,"waits_for":null,"peers":[{{"name":"lb2","complete":{complete},"same_configuration":{same},"differing":[{differing}]}}]}}"#
            )
        };
        assert_eq!(judged(&peer(true, "true", "")), Ok(()));
        assert!(judged(&peer(false, "true", "")).is_err());
        assert!(judged(&peer(true, "false", "")).is_err());
        assert!(judged(&peer(true, "true", r#"{"service":"a"}"#)).is_err());
        assert!(judged("null").is_err());
        assert!(judged(r#"{"ready":true,"peers":[]}"#).is_err());
    }

    #[test]
    fn a_backend_has_left_when_it_has_no_slots() {
        let backend = IpAddr::from([192, 0, 2, 21]);
        assert!(
            judge_leaving(&status("up", false, 0), backend).is_err(),
            "not reloaded yet"
        );
        assert!(judge_leaving(&status("up", true, 3), backend).is_err());
        assert!(judge_leaving(&status("up", true, 0), backend).is_ok());
        assert!(judge_leaving(&status("up", false, 3), IpAddr::from([192, 0, 2, 22])).is_ok());
    }
}
