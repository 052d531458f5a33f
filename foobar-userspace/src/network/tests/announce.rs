//! VIPs are announced.

use super::*;

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
