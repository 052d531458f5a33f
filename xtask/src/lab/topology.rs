//! Who is in the lab, on which segments and under which addresses. Pure: numbers in, names out.
//!
//! All addresses are documentation addresses (RFC 5737, RFC 3849). The three segments are bridges of their own
//! in the run's fabric namespace, and nothing routes between them. Only the edge has IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// The name that the cluster serves.
pub(crate) const SITE: &str = "wwwfoobar.com";

/// A cluster address of each family, and the balancer that owns both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vip {
    pub(crate) name: &'static str,
    pub(crate) address: Ipv4Addr,
    pub(crate) ipv6: Ipv6Addr,
    pub(crate) owner: Host,
}

impl Vip {
    /// Both of its addresses.
    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.address.into(), self.ipv6.into()]
    }
}

/// The cluster's two VIPs.
pub(crate) const VIPS: [Vip; 2] = [
    Vip {
        name: "site-a",
        address: Ipv4Addr::new(192, 0, 2, 101),
        ipv6: edge_ipv6(101),
        owner: Host::Lb(1),
    },
    Vip {
        name: "site-b",
        address: Ipv4Addr::new(192, 0, 2, 102),
        ipv6: edge_ipv6(102),
        owner: Host::Lb(2),
    },
];

/// An IPv6 address on the edge. Its last group reads as the last octet of the IPv4 address does: ::101 for .101.
const fn edge_ipv6(last: u8) -> Ipv6Addr {
    let last = last as u16;
    let group = last / 100 * 0x100 + last / 10 % 10 * 0x10 + last % 10;
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, group)
}

/// A lab's name: several can run side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run(String);

impl FromStr for Run {
    type Err = anyhow::Error;

    /// Letters and digits only, so that no run's names are a prefix of another's.
    fn from_str(name: &str) -> Result<Self> {
        ensure!(
            (1..=16).contains(&name.len())
                && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()),
            "a lab's name has 1 to 16 lower-case letters and digits"
        );
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Run {
    /// What the names of all the run's namespaces begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("foobar-{self}-")
    }

    /// The namespace of a host.
    pub(crate) fn namespace(&self, host: Host) -> String {
        format!("{}{host}", self.prefix())
    }

    /// The namespace with the bridges.
    pub(crate) fn fabric(&self) -> String {
        format!("{}fabric", self.prefix())
    }

    /// Where the run keeps its files: configurations, certificates, secrets, logs, the database.
    pub(crate) fn directory(&self) -> PathBuf {
        PathBuf::from("/run/foobar-lab").join(&self.0)
    }
}

/// How many servers the tiers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    /// Web servers, 1 to 9.
    pub(crate) web: u8,
    /// App servers, 1 to 9.
    pub(crate) app: u8,
}

impl Shape {
    /// The shape, if the addresses suffice for it.
    pub(crate) fn new(web: u8, app: u8) -> Result<Self> {
        ensure!(
            (1..=9).contains(&web) && (1..=9).contains(&app),
            "a tier has 1 to 9 servers"
        );
        Ok(Self { web, app })
    }

    /// The web servers.
    pub(crate) fn webs(self) -> impl Iterator<Item = Host> {
        (1..=self.web).map(Host::Web)
    }

    /// The app servers.
    pub(crate) fn apps(self) -> impl Iterator<Item = Host> {
        (1..=self.app).map(Host::App)
    }

    /// All hosts, in the order in which they are started: each needs those before it.
    pub(crate) fn hosts(self) -> Vec<Host> {
        let mut hosts = vec![Host::Db];
        hosts.extend(self.apps());
        hosts.extend(self.webs());
        hosts.extend([Host::Lb(1), Host::Lb(2), Host::Dns, Host::Client]);
        hosts
    }
}

/// A lab host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    Client,
    Dns,
    Lb(u8),
    Web(u8),
    App(u8),
    Db,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Dns => f.write_str("dns1"),
            Self::Lb(n) => write!(f, "lb{n}"),
            Self::Web(n) => write!(f, "web{n}"),
            Self::App(n) => write!(f, "app{n}"),
            Self::Db => f.write_str("db1"),
        }
    }
}

impl FromStr for Host {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let numbered = |prefix| name.strip_prefix(prefix).and_then(|n: &str| n.parse().ok());
        Ok(match name {
            "client" => Self::Client,
            "dns1" => Self::Dns,
            "db1" => Self::Db,
            _ => match (numbered("lb"), numbered("web"), numbered("app")) {
                (Some(n), ..) => Self::Lb(n),
                (_, Some(n), _) => Self::Web(n),
                (.., Some(n)) => Self::App(n),
                _ => bail!(
                    "no lab host is called {name:?}; there are client, dns1, lb1, lb2, web1.., app1.., db1"
                ),
            },
        })
    }
}

impl Host {
    /// The host's interfaces, the one nearer to the user first.
    pub(crate) fn interfaces(self) -> Vec<Interface> {
        let on = |segment, last: u8| (segment, last);
        let links = match self {
            Self::Client => vec![on(Segment::Edge, 10)],
            Self::Dns => vec![on(Segment::Edge, 53)],
            Self::Lb(n) => vec![on(Segment::Edge, 10 + n)],
            Self::Web(n) => vec![on(Segment::Edge, 20 + n), on(Segment::App, 20 + n)],
            Self::App(n) => vec![on(Segment::App, 30 + n), on(Segment::Data, 30 + n)],
            Self::Db => vec![on(Segment::Data, 41)],
        };
        let named = links.into_iter().zip(["eth0", "eth1"]);
        named
            .map(|((segment, last), name)| Interface {
                name,
                port: format!("{self}-{segment}"),
                segment,
                address: segment.address(last),
                ipv6: (segment == Segment::Edge).then(|| edge_ipv6(last)),
            })
            .collect()
    }

    /// The host's address on a segment.
    pub(crate) fn address(self, segment: Segment) -> Option<Ipv4Addr> {
        self.interfaces()
            .into_iter()
            .find(|i| i.segment == segment)
            .map(|i| i.address)
    }
}

impl Host {
    /// The host's IPv6 address, if it is on the edge.
    pub(crate) fn ipv6(self) -> Option<Ipv6Addr> {
        self.interfaces().into_iter().find_map(|i| i.ipv6)
    }
}

/// A layer 2 segment with its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Client, name server, balancers, web servers.
    Edge,
    /// Web and app servers.
    App,
    /// App servers and the database.
    Data,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edge => "edge",
            Self::App => "app",
            Self::Data => "data",
        })
    }
}

impl Segment {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Edge, Self::App, Self::Data];

    fn address(self, last: u8) -> Ipv4Addr {
        match self {
            Self::Edge => Ipv4Addr::new(192, 0, 2, last),
            Self::App => Ipv4Addr::new(198, 51, 100, last),
            Self::Data => Ipv4Addr::new(203, 0, 113, last),
        }
    }

    /// The segment's network, all of them /24.
    pub(crate) fn network(self) -> String {
        format!("{}/24", self.address(0))
    }
}

/// One end of a veth pair; the other is a port of the segment's bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: &'static str,
    /// The bridge port in the fabric namespace; 15 characters at most.
    pub(crate) port: String,
    pub(crate) segment: Segment,
    pub(crate) address: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

impl Interface {
    /// Its addresses, the IPv4 one first.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let v6 = self.ipv6.map(IpAddr::from);
        [self.address.into()].into_iter().chain(v6).collect()
    }

    /// The MAC: locally administered, made of the address.
    pub(crate) fn mac(&self) -> String {
        let [a, b, c, d] = self.address.octets();
        format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hosts_start_after_those_they_need() {
        let hosts = Shape::new(2, 2).unwrap().hosts();
        let names: Vec<_> = hosts.iter().map(ToString::to_string).collect();
        assert_eq!(names.join(" "), "db1 app1 app2 web1 web2 lb1 lb2 dns1 client");
    }

    #[test]
    fn addresses_macs_and_ports_are_unique_in_the_largest_lab() {
        let interfaces: Vec<_> = Shape::new(9, 9)
            .unwrap()
            .hosts()
            .into_iter()
            .flat_map(Host::interfaces)
            .collect();
        let mut seen = HashSet::new();
        for interface in &interfaces {
            for address in interface.addresses() {
                assert!(seen.insert(address.to_string()), "{interface:?}");
                assert!(
                    VIPS.iter().all(|vip| !vip.addresses().contains(&address)),
                    "{interface:?}"
                );
            }
            assert!(seen.insert(interface.mac()), "{interface:?}");
            assert!(seen.insert(interface.port.clone()), "{interface:?}");
            assert!(interface.port.len() <= 15, "{interface:?}");
        }
    }

    #[test]
    fn ipv6_addresses_read_as_the_ipv4_ones_do_and_only_the_edge_has_them() {
        assert_eq!(VIPS[1].ipv6.to_string(), "2001:db8:0:1::102");
        assert_eq!(Host::Web(1).ipv6().unwrap().to_string(), "2001:db8:0:1::21");
        assert_eq!(Host::Lb(2).ipv6().unwrap().to_string(), "2001:db8:0:1::12");
        assert_eq!(Host::App(1).ipv6(), None);
    }

    #[test]
    fn only_web_servers_touch_edge_and_app_and_nobody_edge_and_data() {
        for host in Shape::new(9, 9).unwrap().hosts() {
            let on = |segment| host.address(segment).is_some();
            assert_eq!(
                on(Segment::Edge) && on(Segment::App),
                matches!(host, Host::Web(_)),
                "{host}"
            );
            assert!(!(on(Segment::Edge) && on(Segment::Data)), "{host}");
        }
    }

    #[test]
    fn host_names_are_read_back() {
        for host in Shape::new(3, 9).unwrap().hosts() {
            assert_eq!(host.to_string().parse::<Host>().unwrap(), host);
        }
        assert!("web".parse::<Host>().is_err());
        assert!("lb1x".parse::<Host>().is_err());
    }

    #[test]
    fn a_run_cannot_take_another_runs_names() {
        assert!("lab".parse::<Run>().is_ok());
        for bad in ["", "a-b", "Lab", "a/b", "seventeencharacte"] {
            assert!(bad.parse::<Run>().is_err(), "{bad}");
        }
    }
}
