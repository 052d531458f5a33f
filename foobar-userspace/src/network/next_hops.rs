//! Where each backend is on the segment: the pure half of the resolver. Routes, neighbours and links come in
//! as values; what changed comes out as events. Knows no socket and no clock: times are passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::MacAddress;

/// What the data plane writes into a packet to reach a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NextHop {
    /// The backend's hardware address.
    pub destination_mac: MacAddress,
    /// The hardware address of the interface that the packet leaves by.
    pub source_mac: MacAddress,
    /// That interface's index.
    pub ifindex: u32,
}

/// What is known of the way to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It is on-link and answers ARP or neighbour discovery.
    Resolved(NextHop),
    /// Its route has a gateway: direct server return needs it on the same segment.
    NotOnLink {
        /// The gateway.
        gateway: IpAddr,
    },
    /// This host has no route to it, or one that refuses packets.
    NoRoute,
    /// It is this host's own address, or resolves to the MAC of this host or of another balancer.
    Balancer,
    /// It is on-link, but its MAC is not known.
    Unresolved {
        /// Since when.
        since: Instant,
        /// Whether the kernel has asked in vain since then, rather than only begun to ask.
        failed: bool,
    },
}

/// A change of the way to one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextHopEvent {
    /// The backend.
    pub address: IpAddr,
    /// What holds from now on.
    pub state: Resolution,
}

/// What the routing table says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Path {
    /// Delivered by the interface of this index, without a gateway.
    OnLink(u32),
    /// By way of a gateway.
    Gateway(IpAddr),
    /// An address of this host.
    Local,
    /// None.
    NoRoute,
}

/// What the neighbour table says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// A usable MAC, whether or not it was confirmed just now.
    Known(MacAddress),
    /// Nobody has answered yet.
    Asking,
    /// Nobody answered.
    Failed,
}

#[derive(Debug, Default)]
struct Backend {
    path: Option<Path>,
    neighbour: Option<Neighbour>,
    /// When the neighbour was last lost or first looked for, and whether asking has failed since.
    unresolved: Option<(Instant, bool)>,
    reported: Option<Resolution>,
}

/// The set of backends and what is known of each.
#[derive(Debug, Default)]
pub(super) struct Book {
    backends: BTreeMap<IpAddr, Backend>,
    links: BTreeMap<u32, MacAddress>,
    refused: BTreeSet<MacAddress>,
}

impl Book {
    /// A book that refuses next hops with these MACs besides the host's own.
    pub(super) fn new(refused: BTreeSet<MacAddress>) -> Self {
        Self {
            refused,
            ..Self::default()
        }
    }

    /// Replaces the set; what stays keeps its state. Returns the added and the removed addresses, the latter
    /// with the interface that they were on.
    pub(super) fn set(&mut self, wanted: &BTreeSet<IpAddr>) -> (Vec<IpAddr>, Vec<(u32, IpAddr)>) {
        let mut removed = Vec::new();
        self.backends.retain(|address, backend| {
            let stays = wanted.contains(address);
            if let (false, Some(Path::OnLink(ifindex))) = (stays, backend.path) {
                removed.push((ifindex, *address));
            }
            stays
        });
        let added: Vec<_> = wanted
            .iter()
            .filter(|address| !self.backends.contains_key(address))
            .copied()
            .collect();
        self.backends
            .extend(added.iter().map(|address| (*address, Backend::default())));
        (added, removed)
    }

    /// Every address, in order.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.backends.keys().copied().collect()
    }

    /// The on-link addresses with their interface and what is known of the neighbour.
    pub(super) fn on_link(&self) -> impl Iterator<Item = (u32, IpAddr, Option<Neighbour>)> + '_ {
        self.backends
            .iter()
            .filter_map(|(address, backend)| match backend.path {
                Some(Path::OnLink(ifindex)) => Some((ifindex, *address, backend.neighbour)),
                _ => None,
            })
    }

    /// Replaces what is known of the interfaces: index and MAC of every Ethernet interface.
    pub(super) fn links(&mut self, links: BTreeMap<u32, MacAddress>) {
        self.links = links;
    }

    /// Notes the path to an address. Returns the interface that it was on, where it is there no longer.
    pub(super) fn path(&mut self, address: IpAddr, path: Path) -> Option<u32> {
        let backend = self.backends.get_mut(&address)?;
        let before = backend.path.replace(path);
        if before == Some(path) {
            return None;
        }
        backend.neighbour = None;
        match before {
            Some(Path::OnLink(ifindex)) => Some(ifindex),
            _ => None,
        }
    }

    /// Notes a neighbour; `None` when its entry is gone. Returns whether it concerns a backend.
    pub(super) fn neighbour(&mut self, ifindex: u32, address: IpAddr, neighbour: Option<Neighbour>) -> bool {
        match self.backends.get_mut(&address) {
            Some(backend) if backend.path == Some(Path::OnLink(ifindex)) => {
                backend.neighbour = neighbour;
                true
            }
            _ => false,
        }
    }

    /// What has changed since the last call.
    pub(super) fn changes(&mut self, now: Instant) -> Vec<NextHopEvent> {
        let mut events = Vec::new();
        for (address, backend) in &mut self.backends {
            let Some(path) = backend.path else { continue };
            let state = match path {
                Path::Gateway(gateway) => Resolution::NotOnLink { gateway },
                Path::NoRoute => Resolution::NoRoute,
                Path::Local => Resolution::Balancer,
                Path::OnLink(ifindex) => match (backend.neighbour, self.links.get(&ifindex)) {
                    (Some(Neighbour::Known(mac)), _)
                        if self.refused.contains(&mac) || self.links.values().any(|own| *own == mac) =>
                    {
                        Resolution::Balancer
                    }
                    (Some(Neighbour::Known(destination_mac)), Some(source_mac)) => {
                        Resolution::Resolved(NextHop {
                            destination_mac,
                            source_mac: *source_mac,
                            ifindex,
                        })
                    }
                    (neighbour, _) => {
                        let (since, failed) = backend.unresolved.unwrap_or((now, false));
                        // The kernel alternates between asking and failed; having failed once is what counts.
                        let failed = failed || neighbour == Some(Neighbour::Failed);
                        Resolution::Unresolved { since, failed }
                    }
                },
            };
            backend.unresolved = match state {
                Resolution::Unresolved { since, failed } => Some((since, failed)),
                _ => None,
            };
            if backend.reported != Some(state) {
                backend.reported = Some(state);
                events.push(NextHopEvent {
                    address: *address,
                    state,
                });
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LB: MacAddress = [2, 0, 0, 0, 0, 1];
    const PEER_LB: MacAddress = [2, 0, 0, 0, 0, 2];
    const WEB: MacAddress = [2, 0, 0, 0, 0, 0x21];

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn book(addresses: &[u8]) -> Book {
        let mut book = Book::new(BTreeSet::from([PEER_LB]));
        book.links(BTreeMap::from([(3, LB)]));
        book.set(&addresses.iter().map(|last| address(*last)).collect());
        book
    }

    fn states(book: &mut Book, now: Instant) -> Vec<Resolution> {
        book.changes(now).into_iter().map(|event| event.state).collect()
    }

    #[test]
    fn a_set_is_applied_by_difference() {
        let mut book = book(&[21, 22]);
        book.path(address(21), Path::OnLink(3));
        book.path(address(22), Path::OnLink(3));
        book.neighbour(3, address(22), Some(Neighbour::Known(WEB)));
        book.changes(Instant::now());
        let (added, removed) = book.set(&BTreeSet::from([address(22), address(23)]));
        assert_eq!(added, [address(23)]);
        assert_eq!(removed, [(3, address(21))]);
        assert_eq!(
            book.changes(Instant::now()),
            [],
            "the one that stays is not reported again"
        );
    }

    #[test]
    fn a_neighbour_is_asked_for_fails_and_resolves() {
        let mut book = book(&[21]);
        let start = Instant::now();
        assert_eq!(
            book.changes(start),
            [],
            "nothing is said before the route is known"
        );
        book.path(address(21), Path::OnLink(3));
        assert_eq!(
            states(&mut book, start),
            [Resolution::Unresolved {
                since: start,
                failed: false
            }]
        );
        let later = start + Duration::from_secs(3);
        book.neighbour(3, address(21), Some(Neighbour::Failed));
        assert_eq!(
            states(&mut book, later),
            [Resolution::Unresolved {
                since: start,
                failed: true
            }]
        );
        book.neighbour(3, address(21), Some(Neighbour::Asking));
        assert_eq!(
            states(&mut book, later),
            [],
            "asking again does not take the failure back"
        );
        book.neighbour(3, address(21), Some(Neighbour::Known(WEB)));
        let hop = NextHop {
            destination_mac: WEB,
            source_mac: LB,
            ifindex: 3,
        };
        assert_eq!(states(&mut book, later), [Resolution::Resolved(hop)]);
        book.neighbour(3, address(21), None);
        assert_eq!(
            states(&mut book, later),
            [Resolution::Unresolved {
                since: later,
                failed: false
            }]
        );
    }

    #[test]
    fn a_balancers_mac_is_refused() {
        let mut book = book(&[21, 22, 23]);
        for (last, mac) in [(21, LB), (22, PEER_LB)] {
            book.path(address(last), Path::OnLink(3));
            book.neighbour(3, address(last), Some(Neighbour::Known(mac)));
        }
        book.path(address(23), Path::Local);
        assert_eq!(states(&mut book, Instant::now()), [Resolution::Balancer; 3]);
    }

    #[test]
    fn a_gateway_is_named_and_a_neighbour_on_the_old_path_no_longer_counts() {
        let mut book = book(&[21]);
        let now = Instant::now();
        book.path(address(21), Path::OnLink(3));
        book.neighbour(3, address(21), Some(Neighbour::Known(WEB)));
        book.changes(now);
        assert_eq!(
            book.path(address(21), Path::Gateway(address(1))),
            Some(3),
            "the entry there can be released"
        );
        assert_eq!(
            states(&mut book, now),
            [Resolution::NotOnLink { gateway: address(1) }]
        );
        assert!(!book.neighbour(3, address(21), Some(Neighbour::Known(WEB))));
        book.path(address(21), Path::NoRoute);
        assert_eq!(states(&mut book, now), [Resolution::NoRoute]);
        assert_eq!(book.path(address(21), Path::OnLink(3)), None);
        assert_eq!(
            states(&mut book, now),
            [Resolution::Unresolved {
                since: now,
                failed: false
            }]
        );
    }

    #[test]
    fn a_new_mac_of_the_interface_changes_the_next_hop() {
        let mut book = book(&[21]);
        book.path(address(21), Path::OnLink(3));
        book.neighbour(3, address(21), Some(Neighbour::Known(WEB)));
        book.changes(Instant::now());
        book.links(BTreeMap::from([(3, [2, 0, 0, 0, 0, 9])]));
        let hop = NextHop {
            destination_mac: WEB,
            source_mac: [2, 0, 0, 0, 0, 9],
            ifindex: 3,
        };
        assert_eq!(states(&mut book, Instant::now()), [Resolution::Resolved(hop)]);
    }
}
