//! The ports of a service: one, a range of them, or all.

use std::fmt;

use serde::Serialize;
use toml::Spanned;

use super::report::Problems;
use super::walk::Section;

/// The ports of a service, at the VIP and at every backend alike: nothing is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// Every port: 0 is none.
    pub const ALL: Self = Self {
        first: 1,
        last: u16::MAX,
    };

    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// The ports from `first` to `last`, both included; `None` where there are none between them.
    #[must_use]
    pub const fn range(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last {
            None
        } else {
            Some(Self { first, last })
        }
    }

    /// The first one.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last one.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// The port, where it is a single one.
    #[must_use]
    pub const fn single(self) -> Option<u16> {
        if self.first == self.last {
            Some(self.first)
        } else {
            None
        }
    }

    /// Whether the two have a port in common.
    #[must_use]
    pub const fn overlap(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("all"),
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// Reads `port` or `ports`, of which a VIP has exactly one.
pub(super) fn read(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Spanned<Ports>> {
    const SHAPE: &str = "a range as \"8000-8999\", or \"all\"";
    let port = section.integer::<u16>("port", 1..=u16::MAX, problems);
    let Some(place) = section.key("ports") else {
        section.require("port", "443, or ports = \"8000-8999\"", problems);
        return port.map(|port| Spanned::new(port.span(), Ports::one(port.into_inner())));
    };
    if section.key("port").is_some() {
        problems.add(
            place,
            "a VIP has `port` or `ports`, not both",
            "remove one of them",
        );
        return None;
    }
    let text = section.string("ports", problems)?;
    let ports = match text.get_ref().split_once('-') {
        None if *text.get_ref() == "all" => Some(Ports::ALL),
        None => None,
        Some((first, last)) => match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) => Ports::range(first, last),
            _ => None,
        },
    };
    if ports.is_none() {
        let message = format!("{:?} is no range of ports", text.get_ref());
        let hint = if text.get_ref().parse::<u16>().is_ok() {
            format!("a single one is port = {}", text.get_ref())
        } else {
            SHAPE.to_owned()
        };
        problems.add(text.span(), message, hint);
    }
    ports.map(|ports| Spanned::new(text.span(), ports))
}
