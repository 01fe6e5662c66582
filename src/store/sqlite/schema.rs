//! Migrates the schema, and keeps a record of the migrations.
//!
//! **Invariant:** a migration and the note that it was applied are committed together. A file of a newer or unknown
//! shape is never written to.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sqlx::{Connection, SqliteConnection, Transaction};

use crate::store::StoreError;
use crate::store::row_encoding::COLUMNS;
use crate::store::sqlite::{Sqlite, clock, now_us};

/// Applied in this order. A released version never changes.
const MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "telemetry",
    include_str!("../../../migrations/sqlite/0001_telemetry.sql"),
)];

/// The version of the schema that this binary writes.
const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

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

impl Sqlite {
    /// Brings the schema up to this version.
    pub(super) async fn prepare_schema(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<(), StoreError> {
        let applied = if self.exists(connection, "ruvvector_migrations").await? {
            self.newest_applied(connection).await?
        } else {
            0
        };
        self.refuse_newer(applied)?;
        if applied < NEWEST && !self.shared.options.migrate {
            return Err(self.schema_error(&format!(
                "the schema is at version {applied} and {NEWEST} is needed; run the command `migrate`, or let the service \
                 migrate by itself"
            )));
        }
        if applied == 0 && self.exists(connection, "telemetry_events").await? {
            return Err(self.schema_error(
                "holds a table telemetry_events that this service did not make; rename it, or point the service at another file",
            ));
        }
        for migration in MIGRATIONS.iter().filter(|migration| migration.0 > applied) {
            self.migrate(connection, migration).await?;
        }
        self.check_columns(connection).await?;
        let table = sqlx::raw_sql(clock::TABLE).execute(connection);
        self.within(table).await.map(drop)
    }

    /// Begins a transaction with the write lock, on a file that the first contact has checked. Fails if a newer version
    /// has migrated the file since.
    pub(super) async fn begin<'c>(
        &self,
        connection: &'c mut SqliteConnection,
    ) -> Result<Transaction<'c, sqlx::Sqlite>, StoreError> {
        let mut transaction = self
            .within(connection.begin_with("BEGIN IMMEDIATE"))
            .await?;
        self.refuse_newer(self.newest_applied(&mut transaction).await?)?;
        Ok(transaction)
    }

    fn refuse_newer(&self, applied: i64) -> Result<(), StoreError> {
        if applied <= NEWEST {
            return Ok(());
        }
        Err(self.schema_error(&format!(
            "written by a newer version (schema {applied}, this one knows up to {NEWEST}); run that version, or point this \
             one at another file"
        )))
    }

    async fn newest_applied(&self, connection: &mut SqliteConnection) -> Result<i64, StoreError> {
        let newest =
            sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM ruvvector_migrations");
        self.within(newest.fetch_one(connection)).await
    }

    async fn exists(
        &self,
        connection: &mut SqliteConnection,
        table: &str,
    ) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar("SELECT count(*) > 0 FROM sqlite_schema WHERE name = ?");
        self.within(query.bind(table).fetch_one(connection)).await
    }

    async fn migrate(
        &self,
        connection: &mut SqliteConnection,
        &(version, name, sql): &(i64, &str, &'static str),
    ) -> Result<(), StoreError> {
        let begun = connection.begin_with("BEGIN IMMEDIATE");
        let mut transaction = self.within(begun).await?;
        let records = sqlx::query(
            "CREATE TABLE IF NOT EXISTS ruvvector_migrations (
                 version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL)",
        );
        self.within(records.execute(&mut *transaction)).await?;
        // Another process may have taken the lock first, and migrated the file.
        let known =
            sqlx::query_scalar("SELECT count(*) > 0 FROM ruvvector_migrations WHERE version = ?")
                .bind(version);
        if self.within(known.fetch_one(&mut *transaction)).await? {
            return Ok(());
        }
        let migration = sqlx::raw_sql(sql).execute(&mut *transaction);
        self.within(migration).await?;
        let note = sqlx::query("INSERT INTO ruvvector_migrations VALUES (?, ?, ?)")
            .bind(version)
            .bind(name)
            .bind(now_us());
        self.within(note.execute(&mut *transaction)).await?;
        self.within(transaction.commit()).await?;
        tracing::info!(version, name, "SQLite schema migrated");
        Ok(())
    }

    /// Refuses a file in which a column that this version writes is missing.
    async fn check_columns(&self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        let query = sqlx::query_scalar(
            "SELECT count(*) > 0 FROM pragma_table_info('ingest_streams') WHERE name = 'stored_positions'",
        );
        let has_stored_positions: bool = self.within(query.fetch_one(&mut *connection)).await?;
        if !has_stored_positions {
            return Err(self.schema_error(
                "made by a build before the first release, whose ingest_streams has no stored_positions. Nothing was \
                 changed; move the file aside, or run the build that made it",
            ));
        }
        let query = sqlx::query_scalar("SELECT name FROM pragma_table_info('telemetry_events')");
        let present: Vec<String> = self.within(query.fetch_all(connection)).await?;
        let is_missing = |column: &&str| !present.iter().any(|name| name == column);
        let missing: Vec<&str> = COLUMNS.split(", ").filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(self.schema_error(&format!(
            "telemetry_events lacks the columns {}; add them, or move the file aside",
            missing.join(", ")
        )))
    }

    fn schema_error(&self, message: &str) -> StoreError {
        StoreError::Schema(self.about_file(message))
    }
}
