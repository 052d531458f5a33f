//! Who asked, told to the upstream: `Forwarded` (RFC 7239), `X-Forwarded-For`, `X-Forwarded-Proto`.
//!
//! This server is the first that a client meets, so what the client says of itself is replaced, never trusted.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, InvalidHeaderValue};

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// The scheme's name in a URI.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its address, IPv4 in its own form.
    pub address: IpAddr,
    /// How it is connected.
    pub scheme: Scheme,
}

/// Everything of this kind that a client could have sent.
const CLAIMS: [HeaderName; 7] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
];

/// Replaces a client's claims by what this server knows. `host` is the request's host, with its port.
///
/// # Errors
/// Where the host holds bytes that no header may hold.
pub fn replace(headers: &mut HeaderMap, peer: &Peer, host: &str) -> Result<(), InvalidHeaderValue> {
    for name in &CLAIMS {
        headers.remove(name);
    }
    let node = match peer.address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let scheme = peer.scheme.as_str();
    headers.insert(
        "forwarded",
        format!("for={node};host=\"{host}\";proto={scheme}").parse()?,
    );
    headers.insert("x-forwarded-for", peer.address.to_string().parse()?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_replaced_in_the_form_of_rfc_7239() {
        let mut headers = HeaderMap::new();
        for name in &CLAIMS {
            headers.append(name, HeaderValue::from_static("for=198.51.100.66"));
            headers.append(name, HeaderValue::from_static("again"));
        }
        let peer = Peer {
            address: "2001:db8::1".parse().expect("an address"),
            scheme: Scheme::Https,
        };
        replace(&mut headers, &peer, "wwwfoobar.com:8443").expect("valid");
        assert_eq!(headers.len(), 3, "{headers:?}");
        assert_eq!(
            headers["forwarded"],
            "for=\"[2001:db8::1]\";host=\"wwwfoobar.com:8443\";proto=https"
        );
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(headers["x-forwarded-proto"], "https");
    }
}
