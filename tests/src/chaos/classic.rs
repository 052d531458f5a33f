//! The pair that foobar takes the place of: HAProxy on two hosts, keepalived to say which of them has the VIPs.
//!
//! HAProxy passes TCP on to the backends' own addresses, each time by a connection of its own; a host that takes over
//! knows none of the other's. It forwards no UDP: echo is answered by the hosts themselves.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::pair::{Pair, connect, cut, index};
use super::probe::Echo;
use super::stage::{ECHO_PORT, PORT};
use crate::netns::Namespace;
use crate::process::Process;
use crate::site;
use crate::vrrp::keepalived::Keepalived;
use crate::vrrp::until;
use crate::world::{Backend, Family, Lb, World};

/// The two hosts.
#[derive(Debug)]
pub struct Classic<'w> {
    world: &'w World,
    hosts: [Option<Host<'w>>; 2],
}

/// What runs on one of them.
#[derive(Debug)]
struct Host<'w> {
    proxy: Process,
    router: Keepalived<'w>,
    _echoes: Vec<Echo>,
}

impl<'w> Classic<'w> {
    /// Starts both and waits until the first has the VIPs.
    ///
    /// # Errors
    /// Where they don't get there.
    pub fn start(world: &'w World) -> Result<Self> {
        let mut pair = Self {
            world,
            hosts: [None, None],
        };
        for which in Lb::BOTH {
            pair.start_on(which)?;
        }
        Ok(pair)
    }

    fn start_on(&mut self, which: Lb) -> Result<()> {
        let host = self.world.balancer(which)?;
        // The VIPs are bound whether the host has them or not.
        for family in ["ipv4", "ipv6"] {
            host.sysctl(&format!("net/{family}/ip_nonlocal_bind"), "1")?;
        }
        let proxy = proxy(self.world, host, which)?;
        let echo = |family: Family| {
            let on = SocketAddr::new(family.vip(), ECHO_PORT);
            Echo::start(host, index(which) as Backend + 1, on)
        };
        let echoes = Family::BOTH.into_iter().map(echo).collect::<Result<_>>()?;
        let router = Keepalived::start(self.world, which, [200, 100][index(which)])?;
        router.wait_master(which == Lb::First)?;
        self.hosts[index(which)] = Some(Host {
            proxy,
            router,
            _echoes: echoes,
        });
        Ok(())
    }
}

/// HAProxy on a host, when it listens.
fn proxy(world: &World, host: &Namespace, which: Lb) -> Result<Process> {
    let file = |what: &str| world.directory().join(format!("haproxy-{}.{what}", which.name()));
    let mut text =
        "global\n  maxconn 8000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  \
                    timeout server 1h\n  balance roundrobin\n"
            .to_owned();
    for (name, port) in [("streams", PORT), ("site", site::PORT)] {
        text += &format!("listen {name}\n");
        for family in Family::BOTH {
            text += &format!("  bind {}\n", SocketAddr::new(family.vip(), port));
        }
        for backend in world.backends() {
            let address = SocketAddr::new(Family::V4.backend(backend), port);
            text += &format!("  server b{backend} {address} check inter 1s\n");
        }
    }
    let config = file("cfg");
    std::fs::write(&config, text)?;
    let mut command = Command::new("haproxy");
    // In the foreground.
    command.arg("-db").arg("-f").arg(&config);
    let mut process = Process::start(host, &mut command, &file("log"))?;
    until("HAProxy listens", || {
        if let Some(ended) = process.ended()? {
            anyhow::bail!("HAProxy has ended, {ended}\n{}", process.tail());
        }
        let listening = host.command("ss", &["-Hltn", "sport", "=", &format!(":{PORT}")])?;
        Ok(listening.lines().count() >= Family::BOTH.len())
    })?;
    Ok(process)
}

impl Pair for Classic<'_> {
    fn die(&mut self, which: Lb) -> Result<()> {
        cut(self.world, which)?;
        let mut host = self.hosts[index(which)]
            .take()
            .context("the host is dead already")?;
        host.proxy.kill()?;
        host.router.kill()
    }

    fn come_back(&mut self, which: Lb) -> Result<()> {
        connect(self.world, which)?;
        self.start_on(which)?;
        if which == Lb::First {
            // The other one gives the VIPs up.
            let second = self.hosts[index(Lb::Second)].as_ref();
            second
                .context("the second host is dead")?
                .router
                .wait_master(false)?;
        }
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }
}
