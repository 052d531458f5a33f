//! BIRD's configuration. Pure: what is wanted in, the file's text out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use super::{Password, Wanted};
use crate::config::{Attributes, Bgp, Community, Neighbor};

/// What the names of the BGP protocols start with; then follows the neighbor's address.
pub(super) const NEIGHBOR_PREFIX: &str = "n_";

/// How a neighbor's protocol is called: unique, as addresses are.
pub(super) fn protocol_name(neighbor: IpAddr) -> String {
    format!(
        "{NEIGHBOR_PREFIX}{}",
        neighbor.to_string().replace(['.', ':'], "_")
    )
}

/// The whole file. It has the passwords in it.
pub(super) fn text(wanted: &Wanted) -> String {
    let bgp = &wanted.config;
    let mut text = format!(
        "# Written by foobar, again at each change.\n\
         log stderr all;\n\
         router id {};\n\
         timeformat protocol \"%s\";\n\
         protocol device {{ }}\n",
        bgp.router_id
    );
    // Writing to a string can't fail.
    let mut add = |part: String| _ = writeln!(text, "{part}");
    if bgp.neighbors.iter().any(|neighbor| neighbor.bfd) {
        add(bfd(bgp));
    }
    for family in Family::ALL {
        add(family.routes(&wanted.announced));
        for audience in Audience::ALL {
            if audience.is_there(bgp) {
                add(family.filter(&wanted.vips, bgp, audience));
            }
        }
    }
    for (place, neighbor) in bgp.neighbors.iter().enumerate() {
        let password = wanted.passwords.get(place).and_then(Option::as_ref);
        add(session(neighbor, bgp, password));
    }
    text
}

fn bfd(bgp: &Bgp) -> String {
    let rhythm = format!(
        "interval {} us; multiplier {};",
        bgp.bfd.interval.as_micros(),
        bgp.bfd.multiplier
    );
    format!("protocol bfd watch {{\n  interface \"*\" {{ {rhythm} }};\n  multihop {{ {rhythm} }};\n}}")
}

/// Who is told: a filter has only what they can make use of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// Neighbors of other AS.
    External,
    /// Those of the own one. A path with the own AS in it is a loop to them.
    Internal,
}

impl Audience {
    const ALL: [Self; 2] = [Self::External, Self::Internal];

    const fn of(neighbor: &Neighbor, bgp: &Bgp) -> Self {
        if bgp.is_internal(neighbor) {
            Self::Internal
        } else {
            Self::External
        }
    }

    fn is_there(self, bgp: &Bgp) -> bool {
        let mut neighbors = bgp.neighbors.iter();
        neighbors.any(|neighbor| Self::of(neighbor, bgp) == self)
    }

    /// The end of the filter's name.
    const fn suffix(self) -> &'static str {
        match self {
            Self::External => "",
            Self::Internal => "_internal",
        }
    }
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [Self; 2] = [Self::V4, Self::V6];

    const fn is_v4(self) -> bool {
        matches!(self, Self::V4)
    }

    /// The channel, and the end of names.
    const fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    const fn length(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn prefix(self, address: &IpAddr) -> Option<String> {
        let is_of_family = address.is_ipv4() == self.is_v4();
        is_of_family.then(|| format!("{address}/{}", self.length()))
    }

    /// What is announced. The routes never get to the kernel: where they lead does not matter.
    fn routes(self, announced: &BTreeSet<IpAddr>) -> String {
        let name = self.name();
        let mut text = format!("protocol static vips_{name} {{\n  {name};\n");
        for prefix in announced.iter().filter_map(|address| self.prefix(address)) {
            _ = writeln!(text, "  route {prefix} unreachable;");
        }
        text + "}"
    }

    /// What may be let out, and with which attributes.
    fn filter(self, vips: &BTreeMap<IpAddr, Attributes>, bgp: &Bgp, audience: Audience) -> String {
        let (name, suffix) = (self.name(), audience.suffix());
        let mut alike: BTreeMap<&Attributes, Vec<String>> = BTreeMap::new();
        for (address, attributes) in vips {
            if let Some(prefix) = self.prefix(address) {
                alike.entry(attributes).or_default().push(prefix);
            }
        }
        let mut text = format!("filter announce_{name}{suffix} {{\n");
        // A set can't be empty.
        for (attributes, prefixes) in alike {
            _ = writeln!(
                text,
                "  if proto = \"vips_{name}\" && net ~ [ {} ] then {{",
                prefixes.join(", ")
            );
            if let Some(med) = attributes.med {
                _ = writeln!(text, "    bgp_med = {med};");
            }
            if audience == Audience::External {
                for _ in 0..attributes.prepend {
                    _ = writeln!(text, "    bgp_path.prepend({});", bgp.local_as);
                }
            }
            for community in &attributes.communities {
                _ = writeln!(text, "    {};", added(*community));
            }
            text += "    accept;\n  }\n";
        }
        text + "  reject;\n}"
    }

    /// A neighbor's channel, where it has one.
    fn channel(self, neighbor: &Neighbor, audience: Audience) -> Option<String> {
        let name = self.name();
        let own = neighbor.address.is_ipv4() == self.is_v4();
        let next_hop = match neighbor.next_hop {
            _ if own => "self".to_owned(),
            Some(address) => format!("address {address}"),
            None => return None,
        };
        Some(format!(
            "  {name} {{ import none; export filter announce_{name}{}; next hop {next_hop}; }};\n",
            audience.suffix()
        ))
    }
}

fn added(community: Community) -> String {
    match community {
        Community::Standard(of, value) => format!("bgp_community.add(({of},{value}))"),
        Community::Large(of, first, second) => {
            format!("bgp_large_community.add(({of},{first},{second}))")
        }
    }
}

fn session(neighbor: &Neighbor, bgp: &Bgp, password: Option<&Password>) -> String {
    let address = neighbor.address;
    let mut text = format!("protocol bgp {} {{\n", protocol_name(address));
    let source = neighbor
        .source
        .map_or(String::new(), |source| format!("{source} "));
    _ = writeln!(text, "  local {source}as {};", bgp.local_as);
    _ = writeln!(
        text,
        "  neighbor {address} port {} as {};",
        neighbor.port, neighbor.remote_as
    );
    match neighbor.multihop {
        Some(hops) => _ = writeln!(text, "  multihop {hops};"),
        None => text += "  direct;\n",
    }
    if neighbor.gtsm {
        text += "  ttl security on;\n";
    }
    if let Some(Password(password)) = password {
        _ = writeln!(text, "  password \"{password}\";");
    }
    _ = writeln!(text, "  hold time {};", bgp.hold_time.as_secs());
    // A balancer that is back, or whose router is, is found within a second or two.
    text += "  connect delay time 1;\n  connect retry time 2;\n  error wait time 1, 8;\n";
    // Nobody goes on sending packets here once the session has ended: with BFD, a dead BIRD looks like a dead host.
    text += "  graceful restart off;\n  long lived graceful restart off;\n";
    if neighbor.bfd {
        text += "  bfd on;\n";
    }
    text.extend(
        Family::ALL
            .into_iter()
            .filter_map(|family| family.channel(neighbor, Audience::of(neighbor, bgp))),
    );
    text + "}"
}

#[cfg(test)]
mod tests;
