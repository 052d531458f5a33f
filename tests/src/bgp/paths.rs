//! Which balancer a router that spreads flows sends each of them to, by the packets themselves, and having it choose anew.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::world::{Lb, World};

/// To which balancer the router sends each TCP flow to a port, by the last packet that it sent within about a second.
/// (`ip route get` hashes IPv6 flows otherwise than the kernel does their packets.)
pub fn observed(world: &World, port: u16) -> Result<BTreeMap<SocketAddr, Lb>> {
    let mut balancers = BTreeMap::new();
    for lb in Lb::BOTH {
        balancers.insert(world.balancer(lb)?.mac_of("eth0")?, lb);
    }
    let packets = format!("tcp dst port {port}");
    let options = "-n -l -i eth0 -a duration:1 -T fields -E separator=/s -e eth.dst -e ip.src -e ipv6.src -e tcp.srcport -f";
    let words: Vec<&str> = options.split(' ').chain([packets.as_str()]).collect();
    let seen = world.router()?.command("tshark", &words)?;
    let mut flows = BTreeMap::new();
    for line in seen.lines() {
        // One of the two source addresses is empty.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mac, source, port] = words.as_slice() else {
            anyhow::bail!("tshark says {line:?}");
        };
        // What balancers send to backends comes by here until the switch has learned where those are.
        if let Some(lb) = balancers.get(*mac) {
            let source: IpAddr = source.parse().with_context(|| line.to_owned())?;
            flows.insert(SocketAddr::new(source, port.parse()?), *lb);
        }
    }
    Ok(flows)
}

/// How many flows of the first map go to another balancer by the second.
pub fn moved(before: &BTreeMap<SocketAddr, Lb>, after: &BTreeMap<SocketAddr, Lb>) -> usize {
    let differs = |(flow, lb): &(&SocketAddr, &Lb)| after.get(flow).is_some_and(|now| now != *lb);
    before.iter().filter(differs).count()
}

/// The seed of the kernel's hash over paths, which is 0 where nobody has set it: Linux 6.11.
const SEED: &str = "net/ipv4/fib_multipath_hash_seed";

/// Has the router hash all flows anew, both families; whether its kernel can.
pub fn rehash(world: &World, seed: u32) -> Result<bool> {
    // Which settings there are is the kernel's, not the namespace's.
    if !Path::new("/proc/sys").join(SEED).exists() {
        return Ok(false);
    }
    world.router()?.sysctl(SEED, &seed.to_string())?;
    Ok(true)
}

/// What a router hashes to choose a balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashBy {
    /// Addresses alone.
    Addresses,
    /// Addresses, protocol and ports.
    Ports,
}

impl HashBy {
    /// As `fib_multipath_hash_fields` names them (Linux 5.14).
    const fn fields(self) -> &'static str {
        match self {
            Self::Addresses => "3",
            Self::Ports => "55",
        }
    }
}

/// Has the router hash something else. It looks at the packets for that, as one does to which they come by a wire: the
/// policy 1 would take the hash that the sender's socket has given them, which is no secret between namespaces, is
/// another one for each socket, and changes with a retransmission.
pub fn hash_by(world: &World, hash_by: HashBy) -> Result<()> {
    const OF_FIELDS: &str = "3";
    for family in ["ipv4", "ipv6"] {
        let setting = |name: &str| format!("net/{family}/fib_multipath_hash_{name}");
        world.router()?.sysctl(&setting("fields"), hash_by.fields())?;
        world.router()?.sysctl(&setting("policy"), OF_FIELDS)?;
    }
    Ok(())
}
