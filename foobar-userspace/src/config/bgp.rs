//! `[bgp]`: how this balancer tells routers which VIPs are here. Which VIPs are announced, they say.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::attributes::{self, AttributeGroup, Attributes};
use super::report::Problems;
use super::service::Draft as Vip;
use super::walk::Section;
use super::{Ownership, parse};

const BGP_KEYS: [&str; 11] = [
    "router_id",
    "as",
    "med",
    "prepend",
    "communities",
    "group",
    "hold_time",
    "bfd",
    "track",
    "bird",
    "neighbor",
];
const BFD_KEYS: [&str; 2] = ["interval", "multiplier"];
const TRACK_KEYS: [&str; 4] = ["no_backend", "detached", "canary", "differing"];
const NEIGHBOR_KEYS: [&str; 9] = [
    "address",
    "as",
    "source",
    "next_hop",
    "password_file",
    "multihop",
    "gtsm",
    "bfd",
    "port",
];

/// RFC 4271, section 4.2: three seconds at least, and 16 bits.
const HOLD_TIMES: RangeInclusive<Duration> = Duration::from_secs(3)..=Duration::from_secs(65_535);
const HOLD_TIME_DEFAULT: Duration = Duration::from_secs(9);
const BFD_INTERVALS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(10);
const BFD_DEFAULT: Bfd = Bfd {
    interval: Duration::from_millis(300),
    multiplier: 3,
};
const BGP_PORT: u16 = 179;

/// How VIPs are announced, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bgp {
    /// The BGP identifier of this balancer, unique among its neighbors' peers.
    pub router_id: Ipv4Addr,
    /// This balancer's autonomous system.
    pub local_as: u32,
    /// What the routes of VIPs in no group have.
    pub attributes: Attributes,
    /// Groups of VIPs whose routes have something else; names are unique.
    pub groups: Vec<AttributeGroup>,
    /// A session ends when nothing was heard for so long; whole seconds.
    pub hold_time: Duration,
    /// How BFD watches over sessions.
    pub bfd: Bfd,
    /// What withdraws a VIP.
    pub track: Withdrawing,
    /// The program, where it is not among those that a shell finds.
    pub bird: Option<PathBuf>,
    /// The routers; addresses are unique, and there is at least one.
    pub neighbors: Vec<Neighbor>,
}

impl Bgp {
    /// What routes of VIPs in a group, or in none, have.
    #[must_use]
    pub fn attributes_of(&self, group: Option<&str>) -> &Attributes {
        let mut groups = self.groups.iter();
        let found = group.and_then(|name| groups.find(|group| group.name == name));
        found.map_or(&self.attributes, |group| &group.attributes)
    }

    /// Whether a neighbor is of this balancer's own AS (iBGP).
    #[must_use]
    pub const fn is_internal(&self, neighbor: &Neighbor) -> bool {
        neighbor.remote_as == self.local_as
    }
}

/// The rhythm of BFD (RFC 5880).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bfd {
    /// Between two control packets, in either direction.
    pub interval: Duration,
    /// So many that are missed end the session.
    pub multiplier: u8,
}

/// What becomes of an announcement for which reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawing {
    /// A service of the address has no healthy backend.
    pub no_backend: Announcement,
    /// No program is attached to the interface.
    pub detached: Announcement,
    /// Connections through the own data plane fail to a service of the address that has healthy backends.
    pub canary: Announcement,
    /// This balancer has steered by other tables than a peer for ten seconds; kept by default, as both see it.
    pub differing: Announcement,
}

/// What a reason does to a VIP's announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// It is withdrawn until the reason is gone.
    Withdrawn,
    /// It stays.
    Kept,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// Its address.
    pub address: IpAddr,
    /// Its autonomous system.
    pub remote_as: u32,
    /// The address that this balancer speaks from.
    pub source: Option<IpAddr>,
    /// This balancer's address of the other family: VIPs of that family are announced with it as next hop.
    pub next_hop: Option<IpAddr>,
    /// The file with the password of TCP MD5 signatures (RFC 2385).
    pub password_file: Option<PathBuf>,
    /// Routers on the way to it, plus one; `None`: it is on-link.
    pub multihop: Option<u8>,
    /// Whether packets that came from farther away are refused (RFC 5082).
    pub gtsm: bool,
    /// Whether BFD watches over the session.
    pub bfd: bool,
    /// Its port.
    pub port: u16,
}

impl Neighbor {
    /// Whether it is told of VIPs of a family.
    #[must_use]
    pub const fn carries(&self, is_ipv4: bool) -> bool {
        self.next_hop.is_some() || self.address.is_ipv4() == is_ipv4
    }
}

/// The table as far as it could be read.
pub(super) struct Draft<'t> {
    router_id: Option<Ipv4Addr>,
    local_as: Option<u32>,
    attributes: Attributes,
    groups: Vec<attributes::Draft<'t>>,
    hold_time: Duration,
    bfd: Bfd,
    track: Withdrawing,
    bird: Option<PathBuf>,
    neighbors: Vec<Option<Neighbor>>,
}

impl Draft<'_> {
    /// What it says, where everything that it needs could be read.
    pub(super) fn finish(self) -> Option<Bgp> {
        Some(Bgp {
            router_id: self.router_id?,
            local_as: self.local_as?,
            attributes: self.attributes,
            groups: self
                .groups
                .into_iter()
                .map(attributes::Draft::finish)
                .collect::<Option<_>>()?,
            hold_time: self.hold_time,
            bfd: self.bfd,
            track: self.track,
            bird: self.bird,
            neighbors: self.neighbors.into_iter().collect::<Option<_>>()?,
        })
    }
}

/// Reads the table, if there is one.
pub(super) fn read<'t>(root: &Section<'t, '_>, problems: &mut Problems<'_>) -> Option<Draft<'t>> {
    let section = root.table("bgp", &BGP_KEYS, problems)?;
    section.require("router_id", "\"192.0.2.11\"", problems);
    section.require("as", "64512", problems);
    let sections = section.tables("neighbor", "[[bgp.neighbor]]", &NEIGHBOR_KEYS, problems);
    if sections.is_empty() && section.key("neighbor").is_none() {
        problems.add(
            section.span.clone(),
            "[bgp] has no neighbor",
            "add [[bgp.neighbor]] with address and as of the router",
        );
    }
    let mut seen = HashMap::new();
    let neighbors: Vec<Option<Neighbor>> = sections
        .iter()
        .map(|section| neighbor(section, &mut seen, problems))
        .collect();
    let local_as = autonomous_system(&section, problems);
    let of_others = |neighbor: &Option<Neighbor>| {
        // One that could not be read has been noted.
        let neighbor = neighbor.as_ref();
        neighbor.is_none_or(|neighbor| Some(neighbor.remote_as) != local_as)
    };
    let is_prepending_seen = neighbors.is_empty() || neighbors.iter().any(of_others);
    let none = Attributes::default();
    let attributes = attributes::attributes(&section, &none, is_prepending_seen, problems);
    Some(Draft {
        router_id: router_id(&section, problems),
        local_as,
        groups: attributes::groups(&section, &attributes, is_prepending_seen, problems),
        attributes,
        hold_time: hold_time(&section, problems),
        bfd: bfd(&section, problems),
        track: track(&section, problems),
        bird: parse::path(&section, "bird", problems),
        neighbors,
    })
}

fn router_id(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Ipv4Addr> {
    let text = section.string("router_id", problems)?;
    let id = text.get_ref().parse::<Ipv4Addr>().ok();
    let id = id.filter(|id| !id.is_unspecified());
    if id.is_none() {
        problems.add(
            text.span(),
            format!("{:?} cannot be a router id", text.get_ref()),
            "written as an IPv4 address that nobody else uses: this balancer's own",
        );
    }
    id
}

fn autonomous_system(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<u32> {
    let number = section.integer::<u32>("as", 1..=u32::MAX - 1, problems)?;
    Some(number.into_inner())
}

fn hold_time(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Duration {
    let Some(time) = section.duration("hold_time", HOLD_TIMES, problems) else {
        return HOLD_TIME_DEFAULT;
    };
    if time.get_ref().subsec_nanos() != 0 {
        problems.add(time.span(), "hold_time is in whole seconds", "such as \"9s\"");
    }
    time.into_inner()
}

fn bfd(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Bfd {
    let Some(section) = section.table("bfd", &BFD_KEYS, problems) else {
        return BFD_DEFAULT;
    };
    let interval = section.duration("interval", BFD_INTERVALS, problems);
    let multiplier = section.integer::<u8>("multiplier", 2..=u8::MAX, problems);
    Bfd {
        interval: interval.map_or(BFD_DEFAULT.interval, Spanned::into_inner),
        multiplier: multiplier.map_or(BFD_DEFAULT.multiplier, Spanned::into_inner),
    }
}

fn track(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Withdrawing {
    let words = [
        ("withdraw", Announcement::Withdrawn),
        ("announce", Announcement::Kept),
    ];
    let section = section.table("track", &TRACK_KEYS, problems);
    let mut of = |name, default| {
        let word = section
            .as_ref()
            .and_then(|section| section.word(name, &words, problems));
        word.unwrap_or(default)
    };
    Withdrawing {
        no_backend: of("no_backend", Announcement::Withdrawn),
        detached: of("detached", Announcement::Withdrawn),
        canary: of("canary", Announcement::Withdrawn),
        differing: of("differing", Announcement::Kept),
    }
}

/// Reads one; `seen` has the addresses of those before it.
fn neighbor(
    section: &Section<'_, '_>,
    seen: &mut HashMap<IpAddr, Range<usize>>,
    problems: &mut Problems<'_>,
) -> Option<Neighbor> {
    section.require("address", "\"192.0.2.1\"", problems);
    section.require("as", "64500", problems);
    let address = host(section, "address", problems);
    let source = host(section, "source", problems);
    let next_hop = host(section, "next_hop", problems);
    if let Some(address) = &address {
        if let Some(first) = seen.insert(*address.get_ref(), address.span()) {
            let line = problems.line(&first);
            let message = format!("the neighbor {} is there twice", address.get_ref());
            problems.add(address.span(), message, format!("first on line {line}"));
        }
        let same_family = |other: &Spanned<IpAddr>| other.get_ref().is_ipv4() == address.get_ref().is_ipv4();
        if let Some(source) = &source
            && !same_family(source)
        {
            problems.add(
                source.span(),
                format!("source is not of the family of {}", address.get_ref()),
                "it is this balancer's address towards the neighbor",
            );
        }
        if let Some(next_hop) = &next_hop
            && same_family(next_hop)
        {
            problems.add(
                next_hop.span(),
                format!("next_hop is of the family of {}", address.get_ref()),
                "it is for VIPs of the other family; those of the neighbor's own family need none",
            );
        }
    }
    let flag = |name, default, problems: &mut Problems<'_>| {
        section
            .boolean(name, problems)
            .map_or(default, Spanned::into_inner)
    };
    let with_bfd = flag("bfd", true, problems);
    let multihop = section.integer::<u8>("multihop", 2..=u8::MAX, problems);
    if let Some(multihop) = &multihop
        && with_bfd
        && section.key("source").is_none()
    {
        problems.add(
            multihop.span(),
            "BFD over several hops needs `source`",
            "add this balancer's address towards the neighbor, or bfd = false",
        );
    }
    let remote_as = autonomous_system(section, problems);
    let port = section.integer::<u16>("port", 1..=u16::MAX, problems);
    Some(Neighbor {
        password_file: parse::path(section, "password_file", problems),
        gtsm: flag("gtsm", false, problems),
        address: address?.into_inner(),
        remote_as: remote_as?,
        source: source.map(Spanned::into_inner),
        next_hop: next_hop.map(Spanned::into_inner),
        multihop: multihop.map(Spanned::into_inner),
        bfd: with_bfd,
        port: port.map_or(BGP_PORT, Spanned::into_inner),
    })
}

/// A host's address that is the same everywhere on the balancer.
fn host(section: &Section<'_, '_>, name: &str, problems: &mut Problems<'_>) -> Option<Spanned<IpAddr>> {
    let text = section.string(name, problems)?;
    let Ok(address) = text.get_ref().parse::<IpAddr>() else {
        problems.add(
            text.span(),
            format!("{:?} is not an IP address", text.get_ref()),
            "such as \"192.0.2.1\" or \"2001:db8::1\"",
        );
        return None;
    };
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_link_local {
        problems.add(
            text.span(),
            format!("{address} cannot be {name}"),
            "the address of one host, not of a group, of a link or of the host itself",
        );
        return None;
    }
    Some(Spanned::new(text.span(), address))
}

/// Whether a VIP is announced, and in which group, where its `bgp` says so.
pub(super) fn of_vip(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Spanned<Ownership>> {
    if section.is_string("bgp") {
        let group = section.string("bgp", problems)?;
        let name = (*group.get_ref()).to_owned();
        return Some(Spanned::new(group.span(), Ownership::Bgp(Some(name))));
    }
    let flag = section.boolean("bgp", problems).filter(|flag| *flag.get_ref())?;
    Some(Spanned::new(flag.span(), Ownership::Bgp(None)))
}

/// Notes VIPs that are to be announced where nobody is told of them, or in groups that there are not.
pub(super) fn members(vips: &[Vip<'_>], bgp: Option<&Draft<'_>>, problems: &mut Problems<'_>) {
    for vip in vips {
        let Ownership::Bgp(group) = vip.ownership.get_ref() else {
            continue;
        };
        let Some(bgp) = bgp else {
            problems.add(
                vip.ownership.span(),
                "there is no [bgp]",
                "add [bgp] with router_id and as, and [[bgp.neighbor]]",
            );
            continue;
        };
        let names: Vec<&str> = bgp
            .groups
            .iter()
            .filter_map(|group| group.name.as_ref().map(|name| *name.get_ref()))
            .collect();
        if let Some(group) = group
            && !names.contains(&group.as_str())
        {
            let hint = if names.is_empty() {
                format!("add [[bgp.group]] with name = {group:?}, or say bgp = true")
            } else {
                format!("groups here: {}", names.join(", "))
            };
            let message = format!("there is no [[bgp.group]] named {group:?}");
            problems.add(vip.ownership.span(), message, hint);
        }
        let Some(address) = vip.address.as_ref().map(|address| *address.get_ref()) else {
            continue;
        };
        let is_v4 = address.is_ipv4();
        let mut neighbors = bgp.neighbors.iter();
        let carried = neighbors.any(|neighbor| {
            // One that could not be read has been noted.
            neighbor.as_ref().is_none_or(|neighbor| neighbor.carries(is_v4))
        });
        if !carried && !bgp.neighbors.is_empty() {
            problems.add(
                vip.ownership.span(),
                format!("no neighbor is told of {address}"),
                "a neighbor carries its own family, and with `next_hop` the other one",
            );
        }
    }
}
