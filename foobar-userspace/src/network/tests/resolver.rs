//! Next hops: found, kept, given back.

use super::*;

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
