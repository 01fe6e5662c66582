//! Migrates the schema, and keeps a record of the migrations.
//!
//! **Invariant:** a migration and the note that it was applied are committed together. A file of a newer or unknown
//! shape is never written to.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sqlx::{Connection, Sqlite, SqliteConnection, Transaction};

use crate::store::StoreError;
use crate::store::row_encoding::COLUMNS;
use crate::store::sqlite::clock;
use crate::store::sqlite::error::ErrorContext;

/// Applied in this order. A released version never changes.
const MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "telemetry",
    include_str!("../../../migrations/sqlite/0001_telemetry.sql"),
)];

/// Creates the file, readable by its owner alone. SQLite gives the WAL the same mode.
pub(super) fn create_file(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// Brings the schema up to this version.
pub(super) async fn prepare(
    connection: &mut SqliteConnection,
    migrate: bool,
    fault: ErrorContext<'_>,
) -> Result<(), StoreError> {
    let applied = applied(connection, &fault).await?;
    refuse_newer(applied, &fault)?;
    let newest = newest();
    if applied < newest && !migrate {
        return Err(StoreError::Schema(format!(
            "{}: the schema is at version {applied} and {newest} is needed; run the command `migrate`, or let the \
             service migrate by itself",
            fault.path.display()
        )));
    }
    if applied == 0 {
        refuse_foreign(connection, &fault).await?;
    }
    for (version, name, sql) in MIGRATIONS.iter().filter(|migration| migration.0 > applied) {
        apply(connection, *version, name, sql, &fault).await?;
    }
    check_columns(connection, &fault).await?;
    fault
        .within(sqlx::raw_sql(clock::TABLE).execute(&mut *connection))
        .await
        .map(drop)
}

fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |migration| migration.0)
}

fn refuse_newer(applied: i64, fault: &ErrorContext<'_>) -> Result<(), StoreError> {
    let newest = newest();
    if applied <= newest {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "{}: written by a newer version (schema {applied}, this one knows up to {newest}); run that version, or point \
         this one at another file",
        fault.path.display()
    )))
}

/// Begins a transaction with the write lock, on a file that the first contact has checked. Fails if a newer version has
/// migrated the file since.
pub(super) async fn begin<'a>(
    connection: &'a mut SqliteConnection,
    fault: &ErrorContext<'_>,
) -> Result<Transaction<'a, Sqlite>, StoreError> {
    let mut transaction = fault
        .within(connection.begin_with("BEGIN IMMEDIATE"))
        .await?;
    refuse_newer(newest_applied(&mut transaction, fault).await?, fault)?;
    Ok(transaction)
}

async fn newest_applied(
    connection: &mut SqliteConnection,
    fault: &ErrorContext<'_>,
) -> Result<i64, StoreError> {
    let newest = sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM ruvvector_migrations");
    fault.within(newest.fetch_one(connection)).await
}

async fn applied(
    connection: &mut SqliteConnection,
    fault: &ErrorContext<'_>,
) -> Result<i64, StoreError> {
    if !exists(connection, "ruvvector_migrations", fault).await? {
        return Ok(0);
    }
    newest_applied(connection, fault).await
}

async fn exists(
    connection: &mut SqliteConnection,
    table: &str,
    fault: &ErrorContext<'_>,
) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE name = ?");
    fault.within(query.bind(table).fetch_one(connection)).await
}

/// Refuses a table of that name that no migration made.
async fn refuse_foreign(
    connection: &mut SqliteConnection,
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    if !exists(connection, "telemetry_events", fault).await? {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "{}: holds a table telemetry_events that this service did not make; rename it, or point the service at another file",
        fault.path.display()
    )))
}

async fn apply(
    connection: &mut SqliteConnection,
    version: i64,
    name: &str,
    sql: &'static str,
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    let mut transaction = fault
        .within(connection.begin_with("BEGIN IMMEDIATE"))
        .await?;
    let bookkeeping = sqlx::query(
        "CREATE TABLE IF NOT EXISTS ruvvector_migrations (
             version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)",
    );
    fault.within(bookkeeping.execute(&mut *transaction)).await?;
    // Another process may have taken the lock first, and migrated the file.
    let known =
        sqlx::query_scalar("SELECT count(*) > 0 FROM ruvvector_migrations WHERE version = ?");
    let known: bool = fault
        .within(known.bind(version).fetch_one(&mut *transaction))
        .await?;
    if known {
        return Ok(());
    }
    fault
        .within(sqlx::raw_sql(sql).execute(&mut *transaction))
        .await?;
    let note = sqlx::query("INSERT INTO ruvvector_migrations VALUES (?, ?, ?)")
        .bind(version)
        .bind(name)
        .bind(crate::store::sqlite::now_us());
    fault.within(note.execute(&mut *transaction)).await?;
    fault.within(transaction.commit()).await?;
    tracing::info!(version, name, "SQLite schema migrated");
    Ok(())
}

/// Refuses a file in which a column that this version writes is missing.
async fn check_columns(
    connection: &mut SqliteConnection,
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    let query = sqlx::query_scalar(
        "SELECT count(*) > 0 FROM pragma_table_info('ingest_streams') WHERE name = 'stored_positions'",
    );
    let has_stored_positions: bool = fault.within(query.fetch_one(&mut *connection)).await?;
    if !has_stored_positions {
        return Err(StoreError::Schema(format!(
            "{}: made by a build before the first release, whose ingest_streams has no stored_positions. Nothing was changed; \
             move the file aside, or run the build that made it",
            fault.path.display()
        )));
    }
    let query = sqlx::query_scalar("SELECT name FROM pragma_table_info('telemetry_events')");
    let present: Vec<String> = fault.within(query.fetch_all(connection)).await?;
    let missing: Vec<&str> = COLUMNS
        .split(", ")
        .filter(|column| !present.iter().any(|name| name == column))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "{}: telemetry_events lacks the columns {}; add them, or move the file aside",
        fault.path.display(),
        missing.join(", ")
    )))
}
