//! Connections that are held while something happens to the lab: each asks again and again, and says at the
//! end how often it was answered and what broke it, if anything did.
//!
//! Which web server serves one is read from that server's own list of sockets, since answers go straight to the
//! client and carry no name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use super::https::{Connection, Trust};
use super::{Lab, VIPS};
use crate::netns;

/// Between two requests of a connection.
const PAUSE: Duration = Duration::from_millis(250);

/// Held connections.
#[derive(Debug)]
pub struct Held {
    stop: Arc<AtomicBool>,
    connections: Vec<One>,
}

#[derive(Debug)]
struct One {
    port: u16,
    answers: Arc<AtomicU64>,
    worker: JoinHandle<Option<String>>,
}

/// What became of one connection.
#[derive(Debug)]
pub struct Fate {
    /// The client's port.
    pub port: u16,
    /// Requests that were answered with 200.
    pub answers: u64,
    /// What ended it before it was asked to.
    pub broken: Option<String>,
}

impl Held {
    /// Opens connections from the client to the VIPs in turn, and keeps asking for a path on each.
    pub fn start(lab: &Lab, trust: &Trust, number: usize, path: &'static str) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let opened = lab.inside("client", || {
            let vips = VIPS.iter().cycle().take(number);
            vips.map(|&vip| {
                let mut connection = Connection::open(trust, SocketAddr::from((vip, 443)))?;
                let answer = connection.get(path)?;
                anyhow::ensure!(answer.status == 200, "{path}: {answer:?}");
                Ok(connection)
            })
            .collect::<Result<Vec<_>>>()
        })?;
        let connections = opened
            .into_iter()
            .map(|connection| One::start(connection, path, &stop))
            .collect();
        Ok(Self { stop, connections })
    }

    /// How many requests were answered so far on the connections from these ports, the fewest of any one.
    pub fn fewest_answers(&self, ports: &[u16]) -> u64 {
        let of = self.connections.iter().filter(|one| ports.contains(&one.port));
        of.map(|one| one.answers.load(Ordering::Relaxed))
            .min()
            .unwrap_or_default()
    }

    /// The ports of the connections that each web server has.
    pub fn by_server(&self, lab: &Lab, webs: &[&'static str]) -> Result<BTreeMap<&'static str, Vec<u16>>> {
        let mut servers = BTreeMap::new();
        for &web in webs {
            let arguments = [
                "netns",
                "exec",
                &lab.namespace(web),
                "ss",
                "-Htn",
                "state",
                "established",
            ];
            let list = netns::run_command(std::process::Command::new("ip").args(arguments))?;
            let mine = self.connections.iter().map(|one| one.port);
            let here = mine.filter(|port| {
                list.lines().any(|line| {
                    line.trim_end()
                        .rsplit_once(':')
                        .is_some_and(|(_, peer)| peer == port.to_string())
                })
            });
            servers.insert(web, here.collect());
        }
        Ok(servers)
    }

    /// Ends them all.
    pub fn stop(self) -> Result<Vec<Fate>> {
        self.stop.store(true, Ordering::Relaxed);
        let fates = self.connections.into_iter().map(|one| {
            let broken = one
                .worker
                .join()
                .map_err(|_| anyhow!("a connection's thread panicked"))?;
            Ok(Fate {
                port: one.port,
                answers: one.answers.load(Ordering::Relaxed),
                broken,
            })
        });
        fates.collect::<Result<_>>().context("end the held connections")
    }
}

impl One {
    fn start(mut connection: Connection, path: &'static str, stop: &Arc<AtomicBool>) -> Self {
        let answers = Arc::new(AtomicU64::new(0));
        let (port, stop, counted) = (connection.local().port(), Arc::clone(stop), Arc::clone(&answers));
        let worker = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match connection.get(path) {
                    Ok(answer) if answer.status == 200 => counted.fetch_add(1, Ordering::Relaxed),
                    Ok(answer) => return Some(format!("status {}: {}", answer.status, answer.body)),
                    Err(error) => return Some(format!("{error:#}")),
                };
                std::thread::sleep(PAUSE);
            }
            None
        });
        Self {
            port,
            answers,
            worker,
        }
    }
}
