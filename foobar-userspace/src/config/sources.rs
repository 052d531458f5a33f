//! Source lists: `[[list]]` with its file of prefixes, and a VIP's `deny` and `allow`.
//!
//! What a VIP names is joined to one list of prefixes, each with its verdict. VIPs that name the same share it.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use super::report::Problems;
use super::walk::Section;

pub(super) const LIST_KEYS: [&str; 2] = ["name", "file"];

/// The word for all sources that no list names.
const ALL: &str = "all";
/// Bad lines of one file that are told; of more there is only the number.
const BAD_LINES: usize = 5;
/// Bits before an IPv4 address in its mapped form.
const MAPPED_BITS: u8 = 96;

/// What becomes of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Its packets are dropped.
    Deny,
    /// Its packets are served.
    Allow,
}

/// A prefix of sources, IPv4 in its mapped form; bits beyond the length are 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The address's 16 bytes.
    pub address: [u8; 16],
    /// Its length in bits; of an IPv4 prefix 96 more than it is written with.
    pub length: u8,
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Ipv6Addr::from(self.address).to_canonical() {
            IpAddr::V4(v4) if self.length >= MAPPED_BITS => {
                write!(f, "{v4}/{}", self.length - MAPPED_BITS)
            }
            _ => write!(f, "{}/{}", Ipv6Addr::from(self.address), self.length),
        }
    }
}

/// Why a text is no prefix.
#[derive(Debug, PartialEq, Eq)]
struct BadPrefix {
    message: String,
    hint: String,
}

impl Prefix {
    fn parse(text: &str) -> Result<Self, BadPrefix> {
        let bad = |what: &str, hint: &str| BadPrefix {
            message: format!("{text:?} {what}"),
            hint: hint.to_owned(),
        };
        const SHAPE: &str = "write it as 192.0.2.0/24, 2001:db8::/32, or an address alone";
        let (address, length) = text
            .split_once('/')
            .map_or((text, None), |(address, length)| (address, Some(length)));
        let ip: IpAddr = address
            .parse()
            .map_err(|_| bad("is not a prefix of IP addresses", SHAPE))?;
        let (v6, most) = match ip {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 32),
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
                return Err(bad("is an IPv4-mapped IPv6 prefix", "write it as an IPv4 prefix"));
            }
            IpAddr::V6(v6) => (v6, 128),
        };
        let written = match length {
            None => most,
            Some(length) => length
                .parse::<u8>()
                .ok()
                .filter(|length| *length <= most && length.to_string() == text[address.len() + 1..])
                .ok_or_else(|| bad("has a length that it can't have", &format!("0 to {most}")))?,
        };
        let length = written + (128 - most);
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        let masked = v6.to_bits() & mask;
        if masked != v6.to_bits() {
            let network = Self {
                address: masked.to_be_bytes(),
                length,
            };
            return Err(bad(
                "has bits beyond its length",
                &format!("the network is {network:?}; of a single host leave the length out"),
            ));
        }
        Ok(Self {
            address: masked.to_be_bytes(),
            length,
        })
    }
}

/// Which sources a VIP serves. The longest prefix that a source matches decides.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Sources that match none are denied.
    pub only: bool,
    /// The prefixes in order, each once; of one that is allowed as well as denied, the former.
    pub prefixes: Vec<(Prefix, Verdict)>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = if self.only { "denied" } else { "served" };
        write!(f, "{} prefixes, others {others}", self.prefixes.len())
    }
}

impl Sources {
    fn new(only: bool, mut prefixes: Vec<(Prefix, Verdict)>) -> Self {
        let mapped = Prefix {
            address: Ipv4Addr::UNSPECIFIED.to_ipv6_mapped().octets(),
            length: MAPPED_BITS,
        };
        if prefixes.iter().any(|(prefix, _)| covers(*prefix, mapped)) {
            // An IPv6 prefix says nothing of IPv4, which has its place within.
            let others = if only { Verdict::Deny } else { Verdict::Allow };
            if prefixes.iter().all(|(prefix, _)| *prefix != mapped) {
                prefixes.push((mapped, others));
            }
        }
        // Allow comes before deny where the prefix is the same.
        prefixes.sort_unstable_by(|(a, a_verdict), (b, b_verdict)| a.cmp(b).then(b_verdict.cmp(a_verdict)));
        prefixes.dedup_by_key(|(prefix, _)| *prefix);
        Self { only, prefixes }
    }

    /// What becomes of a source; slowly, for tests and explanations.
    #[must_use]
    pub fn verdict(&self, source: IpAddr) -> Verdict {
        let address = match source {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let host = Prefix {
            address: address.octets(),
            length: 128,
        };
        let longest = self
            .prefixes
            .iter()
            .filter(|(prefix, _)| *prefix == host || covers(*prefix, host))
            .max_by_key(|(prefix, _)| prefix.length);
        match longest {
            Some((_, verdict)) => *verdict,
            None if self.only => Verdict::Deny,
            None => Verdict::Allow,
        }
    }
}

/// Whether the first prefix is shorter than the second, and covers it.
fn covers(wide: Prefix, narrow: Prefix) -> bool {
    let mask = u128::MAX.checked_shl(128 - u32::from(wide.length)).unwrap_or(0);
    wide.length < narrow.length
        && u128::from_be_bytes(narrow.address) & mask == u128::from_be_bytes(wide.address)
}

/// The lists of a file, and what VIPs have made of them so far.
pub(super) struct Lists<'t> {
    by_name: HashMap<&'t str, List>,
    joined: HashMap<(Vec<String>, Vec<String>), Arc<Sources>>,
}

struct List {
    line: usize,
    prefixes: Arc<Vec<Prefix>>,
}

impl<'t> Lists<'t> {
    /// Reads all `[[list]]` and their files; `directory` is what relative paths begin at.
    pub(super) fn read(sections: &[Section<'t, '_>], directory: &Path, problems: &mut Problems<'_>) -> Self {
        let mut by_name: HashMap<&'t str, List> = HashMap::new();
        for section in sections {
            section.require("name", "\"abusers\"", problems);
            section.require("file", "\"/etc/foobar/abusers.txt\"", problems);
            let (name, file) = (section.string("name", problems), section.string("file", problems));
            let prefixes = file
                .map(|file| prefixes(&file, directory, problems))
                .unwrap_or_default();
            let Some(name) = name else { continue };
            let text = *name.get_ref();
            if text == ALL || Prefix::parse(text).is_ok() || !super::service::is_name(text) {
                problems.add(
                    name.span(),
                    format!("{text:?} cannot be a list's name"),
                    "1 to 63 of a-z, 0-9 and -, and not `all`",
                );
                continue;
            }
            if let Some(first) = by_name.get(text) {
                let hint = format!("first on line {}", first.line);
                problems.add(name.span(), format!("the name {text:?} is taken"), hint);
                continue;
            }
            let line = problems.line(&name.span());
            by_name.insert(
                text,
                List {
                    line,
                    prefixes: Arc::new(prefixes),
                },
            );
        }
        Self {
            by_name,
            joined: HashMap::new(),
        }
    }

    /// Which sources a VIP serves; `None`: all.
    pub(super) fn of_vip(
        &mut self,
        vip: &Section<'t, '_>,
        problems: &mut Problems<'_>,
    ) -> Option<Arc<Sources>> {
        let deny = vip.strings("deny", problems);
        let allow = vip.strings("allow", problems);
        if let Some(place) = vip.key("allow")
            && deny.is_empty()
        {
            problems.add(
                place,
                "`allow` without `deny` changes nothing: all sources are served",
                "add deny = [\"all\"] to serve only these",
            );
        }
        if deny.is_empty() && allow.is_empty() {
            return None;
        }
        let texts = |words: &[Spanned<&str>]| -> Vec<String> {
            words.iter().map(|word| (*word.get_ref()).to_owned()).collect()
        };
        let key = (texts(&deny), texts(&allow));
        if let Some(joined) = self.joined.get(&key) {
            return Some(Arc::clone(joined));
        }
        let mut only = false;
        let mut prefixes = Vec::new();
        let words = deny
            .iter()
            .map(|word| (word, Verdict::Deny))
            .chain(allow.iter().map(|word| (word, Verdict::Allow)));
        for (word, verdict) in words {
            let text = *word.get_ref();
            if text == ALL && verdict == Verdict::Deny {
                only = true;
            } else if let Some(list) = self.by_name.get(text) {
                prefixes.extend(list.prefixes.iter().map(|prefix| (*prefix, verdict)));
            } else {
                match Prefix::parse(text) {
                    Ok(prefix) => prefixes.push((prefix, verdict)),
                    Err(bad) if text.contains(['/', '.', ':']) => {
                        problems.add(word.span(), bad.message, bad.hint);
                    }
                    Err(_) => problems.add(
                        word.span(),
                        format!("there is no list {text:?}"),
                        "name a [[list]], or write a prefix such as \"192.0.2.0/24\"",
                    ),
                }
            }
        }
        let joined = Arc::new(Sources::new(only, prefixes));
        self.joined.insert(key, Arc::clone(&joined));
        Some(joined)
    }
}

/// The prefixes in a list's file: one a line, `#` begins a comment.
fn prefixes(file: &Spanned<&str>, directory: &Path, problems: &mut Problems<'_>) -> Vec<Prefix> {
    let path: PathBuf = directory.join(file.get_ref());
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            problems.add(file.span(), message, "a file with a prefix a line");
            return Vec::new();
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut prefixes = Vec::new();
    let mut bad = 0;
    for (line, number) in text.lines().zip(1..) {
        let content = line.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        match Prefix::parse(content) {
            Ok(prefix) => prefixes.push(prefix),
            Err(wrong) => {
                bad += 1;
                if bad <= BAD_LINES {
                    let message = format!("{}:{number}: {}", path.display(), wrong.message);
                    problems.add(file.span(), message, wrong.hint);
                }
            }
        }
    }
    if bad > BAD_LINES {
        let message = format!("{}: {} more bad lines", path.display(), bad - BAD_LINES);
        problems.add(file.span(), message, "");
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        Prefix::parse(text).unwrap_or_else(|bad| panic!("{bad:?}"))
    }

    #[test]
    fn prefixes_are_read_as_people_write_them() {
        for (text, shown) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(format!("{:?}", prefix(text)), shown);
        }
        for text in [
            "",
            "192.0.2.0/33",
            "192.0.2.0/+24",
            "192.0.2.0/024",
            "192.0.2.0/",
            "192.0.2.1/24",
            "192.0.2",
            "10",
            "2001:db8::1/32",
            "2001:db8::/129",
            "::ffff:192.0.2.0/120",
            "example.com",
            "192.0.2.0-192.0.2.9",
        ] {
            assert!(Prefix::parse(text).is_err(), "{text:?}");
        }
        let bad = Prefix::parse("10.1.2.3/8").expect_err("bits beyond its length");
        assert!(bad.hint.contains("10.0.0.0/8"), "{bad:?}");
    }

    #[test]
    fn the_longest_prefix_decides_and_of_equal_ones_the_exception() {
        use Verdict::{Allow, Deny};
        let sources = Sources::new(
            false,
            vec![
                (prefix("198.51.100.7"), Allow),
                (prefix("198.51.100.0/24"), Deny),
                (prefix("198.51.100.7"), Deny),
                (prefix("198.51.100.8"), Deny),
                (prefix("198.51.0.0/16"), Allow),
            ],
        );
        assert_eq!(sources.prefixes.len(), 4);
        for (source, verdict) in [
            ("198.51.100.7", Allow),
            ("198.51.100.8", Deny),
            ("198.51.100.9", Deny),
            ("198.51.101.9", Allow),
            ("203.0.113.1", Allow),
            ("2001:db8::1", Allow),
        ] {
            let source = source.parse().expect("an address");
            assert_eq!(sources.verdict(source), verdict, "{source}");
        }
    }

    #[test]
    fn an_ipv6_prefix_says_nothing_of_ipv4() {
        let v4 = "192.0.2.1".parse().expect("an address");
        for (only, verdict) in [(false, Verdict::Allow), (true, Verdict::Deny)] {
            let opposite = if only { Verdict::Allow } else { Verdict::Deny };
            for wide in ["::/0", "::/64", "::/95"] {
                let sources = Sources::new(only, vec![(prefix(wide), opposite)]);
                assert_eq!(sources.verdict(v4), verdict, "{wide}");
                assert_eq!(
                    sources.verdict(IpAddr::V6(Ipv6Addr::LOCALHOST)),
                    opposite,
                    "{wide}"
                );
            }
            let all_v4 = Sources::new(
                only,
                vec![(prefix("::/0"), verdict), (prefix("0.0.0.0/0"), opposite)],
            );
            assert_eq!(all_v4.verdict(v4), opposite);
        }
    }
}
