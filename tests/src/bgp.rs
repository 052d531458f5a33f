//! BGP in a world: configurations that announce VIPs, and the routes that a router has to them.

pub mod bird;
pub mod frr;
pub mod paths;
pub mod reflector;
pub mod resilient;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use serde_json::Value;

use crate::lb::{Balancer, Config};
use crate::netns::Namespace;
use crate::steady::PORT;
use crate::vrrp::until;
use crate::world::{Backend, LB, LB2, Lb, ROUTER, VIP, VIP6, World, backend_address, ipv6_of};

/// The balancers' autonomous system.
pub const BALANCERS_AS: u32 = 64_512;
/// The router's.
pub const ROUTER_AS: u32 = 64_500;

/// What differs between balancers, and their neighbor.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Further lines of `[bgp]`.
    pub lines: &'static str,
    /// Further lines of the neighbor.
    pub neighbor: &'static str,
    /// The neighbor's address.
    pub router: Ipv4Addr,
    /// Its autonomous system.
    pub router_as: u32,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            lines: "",
            neighbor: "",
            router: ROUTER,
            router_as: ROUTER_AS,
        }
    }
}

/// The address of a balancer's host.
pub const fn address_of(lb: Lb) -> Ipv4Addr {
    match lb {
        Lb::First => LB,
        Lb::Second => LB2,
    }
}

/// `[bgp]` of a balancer: BFD every 50 ms, three times; VIPs of both families in one session.
pub fn table(lb: Lb, place: Place) -> String {
    let own = address_of(lb);
    format!(
        "[bgp]\nrouter_id = \"{own}\"\nas = {BALANCERS_AS}\nbfd = {{ interval = \"50ms\", multiplier = 3 }}\n{}\n\
         [[bgp.neighbor]]\naddress = \"{}\"\nas = {}\nnext_hop = \"{}\"\n{}\n",
        place.lines,
        place.router,
        place.router_as,
        ipv6_of(own),
        place.neighbor
    )
}

/// A balancer's configuration: an IPv4 VIP and an IPv6 one, both announced.
pub fn config(lb: Lb, place: Place, backends: Backend) -> Config {
    let mut config = Config {
        announced: true,
        vip_lines: vec!["slots = 256"],
        check_lines: vec!["interval = \"300ms\"", "doubt_interval = \"100ms\""],
        ..Config::new(PORT, 1..=backends, 7)
    };
    config.further = table(lb, place);
    config.further += &format!(
        "[[vip]]\nname = \"six\"\naddress = \"{VIP6}\"\nport = {PORT}\nslots = 256\nbgp = true\n\
         [vip.check]\nkind = \"tcp\"\ninterval = \"300ms\"\ndoubt_interval = \"100ms\"\n"
    );
    for backend in 1..=backends {
        let address = ipv6_of(backend_address(backend));
        config.further += &format!("[[vip.backend]]\naddress = \"{address}\"\n");
    }
    config
}

/// Where a router sends packets for an address, by what its kernel says.
pub fn next_hops(router: &Namespace, to: IpAddr) -> Result<BTreeSet<IpAddr>> {
    next_hops_in(router, "main", to)
}

/// As [`next_hops`], in one of the kernel's tables, which something has to be in.
fn next_hops_in(router: &Namespace, table: &str, to: IpAddr) -> Result<BTreeSet<IpAddr>> {
    let family = if to.is_ipv4() { "-4" } else { "-6" };
    let shown = router.ip(&[family, "route", "show", "table", table, &to.to_string()])?;
    let words: Vec<&str> = shown.split_whitespace().collect();
    let hops = words
        .windows(2)
        .filter(|pair| pair[0] == "via")
        .filter_map(|pair| pair[1].parse().ok());
    Ok(hops.collect())
}

/// Waits until a router sends packets for both VIPs to these balancers, and to no other.
pub fn wait_routed(world: &World, to: &[Lb]) -> Result<()> {
    wait_routed_each(world, to, to)
}

/// As [`wait_routed`], with balancers for the IPv4 VIP and others for the IPv6 one.
pub fn wait_routed_each(world: &World, to: &[Lb], to6: &[Lb]) -> Result<()> {
    let router = world.router()?;
    let wanted: BTreeSet<IpAddr> = to.iter().map(|&lb| address_of(lb).into()).collect();
    let wanted6: BTreeSet<IpAddr> = to6.iter().map(|&lb| ipv6_of(address_of(lb)).into()).collect();
    let routed = until(&format!("the router sends to {to:?} and {to6:?}"), || {
        Ok(next_hops(router, VIP.into())? == wanted && next_hops(router, VIP6.into())? == wanted6)
    });
    match routed {
        Ok(_) => Ok(()),
        Err(error) => {
            let (four, six) = (next_hops(router, VIP.into())?, next_hops(router, VIP6.into())?);
            anyhow::bail!("{error:#}; it sends to {four:?} and {six:?}")
        }
    }
}

/// The session in a status.
pub fn session(status: &Value) -> &Value {
    &status["bgp"]["sessions"][0]
}

/// Waits until a balancer's session is established and watched over, and both VIPs are announced in it.
pub fn wait_announced(balancer: &mut Balancer<'_>) -> Result<Value> {
    balancer.wait("both VIPs are announced", |status| {
        let session = session(status);
        session["state"] == "established"
            && session["bfd"] != "down"
            && session["exported"] == serde_json::json!({ "ipv4": 1, "ipv6": 1 })
    })
}

/// Waits until a balancer announces nothing, for this reason.
pub fn wait_withdrawn(balancer: &mut Balancer<'_>, reason: &str) -> Result<Value> {
    balancer.wait(&format!("nothing is announced: {reason}"), |status| {
        let routes = status["bgp"]["routes"].as_array().map(Vec::as_slice);
        let is_withdrawn = |route: &Value| {
            let reasons = route["reasons"].as_array().map(Vec::as_slice).unwrap_or_default();
            route["announced"] == false && reasons.iter().any(|has| has == reason)
        };
        routes.is_some_and(|routes| !routes.is_empty() && routes.iter().all(is_withdrawn))
    })
}
