//! The programs that the lab and the tests call, each with what it is for and the package that brings it.
//!
//! The database comes from the `-core` packages: they hold the programs without a service, so that there
//! is nothing to start or to enable.

use std::fmt;

use crate::exec;

/// A program that must be there.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    /// Debian's (and Ubuntu's) package.
    pub(crate) package: &'static str,
    pub(crate) purpose: &'static str,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            program,
            package,
            purpose,
        } = self;
        write!(f, "{program} ({purpose}; Debian package {package})")
    }
}

const fn tool(program: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool {
        program,
        package,
        purpose,
    }
}

const TOOLS: [Tool; 24] = [
    tool("ip", "iproute2", "the lab's network"),
    tool("nft", "nftables", "keeps the lab's segments apart"),
    tool("ethtool", "ethtool", "the lab's network"),
    tool("bpftool", "bpftool", "reads the data plane's maps"),
    tool("openssl", "openssl", "the lab's certificates"),
    tool("curl", "curl", "a client of the lab"),
    tool("dig", "bind9-dnsutils", "a client of the lab"),
    tool("ping", "iputils-ping", "a client of the lab"),
    tool("arping", "iputils-arping", "a client of the lab"),
    tool("mariadbd", "mariadb-server-core", "the lab's database"),
    tool("mariadb-install-db", "mariadb-server-core", "the lab's database"),
    tool("mariadb", "mariadb-client-core", "the lab's database"),
    tool("my_print_defaults", "mariadb-client-core", "the lab's database"),
    tool("chromium", "chromium", "the tests' browser"),
    tool("chromedriver", "chromium-driver", "the tests' browser"),
    tool("certutil", "libnss3-tools", "makes the browser trust the lab"),
    tool("unbound", "unbound", "the resolver in tests"),
    tool("tshark", "tshark", "reads packets in tests"),
    tool("keepalived", "keepalived", "the other VRRP router in tests"),
    tool("bird", "bird2", "announces VIPs, and is a router in tests"),
    tool("etcd", "etcd-server", "keeps a fleet's configuration in tests"),
    tool("etcdctl", "etcd-client", "changes it there"),
    tool("haproxy", "haproxy", "the classic pair in tests"),
    // Not among the programs that a shell finds.
    tool("/usr/lib/frr/vrrpd", "frr", "the other VRRP router in tests"),
];

/// The programs that are not there.
pub(super) fn missing() -> impl Iterator<Item = &'static Tool> {
    missing_of(&TOOLS)
}

/// Those of some programs that are not there.
pub(super) fn missing_of(tools: &[Tool]) -> impl Iterator<Item = &Tool> {
    tools
        .iter()
        .filter(|tool| exec::find_program(tool.program).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_of_one_package_stand_together() {
        let mut packages: Vec<_> = TOOLS.iter().map(|tool| tool.package).collect();
        packages.dedup();
        let mut unique = packages.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(
            packages.len(),
            unique.len(),
            "a package would be named twice to apt"
        );
    }
}
