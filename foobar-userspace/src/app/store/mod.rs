//! The database: the pool, its readiness, and what its errors mean. The only part that speaks SQL.
//!
//! The pool connects when it is first asked, so that a server starts without a database; until the schema
//! is in place every call is refused as unavailable.

pub(super) mod articles;
pub(super) mod listing;
mod migrate;
pub(super) mod users;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use sqlx::MySqlPool;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPoolOptions};

use super::config::DatabaseConfig;

/// Connections unused for so long are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Connections are replaced after so long, so that a changed address or password is followed.
const MAX_LIFETIME: Duration = Duration::from_secs(1800);

/// The database as the rest of the app tier sees it.
pub(super) struct Database {
    pool: MySqlPool,
    options: MySqlConnectOptions,
    has_schema: AtomicBool,
}

impl Database {
    /// A pool that connects on demand. Nothing is sent yet.
    ///
    /// # Errors
    /// Where the password file cannot be read.
    pub(super) fn new(config: &DatabaseConfig) -> Result<Self> {
        let options = config.connect_options()?;
        let pool = MySqlPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.acquire_timeout())
            .idle_timeout(IDLE_TIMEOUT)
            .max_lifetime(MAX_LIFETIME)
            .test_before_acquire(true)
            .connect_lazy_with(options.clone());
        Ok(Self {
            pool,
            options,
            has_schema: AtomicBool::new(false),
        })
    }

    /// The pool, once the schema is in place.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] before.
    pub(super) fn pool(&self) -> Result<&MySqlPool, StoreError> {
        if self.has_schema() {
            Ok(&self.pool)
        } else {
            Err(StoreError::Unavailable(
                "the schema is not in place yet".to_owned(),
            ))
        }
    }

    /// Whether the migrations have run.
    pub(super) fn has_schema(&self) -> bool {
        self.has_schema.load(Ordering::Acquire)
    }

    /// How to connect outside the pool.
    pub(super) fn options(&self) -> &MySqlConnectOptions {
        &self.options
    }

    /// Brings the schema up to date, however long the database is away. Ends once it is.
    pub(super) async fn prepare(&self) {
        migrate::until_done(&self.options).await;
        self.has_schema.store(true, Ordering::Release);
    }

    /// Closes the pool; calls in hand get an error.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A unique constraint of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UniqueKey {
    /// users.username
    Username,
    /// users.email
    Email,
    /// articles.slug
    Slug,
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// A unique value exists already.
    #[error("{0:?} exists already")]
    Duplicate(UniqueKey),
    /// The database cannot be reached or used now; another try may succeed.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Anything else: a defect here, or in the schema.
    #[error(transparent)]
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.to_string()),
            sqlx::Error::Database(database) => {
                let Some(mysql) = database.try_downcast_ref::<MySqlDatabaseError>() else {
                    return Self::Failed(error);
                };
                match (mysql.number(), duplicate_key(mysql.message())) {
                    (DUPLICATE_ENTRY, Some(key)) => Self::Duplicate(key),
                    (number, _) if is_transient(number) => Self::Unavailable(error.to_string()),
                    _ => Self::Failed(error),
                }
            }
            _ => Self::Failed(error),
        }
    }
}

/// ER_DUP_ENTRY of MySQL's error reference, as the numbers below.
const DUPLICATE_ENTRY: u16 = 1062;

/// Errors that are the server's state or its set-up, not the statement's fault.
fn is_transient(number: u16) -> bool {
    matches!(
        number,
        1040 | 1203 // too many connections, of all or of this user
        | 1044 | 1045 | 1049 // no access, no such database: being set up
        | 1053 | 1077 | 1079 // shutting down
        | 1205 | 1213 // lock wait timeout, deadlock
        | 1290 | 1836 // read only
        | 1927 // connection killed (MariaDB)
    )
}

/// MySQL names the key only in the message's end: "... for key 'users.users_email'" (MariaDB leaves the
/// table out). What precedes is the user's text, so only the end is read.
fn duplicate_key(message: &str) -> Option<UniqueKey> {
    let (_, key) = message.rsplit_once(" for key ")?;
    let key = key.trim_matches('\'');
    match key.rsplit_once('.').map_or(key, |(_, key)| key) {
        "users_username" => Some(UniqueKey::Username),
        "users_email" => Some(UniqueKey::Email),
        "articles_slug" => Some(UniqueKey::Slug),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_is_told_by_its_key_not_by_the_users_text() {
        let cases = [
            (
                "Duplicate entry 'a@b' for key 'users_email'",
                Some(UniqueKey::Email),
            ),
            (
                "Duplicate entry 'a' for key 'users.users_username'",
                Some(UniqueKey::Username),
            ),
            (
                "Duplicate entry 'x for key 'users_email'' for key 'articles_slug'",
                Some(UniqueKey::Slug),
            ),
            ("Duplicate entry '1' for key 'PRIMARY'", None),
            ("users_email", None),
        ];
        for (message, key) in cases {
            assert_eq!(duplicate_key(message), key, "{message}");
        }
    }

    #[test]
    fn a_lost_database_is_unavailable_and_a_bad_statement_is_not() {
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(StoreError::from(lost), StoreError::Unavailable(_)));
        assert!(matches!(
            StoreError::from(sqlx::Error::PoolTimedOut),
            StoreError::Unavailable(_)
        ));
        let missing = sqlx::Error::ColumnNotFound("x".to_owned());
        assert!(matches!(StoreError::from(missing), StoreError::Failed(_)));
    }
}
