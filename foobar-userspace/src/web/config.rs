//! `web.toml`: what it may hold, its defaults, and the checks that need no other file.
//!
//! Knows neither TLS nor sockets: certificate, key and site are opened by whoever uses them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The configuration of a web server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Addresses that speak TLS. `[::]` takes IPv6 only: list `0.0.0.0` beside it.
    pub listen_https: Vec<SocketAddr>,
    /// Addresses that send browsers on to HTTPS.
    #[serde(default)]
    pub listen_http: Vec<SocketAddr>,
    /// The certificate chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// The leaf's private key, PEM.
    pub key: PathBuf,
    /// The directory of the static files.
    pub root: PathBuf,
    /// App servers that requests under `/api` are sent to.
    pub upstreams: Vec<SocketAddr>,
    /// The access log's file; `-` is standard output.
    #[serde(default = "standard_output")]
    pub access_log: PathBuf,
    /// How long requests may still run after SIGTERM.
    #[serde(default = "ten")]
    pub drain_timeout_seconds: u64,
    /// Hosts that are answered; every valid host where the list is empty.
    #[serde(default)]
    pub server_names: Vec<String>,
    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How much of what is taken.
    #[serde(default)]
    pub limits: Limits,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// From a connection's first packet to the end of its TLS handshake.
    pub tls_handshake_ms: u64,
    /// For a request's head; with HTTP/1.1 also for the next request on a kept connection.
    pub header_read_ms: u64,
    /// Without a request, or with a request whose bytes do not move, before a connection is closed.
    pub idle_ms: u64,
    /// For a connection to an upstream.
    pub upstream_connect_ms: u64,
    /// For an upstream's answer, and between two pieces of it; for a client's next piece of a body.
    pub upstream_response_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tls_handshake_ms: 5_000,
            header_read_ms: 15_000,
            idle_ms: 60_000,
            upstream_connect_ms: 1_000,
            upstream_response_ms: 30_000,
        }
    }
}

impl Timeouts {
    /// See [`Timeouts::tls_handshake_ms`].
    #[must_use]
    pub fn tls_handshake(&self) -> Duration {
        Duration::from_millis(self.tls_handshake_ms)
    }

    /// See [`Timeouts::header_read_ms`].
    #[must_use]
    pub fn header_read(&self) -> Duration {
        Duration::from_millis(self.header_read_ms)
    }

    /// See [`Timeouts::idle_ms`].
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }

    /// See [`Timeouts::upstream_connect_ms`].
    #[must_use]
    pub fn upstream_connect(&self) -> Duration {
        Duration::from_millis(self.upstream_connect_ms)
    }

    /// See [`Timeouts::upstream_response_ms`].
    #[must_use]
    pub fn upstream_response(&self) -> Duration {
        Duration::from_millis(self.upstream_response_ms)
    }
}

/// How much of what is taken.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// Bytes of a request's head.
    pub header_bytes: u32,
    /// Header fields of a request (HTTP/1.1; HTTP/2 is bounded by the bytes).
    pub headers: usize,
    /// Bytes of a request's body.
    pub body_bytes: u64,
    /// A body shorter than this is not worth compressing.
    pub gzip_min_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            header_bytes: 32 * 1024,
            headers: 100,
            body_bytes: 2 * 1024 * 1024,
            gzip_min_bytes: 1024,
        }
    }
}

fn standard_output() -> PathBuf {
    PathBuf::from("-")
}

fn ten() -> u64 {
    10
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Where it cannot be read, is no TOML of this form, or contradicts itself.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Parses and checks a file's text.
    ///
    /// # Errors
    /// Where it is no TOML of this form, or contradicts itself.
    pub fn parse(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text)?;
        if config.listen_https.is_empty() {
            bail!("listen_https: name at least one address");
        }
        if config.upstreams.is_empty() {
            bail!("upstreams: name at least one app server");
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = config.upstreams.iter().find(|upstream| !seen.insert(**upstream)) {
            bail!("upstreams: {twice} is named twice");
        }
        if config.limits.connections == 0 {
            bail!("limits.connections: must be at least 1");
        }
        if config.limits.header_bytes < 8192 {
            bail!("limits.header_bytes: must be at least 8192");
        }
        let waits = [
            ("tls_handshake_ms", config.timeouts.tls_handshake_ms),
            ("header_read_ms", config.timeouts.header_read_ms),
            ("idle_ms", config.timeouts.idle_ms),
            ("upstream_connect_ms", config.timeouts.upstream_connect_ms),
            ("upstream_response_ms", config.timeouts.upstream_response_ms),
        ];
        if let Some((name, _)) = waits.iter().find(|(_, wait)| *wait == 0) {
            bail!("timeouts.{name}: must be at least 1");
        }
        if config.timeouts.idle_ms <= config.timeouts.upstream_response_ms {
            bail!("timeouts.idle_ms: must be above upstream_response_ms, or answers would be cut");
        }
        Ok(config)
    }

    /// How long requests may still run after the server was asked to stop.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
        listen_https = ["192.0.2.21:443"]
        certificate = "c.pem"
        key = "k.pem"
        root = "site"
        upstreams = ["198.51.100.31:8000"]
    "#;

    #[test]
    fn the_smallest_file_has_defaults_for_the_rest() {
        let config = Config::parse(SMALLEST).expect("valid");
        assert_eq!(config.access_log, Path::new("-"));
        assert_eq!(config.drain_timeout(), Duration::from_secs(10));
        assert_eq!(config.limits.headers, 100);
        assert!(config.listen_http.is_empty());
    }

    #[test]
    fn unknown_keys_and_contradictions_are_refused_by_name() {
        for (addition, complaint) in [
            ("colour = 1", "colour"),
            ("[limits]\nconnections = 0", "limits.connections"),
            ("[limits]\nheader_bytes = 10", "limits.header_bytes"),
            ("[timeouts]\nidle_ms = 0", "timeouts.idle_ms"),
        ] {
            let error = Config::parse(&format!("{SMALLEST}\n{addition}")).expect_err("refused");
            assert!(format!("{error:#}").contains(complaint), "{addition}: {error:#}");
        }
        let twice = SMALLEST.replace("31:8000\"", "31:8000\", \"198.51.100.31:8000\"");
        assert!(
            Config::parse(&twice)
                .expect_err("refused")
                .to_string()
                .contains("named twice")
        );
    }
}
