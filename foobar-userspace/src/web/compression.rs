//! gzip: whether the client wants it, whether the answer is worth it, and what changes with it.
//!
//! The compressed form is a representation of its own: `Vary` says so on both forms, and a strong entity tag
//! becomes a weak one, as the bytes are no longer those that it named (RFC 9110, sections 8.8.3 and 12.5.3).

use std::io;

use async_compression::Level;
use async_compression::tokio::bufread::GzipEncoder;
use futures_util::TryStreamExt as _;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyDataStream, BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame};
use tokio_util::io::{ReaderStream, StreamReader};

use super::body::Body;

/// The form in which an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// What the client likes best of the two, by `Accept-Encoding` (RFC 9110, section 12.5.3). Without the
    /// header, or where it refuses both, the answer is sent as it is.
    #[must_use]
    pub fn accepted(headers: &HeaderMap) -> Self {
        let mut gzip = None;
        let mut identity = None;
        let mut any = None;
        for value in headers
            .get_all(header::ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
        {
            for item in value.split(',') {
                let mut parts = item.split(';');
                let coding = parts.next().unwrap_or_default().trim();
                let quality = parts.find_map(quality).unwrap_or(1000);
                match coding.to_ascii_lowercase().as_str() {
                    "gzip" | "x-gzip" => gzip = Some(quality),
                    "identity" => identity = Some(quality),
                    "*" => any = Some(quality),
                    _ => (),
                }
            }
        }
        let gzip = gzip.or(any).unwrap_or(0);
        // Unless it is named, identity is acceptable but never preferred.
        if gzip > 0 && gzip >= identity.unwrap_or(0) {
            Self::Gzip
        } else {
            Self::Identity
        }
    }
}

/// The weight in thousandths; a malformed one counts as a refusal.
fn quality(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, digits) {
        ("1", true) if fraction.bytes().all(|byte| byte == b'0') => Some(1000),
        ("0", true) => Some(format!("{fraction:0<3}").parse().unwrap_or(0)),
        _ => Some(0),
    }
}

/// True for a media type that gzip makes smaller.
#[must_use]
pub fn is_compressible(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if essence == "text/event-stream" {
        return false;
    }
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || matches!(
            essence.as_str(),
            "application/json"
                | "application/javascript"
                | "application/xml"
                | "application/wasm"
                | "application/manifest+json"
                | "image/bmp"
                | "image/x-icon"
                | "image/vnd.microsoft.icon"
        )
}

/// Compresses an answer where it is of use, and marks it. `accepted` is what the request would take,
/// `least` the number of bytes below which it isn't worth it.
///
/// An answer to HEAD gets the headers that GET would get. An answer that is encoded already, partial, or
/// marked `no-transform` is left alone.
#[must_use]
pub fn apply(accepted: Coding, least: u64, response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if !may_encode(parts.status, &parts.headers) {
        return Response::from_parts(parts, body);
    }
    vary(&mut parts.headers);
    let declared = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let short = declared
        .or(body.size_hint().exact())
        .is_some_and(|length| length < least);
    if accepted == Coding::Identity || short {
        return Response::from_parts(parts, body);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::ACCEPT_RANGES);
    parts
        .headers
        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    weaken(&mut parts.headers);
    let body = if body.is_end_stream() || parts.status == StatusCode::NOT_MODIFIED {
        body
    } else {
        gzip(body)
    };
    Response::from_parts(parts, body)
}

fn may_encode(status: StatusCode, headers: &HeaderMap) -> bool {
    let transformable = headers.get_all(header::CACHE_CONTROL).iter().all(|value| {
        !value
            .to_str()
            .is_ok_and(|value| value.to_ascii_lowercase().contains("no-transform"))
    });
    let compressible = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(is_compressible);
    let whole = !matches!(status, StatusCode::PARTIAL_CONTENT | StatusCode::NO_CONTENT);
    let plain =
        !headers.contains_key(header::CONTENT_ENCODING) && !headers.contains_key(header::CONTENT_RANGE);
    transformable && compressible && whole && plain && !status.is_informational()
}

/// Adds `Accept-Encoding` to `Vary`, unless it is covered.
fn vary(headers: &mut HeaderMap) {
    let covered = headers
        .get_all(header::VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value.split(',').any(|name| {
                let name = name.trim();
                name == "*" || name.eq_ignore_ascii_case("accept-encoding")
            })
        });
    if !covered {
        headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
}

fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(header::ETAG) else {
        return;
    };
    if tag.as_bytes().starts_with(b"W/") {
        return;
    }
    match HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()) {
        Ok(weak) => headers.insert(header::ETAG, weak),
        Err(_) => headers.remove(header::ETAG),
    };
}

fn gzip(body: Body) -> Body {
    let source = StreamReader::new(BodyDataStream::new(body).map_err(io::Error::other));
    let encoder = GzipEncoder::with_quality(source, Level::Precise(5));
    StreamBody::new(ReaderStream::new(encoder).map_ok(Frame::data).map_err(Into::into)).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::body::{empty, full};

    fn accepted(value: &str) -> Coding {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().expect("a value"));
        Coding::accepted(&headers)
    }

    #[test]
    fn weights_decide() {
        for value in [
            "gzip",
            "x-gzip",
            "br, GZIP;q=0.001",
            "*",
            "*;q=0.5",
            "gzip;q=1.000, identity",
            "gzip ; q=0.5 , deflate",
        ] {
            assert_eq!(accepted(value), Coding::Gzip, "{value}");
        }
        for value in [
            "",
            "br",
            "gzip;q=0",
            "gzip;q=0.0, *",
            "*;q=0",
            "identity, gzip;q=0.9",
            "gzip;q=2",
            "gzip;q=0.1234",
        ] {
            assert_eq!(accepted(value), Coding::Identity, "{value}");
        }
        assert_eq!(Coding::accepted(&HeaderMap::new()), Coding::Identity);
    }

    fn answer(content_type: &str, body: Body) -> Response<Body> {
        Response::builder()
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ETAG, "\"t\"")
            .header(header::ACCEPT_RANGES, "bytes")
            .body(body)
            .expect("a response")
    }

    #[tokio::test]
    async fn a_compressed_answer_is_marked_and_smaller() {
        let mut plain = answer("text/html; charset=utf-8", full("x".repeat(5000)));
        plain.headers_mut().insert(header::CONTENT_LENGTH, 5000.into());
        let (parts, body) = apply(Coding::Gzip, 1000, plain).into_parts();
        assert_eq!(parts.headers[header::CONTENT_ENCODING], "gzip");
        assert_eq!(parts.headers[header::VARY], "accept-encoding");
        assert_eq!(parts.headers[header::ETAG], "W/\"t\"");
        assert!(!parts.headers.contains_key(header::CONTENT_LENGTH));
        assert!(!parts.headers.contains_key(header::ACCEPT_RANGES));
        let bytes = body.collect().await.expect("a body").to_bytes();
        assert!(
            bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < 200,
            "{}",
            bytes.len()
        );
    }

    #[test]
    fn what_is_short_encoded_partial_or_sealed_stays_as_it_is() {
        let long = || answer("text/css", full("x".repeat(5000)));
        let mut sealed = long();
        sealed.headers_mut().insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("public, No-Transform"),
        );
        let mut encoded = long();
        encoded
            .headers_mut()
            .insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
        let mut partial = long();
        *partial.status_mut() = StatusCode::PARTIAL_CONTENT;
        for response in [
            sealed,
            encoded,
            partial,
            answer("image/png", full("x".repeat(5000))),
        ] {
            let response = apply(Coding::Gzip, 1000, response);
            assert_ne!(
                response.headers().get(header::CONTENT_ENCODING),
                Some(&HeaderValue::from_static("gzip"))
            );
            assert_eq!(response.headers()[header::ETAG], "\"t\"");
            assert!(!response.headers().contains_key(header::VARY));
        }
        let short = apply(Coding::Gzip, 1000, answer("text/css", full("x")));
        assert!(!short.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(
            short.headers()[header::VARY],
            "accept-encoding",
            "a longer one would have varied"
        );
    }

    #[test]
    fn an_answer_to_head_has_the_headers_of_get() {
        let mut head = answer("text/css", empty());
        head.headers_mut().insert(header::CONTENT_LENGTH, 5000.into());
        let head = apply(Coding::Gzip, 1000, head);
        assert_eq!(head.headers()[header::CONTENT_ENCODING], "gzip");
        assert!(head.body().is_end_stream());
    }
}
