//! What a reload replaces, as one value: requests that run keep the one that they began with.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;

use super::config::Config;
use super::health::Health;
use super::site_path::Root;
use super::tls;
use super::upstreams::Upstreams;

/// The replaceable part of a server.
#[derive(Debug)]
pub struct Live {
    /// Certificate and key.
    pub tls: Arc<ServerConfig>,
    /// The app servers.
    pub upstreams: Upstreams,
    /// Whether they can be reached.
    pub health: Health,
    /// The site's directory.
    pub root: Arc<Root>,
}

impl Live {
    /// Reads all that a configuration names. `before` is what it replaces.
    ///
    /// # Errors
    /// Where certificate, key or site cannot be read; nothing is changed then.
    pub fn load(config: &Config, before: Option<&Self>) -> Result<Self> {
        let root = Root::open(&config.root).with_context(|| format!("root {}", config.root.display()))?;
        Ok(Self {
            tls: tls::server_config(&config.certificate, &config.key)?,
            upstreams: Upstreams::new(&config.upstreams, before.map(|before| &before.upstreams)),
            health: Health::new(config.upstreams.clone()),
            root: Arc::new(root),
        })
    }
}
