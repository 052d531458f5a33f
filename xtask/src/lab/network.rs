//! The lab's network: a namespace a host, one for the bridges, veth pairs in between.
//!
//! Everything is inside the run's own namespaces, and the machine's own network sees none of it. Removing
//! a namespace removes all that is in it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::configs;
use super::topology::{Host, Interface, Run, Segment, Shape, VIPS, Vip};
use crate::exec;

/// What `ip netns exec` binds over the machine's own resolv.conf and hosts file.
const NETNS_FILES: &str = "/etc/netns";

/// Kernel settings of every host; the numbers are the kernel's own codes.
const SYSCTLS: [(&str, &str); 6] = [
    ("ipv4/ip_forward", "0"),
    // Answer ARP only for an address of the interface that was asked, and never announce another's: a
    // web server's VIPs on lo and its inner address stay out of the edge.
    ("ipv4/conf/all/arp_ignore", "1"),
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    // Only the edge has IPv6: elsewhere link-local addresses would be a path that no rule looks at.
    ("ipv6/conf/all/disable_ipv6", "1"),
];

/// IPv6 of an interface on the edge, before it comes up: no router is looked for, no address is doubted. Its
/// link-local address stays, for a web server answers from a VIP on lo, and Linux asks for the client's MAC with
/// no source that is not the interface's own.
const EDGE_SYSCTLS: [(&str, &str); 4] = [
    ("accept_ra", "0"),
    ("router_solicitations", "0"),
    ("accept_dad", "0"),
    ("disable_ipv6", "0"),
];

/// Makes the namespace with the three bridges, unless it is there.
pub(crate) fn create_fabric(run: &Run) -> Result<()> {
    let fabric = run.fabric();
    if exists(&fabric) {
        return Ok(());
    }
    add_namespace(&fabric)?;
    for segment in Segment::ALL {
        let bridge = segment.to_string();
        ip(&[
            "-n",
            &fabric,
            "link",
            "add",
            &bridge,
            "type",
            "bridge",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ])?;
        ip(&["-n", &fabric, "link", "set", &bridge, "up"])?;
    }
    Ok(())
}

/// Makes a host's namespace with its links, addresses, filter and name resolution, unless it is there.
pub(crate) fn create_host(run: &Run, host: Host, shape: Shape, pass: &Path) -> Result<()> {
    let namespace = run.namespace(host);
    write_name_files(run, host, shape)?;
    if exists(&namespace) {
        return Ok(());
    }
    add_namespace(&namespace)?;
    for interface in host.interfaces() {
        plug(run, host, &interface, pass)
            .with_context(|| format!("cannot connect {host} to {}", interface.segment))?;
    }
    if matches!(host, Host::Web(_)) {
        for address in VIPS.iter().flat_map(Vip::addresses) {
            // One host's, of whatever family; no IPv6 address is tentative, not even for a moment.
            let (whole, settled) = if address.is_ipv4() {
                (32, None)
            } else {
                (128, Some("nodad"))
            };
            let address = format!("{address}/{whole}");
            let words = ["-n", &namespace, "addr", "add", &address, "dev", "lo"];
            ip(&words.into_iter().chain(settled).collect::<Vec<_>>())?;
        }
    }
    let mut nft = in_namespace(&namespace);
    exec::filter(nft.args(["nft", "-f", "-"]), &configs::packet_filter(host)).map(drop)
}

fn plug(run: &Run, host: Host, interface: &Interface, pass: &Path) -> Result<()> {
    let (namespace, fabric) = (run.namespace(host), run.fabric());
    let (name, port) = (interface.name, interface.port.as_str());
    ip(&[
        "-n",
        &namespace,
        "link",
        "add",
        name,
        "address",
        &interface.mac(),
        "type",
        "veth",
        "peer",
        "name",
        port,
        "netns",
        &fabric,
    ])?;
    ip(&[
        "-n",
        &fabric,
        "link",
        "set",
        port,
        "master",
        &interface.segment.to_string(),
        "up",
    ])?;
    ip(&[
        "-n",
        &namespace,
        "addr",
        "add",
        &format!("{}/24", interface.address),
        "dev",
        name,
    ])?;
    if let Some(address) = interface.ipv6 {
        let keys = EDGE_SYSCTLS.map(|(key, value)| (format!("ipv6/conf/{name}/{key}"), value));
        let mut settings: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        settings.push(("ipv6/conf/lo/disable_ipv6", "0"));
        set(&namespace, &settings)?;
        let address = format!("{address}/64");
        ip(&["-n", &namespace, "addr", "add", &address, "dev", name, "nodad"])?;
    }
    ip(&["-n", &namespace, "link", "set", name, "up"])?;
    // Over veth an offloaded checksum stays partial, and a program that rewrites packets would pass it on.
    for (namespace, device) in [(&namespace, name), (&fabric, port)] {
        exec::output(in_namespace(namespace).args(["ethtool", "-K", device, "tx", "off"]))?;
    }
    if matches!(host, Host::Lb(_)) {
        // What XDP transmits on a veth arrives only if the other end has an XDP program too: without settings the
        // agent passes everything.
        let object = pass.to_string_lossy();
        ip(&[
            "-n",
            &fabric,
            "link",
            "set",
            "dev",
            port,
            "xdpdrv",
            "obj",
            &object,
            "sec",
            "xdp.frags",
        ])?;
    }
    Ok(())
}

fn add_namespace(namespace: &str) -> Result<()> {
    ip(&["netns", "add", namespace])?;
    ip(&["-n", namespace, "link", "set", "lo", "up"])?;
    set(namespace, &SYSCTLS)
}

/// Sets kernel settings below /proc/sys/net; one that the kernel does not have is left out.
fn set(namespace: &str, settings: &[(&str, &str)]) -> Result<()> {
    let lines: String = settings
        .iter()
        .map(|(key, value)| format!("[ ! -e /proc/sys/net/{key} ] || echo {value} > /proc/sys/net/{key}\n"))
        .collect();
    exec::output(in_namespace(namespace).args(["sh", "-ec", &lines])).map(drop)
}

/// Writes the host's resolv.conf and hosts file; a running lab's are replaced when its shape changes.
fn write_name_files(run: &Run, host: Host, shape: Shape) -> Result<()> {
    let dir = Path::new(NETNS_FILES).join(run.namespace(host));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let server = Host::Dns
        .address(Segment::Edge)
        .context("the name server has no address")?;
    // Written in place: processes that run have these very files bound over their own.
    fs::write(
        dir.join("resolv.conf"),
        format!("nameserver {server}\noptions timeout:1 attempts:2\n"),
    )?;
    fs::write(dir.join("hosts"), configs::hosts_file(host, shape))?;
    Ok(())
}

/// Removes one host.
pub(crate) fn remove_host(run: &Run, host: Host) -> Result<()> {
    remove_namespace(&run.namespace(host))
}

/// Removes all of the run's namespaces and their name files.
pub(crate) fn remove_all(run: &Run) -> Result<()> {
    for namespace in namespaces(run) {
        remove_namespace(&namespace)?;
    }
    for entry in fs::read_dir(NETNS_FILES).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&run.prefix()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    // The directory is nobody else's if it is empty.
    drop(fs::remove_dir(NETNS_FILES));
    Ok(())
}

fn remove_namespace(namespace: &str) -> Result<()> {
    if exists(namespace) {
        ip(&["netns", "delete", namespace])?;
    }
    match fs::remove_dir_all(Path::new(NETNS_FILES).join(namespace)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The names of the run's namespaces that are there.
pub(crate) fn namespaces(run: &Run) -> Vec<String> {
    let entries = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&run.prefix()))
        .collect()
}

/// The processes inside a namespace: the lab's own, and what somebody started there by `exec`.
pub(crate) fn processes_in(namespace: &str) -> Vec<i32> {
    let list = exec::output(Command::new("ip").args(["netns", "pids", namespace])).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Whether the host's namespace is there.
pub(crate) fn has_host(run: &Run, host: Host) -> bool {
    exists(&run.namespace(host))
}

fn exists(namespace: &str) -> bool {
    path(namespace).exists()
}

/// The file that stands for a namespace.
pub(crate) fn path(namespace: &str) -> PathBuf {
    Path::new("/run/netns").join(namespace)
}

/// A command that runs the rest of its words inside a namespace, with its name files in place.
pub(crate) fn in_namespace(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command
}

fn ip(words: &[&str]) -> Result<()> {
    exec::output(Command::new("ip").args(words)).map(drop)
}

/// Mounts a bpffs of the run's own: `ip netns exec` hides the machine's.
pub(crate) fn mount_bpffs(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    if is_mounted(directory) {
        return Ok(());
    }
    exec::output(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(directory)).map(drop)
}

/// Takes away a mount, if it is one; pinned programs and maps go with it.
pub(crate) fn unmount(directory: &Path) -> Result<()> {
    if !is_mounted(directory) {
        return Ok(());
    }
    exec::output(Command::new("umount").arg(directory)).map(drop)
}

fn is_mounted(directory: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .any(|mount| Path::new(mount) == directory)
}
