//! Attributes that routes to VIPs have, by which routers prefer one balancer to another: those of `[bgp]`, and those of a
//! `[[bgp.group]]` for the VIPs in it.

use std::collections::HashMap;
use std::fmt;

use toml::Spanned;

use super::report::Problems;
use super::service::is_name;
use super::walk::Section;

const GROUP_KEYS: [&str; 4] = ["name", "med", "prepend", "communities"];
const PREPEND_MAX: u8 = 10;
/// More would be a slip, and a route's attributes have to fit into one message with it.
const COMMUNITIES_MAX: usize = 32;
/// Those that have a name here (RFC 1997, RFC 8326).
const WELL_KNOWN: [(&str, Community); 3] = [
    ("no-export", Community::Standard(0xffff, 0xff01)),
    ("no-advertise", Community::Standard(0xffff, 0xff02)),
    ("graceful-shutdown", Community::Standard(0xffff, 0)),
];

/// What routers are told of a route besides its next hop.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    /// MULTI_EXIT_DISC: of several balancers of an AS, the lowest is preferred.
    pub med: Option<u32>,
    /// How often the own AS is prepended to the path besides, for neighbors of other AS: routers prefer the shortest.
    pub prepend: u8,
    /// By which a router's policy may tell routes apart.
    pub communities: Vec<Community>,
}

/// A community of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Community {
    /// Of RFC 1997: an AS and its value.
    Standard(u16, u16),
    /// A large one (RFC 8092): an AS and its two values.
    Large(u32, u32, u32),
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(of, value) => write!(f, "{of}:{value}"),
            Self::Large(of, first, second) => write!(f, "{of}:{first}:{second}"),
        }
    }
}

/// VIPs whose routes have attributes of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeGroup {
    /// What VIPs call it, unique; `[a-z0-9-]+`.
    pub name: String,
    /// The attributes; what the group does not say is as in `[bgp]`.
    pub attributes: Attributes,
}

/// A group as far as it could be read.
pub(super) struct Draft<'t> {
    pub(super) name: Option<Spanned<&'t str>>,
    attributes: Attributes,
}

impl Draft<'_> {
    /// The group, where everything that it needs could be read.
    pub(super) fn finish(self) -> Option<AttributeGroup> {
        Some(AttributeGroup {
            name: (*self.name?.get_ref()).to_owned(),
            attributes: self.attributes,
        })
    }
}

/// Reads the attributes that a table has; others are as in `default`. A prepending that no neighbor would see is noted,
/// where `is_seen` says that none does.
pub(super) fn attributes(
    section: &Section<'_, '_>,
    default: &Attributes,
    is_prepending_seen: bool,
    problems: &mut Problems<'_>,
) -> Attributes {
    let med = section.integer::<u32>("med", 0..=u32::MAX, problems);
    let prepend = section.integer::<u8>("prepend", 0..=PREPEND_MAX, problems);
    if let Some(prepend) = &prepend
        && *prepend.get_ref() > 0
        && !is_prepending_seen
    {
        problems.add(
            prepend.span(),
            "prepend changes nothing: all neighbors are of this balancer's own AS",
            "a router takes its own AS in the path for a loop; between balancers of its AS, it prefers by `med`",
        );
    }
    let communities = match section.key("communities") {
        Some(_) => communities(section, problems),
        None => default.communities.clone(),
    };
    Attributes {
        med: med.map(Spanned::into_inner).or(default.med),
        prepend: prepend.map_or(default.prepend, Spanned::into_inner),
        communities,
    }
}

fn communities(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Vec<Community> {
    let mut found = Vec::new();
    for text in section.strings("communities", problems) {
        match community(text.get_ref()) {
            Some(community) if found.contains(&community) => {
                problems.add(
                    text.span(),
                    format!("the community {community} is there twice"),
                    "name it once",
                );
            }
            Some(community) => found.push(community),
            None => {
                let names = WELL_KNOWN.map(|(name, _)| name).join(", ");
                problems.add(
                    text.span(),
                    format!("{:?} is not a community", text.get_ref()),
                    format!(
                        "\"AS:VALUE\" of 0 to 65535, a large one as \"AS:VALUE:VALUE\", or one of {names}"
                    ),
                );
            }
        }
        if found.len() > COMMUNITIES_MAX {
            problems.add(
                text.span(),
                format!("more than {COMMUNITIES_MAX} communities"),
                "a router's policy needs one or two",
            );
            break;
        }
    }
    found
}

fn community(text: &str) -> Option<Community> {
    if let Some((_, community)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
        return Some(*community);
    }
    // A sign is no digit, though integers are parsed with one.
    if !text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
        return None;
    }
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [of, value] => Some(Community::Standard(of.parse().ok()?, value.parse().ok()?)),
        [of, first, second] => {
            let (first, second) = (first.parse().ok()?, second.parse().ok()?);
            Some(Community::Large(of.parse().ok()?, first, second))
        }
        _ => None,
    }
}

/// Reads all groups, and notes names that are there twice.
pub(super) fn groups<'t>(
    bgp: &Section<'t, '_>,
    default: &Attributes,
    is_prepending_seen: bool,
    problems: &mut Problems<'_>,
) -> Vec<Draft<'t>> {
    let sections = bgp.tables("group", "[[bgp.group]]", &GROUP_KEYS, problems);
    let mut names = HashMap::new();
    let mut groups = Vec::new();
    for section in &sections {
        section.require("name", "\"site-a\"", problems);
        let name = section.string("name", problems);
        if let Some(name) = &name {
            if !is_name(name.get_ref()) {
                problems.add(
                    name.span(),
                    format!("{:?} cannot be a group's name", name.get_ref()),
                    "1 to 63 of a-z, 0-9 and -",
                );
            }
            if let Some(first) = names.insert(*name.get_ref(), name.span()) {
                let line = problems.line(&first);
                let message = format!("the name {:?} is taken", name.get_ref());
                let hint = format!("first on line {line}; each group has a name of its own");
                problems.add(name.span(), message, hint);
            }
        }
        let attributes = attributes(section, default, is_prepending_seen, problems);
        groups.push(Draft { name, attributes });
    }
    groups
}
