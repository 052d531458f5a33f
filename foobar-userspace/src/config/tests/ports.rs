//! One port, a range of them, all of them.

use super::*;

/// The good file with another VIP of the first one's address.
fn with(lines: &str) -> String {
    format!("{GOOD}\n[[vip]]\nname = \"more\"\naddress = \"192.0.2.101\"\ncheck.kind = \"none\"\n{lines}\n")
}

fn services(text: &str) -> Vec<String> {
    let config = parse("lb.toml", text).expect("valid");
    config.vips.iter().map(|vip| vip.service().to_string()).collect()
}

#[test]
fn a_vip_has_a_port_a_range_or_all() {
    for (lines, service) in [
        ("port = 80", "192.0.2.101:80/tcp"),
        ("ports = \"8000-8999\"", "192.0.2.101:8000-8999/tcp"),
        ("ports = \"8000 - 8999\"", "192.0.2.101:8000-8999/tcp"),
        ("ports = \"8000-8000\"", "192.0.2.101:8000/tcp"),
        ("ports = \"1-65535\"", "192.0.2.101:all/tcp"),
        ("ports = \"all\"\nprotocol = \"udp\"", "192.0.2.101:all/udp"),
    ] {
        assert_eq!(services(&with(lines))[2], service, "{lines}");
    }
}

#[test]
fn what_is_no_range_is_told_where_it_stands() {
    let shape = "a range as \"8000-8999\", or \"all\"";
    for (ports, hint) in [
        ("any", shape),
        ("", shape),
        ("0-80", shape),
        ("90-80", shape),
        ("80-65536", shape),
        ("80-", shape),
        ("80-90-95", shape),
        ("443", "a single one is port = 443"),
    ] {
        let found = wrong("port = 443", &format!("ports = \"{ports}\""));
        let message = format!("{ports:?} is no range of ports");
        assert_eq!(found, (7, 9, message, hint.to_owned()));
    }
    assert_eq!(
        wrong("port = 443", "port = 443\nports = \"all\""),
        (
            8,
            1,
            "a VIP has `port` or `ports`, not both".to_owned(),
            "remove one of them".to_owned()
        )
    );
    let (_, _, message, hint) = wrong("port = 443", "");
    assert_eq!(message, "`port` is missing");
    assert_eq!(hint, "add port = 443, or ports = \"8000-8999\"");
}

#[test]
fn a_check_of_a_range_names_its_port() {
    let (line, column, message, hint) = wrong("port = 443", "ports = \"8000-8999\"");
    assert_eq!((line, column), (7, 9));
    assert_eq!(message, "which of these ports is checked?");
    assert_eq!(hint, "give [vip.check] a port, or kind = \"none\"");
    let text = GOOD.replacen("port = 443", "ports = \"8000-8999\"", 1);
    let config = parse(
        "lb.toml",
        &text.replace("kind = \"https\"", "kind = \"https\"\nport = 8001"),
    );
    let check = config.expect("valid").vips[0].check.clone();
    assert_eq!(check.map(|check| check.port), Some(8001));
}

#[test]
fn a_backends_port_is_the_vips_if_it_has_one() {
    let ranged = with("ports = \"8000-8999\"\nbackend = [{ address = \"192.0.2.21\", port = 8000 }]");
    let found = errors(&ranged);
    assert_eq!(
        found[0].message,
        "the backend's port 8000 is not the VIP's, 8000-8999"
    );
}

#[test]
fn ranges_of_an_address_and_a_protocol_have_no_port_in_common() {
    let range = |name: &str, lines: &str| {
        format!("[[vip]]\nname = \"{name}\"\naddress = \"192.0.2.101\"\ncheck.kind = \"none\"\n{lines}\n")
    };
    let one = with("ports = \"8000-8999\"");
    for (lines, overlapping) in [
        ("ports = \"8999-9000\"", true),
        ("ports = \"7000-8000\"", true),
        ("ports = \"8100-8200\"", true),
        ("ports = \"all\"", true),
        ("ports = \"9000-9999\"", false),
        ("ports = \"all\"\nprotocol = \"udp\"", false),
        ("port = 8443", false),
    ] {
        let text = format!("{one}{}", range("third", lines));
        if !overlapping {
            assert_eq!(services(&text).len(), 4, "{lines}");
            continue;
        }
        let found = errors(&text);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].message.ends_with(" overlap 8000-8999") && found[0].message.starts_with("the ports "),
            "{}",
            found[0].message
        );
        assert_eq!(found[0].place.expect("a place").column, 9);
        let hint = found[0].hint.clone().unwrap_or_default();
        assert!(hint.starts_with("line 28, of the same address"), "{hint}");
    }
    let twice = errors(&format!("{one}{}", range("third", "ports = \"8000-8999\"")));
    assert_eq!(twice.len(), 1);
    assert_eq!(
        twice[0].message,
        "the service 192.0.2.101:8000-8999/tcp is defined twice"
    );
    let many = |count: usize| {
        (0..count).fold(GOOD.to_owned(), |text, n| {
            text + &range(
                &format!("r{n}"),
                &format!("ports = \"{}-{}\"\nslots = 256", 1000 + n * 2, 1001 + n * 2),
            )
        })
    };
    assert_eq!(services(&many(16)).len(), 18);
    let found = errors(&many(17));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "192.0.2.101 has more than 16 ranges of ports");
}

#[test]
fn another_range_is_another_service() {
    let old = parse("lb.toml", &with("ports = \"8000-8999\"")).expect("valid");
    let new = parse("lb.toml", &with("ports = \"8000-9999\"")).expect("valid");
    let found = difference(&old, &new);
    assert_eq!((found.added.len(), found.removed.len()), (1, 1));
    assert!(found.changed.is_empty() && found.fixed.is_empty());
}
