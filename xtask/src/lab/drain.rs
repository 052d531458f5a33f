//! Taking a server out of a running lab without breaking a connection, as far as the deadline allows.
//!
//! Nobody sends it new connections any more when this begins. What it still serves is counted on the
//! server itself: replies go straight to the client, so that only it knows.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::configs::APP_PORT;
use super::processes::{self, Process};
use super::state::State;
use super::topology::{Host, Interface, Run, Segment};
use super::{lb_status, network, readiness, roles};
use crate::exec;

const PAUSE: Duration = Duration::from_millis(200);
/// How long a server may take to stop once it was told to; longer than its own drain timeout.
const STOP: Duration = Duration::from_secs(15);

/// Waits for the host's connections to end, stops it and removes it.
pub(crate) fn retire(state: &mut State, host: Host, limit: Duration) -> Result<()> {
    println!(
        "  {host:<7} leaves: it keeps its connections for up to {} s",
        limit.as_secs()
    );
    let start = Instant::now();
    let in_time = || start.elapsed() < limit;
    while let Err(reason) = receives_nothing_new(state, host) {
        if !in_time() {
            println!("  {host:<7} is still in use: {reason:#}");
            break;
        }
        thread::sleep(PAUSE);
    }
    loop {
        let open = connections(&state.run, host)?;
        if open == 0 {
            break;
        }
        if !in_time() {
            println!("  {host:<7} still has {open} connections, which end now");
            break;
        }
        thread::sleep(PAUSE);
    }
    let name = host.to_string();
    let leaving: Vec<Process> = state.of(host).cloned().collect();
    processes::stop(&leaving, STOP);
    network::remove_host(&state.run, host)?;
    state.processes.retain(|process| process.host != name);
    println!("  {host:<7} gone after {:.1} s", start.elapsed().as_secs_f32());
    state.save()
}

/// Nothing if the tier in front has taken the host off its list, else who hasn't. A dead one does not count.
fn receives_nothing_new(state: &State, host: Host) -> Result<()> {
    let runs = |front: &Host| state.of(*front).any(Process::is_alive);
    match host {
        Host::Web(_) => {
            for lb in [Host::Lb(1), Host::Lb(2)].iter().filter(|lb| runs(lb)) {
                for backend in edge_addresses(host) {
                    lb_status::sends_nothing_new(&state.run, *lb, backend)
                        .with_context(|| format!("{lb} has not taken it out"))?;
                }
            }
        }
        Host::App(_) => {
            let upstream = format!("\"{}:{APP_PORT}\"", roles::address(host, Segment::App)?);
            for web in state.shape.webs().filter(runs) {
                ensure!(
                    !readiness::web_health(&state.run, web)?.contains(&upstream),
                    "{web} has not taken it out"
                );
            }
        }
        Host::Client | Host::Dns | Host::Lb(_) | Host::Db => {}
    }
    Ok(())
}

fn edge_addresses(host: Host) -> Vec<IpAddr> {
    let interfaces = host.interfaces();
    let edge = interfaces.iter().filter(|i| i.segment == Segment::Edge);
    edge.flat_map(Interface::addresses).collect()
}

/// The users' connections to a web server: those that are not health checks. An app server has none: its
/// connections are the web servers' own, idle ones among them, and it ends its requests by itself when it
/// is told to stop.
fn connections(run: &Run, host: Host) -> Result<usize> {
    if !matches!(host, Host::Web(_)) {
        return Ok(0);
    }
    let balancers: Vec<String> = [Host::Lb(1), Host::Lb(2)]
        .into_iter()
        .flat_map(edge_addresses)
        .map(|address| address.to_string())
        .collect();
    let list = exec::output(network::in_namespace(&run.namespace(host)).args([
        "ss",
        "-H",
        "-t",
        "-n",
        "state",
        "established",
    ]))?;
    Ok(count(&list, &[443, 80], &balancers))
}

/// Counts lines of ss (queues, local, peer) by local port, without those from the given peers.
fn count(list: &str, ports: &[u16], without: &[String]) -> usize {
    list.lines()
        .filter(|line| {
            let mut ends = line
                .split_whitespace()
                .skip(2)
                .filter_map(|end| end.rsplit_once(':'));
            let (Some((_, local)), Some((peer, _))) = (ends.next(), ends.next()) else {
                return false;
            };
            let peer = peer.trim_start_matches('[').trim_end_matches(']');
            let peer = peer.trim_start_matches("::ffff:");
            local.parse().is_ok_and(|port| ports.contains(&port)) && !without.iter().any(|lb| lb == peer)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_connections_count_and_health_checks_do_not() {
        let list = "0 0 192.0.2.101:443 192.0.2.10:40000\n\
                    0 0 192.0.2.101:443 192.0.2.11:40001\n\
                    0 0 198.51.100.21:50000 198.51.100.31:8000\n\
                    0 0 [::ffff:192.0.2.102]:443 [::ffff:192.0.2.11]:40002\n\
                    0 0 [2001:db8:0:1::101]:443 [2001:db8:0:1::10]:40003\n\
                    0 0 [2001:db8:0:1::101]:443 [2001:db8:0:1::11]:40004\n\
                    0 0 192.0.2.102:80 192.0.2.10:40005\n";
        let balancer = ["192.0.2.11".to_owned(), "2001:db8:0:1::11".to_owned()];
        assert_eq!(count(list, &[443, 80], &balancer), 3);
    }
}
