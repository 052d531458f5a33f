//! Kernel settings: those that harm a balancer, told in sentences for a person, and any single one to read or to
//! write. Relies on /proc/sys as the current thread's network namespace shows it.

use std::fs;
use std::path::Path;

use super::NetworkError;

const NET: &str = "/proc/sys/net";

/// A setting's value, by its path below /proc/sys/net (`ipv4/conf/all/arp_ignore`); `None` where there is no
/// such setting.
#[must_use]
pub fn setting(path: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(NET).join(path)).ok()?;
    Some(text.trim().to_owned())
}

/// Writes a setting.
///
/// # Errors
/// There is none, or it can't be written.
pub fn set_setting(path: &str, value: &str) -> Result<(), NetworkError> {
    fs::write(Path::new(NET).join(path), value)
        .map_err(|error| NetworkError::kernel(format!("set net/{path} to {value}"), error))
}

/// Warnings about the host's settings for balancing on `interface`; empty where all is well. A setting that
/// cannot be read (IPv6 switched off, say) is no warning.
#[must_use]
pub fn warnings(interface: &str) -> Vec<String> {
    warnings_under(Path::new(NET), interface)
}

fn warnings_under(root: &Path, interface: &str) -> Vec<String> {
    let read =
        |setting: &str| -> Option<u32> { fs::read_to_string(root.join(setting)).ok()?.trim().parse().ok() };
    let mut warnings = Vec::new();
    let forwards = |family: &str| read(&format!("{family}/conf/{interface}/forwarding")) == Some(1);
    for family in ["ipv4", "ipv6"] {
        if forwards(family) {
            warnings.push(format!(
                "{} forwarding is on for {interface}: a packet that the data plane leaves to the kernel may be routed \
                 on; switch it off with sysctl net.{family}.conf.{interface}.forwarding=0 unless this host is a router",
                if family == "ipv4" { "IPv4" } else { "IPv6" },
            ));
        }
    }
    // The kernel uses the stricter of the two (Documentation/networking/ip-sysctl: the maximum value of both).
    let filter = ["all", interface].map(|scope| read(&format!("ipv4/conf/{scope}/rp_filter")).unwrap_or(0));
    if filter.into_iter().max() == Some(STRICT) {
        warnings.push(format!(
            "rp_filter is strict on {interface}: health checks of a VIP work only while this host's own route to the \
             VIP leads through {interface}; sysctl net.ipv4.conf.{interface}.rp_filter=2 lifts that",
        ));
    }
    warnings
}

/// `rp_filter`: a source is accepted only on the interface that its route names (2 would be loose, 0 none).
const STRICT: u32 = 1;
