//! What an interface is, and what about it is harmful.

use super::*;

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
