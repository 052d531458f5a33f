//! `[etcd]`, and files that a value from etcd is joined to.

use super::super::etcd::{Endpoint, Identity, Login, Shared, parse_with};
use super::*;

const OWN: &str = r#"interface = "eth0"

[etcd]
endpoints = ["https://192.0.2.50:2379", "https://[2001:db8::50]:2379"]
key = "/foobar/lb"
copy = "/var/lib/foobar/lb.etcd.toml"
ca = "/etc/foobar/ca.pem"
"#;

const VALUE: &str = r#"
[[vip]]
name = "site-a"
address = "192.0.2.101"
port = 443
[[vip.backend]]
address = "192.0.2.21"
"#;

const NAME: &str = "etcd key /foobar/lb";

fn joined(own: &str, value: &str) -> Result<Config, Report> {
    let shared = Shared {
        name: NAME,
        text: value,
    };
    parse_with("lb.toml", own, shared)
}

/// Where what is wrong with both: the source, the line and the message of each error.
fn wrong(own: &str, value: &str) -> Vec<(String, usize, String)> {
    let report = joined(own, value).expect_err("they are bad");
    let place = |error: &Problem| {
        let source = error.source.clone().unwrap_or_else(|| report.file().to_owned());
        (source, error.place.expect("a place").line, error.message.clone())
    };
    report.errors().iter().map(place).collect()
}

/// What is wrong with the table when these lines are added to it, or stand for all that it has.
fn wrong_table(table: &str) -> Vec<String> {
    let text = format!("interface = \"eth0\"\n[etcd]\n{table}");
    let messages = |report: Report| {
        report
            .errors()
            .iter()
            .map(|error| error.message.clone())
            .collect()
    };
    parse("lb.toml", &text).map_or_else(messages, |_| Vec::new())
}

#[test]
fn the_table_is_read() {
    let text = format!(
        "{OWN}certificate = \"me.pem\"\nprivate_key = \"me.key\"\nusername = \"lb\"\npassword_file = \"pw\"\n"
    );
    let etcd = parse("lb.toml", &text).expect("valid").etcd.expect("there");
    let endpoints: Vec<String> = etcd.endpoints.iter().map(Endpoint::to_string).collect();
    assert_eq!(
        endpoints,
        ["https://192.0.2.50:2379", "https://[2001:db8::50]:2379"]
    );
    assert_eq!(etcd.endpoints[1].host, "2001:db8::50");
    assert_eq!(
        (etcd.key.as_str(), etcd.ca),
        ("/foobar/lb", Some("/etc/foobar/ca.pem".into()))
    );
    let identity = Identity {
        certificate: "me.pem".into(),
        private_key: "me.key".into(),
    };
    let login = Login {
        username: "lb".into(),
        password_file: "pw".into(),
    };
    assert_eq!((etcd.identity, etcd.login), (Some(identity), Some(login)));
    assert_eq!(good().etcd, None);
}

#[test]
fn what_is_wrong_with_the_table_is_told() {
    let rest = "key = \"/a\"\ncopy = \"/c\"\n";
    let one = |endpoints: &str, lines: &str| {
        let found = wrong_table(&format!("endpoints = {endpoints}\n{rest}{lines}"));
        let [message] = found.as_slice() else {
            panic!("one error expected: {found:?}")
        };
        message.clone()
    };
    assert_eq!(
        wrong_table(""),
        ["`endpoints` is missing", "`key` is missing", "`copy` is missing"]
    );
    assert_eq!(one("[]", ""), "endpoints is empty");
    for bad in [
        "192.0.2.50:2379",
        "http://192.0.2.50",
        "ftp://a:1",
        "http://a:1/v3",
        "http://a:1?x",
        "http://a:0",
    ] {
        assert_eq!(
            one(&format!("[{bad:?}]"), ""),
            format!("{bad:?} is not an endpoint")
        );
    }
    assert_eq!(
        one("[\"http://a:1\", \"http://a:1\"]", ""),
        "http://a:1 is in endpoints twice"
    );
    let ten: Vec<String> = (1..=10).map(|n| format!("http://a:{n}")).collect();
    assert_eq!(one(&format!("{ten:?}"), ""), "endpoints has more than 9 entries");
    assert_eq!(one("[\"https://a:1\"]", ""), "`ca` is missing");
    assert_eq!(
        one("[\"http://a:1\"]", "ca = \"x\""),
        "`ca` is there, but no endpoint is https"
    );
    assert_eq!(
        one("[\"https://a:1\"]", "ca = \"x\"\ncertificate = \"y\""),
        "`certificate` is there without `private_key`"
    );
    assert_eq!(
        one("[\"https://a:1\"]", "ca = \"x\"\npassword_file = \"y\""),
        "`password_file` is there without `username`"
    );
    assert_eq!(
        one("[\"http://a:1\"]", "username = \"u\"\npassword_file = \"y\""),
        "the password would be sent to http://a:1 for all to read"
    );
}

#[test]
fn a_password_in_a_url_is_refused_and_not_repeated() {
    let text =
        "interface = \"eth0\"\n[etcd]\nendpoints = [\"http://u:s3cret@a:1\"]\nkey = \"/a\"\ncopy = \"/c\"\n";
    let said = parse("lb.toml", text).expect_err("refused").to_string();
    assert!(
        said.contains("a name or a password") && !said.contains("s3cret"),
        "{said}"
    );
}

#[test]
fn file_and_value_become_what_one_file_would_be() {
    let one = parse("lb.toml", &format!("{OWN}{VALUE}")).expect("valid");
    assert_eq!(joined(OWN, VALUE), Ok(one));
    assert_eq!(parse("lb.toml", OWN).expect("valid").vips, []);
}

#[test]
fn what_the_value_says_may_need_what_the_file_has() {
    let value = VALUE.replace("port = 443", "port = 443\nvrrp = \"a\"");
    let group = "[[vrrp]]\nname = \"a\"\nrouter_id = 51\n";
    assert!(joined(&format!("{OWN}{group}"), &value).is_ok());
    assert_eq!(
        wrong(OWN, &value),
        [(NAME.to_owned(), 6, "there is no [[vrrp]] named \"a\"".to_owned())]
    );
}

#[test]
fn errors_are_at_their_place_in_the_text_that_they_are_in() {
    let own = OWN.replace("eth0", "no/interface");
    let value = VALUE.replace("443", "0");
    let found = wrong(&own, &value);
    let places: Vec<(&str, usize)> = found
        .iter()
        .map(|(name, line, _)| (name.as_str(), *line))
        .collect();
    assert_eq!(places, [("lb.toml", 1), (NAME, 5)], "{found:?}");
    let said = joined(OWN, &value).expect_err("bad").to_string();
    assert!(
        said.contains("etcd key /foobar/lb:5:8") && said.contains("port = 0"),
        "{said}"
    );
    // A text that is no TOML.
    let found = wrong(OWN, "[[vip]]\nname =\n");
    assert_eq!((found[0].0.as_str(), found[0].1), (NAME, 2), "{found:?}");
    let found = wrong("interface =\n", VALUE);
    assert_eq!((found[0].0.as_str(), found[0].1), ("lb.toml", 1), "{found:?}");
}

#[test]
fn a_key_in_both_is_refused_and_both_are_named() {
    let own = format!("{OWN}{}", VALUE.replace("site-a", "mine"));
    let report = joined(&own, VALUE).expect_err("refused");
    let [error] = report.errors() else {
        panic!("one error expected: {report}")
    };
    assert_eq!(error.message, "`vip` is here and in lb.toml");
    assert_eq!(
        error.hint.as_deref(),
        Some("there on line 9; it must be in one of both")
    );
    assert_eq!(
        (error.source.as_deref(), error.place.map(|place| place.line)),
        (Some(NAME), Some(2))
    );
}

#[test]
fn what_is_a_machines_own_is_refused_by_name() {
    for (name, line) in [
        ("interface", "interface = \"eth1\""),
        ("bgp", "bgp = {}"),
        ("etcd", "etcd = {}"),
    ] {
        let found = wrong(OWN, &format!("{line}\n{VALUE}"));
        let message = format!("`{name}` is a machine's own, a fleet does not share it");
        assert_eq!(found, [(NAME.to_owned(), 1, message)]);
    }
    assert_eq!(
        wrong(OWN, "nonsense = 1\n"),
        [(NAME.to_owned(), 1, "unknown key `nonsense`".to_owned())]
    );
}
