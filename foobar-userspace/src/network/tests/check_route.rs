//! The way of marked packets.

use super::*;

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
