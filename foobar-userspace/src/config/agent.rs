//! The agent's configuration, `agent.toml`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use foobar_common::agent::{MAX_ADDRESSES, MAX_AGENT_VIPS, MAX_TRUSTED};
use ipnet::IpNet;
use toml::Spanned;
use toml::de::DeTable;

use super::report::{Problems, Report};
use super::service::not_a_host;
use super::walk::Section;
use super::{Forward, load_as, parse};

const KEYS: [&str; 11] = [
    "interface",
    "vips",
    "trusted",
    "peers",
    "addresses",
    "forward",
    "gue_port",
    "mtu",
    "pin_dir",
    "admin_socket",
    "state_file",
];

/// Where the agent's admin socket is unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/foobar/agent.sock";
const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/foobar-agent";
const DEFAULT_STATE_FILE: &str = "/run/foobar/agent-prepared.json";

const MTU_MIN: u16 = 1_280;
const MTU_MAX: u16 = 9_216;
const MTU_DEFAULT: u16 = 1_500;

/// A whole `agent.toml`, validated, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    /// The NIC that packets in tunnels come in by, by name.
    pub interface: String,
    /// The VIPs that this backend serves.
    pub vips: BTreeSet<IpAddr>,
    /// Where outer headers may come from: the balancers' tunnel sources.
    pub trusted: Vec<IpNet>,
    /// Other backends, whose next hops are resolved before the first packet is passed on to them.
    pub peers: BTreeSet<IpAddr>,
    /// The addresses that outer headers may go to; none: any.
    pub addresses: BTreeSet<IpAddr>,
    /// How the balancers forward to this backend.
    pub forward: Forward,
    /// The UDP destination port of GUE.
    pub gue_port: u16,
    /// The longest packet that the way from the balancers takes, outer headers included.
    pub mtu: u16,
    /// Where program, maps and link are pinned; a directory on a bpffs.
    pub pin_dir: PathBuf,
    /// The unix socket of the admin API.
    pub admin_socket: PathBuf,
    /// Where `foobar agent prepare` writes what it has changed.
    pub state_file: PathBuf,
}

/// Reads and validates a configuration file.
///
/// # Errors
/// Everything that is wrong with the file, each with its place; also where it cannot be read.
pub fn load(path: &Path) -> Result<AgentConfig, Report> {
    load_as(path, read)
}

fn read(root: &DeTable<'_>, _directory: &Path, problems: &mut Problems<'_>) -> Option<AgentConfig> {
    let root = Section::new(root, 0..0, &KEYS, problems);
    root.require("interface", "\"eth0\"", problems);
    root.require("vips", "[\"192.0.2.101\"]", problems);
    let interface = root.string("interface", problems);
    if let Some(interface) = &interface {
        parse::interface_name(interface, problems);
    }
    let forwards = [
        ("l2", Forward::L2),
        ("ipip", Forward::Ipip),
        ("gue", Forward::Gue),
    ];
    let forward = root.word("forward", &forwards, problems).unwrap_or(Forward::Gue);
    let trusted = trusted(&root, problems);
    if forward != Forward::L2 && root.key("trusted").is_none() {
        root.require("trusted", "[\"192.0.2.64/26\"]", problems);
    }
    let port = root.integer::<u16>("gue_port", 1..=u16::MAX, problems);
    let mtu = root.integer::<u16>("mtu", MTU_MIN..=MTU_MAX, problems);
    let path = |name, default: &str, problems: &mut Problems<'_>| {
        parse::path(&root, name, problems).unwrap_or_else(|| default.into())
    };
    Some(AgentConfig {
        vips: addresses(&root, "vips", MAX_AGENT_VIPS as usize, problems),
        peers: addresses(&root, "peers", PEERS_MAX, problems),
        addresses: addresses(&root, "addresses", MAX_ADDRESSES, problems),
        trusted,
        forward,
        gue_port: port.map_or(foobar_common::gue::PORT, Spanned::into_inner),
        mtu: mtu.map_or(MTU_DEFAULT, Spanned::into_inner),
        pin_dir: path("pin_dir", DEFAULT_PIN_DIR, problems),
        admin_socket: path("admin_socket", DEFAULT_SOCKET, problems),
        state_file: path("state_file", DEFAULT_STATE_FILE, problems),
        interface: (*interface?.get_ref()).to_owned(),
    })
}

/// Half of what the map of next hops takes; the rest is for those that packets name.
const PEERS_MAX: usize = 2_048;

fn addresses(
    root: &Section<'_, '_>,
    name: &str,
    most: usize,
    problems: &mut Problems<'_>,
) -> BTreeSet<IpAddr> {
    let mut addresses = BTreeSet::new();
    for text in root.strings(name, problems) {
        let Ok(address) = text.get_ref().parse::<IpAddr>() else {
            let message = format!("{:?} in {name} is not an IP address", text.get_ref());
            problems.add(text.span(), message, "one address, such as \"192.0.2.101\"");
            continue;
        };
        if let Some((kind, instead)) = not_a_host(address) {
            let message = format!("{address} cannot be in {name}: it is {kind}");
            problems.add(text.span(), message, instead.unwrap_or_default());
        } else if !addresses.insert(address.to_canonical()) {
            problems.add(text.span(), format!("{address} is in {name} twice"), "");
        } else if addresses.len() == most + 1 {
            problems.add(text.span(), format!("{name} has more than {most} entries"), "");
        }
    }
    addresses
}

fn trusted(root: &Section<'_, '_>, problems: &mut Problems<'_>) -> Vec<IpNet> {
    let mut prefixes: Vec<IpNet> = Vec::new();
    for text in root.strings("trusted", problems) {
        let parsed = text.get_ref().parse::<IpNet>();
        let Ok(prefix) = parsed.or_else(|_| text.get_ref().parse::<IpAddr>().map(IpNet::from)) else {
            let message = format!(
                "{:?} in trusted is neither a prefix nor an address",
                text.get_ref()
            );
            let hint = "what the balancers' [tunnel] has as source: \"192.0.2.64/26\"";
            problems.add(text.span(), message, hint);
            continue;
        };
        if prefix.prefix_len() == 0 {
            let message = format!("{prefix} trusts everybody");
            let hint = "anybody could send packets past the balancers, and past their source checks";
            problems.add(text.span(), message, hint);
        } else if prefixes.len() == MAX_TRUSTED {
            let message = format!("trusted has more than {MAX_TRUSTED} entries");
            problems.add(text.span(), message, "use shorter prefixes");
        }
        prefixes.push(prefix.trunc());
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AgentConfig, Report> {
        parse::parse_as("agent.toml", text, read)
    }

    #[test]
    fn defaults_are_filled_in() {
        let config =
            parse("interface = \"eth0\"\nvips = [\"192.0.2.101\"]\ntrusted = [\"192.0.2.77/26\"]\n").unwrap();
        assert_eq!(config.forward, Forward::Gue);
        assert_eq!((config.gue_port, config.mtu), (6080, 1500));
        assert_eq!(config.trusted, ["192.0.2.64/26".parse().unwrap()]);
        assert_eq!(config.pin_dir, Path::new("/sys/fs/bpf/foobar-agent"));
    }

    #[test]
    fn an_address_is_a_prefix_of_one() {
        let config = parse(
            "interface = \"eth0\"\nvips = [\"2001:db8::101\"]\ntrusted = [\"192.0.2.11\", \"2001:db8::11\"]\n",
        )
        .unwrap();
        let prefixes: Vec<String> = config.trusted.iter().map(ToString::to_string).collect();
        assert_eq!(prefixes, ["192.0.2.11/32", "2001:db8::11/128"]);
    }

    #[test]
    fn everything_that_is_wrong_is_told_with_its_place() {
        let report = parse(
            "vips = [\"192.0.2.101\", \"192.0.2.101\", \"web\"]\ntrusted = [\"0.0.0.0/0\", \"x\"]\nforward = \"gre\"\nmtu = 100\nvip = 1\n",
        )
        .unwrap_err();
        let told: Vec<(usize, &str)> = report
            .errors()
            .iter()
            .map(|error| (error.place.unwrap().line, error.message.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (1, "`interface` is missing"),
                (1, "192.0.2.101 is in vips twice"),
                (1, "\"web\" in vips is not an IP address"),
                (2, "0.0.0.0/0 trusts everybody"),
                (2, "\"x\" in trusted is neither a prefix nor an address"),
                (3, "forward cannot be \"gre\""),
                (4, "mtu is out of range: 100"),
                (5, "unknown key `vip`"),
            ]
        );
    }

    #[test]
    fn a_tunnel_needs_to_trust_somebody() {
        let text = "interface = \"eth0\"\nvips = [\"192.0.2.101\"]\n";
        let report = parse(text).unwrap_err();
        assert_eq!(report.errors()[0].message, "`trusted` is missing");
        parse(&format!("{text}forward = \"l2\"\n")).unwrap();
    }
}
