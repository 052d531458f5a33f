//! The name server's configuration and its checks: names as text become a [`Zone`] or a clear refusal.
//!
//! Knows nothing of sockets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::rr::Name;
use ipnet::IpNet;
use serde::Deserialize;

use super::zone::{Named, Zone, ZoneParts};
use crate::config::{Check, Probe, Request, Timing, parse_duration};

/// Contents of `dns.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses served, each over UDP and TCP
    pub listen: Vec<SocketAddr>,
    /// The zone's name
    pub zone: String,
    /// How long a resolver may keep an address, in seconds
    #[serde(default = "default_ttl")]
    pub ttl_seconds: u32,
    /// How long a resolver may keep "no such name" and "no such data", in seconds
    #[serde(default = "default_ttl")]
    pub negative_ttl_seconds: u32,
    /// The name server's own name: the zone's NS and its SOA's MNAME
    pub primary: String,
    /// The responsible mailbox in DNS form, `hostmaster.example.com` for hostmaster@example.com
    pub contact: String,
    /// What this server calls itself to those who ask (NSID, and `id.server` in class CH)
    pub nsid: Option<String>,
    /// Whose questions about the checks are answered (`status.<zone>` in class CH); nobody's by default
    #[serde(default)]
    pub status_clients: Vec<IpNet>,
    /// The names that have addresses
    #[serde(default, rename = "name")]
    pub names: Vec<NameConfig>,
}

/// One name and its addresses.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameConfig {
    /// The full name
    pub name: String,
    /// IPv4 and IPv6 addresses, those of each family rotated from answer to answer
    pub addresses: Vec<String>,
    /// How it is found out which of them serve; without it all are taken to
    pub check: Option<CheckConfig>,
}

/// A check of a name's addresses: what a client would do. The defaults are those of the balancer's checks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckConfig {
    /// What is done
    pub kind: Kind,
    /// The port
    pub port: u16,
    /// Host header and TLS server name; default: the name itself
    pub host: Option<String>,
    /// What is asked for; default /
    pub path: Option<String>,
    /// The status that passes; default 200
    pub status: Option<u16>,
    /// From check to check
    pub interval: Option<String>,
    /// A check that takes longer has failed
    pub timeout: Option<String>,
    /// Failures in a row until an address is left out
    pub fall: Option<u32>,
    /// Passes in a row until it is back
    pub rise: Option<u32>,
}

/// What a check does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Connects
    Tcp,
    /// Connects and asks
    Http,
    /// The same within TLS
    Https,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// There is nothing to listen on.
    #[error("listen: at least one address is needed")]
    NoListen,
    /// A text that is no domain name.
    #[error("{key}: {text:?} is not a domain name ({why})")]
    BadName {
        /// The key that holds it
        key: &'static str,
        /// What was written
        text: String,
        /// The parser's complaint
        why: String,
    },
    /// A name that this zone cannot answer for.
    #[error("name: {name} is outside the zone {zone}")]
    OutsideZone {
        /// The name
        name: String,
        /// The zone
        zone: String,
    },
    /// A name that is listed twice, be it in another case.
    #[error("name: {0} is listed twice; put all its addresses into one entry")]
    Duplicate(String),
    /// A name without an address.
    #[error("addresses of {0}: at least one is needed")]
    NoAddresses(String),
    /// A text that is no IP address.
    #[error("addresses of {name}: {text:?} is not an IP address")]
    BadAddress {
        /// The name
        name: String,
        /// What was written
        text: String,
    },
    /// The same address twice for one name.
    #[error("addresses of {name}: {address} is listed twice")]
    DuplicateAddress {
        /// The name
        name: String,
        /// The address
        address: IpAddr,
    },
    /// A check's key has a value out of its range, or one that its kind has no use for.
    #[error("check of {name}: {key} {why}")]
    BadCheck {
        /// The name
        name: String,
        /// The key
        key: &'static str,
        /// What is wrong
        why: String,
    },
    /// A name of the server that doesn't fit into an answer.
    #[error("nsid: 1 to 255 printable ASCII characters are wanted")]
    BadNsid,
    /// The primary lies in the zone and nobody could find its address.
    #[error("primary: {0} lies in the zone but has no entry with its address")]
    NoGlue(String),
    /// A time to live beyond what RFC 2181 section 8 allows.
    #[error("{key}: {seconds} is too long; the longest time to live is {MAX_TTL} s")]
    TtlTooLong {
        /// The key that holds it
        key: &'static str,
        /// What was written
        seconds: u32,
    },
}

/// The longest time to live: 2^31 - 1 seconds (RFC 2181 section 8).
const MAX_TTL: u32 = i32::MAX as u32;

const fn default_ttl() -> u32 {
    10
}

impl Config {
    /// Checks everything and builds the zone.
    ///
    /// # Errors
    /// The first thing that is wrong, naming the key and the text.
    pub fn zone(&self) -> Result<Zone, ConfigError> {
        if self.listen.is_empty() {
            return Err(ConfigError::NoListen);
        }
        for (key, seconds) in [
            ("ttl_seconds", self.ttl_seconds),
            ("negative_ttl_seconds", self.negative_ttl_seconds),
        ] {
            if seconds > MAX_TTL {
                return Err(ConfigError::TtlTooLong { key, seconds });
            }
        }
        if let Some(nsid) = &self.nsid
            && !((1..=255).contains(&nsid.len()) && nsid.bytes().all(|c| (b' '..=b'~').contains(&c)))
        {
            return Err(ConfigError::BadNsid);
        }
        let origin = parse("zone", &self.zone)?;
        let primary = parse("primary", &self.primary)?;
        let contact = parse("contact", &self.contact)?;
        let mut names: Vec<Named> = Vec::with_capacity(self.names.len());
        for entry in &self.names {
            let name = parse("name", &entry.name)?;
            if !origin.zone_of(&name) {
                return Err(ConfigError::OutsideZone {
                    name: entry.name.clone(),
                    zone: self.zone.clone(),
                });
            }
            // hickory compares names without regard to case, as DNS does.
            if names.iter().any(|other| other.name == name) {
                return Err(ConfigError::Duplicate(entry.name.clone()));
            }
            names.push(Named {
                name,
                addresses: addresses(entry)?,
                check: entry
                    .check
                    .as_ref()
                    .map(|check| check.of(&entry.name))
                    .transpose()?,
            });
        }
        if origin.zone_of(&primary) && !names.iter().any(|named| named.name == primary) {
            return Err(ConfigError::NoGlue(self.primary.clone()));
        }
        Ok(Zone::new(ZoneParts {
            origin,
            primary,
            contact,
            ttl: self.ttl_seconds,
            negative_ttl: self.negative_ttl_seconds,
            names,
        }))
    }
}

/// A check more often than this is load, not knowledge.
const INTERVAL_MIN: Duration = Duration::from_millis(50);
const HOUR: Duration = Duration::from_secs(3_600);

impl CheckConfig {
    fn of(&self, name: &str) -> Result<Check, ConfigError> {
        let bad = |key, why: String| ConfigError::BadCheck {
            name: name.to_owned(),
            key,
            why,
        };
        let duration = |key, text: &Option<String>, least: Duration, default| match text {
            None => Ok(default),
            Some(text) => match parse_duration(text) {
                Ok(duration) if (least..=HOUR).contains(&duration) => Ok(duration),
                Ok(_) => Err(bad(key, format!("is out of range: {text:?}"))),
                Err(error) => Err(bad(key, format!("{text:?}: {error}"))),
            },
        };
        let count = |key, count: Option<u32>, default| match count.unwrap_or(default) {
            count @ 1..=100 => Ok(count),
            _ => Err(bad(key, "must be from 1 to 100".to_owned())),
        };
        if self.port == 0 {
            return Err(bad("port", "must not be 0".to_owned()));
        }
        if self.kind == Kind::Tcp {
            for (key, is_there) in [
                ("host", self.host.is_some()),
                ("path", self.path.is_some()),
                ("status", self.status.is_some()),
            ] {
                if is_there {
                    return Err(bad(key, "is for kind \"http\" or \"https\"".to_owned()));
                }
            }
        }
        let path = self.path.as_deref().unwrap_or("/");
        if !path.starts_with('/') || !path.bytes().all(|c| c.is_ascii_graphic() && c != b'#') {
            return Err(bad(
                "path",
                "must begin with / and be percent-encoded ASCII".to_owned(),
            ));
        }
        let status = self.status.unwrap_or(200);
        if !(100..=599).contains(&status) {
            return Err(bad("status", "must be from 100 to 599".to_owned()));
        }
        let request = Request {
            host: self
                .host
                .clone()
                .unwrap_or_else(|| name.trim_end_matches('.').to_owned()),
            path: path.to_owned(),
            status,
        };
        let default = Timing::default();
        Ok(Check {
            port: self.port,
            probe: match self.kind {
                Kind::Tcp => Probe::Tcp,
                Kind::Http => Probe::Http(request),
                Kind::Https => Probe::Https(request),
            },
            timing: Timing {
                interval: duration("interval", &self.interval, INTERVAL_MIN, default.interval)?,
                timeout: duration("timeout", &self.timeout, INTERVAL_MIN, default.timeout)?,
                fall: count("fall", self.fall, default.fall)?,
                rise: count("rise", self.rise, default.rise)?,
                ..default
            },
        })
    }
}

fn addresses(entry: &NameConfig) -> Result<Vec<IpAddr>, ConfigError> {
    if entry.addresses.is_empty() {
        return Err(ConfigError::NoAddresses(entry.name.clone()));
    }
    let mut parsed = Vec::with_capacity(entry.addresses.len());
    for text in &entry.addresses {
        let address: IpAddr = text.parse().map_err(|_| ConfigError::BadAddress {
            name: entry.name.clone(),
            text: text.clone(),
        })?;
        if parsed.contains(&address) {
            return Err(ConfigError::DuplicateAddress {
                name: entry.name.clone(),
                address,
            });
        }
        parsed.push(address);
    }
    Ok(parsed)
}

/// Reads a name as fully qualified, with or without the final dot.
fn parse(key: &'static str, text: &str) -> Result<Name, ConfigError> {
    let refused = |why: String| ConfigError::BadName {
        key,
        text: text.to_owned(),
        why,
    };
    let mut name = Name::from_ascii(text).map_err(|error| refused(error.to_string()))?;
    if name.num_labels() == 0 {
        return Err(refused("it has no label".to_owned()));
    }
    name.set_fqdn(true);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        listen = ["127.0.0.1:53"]
        zone = "wwwfoobar.com"
        primary = "dns1.wwwfoobar.com"
        contact = "hostmaster.wwwfoobar.com"
        [[name]]
        name = "wwwfoobar.com"
        addresses = ["192.0.2.101", "192.0.2.102"]
        [[name]]
        name = "dns1.wwwfoobar.com"
        addresses = ["192.0.2.53"]
    "#;

    fn refusal(from: &str, to: &str) -> String {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "nothing was replaced");
        let config: Config = toml::from_str(&text).unwrap();
        config.zone().unwrap_err().to_string()
    }

    #[test]
    fn a_good_file_is_taken() {
        let config: Config = toml::from_str(GOOD).unwrap();
        assert_eq!(config.ttl_seconds, 10);
        config.zone().unwrap();
    }

    #[test]
    fn each_refusal_names_the_culprit() {
        assert_eq!(
            refusal(
                "\"dns1.wwwfoobar.com\"\n        addresses",
                "\"dns1.example.net\"\n        addresses"
            ),
            "name: dns1.example.net is outside the zone wwwfoobar.com"
        );
        assert_eq!(
            refusal("\"192.0.2.102\"", "\"192.0.2.300\""),
            "addresses of wwwfoobar.com: \"192.0.2.300\" is not an IP address"
        );
        assert_eq!(
            refusal("\"192.0.2.102\"", "\"192.0.2.101\""),
            "addresses of wwwfoobar.com: 192.0.2.101 is listed twice"
        );
        assert_eq!(
            refusal("\"192.0.2.53\"", ""),
            "addresses of dns1.wwwfoobar.com: at least one is needed"
        );
        assert_eq!(
            refusal(
                "\"dns1.wwwfoobar.com\"\n        addresses",
                "\"WWWfoobar.com.\"\n        addresses"
            ),
            "name: WWWfoobar.com. is listed twice; put all its addresses into one entry"
        );
        assert_eq!(
            refusal("primary = \"dns1.", "primary = \"dns2."),
            "primary: dns2.wwwfoobar.com lies in the zone but has no entry with its address"
        );
        assert_eq!(
            refusal("[\"127.0.0.1:53\"]", "[]"),
            "listen: at least one address is needed"
        );
        assert!(refusal("zone = \"wwwfoobar.com\"", "zone = \"www..com\"").starts_with("zone: \"www..com\""));
        assert!(refusal("zone =", "ttl_seconds = 3000000000\nzone =").starts_with("ttl_seconds: 3000000000"));
    }

    #[test]
    fn a_check_is_what_a_client_would_do() {
        let with = |check: &str| {
            let text = GOOD.replace(
                "\"192.0.2.102\"]",
                &format!("\"192.0.2.102\"]\ncheck = {{ {check} }}"),
            );
            toml::from_str::<Config>(&text).unwrap().zone()
        };
        let zone = with("kind = \"https\", port = 443, path = \"/healthz\", interval = \"500ms\", fall = 2")
            .unwrap();
        assert_eq!(zone.checked().len(), 2);
        let check = &zone.checked()[0].check;
        let Probe::Https(request) = &check.probe else {
            panic!("{check:?}")
        };
        assert_eq!(
            (request.host.as_str(), request.path.as_str(), request.status),
            ("wwwfoobar.com", "/healthz", 200)
        );
        assert_eq!(
            (check.timing.interval, check.timing.fall, check.timing.rise),
            (Duration::from_millis(500), 2, 2)
        );
        for (check, refusal) in [
            (
                "kind = \"tcp\", port = 0",
                "check of wwwfoobar.com: port must not be 0",
            ),
            (
                "kind = \"tcp\", port = 443, path = \"/\"",
                "check of wwwfoobar.com: path is for kind \"http\" or \"https\"",
            ),
            (
                "kind = \"http\", port = 80, path = \"x\"",
                "check of wwwfoobar.com: path must begin with / and be percent-encoded ASCII",
            ),
            (
                "kind = \"http\", port = 80, interval = \"1ms\"",
                "check of wwwfoobar.com: interval is out of range: \"1ms\"",
            ),
            (
                "kind = \"http\", port = 80, rise = 0",
                "check of wwwfoobar.com: rise must be from 1 to 100",
            ),
        ] {
            assert_eq!(with(check).unwrap_err().to_string(), refusal);
        }
        assert_eq!(
            refusal("zone =", "nsid = \"\"\nzone ="),
            "nsid: 1 to 255 printable ASCII characters are wanted"
        );
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<Config>(&format!("tll = 3\n{GOOD}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("tll"), "{error}");
    }
}
