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
use tokio::net::{TcpListener, TcpStream};
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
        let https = bind(&config.listen_https).await.context("listen_https")?;
        let http = bind(&config.listen_http).await.context("listen_http")?;
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

async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        listeners.push(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("cannot listen on {address}"))?,
        );
    }
    Ok(listeners)
}

/// One listening socket.
struct Entrance {
    listener: TcpListener,
    scheme: Scheme,
    acceptor: Acceptor,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Entrance {
    async fn accept_all(self) {
        let drain = self.acceptor.drain.clone();
        loop {
            if self.places.available_permits() == 0 {
                tracing::warn!("as many connections as are allowed: more wait");
            }
            tokio::select! {
                biased;
                () = drain.cancelled() => break,
                () = self.accept_one() => (),
            }
        }
        // Clients whose connections the kernel has completed believe that they are served.
        while self.accept_one().now_or_never().is_some() {}
    }

    /// Takes one connection once there is a place for it. Cancelling loses none.
    async fn accept_one(&self) {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            return;
        };
        let accepted: io::Result<(TcpStream, SocketAddr)> = self.listener.accept().await;
        match accepted {
            Ok((stream, address)) => {
                let connection = self.acceptor.clone().serve(stream, address, self.scheme);
                self.tasks.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                sleep(BREATH).await;
            }
        }
    }
}
