//! From text to a [`Config`]: the file's top level. What is in a `[[vip]]` is `service`'s, what must hold
//! between entries is `validate`'s.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::report::{Problems, Report};
use super::service::{Draft, VIP_KEYS};
use super::sources::{LIST_KEYS, Lists};
use super::walk::Section;
use super::{Config, Limits, bgp, canary, etcd, tunnel, validate, vrrp};

pub(super) const KEYS: [&str; 14] = [
    "interface",
    "pin_dir",
    "admin_socket",
    "seed_file",
    "cluster",
    "peer_macs",
    "limits",
    "tunnel",
    "canary",
    "list",
    "vrrp",
    "bgp",
    "etcd",
    "vip",
];
const LIMIT_KEYS: [&str; 5] = ["slots", "targets", "notes", "pending_notes", "syn_buckets"];

const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/foobar";
const DEFAULT_ADMIN_SOCKET: &str = "/run/foobar/lb.sock";
const DEFAULT_LIMITS: Limits = Limits {
    slots: 1_048_576,
    targets: 4_096,
    notes: 262_144,
    pending_notes: 262_144,
    syn_buckets: 262_144,
};

/// The kernel's IFNAMSIZ without the closing zero.
const INTERFACE_NAME_MAX: usize = 15;
const PEERS_MAX: usize = 8;
/// Members are 16-bit numbers in a slot, half of which are kept back.
const TARGETS_MAX: u32 = 32_767;
/// 512 MiB of slots.
const ENTRIES_MAX: u32 = 1 << 26;

/// Reads and validates a configuration; `name` is what the report calls it, and in its directory are the
/// files of lists whose paths are relative.
///
/// # Errors
/// Everything that is wrong with it, each with its place. A syntax error is the only one of its report:
/// what follows it cannot be trusted.
pub fn parse(name: &str, text: &str) -> Result<Config, Report> {
    parse_as(name, text, read)
}

/// As [`parse`], of another kind of file: `read` says what is in it, and gets the file's directory.
pub(super) fn parse_as<C>(
    name: &str,
    text: &str,
    read: impl FnOnce(&DeTable<'_>, &Path, &mut Problems<'_>) -> Option<C>,
) -> Result<C, Report> {
    let mut problems = Problems::new(text);
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(error) => {
            syntax(&error, text.len(), &mut problems);
            return Err(problems.into_report(name));
        }
    };
    let directory = Path::new(name).parent().unwrap_or(Path::new(""));
    match read(root.get_ref(), directory, &mut problems) {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems.into_report(name)),
    }
}

/// Notes that a text is no TOML; where no other place is known, at its end.
pub(super) fn syntax(error: &toml::de::Error, end: usize, problems: &mut Problems<'_>) {
    let span = error.span().unwrap_or(end..end);
    problems.add(span, format!("syntax: {}", error.message()), "");
}

/// The same from bytes, which may not be UTF-8.
pub(super) fn parse_bytes<C>(
    name: &str,
    bytes: &[u8],
    read: impl FnOnce(&DeTable<'_>, &Path, &mut Problems<'_>) -> Option<C>,
) -> Result<C, Report> {
    match str::from_utf8(bytes) {
        Ok(text) => parse_as(name, text, read),
        Err(error) => {
            let text = String::from_utf8_lossy(bytes);
            let mut problems = Problems::new(&text);
            let at = error.valid_up_to();
            problems.add(at..at + 1, "the file is not UTF-8 here", "save it as UTF-8");
            Err(problems.into_report(name))
        }
    }
}

pub(super) fn read(root: &DeTable<'_>, directory: &Path, problems: &mut Problems<'_>) -> Option<Config> {
    let root = Section::new(root, 0..0, &KEYS, problems);
    root.require("interface", "\"eth0\"", problems);
    let interface = root.string("interface", problems);
    if let Some(interface) = &interface {
        interface_name(interface, problems);
    }
    let pin_dir = path(&root, "pin_dir", problems);
    let admin_socket = path(&root, "admin_socket", problems);
    let seed_file = path(&root, "seed_file", problems);
    let cluster = path(&root, "cluster", problems);
    if let (Some(_), Some(_), Some(span)) = (&seed_file, &cluster, root.key("seed_file")) {
        problems.add(
            span,
            "`seed_file` does not go together with `cluster`",
            "remove it: the cluster's directory has the seed that its balancers share",
        );
    }
    let peer_macs = peer_macs(&root, problems);
    let limits = limits(&root, problems);
    let tunnel = tunnel::read(&root, problems);
    let canary = canary::read(&root, problems);

    let groups = vrrp::read(&root, problems);
    let bgp = bgp::read(&root, problems);
    let etcd = etcd::read(&root, problems);
    let lists = root.tables("list", "[[list]]", &LIST_KEYS, problems);
    let mut lists = Lists::read(&lists, directory, problems);
    let sections = root.tables("vip", "[[vip]]", &VIP_KEYS, problems);
    let many = sections.len() > super::service::MANY_VIPS;
    let drafts: Vec<Draft<'_>> = sections
        .iter()
        .map(|vip| Draft::read(vip, many, &mut lists, problems))
        .collect();
    validate::between_vips(&drafts, problems);
    vrrp::members(&drafts, &groups, problems);
    bgp::members(&drafts, bgp.as_ref(), problems);
    validate::sums(&drafts, &limits, problems);
    tunnel::sources(&drafts, &tunnel, problems);

    Some(Config {
        interface: (*interface?.get_ref()).to_owned(),
        pin_dir: pin_dir.unwrap_or_else(|| DEFAULT_PIN_DIR.into()),
        admin_socket: admin_socket.unwrap_or_else(|| DEFAULT_ADMIN_SOCKET.into()),
        seed_file,
        cluster,
        peer_macs,
        limits,
        tunnel,
        canary,
        vrrp: groups
            .into_iter()
            .map(vrrp::Draft::finish)
            .collect::<Option<_>>()?,
        bgp: match bgp {
            Some(draft) => Some(draft.finish()?),
            None => None,
        },
        etcd,
        vips: drafts.into_iter().map(Draft::finish).collect::<Option<_>>()?,
    })
}

pub(super) fn interface_name(name: &Spanned<&str>, problems: &mut Problems<'_>) {
    let text = *name.get_ref();
    if text.len() > INTERFACE_NAME_MAX {
        let message = format!("the interface name {text:?} is too long: {} bytes", text.len());
        problems.add(
            name.span(),
            message,
            format!("Linux names have at most {INTERFACE_NAME_MAX}; see `ip link`"),
        );
    } else if matches!(text, "" | "." | "..")
        || text.contains(|c: char| c.is_whitespace() || "/:\0".contains(c))
    {
        problems.add(
            name.span(),
            format!("{text:?} cannot be an interface's name"),
            "see `ip link` for the names",
        );
    }
}

pub(super) fn path(root: &Section<'_, '_>, name: &str, problems: &mut Problems<'_>) -> Option<PathBuf> {
    let text = root.string(name, problems)?;
    if text.get_ref().is_empty() || text.get_ref().contains('\0') {
        problems.add(
            text.span(),
            format!("{name} is not a path"),
            "leave the key out for the default",
        );
        return None;
    }
    Some(PathBuf::from(*text.get_ref()))
}

fn limits(root: &Section<'_, '_>, problems: &mut Problems<'_>) -> Limits {
    let Some(section) = root.table("limits", &LIMIT_KEYS, problems) else {
        return DEFAULT_LIMITS;
    };
    let mut size = |name, range, default| {
        section
            .integer::<u32>(name, range, problems)
            .map_or(default, Spanned::into_inner)
    };
    let limits = Limits {
        slots: size("slots", 256..=ENTRIES_MAX, DEFAULT_LIMITS.slots),
        targets: size("targets", 1..=TARGETS_MAX, DEFAULT_LIMITS.targets),
        notes: size("notes", 16..=ENTRIES_MAX, DEFAULT_LIMITS.notes),
        pending_notes: size("pending_notes", 16..=ENTRIES_MAX, DEFAULT_LIMITS.pending_notes),
        syn_buckets: size("syn_buckets", 16..=ENTRIES_MAX, DEFAULT_LIMITS.syn_buckets),
    };
    Limits {
        syn_buckets: limits.syn_buckets.next_power_of_two(),
        ..limits
    }
}

fn peer_macs(root: &Section<'_, '_>, problems: &mut Problems<'_>) -> Vec<[u8; 6]> {
    let mut seen: Vec<([u8; 6], Range<usize>)> = Vec::new();
    for text in root.strings("peer_macs", problems) {
        let Some(mac) = mac(text.get_ref()) else {
            let message = format!("{:?} is not a MAC address", text.get_ref());
            problems.add(
                text.span(),
                message,
                "six pairs of hex digits with colons: \"02:00:00:00:00:02\"",
            );
            continue;
        };
        if mac[0] & 1 == 1 || mac == [0; 6] {
            let message = format!("{} is not the MAC of a host", text.get_ref());
            problems.add(
                text.span(),
                message,
                "a group, broadcast or zero address; see `ip link` on the peer",
            );
        } else if let Some((_, first)) = seen.iter().find(|(other, _)| *other == mac) {
            let line = problems.line(first);
            let message = format!("{} is in peer_macs twice", text.get_ref());
            problems.add(text.span(), message, format!("first on line {line}"));
        } else {
            if seen.len() == PEERS_MAX {
                let message = format!("peer_macs has more than {PEERS_MAX} entries");
                problems.add(
                    text.span(),
                    message,
                    format!("a cluster has at most {} balancers", PEERS_MAX + 1),
                );
            }
            seen.push((mac, text.span()));
        }
    }
    seen.into_iter().map(|(mac, _)| mac).collect()
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut pairs = text.split(':');
    for byte in &mut bytes {
        let pair = pairs
            .next()
            .filter(|pair| pair.len() == 2 && pair.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    pairs.next().is_none().then_some(bytes)
}
