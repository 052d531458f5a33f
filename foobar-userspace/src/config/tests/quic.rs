//! QUIC's server ids.

use super::*;

/// The good file with `quic` at the UDP VIP, whose backends are `backends`.
fn file(quic: &str, backends: &str) -> String {
    GOOD.replacen(
        "protocol = \"udp\"",
        &format!("protocol = \"udp\"\n{quic}\nbackend = [\n{backends}\n]"),
        1,
    )
}

fn ids(text: &str) -> Vec<String> {
    let vip = &parse("lb.toml", text).expect("valid").vips[1];
    vip.backends
        .iter()
        .map(|backend| backend.server_id.map_or_else(String::new, |id| id.to_string()))
        .collect()
}

#[test]
fn an_id_is_the_files_or_the_addresss_hash() {
    let backends = "{ address = \"192.0.2.21\" },\n{ address = \"192.0.2.22\", server_id = \"0A0b0c0d\" },";
    // printf %s 192.0.2.21 | sha256sum
    assert_eq!(
        ids(&file("quic = { server_id_length = 4 }", backends)),
        ["f87aa644", "0a0b0c0d"]
    );
    let quic = |text: &str| parse("lb.toml", text).expect("valid").vips[1].quic;
    let one = "{ address = \"192.0.2.21\" }";
    let default = Quic {
        server_id_length: 8,
        config: 0,
    };
    assert_eq!(quic(&file("quic = {}", one)), Some(default));
    assert_eq!(ids(&file("quic = {}", one))[0].len(), 16);
    let six = Quic {
        server_id_length: 1,
        config: 6,
    };
    assert_eq!(
        quic(&file("quic = { server_id_length = 1, config = 6 }", one)),
        Some(six)
    );
    assert_eq!((quic(GOOD), ids(&file("", one))), (None, vec![String::new()]));
}

#[test]
fn ipv6_addresses_are_hashed_as_they_are_written_by_rfc_5952() {
    let id = |text: &str| ServerId::of_backend(text.parse().expect("an address"), 8).to_string();
    // printf %s 2001:db8::21 | sha256sum
    assert_eq!(id("2001:db8::21"), "04e3e496881506bc");
    assert_eq!(id("2001:DB8:0:0::21"), id("2001:db8::21"));
}

#[test]
fn what_does_not_fit_is_told_where_it_stands() {
    let one = "{ address = \"192.0.2.21\" }";
    let told = |text: &str| {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{found:#?}");
        let place = found[0].place.expect("a place");
        (place.line, place.column, found[0].message.clone())
    };
    assert_eq!(
        told(&file("quic = { config = 7 }", one)),
        (23, 19, "config is out of range: 7".to_owned())
    );
    assert_eq!(
        told(&file("quic = { server_id_length = 9 }", one)),
        (23, 29, "server_id_length is out of range: 9".to_owned())
    );
    assert_eq!(
        told(&GOOD.replacen("port = 443", "port = 443\nquic = {}", 1)),
        (8, 1, "quic needs protocol = \"udp\"".to_owned())
    );
    let named = |id: &str| format!("{{ address = \"192.0.2.21\", server_id = \"{id}\" }}");
    assert_eq!(
        told(&file("", &named("01"))),
        (25, 39, "server_id is for a VIP with `quic`".to_owned())
    );
    for id in ["", "012", "010203", "01020g", "0102030405"] {
        let (line, column, message) = told(&file("quic = { server_id_length = 4 }", &named(id)));
        assert_eq!((line, column), (25, 39));
        assert_eq!(message, format!("{id:?} is no server id of 4 bytes"));
    }
}

#[test]
fn two_backends_with_one_id_are_refused() {
    let twins = "{ address = \"192.0.2.21\", server_id = \"01\" },\n{ address = \"192.0.2.22\", server_id = \"01\" },";
    let found = errors(&file("quic = { server_id_length = 1 }", twins));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].message, "the server id 01 is that of 192.0.2.21 too");
    assert_eq!(found[0].place, Some(Place { line: 26, column: 39 }));
    let hint = found[0].hint.clone().unwrap_or_default();
    assert!(hint.starts_with("on line 25; "), "{hint}");

    // Of 200 hashes of one byte some are the same.
    let many: String = (1..=200)
        .map(|n| format!("{{ address = \"198.51.100.{n}\" }},\n"))
        .collect();
    let found = errors(&file("quic = { server_id_length = 1 }", &many));
    assert!(
        !found.is_empty()
            && found
                .iter()
                .all(|error| error.message.contains(" is that of 198.51.100."))
    );
    assert_eq!(ids(&file("quic = {}", &many)).len(), 200);
}

#[test]
fn ids_change_at_run_time() {
    let of = |quic: &str, id: &str| {
        let backend = format!("{{ address = \"192.0.2.21\", server_id = \"{id}\" }}");
        parse("lb.toml", &file(quic, &backend)).expect("valid")
    };
    let quic = "quic = { server_id_length = 1 }";
    let old = of(quic, "01");
    for new in [
        of(quic, "02"),
        of("quic = { server_id_length = 1, config = 3 }", "01"),
    ] {
        let found = difference(&old, &new);
        assert_eq!(found.changed[0].fields, [Field::Quic]);
        assert!(found.fixed.is_empty());
        assert_eq!(keep_fixed(&old, &new), new);
    }
    assert!(difference(&old, &of(quic, "01")).is_empty());
}
