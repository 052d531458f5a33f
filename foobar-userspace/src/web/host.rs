//! The host that a request names: exactly one, well formed, and one of ours where ours are listed.

use http::header;
use http::request::Parts;
use http::uri::Authority;

/// The host and, where it was given, the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(Authority);

/// Why a request's host is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHost {
    /// None, several, contradicting, or not of the form `host[:port]`.
    #[error("the request does not name one well-formed host")]
    Malformed,
    /// Not one of the configured names (421, RFC 9110, section 15.5.20).
    #[error("the host is not one of this server's")]
    Foreign,
}

impl Host {
    /// The host of a request: its target's authority (always so in HTTP/2) or its only `Host` header.
    /// `names` are the hosts that are ours; every one where there are none.
    ///
    /// # Errors
    /// Where it is malformed or foreign.
    pub fn of(request: &Parts, names: &[String]) -> Result<Self, BadHost> {
        let mut values = request.headers.get_all(header::HOST).iter();
        let (first, second) = (values.next(), values.next());
        if second.is_some() {
            return Err(BadHost::Malformed);
        }
        let header = first.map(|value| {
            value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<Authority>().ok())
        });
        let authority = match (request.uri.authority(), header) {
            (_, Some(None)) | (None, None) => return Err(BadHost::Malformed),
            (Some(target), Some(Some(header))) if *target != header => return Err(BadHost::Malformed),
            (Some(target), _) => target.clone(),
            (None, Some(Some(header))) => header,
        };
        let host = Self(authority);
        if !host.is_well_formed() {
            return Err(BadHost::Malformed);
        }
        if !names.is_empty() && !names.iter().any(|name| name.eq_ignore_ascii_case(host.name())) {
            return Err(BadHost::Foreign);
        }
        Ok(host)
    }

    /// A DNS name, an IPv4 address, or an IPv6 one in brackets; no user information, a port that is one.
    fn is_well_formed(&self) -> bool {
        let name = self.name();
        let rest = self.0.as_str().strip_prefix(name);
        let port = match rest.map(|rest| rest.strip_prefix(':').unwrap_or(rest)) {
            Some("") => true,
            Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
            None => false,
        };
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let named = match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                !name.is_empty() && name.len() <= 253 && name.bytes().all(plain)
            }
        };
        port && named
    }

    /// Without the port.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.host()
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn host(uri: &str, headers: &[&str], names: &[&str]) -> Result<String, BadHost> {
        let mut request = Request::builder().uri(uri);
        for value in headers {
            request = request.header(header::HOST, *value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Host::of(&parts, &names).map(|host| host.as_str().to_owned())
    }

    #[test]
    fn one_well_formed_host_is_wanted() {
        for good in [
            "wwwfoobar.com",
            "wwwfoobar.com:8443",
            "192.0.2.101",
            "[2001:db8::1]:443",
            "a_b.example",
        ] {
            assert_eq!(host("/", &[good], &[]).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "a b",
            "user@host",
            "host:99999",
            "host:0",
            "a/b",
            "a\"b",
            "[::1",
            "[x]",
            "a;b",
            "a%41",
        ] {
            assert_eq!(host("/", &[bad], &[]), Err(BadHost::Malformed), "{bad}");
        }
        assert_eq!(host("/", &[], &[]), Err(BadHost::Malformed));
        assert_eq!(host("/", &["a", "a"], &[]), Err(BadHost::Malformed));
        assert_eq!(host("https://a/", &["b"], &[]), Err(BadHost::Malformed));
        assert_eq!(host("https://a/", &["A"], &[]).as_deref(), Ok("a"));
    }

    #[test]
    fn foreign_hosts_are_told_apart() {
        assert!(host("/", &["WWWfoobar.com:443"], &["wwwfoobar.com"]).is_ok());
        assert_eq!(
            host("/", &["other.example"], &["wwwfoobar.com"]),
            Err(BadHost::Foreign)
        );
    }
}
