//! The server as a whole: its sockets, its reload and its end.
//!
//! A drain goes: no new connections (those that wait in the kernel's queue are still taken), HTTP/2 clients
//! are told to go away, running requests finish, and what is left when the time is over is cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Ipv6V6Only;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access_log::AccessLog;
use super::config::Config;
use super::connection::Acceptor;
use super::forwarded::Scheme;
use super::live::Live;
use super::proxy::Proxy;
use super::service::Service;

/// Connections that wait to be taken; the kernel's net.core.somaxconn may lower it.
const BACKLOG: u32 = 1024;
/// How long to wait where the process has no file descriptor left.
const BREATH: Duration = Duration::from_millis(50);

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    live: watch::Sender<Arc<Live>>,
    log: AccessLog,
    https: Vec<SocketAddr>,
    http: Vec<SocketAddr>,
    drain: CancellationToken,
    cut: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Opens everything that the configuration names and begins to serve.
    ///
    /// # Errors
    /// Where an address cannot be bound or a file cannot be read.
    pub async fn start(config: &Config) -> Result<Self> {
        let (live, receiver) = watch::channel(Arc::new(Live::load(config, None)?));
        let log = AccessLog::open(&config.access_log)
            .with_context(|| format!("access_log {}", config.access_log.display()))?;
        let https = bind(&config.listen_https).context("listen_https")?;
        let http = bind(&config.listen_http).context("listen_http")?;
        let addresses = |listeners: &[TcpListener]| -> io::Result<Vec<SocketAddr>> {
            listeners.iter().map(TcpListener::local_addr).collect()
        };
        let server = Self {
            live,
            log: log.clone(),
            https: addresses(&https)?,
            http: addresses(&http)?,
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let service = Service {
            proxy: Proxy::new(&config.timeouts, &config.limits),
            log,
            limits: config.limits,
            server_names: config.server_names.clone(),
            https_port: server.https.first().map_or(443, SocketAddr::port),
        };
        let acceptor = Acceptor {
            service: Arc::new(service),
            live: receiver,
            timeouts: config.timeouts,
            limits: config.limits,
            drain: server.drain.clone(),
            cut: server.cut.clone(),
        };
        let places = Arc::new(Semaphore::new(config.limits.connections));
        let listeners = [(https, Scheme::Https), (http, Scheme::Http)];
        for (listener, scheme) in listeners
            .into_iter()
            .flat_map(|(list, scheme)| list.into_iter().map(move |one| (one, scheme)))
        {
            let entrance = Entrance {
                listener,
                scheme,
                acceptor: acceptor.clone(),
                places: Arc::clone(&places),
                tasks: server.tasks.clone(),
                was_full: false,
            };
            server.tasks.spawn(entrance.accept_all());
        }
        Ok(server)
    }

    /// The addresses that speak TLS, with the ports that they really have.
    #[must_use]
    pub fn https_addresses(&self) -> &[SocketAddr] {
        &self.https
    }

    /// The addresses that redirect, with the ports that they really have.
    #[must_use]
    pub fn http_addresses(&self) -> &[SocketAddr] {
        &self.http
    }

    /// Replaces app servers, certificate, key and site. Connections and running requests keep what they have.
    ///
    /// # Errors
    /// Where something cannot be read: the server goes on as before.
    pub fn reload(&self, config: &Config) -> Result<()> {
        let before = Arc::clone(&self.live.borrow());
        let next = Live::load(config, Some(&before))?;
        self.live.send_replace(Arc::new(next));
        Ok(())
    }

    /// Ends the server: see the module's head. `patience` is how long requests may still run.
    pub async fn drain(self, patience: Duration) {
        self.drain.cancel();
        self.tasks.close();
        if timeout(patience, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                connections = self.tasks.len(),
                "cut: they did not finish within the drain timeout"
            );
            self.cut.cancel();
            self.tasks.wait().await;
        }
        self.log.flush().await;
    }
}

fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    addresses
        .iter()
        .map(|address| listen(*address).with_context(|| format!("cannot listen on {address}")))
        .collect()
}

/// Listens on one address of one family: `[::]` takes no IPv4 connections, so that `0.0.0.0` can be listed
/// beside it and no client has two forms of its address.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        setsockopt(&socket, Ipv6V6Only, &true)?;
        socket
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// One listening socket. Beyond the limit it holds one connection more, which waits for a place.
struct Entrance {
    listener: TcpListener,
    scheme: Scheme,
    acceptor: Acceptor,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    was_full: bool,
}

impl Entrance {
    async fn accept_all(mut self) {
        let drain = self.acceptor.drain.clone();
        loop {
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                accepted = self.listener.accept() => self.admit(accepted).await,
            }
        }
        // Clients whose connections the kernel has completed believe that they are served.
        while let Some(accepted) = self.listener.accept().now_or_never() {
            self.admit(accepted).await;
        }
    }

    /// Serves a connection as soon as there is a place for it. No place is held while nobody comes, or a
    /// quiet listener would keep one from a busy one.
    async fn admit(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let (stream, address) = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                return sleep(BREATH).await;
            }
        };
        let is_full = self.places.available_permits() == 0;
        if is_full && !self.was_full {
            tracing::warn!("as many connections as are allowed: more wait");
        }
        self.was_full = is_full;
        let place = tokio::select! {
            place = Arc::clone(&self.places).acquire_owned() => place,
            () = self.acceptor.cut.cancelled() => return,
        };
        let connection = self.acceptor.clone().serve(stream, address, self.scheme);
        self.tasks.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[tokio::test]
    async fn both_families_can_be_listed_with_one_port() {
        let v4 = listen((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = listen((Ipv6Addr::UNSPECIFIED, port).into()).unwrap();
        let client = TcpStream::connect((Ipv6Addr::LOCALHOST, port));
        let (client, taken) = tokio::join!(client, v6.accept());
        assert_eq!(client.unwrap().local_addr().unwrap(), taken.unwrap().1);
    }
}
