//! Whether this server can serve: the schema is in place and the database answers a ping.
//!
//! Uses a connection of its own, so that a busy pool does not look like a dead database, and keeps each
//! finding for a second, so that many checkers cost one ping.

use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::store::Database;

/// How long a finding is good for.
const KEEP: Duration = Duration::from_secs(1);
/// How long connecting and ping together may take.
const PATIENCE: Duration = Duration::from_millis(800);

/// What is known of the database's health.
#[derive(Default)]
pub(super) struct Health {
    probe: Mutex<Probe>,
}

#[derive(Default)]
struct Probe {
    found: Option<(Instant, bool)>,
    connection: Option<MySqlConnection>,
}

impl Health {
    /// Whether the database answered, not longer ago than a second.
    pub(super) async fn check(&self, database: &Database) -> bool {
        let mut probe = self.probe.lock().await;
        if let Some((at, answers)) = probe.found
            && at.elapsed() < KEEP
        {
            return answers;
        }
        // Taken out first: a ping that is cut short leaves a connection in no known state.
        let connection = probe.connection.take();
        let pinged = timeout(PATIENCE, ping(database, connection)).await;
        probe.connection = pinged.ok().and_then(|pinged| {
            pinged
                .inspect_err(|error| tracing::debug!(%error, "the database does not answer"))
                .ok()
        });
        let answers = probe.connection.is_some() && database.has_schema();
        if probe.found.is_none_or(|(_, before)| before != answers) {
            tracing::info!(answers, "health");
        }
        probe.found = Some((Instant::now(), answers));
        answers
    }
}

/// Pings over the connection given; where that is gone, over a new one.
async fn ping(database: &Database, connection: Option<MySqlConnection>) -> sqlx::Result<MySqlConnection> {
    if let Some(mut connection) = connection
        && connection.ping().await.is_ok()
    {
        return Ok(connection);
    }
    let mut connection = database.options().connect().await?;
    connection.ping().await?;
    Ok(connection)
}
