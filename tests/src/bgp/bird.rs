//! BIRD as the router of a world, which spreads flows over all balancers that announce a VIP.

use std::process::Command;

use anyhow::Result;

use super::{BALANCERS_AS, ROUTER_AS};
use crate::netns::run_command;
use crate::process::Process;
use crate::vrrp::until;
use crate::world::{LB, LB2, ROUTER, World, ipv6_of};

/// What a router is.
#[derive(Clone, Copy, Debug)]
pub struct Router<'a> {
    /// Its autonomous system.
    pub own_as: u32,
    /// Further lines of the session with each balancer.
    pub lines: &'a str,
    /// The kernel's table that it puts routes into.
    pub table: &'a str,
    /// How often it speaks and hears BFD, by which both ends are bound, in milliseconds; three missed packets are a
    /// dead neighbor.
    pub bfd_interval_ms: u32,
}

impl Default for Router<'_> {
    fn default() -> Self {
        Self {
            own_as: ROUTER_AS,
            lines: "",
            table: "main",
            bfd_interval_ms: 50,
        }
    }
}

/// A running router.
#[derive(Debug)]
pub struct Bird<'a> {
    world: &'a World,
    _process: Process,
}

impl<'a> Bird<'a> {
    /// Starts it, with further lines of the session with each balancer.
    pub fn start(world: &'a World, lines: &str) -> Result<Self> {
        let router = Router {
            lines,
            ..Router::default()
        };
        Self::start_as(world, router)
    }

    /// Starts another one than the usual.
    pub fn start_as(world: &'a World, router: Router<'_>) -> Result<Self> {
        let Router {
            own_as,
            lines,
            table,
            bfd_interval_ms,
        } = router;
        // BIRD knows tables by number.
        let table = if table == "main" { "254" } else { table };
        let file = |what: &str| world.directory().join(format!("router.{what}"));
        let mut text = format!(
            "log stderr all;\nrouter id {ROUTER};\nprotocol device {{ }}\n\
             protocol bfd {{ interface \"*\" {{ interval {bfd_interval_ms} ms; multiplier 3; }}; }}\n"
        );
        for family in ["ipv4", "ipv6"] {
            text += &format!(
                "protocol kernel kernel_{family} {{ {family} {{ export all; import none; }}; merge paths on; \
                 kernel table {table}; }}\n"
            );
        }
        for (name, balancer) in [("lb", LB), ("lb2", LB2)] {
            text += &format!(
                "protocol bgp {name} {{\n local {ROUTER} as {own_as};\n neighbor {balancer} as {BALANCERS_AS};\n \
                 bfd on;\n error wait time 1, 2;\n {lines}\n ipv4 {{ import all; export none; }};\n \
                 ipv6 {{ import all; export none; next hop address {}; }};\n}}\n",
                ipv6_of(ROUTER)
            );
        }
        std::fs::write(file("conf"), text)?;
        let mut command = Command::new("/usr/sbin/bird");
        command.arg("-f").arg("-c").arg(file("conf"));
        command.arg("-s").arg(file("ctl")).arg("-P").arg(file("pid"));
        let process = Process::start(world.router()?, &mut command, &file("log"))?;
        until("the router runs", || Ok(file("ctl").exists()))?;
        Ok(Self {
            world,
            _process: process,
        })
    }

    /// `birdc WORDS`: what it says.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let control = self.world.directory().join("router.ctl");
        run_command(Command::new("/usr/sbin/birdc").arg("-s").arg(control).args(words))
    }
}
