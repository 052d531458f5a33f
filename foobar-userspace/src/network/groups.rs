//! Membership in the solicited-node groups of IPv6 VIPs: where a switch snoops MLD, neighbour solicitations
//! for a VIP reach only ports that have reported its group. Relies on a socket: its memberships have the kernel
//! send the reports, answer queries, and let the group's frames pass the NIC's filter. Knows nothing of who owns
//! what; the groups are left when this is dropped, or with the process.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use socket2::{Domain, Socket, Type};

use super::NetworkError;

/// The group that solicitations for an address are sent to (RFC 4291 section 2.7.1). Addresses with the same
/// last 24 bits share one.
#[must_use]
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The groups that one interface is a member of on behalf of VIPs.
#[derive(Debug, Default)]
pub struct SolicitedNodes {
    ifindex: u32,
    /// As many as the groups need: none on a host without IPv6 VIPs, and mostly one, but a socket's memberships
    /// are bounded by net.core.optmem_max.
    sockets: Vec<Socket>,
    /// Each group with the position of its socket.
    joined: BTreeMap<Ipv6Addr, usize>,
}

impl SolicitedNodes {
    /// Brings the membership to the groups of these addresses on this interface; IPv4 ones have none. What is
    /// right already stays as it is. Needs no privilege.
    ///
    /// # Errors
    /// The first group that could not be joined; the others are.
    pub fn set(&mut self, ifindex: u32, addresses: &BTreeSet<IpAddr>) -> Result<(), NetworkError> {
        let wanted: BTreeSet<Ipv6Addr> = addresses
            .iter()
            .filter_map(|address| match address {
                IpAddr::V6(address) => Some(solicited_node(*address)),
                IpAddr::V4(_) => None,
            })
            .collect();
        if ifindex != self.ifindex || wanted.is_empty() {
            // Closing the sockets leaves all groups, also those of an interface that is gone.
            *self = Self {
                ifindex,
                ..Self::default()
            };
        }
        let mut failed = Ok(());
        for group in &wanted {
            if self.joined.contains_key(group) {
                continue;
            }
            match self.join(group) {
                Ok(socket) => {
                    self.joined.insert(*group, socket);
                }
                Err(error) if failed.is_ok() => {
                    failed = Err(NetworkError::kernel(format!("join the group {group}"), error));
                }
                Err(_) => {}
            }
        }
        let Self { sockets, joined, .. } = self;
        joined.retain(|group, socket| {
            let stays = wanted.contains(group);
            if !stays && let Some(socket) = sockets.get(*socket) {
                // One that the kernel has forgotten is left.
                drop(socket.leave_multicast_v6(group, ifindex));
            }
            stays
        });
        failed
    }

    /// Joins by the last socket, or by a new one where there is none or it has no room; says which.
    fn join(&mut self, group: &Ipv6Addr) -> io::Result<usize> {
        if let Some(last) = self.sockets.last() {
            match last.join_multicast_v6(group, self.ifindex) {
                Err(error) if [Some(libc::ENOMEM), Some(libc::ENOBUFS)].contains(&error.raw_os_error()) => {}
                joined => return joined.map(|()| self.sockets.len() - 1),
            }
        }
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
        socket.join_multicast_v6(group, self.ifindex)?;
        self.sockets.push(socket);
        Ok(self.sockets.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_has_the_last_24_bits_of_the_address() {
        let group = |address: &str| solicited_node(address.parse().unwrap()).to_string();
        // The example of RFC 4291.
        assert_eq!(group("4037::01:800:200e:8c6c"), "ff02::1:ff0e:8c6c");
        assert_eq!(group("2001:db8:0:1::101"), "ff02::1:ff00:101");
        assert_eq!(group("2001:db8:f::101"), "ff02::1:ff00:101");
    }
}
