//! Routers of which the one that balancers speak with is two hops away: it tells the one on the segment, its iBGP client,
//! which way the VIPs are (a route reflector), and forwards nothing itself. Both run BIRD.

use std::process::Command;

use anyhow::Result;

use super::{BALANCERS_AS, ROUTER_AS};
use crate::netns::Namespace;
use crate::process::Process;
use crate::vrrp::until;
use crate::world::{FAR_ROUTER, LB, NEAR_ROUTER, ROUTER, World, ipv6_of};

/// The running routers.
#[derive(Debug)]
pub struct Reflector {
    _far: Process,
    _near: Process,
}

impl Reflector {
    /// Starts both; the session with the first balancer has further lines.
    pub fn start(world: &World, lines: &str) -> Result<Self> {
        // No session without an address for each family, though nothing is announced with it.
        let own = ipv6_of(ROUTER);
        let far = format!(
            "log stderr all;\nrouter id {FAR_ROUTER};\nprotocol device {{ }}\n\
             protocol bfd {{ multihop {{ interval 50 ms; multiplier 3; }}; }}\n\
             protocol static {{ ipv4; route 0.0.0.0/0 via {NEAR_ROUTER}; }}\n\
             protocol static {{ ipv6; route ::/0 via \"eth0\"; }}\n\
             protocol bgp lb {{\n local {FAR_ROUTER} as {ROUTER_AS};\n neighbor {LB} as {BALANCERS_AS};\n multihop 2;\n \
             bfd on;\n error wait time 1, 2;\n {lines}\n ipv4 {{ import all; export none; }};\n \
             ipv6 {{ import all; export none; next hop address {own}; }};\n}}\n\
             protocol bgp near {{\n local {FAR_ROUTER} as {ROUTER_AS};\n neighbor {NEAR_ROUTER} as {ROUTER_AS};\n direct;\n \
             rr client;\n ipv4 {{ import none; export where source = RTS_BGP; next hop keep; }};\n \
             ipv6 {{ import none; export where source = RTS_BGP; next hop address {own}; next hop keep; }};\n}}\n"
        );
        let mut near = format!(
            "log stderr all;\nrouter id {ROUTER};\nprotocol device {{ }}\n\
             protocol direct {{ ipv4; ipv6; interface \"eth0\"; }}\n\
             protocol bgp far {{\n local {NEAR_ROUTER} as {ROUTER_AS};\n neighbor {FAR_ROUTER} as {ROUTER_AS};\n direct;\n \
             error wait time 1, 2;\n ipv4 {{ import all; export none; gateway recursive; }};\n \
             ipv6 {{ import all; export none; gateway recursive; next hop address {own}; }};\n}}\n"
        );
        for family in ["ipv4", "ipv6"] {
            near += &format!(
                "protocol kernel {{ {family} {{ export where source = RTS_BGP; import none; }}; }}\n"
            );
        }
        Ok(Self {
            _far: run(world, world.far_router()?, "far", &far)?,
            _near: run(world, world.router()?, "near", &near)?,
        })
    }
}

fn run(world: &World, host: &Namespace, name: &str, text: &str) -> Result<Process> {
    let file = |what: &str| world.directory().join(format!("{name}.{what}"));
    std::fs::write(file("conf"), text)?;
    let mut command = Command::new("/usr/sbin/bird");
    command.arg("-f").arg("-c").arg(file("conf"));
    command.arg("-s").arg(file("ctl")).arg("-P").arg(file("pid"));
    let process = Process::start(host, &mut command, &file("log"))?;
    until(&format!("the {name} router runs"), || Ok(file("ctl").exists()))?;
    Ok(process)
}
