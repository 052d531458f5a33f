//! `[bgp]`: defaults, everything that can be said, each error with its place, and what a reload sees.

use super::*;

/// [`GOOD`] with its first VIP announced, and a neighbor; `[bgp]` begins at line 24, its lines at 27, those of the
/// neighbor four lines after them.
fn announced(lines: &str, neighbor: &str) -> String {
    let member = GOOD.replacen("port = 443", "port = 443\nbgp = true", 1);
    format!(
        "{member}[bgp]\nrouter_id = \"192.0.2.11\"\nas = 64512\n{lines}\n[[bgp.neighbor]]\naddress = \"192.0.2.1\"\n\
         as = 64500\n{neighbor}\n"
    )
}

fn bgp(lines: &str, neighbor: &str) -> Bgp {
    let config = parse("lb.toml", &announced(lines, neighbor)).expect("a good file");
    config.bgp.expect("it is there")
}

#[test]
fn it_has_defaults_and_vips_say_that_they_are_announced() {
    let config = parse("lb.toml", &announced("", "")).expect("a good file");
    assert_eq!(config.vips[0].ownership, Ownership::Bgp(None));
    assert_eq!(config.vips[1].ownership, Ownership::Always);
    let neighbor = Neighbor {
        address: "192.0.2.1".parse().unwrap(),
        remote_as: 64500,
        source: None,
        next_hop: None,
        password_file: None,
        multihop: None,
        gtsm: false,
        bfd: true,
        port: 179,
    };
    let expected = Bgp {
        router_id: Ipv4Addr::new(192, 0, 2, 11),
        local_as: 64512,
        attributes: Attributes::default(),
        groups: Vec::new(),
        hold_time: Duration::from_secs(9),
        bfd: Bfd {
            interval: Duration::from_millis(300),
            multiplier: 3,
        },
        track: Withdrawing {
            no_backend: Announcement::Withdrawn,
            detached: Announcement::Withdrawn,
            canary: Announcement::Withdrawn,
            differing: Announcement::Kept,
        },
        bird: None,
        neighbors: vec![neighbor],
    };
    assert_eq!(config.bgp, Some(expected));
}

#[test]
fn everything_can_be_said() {
    let bgp = bgp(
        r#"
        med = 4294967295
        prepend = 10
        communities = ["64512:100", "64512:1:4294967295", "no-export", "graceful-shutdown"]
        group = [{ name = "standby", med = 0 }, { name = "plain", prepend = 0, communities = [] }]
        hold_time = "1h"
        bfd = { interval = "50ms", multiplier = 5 }
        track = { no_backend = "announce", detached = "withdraw" }
        bird = "/opt/bird/sbin/bird"
        "#,
        r#"
        source = "192.0.2.11"
        next_hop = "2001:db8:0:1::11"
        password_file = "/etc/foobar/bgp.password"
        multihop = 2
        gtsm = true
        bfd = false
        port = 1790
        "#,
    );
    let usual = Attributes {
        med: Some(u32::MAX),
        prepend: 10,
        communities: vec![
            Community::Standard(64512, 100),
            Community::Large(64512, 1, u32::MAX),
            Community::Standard(65535, 65281),
            Community::Standard(65535, 0),
        ],
    };
    // What a group does not say is as for all.
    let standby = Attributes {
        med: Some(0),
        ..usual.clone()
    };
    let plain = Attributes {
        prepend: 0,
        communities: Vec::new(),
        ..usual.clone()
    };
    assert_eq!(bgp.attributes_of(None), &usual);
    assert_eq!(bgp.attributes_of(Some("standby")), &standby);
    assert_eq!(bgp.attributes_of(Some("plain")), &plain);
    assert_eq!(bgp.hold_time, Duration::from_secs(3_600));
    assert_eq!(
        (bgp.bfd.interval, bgp.bfd.multiplier),
        (Duration::from_millis(50), 5)
    );
    assert_eq!(bgp.track.no_backend, Announcement::Kept);
    assert_eq!(bgp.bird, Some("/opt/bird/sbin/bird".into()));
    let neighbor = &bgp.neighbors[0];
    assert_eq!(neighbor.source, Some("192.0.2.11".parse().unwrap()));
    assert!(neighbor.carries(true) && neighbor.carries(false));
    assert_eq!(neighbor.password_file, Some("/etc/foobar/bgp.password".into()));
    assert_eq!(
        (neighbor.multihop, neighbor.gtsm, neighbor.bfd, neighbor.port),
        (Some(2), true, false, 1790)
    );
}

const COMMUNITIES: &str = "\"AS:VALUE\" of 0 to 65535, a large one as \"AS:VALUE:VALUE\", or one of no-export, \
                           no-advertise, graceful-shutdown";

#[test]
fn each_error_has_its_place_and_says_how_to_mend_it() {
    let of_bgp = [
        (
            "hold_time = \"2s\"",
            (27, 13),
            "hold_time is out of range: \"2s\"",
            "from 3s to 65535s",
        ),
        (
            "hold_time = \"3500ms\"",
            (27, 13),
            "hold_time is in whole seconds",
            "such as \"9s\"",
        ),
        (
            "bfd = { interval = \"5ms\" }",
            (27, 20),
            "interval is out of range: \"5ms\"",
            "from 10ms to 10s",
        ),
        (
            "bfd = { multiplier = 1 }",
            (27, 22),
            "multiplier is out of range: 1",
            "from 2 to 255",
        ),
        (
            "prepend = 11",
            (27, 11),
            "prepend is out of range: 11",
            "from 0 to 10",
        ),
        (
            "med = -1",
            (27, 7),
            "med is out of range: -1",
            "from 0 to 4294967295",
        ),
        (
            "communities = [\"64512:65536\"]",
            (27, 16),
            "\"64512:65536\" is not a community",
            COMMUNITIES,
        ),
        (
            "communities = [\"64512:+1\"]",
            (27, 16),
            "\"64512:+1\" is not a community",
            COMMUNITIES,
        ),
        (
            "communities = [\"65535:65281\", \"no-export\"]",
            (27, 31),
            "the community 65535:65281 is there twice",
            "name it once",
        ),
        (
            "group = [{ med = 1 }]",
            (27, 10),
            "`name` is missing",
            "add name = \"site-a\"",
        ),
        (
            "group = [{ name = \"Site\" }]",
            (27, 19),
            "\"Site\" cannot be a group's name",
            "1 to 63 of a-z, 0-9 and -",
        ),
        (
            "group = [{ name = \"a\" }, { name = \"a\" }]",
            (27, 35),
            "the name \"a\" is taken",
            "first on line 27; each group has a name of its own",
        ),
        (
            "group = [{ name = \"a\", prepends = 1 }]",
            (27, 24),
            "unknown key `prepends`",
            "did you mean `prepend`?",
        ),
        (
            "track = { no_backend = \"resign\" }",
            (27, 24),
            "no_backend cannot be \"resign\"",
            "one of withdraw, announce",
        ),
        (
            "neighbour = 1",
            (27, 1),
            "unknown key `neighbour`",
            "did you mean `neighbor`?",
        ),
    ];
    for (line, place, message, hint) in of_bgp {
        assert_wrong(&announced(line, ""), place, message, hint);
    }
    let of_neighbor = [
        (
            "source = \"2001:db8::11\"",
            (31, 10),
            "source is not of the family of 192.0.2.1",
            "it is this balancer's address towards the neighbor",
        ),
        (
            "next_hop = \"192.0.2.11\"",
            (31, 12),
            "next_hop is of the family of 192.0.2.1",
            "it is for VIPs of the other family; those of the neighbor's own family need none",
        ),
        (
            "next_hop = \"fe80::1\"",
            (31, 12),
            "fe80::1 cannot be next_hop",
            "the address of one host, not of a group, of a link or of the host itself",
        ),
        (
            "multihop = 2",
            (31, 12),
            "BFD over several hops needs `source`",
            "add this balancer's address towards the neighbor, or bfd = false",
        ),
        (
            "[[bgp.neighbor]]\naddress = \"192.0.2.1\"\nas = 64500",
            (32, 11),
            "the neighbor 192.0.2.1 is there twice",
            "first on line 29",
        ),
        (
            "[[bgp.neighbor]]\naddress = \"router\"\nas = 64500",
            (32, 11),
            "\"router\" is not an IP address",
            "such as \"192.0.2.1\" or \"2001:db8::1\"",
        ),
        (
            "[[bgp.neighbor]]\naddress = \"192.0.2.2\"",
            (31, 1),
            "`as` is missing",
            "add as = 64500",
        ),
    ];
    for (line, place, message, hint) in of_neighbor {
        assert_wrong(&announced("", line), place, message, hint);
    }
    let id = announced("", "").replace("router_id = \"192.0.2.11\"", "router_id = \"0.0.0.0\"");
    let hint = "written as an IPv4 address that nobody else uses: this balancer's own";
    assert_wrong(&id, (25, 13), "\"0.0.0.0\" cannot be a router id", hint);
}

/// The one thing that is wrong with a file.
fn assert_wrong(text: &str, place: (usize, usize), message: &str, hint: &str) {
    let found = errors(text);
    let [error] = found.as_slice() else {
        panic!("{message}: one error expected: {found:#?}")
    };
    let at = error.place.expect("a place in the file");
    assert_eq!(
        (
            (at.line, at.column),
            error.message.as_str(),
            error.hint.as_deref()
        ),
        (place, message, Some(hint))
    );
}

#[test]
fn a_vip_is_announced_or_owned_and_to_somebody_who_carries_its_family() {
    assert_eq!(
        wrong("port = 443", "port = 443\nbgp = true"),
        (
            8,
            7,
            "there is no [bgp]".to_owned(),
            "add [bgp] with router_id and as, and [[bgp.neighbor]]".to_owned()
        )
    );
    let owned = announced("", "").replacen("bgp = true", "owned = true\nbgp = true", 1);
    let message = "a VIP that is announced by BGP has neither `owned` nor `vrrp`";
    let hint = "remove line 8: routers choose who gets its packets";
    assert_wrong(&owned, (9, 7), message, hint);

    let six = announced("", "")
        .replace("\"192.0.2.101\"", "\"2001:db8:0:1::101\"")
        .replace("\"192.0.2.21\"", "\"2001:db8:0:1::21\"")
        .replace("\"192.0.2.22\"", "\"2001:db8:0:1::22\"");
    let message = "no neighbor is told of 2001:db8:0:1::101";
    let hint = "a neighbor carries its own family, and with `next_hop` the other one";
    assert_wrong(&six, (8, 7), message, hint);
    let mended = format!("{six}next_hop = \"2001:db8:0:1::11\"\n");
    parse("lb.toml", &mended).expect("a good file");
}

#[test]
fn services_of_an_address_agree_on_being_announced() {
    let second = "[[vip]]\nname = \"b\"\naddress = \"192.0.2.101\"\nport = 80";
    let found = errors(&announced("", second));
    assert_eq!(
        (found[0].message.as_str(), found[0].hint.as_deref()),
        (
            "services of 192.0.2.101 disagree on who owns it",
            Some("an address is owned as a whole; line 8 says bgp = true")
        )
    );
}

#[test]
fn a_vip_is_in_a_group_that_there_is() {
    let in_group = |lines: &str| announced(lines, "").replacen("bgp = true", "bgp = \"site\"", 1);
    let message = "there is no [[bgp.group]] named \"site\"";
    let hint = "add [[bgp.group]] with name = \"site\", or say bgp = true";
    assert_wrong(&in_group(""), (8, 7), message, hint);
    assert_wrong(
        &in_group("group = [{ name = \"a\" }, { name = \"b\" }]"),
        (8, 7),
        message,
        "groups here: a, b",
    );
    let config = parse("lb.toml", &in_group("group = [{ name = \"site\" }]")).expect("a good file");
    assert_eq!(config.vips[0].ownership, Ownership::Bgp(Some("site".to_owned())));
}

#[test]
fn prepending_needs_a_neighbor_who_sees_it() {
    let internal =
        |lines: &str, neighbor: &str| announced(lines, neighbor).replacen("as = 64500", "as = 64512", 1);
    let message = "prepend changes nothing: all neighbors are of this balancer's own AS";
    let hint =
        "a router takes its own AS in the path for a loop; between balancers of its AS, it prefers by `med`";
    assert_wrong(&internal("prepend = 1", ""), (27, 11), message, hint);
    let group = "group = [{ name = \"a\", prepend = 2 }]";
    assert_wrong(&internal(group, ""), (27, 34), message, hint);
    let other = "[[bgp.neighbor]]\naddress = \"192.0.2.2\"\nas = 64500";
    for good in [
        internal("prepend = 0\nmed = 1", ""),
        internal("prepend = 1", other),
    ] {
        parse("lb.toml", &good).expect("a good file");
    }
}

#[test]
fn somebody_has_to_be_told() {
    let alone = format!("{GOOD}[bgp]\nrouter_id = \"192.0.2.11\"\nas = 64512\n");
    let hint = "add [[bgp.neighbor]] with address and as of the router";
    assert_wrong(&alone, (23, 1), "[bgp] has no neighbor", hint);
}

#[test]
fn a_reload_sees_that_routers_are_told_otherwise() {
    let parsed = |lines: &str| parse("lb.toml", &announced(lines, "")).expect("a good file");
    let (old, new) = (parsed(""), parsed("med = 50"));
    let change = difference(&old, &new);
    assert!(change.bgp && change.changed.is_empty());
    assert_eq!(keep_fixed(&old, &new).bgp, new.bgp);
    assert!(difference(&old, &old).is_empty());
    let change = difference(&good(), &old);
    assert_eq!(change.changed[0].fields, [Field::Ownership]);
    let grouped = |med| parsed(&format!("group = [{{ name = \"a\", med = {med} }}]"));
    assert!(difference(&grouped(1), &grouped(2)).bgp);
}
