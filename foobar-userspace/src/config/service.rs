//! One `[[vip]]` of the file: its keys and its backends, each judged by itself. Its check is `check`'s,
//! what must hold between VIPs is `validate`'s.

use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;

use super::report::Problems;
use super::sources::{Lists, Sources};
use super::syn_limit::SynLimit;
use super::walk::Section;
use super::{
    Backend, Check, FlowHash, Forward, Ownership, Ports, Protocol, Quic, Service, TableKind, Tracking,
    Unserved, Vip,
};
use super::{bgp, check, flows, ports, quic, syn_limit};

pub(super) const VIP_KEYS: [&str; 24] = [
    "name",
    "address",
    "port",
    "ports",
    "protocol",
    "owned",
    "vrrp",
    "bgp",
    "slots",
    "table",
    "hash",
    "tracking",
    "midstream",
    "idle_timeout",
    "drain_timeout",
    "unserved",
    "forward",
    "second_chance",
    "deny",
    "allow",
    "syn_limit",
    "quic",
    "check",
    "backend",
];
const BACKEND_KEYS: [&str; 4] = ["address", "weight", "server_id", "port"];
/// In a file with more VIPs than this, the default number of slots is the small one.
pub(super) const MANY_VIPS: usize = 100;
const SLOTS: RangeInclusive<u32> = 256..=65_536;
const SLOTS_DEFAULT: u32 = 65_536;
const SLOTS_DEFAULT_MANY: u32 = 4_096;
const WEIGHT_DEFAULT: u16 = 100;
const WEIGHT_MAX: u16 = 256;
const NAME_MAX: usize = 63;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// Pending notes tell ages of up to 73 minutes, and 5/4 of the idle time has to be among them.
const LONGEST_IDLE: Duration = Duration::from_secs(55 * 60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A VIP as far as it could be read; what is missing has been noted as a problem.
pub(super) struct Draft<'t> {
    /// Its `[[vip]]`.
    pub(super) header: Range<usize>,
    pub(super) name: Option<Spanned<&'t str>>,
    pub(super) address: Option<Spanned<IpAddr>>,
    pub(super) ports: Option<Spanned<Ports>>,
    pub(super) protocol: Protocol,
    /// Its place is the key's, or the header's where it is left at the default.
    pub(super) ownership: Spanned<Ownership>,
    /// Likewise.
    pub(super) slots: Spanned<u32>,
    pub(super) backends: Vec<Spanned<Backend>>,
    /// Its place is the key's, or the header's where it is left at the default.
    pub(super) forward: Spanned<Forward>,
    second_chance: bool,
    table: TableKind,
    hash: FlowHash,
    tracking: Tracking,
    quic: Option<Quic>,
    idle_timeout: Duration,
    drain_timeout: Option<Duration>,
    unserved: Unserved,
    sources: Option<Arc<Sources>>,
    syn_limit: Option<SynLimit>,
    check: Option<Check>,
}

impl<'t> Draft<'t> {
    /// Reads one `[[vip]]`; `many` chooses the default number of slots.
    pub(super) fn read(
        section: &Section<'t, '_>,
        many: bool,
        lists: &mut Lists<'t>,
        problems: &mut Problems<'_>,
    ) -> Self {
        let header = section.span.clone();
        section.require("name", "\"site-a\"", problems);
        section.require("address", "\"192.0.2.101\"", problems);
        let name = section.string("name", problems);
        if let Some(name) = &name {
            check_name(name, problems);
        }
        let address = address(section, problems);
        if let Some(address) = &address {
            vip_address(address, problems);
        }
        let ports = ports::read(section, problems);
        let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
        let protocol = section
            .word("protocol", &protocols, problems)
            .unwrap_or(Protocol::Tcp);
        let idle_default = match protocol {
            Protocol::Tcp => 15 * MINUTE,
            Protocol::Udp => 2 * MINUTE,
        };
        let idle = section.duration("idle_timeout", SECOND..=LONGEST_IDLE, problems);
        let drain = section.duration("drain_timeout", SECOND..=WEEK, problems);
        let tables = [
            ("maglev", TableKind::Maglev),
            ("rendezvous", TableKind::Rendezvous),
        ];
        let forward = forward(section, problems);
        let quic = quic::read(section, protocol, problems);
        let backends = backends(
            section,
            address.as_ref(),
            ports.as_ref(),
            *forward.get_ref(),
            quic,
            problems,
        );
        let second_chance = second_chance(section, *forward.get_ref(), &backends, problems);
        let answers = [("drop", Unserved::Drop), ("reset", Unserved::Reset)];
        Self {
            protocol,
            ownership: ownership(section, problems),
            slots: slots(section, many, problems),
            hash: flows::hash(section, problems),
            tracking: flows::tracking(section, protocol, second_chance, problems),
            second_chance,
            quic,
            forward,
            backends,
            table: section
                .word("table", &tables, problems)
                .unwrap_or(TableKind::Maglev),
            idle_timeout: idle.map_or(idle_default, Spanned::into_inner),
            drain_timeout: drain.map(Spanned::into_inner),
            unserved: section
                .word("unserved", &answers, problems)
                .unwrap_or(Unserved::Drop),
            sources: lists.of_vip(section, problems),
            syn_limit: syn_limit::read(section, protocol, problems),
            check: check::read(section, address.as_ref(), ports.as_ref(), protocol, problems),
            header,
            name,
            address,
            ports,
        }
    }

    /// Its identity, where that could be read, and where it stands.
    pub(super) fn service(&self) -> Option<Spanned<Service>> {
        let (address, ports) = (self.address.as_ref()?, self.ports.as_ref()?);
        let service = Service {
            address: *address.get_ref(),
            ports: *ports.get_ref(),
            protocol: self.protocol,
        };
        Some(Spanned::new(address.span(), service))
    }

    /// The VIP, where everything that it needs could be read.
    pub(super) fn finish(self) -> Option<Vip> {
        Some(Vip {
            name: (*self.name?.get_ref()).to_owned(),
            address: self.address?.into_inner(),
            ports: self.ports?.into_inner(),
            protocol: self.protocol,
            ownership: self.ownership.into_inner(),
            slots: self.slots.into_inner(),
            table: self.table,
            hash: self.hash,
            tracking: self.tracking,
            quic: self.quic,
            idle_timeout: self.idle_timeout,
            drain_timeout: self.drain_timeout,
            unserved: self.unserved,
            forward: self.forward.into_inner(),
            second_chance: self.second_chance,
            sources: self.sources,
            syn_limit: self.syn_limit,
            check: self.check,
            backends: self.backends.into_iter().map(Spanned::into_inner).collect(),
        })
    }
}

fn ownership(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Spanned<Ownership> {
    let owned = section.boolean("owned", problems);
    let group = section.string("vrrp", problems);
    if let (Some(owned), Some(group)) = (&owned, &group) {
        let line = problems.line(&owned.span());
        problems.add(
            group.span(),
            "a VIP has `owned` or `vrrp`, not both",
            format!("remove line {line}: the group says who owns the address"),
        );
    }
    let bgp = bgp::of_vip(section, problems);
    if let Some(bgp) = &bgp
        && let Some(other) = (owned.as_ref().map(Spanned::span)).or(group.as_ref().map(Spanned::span))
    {
        let line = problems.line(&other);
        problems.add(
            bgp.span(),
            "a VIP that is announced by BGP has neither `owned` nor `vrrp`",
            format!("remove line {line}: routers choose who gets its packets"),
        );
    }
    if let Some(bgp) = bgp {
        return bgp;
    }
    match (group, owned) {
        (Some(group), _) => {
            let name = (*group.get_ref()).to_owned();
            Spanned::new(group.span(), Ownership::Vrrp(name))
        }
        (None, Some(owned)) if !*owned.get_ref() => Spanned::new(owned.span(), Ownership::Never),
        (None, owned) => {
            let place = owned.map_or_else(|| section.span.clone(), |owned| owned.span());
            Spanned::new(place, Ownership::Always)
        }
    }
}

fn forward(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Spanned<Forward> {
    let ways = [
        ("l2", Forward::L2),
        ("ipip", Forward::Ipip),
        ("gue", Forward::Gue),
    ];
    let place = section.key("forward").unwrap_or_else(|| section.span.clone());
    let way = section.word("forward", &ways, problems).unwrap_or(Forward::L2);
    Spanned::new(place, way)
}

fn second_chance(
    section: &Section<'_, '_>,
    forward: Forward,
    backends: &[Spanned<Backend>],
    problems: &mut Problems<'_>,
) -> bool {
    let Some(wanted) = section.boolean("second_chance", problems) else {
        return false;
    };
    if *wanted.get_ref() && forward != Forward::Gue {
        problems.add(
            wanted.span(),
            "second_chance needs forward = \"gue\"",
            "the packet carries its candidates in GUE's header, for `foobar agent` on the backends",
        );
    }
    let is_v4 = |backend: &Spanned<Backend>| backend.get_ref().address.is_ipv4();
    if *wanted.get_ref()
        && let Some(first) = backends.first()
        && let Some(other) = backends.iter().find(|backend| is_v4(backend) != is_v4(first))
    {
        problems.add(
            other.span(),
            "with second_chance all backends of a VIP are of one family",
            "a packet is passed on as it came, and can't change its outer header's family",
        );
    }
    wanted.into_inner()
}

/// Whether a text can be a VIP's or a list's name.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= NAME_MAX && text.chars().all(fits)
}

fn check_name(name: &Spanned<&str>, problems: &mut Problems<'_>) {
    let text = *name.get_ref();
    if !is_name(text) {
        let hint = format!("1 to {NAME_MAX} of a-z, 0-9 and -");
        problems.add(name.span(), format!("{text:?} cannot be a VIP's name"), hint);
    }
}

fn address(section: &Section<'_, '_>, problems: &mut Problems<'_>) -> Option<Spanned<IpAddr>> {
    let text = section.string("address", problems)?;
    match text.get_ref().parse() {
        Ok(address) => Some(Spanned::new(text.span(), address)),
        Err(_) => {
            let hint = match text.get_ref() {
                name if name.contains('/') => "without a prefix length: one address",
                name if name.starts_with('[') => "without brackets and port: \"2001:db8::101\"",
                name if name.contains('%') => "without a zone: an address that holds on every interface",
                name if name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains(':') => {
                    "an address, not a name: \"192.0.2.101\""
                }
                name if name.matches(':').count() == 1 => "without a port, which has a key of its own",
                _ => "such as \"192.0.2.101\"",
            };
            problems.add(
                text.span(),
                format!("{:?} is not an IP address", text.get_ref()),
                hint,
            );
            None
        }
    }
}

/// Why an address can be no single host's, if so, and what to write instead where that is known.
pub(super) fn not_a_host(address: IpAddr) -> Option<(&'static str, Option<String>)> {
    match address {
        _ if address.is_unspecified() => Some(("the unspecified address", None)),
        _ if address.is_loopback() => Some(("a loopback address", None)),
        _ if address.is_multicast() => Some(("a multicast address", None)),
        IpAddr::V4(v4) if v4.is_broadcast() => Some(("the broadcast address", None)),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some((
            "a link-local address",
            Some("use a global or unique local address (2000::/3, fc00::/7)".to_owned()),
        )),
        IpAddr::V6(v6) => {
            let v4 = v6.to_ipv4_mapped()?;
            Some((
                "an IPv4-mapped address",
                Some(format!("write it as IPv4: \"{v4}\"")),
            ))
        }
        IpAddr::V4(_) => None,
    }
}

fn vip_address(address: &Spanned<IpAddr>, problems: &mut Problems<'_>) {
    let ip = *address.get_ref();
    if let Some((kind, instead)) = not_a_host(ip) {
        problems.add(
            address.span(),
            format!("{ip} cannot be a VIP: it is {kind}"),
            instead.unwrap_or_else(|| "use an address that clients can reach".to_owned()),
        );
    }
}

fn slots(section: &Section<'_, '_>, many: bool, problems: &mut Problems<'_>) -> Spanned<u32> {
    let default = if many { SLOTS_DEFAULT_MANY } else { SLOTS_DEFAULT };
    let Some(slots) = section.integer::<u32>("slots", SLOTS, problems) else {
        return Spanned::new(section.span.clone(), default);
    };
    let count = *slots.get_ref();
    if !count.is_power_of_two() {
        let above = count.next_power_of_two();
        let hint = format!("{} or {above}", above / 2);
        problems.add(
            slots.span(),
            format!("slots must be a power of two, {count} is not"),
            hint,
        );
    }
    slots
}

fn backends(
    section: &Section<'_, '_>,
    vip: Option<&Spanned<IpAddr>>,
    vip_ports: Option<&Spanned<Ports>>,
    forward: Forward,
    quic: Option<Quic>,
    problems: &mut Problems<'_>,
) -> Vec<Spanned<Backend>> {
    let mut backends: Vec<Spanned<Backend>> = Vec::new();
    for section in section.tables("backend", "[[vip.backend]]", &BACKEND_KEYS, problems) {
        section.require("address", "\"192.0.2.21\"", problems);
        let weight = section.integer::<u16>("weight", 0..=WEIGHT_MAX, problems);
        let weight = weight.map_or(WEIGHT_DEFAULT, Spanned::into_inner);
        let port = section.integer::<u16>("port", 1..=u16::MAX, problems);
        if let (Some(port), Some(vip_ports)) = (port, vip_ports)
            && vip_ports.get_ref().single() != Some(*port.get_ref())
        {
            let message = format!(
                "the backend's port {} is not the VIP's, {}",
                port.get_ref(),
                vip_ports.get_ref()
            );
            problems.add(
                port.span(),
                message,
                "there is no port translation: leave the key out",
            );
        }
        let Some(address) = address(&section, problems) else {
            continue;
        };
        backend_address(&address, vip, forward, problems);
        let server_id = quic::server_id(&section, &address, quic, &backends, problems);
        let (ip, span) = (*address.get_ref(), address.span());
        if let Some(first) = backends.iter().find(|other| other.get_ref().address == ip) {
            let line = problems.line(&first.span());
            problems.add(
                span,
                format!("the backend {ip} is in this VIP twice"),
                format!("first on line {line}"),
            );
        } else {
            let backend = Backend {
                address: ip,
                weight,
                server_id,
            };
            backends.push(Spanned::new(span, backend));
        }
    }
    backends
}

fn backend_address(
    address: &Spanned<IpAddr>,
    vip: Option<&Spanned<IpAddr>>,
    forward: Forward,
    problems: &mut Problems<'_>,
) {
    let ip = *address.get_ref();
    let family = |ip: IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    if let Some((kind, instead)) = not_a_host(ip) {
        problems.add(
            address.span(),
            format!("{ip} cannot be a backend: it is {kind}"),
            instead.unwrap_or_else(|| "use the server's own address".to_owned()),
        );
    } else if let (Some(vip), Forward::L2) = (vip, forward)
        && vip.get_ref().is_ipv4() != ip.is_ipv4()
    {
        let (own, expected) = (family(ip), family(*vip.get_ref()));
        let message = format!(
            "the backend {ip} is {own}, its VIP {} is {expected}",
            vip.get_ref()
        );
        problems.add(
            address.span(),
            message,
            format!("use the server's {expected} address, or a tunnel: forward = \"ipip\" or \"gue\""),
        );
    }
}
