//! The app server's configuration and the secrets that it names. Secrets are read from files only and
//! have no `Debug`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use sqlx::mysql::MySqlConnectOptions;

/// The shortest secret that HS256 may be used with: the hash's own length (RFC 7518 section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Contents of `app.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address served
    pub listen: SocketAddr,
    /// File with the secret that tokens are signed with, at least 32 bytes; the same on all app servers
    pub jwt_secret_file: PathBuf,
    /// How long a token is good for, in seconds
    #[serde(default = "default_token_lifetime_seconds")]
    pub token_lifetime_seconds: u64,
    /// How long a request may take, in milliseconds
    #[serde(default = "default_request_timeout_ms")]
    pub request_timeout_ms: u64,
    /// How long a stop waits for requests in hand, in seconds
    #[serde(default = "default_drain_timeout_seconds")]
    pub drain_timeout_seconds: u64,
    /// The database
    pub database: DatabaseConfig,
}

/// Where the database is and how it is used.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Host name or address
    pub host: String,
    /// TCP port
    #[serde(default = "default_port")]
    pub port: u16,
    /// The database's name
    pub name: String,
    /// The user
    pub user: String,
    /// File with the user's password
    pub password_file: PathBuf,
    /// The most connections held at once
    #[serde(default = "default_max_connections")]
    pub max_connections: u32,
    /// How long a request waits for a connection, connecting included, in milliseconds
    #[serde(default = "default_acquire_timeout_ms")]
    pub acquire_timeout_ms: u64,
}

const fn default_token_lifetime_seconds() -> u64 {
    7 * 24 * 3600
}

const fn default_request_timeout_ms() -> u64 {
    10_000
}

const fn default_drain_timeout_seconds() -> u64 {
    10
}

const fn default_port() -> u16 {
    3306
}

const fn default_max_connections() -> u32 {
    10
}

const fn default_acquire_timeout_ms() -> u64 {
    2000
}

impl Config {
    /// Reads the secret that tokens are signed with. A final line break does not belong to it.
    ///
    /// # Errors
    /// Where the file cannot be read or the secret is too short.
    pub fn jwt_secret(&self) -> Result<Vec<u8>> {
        let path = self.jwt_secret_file.display();
        let bytes = std::fs::read(&self.jwt_secret_file)
            .with_context(|| format!("jwt_secret_file: cannot read {path}"))?;
        let secret = bytes.trim_ascii_end().to_vec();
        ensure!(
            secret.len() >= MIN_SECRET_BYTES,
            "jwt_secret_file: {path} holds {} bytes; at least {MIN_SECRET_BYTES} are needed \
             (`openssl rand -base64 48` makes a good one)",
            secret.len()
        );
        Ok(secret)
    }

    /// Checks the values that the types let through.
    ///
    /// # Errors
    /// The first value that cannot work.
    pub fn validate(&self) -> Result<()> {
        ensure!(
            self.database.max_connections > 0,
            "database.max_connections: must be at least 1"
        );
        ensure!(
            self.database.acquire_timeout_ms > 0,
            "database.acquire_timeout_ms: must be at least 1"
        );
        ensure!(
            self.request_timeout_ms > 0,
            "request_timeout_ms: must be at least 1"
        );
        ensure!(
            self.token_lifetime_seconds > 0,
            "token_lifetime_seconds: must be at least 1"
        );
        Ok(())
    }

    /// How long a request may take.
    #[must_use]
    pub const fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// How long a stop waits for requests in hand.
    #[must_use]
    pub const fn drain_timeout(&self) -> Duration {
        Duration::from_secs(self.drain_timeout_seconds)
    }
}

impl DatabaseConfig {
    /// How to connect, the password included.
    ///
    /// # Errors
    /// Where the password file cannot be read.
    pub fn connect_options(&self) -> Result<MySqlConnectOptions> {
        let password = read_line(&self.password_file).with_context(|| {
            format!(
                "database.password_file: cannot read {}",
                self.password_file.display()
            )
        })?;
        Ok(MySqlConnectOptions::new()
            .host(&self.host)
            .port(self.port)
            .database(&self.name)
            .username(&self.user)
            .password(&password)
            .charset("utf8mb4"))
    }

    /// How long a request waits for a connection.
    #[must_use]
    pub const fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }
}

fn read_line(path: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path)?
        .trim_end_matches(['\r', '\n'])
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(extra: &str, secret: &Path) -> Result<Config, toml::de::Error> {
        toml::from_str(&format!(
            "listen = \"127.0.0.1:0\"\njwt_secret_file = {:?}\n{extra}\n\
             [database]\nhost = \"203.0.113.41\"\nname = \"foobar\"\nuser = \"foobar_app\"\n\
             password_file = \"/nonexistent/db.password\"\n",
            secret.display().to_string()
        ))
    }

    #[test]
    fn defaults_fill_what_is_left_out() {
        let config = config("", Path::new("/nonexistent/jwt")).unwrap();
        config.validate().unwrap();
        assert_eq!(config.database.port, 3306);
        assert_eq!(config.request_timeout(), Duration::from_secs(10));
        assert_eq!(config.database.acquire_timeout(), Duration::from_secs(2));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = config("jwt_secret = \"x\"", Path::new("x"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("jwt_secret"), "{error}");
    }

    #[test]
    fn a_short_secret_is_refused_and_a_final_line_break_does_not_count() {
        let path = std::env::temp_dir().join(format!("foobar-app-secret-{}", std::process::id()));
        std::fs::write(&path, format!("{}\n", "s".repeat(31))).unwrap();
        let config = config("", &path).unwrap();
        let error = config.jwt_secret().unwrap_err().to_string();
        assert!(error.contains("31 bytes"), "{error}");
        std::fs::write(&path, format!("{}\n", "s".repeat(32))).unwrap();
        assert_eq!(config.jwt_secret().unwrap().len(), 32);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_missing_password_file_is_named() {
        let error = config("", Path::new("x"))
            .unwrap()
            .database
            .connect_options()
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/db.password"), "{error}");
    }
}
