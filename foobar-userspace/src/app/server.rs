//! The server's life: bind, serve, prepare the database meanwhile, drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::auth::{Passwords, Tokens};
use super::config::Config;
use super::health::Health;
use super::routes;
use super::store::Database;

/// How long a stop waits for the database's connections to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What every request handler can reach.
pub(super) struct App {
    pub(super) database: Database,
    pub(super) passwords: Passwords,
    pub(super) tokens: Tokens,
    pub(super) health: Health,
    pub(super) request_timeout: Duration,
}

/// A running app server.
pub struct AppServer {
    app: Arc<App>,
    address: SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
    preparing: JoinHandle<()>,
    stop: Option<oneshot::Sender<()>>,
    drain_timeout: Duration,
}

impl AppServer {
    /// Listens and answers; the schema is brought up to date as soon as the database is there, and until
    /// then calls are answered with 503.
    ///
    /// # Errors
    /// Where a value or a secret's file is bad, or the address cannot be bound.
    pub async fn start(config: &Config) -> Result<Self> {
        config.validate()?;
        let secret = config.jwt_secret()?;
        let app = Arc::new(App {
            database: Database::new(&config.database)?,
            passwords: Passwords::new()?,
            tokens: Tokens::new(&secret, Duration::from_secs(config.token_lifetime_seconds)),
            health: Health::default(),
            request_timeout: config.request_timeout(),
        });
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|stream| {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot switch delays off");
            }
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let service = axum::serve(listener, routes::router(Arc::clone(&app)));
        let serving = tokio::spawn(
            service
                .with_graceful_shutdown(async {
                    // A dropped sender means stop as well.
                    let _ = stopped.await;
                })
                .into_future(),
        );
        let preparing = tokio::spawn({
            let app = Arc::clone(&app);
            async move { app.database.prepare().await }
        });
        tracing::info!(%address, database = %config.database.host, "serving");
        Ok(Self {
            app,
            address,
            serving,
            preparing,
            stop: Some(stop),
            drain_timeout: config.drain_timeout(),
        })
    }

    /// The address served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Completes only when serving has failed.
    ///
    /// # Errors
    /// Always: why it ended.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.serving)
            .await
            .context("serving was interrupted")?
            .context("cannot serve")?;
        bail!("serving ended by itself")
    }

    /// Takes no new requests, finishes those in hand within the drain timeout, then closes the pool.
    pub async fn drain(mut self) {
        self.preparing.abort();
        drop(self.stop.take());
        match tokio::time::timeout(self.drain_timeout, &mut self.serving).await {
            Ok(Ok(Ok(()))) => tracing::info!("drained"),
            Ok(Ok(Err(error))) => tracing::warn!(%error, "serving ended badly"),
            Ok(Err(error)) => tracing::warn!(%error, "serving was interrupted"),
            Err(_) => {
                tracing::warn!(timeout = ?self.drain_timeout, "requests are cut off: draining took too long");
                self.serving.abort();
            }
        }
        if tokio::time::timeout(CLOSE_TIMEOUT, self.app.database.close())
            .await
            .is_err()
        {
            tracing::debug!("left without the database's good-bye");
        }
    }
}
