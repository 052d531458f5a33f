//! Bringing the schema up to date: the embedded migrations, forward only, one server at a time.
//!
//! Relies on every migration being one statement that may run twice, since MySQL's DDL commits by itself.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sqlx::migrate::Migrator;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{ConnectOptions as _, Connection as _};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a server waits for another one's migrations, in seconds.
const LOCK_TIMEOUT_SECONDS: u32 = 60;
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Waits between tries: from the first, doubled up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Tries until the schema is up to date.
pub(super) async fn until_done(options: &MySqlConnectOptions) {
    let mut wait = FIRST_WAIT;
    loop {
        match once(options).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(error = format!("{error:#}"), "no schema yet; trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LAST_WAIT);
    }
}

async fn once(options: &MySqlConnectOptions) -> Result<()> {
    // A connection of its own: whatever ends this, closing it gives the lock back.
    let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect())
        .await
        .context("connecting takes too long")?
        .context("cannot connect")?;
    lock(&mut connection).await?;
    forget_unfinished(&mut connection).await?;
    let migrator = Migrator {
        // Two versions run side by side during an upgrade: the older must start on the newer's schema.
        ignore_missing: true,
        // sqlx asks for its lock with a negative timeout, which MariaDB refuses, and ignores the refusal.
        locking: false,
        migrations: MIGRATIONS.migrations.clone(),
        ..Migrator::DEFAULT
    };
    // Not `run`: its future over a borrowed connection cannot be shown to be `Send`.
    migrator
        .run_direct(None, &mut connection, false)
        .await
        .context("cannot migrate")?;
    tracing::info!("the schema is up to date");
    connection.close().await.context("cannot close the connection")
}

/// Takes the server-wide lock named after the database.
async fn lock(connection: &mut MySqlConnection) -> Result<()> {
    let taken: Option<i64> =
        sqlx::query_scalar("SELECT GET_LOCK(CONCAT('foobar_migrate_', SHA1(DATABASE())), ?)")
            .bind(LOCK_TIMEOUT_SECONDS)
            .fetch_one(connection)
            .await
            .context("cannot ask for the migration lock")?;
    ensure!(
        taken == Some(1),
        "another server has held the migration lock for {LOCK_TIMEOUT_SECONDS} s"
    );
    Ok(())
}

/// A migration that a dying server left half-way is forgotten, and so runs again.
async fn forget_unfinished(connection: &mut MySqlConnection) -> Result<()> {
    let exists: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'",
    )
    .fetch_one(&mut *connection)
    .await?;
    if exists > 0 {
        let forgotten = sqlx::query("DELETE FROM _sqlx_migrations WHERE success = FALSE")
            .execute(connection)
            .await?
            .rows_affected();
        if forgotten > 0 {
            tracing::warn!(forgotten, "migrations were left unfinished and run again");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_is_one_statement_that_may_run_twice() {
        assert!(MIGRATIONS.iter().count() >= 3);
        for migration in MIGRATIONS.iter() {
            let sql = migration.sql.as_str();
            let code: String = sql
                .lines()
                .filter(|line| !line.trim_start().starts_with("--"))
                .collect();
            assert!(
                !code.trim_end().trim_end_matches(';').contains(';'),
                "{}",
                migration.description
            );
            assert!(
                code.contains("IF NOT EXISTS") || code.contains("IF EXISTS"),
                "{}",
                migration.description
            );
            assert!(
                migration.migration_type.is_up_migration(),
                "{}",
                migration.description
            );
        }
    }
}
