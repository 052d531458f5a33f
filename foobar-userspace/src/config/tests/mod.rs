//! Good files, bad files, and differences.

mod admission;
mod bad;
mod bgp;
mod etcd;
mod flows;
mod ports;
mod quic;
mod vrrp;

use proptest::prelude::*;

use super::*;

/// What is wrong with the good file when `from` is replaced by `to`: line, column, message and hint of the one
/// error.
fn wrong(from: &str, to: &str) -> (usize, usize, String, String) {
    assert!(GOOD.contains(from), "{from:?} is not in the good file");
    let found = errors(&GOOD.replacen(from, to, 1));
    let [error] = found.as_slice() else {
        panic!("{to:?}: one error expected: {found:#?}")
    };
    let place = error.place.expect("a place in the file");
    let hint = error.hint.clone().unwrap_or_default();
    (place.line, place.column, error.message.clone(), hint)
}

/// A valid file to which tests add, or in which they replace, one thing.
const GOOD: &str = r#"interface = "eth0"
peer_macs = ["02:00:00:00:00:02"]

[[vip]]
name = "site-a"
address = "192.0.2.101"
port = 443
[vip.check]
kind = "https"
host = "www.example.com"
path = "/healthz"
[[vip.backend]]
address = "192.0.2.21"
[[vip.backend]]
address = "192.0.2.22"
weight = 50

[[vip]]
name = "dns"
address = "192.0.2.102"
port = 53
protocol = "udp"
"#;

fn good() -> Config {
    parse("lb.toml", GOOD).expect("the test's own file is valid")
}

fn errors(text: &str) -> Vec<Problem> {
    parse("lb.toml", text)
        .expect_err("the file is bad")
        .errors()
        .to_vec()
}

#[test]
fn an_ipv6_vip_has_ipv6_backends() {
    let text = GOOD
        .replace("192.0.2.101", "2001:db8:0:1::101")
        .replace("192.0.2.21", "2001:db8:0:1::21");
    let found = errors(&text);
    let [error] = found.as_slice() else {
        panic!("one error expected: {found:#?}")
    };
    assert_eq!(
        error.message,
        "the backend 192.0.2.22 is IPv4, its VIP 2001:db8:0:1::101 is IPv6"
    );
    let hint = error.hint.as_deref().unwrap_or_default();
    assert!(hint.starts_with("use the server's IPv6 address"), "{hint}");

    let config = parse("lb.toml", &text.replace("192.0.2.22", "2001:db8:0:1::22")).expect("a good file");
    assert_eq!(
        config.vips[0].service().to_string(),
        "[2001:db8:0:1::101]:443/tcp"
    );
    assert_eq!(config.vips[0].backends.len(), 2);
}

#[test]
fn a_good_file_is_read_with_its_defaults() {
    let config = good();
    assert_eq!(config.interface, "eth0");
    assert_eq!(config.pin_dir, Path::new("/sys/fs/bpf/foobar"));
    assert_eq!(config.admin_socket, Path::new("/run/foobar/lb.sock"));
    assert_eq!(config.seed_file, None);
    assert_eq!(config.peer_macs, [[2, 0, 0, 0, 0, 2]]);
    let sizes = Limits {
        slots: 1_048_576,
        targets: 4_096,
        notes: 262_144,
        pending_notes: 262_144,
        syn_buckets: 262_144,
    };
    assert_eq!(config.limits, sizes);
    let [site, dns] = config.vips.as_slice() else {
        panic!("two VIPs")
    };
    assert_eq!(site.service().to_string(), "192.0.2.101:443/tcp");
    assert_eq!(
        (&site.ownership, site.slots, site.table),
        (&Ownership::Always, 65_536, TableKind::Maglev)
    );
    assert_eq!(
        (site.idle_timeout, site.drain_timeout),
        (Duration::from_secs(900), None)
    );
    assert_eq!(site.unserved, Unserved::Drop);
    let request = Request {
        host: "www.example.com".into(),
        path: "/healthz".into(),
        status: 200,
    };
    let check = Check {
        port: 443,
        probe: Probe::Https(request),
        timing: Timing::default(),
    };
    assert_eq!(site.check, Some(check));
    let weights: Vec<u16> = site.backends.iter().map(|backend| backend.weight).collect();
    assert_eq!(weights, [100, 50]);
    assert_eq!((dns.idle_timeout, &dns.check), (Duration::from_secs(120), &None));
}

#[test]
fn every_setting_is_taken_from_the_file() {
    let config = parse(
        "lb.toml",
        r#"
        interface = "eth1"
        pin_dir = "/sys/fs/bpf/x"
        admin_socket = "/run/x.sock"
        seed_file = "/etc/seed"
        limits = { slots = 4_096, targets = 10, notes = 1024, pending_notes = 0x200, syn_buckets = 1_000 }
        [[vip]]
        name = "a"
        address = "192.0.2.101"
        port = 80
        protocol = "tcp"
        owned = false
        slots = 256
        table = "rendezvous"
        idle_timeout = "3s"
        drain_timeout = "1h"
        unserved = "reset"
        check = { kind = "http", port = 8080, path = "/up?full=1", status = 204, interval = "1s", timeout = "300ms", fall = 2, rise = 4, doubt_interval = "100ms", down_interval = "9s", hard_after = "20s" }
        backend = [{ address = "192.0.2.21", weight = 0, port = 80 }]
        "#,
    )
    .expect("valid");
    let text = format!("{config:?}");
    for part in [
        "eth1",
        "/sys/fs/bpf/x",
        "/run/x.sock",
        "/etc/seed",
        "slots: 4096, targets: 10, notes: 1024, pending_notes: 512, syn_buckets: 1024",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let vip = &config.vips[0];
    assert_eq!(
        (&vip.ownership, vip.slots, vip.table),
        (&Ownership::Never, 256, TableKind::Rendezvous)
    );
    assert_eq!(vip.idle_timeout, Duration::from_secs(3));
    assert_eq!(vip.drain_timeout, Some(Duration::from_secs(3_600)));
    assert_eq!(vip.unserved, Unserved::Reset);
    assert_eq!(vip.backends[0].weight, 0);
    let request = Request {
        host: "192.0.2.101".into(),
        path: "/up?full=1".into(),
        status: 204,
    };
    let timing = Timing {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(300),
        fall: 2,
        rise: 4,
        doubt_interval: Duration::from_millis(100),
        down_interval: Duration::from_secs(9),
        hard_after: Duration::from_secs(20),
    };
    assert_eq!(
        vip.check,
        Some(Check {
            port: 8080,
            probe: Probe::Http(request),
            timing
        })
    );
}

#[test]
fn tunnels_lead_to_backends_of_either_family() {
    let text = GOOD.replace(
        "port = 443",
        "port = 443\nforward = \"gue\"\nsecond_chance = true",
    );
    let tunnel = "tunnel = { source_v4 = \"192.0.2.64/26\", source_v6 = \"2001:db8::11\", gue_port = 6081, mtu = 9000 }\n";
    let config = parse("lb.toml", &format!("{tunnel}{text}")).expect("valid");
    let site = &config.vips[0];
    assert_eq!((site.forward, site.second_chance), (Forward::Gue, true));
    assert_eq!(config.vips[1].forward, Forward::L2);
    let Tunnel {
        source_v4,
        source_v6,
        gue_port,
        mtu,
    } = config.tunnel;
    assert_eq!(source_v4.expect("set").to_string(), "192.0.2.64/26");
    assert_eq!(source_v6.expect("set").to_string(), "2001:db8::11/128");
    assert_eq!((gue_port, mtu), (6_081, 9_000));

    let v6 = format!("{tunnel}{text}")
        .replace("second_chance = true", "")
        .replace("192.0.2.22", "2001:db8::22");
    let backends = &parse("lb.toml", &v6).expect("a family of its own").vips[0].backends;
    assert!(backends[1].address.is_ipv6());
    let mixed = v6.replace("\"gue\"", "\"gue\"\nsecond_chance = true");
    assert_eq!(
        errors(&mixed)[0].message,
        "with second_chance all backends of a VIP are of one family"
    );
}

#[test]
fn a_changed_tunnel_is_a_change_at_run_time() {
    let old = good();
    let mut new = old.clone();
    new.tunnel.mtu = 1_400;
    new.vips[0].forward = Forward::Ipip;
    let difference = difference(&old, &new);
    assert!(difference.tunnel && difference.fixed.is_empty());
    assert_eq!(difference.changed[0].fields, [Field::Forward]);
    assert_eq!(keep_fixed(&old, &new), new);
}

#[test]
fn above_a_hundred_vips_the_default_table_is_small() {
    let file = |count: usize| {
        let mut text = "interface = \"eth0\"\nlimits.slots = 8388608\n".to_owned();
        for index in 0..count {
            text.push_str(&format!(
                "[[vip]]\nname = \"v{index}\"\naddress = \"198.51.100.{index}\"\nport = 80\n"
            ));
        }
        parse("lb.toml", &text).expect("valid").vips[0].slots
    };
    assert_eq!((file(100), file(101)), (65_536, 4_096));
}

const TEN: &str = r#"interface = "a-name-that-is-too-long"
peer_macs = ["nonsense"]
colour = "blue"
[[vip]]
name = "Site A"
address = "127.0.0.1"
port = 443
slots = 3000
idle_timeout = "soon"
[[vip.backend]]
address = "192.0.2.21"
weight = 1000
[[vip.backend]]
address = "192.0.2.21"
port = 80
"#;

#[test]
fn ten_errors_are_found_in_one_run() {
    let report = parse("lb.toml", TEN).expect_err("ten errors");
    let lines: Vec<usize> = report
        .errors()
        .iter()
        .filter_map(|error| Some(error.place?.line))
        .collect();
    assert_eq!(lines, [1, 2, 3, 5, 6, 8, 9, 12, 14, 15]);
    let text = report.to_string();
    for (index, line) in TEN.lines().enumerate() {
        let number = index + 1;
        let shown = text.contains(&format!("\n{number} | {line}\n"));
        assert_eq!(shown, lines.contains(&number), "line {number} in:\n{text}");
    }
    assert!(text.contains("lb.toml:12:10"), "{text}");
    assert!(text.ends_with("lb.toml: 10 errors"), "{text}");
    assert!(!text.contains('\u{1b}'), "plain text has no colour");
    assert!(
        report.render(true).contains('\u{1b}'),
        "colour where it is asked for"
    );
}

#[test]
fn errors_serialise_with_place_message_and_hint() {
    let found = errors(&GOOD.replace("weight = 50", "weight = 300"));
    assert_eq!(
        serde_json::to_value(&found).expect("plain values"),
        serde_json::json!([{ "line": 16, "column": 10, "message": "weight is out of range: 300", "hint": "from 0 to 256" }])
    );
}

#[test]
fn columns_are_counted_in_characters() {
    let found = errors(&GOOD.replace("\"192.0.2.21\"", "\"192.0.2.21\"\n\"wéight\" = 5"));
    assert_eq!(found[0].place, Some(Place { line: 14, column: 1 }));
    let found = errors("\"é\" = 1\ninterface = \"eth0\"\nlimits = { \"éé\" = 1, slots = 0 }\n");
    assert_eq!(found[2].place, Some(Place { line: 3, column: 30 }));
}

#[test]
fn a_ninth_peer_is_one_too_many() {
    let peers = |count: usize| {
        let macs: Vec<String> = (1..=count)
            .map(|index| format!("\"02:00:00:00:01:{index:02x}\""))
            .collect();
        GOOD.replace("\"02:00:00:00:00:02\"", &macs.join(", "))
    };
    assert_eq!(parse("lb.toml", &peers(8)).expect("valid").peer_macs.len(), 8);
    let found = errors(&peers(9));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "peer_macs has more than 8 entries");
    assert_eq!(
        found[0].place,
        Some(Place {
            line: 2,
            column: 14 + 8 * 21
        })
    );
}

#[test]
fn a_file_that_is_missing_or_not_text_is_told() {
    let report = load(Path::new("/nonexistent/lb.toml")).expect_err("no such file");
    assert!(
        report.to_string().contains("cannot read /nonexistent/lb.toml"),
        "{report}"
    );
    let report = super::parse::parse_bytes("lb.toml", b"interface = \"\xff\"", super::parse::read)
        .expect_err("not UTF-8");
    assert_eq!(report.errors()[0].place, Some(Place { line: 1, column: 14 }));
}

#[test]
fn the_same_file_makes_no_difference() {
    assert!(difference(&good(), &good()).is_empty());
}

#[test]
fn a_difference_names_what_changed() {
    let old = good();
    let text = GOOD
        .replace("192.0.2.21", "192.0.2.23")
        .replace("weight = 50", "weight = 60")
        .replace("path = \"/healthz\"", "path = \"/up\"")
        .replace("port = 53", "port = 54");
    let new = parse("lb.toml", &text).expect("valid");
    let found = difference(&old, &new);
    assert_eq!(found.added, [new.vips[1].clone()]);
    assert_eq!(found.removed, [old.vips[1].clone()]);
    let address = |last| IpAddr::from([192, 0, 2, last]);
    let expected = VipChange {
        service: old.vips[0].service(),
        name: "site-a".into(),
        fields: vec![Field::Check],
        backends_added: vec![Backend {
            address: address(23),
            weight: 100,
            server_id: None,
        }],
        backends_removed: vec![Backend {
            address: address(21),
            weight: 100,
            server_id: None,
        }],
        backends_reweighted: vec![Reweighted {
            address: address(22),
            from: 50,
            to: 60,
        }],
    };
    assert_eq!(found.changed, [expected]);
    assert!(found.fixed.is_empty() && !found.peer_macs);
}

#[test]
fn what_cannot_change_at_run_time_is_reported_and_kept() {
    let old = good();
    let text = GOOD
        .replace("eth0", "eth1")
        .replace("02:00:00:00:00:02", "02:00:00:00:00:03")
        .replace(
            "peer_macs",
            "pin_dir = \"/p\"\nadmin_socket = \"/s\"\ncluster = \"/c\"\nlimits.notes = 99\npeer_macs",
        )
        .replace("port = 53", "port = 53\nslots = 512\nunserved = \"reset\"")
        .replace("\"dns\"", "\"names\"");
    let new = parse("lb.toml", &text).expect("valid");
    let found = difference(&old, &new);
    let settings: Vec<&str> = found.fixed.iter().map(|change| change.setting.as_str()).collect();
    assert_eq!(
        settings,
        [
            "interface",
            "pin_dir",
            "admin_socket",
            "cluster",
            "limits.notes",
            "names: slots"
        ]
    );
    assert_eq!(
        (found.fixed[5].old.as_str(), found.fixed[5].new.as_str()),
        ("65536", "512")
    );
    assert!(found.peer_macs);
    assert_eq!(found.changed[0].fields, [Field::Name, Field::Unserved]);
    let kept = keep_fixed(&old, &new);
    let rest = difference(&old, &kept);
    assert!(rest.fixed.is_empty());
    assert_eq!((rest.changed, rest.peer_macs), (found.changed, true));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(report) = super::parse::parse_bytes("lb.toml", &bytes, super::parse::read) {
            prop_assert!(!report.errors().is_empty());
            prop_assert!(report.render(true).len() > report.to_string().len() / 2);
        }
    }

    /// Damage to a good file reaches deeper than noise does.
    #[test]
    fn a_damaged_file_never_panics(
        cuts in proptest::collection::vec((any::<proptest::sample::Index>(), 0_usize..30, "\\PC{0,4}|[\\[\\]={}\"'\n.#0-9\r\t-]{0,6}"), 1..5)
    ) {
        let mut text = GOOD.to_owned();
        for (at, length, insert) in cuts {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.ceil_char_boundary((start + length).min(text.len()));
            text.replace_range(start..end, &insert);
        }
        if let Err(report) = parse("lb.toml", &text) {
            prop_assert!(!report.errors().is_empty());
            prop_assert!(report.errors().iter().all(|error| error.place.is_some()));
            prop_assert!(report.to_string().contains("lb.toml:"));
        }
    }
}
