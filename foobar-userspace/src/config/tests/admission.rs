//! Source lists with their files, and SYN limits.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A directory with a configuration and the files of its lists.
struct Directory(PathBuf);

impl Directory {
    fn new(files: &[(&str, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("foobar-lists-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("the directory can be made");
        for (name, text) in files {
            fs::write(path.join(name), text).expect("the file can be written");
        }
        Self(path)
    }

    /// The configuration of [`GOOD`] with further lines of its first VIP, and with these lists.
    fn load(&self, vip: &str, lists: &str) -> Result<Config, Report> {
        let text = GOOD.replacen("port = 443", &format!("port = 443\n{vip}"), 1) + lists;
        let path = self.0.join("lb.toml");
        fs::write(&path, text).expect("the file can be written");
        load(&path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

const ABUSERS: &str = "# who they are\n203.0.113.0/24   # the worst\n\n2001:db8:bad::/48\r\n198.51.100.7\n";
const LISTS: &str = "[[list]]\nname = \"abusers\"\nfile = \"abusers.txt\"\n";

fn verdicts<const N: usize>(vip: &Vip, sources: [&str; N]) -> [Verdict; N] {
    let list = vip.sources.as_ref().expect("a list");
    sources.map(|source| list.verdict(source.parse().expect("an address")))
}

fn one_error(result: Result<Config, Report>) -> (String, String) {
    match result.expect_err("the file is bad").errors() {
        [error] => (error.message.clone(), error.hint.clone().unwrap_or_default()),
        errors => panic!("one error expected: {errors:#?}"),
    }
}

#[test]
fn without_lists_and_limits_there_are_none() {
    let vip = &good().vips[0];
    assert_eq!((&vip.sources, vip.syn_limit), (&None, None));
}

#[test]
fn lists_and_prefixes_are_joined() {
    use Verdict::{Allow, Deny};
    let directory = Directory::new(&[("abusers.txt", ABUSERS)]);
    let vip = "deny = [\"abusers\", \"192.0.2.128/25\"]\nallow = [\"203.0.113.9\"]";
    let config = directory.load(vip, LISTS).expect("valid");
    assert_eq!(
        verdicts(
            &config.vips[0],
            [
                "203.0.113.8",
                "203.0.113.9",
                "198.51.100.7",
                "198.51.100.8",
                "192.0.2.200",
                "2001:db8:bad:1::1",
                "2001:db8::1"
            ]
        ),
        [Deny, Allow, Deny, Allow, Deny, Deny, Allow]
    );
    assert_eq!(config.vips[1].sources, None);
    let only = directory
        .load("deny = [\"all\"]\nallow = [\"abusers\"]", LISTS)
        .expect("valid");
    assert_eq!(
        verdicts(&only.vips[0], ["203.0.113.8", "192.0.2.1", "2001:db8::1"]),
        [Allow, Deny, Deny]
    );
}

#[test]
fn vips_that_name_the_same_share_it() {
    let directory = Directory::new(&[("abusers.txt", ABUSERS)]);
    let third = "[[vip]]\nname = \"c\"\naddress = \"192.0.2.103\"\nport = 80\ndeny = [\"abusers\"]\n";
    let config = directory
        .load("deny = [\"abusers\"]", &format!("{third}{LISTS}"))
        .expect("valid");
    let [a, c] = [0, 2].map(|vip| config.vips[vip].sources.clone().expect("a list"));
    assert!(std::sync::Arc::ptr_eq(&a, &c));
}

#[test]
fn a_lists_new_content_is_a_change_of_its_vips() {
    let directory = Directory::new(&[("abusers.txt", ABUSERS)]);
    let load = || directory.load("deny = [\"abusers\"]", LISTS).expect("valid");
    let old = load();
    assert!(difference(&old, &load()).is_empty());
    fs::write(directory.0.join("abusers.txt"), "203.0.113.0/25\n").expect("written");
    let found = difference(&old, &load());
    assert_eq!(found.changed.len(), 1);
    assert_eq!(found.changed[0].fields, [Field::Sources]);
}

#[test]
fn a_bad_line_is_told_with_file_and_number() {
    let directory = Directory::new(&[("abusers.txt", "203.0.113.0/24\n\n203.0.113.1/24\n")]);
    let (message, hint) = one_error(directory.load("deny = [\"abusers\"]", LISTS));
    assert!(
        message.contains("abusers.txt:3: \"203.0.113.1/24\" has bits beyond its length"),
        "{message}"
    );
    assert!(hint.contains("203.0.113.0/24"), "{hint}");

    let many = Directory::new(&[("abusers.txt", &"nonsense\n".repeat(1_000))]);
    let report = many.load("deny = [\"abusers\"]", LISTS).expect_err("bad");
    assert_eq!(report.errors().len(), 6, "{report}");
    assert!(report.to_string().contains("995 more bad lines"), "{report}");
}

#[test]
fn what_names_no_source_is_refused() {
    let directory = Directory::new(&[("abusers.txt", ABUSERS)]);
    for (vip, lists, said) in [
        ("deny = [\"abuser\"]", LISTS, "there is no list \"abuser\""),
        ("deny = [\"10.0.0.1/8\"]", "", "has bits beyond its length"),
        ("deny = [\"10.0.0.0/33\"]", "", "has a length that it can't have"),
        (
            "allow = [\"10.0.0.0/8\"]",
            "",
            "`allow` without `deny` changes nothing",
        ),
        ("deny = \"all\"", "", "deny must be an array of strings"),
        (
            "",
            "[[list]]\nname = \"x\"\nfile = \"missing.txt\"",
            "cannot read",
        ),
        ("", "[[list]]\nname = \"x\"", "`file` is missing"),
        (
            "",
            "[[list]]\nname = \"all\"\nfile = \"abusers.txt\"",
            "cannot be a list's name",
        ),
        (
            "",
            "[[list]]\nname = \"10.0.0.1\"\nfile = \"abusers.txt\"",
            "cannot be a list's name",
        ),
        (
            "",
            "[[list]]\nname = \"x\"\nfile = \"abusers.txt\"\n[[list]]\nname = \"x\"\nfile = \"abusers.txt\"",
            "the name \"x\" is taken",
        ),
    ] {
        let (message, _) = one_error(directory.load(vip, lists));
        assert!(message.contains(said), "{vip} {lists}: {message}");
    }
}

#[test]
fn a_syn_limit_is_taken_from_the_file() {
    let directory = Directory::new(&[]);
    let limit = |line: &str| {
        let config = directory.load(line, "").expect("valid");
        config.vips[0].syn_limit.expect("a limit")
    };
    assert_eq!(
        limit("syn_limit = { rate = \"20000/s\", source_rate = \"30/m\" }"),
        SynLimit {
            vip: Some(Rate {
                cost_ns: 50_000,
                burst: 20_000
            }),
            source: Some(Rate {
                cost_ns: 2_000_000_000,
                burst: 30
            }),
            source_prefix_v4: 32,
            source_prefix_v6: 64,
        }
    );
    assert_eq!(
        limit(
            "syn_limit = { source_rate = \"100/s\", source_burst = 7, source_prefix_v4 = 24, source_prefix_v6 = 56 }"
        ),
        SynLimit {
            vip: None,
            source: Some(Rate {
                cost_ns: 10_000_000,
                burst: 7
            }),
            source_prefix_v4: 24,
            source_prefix_v6: 56,
        }
    );
}

#[test]
fn a_syn_limit_that_limits_otherwise_than_it_says_is_refused() {
    let directory = Directory::new(&[]);
    for (line, said) in [
        ("syn_limit = {}", "without a rate limits nothing"),
        ("syn_limit = { rate = \"5\" }", "\"5\" is not a rate"),
        ("syn_limit = { rate = \"0/s\" }", "\"0/s\" is not a rate"),
        (
            "syn_limit = { rate = \"1000/s\", burst = 9 }",
            "would hold the rate down",
        ),
        (
            "syn_limit = { rate = \"1/m\", burst = 61 }",
            "takes more than an hour",
        ),
        (
            "syn_limit = { rate = \"1/m\", source_burst = 2 }",
            "`source_burst` without `source_rate`",
        ),
        (
            "syn_limit = { rate = \"1/m\", source_prefix_v4 = 33 }",
            "source_prefix_v4 is out of range",
        ),
    ] {
        let (message, _) = one_error(directory.load(line, ""));
        assert!(message.contains(said), "{line}: {message}");
    }
    let udp = GOOD.replace(
        "protocol = \"udp\"",
        "protocol = \"udp\"\nsyn_limit = { rate = \"5/s\" }",
    );
    assert!(errors(&udp)[0].message.contains("syn_limit is for TCP"));
}
