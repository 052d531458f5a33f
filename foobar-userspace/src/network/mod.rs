//! The kernel's network as balancer and agent need it: interfaces, next hops, the route of health checks,
//! announcements, groups, a backend's addresses and routes. Relies on netlink (`rtnetlink`) and packet sockets.
//!
//! The only module that names netlink. It knows nothing of eBPF, VIPs' services or health: addresses, MACs
//! and interface indices come in and go out.

use std::io;

mod advertisement;
mod announce;
mod backend;
mod canary_pair;
mod check_route;
mod groups;
mod interface;
mod neighbours;
mod next_hops;
mod resolver;
mod sysctl;
#[cfg(test)]
mod testnet;
#[cfg(test)]
mod tests;

pub use advertisement::neighbour_advertisement;
pub use announce::{Announcer, arp_announcement};
pub use backend::{
    RouteOut, add_loopback_address, loopback_addresses, remove_loopback_address, routes_out, set_advmss,
};
pub use canary_pair::{CANARY_FAR, CANARY_NEAR, CanaryPair};
pub use check_route::{
    CANARY_TABLE, CHECK_GATEWAY_MAC, CHECK_GATEWAY_V4, CHECK_GATEWAY_V6, CHECK_TABLE, CheckMark, CheckRoute,
    MarkedWay,
};
pub use groups::{SolicitedNodes, solicited_node};
pub use interface::{
    Interface, NicCounters, OperationalState, XdpMode, local_macs, lookup, nic_counters, watch, xdp_mode,
};
pub use next_hops::{NextHop, NextHopEvent, Resolution};
pub use resolver::{Resolver, ResolverHandle};
pub use sysctl::{set_setting, setting, warnings};

use rtnetlink::packet_route::route::RouteProtocol;

/// An Ethernet hardware address, in the order of transmission.
pub type MacAddress = [u8; 6];

/// The routing protocol number that marks every route, rule and neighbour made here (`proto 251` in the
/// output of `ip`): what a killed daemon left is recognised by it, and nothing else is ever removed.
pub const PROTOCOL: u8 = 251;

fn protocol() -> RouteProtocol {
    RouteProtocol::Other(PROTOCOL)
}

/// Why the kernel's network could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no interface of this name in this network namespace.
    #[error("there is no interface named {0}")]
    NoInterface(String),
    /// The interface has no 6-byte hardware address.
    #[error("interface {0} is not an Ethernet interface")]
    NotEthernet(String),
    /// A table or rule that this daemon reserves is used by something else.
    #[error("{0}")]
    InUse(String),
    /// The kernel refused a request.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was tried, as the end of a sentence that begins with "cannot".
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl NetworkError {
    fn kernel(what: impl Into<String>, source: io::Error) -> Self {
        Self::Kernel {
            what: what.into(),
            source,
        }
    }

    fn netlink(what: impl Into<String>, error: rtnetlink::Error) -> Self {
        Self::kernel(what, into_io(error))
    }
}

/// The errno of a refused request, where there is one.
fn into_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}

/// A connection for requests; its task ends when the last copy of the handle is dropped.
fn connect() -> Result<rtnetlink::Handle, NetworkError> {
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|error| NetworkError::kernel("open a netlink socket", error))?;
    tokio::spawn(connection);
    Ok(handle)
}
