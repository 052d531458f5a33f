//! This module against the real kernel, in network namespaces that each test makes. Needs root.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteMessage;
use tokio::sync::mpsc::Receiver;

use super::neighbours::{self, Entry};
use super::next_hops::Neighbour;
use super::testnet::{Cable, DEADLINE, LB_MAC, WEB_MAC, address, frame_where, on_a_cable};
use super::*;

const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const NEW_MAC: MacAddress = [0x02, 0, 0, 0, 0, 0x99];
const MARK: MarkedWay = MarkedWay::of_checks(CheckMark(0xf00b));

async fn event_where(
    events: &mut Receiver<NextHopEvent>,
    fits: impl Fn(&NextHopEvent) -> bool,
) -> NextHopEvent {
    let wait = async {
        loop {
            let event = events.recv().await.expect("the resolver has ended");
            if fits(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait)
        .await
        .expect("no such event in time")
}

fn resolved(event: &NextHopEvent) -> bool {
    matches!(event.state, Resolution::Resolved(_))
}

fn resolver(backends: &[&str]) -> (ResolverHandle, Receiver<NextHopEvent>) {
    let (handle, events) = Resolver::start(BTreeSet::new()).unwrap();
    handle.set(backends.iter().map(|backend| address(backend)).collect());
    (handle, events)
}

async fn entry(cable: &Cable, of: &str) -> Option<Entry> {
    let entries = neighbours::list(&cable.lb).await.unwrap();
    entries.into_iter().find(|entry| entry.address == address(of))
}

#[test]
fn an_interface_is_described() {
    on_a_cable(async |cable| {
        let interface = lookup("lb0").await.unwrap();
        assert_eq!(
            (interface.index, interface.mac, interface.mtu),
            (cable.lb_index, LB_MAC, 1500)
        );
        assert_eq!(interface.state, OperationalState::Up);
        assert_eq!(interface.driver.as_deref(), Some("veth"));
        assert!(interface.addresses.contains(&"192.0.2.11/24".parse().unwrap()));
        assert!(interface.addresses.contains(&"2001:db8::11/64".parse().unwrap()));
        assert_eq!(
            interface.source_for(address("192.0.2.101")),
            Some(address("192.0.2.11"))
        );
        assert_eq!(
            interface.source_for(address("2001:db8::101")),
            Some(address("2001:db8::11"))
        );
        assert_eq!(local_macs().await.unwrap(), BTreeSet::from([LB_MAC]));
        assert_eq!(nic_counters("lb0").await.unwrap().rx_errors, 0);
        assert!(
            matches!(lookup("nowhere0").await, Err(NetworkError::NoInterface(name)) if name == "nowhere0")
        );
        assert!(matches!(lookup("lo").await, Err(NetworkError::NotEthernet(_))));
    });
}

#[test]
fn an_interface_is_watched_until_it_is_gone() {
    on_a_cable(async |cable| {
        let mut seen = watch("lb0").await.unwrap();
        cable
            .lb
            .address()
            .add(cable.lb_index, address("192.0.2.12"), 24)
            .execute()
            .await
            .unwrap();
        let added = |now: &Option<Interface>| {
            now.as_ref()
                .is_some_and(|now| now.addresses.contains(&"192.0.2.12/24".parse().unwrap()))
        };
        tokio::time::timeout(DEADLINE, seen.wait_for(added))
            .await
            .unwrap()
            .unwrap();
        cable.lb.link().del(cable.lb_index).execute().await.unwrap();
        tokio::time::timeout(DEADLINE, seen.wait_for(Option::is_none))
            .await
            .unwrap()
            .unwrap();
    });
}

#[test]
fn a_backend_is_resolved_kept_so_and_released() {
    on_a_cable(async |cable| {
        for backend in ["192.0.2.21", "2001:db8::21"] {
            let (handle, mut events) = resolver(&[backend]);
            let event = event_where(&mut events, resolved).await;
            let hop = NextHop {
                destination_mac: WEB_MAC,
                source_mac: LB_MAC,
                ifindex: cable.lb_index,
            };
            assert_eq!(
                event,
                NextHopEvent {
                    address: address(backend),
                    state: Resolution::Resolved(hop)
                }
            );
            let kept = entry(&cable, backend).await.unwrap();
            assert!(kept.ours && kept.managed, "{kept:?}");
            handle.stop().await;
            assert_eq!(entry(&cable, backend).await, None);
        }
    });
}

#[test]
fn an_entry_of_somebody_else_is_left_to_them() {
    on_a_cable(async |cable| {
        let theirs = address("192.0.2.21");
        let request = cable
            .lb
            .neighbours()
            .add(cable.lb_index, theirs)
            .link_layer_address(&NEW_MAC);
        request.execute().await.unwrap();
        let before = entry(&cable, "192.0.2.21").await.unwrap();
        let (handle, mut events) = resolver(&["192.0.2.21"]);
        let event = event_where(&mut events, resolved).await;
        assert!(matches!(event.state, Resolution::Resolved(hop) if hop.destination_mac == NEW_MAC));
        handle.stop().await;
        assert_eq!(entry(&cable, "192.0.2.21").await, Some(before));
        assert!(before.fixed);
    });
}

#[test]
fn a_learnt_entry_is_borrowed_and_given_back() {
    on_a_cable(async |cable| {
        // A datagram makes the kernel learn the neighbour by itself.
        let socket = UdpSocket::bind("192.0.2.11:0").unwrap();
        socket.send_to(b"hello", "192.0.2.21:9").unwrap();
        let (handle, mut events) = resolver(&["192.0.2.21"]);
        event_where(&mut events, resolved).await;
        let wait = async {
            while !entry(&cable, "192.0.2.21").await.unwrap().managed {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap();
        assert!(!entry(&cable, "192.0.2.21").await.unwrap().ours);
        handle.stop().await;
        let after = entry(&cable, "192.0.2.21")
            .await
            .expect("it is not ours to remove");
        assert!(!after.managed);
    });
}

#[test]
fn a_new_mac_is_an_event() {
    on_a_cable(async |cable| {
        let (_handle, mut events) = resolver(&["192.0.2.21"]);
        event_where(&mut events, resolved).await;
        cable.change_web_mac(NEW_MAC).await;
        let announcer = cable
            .web_host
            .inside(|| Announcer::open(cable.web_index, NEW_MAC))
            .unwrap();
        // The kernel takes no second MAC within a second of the first (locktime): announce until it does.
        let announce = async {
            loop {
                announcer
                    .announce(&[address("192.0.2.21")], Duration::from_millis(100))
                    .await
                    .unwrap();
            }
        };
        let event = tokio::select! {
            event = event_where(&mut events, resolved) => event,
            () = announce => unreachable!("it never ends"),
        };
        assert!(
            matches!(event.state, Resolution::Resolved(hop) if hop.destination_mac == NEW_MAC),
            "{event:?}"
        );
    });
}

#[test]
fn a_silent_backend_fails_and_is_found_when_it_comes() {
    on_a_cable(async |cable| {
        let (_handle, mut events) = resolver(&["192.0.2.22"]);
        let first = event_where(&mut events, |_| true).await;
        assert!(
            matches!(first.state, Resolution::Unresolved { failed: false, .. }),
            "{first:?}"
        );
        event_where(&mut events, |event| {
            matches!(event.state, Resolution::Unresolved { failed: true, .. })
        })
        .await;
        cable
            .web
            .address()
            .add(cable.web_index, address("192.0.2.22"), 24)
            .execute()
            .await
            .unwrap();
        event_where(&mut events, resolved).await;
    });
}

#[test]
fn routes_are_followed() {
    on_a_cable(async |cable| {
        let gateway = address("192.0.2.1");
        let via: RouteMessage = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(198, 51, 100, 0), 24)
            .gateway(Ipv4Addr::new(192, 0, 2, 1))
            .build();
        let (_handle, mut events) = resolver(&["198.51.100.21"]);
        let state = event_where(&mut events, |_| true).await.state;
        assert_eq!(state, Resolution::NoRoute);
        cable.lb.route().add(via.clone()).execute().await.unwrap();
        let state = event_where(&mut events, |_| true).await.state;
        assert_eq!(state, Resolution::NotOnLink { gateway });
        cable.lb.route().del(via).execute().await.unwrap();
        assert_eq!(
            event_where(&mut events, |_| true).await.state,
            Resolution::NoRoute
        );
        let direct = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(198, 51, 100, 0), 24)
            .output_interface(cable.lb_index)
            .build();
        cable
            .web
            .address()
            .add(cable.web_index, address("198.51.100.21"), 24)
            .execute()
            .await
            .unwrap();
        cable.lb.route().add(direct).execute().await.unwrap();
        event_where(&mut events, resolved).await;
    });
}

#[test]
fn the_balancers_own_addresses_are_refused() {
    on_a_cable(async |cable| {
        let (_handle, mut events) = resolver(&["192.0.2.11"]);
        assert_eq!(
            event_where(&mut events, |_| true).await.state,
            Resolution::Balancer
        );
        let peers = BTreeSet::from([WEB_MAC]);
        let (handle, mut events) = Resolver::start(peers).unwrap();
        handle.set(BTreeSet::from([address("192.0.2.21")]));
        event_where(&mut events, |event| event.state == Resolution::Balancer).await;
        drop(cable);
    });
}

/// A datagram with the daemon's mark for target 7.
fn send_marked(from: IpAddr, to: SocketAddr) {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket2::SockRef::from(&socket)
        .set_mark(MARK.mark.value() | 7)
        .unwrap();
    socket.send_to(b"check", to).unwrap();
}

#[test]
fn marked_packets_leave_by_the_nic_for_the_gateways_mac() {
    on_a_cable(async |cable| {
        for (source, vips, ether_type) in [
            ("192.0.2.11", ["192.0.2.101", "203.0.113.101"], 0x0800),
            ("2001:db8::11", ["2001:db8::101", "2001:db8:f::101"], 0x86dd),
        ] {
            let route = CheckRoute::install(cable.lb_index, address(source), MARK)
                .await
                .unwrap();
            for vip in vips {
                let mut sniffed = cable.sniff(ether_type);
                // Not bound: the source is chosen by the route.
                let any = if source.contains(':') {
                    address("::")
                } else {
                    address("0.0.0.0")
                };
                send_marked(any, SocketAddr::new(address(vip), 443));
                let frame = frame_where(&mut sniffed, |frame| frame.ends_with(b"check"));
                assert_eq!(
                    (&frame[..6], &frame[6..12]),
                    (&CHECK_GATEWAY_MAC[..], &LB_MAC[..]),
                    "{vip}"
                );
                let sender = match ether_type {
                    0x0800 => IpAddr::from(<[u8; 4]>::try_from(&frame[26..30]).unwrap()),
                    _ => IpAddr::from(<[u8; 16]>::try_from(&frame[22..38]).unwrap()),
                };
                assert_eq!(sender, address(source));
            }
            route.remove().await.unwrap();
        }
    });
}

async fn rules(cable: &Cable) -> usize {
    let rules: Vec<_> = cable
        .lb
        .rule()
        .get(rtnetlink::IpVersion::V4)
        .execute()
        .try_collect()
        .await
        .unwrap();
    rules.len()
}

async fn routes(cable: &Cable) -> usize {
    let any = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes: Vec<_> = cable.lb.route().get(any).execute().try_collect().await.unwrap();
    routes.len()
}

#[test]
fn the_check_route_is_adopted_changed_and_removed_without_a_trace() {
    on_a_cable(async |cable| {
        let before = (rules(&cable).await, routes(&cable).await);
        let installed = (before.0 + 1, before.1 + 1);
        let source = address("192.0.2.11");
        // Dropped without removal, as by a daemon that was killed.
        CheckRoute::install(cable.lb_index, source, MarkedWay::of_checks(CheckMark(0x1111)))
            .await
            .unwrap();
        assert_eq!((rules(&cable).await, routes(&cable).await), installed);
        CheckRoute::install(cable.lb_index, source, MARK).await.unwrap();
        CheckRoute::install(cable.lb_index, source, MARK).await.unwrap();
        assert_eq!((rules(&cable).await, routes(&cable).await), installed);
        cable
            .lb
            .address()
            .add(cable.lb_index, address("192.0.2.12"), 24)
            .execute()
            .await
            .unwrap();
        let with_address = routes(&cable).await;
        let route = CheckRoute::install(cable.lb_index, address("192.0.2.12"), MARK)
            .await
            .unwrap();
        assert_eq!(routes(&cable).await, with_address);
        let mut sniffed = cable.sniff(0x0800);
        send_marked(address("0.0.0.0"), SocketAddr::new(address("192.0.2.101"), 443));
        let frame = frame_where(&mut sniffed, |frame| frame.ends_with(b"check"));
        assert_eq!(frame[26..30], [192, 0, 2, 12], "the new source holds");
        route.remove().await.unwrap();
        assert_eq!(
            (rules(&cable).await, routes(&cable).await),
            (before.0, with_address - 1)
        );
        assert_eq!(entry(&cable, "169.254.102.98").await, None);
    });
}

#[test]
fn a_table_of_somebody_else_is_refused() {
    on_a_cable(async |cable| {
        let theirs = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::new(203, 0, 113, 0), 24)
            .output_interface(cable.lb_index)
            .table_id(CHECK_TABLE)
            .build();
        cable.lb.route().add(theirs).execute().await.unwrap();
        let refusal = CheckRoute::install(cable.lb_index, address("192.0.2.11"), MARK)
            .await
            .unwrap_err();
        assert!(matches!(refusal, NetworkError::InUse(_)), "{refusal}");
    });
}

#[test]
fn a_killed_daemons_entries_are_adopted_or_removed() {
    on_a_cable(async |cable| {
        let (killed, mut events) = resolver(&["192.0.2.21", "2001:db8::21"]);
        event_where(&mut events, resolved).await;
        event_where(&mut events, resolved).await;
        drop(killed);
        assert!(entry(&cable, "192.0.2.21").await.unwrap().ours);
        let (handle, mut events) = resolver(&["192.0.2.21"]);
        event_where(&mut events, resolved).await;
        assert_eq!(entry(&cable, "2001:db8::21").await, None);
        handle.set(BTreeSet::from([address("2001:db8::21")]));
        event_where(&mut events, resolved).await;
        assert_eq!(entry(&cable, "192.0.2.21").await, None);
    });
}

#[test]
fn a_resolver_leaves_the_check_gateway_alone() {
    on_a_cable(async |cable| {
        CheckRoute::install(cable.lb_index, address("192.0.2.11"), MARK)
            .await
            .unwrap();
        let (handle, mut events) = resolver(&["192.0.2.21"]);
        event_where(&mut events, resolved).await;
        handle.stop().await;
        assert!(
            entry(&cable, "169.254.102.98")
                .await
                .is_some_and(|entry| entry.fixed)
        );
    });
}

#[test]
fn a_vip_is_announced_three_times_byte_for_byte() {
    on_a_cable(async |cable| {
        let mut sniffed = cable.sniff(ARP);
        let vip = Ipv4Addr::new(192, 0, 2, 101);
        let announcer = Announcer::open(cable.lb_index, LB_MAC).unwrap();
        announcer
            .announce(&[vip.into()], Duration::from_millis(10))
            .await
            .unwrap();
        let expected = arp_announcement(LB_MAC, vip);
        for _ in 0..3 {
            assert_eq!(
                frame_where(&mut sniffed, |frame| frame[28..32] == vip.octets()),
                expected
            );
        }
    });
}

#[test]
fn an_ipv6_vip_is_announced_and_neighbours_take_the_new_mac() {
    on_a_cable(async |cable| {
        let mut sniffed = cable.sniff(IPV6);
        let vip: Ipv6Addr = "2001:db8::101".parse().unwrap();
        // The web server knows the VIP at another balancer.
        let stale = cable
            .web
            .neighbours()
            .add(cable.web_index, vip.into())
            .link_layer_address(&NEW_MAC)
            .state(NeighbourState::Stale);
        stale.execute().await.unwrap();
        let announcer = Announcer::open(cable.lb_index, LB_MAC).unwrap();
        announcer
            .announce(&[vip.into()], Duration::from_millis(10))
            .await
            .unwrap();
        let expected = neighbour_advertisement(LB_MAC, vip);
        for _ in 0..3 {
            assert_eq!(
                frame_where(&mut sniffed, |frame| frame[22..38] == vip.octets()),
                expected
            );
        }
        let known = async || {
            let entries = neighbours::list(&cable.web).await.unwrap();
            let found = entries.into_iter().find(|entry| entry.address == vip);
            found.unwrap().neighbour
        };
        let wait = async {
            while known().await != Neighbour::Known(LB_MAC) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await.unwrap();
    });
}

/// The multicast groups that the kernel has joined on an interface.
fn memberships(interface: &str) -> BTreeSet<Ipv6Addr> {
    let table = std::fs::read_to_string("/proc/thread-self/net/igmp6").unwrap();
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words[1] == interface)
        .map(|words| Ipv6Addr::from(u128::from_str_radix(words[2], 16).unwrap()))
        .collect()
}

/// The multicast MACs that pass an interface's filter.
fn multicast_macs(interface: &str) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev_mcast").unwrap();
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words[1] == interface)
        .map(|words| words[4].to_owned())
        .collect()
}

/// Which of these groups an interface is a member of: those of its own addresses come and go as the kernel
/// likes.
fn joined(interface: &str, groups: &BTreeSet<Ipv6Addr>) -> BTreeSet<Ipv6Addr> {
    memberships(interface).intersection(groups).copied().collect()
}

#[test]
fn more_groups_are_joined_than_one_socket_takes() {
    const VIPS: u128 = 4000;
    on_a_cable(async |cable| {
        let first = u128::from("2001:db8::1000".parse::<Ipv6Addr>().unwrap());
        let all: BTreeSet<Ipv6Addr> = (first..first + VIPS).map(Ipv6Addr::from).collect();
        let half: BTreeSet<Ipv6Addr> = all.iter().copied().step_by(2).collect();
        let nodes =
            |vips: &BTreeSet<Ipv6Addr>| -> BTreeSet<_> { vips.iter().copied().map(solicited_node).collect() };
        let mut groups = SolicitedNodes::default();
        // Every second one is left again, by whichever socket has it.
        for vips in [&all, &half] {
            let addresses = vips.iter().copied().map(IpAddr::from).collect();
            groups.set(cable.lb_index, &addresses).unwrap();
            assert!(joined("lb0", &nodes(&all)) == nodes(vips), "{} VIPs", vips.len());
        }
    });
}

#[test]
fn solicited_node_groups_follow_the_vips_and_are_reported() {
    on_a_cable(async |cable| {
        let mut sniffed = cable.sniff(IPV6);
        let [first, second] =
            ["ff02::1:ff00:101", "ff02::1:ff00:102"].map(|group| group.parse::<Ipv6Addr>().unwrap());
        let both = BTreeSet::from([first, second]);
        let joined = || joined("lb0", &both);
        let mut groups = SolicitedNodes::default();
        let set = |vips: &[&str]| vips.iter().map(|vip| address(vip)).collect::<BTreeSet<_>>();
        groups
            .set(
                cable.lb_index,
                &set(&["192.0.2.101", "2001:db8::101", "2001:db8:f::101"]),
            )
            .unwrap();
        assert_eq!(joined(), BTreeSet::from([first]));
        assert!(multicast_macs("lb0").contains("3333ff000101"));
        // An MLDv2 report (143) that names the group.
        frame_where(&mut sniffed, |frame| {
            frame.get(62) == Some(&143) && frame.windows(16).any(|bytes| bytes == first.octets())
        });
        groups
            .set(cable.lb_index, &set(&["2001:db8::101", "2001:db8::102"]))
            .unwrap();
        assert_eq!(joined(), both);
        groups.set(cable.lb_index, &set(&["2001:db8::102"])).unwrap();
        assert_eq!(joined(), BTreeSet::from([second]));
        assert!(!multicast_macs("lb0").contains("3333ff000101"));
        groups.set(cable.lb_index, &set(&["192.0.2.101"])).unwrap();
        assert_eq!(joined(), BTreeSet::new());
        assert!(groups.set(4_711, &set(&["2001:db8::102"])).is_err());
        groups.set(cable.lb_index, &set(&["2001:db8::102"])).unwrap();
        drop(groups);
        assert_eq!(joined(), BTreeSet::new());
    });
}

#[test]
fn an_address_counts_when_duplicate_address_detection_has_passed_it() {
    on_a_cable(async |cable| {
        std::fs::write("/proc/sys/net/ipv6/conf/lb0/accept_dad", "1").unwrap();
        let mut seen = watch("lb0").await.unwrap();
        cable
            .lb
            .address()
            .add(cable.lb_index, address("2001:db8::12"), 64)
            .execute()
            .await
            .unwrap();
        let has = |interface: &Interface| interface.addresses.contains(&"2001:db8::12/64".parse().unwrap());
        assert!(!has(&lookup("lb0").await.unwrap()), "it is tentative");
        let passed = seen.wait_for(|now| now.as_ref().is_some_and(has));
        tokio::time::timeout(DEADLINE, passed).await.unwrap().unwrap();
        // And then the kernel takes it as a source.
        CheckRoute::install(cable.lb_index, address("2001:db8::12"), MARK)
            .await
            .unwrap()
            .remove()
            .await
            .unwrap();
    });
}

#[test]
fn what_a_daemon_left_is_removed_without_knowing_its_source() {
    on_a_cable(async |cable| {
        for (source, any, gateway) in [
            ("192.0.2.11", "0.0.0.0", "169.254.102.98"),
            ("2001:db8::11", "::", "fe80::666f:6f62:6172"),
        ] {
            for _ in 0..2 {
                CheckRoute::install(cable.lb_index, address(source), MARK)
                    .await
                    .unwrap();
            }
            assert!(entry(&cable, gateway).await.is_some_and(|entry| entry.fixed));
            let left = CheckRoute::left(cable.lb_index, address(any), MARK);
            left.remove().await.unwrap();
            assert_eq!(entry(&cable, gateway).await, None);
        }
    });
}

#[test]
fn harmful_settings_are_named() {
    on_a_cable(async |_cable| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/lb0/rp_filter", "0").unwrap();
        assert_eq!(warnings("lb0"), Vec::<String>::new());
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/lb0/rp_filter", "1").unwrap();
        let told = warnings("lb0");
        assert!(told[0].contains("IPv4 forwarding is on for lb0"), "{told:?}");
        assert!(told[1].contains("rp_filter is strict on lb0"), "{told:?}");
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "2").unwrap();
        assert_eq!(
            warnings("lb0").len(),
            1,
            "the looser of all and lb0 wins by being the larger"
        );
    });
}
