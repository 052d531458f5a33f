//! The name server's configuration and its checks: names as text become a [`Zone`] or a clear refusal.
//!
//! Knows nothing of sockets.

use std::net::{IpAddr, SocketAddr};

use hickory_proto::rr::Name;
use serde::Deserialize;

use super::zone::{Zone, ZoneParts};

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
        let origin = parse("zone", &self.zone)?;
        let primary = parse("primary", &self.primary)?;
        let contact = parse("contact", &self.contact)?;
        let mut names: Vec<(Name, Vec<IpAddr>)> = Vec::with_capacity(self.names.len());
        for entry in &self.names {
            let name = parse("name", &entry.name)?;
            if !origin.zone_of(&name) {
                return Err(ConfigError::OutsideZone {
                    name: entry.name.clone(),
                    zone: self.zone.clone(),
                });
            }
            // hickory compares names without regard to case, as DNS does.
            if names.iter().any(|(other, _)| *other == name) {
                return Err(ConfigError::Duplicate(entry.name.clone()));
            }
            names.push((name, addresses(entry)?));
        }
        if origin.zone_of(&primary) && !names.iter().any(|(name, _)| *name == primary) {
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
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<Config>(&format!("tll = 3\n{GOOD}"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("tll"), "{error}");
    }
}
