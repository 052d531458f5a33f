//! The ways to other backends, without a socket: which addresses are to be resolved, and what of the answers the
//! data plane has to know.
//!
//! A backend behind a gateway is reached by the gateway's MAC. A way that is in doubt goes on being used: who
//! gets a packet by mistake passes it on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use crate::network::{NextHop, Resolution};

/// Backends that packets named are remembered up to this number; who was asked for longest ago goes first.
const MOST_WANTED: usize = 1_024;

/// Backends, and what is known of the ways to them.
#[derive(Debug, Default)]
pub(super) struct Hops {
    peers: BTreeSet<IpAddr>,
    wanted: BTreeMap<IpAddr, Instant>,
    resolutions: BTreeMap<IpAddr, Resolution>,
    /// What the data plane was told.
    told: BTreeMap<IpAddr, Option<NextHop>>,
}

/// What the data plane has to be told about a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The backend.
    pub(super) address: IpAddr,
    /// The way to it; `None`: there is none.
    pub(super) hop: Option<NextHop>,
}

impl Hops {
    /// Sets the backends of the configuration.
    pub(super) fn set_peers(&mut self, peers: BTreeSet<IpAddr>) {
        self.peers = peers;
    }

    /// Packets were to go to these backends.
    pub(super) fn want(&mut self, addresses: impl IntoIterator<Item = IpAddr>, now: Instant) {
        for address in addresses {
            self.wanted.insert(address, now);
        }
        while self.wanted.len() > MOST_WANTED {
            let oldest = self.wanted.iter().min_by_key(|(_, asked)| **asked);
            let Some(address) = oldest.map(|(address, _)| *address) else {
                break;
            };
            self.wanted.remove(&address);
        }
    }

    /// All backends.
    pub(super) fn backends(&self) -> BTreeSet<IpAddr> {
        self.peers.iter().chain(self.wanted.keys()).copied().collect()
    }

    /// The addresses that are to be resolved: backends, and the gateways to them.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        let backends = self.backends();
        let gateways = backends
            .iter()
            .filter_map(|backend| match self.resolutions.get(backend) {
                Some(Resolution::NotOnLink { gateway }) => Some(*gateway),
                _ => None,
            });
        let gateways: Vec<IpAddr> = gateways.collect();
        backends.into_iter().chain(gateways).collect()
    }

    /// What the network says of an address.
    pub(super) fn resolved(&mut self, address: IpAddr, resolution: Resolution) {
        self.resolutions.insert(address, resolution);
    }

    /// What the data plane does not know yet; it is taken to know it then.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let backends = self.backends();
        let gone: Vec<IpAddr> = self
            .told
            .keys()
            .filter(|address| !backends.contains(address))
            .copied()
            .collect();
        let mut changes = Vec::new();
        for address in gone {
            self.told.remove(&address);
            self.resolutions.remove(&address);
            changes.push(Change { address, hop: None });
        }
        for address in backends {
            let Some(hop) = self.way(address) else { continue };
            if self.told.get(&address) != Some(&hop) {
                self.told.insert(address, hop);
                changes.push(Change { address, hop });
            }
        }
        changes
    }

    /// The way to a backend, or that there is none; `None` while that is not known.
    fn way(&self, backend: IpAddr) -> Option<Option<NextHop>> {
        let by = match self.resolutions.get(&backend)? {
            Resolution::NotOnLink { gateway } => self.resolutions.get(gateway)?,
            other => other,
        };
        match by {
            Resolution::Resolved(hop) => Some(Some(*hop)),
            Resolution::Unresolved { .. } => None,
            // A gateway behind a gateway is none of ours.
            Resolution::NotOnLink { .. } | Resolution::NoRoute | Resolution::Balancer => Some(None),
        }
    }

    /// The backends and what the data plane was told of each.
    pub(super) fn told(&self) -> impl Iterator<Item = (IpAddr, Option<NextHop>)> + '_ {
        self.backends()
            .into_iter()
            .map(|address| (address, self.told.get(&address).copied().flatten()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    const fn hop(last: u8) -> NextHop {
        NextHop {
            destination_mac: [2, 0, 0, 0, 0, last],
            source_mac: [2, 0, 0, 0, 0, 1],
            ifindex: 3,
        }
    }

    fn unresolved() -> Resolution {
        Resolution::Unresolved {
            since: Instant::now(),
            failed: true,
        }
    }

    #[test]
    fn a_way_in_doubt_goes_on_being_used() {
        let mut hops = Hops::default();
        hops.set_peers([address(21)].into());
        assert_eq!(hops.changes(), [], "nothing is known yet");
        hops.resolved(address(21), Resolution::Resolved(hop(21)));
        let change = |hop| Change {
            address: address(21),
            hop,
        };
        assert_eq!(hops.changes(), [change(Some(hop(21)))]);
        hops.resolved(address(21), unresolved());
        assert_eq!(hops.changes(), []);
        hops.resolved(address(21), Resolution::Resolved(hop(22)));
        assert_eq!(hops.changes(), [change(Some(hop(22)))]);
        hops.resolved(address(21), Resolution::NoRoute);
        assert_eq!(hops.changes(), [change(None)]);
    }

    #[test]
    fn a_backend_behind_a_gateway_is_reached_by_its_mac() {
        let mut hops = Hops::default();
        hops.want([IpAddr::from([198, 51, 100, 7])], Instant::now());
        let gateway = address(1);
        hops.resolved([198, 51, 100, 7].into(), Resolution::NotOnLink { gateway });
        assert!(hops.addresses().contains(&gateway));
        assert_eq!(hops.changes(), []);
        hops.resolved(gateway, Resolution::Resolved(hop(1)));
        let changes = hops.changes();
        assert_eq!(
            (changes.len(), changes[0].address, changes[0].hop),
            (1, IpAddr::from([198, 51, 100, 7]), Some(hop(1)))
        );
    }

    #[test]
    fn what_nobody_names_any_more_goes() {
        let mut hops = Hops::default();
        hops.set_peers([address(21), address(22)].into());
        for last in [21, 22] {
            hops.resolved(address(last), Resolution::Resolved(hop(last)));
        }
        hops.changes();
        hops.set_peers([address(22)].into());
        let gone = Change {
            address: address(21),
            hop: None,
        };
        assert_eq!(hops.changes(), [gone]);
    }

    #[test]
    fn those_asked_for_longest_ago_are_forgotten() {
        let mut hops = Hops::default();
        let start = Instant::now();
        for nth in 0..=MOST_WANTED as u32 {
            let at = start + Duration::from_secs(u64::from(nth));
            hops.want([IpAddr::from((0xc633_6400 + nth).to_be_bytes())], at);
        }
        let backends = hops.backends();
        assert_eq!(backends.len(), MOST_WANTED);
        assert!(!backends.contains(&IpAddr::from([198, 51, 100, 0])));
    }
}
