//! What a backend's kernel has to be like, and the steps from what it is like now. Pure: what is there comes in as
//! a value, steps come out.
//!
//! - The VIPs are on `lo`, so that the kernel takes packets for them.
//! - The kernel is silent about them on the segment (arp_ignore, arp_announce): nobody else may learn that it has
//!   them. IPv6 needs nothing for that; an address of `lo` is not answered for elsewhere.
//! - What comes out of a tunnel came in by another interface than its source's route may name: the reverse path
//!   filter must not be strict.
//! - Clients announce the MSS that they are told, so that their packets fit into the tunnel: `advmss` of every
//!   route by which answers leave.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use foobar_common::gue;

use crate::config::Forward;
use crate::config::agent::AgentConfig;
use crate::network::RouteOut;

/// Length of the outer headers by family.
const OUTER_V4: u32 = 20;
const OUTER_V6: u32 = 40;
/// IP and TCP headers without options, which the MSS does not cover (RFC 6691).
const HEADERS_V4: u32 = 40;
const HEADERS_V6: u32 = 60;

/// What there is.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The addresses of `lo`.
    pub(super) loopback: BTreeSet<IpAddr>,
    /// Settings, by their path below /proc/sys/net.
    pub(super) settings: BTreeMap<String, String>,
    /// The ways out.
    pub(super) routes: Vec<RouteOut>,
}

/// One thing that is to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A VIP is not on `lo`.
    Address(IpAddr),
    /// A setting is not as it should be.
    Setting {
        /// Its path below /proc/sys/net.
        path: String,
        /// What it is.
        from: String,
        /// What it should be.
        to: &'static str,
        /// What is the matter then.
        reason: &'static str,
    },
    /// A route announces another MSS.
    AdvMss {
        /// The route.
        route: RouteOut,
        /// What it should announce.
        to: u32,
    },
}

/// The MSS that fits into the tunnel, for IPv4 and IPv6 packets; `None` without a tunnel.
pub(super) fn mss(config: &AgentConfig) -> Option<(u32, u32)> {
    let over_v6 = config.trusted.iter().any(|prefix| prefix.addr().is_ipv6());
    let (outer, candidate) = if over_v6 { (OUTER_V6, 16) } else { (OUTER_V4, 4) };
    let gue = 8 + (gue::LENGTH + gue::PRIVATE_LENGTH + gue::MAX_LISTED * candidate) as u32;
    let overhead = match config.forward {
        Forward::L2 => return None,
        Forward::Ipip => outer,
        Forward::Gue => outer + gue,
    };
    let packet = u32::from(config.mtu) - overhead;
    Some((packet - HEADERS_V4, packet - HEADERS_V6))
}

/// The settings that are looked at.
pub(super) fn settings_of(interface: &str) -> Vec<String> {
    ["arp_ignore", "arp_announce", "rp_filter"]
        .into_iter()
        .flat_map(|name| ["all", interface].map(|scope| format!("ipv4/conf/{scope}/{name}")))
        .collect()
}

/// The steps to what the configuration asks for; none where all is well.
pub(super) fn plan(config: &AgentConfig, seen: &Seen) -> Vec<Step> {
    // Silence first: not for a moment does the segment hear of a VIP here.
    let mut steps = if config.vips.iter().any(IpAddr::is_ipv4) {
        silence(config, seen)
    } else {
        Vec::new()
    };
    let missing = config.vips.iter().filter(|vip| !seen.loopback.contains(vip));
    steps.extend(missing.map(|vip| Step::Address(*vip)));
    let Some((v4, v6)) = mss(config) else {
        return steps;
    };
    for route in &seen.routes {
        let to = if route.destination.addr().is_ipv4() {
            v4
        } else {
            v6
        };
        let served = config
            .vips
            .iter()
            .any(|vip| vip.is_ipv4() == route.destination.addr().is_ipv4());
        // Less is right, too: somebody knows of a narrower place.
        if served && route.advmss.is_none_or(|advmss| advmss > to) {
            steps.push(Step::AdvMss {
                route: route.clone(),
                to,
            });
        }
    }
    steps
}

fn silence(config: &AgentConfig, seen: &Seen) -> Vec<Step> {
    let mut steps = Vec::new();
    // The kernel takes the greater of the two, but an administrator may set either anew: both are set.
    for scope in ["all", config.interface.as_str()] {
        for (name, right, to, reason) in [
            (
                "arp_ignore",
                &["1", "2"][..],
                "1",
                "the backend answers ARP for the VIP, and takes it away from the balancer",
            ),
            (
                "arp_announce",
                &["2"][..],
                "2",
                "the backend asks in the VIP's name, and its neighbours learn that it has it",
            ),
        ] {
            let path = format!("ipv4/conf/{scope}/{name}");
            match seen.settings.get(&path) {
                Some(from) if !right.contains(&from.as_str()) => steps.push(Step::Setting {
                    path,
                    from: from.clone(),
                    to,
                    reason,
                }),
                _ => (),
            }
        }
    }
    let filter = |scope: &str| {
        let path = format!("ipv4/conf/{scope}/rp_filter");
        seen.settings
            .get(&path)
            .map_or(0, |text| text.parse().unwrap_or(0))
    };
    let strict = filter("all").max(filter(&config.interface)) == 1;
    if strict && config.forward != Forward::L2 {
        let path = format!("ipv4/conf/{}/rp_filter", config.interface);
        steps.push(Step::Setting {
            from: filter(&config.interface).to_string(),
            path,
            to: "2",
            reason: "the kernel drops packets whose source's route leads elsewhere than through this interface",
        });
    }
    steps
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(vip) => write!(
                f,
                "the VIP {vip} is not on lo: the kernel takes no packets for it"
            ),
            Self::Setting {
                path, from, reason, ..
            } => write!(f, "net.{} is {from}: {reason}", path.replace('/', ".")),
            Self::AdvMss { route, to } => {
                let announced = match route.advmss {
                    Some(advmss) => format!("announces an MSS of {advmss}"),
                    None => "announces the interface's MSS".to_owned(),
                };
                write!(
                    f,
                    "the route to {} {announced}: clients' packets of more than {to} bytes do not fit into the tunnel",
                    route.destination
                )
            }
        }
    }
}

impl Step {
    /// The command that does it by hand.
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Address(vip) if vip.is_ipv4() => format!("ip address add {vip}/32 dev lo"),
            Self::Address(vip) => format!("ip address add {vip}/128 dev lo nodad"),
            Self::Setting { path, to, .. } => format!("sysctl net.{}={to}", path.replace('/', ".")),
            Self::AdvMss { route, to } => {
                let family = if route.destination.addr().is_ipv4() {
                    "-4"
                } else {
                    "-6"
                };
                format!(
                    "ip {family} route change {} ... advmss {to} (all else as `ip {family} route` shows it)",
                    route.destination
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(forward: Forward, trusted: &str) -> AgentConfig {
        AgentConfig {
            interface: "eth0".to_owned(),
            vips: ["192.0.2.101".parse().unwrap(), "2001:db8::101".parse().unwrap()].into(),
            trusted: vec![trusted.parse().unwrap()],
            peers: BTreeSet::new(),
            addresses: BTreeSet::new(),
            forward,
            gue_port: 6080,
            mtu: 1_500,
            pin_dir: "/sys/fs/bpf/foobar-agent".into(),
            admin_socket: "/run/foobar/agent.sock".into(),
            state_file: "/run/foobar/agent-prepared.json".into(),
        }
    }

    fn seen(settings: &[(&str, &str)]) -> Seen {
        Seen {
            settings: settings
                .iter()
                .map(|(path, value)| (format!("ipv4/conf/{path}"), (*value).to_owned()))
                .collect(),
            ..Seen::default()
        }
    }

    #[test]
    fn the_mss_leaves_room_for_the_outer_headers() {
        let of = |forward, trusted| mss(&config(forward, trusted));
        assert_eq!(of(Forward::L2, "192.0.2.0/24"), None);
        assert_eq!(of(Forward::Ipip, "192.0.2.0/24"), Some((1_440, 1_420)));
        assert_eq!(of(Forward::Ipip, "2001:db8::/64"), Some((1_420, 1_400)));
        assert_eq!(of(Forward::Gue, "192.0.2.0/24"), Some((1_416, 1_396)));
        assert_eq!(of(Forward::Gue, "2001:db8::/64"), Some((1_372, 1_352)));
    }

    #[test]
    fn what_is_right_needs_no_step() {
        let mut all = seen(&[
            ("all/arp_ignore", "1"),
            ("eth0/arp_ignore", "2"),
            ("all/arp_announce", "2"),
            ("eth0/arp_announce", "2"),
            ("all/rp_filter", "1"),
            ("eth0/rp_filter", "2"),
        ]);
        let config = config(Forward::Gue, "192.0.2.0/24");
        all.loopback = config.vips.clone();
        assert_eq!(plan(&config, &all), []);
    }

    #[test]
    fn everything_that_is_wrong_is_a_step_with_a_remedy() {
        let wrong = seen(&[
            ("all/arp_ignore", "0"),
            ("eth0/arp_ignore", "8"),
            ("all/arp_announce", "0"),
            ("eth0/arp_announce", "1"),
            ("all/rp_filter", "1"),
            ("eth0/rp_filter", "0"),
        ]);
        let remedies: Vec<String> = plan(&config(Forward::Gue, "192.0.2.0/24"), &wrong)
            .iter()
            .map(Step::remedy)
            .collect();
        assert_eq!(
            remedies,
            [
                "sysctl net.ipv4.conf.all.arp_ignore=1",
                "sysctl net.ipv4.conf.all.arp_announce=2",
                "sysctl net.ipv4.conf.eth0.arp_ignore=1",
                "sysctl net.ipv4.conf.eth0.arp_announce=2",
                "sysctl net.ipv4.conf.eth0.rp_filter=2",
                "ip address add 192.0.2.101/32 dev lo",
                "ip address add 2001:db8::101/128 dev lo nodad",
            ]
        );
    }
}
