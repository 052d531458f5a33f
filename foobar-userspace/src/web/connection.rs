//! One connection from its handshake to its end: protocol, timeouts, and the polite ways to close it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Mode, Verdict, Watched};
use super::config::{Limits, Timeouts};
use super::forwarded::{Peer, Scheme};
use super::live::Live;
use super::service::Service;
use super::tls::ALPN_H2;

/// Requests that one HTTP/2 connection may have under way.
const STREAMS: u32 = 128;
/// Between two pings of an HTTP/2 connection that is quiet.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How often a connection is judged.
const JUDGED_EVERY: Duration = Duration::from_millis(250);

/// What all connections share.
#[derive(Debug, Clone)]
pub struct Acceptor {
    /// What answers requests.
    pub service: Arc<Service>,
    /// What a reload replaces.
    pub live: watch::Receiver<Arc<Live>>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How much is taken.
    pub limits: Limits,
    /// Cancelled when connections are to finish.
    pub drain: CancellationToken,
    /// Cancelled when they are to end at once.
    pub cut: CancellationToken,
}

impl Acceptor {
    /// Serves one connection to its end.
    pub async fn serve(self, stream: TcpStream, address: SocketAddr, scheme: Scheme) {
        let cut = self.cut.clone();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, %error, "TCP_NODELAY");
        }
        let peer = Peer {
            address: address.ip().to_canonical(),
            scheme,
        };
        tokio::select! {
            () = cut.cancelled() => tracing::debug!(%address, "cut: the drain timeout is over"),
            () = async {
                match scheme {
                    Scheme::Https => self.serve_tls(stream, peer).await,
                    Scheme::Http => self.serve_http1(stream, peer).await,
                }
            } => (),
        }
    }

    async fn serve_tls(self, stream: TcpStream, peer: Peer) {
        let config = Arc::clone(&self.live.borrow().tls);
        let handshake = TlsAcceptor::from(config).accept(stream);
        match timeout(self.timeouts.tls_handshake(), handshake).await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(ALPN_H2) => {
                self.serve_http2(stream, peer).await;
            }
            Ok(Ok(stream)) => self.serve_http1(stream, peer).await,
            Ok(Err(error)) => tracing::debug!(client = %peer.address, %error, "TLS handshake"),
            Err(_) => tracing::debug!(client = %peer.address, "TLS handshake timed out"),
        }
    }

    async fn serve_http1<S>(self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.timeouts.header_read())
            .max_headers(self.limits.headers)
            .max_buf_size(usize::try_from(self.limits.header_bytes).unwrap_or(usize::MAX))
            .serve_connection(io, service_fn(|request| self.answer(peer, &activity, request)));
        self.drive(connection, peer, &activity).await;
    }

    async fn serve_http2<S>(self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Activity::new();
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(self.limits.header_bytes)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_EVERY)
            .serve_connection(io, service_fn(|request| self.answer(peer, &activity, request)));
        self.drive(connection, peer, &activity).await;
    }

    fn answer(
        &self,
        peer: Peer,
        activity: &Arc<Activity>,
        request: hyper::Request<hyper::body::Incoming>,
    ) -> impl Future<Output = Result<hyper::Response<super::body::Body>, Infallible>> + Send + use<> {
        let live = Arc::clone(&self.live.borrow());
        let answer = Arc::clone(&self.service).answer(live, peer, Arc::clone(activity), request);
        async move { Ok(answer.await) }
    }

    /// Runs a connection, and closes it politely when the server drains or nobody uses it, less so when it
    /// does not move.
    async fn drive<C>(&self, connection: C, peer: Peer, activity: &Activity)
    where
        C: GracefulConnection<Error = hyper::Error>,
    {
        let mut connection = pin!(connection);
        let mut judged = interval(JUDGED_EVERY);
        judged.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut mode = Mode::Serving;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(client = %peer.address, %error, "a connection ended");
                    }
                    return;
                }
                () = self.drain.cancelled(), if mode == Mode::Serving => {
                    mode = Mode::Finishing;
                    connection.as_mut().graceful_shutdown();
                }
                _ = judged.tick() => match activity.verdict(mode, self.timeouts.idle()) {
                    Verdict::Keep => (),
                    Verdict::Finish => {
                        mode = Mode::Finishing;
                        connection.as_mut().graceful_shutdown();
                    }
                    Verdict::Cut => return,
                },
            }
        }
    }
}
