//! The reverse proxy: one request to one of the app servers, over kept HTTP/1.1 connections.
//!
//! Another app server is tried only where no connection could be made, so no request is ever sent twice.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme as UriScheme, Uri};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Sleep, sleep, sleep_until};

use super::body::{Body, BoxError};
use super::config::{Limits, Timeouts};
use super::forwarded::{self, Peer};
use super::hop_by_hop;
use super::host::Host;
use super::pages;
use super::site_path::percent_decode;
use super::upload::{Phase, Upload};
use super::upstreams::{Pending, Upstream, Upstreams};

/// How long an idle connection to an app server is kept: less than a server's usual patience.
const KEPT_FOR: Duration = Duration::from_secs(20);
/// Idle connections kept to each app server.
const KEPT_EACH: usize = 64;

/// The proxy and its pool of connections, which outlives a reload.
#[derive(Debug)]
pub struct Proxy {
    client: Client<HttpConnector, Upload<Incoming>>,
    patience: Duration,
    body_limit: u64,
}

/// An answer, and who gave it: none where no app server did.
pub struct Answer {
    /// What goes to the client.
    pub response: Response<Body>,
    /// The app server that was asked last.
    pub upstream: Option<SocketAddr>,
}

impl Proxy {
    /// A proxy with an empty pool.
    #[must_use]
    pub fn new(timeouts: &Timeouts, limits: &Limits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(timeouts.upstream_connect()));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(KEPT_FOR)
            .pool_max_idle_per_host(KEPT_EACH)
            .set_host(false)
            .build(connector);
        Self {
            client,
            patience: timeouts.upstream_response(),
            body_limit: limits.body_bytes,
        }
    }

    /// Sends a request to one of the app servers and returns its answer, or 4xx and 5xx of our own.
    pub async fn forward(
        &self,
        upstreams: &Upstreams,
        peer: &Peer,
        host: &Host,
        request: Request<Incoming>,
    ) -> Answer {
        let refuse = |status, headers: &HeaderMap, upstream| Answer {
            response: pages::for_api(status, headers),
            upstream,
        };
        let (mut parts, body) = request.into_parts();
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            let response = pages::method_not_allowed("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            return Answer {
                response,
                upstream: None,
            };
        }
        if !is_straight(parts.uri.path()) {
            return refuse(StatusCode::BAD_REQUEST, &parts.headers, None);
        }
        if body.size_hint().lower() > self.body_limit {
            return refuse(StatusCode::PAYLOAD_TOO_LARGE, &parts.headers, None);
        }
        if prepare(&mut parts, peer, host).is_err() {
            return refuse(StatusCode::BAD_REQUEST, &parts.headers, None);
        }

        let upload = Upload::new(body, self.body_limit);
        let mut asked = None;
        for upstream in upstreams.candidates(Instant::now()) {
            asked = Some(upstream.address);
            match self.attempt(&upstream, &parts, &upload).await {
                Ok(response) => {
                    return Answer {
                        response,
                        upstream: asked,
                    };
                }
                Err(Failure::NoConnection(error)) => {
                    upstream.reached(Some(Instant::now()));
                    tracing::warn!(upstream = %upstream.address, error = causes(&error), "no connection to an app server");
                    if upload.phase() != Phase::Untouched {
                        break;
                    }
                }
                Err(Failure::Answered(status)) => return refuse(status, &parts.headers, asked),
                Err(Failure::Broken(error)) => {
                    tracing::warn!(upstream = %upstream.address, error = causes(&error), "an app server broke off");
                    return refuse(StatusCode::BAD_GATEWAY, &parts.headers, asked);
                }
            }
        }
        refuse(StatusCode::BAD_GATEWAY, &parts.headers, asked)
    }

    async fn attempt(
        &self,
        upstream: &std::sync::Arc<Upstream>,
        parts: &request::Parts,
        upload: &Upload<Incoming>,
    ) -> Result<Response<Body>, Failure> {
        let pending = upstream.begin();
        let mut request = Request::new(upload.clone());
        *request.method_mut() = parts.method.clone();
        *request.headers_mut() = parts.headers.clone();
        *request.uri_mut() = target(upstream.address, &parts.uri)?;

        let mut sent = std::pin::pin!(self.client.request(request));
        let began = tokio::time::Instant::now();
        let outcome = loop {
            let deadline = upload.progress().max(began) + self.patience;
            tokio::select! {
                outcome = sent.as_mut() => break outcome,
                () = sleep_until(deadline) => {
                    if upload.progress().max(began) + self.patience > deadline {
                        continue;
                    }
                    let late = upload.phase() == Phase::WaitingForClient;
                    let status = if late { StatusCode::REQUEST_TIMEOUT } else { StatusCode::GATEWAY_TIMEOUT };
                    return Err(Failure::Answered(status));
                }
            }
        };
        let response = outcome.map_err(|error| match upload.phase() {
            Phase::TooLarge => Failure::Answered(StatusCode::PAYLOAD_TOO_LARGE),
            Phase::Broken => Failure::Answered(StatusCode::BAD_REQUEST),
            _ if error.is_connect() => Failure::NoConnection(error),
            _ => Failure::Broken(error),
        })?;
        upstream.reached(None);

        let (mut parts, body) = response.into_parts();
        hop_by_hop::remove(&mut parts.headers);
        parts.version = Version::default();
        parts
            .headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
        let download = Download {
            body,
            patience: self.patience,
            timer: None,
            _pending: pending,
        };
        Ok(Response::from_parts(parts, download.boxed_unsync()))
    }
}

enum Failure {
    /// Nothing was sent.
    NoConnection(ClientError),
    /// The request was, or may have been, sent.
    Broken(ClientError),
    /// The status that the client gets is known already.
    Answered(StatusCode),
}

/// Makes a client's head into one for an app server.
fn prepare(parts: &mut request::Parts, peer: &Peer, host: &Host) -> Result<(), BoxError> {
    let version = if parts.version == Version::HTTP_2 {
        "2.0 foobar"
    } else {
        "1.1 foobar"
    };
    hop_by_hop::remove(&mut parts.headers);
    // `Expect` was between the client and this server, which reads the body when it is wanted.
    parts.headers.remove(header::EXPECT);
    join_cookies(&mut parts.headers)?;
    forwarded::replace(&mut parts.headers, peer, host.as_str())?;
    parts.headers.insert(header::HOST, host.as_str().parse()?);
    parts
        .headers
        .append(header::VIA, HeaderValue::from_static(version));
    Ok(())
}

/// HTTP/2 may split a cookie over several fields; HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), BoxError> {
    let crumbs: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() > 1 {
        let whole = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))?;
        headers.insert(header::COOKIE, whole);
    }
    Ok(())
}

/// True for a path without `.` and `..`, which an app server might resolve to a path outside of its API.
fn is_straight(path: &str) -> bool {
    percent_decode(path).is_ok_and(|path| {
        !path
            .split(['/', '\\'])
            .any(|segment| matches!(segment, "." | ".."))
    })
}

fn target(upstream: SocketAddr, uri: &Uri) -> Result<Uri, Failure> {
    let path = uri
        .path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(UriScheme::HTTP)
        .authority(upstream.to_string())
        .path_and_query(path)
        .build()
        .map_err(|_| Failure::Answered(StatusCode::BAD_REQUEST))
}

/// An error with what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// An app server's body on its way to the client: broken off where the app server stalls.
struct Download {
    body: Incoming,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    _pending: Pending,
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(item) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(item.map(|frame| frame.map_err(Into::into)));
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err("the app server stalled".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// True for paths that are the app servers'.
#[must_use]
pub fn takes(path: &str) -> bool {
    path.strip_prefix("/api")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_api_is_proxied() {
        for (path, expected) in [
            ("/api", true),
            ("/api/", true),
            ("/api/tags", true),
            ("/apix", false),
            ("/", false),
            ("/API/", false),
        ] {
            assert_eq!(takes(path), expected, "{path}");
        }
    }

    #[test]
    fn paths_that_climb_are_refused() {
        for path in [
            "/api/../healthz",
            "/api/%2e%2E/healthz",
            "/api/..%2fhealthz",
            "/api/a/.",
            "/api/..%5cx",
        ] {
            assert!(!is_straight(path), "{path}");
        }
        assert!(is_straight("/api/articles/what-is..new.2"));
    }

    #[test]
    fn split_cookies_are_joined() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1"));
        headers.append(header::COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers).expect("valid");
        assert_eq!(
            headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(),
            ["a=1; b=2"]
        );
    }
}
