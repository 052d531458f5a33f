//! The `[vip.check]` of one VIP: which keys fit which kind, and their defaults. Nothing is checked here but
//! the file.

use std::net::IpAddr;
use std::time::Duration;

use toml::Spanned;

use super::report::Problems;
use super::walk::Section;
use super::{Check, Ports, Probe, Protocol, Request, Timing};

const CHECK_KEYS: [&str; 12] = [
    "kind",
    "port",
    "host",
    "path",
    "status",
    "interval",
    "timeout",
    "fall",
    "rise",
    "doubt_interval",
    "down_interval",
    "hard_after",
];

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// A check more often than this is load, not knowledge.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    Https,
    None,
}

/// Reads a VIP's check, or gives it its protocol's default. What cannot be read has been noted.
pub(super) fn read(
    section: &Section<'_, '_>,
    address: Option<&Spanned<IpAddr>>,
    ports: Option<&Spanned<Ports>>,
    protocol: Protocol,
    problems: &mut Problems<'_>,
) -> Option<Check> {
    let Some(section) = section.table("check", &CHECK_KEYS, problems) else {
        return match protocol {
            Protocol::Tcp => Some(Check {
                port: port_of(ports, problems),
                probe: Probe::Tcp,
                timing: Timing::default(),
            }),
            Protocol::Udp => None,
        };
    };
    let kinds = [
        ("tcp", Kind::Tcp),
        ("http", Kind::Http),
        ("https", Kind::Https),
        ("none", Kind::None),
    ];
    section.require("kind", "\"tcp\", \"http\", \"https\" or \"none\"", problems);
    let kind = section.word("kind", &kinds, problems);
    match kind {
        Some(Kind::None) => unfit(&section, "none", &CHECK_KEYS[1..], problems),
        Some(Kind::Tcp) => unfit(&section, "tcp", &["host", "path", "status"], problems),
        Some(Kind::Http | Kind::Https) | None => (),
    }
    let port = section.integer::<u16>("port", 1..=u16::MAX, problems);
    let timing = timing(&section, problems);
    let request = request(&section, address, problems);
    let probe = match kind? {
        Kind::None => return None,
        Kind::Tcp => Probe::Tcp,
        Kind::Http => Probe::Http(request),
        Kind::Https => Probe::Https(request),
    };
    Some(Check {
        port: port.map_or_else(|| port_of(ports, problems), Spanned::into_inner),
        probe,
        timing,
    })
}

/// The port that is checked unless the check names one: the VIP's, where that is a single one.
fn port_of(ports: Option<&Spanned<Ports>>, problems: &mut Problems<'_>) -> u16 {
    // What is missing has been noted.
    let Some(ports) = ports else {
        return 1;
    };
    ports.get_ref().single().unwrap_or_else(|| {
        problems.add(
            ports.span(),
            "which of these ports is checked?",
            "give [vip.check] a port, or kind = \"none\"",
        );
        1
    })
}

/// Notes the keys that say nothing to a check of this kind.
fn unfit(section: &Section<'_, '_>, kind: &str, keys: &[&str], problems: &mut Problems<'_>) {
    for key in keys {
        if let Some(span) = section.key(key) {
            let hint = match *key {
                "host" | "path" | "status" => "it is for kind \"http\" or \"https\"",
                _ => "remove it, or choose another kind",
            };
            problems.add(
                span,
                format!("`{key}` does not fit a check of kind \"{kind}\""),
                hint,
            );
        }
    }
}

fn timing(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Timing {
    let default = Timing::default();
    let mut time = |name, range, default| {
        section
            .duration(name, range, problems)
            .map_or(default, Spanned::into_inner)
    };
    let interval = time("interval", INTERVAL_MIN..=HOUR, default.interval);
    let timeout = time("timeout", Duration::from_millis(10)..=MINUTE, default.timeout);
    let doubt_interval = time("doubt_interval", INTERVAL_MIN..=HOUR, default.doubt_interval);
    let down_interval = time("down_interval", INTERVAL_MIN..=HOUR, default.down_interval);
    let hard_after = time("hard_after", SECOND..=HOUR, default.hard_after);
    let mut count = |name, default| {
        section
            .integer::<u32>(name, 1..=100, problems)
            .map_or(default, Spanned::into_inner)
    };
    Timing {
        fall: count("fall", default.fall),
        rise: count("rise", default.rise),
        interval,
        timeout,
        doubt_interval,
        down_interval,
        hard_after,
    }
}

fn request(
    section: &Section<'_, '_>,
    address: Option<&Spanned<IpAddr>>,
    problems: &mut Problems<'_>,
) -> Request {
    let host = section.string("host", problems);
    if let Some(host) = &host
        && host.get_ref().parse::<IpAddr>().is_err()
        && !is_host_name(host.get_ref())
    {
        problems.add(
            host.span(),
            format!("{:?} is not a host name", host.get_ref()),
            "such as \"www.example.com\", without scheme or port",
        );
    }
    let path = section.string("path", problems);
    if let Some(path) = &path
        && !(path.get_ref().starts_with('/')
            && path.get_ref().bytes().all(|c| c.is_ascii_graphic() && c != b'#'))
    {
        problems.add(
            path.span(),
            format!("{:?} is not a request path", path.get_ref()),
            "begin with /, percent-encode what is not plain ASCII",
        );
    }
    let status = section.integer::<u16>("status", 100..=599, problems);
    Request {
        host: host.map_or_else(
            || address.map_or_else(String::new, |address| address.get_ref().to_string()),
            |host| (*host.get_ref()).to_owned(),
        ),
        path: path.map_or("/", Spanned::into_inner).to_owned(),
        status: status.map_or(200, Spanned::into_inner),
    }
}

/// RFC 1123, section 2.1, and the underscore that the field uses all the same.
fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}
