//! Headers that tell a browser what this site will never do.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::forwarded::Scheme;

/// Only files of the site itself, no inline script or style, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
     data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// A year (RFC 6797).
const STRICT_TRANSPORT_SECURITY: &str = "max-age=31536000";

/// Sets them on an answer. Strict transport security is promised over TLS only (RFC 6797, section 7.2).
pub fn harden(headers: &mut HeaderMap, scheme: Scheme) {
    let promises: [(HeaderName, &'static str); 5] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    ];
    for (name, value) in promises {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if scheme == Scheme::Https {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static(STRICT_TRANSPORT_SECURITY),
        );
    }
}
