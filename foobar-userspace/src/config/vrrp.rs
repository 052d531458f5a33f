//! `[[vrrp]]`: groups of VIPs that one balancer of several owns at a time. Which VIPs are in a group, they say.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::report::Problems;
use super::service::{Draft as Vip, is_name};
use super::walk::Section;
use super::{Ownership, format_duration};
use crate::cluster::vrrp::{Checksum, Interval, MAX_ADDRESSES};

const VRRP_KEYS: [&str; 9] = [
    "name",
    "router_id",
    "priority",
    "interval",
    "preempt",
    "preempt_delay",
    "checksum",
    "link_local",
    "track",
];
const TRACK_KEYS: [&str; 4] = ["no_backend", "detached", "canary", "differing"];

const PRIORITY_DEFAULT: u8 = 100;
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(40);
const INTERVAL_DEFAULT: Duration = Duration::from_millis(100);
const DELAYS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3_600);
const NO_BACKEND_DEFAULT: Lowering = Lowering::By(50);
const CANARY_DEFAULT: Lowering = Lowering::By(50);
/// Both of two balancers see it.
const DIFFERING_DEFAULT: Lowering = Lowering::By(0);
const DETACHED_DEFAULT: Lowering = Lowering::Resign;

/// A group of VIPs whose owner is elected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vrrp {
    /// The operator's name for it.
    pub name: String,
    /// VRID, 1 to 255, the same on all routers of the group.
    pub router_id: u8,
    /// 1 to 254: of those that live, the highest is Active.
    pub priority: u8,
    /// How often the Active router advertises.
    pub interval: Interval,
    /// Whether a higher router takes over from a living lower one.
    pub preempt: bool,
    /// How long a lower router is heard before that.
    pub preempt_delay: Duration,
    /// What IPv4 advertisements are summed over; both ways are accepted.
    pub checksum: Checksum,
    /// A link-local address to advertise before the IPv6 VIPs, for peers that insist on one.
    pub link_local: Option<Ipv6Addr>,
    /// What makes it want the addresses less.
    pub track: Track,
}

/// What becomes of a group's priority for which reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    /// A service of the group has no healthy backend.
    pub no_backend: Lowering,
    /// No program is attached to the interface.
    pub detached: Lowering,
    /// Connections through the own data plane fail to a service of the group that has healthy backends.
    pub canary: Lowering,
    /// This balancer has steered by other tables than a peer for ten seconds.
    pub differing: Lowering,
}

/// What a reason does to a priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lowering {
    /// It is so much lower, but not below 1.
    By(u8),
    /// The router gives up in an orderly way, and stays out until the reason is gone.
    Resign,
}

/// A group as far as it could be read.
pub(super) struct Draft<'t> {
    pub(super) name: Option<Spanned<&'t str>>,
    router_id: Option<Spanned<u8>>,
    priority: u8,
    interval: Option<Interval>,
    preempt: bool,
    preempt_delay: Duration,
    checksum: Checksum,
    link_local: Option<Ipv6Addr>,
    track: Track,
}

impl Draft<'_> {
    /// The group, where everything that it needs could be read.
    pub(super) fn finish(self) -> Option<Vrrp> {
        Some(Vrrp {
            name: (*self.name?.get_ref()).to_owned(),
            router_id: self.router_id?.into_inner(),
            priority: self.priority,
            interval: self.interval?,
            preempt: self.preempt,
            preempt_delay: self.preempt_delay,
            checksum: self.checksum,
            link_local: self.link_local,
            track: self.track,
        })
    }
}

/// Reads all groups, and notes names and identifiers that are there twice.
pub(super) fn read<'t>(root: &Section<'t, '_>, problems: &mut Problems<'_>) -> Vec<Draft<'t>> {
    let sections = root.tables("vrrp", "[[vrrp]]", &VRRP_KEYS, problems);
    let drafts: Vec<Draft<'_>> = sections.iter().map(|section| draft(section, problems)).collect();
    let mut names = HashMap::new();
    let mut ids = HashMap::new();
    for draft in &drafts {
        if let Some(name) = &draft.name
            && let Some(first) = names.insert(*name.get_ref(), name.span())
        {
            let line = problems.line(&first);
            let message = format!("the name {:?} is taken", name.get_ref());
            let hint = format!("first on line {line}; each group has a name of its own");
            problems.add(name.span(), message, hint);
        }
        if let Some(id) = &draft.router_id
            && let Some(first) = ids.insert(*id.get_ref(), id.span())
        {
            let line = problems.line(&first);
            let message = format!("router_id {} is taken", id.get_ref());
            let hint = format!("first on line {line}; on one segment each group has a router_id of its own");
            problems.add(id.span(), message, hint);
        }
    }
    drafts
}

fn draft<'t>(section: &Section<'t, '_>, problems: &mut Problems<'_>) -> Draft<'t> {
    section.require("name", "\"site-a\"", problems);
    section.require(
        "router_id",
        "51, the same on all balancers of the group",
        problems,
    );
    let name = section.string("name", problems);
    if let Some(name) = &name
        && !is_name(name.get_ref())
    {
        problems.add(
            name.span(),
            format!("{:?} cannot be a group's name", name.get_ref()),
            "1 to 63 of a-z, 0-9 and -",
        );
    }
    let checksums = [
        ("pseudo-header", Checksum::PseudoHeader),
        ("message", Checksum::Message),
    ];
    let delay = section.duration("preempt_delay", DELAYS, problems);
    Draft {
        name,
        router_id: section.integer::<u8>("router_id", 1..=u8::MAX, problems),
        priority: priority(section, problems),
        interval: interval(section, problems),
        preempt: section
            .boolean("preempt", problems)
            .is_none_or(Spanned::into_inner),
        preempt_delay: delay.map_or(Duration::ZERO, Spanned::into_inner),
        checksum: section
            .word("checksum", &checksums, problems)
            .unwrap_or(Checksum::PseudoHeader),
        link_local: link_local(section, problems),
        track: track(section, problems),
    }
}

fn priority(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> u8 {
    let Some(priority) = section.integer::<u8>("priority", 0..=u8::MAX, problems) else {
        return PRIORITY_DEFAULT;
    };
    let refused = match *priority.get_ref() {
        0 => Some((
            "priority 0 is how a router says that it gives up",
            "from 1 to 254",
        )),
        u8::MAX => Some((
            "priority 255 is for a router whose own address the VIP is",
            "a VIP is no balancer's own address: 254 or less",
        )),
        _ => None,
    };
    if let Some((message, hint)) = refused {
        problems.add(priority.span(), message, hint);
    }
    priority.into_inner()
}

fn interval(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Interval> {
    if section.key("interval").is_none() {
        return Interval::exactly(INTERVAL_DEFAULT);
    }
    let interval = section.duration("interval", SHORTEST..=LONGEST, problems)?;
    let found = Interval::exactly(*interval.get_ref());
    if found.is_none() {
        let wrong = *interval.get_ref();
        let below = Duration::from_millis(wrong.as_millis() as u64 / 10 * 10);
        problems.add(
            interval.span(),
            format!(
                "interval is a multiple of 10ms, {} is not",
                format_duration(wrong)
            ),
            format!(
                "{} or {}",
                format_duration(below),
                format_duration(below + SHORTEST)
            ),
        );
    }
    found
}

fn link_local(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Ipv6Addr> {
    let text = section.string("link_local", problems)?;
    let address = text.get_ref().parse::<Ipv6Addr>().ok();
    let address = address.filter(Ipv6Addr::is_unicast_link_local);
    if address.is_none() {
        problems.add(
            text.span(),
            format!("{:?} is not a link-local IPv6 address", text.get_ref()),
            "such as \"fe80::51\"; leave the key out unless a peer insists on it",
        );
    }
    address
}

fn track(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Track {
    let default = Track {
        no_backend: NO_BACKEND_DEFAULT,
        detached: DETACHED_DEFAULT,
        canary: CANARY_DEFAULT,
        differing: DIFFERING_DEFAULT,
    };
    let Some(section) = section.table("track", &TRACK_KEYS, problems) else {
        return default;
    };
    Track {
        no_backend: lowering(&section, "no_backend", problems).unwrap_or(default.no_backend),
        detached: lowering(&section, "detached", problems).unwrap_or(default.detached),
        canary: lowering(&section, "canary", problems).unwrap_or(default.canary),
        differing: lowering(&section, "differing", problems).unwrap_or(default.differing),
    }
}

/// A number, or the word for giving up.
fn lowering(section: &Section<'_, '_>, name: &str, problems: &mut Problems<'_>) -> Option<Lowering> {
    if section.is_string(name) {
        return section.word(name, &[("resign", Lowering::Resign)], problems);
    }
    let amount = section.integer::<u8>(name, 0..=253, problems)?;
    Some(Lowering::By(amount.into_inner()))
}

/// Notes VIPs of groups that there are not, and groups of too many addresses.
pub(super) fn members(vips: &[Vip<'_>], groups: &[Draft<'_>], problems: &mut Problems<'_>) {
    let names: Vec<&str> = groups
        .iter()
        .filter_map(|group| group.name.as_ref().map(|name| *name.get_ref()))
        .collect();
    let mut addresses: HashMap<(&str, bool), BTreeSet<IpAddr>> = HashMap::new();
    for vip in vips {
        let Ownership::Vrrp(group) = vip.ownership.get_ref() else {
            continue;
        };
        if !names.contains(&group.as_str()) {
            let hint = if names.is_empty() {
                format!("add [[vrrp]] with name = {group:?}")
            } else {
                format!("groups here: {}", names.join(", "))
            };
            let message = format!("there is no [[vrrp]] named {group:?}");
            problems.add(vip.ownership.span(), message, hint);
            continue;
        }
        let Some(address) = &vip.address else {
            continue;
        };
        let of_family = addresses.entry((group, address.get_ref().is_ipv4())).or_default();
        let is_new = of_family.insert(*address.get_ref());
        if is_new && of_family.len() == MAX_ADDRESSES + 1 {
            problems.add(
                vip.ownership.span(),
                format!("the group {group:?} has more than {MAX_ADDRESSES} addresses of a family"),
                "an advertisement has no room for more: make another group, with another router_id",
            );
        }
    }
}
