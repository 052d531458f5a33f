//! FRR as the router of a world: zebra, bgpd and bfdd.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::{BALANCERS_AS, ROUTER_AS};
use crate::netns::run_command;
use crate::process::Process;
use crate::vrrp::until;
use crate::world::{LB, LB2, ROUTER, World};

const PROGRAMS: &str = "/usr/lib/frr";

/// The running daemons.
#[derive(Debug)]
pub struct Frr {
    directory: PathBuf,
    _daemons: Vec<Process>,
}

impl Frr {
    /// Starts it; `line` makes further lines of bgpd's for a neighbor.
    pub fn start(world: &World, line: impl Fn(&str) -> String) -> Result<Self> {
        let directory = world.directory().join("frr");
        std::fs::create_dir_all(&directory)?;
        let mut bgp = format!(
            "log stdout\nrouter bgp {ROUTER_AS}\n bgp router-id {ROUTER}\n no bgp ebgp-requires-policy\n \
             bgp bestpath as-path multipath-relax\n"
        );
        let mut bfd = "log stdout\nbfd\n".to_owned();
        let neighbors = [LB, LB2].map(|address| address.to_string());
        for neighbor in &neighbors {
            bgp += &format!(
                " neighbor {neighbor} remote-as {BALANCERS_AS}\n neighbor {neighbor} bfd\n \
                 neighbor {neighbor} timers connect 1\n"
            );
            bgp += &line(neighbor);
            bfd += &format!(
                " peer {neighbor}\n  transmit-interval 50\n  receive-interval 50\n  detect-multiplier 3\n"
            );
        }
        for family in ["ipv4", "ipv6"] {
            bgp += &format!(" address-family {family} unicast\n  maximum-paths 4\n");
            for neighbor in &neighbors {
                bgp += &format!("  neighbor {neighbor} activate\n");
                if family == "ipv6" {
                    bgp += &format!("  neighbor {neighbor} route-map global in\n");
                }
            }
            bgp += " exit-address-family\n";
        }
        // It takes link-local next hops otherwise, which do not tell whose they are.
        bgp += "route-map global permit 10\n set ipv6 next-hop prefer-global\n";
        for (daemon, text) in [("zebra", "log stdout\n"), ("bfdd", &bfd), ("bgpd", &bgp)] {
            std::fs::write(directory.join(format!("{daemon}.conf")), text)?;
        }
        // They run as a user of their own.
        run_command(Command::new("chown").args(["-R", "frr:frr"]).arg(&directory))?;
        let start = |program: &str| {
            let file = |what: &str| directory.join(format!("{program}.{what}"));
            let mut command = Command::new(format!("{PROGRAMS}/{program}"));
            command.arg("-f").arg(file("conf")).arg("-i").arg(file("pid"));
            command.arg("-z").arg(directory.join("zebra.sock"));
            command.arg("--vty_socket").arg(&directory);
            if program == "bfdd" {
                command.arg("--bfdctl").arg(directory.join("bfdd.sock"));
            }
            Process::start(world.router()?, &mut command, &file("log"))
        };
        let mut daemons = vec![start("zebra")?];
        until("zebra listens", || Ok(directory.join("zebra.sock").exists()))?;
        daemons.push(start("bfdd")?);
        daemons.push(start("bgpd")?);
        until("bgpd listens", || Ok(directory.join("bgpd.vty").exists()))?;
        Ok(Self {
            directory,
            _daemons: daemons,
        })
    }

    /// `vtysh -c COMMAND`: what bgpd says.
    pub fn ask(&self, command: &str) -> Result<String> {
        run_command(
            Command::new("vtysh")
                .args(["-d", "bgpd", "--vty_socket"])
                .arg(&self.directory)
                .args(["-c", command]),
        )
    }
}
