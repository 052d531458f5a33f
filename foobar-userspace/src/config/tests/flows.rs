//! Hash and tracking.

use super::*;

fn first(lines: &str) -> Vip {
    let text = GOOD.replacen("port = 443", &format!("port = 443\n{lines}"), 1);
    parse("lb.toml", &text).expect("valid").vips[0].clone()
}

#[test]
fn hash_and_tracking_are_read() {
    let default = first("");
    assert_eq!(
        (default.hash, default.tracking),
        (FlowHash::FiveTuple, Tracking::Transitions)
    );
    assert_eq!(first("hash = \"source\"").hash, FlowHash::Source);
    assert_eq!(first("hash = \"5-tuple\"").hash, FlowHash::FiveTuple);
    for (lines, tracking) in [
        ("tracking = \"transitions\"", Tracking::Transitions),
        ("tracking = \"all\"", Tracking::All),
        ("tracking = \"all\"\nmidstream = \"pickup\"", Tracking::All),
        ("tracking = \"all\"\nmidstream = \"refuse\"", Tracking::AllStrict),
        ("tracking = \"none\"", Tracking::None),
    ] {
        assert_eq!(first(lines).tracking, tracking, "{lines}");
    }
}

#[test]
fn what_does_not_fit_is_told() {
    for (from, lines, place, message, hint) in [
        (
            "port = 443",
            "hash = \"3-tuple\"",
            (8, 8),
            "hash cannot be \"3-tuple\"",
            "did you mean `5-tuple`?",
        ),
        (
            "port = 443",
            "tracking = \"every\"",
            (8, 12),
            "tracking cannot be \"every\"",
            "one of transitions, all, none",
        ),
        (
            "port = 443",
            "midstream = \"refuse\"",
            (8, 1),
            "midstream needs tracking = \"all\"",
            "otherwise the slot says whose an unknown segment is",
        ),
        (
            "port = 53",
            "tracking = \"all\"\nmidstream = \"refuse\"",
            (23, 1),
            "midstream is for TCP",
            "UDP has no handshake: remove the key",
        ),
    ] {
        let to = format!("{from}\n{lines}");
        let expected = (place.0, place.1, message.to_owned(), hint.to_owned());
        assert_eq!(wrong(from, &to), expected);
    }
}

#[test]
fn second_chance_stands_for_no_notes() {
    let file = |tracking: &str| {
        let lines = format!("port = 443\nforward = \"gue\"\nsecond_chance = true\ntracking = \"{tracking}\"");
        format!(
            "tunnel.source_v4 = \"192.0.2.11\"\n{}",
            GOOD.replacen("port = 443", &lines, 1)
        )
    };
    assert!(parse("lb.toml", &file("none")).is_ok());
    let found = errors(&file("all"));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "with second_chance no flow is noted");
    assert_eq!(found[0].place, Some(Place { line: 11, column: 1 }));
}

#[test]
fn tracking_changes_at_run_time_and_the_hash_does_not() {
    let old = good();
    let mut new = old.clone();
    new.vips[0].tracking = Tracking::All;
    new.vips[0].hash = FlowHash::Source;
    let found = difference(&old, &new);
    assert_eq!(found.changed[0].fields, [Field::Tracking]);
    let fixed = FixedChange {
        setting: "site-a: hash".to_owned(),
        old: "5-tuple".to_owned(),
        new: "source".to_owned(),
    };
    assert_eq!(found.fixed, [fixed]);
    let kept = keep_fixed(&old, &new);
    assert_eq!(
        (kept.vips[0].hash, kept.vips[0].tracking),
        (FlowHash::FiveTuple, Tracking::All)
    );
}
