//! `[[vrrp]]`: defaults, everything that can be said, each error with its place, and what a reload sees.

use super::*;
use crate::cluster::vrrp::{Checksum, Interval};

/// [`GOOD`] with its first VIP in a group, which begins at line 24.
fn grouped(lines: &str) -> String {
    let member = GOOD.replacen("port = 443", "port = 443\nvrrp = \"site\"", 1);
    format!("{member}[[vrrp]]\nname = \"site\"\nrouter_id = 51\n{lines}\n")
}

fn group(lines: &str) -> Vrrp {
    parse("lb.toml", &grouped(lines)).expect("a good file").vrrp[0].clone()
}

#[test]
fn a_group_has_defaults_and_its_vips_say_that_they_are_in_it() {
    let config = parse("lb.toml", &grouped("")).expect("a good file");
    assert_eq!(config.vips[0].ownership, Ownership::Vrrp("site".to_owned()));
    assert_eq!(config.vips[1].ownership, Ownership::Always);
    let expected = Vrrp {
        name: "site".to_owned(),
        router_id: 51,
        priority: 100,
        interval: Interval::centiseconds(10).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        checksum: Checksum::PseudoHeader,
        link_local: None,
        track: Track {
            no_backend: Lowering::By(50),
            detached: Lowering::Resign,
            canary: Lowering::By(50),
            differing: Lowering::By(0),
        },
    };
    assert_eq!(config.vrrp, [expected]);
}

#[test]
fn everything_can_be_said() {
    let group = group(
        r#"
        priority = 254
        interval = "40s"
        preempt = false
        preempt_delay = "5m"
        checksum = "message"
        link_local = "fe80::51"
        track = { no_backend = "resign", detached = 253, canary = 7, differing = "resign" }
        "#,
    );
    assert_eq!(
        (group.priority, group.preempt, group.preempt_delay),
        (254, false, Duration::from_secs(300))
    );
    assert_eq!(group.interval.duration(), Duration::from_secs(40));
    assert_eq!(group.checksum, Checksum::Message);
    assert_eq!(group.link_local, Some("fe80::51".parse().unwrap()));
    let track = Track {
        no_backend: Lowering::Resign,
        detached: Lowering::By(253),
        canary: Lowering::By(7),
        differing: Lowering::Resign,
    };
    assert_eq!(group.track, track);
}

#[test]
fn each_error_has_its_place_and_says_how_to_mend_it() {
    let cases = [
        (
            "priority = 255",
            (27, 12),
            "priority 255 is for a router whose own address the VIP is",
            "a VIP is no balancer's own address: 254 or less",
        ),
        (
            "priority = 0",
            (27, 12),
            "priority 0 is how a router says that it gives up",
            "from 1 to 254",
        ),
        (
            "interval = \"15ms\"",
            (27, 12),
            "interval is a multiple of 10ms, 15ms is not",
            "10ms or 20ms",
        ),
        (
            "interval = \"41s\"",
            (27, 12),
            "interval is out of range: \"41s\"",
            "from 10ms to 40s",
        ),
        (
            "interval = 100",
            (27, 12),
            "interval must be a duration, this is a whole number",
            "give the number a unit: \"100s\" or \"100ms\"",
        ),
        (
            "checksum = \"none\"",
            (27, 12),
            "checksum cannot be \"none\"",
            "one of pseudo-header, message",
        ),
        (
            "link_local = \"2001:db8::51\"",
            (27, 14),
            "\"2001:db8::51\" is not a link-local IPv6 address",
            "such as \"fe80::51\"; leave the key out unless a peer insists on it",
        ),
        (
            "track = { no_backend = \"quit\" }",
            (27, 24),
            "no_backend cannot be \"quit\"",
            "one of resign",
        ),
        (
            "track = { detached = 255 }",
            (27, 22),
            "detached is out of range: 255",
            "from 0 to 253",
        ),
        (
            "preemt = false",
            (27, 1),
            "unknown key `preemt`",
            "did you mean `preempt`?",
        ),
    ];
    for (line, place, message, hint) in cases {
        let found = errors(&grouped(line));
        let [error] = found.as_slice() else {
            panic!("{line}: one error expected: {found:#?}")
        };
        let at = error.place.expect("a place in the file");
        assert_eq!(
            (
                (at.line, at.column),
                error.message.as_str(),
                error.hint.as_deref()
            ),
            (place, message, Some(hint)),
            "{line}"
        );
    }
}

#[test]
fn names_and_identifiers_are_unique() {
    let twice = "[[vrrp]]\nname = \"site\"\nrouter_id = 51";
    let messages: Vec<_> = errors(&grouped(twice))
        .into_iter()
        .map(|error| (error.message, error.hint.unwrap_or_default()))
        .collect();
    let expected = [
        (
            "the name \"site\" is taken",
            "first on line 25; each group has a name of its own",
        ),
        (
            "router_id 51 is taken",
            "first on line 26; on one segment each group has a router_id of its own",
        ),
    ];
    assert_eq!(
        messages,
        expected.map(|(message, hint)| (message.to_owned(), hint.to_owned()))
    );
}

#[test]
fn a_vip_is_owned_or_elected_and_in_a_group_that_is_there() {
    assert_eq!(
        wrong("port = 443", "port = 443\nvrrp = \"site\""),
        (
            8,
            8,
            "there is no [[vrrp]] named \"site\"".to_owned(),
            "add [[vrrp]] with name = \"site\"".to_owned()
        )
    );
    let both = grouped("").replacen("port = 443", "port = 443\nowned = true", 1);
    let found = errors(&both);
    assert_eq!(
        (found[0].message.as_str(), found[0].hint.as_deref()),
        (
            "a VIP has `owned` or `vrrp`, not both",
            Some("remove line 8: the group says who owns the address")
        )
    );
}

#[test]
fn services_of_an_address_agree_on_their_group() {
    let second = "[[vip]]\nname = \"b\"\naddress = \"192.0.2.101\"\nport = 80";
    let found = errors(&grouped(second));
    assert_eq!(
        (found[0].message.as_str(), found[0].hint.as_deref()),
        (
            "services of 192.0.2.101 disagree on who owns it",
            Some("an address is owned as a whole; line 8 says vrrp = \"site\"")
        )
    );
}

#[test]
fn a_group_has_at_most_255_addresses_of_a_family() {
    let mut text = "interface = \"eth0\"\nlimits.slots = 8388608\n".to_owned();
    for number in 0..256 {
        text += &format!(
            "[[vip]]\nname = \"v{number}\"\naddress = \"198.51.100.{number}\"\nport = 80\nslots = 256\nvrrp = \"site\"\n"
        );
    }
    let six = "[[vip]]\nname = \"six\"\naddress = \"2001:db8::1\"\nport = 80\nslots = 256\nvrrp = \"site\"\n";
    text += six;
    text += "[[vrrp]]\nname = \"site\"\nrouter_id = 51\n";
    let found = errors(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(
        found[0].message,
        "the group \"site\" has more than 255 addresses of a family"
    );
}

#[test]
fn a_reload_sees_groups_that_changed_and_vips_that_changed_theirs() {
    let parsed = |lines: &str| parse("lb.toml", &grouped(lines)).expect("a good file");
    let (old, new) = (parsed(""), parsed("priority = 50"));
    let change = difference(&old, &new);
    assert_eq!((change.vrrp, change.changed.len()), (vec!["site".to_owned()], 0));
    assert_eq!(keep_fixed(&old, &new).vrrp, new.vrrp);
    assert!(difference(&old, &old).is_empty());
    let change = difference(&good(), &old);
    assert_eq!(change.changed[0].fields, [Field::Ownership]);
}
