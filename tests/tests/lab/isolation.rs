//! The edge reaches nothing behind the web servers, whatever routes a host on it adds.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use foobar_tests::lab::Lab;
use foobar_tests::netns::run_command;

const APP: SocketAddr = at([198, 51, 100, 31], 8000);
const DATABASE: SocketAddr = at([203, 0, 113, 41], 3306);
/// The first web server's own address on the app segment; its port 443 listens there too.
const INNER: SocketAddr = at([198, 51, 100, 21], 443);
const INNER_NETWORKS: [&str; 2] = ["198.51.100.0/24", "203.0.113.0/24"];

const fn at([a, b, c, d]: [u8; 4], port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

/// Whether a TCP connection from a host comes about; if not, why.
fn probe(lab: &Lab, host: &str, to: SocketAddr) -> Result<std::io::Result<()>> {
    lab.inside(host, || {
        Ok(TcpStream::connect_timeout(&to, Duration::from_millis(1500)).map(drop))
    })
}

/// Routes of a host to the inner networks by way of a gateway, as long as they are not dropped.
struct Routes {
    namespace: String,
    gateway: &'static str,
}

impl Routes {
    fn add(lab: &Lab, host: &str, gateway: &'static str) -> Result<Self> {
        let routes = Self {
            namespace: lab.namespace(host),
            gateway,
        };
        routes.each("replace")?;
        Ok(routes)
    }

    fn each(&self, word: &str) -> Result<()> {
        for network in INNER_NETWORKS {
            let words = ["-n", &self.namespace, "route", word, network, "via", self.gateway];
            run_command(Command::new("ip").args(words))?;
        }
        Ok(())
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        // Without its namespace a route is gone, too.
        let _ = self.each("del");
    }
}

pub(super) fn tiers_are_isolated(lab: &Lab) -> Result<String> {
    // The same probe where it must succeed: it is able to.
    let edge = at([192, 0, 2, 21], 443);
    for (host, to) in [
        ("web1", APP),
        ("app1", DATABASE),
        ("web1", INNER),
        ("client", edge),
    ] {
        probe(lab, host, to)?.with_context(|| format!("control: {host} does not reach {to}"))?;
    }
    let tried = std::thread::scope(|scope| -> Result<usize> {
        let hosts = ["client", "dns1", "lb1", "lb2"];
        let attempts = hosts.map(|host| scope.spawn(move || attempts_from(lab, host)));
        let mut tried = 0;
        for attempt in attempts {
            tried += attempt
                .join()
                .map_err(|_| anyhow::anyhow!("an attempt panicked"))??;
        }
        Ok(tried)
    })?;
    a_missing_filter_shows(lab)?;
    Ok(format!(
        "{tried} attempts from the edge, none got through; one did without the packet filter"
    ))
}

fn attempts_from(lab: &Lab, host: &str) -> Result<usize> {
    let mut tried = 0;
    for gateway in [None, Some("192.0.2.21"), Some("192.0.2.22")] {
        let _routes = gateway
            .map(|gateway| Routes::add(lab, host, gateway))
            .transpose()?;
        for (to, answer) in probe_all(lab, host)? {
            ensure!(answer.is_err(), "{host} reaches {to} via {gateway:?}");
            tried += 1;
        }
    }
    Ok(tried)
}

fn probe_all(lab: &Lab, host: &str) -> Result<Vec<(SocketAddr, std::io::Result<()>)>> {
    std::thread::scope(|scope| {
        let probes = [APP, DATABASE, INNER].map(|to| (to, scope.spawn(move || probe(lab, host, to))));
        let ended = probes.into_iter().map(|(to, probe)| {
            let answer = probe.join().map_err(|_| anyhow::anyhow!("a probe panicked"))??;
            Ok((to, answer))
        });
        ended.collect()
    })
}

/// The control of the attempts: their routes do lead to a web server, and only its packet filter refuses them.
fn a_missing_filter_shows(lab: &Lab) -> Result<()> {
    let _routes = Routes::add(lab, "client", "192.0.2.21")?;
    let rules = lab.directory().join("web1.nft");
    std::fs::write(&rules, lab.exec_ok("web1", &["nft", "list", "ruleset"])?)?;
    lab.exec_ok("web1", &["nft", "flush", "ruleset"])?;
    let open = probe(lab, "client", INNER);
    lab.exec_ok("web1", &["nft", "-f", &rules.to_string_lossy()])?;
    open?.context("control: without the filter the client does not reach the inner address either")?;
    ensure!(
        probe(lab, "client", INNER)?.is_err(),
        "the filter was not restored"
    );
    Ok(())
}
