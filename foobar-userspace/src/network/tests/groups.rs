//! Solicited-node groups.

use super::*;

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
