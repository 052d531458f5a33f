//! From a request to its answer: which part of the server answers, and what every answer gets.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::access_log::{AccessLog, Entry};
use super::activity::{Activity, Running};
use super::body::{Body, BoxError, empty};
use super::compression::{self, Coding};
use super::config::Limits;
use super::forwarded::{Peer, Scheme};
use super::host::{BadHost, Host};
use super::live::Live;
use super::pages;
use super::proxy::{self, Proxy};
use super::redirect;
use super::security;
use super::static_files;

/// What answers requests need and no reload changes.
#[derive(Debug)]
pub struct Service {
    /// The way to the app servers.
    pub proxy: Proxy,
    /// Where each request leaves a line.
    pub log: AccessLog,
    /// How much is taken.
    pub limits: Limits,
    /// Hosts that are answered; all where there are none.
    pub server_names: Vec<String>,
    /// The port that port 80 sends browsers to.
    pub https_port: u16,
}

impl Service {
    /// Answers one request of a connection.
    pub async fn answer(
        self: Arc<Self>,
        live: Arc<Live>,
        peer: Peer,
        activity: Arc<Activity>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let running = activity.begin();
        let began = Instant::now();
        let mut entry = Entry {
            time: SystemTime::now(),
            client: peer.address,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            version: request.version(),
            status: StatusCode::OK,
            bytes: 0,
            duration: began.elapsed(),
            upstream: None,
        };
        let accepted = Coding::accepted(request.headers());
        let is_head = *request.method() == Method::HEAD;
        let (mut response, upstream) = self.route(&live, &peer, request).await;
        if is_head {
            // Of our own pages, too, HEAD gets the headers only.
            let length = response.body().size_hint().exact();
            if let Some(length) = length.filter(|length| *length > 0) {
                response
                    .headers_mut()
                    .entry(http::header::CONTENT_LENGTH)
                    .or_insert(length.into());
                *response.body_mut() = empty();
            }
        }
        security::harden(response.headers_mut(), peer.scheme);
        let response = compression::apply(accepted, self.limits.gzip_min_bytes, response);
        entry.status = response.status();
        entry.upstream = upstream;
        let log = self.log.clone();
        response.map(|body| {
            Recorded {
                body,
                log,
                entry,
                began,
                _running: running,
            }
            .boxed_unsync()
        })
    }

    async fn route(
        &self,
        live: &Live,
        peer: &Peer,
        request: Request<Incoming>,
    ) -> (Response<Body>, Option<SocketAddr>) {
        let (parts, body) = request.into_parts();
        let is_probe = parts.uri.path() == "/healthz" && peer.scheme == Scheme::Https;
        // A health check may name the server by its bare address, or not at all.
        if is_probe {
            let response = match parts.method {
                Method::GET | Method::HEAD => live.health.answer().await,
                _ => pages::method_not_allowed("GET, HEAD"),
            };
            return (response, None);
        }
        let host = match Host::of(&parts, &self.server_names) {
            Ok(host) => host,
            Err(BadHost::Malformed) => return (pages::html(StatusCode::BAD_REQUEST), None),
            Err(BadHost::Foreign) => return (pages::html(StatusCode::MISDIRECTED_REQUEST), None),
        };
        if peer.scheme == Scheme::Http {
            return (redirect::to_https(&host, &parts.uri, self.https_port), None);
        }
        if proxy::takes(parts.uri.path()) {
            let request = Request::from_parts(parts, body);
            let answer = self.proxy.forward(&live.upstreams, peer, &host, request).await;
            return (answer.response, answer.upstream);
        }
        let least = self.limits.gzip_min_bytes;
        (
            static_files::serve(&live.root, &parts.method, &parts.uri, &parts.headers, least).await,
            None,
        )
    }
}

/// A body that leaves a line in the access log when it ends, or is given up.
struct Recorded {
    body: Body,
    log: AccessLog,
    entry: Entry,
    began: Instant,
    _running: Running,
}

impl HttpBody for Recorded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let item = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &item {
            self.entry.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        item
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.entry.duration = self.began.elapsed();
        self.log.record(&self.entry);
    }
}
