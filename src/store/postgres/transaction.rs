//! One transaction, and the statements in it.
//!
//! Each statement is unnamed, so that a pooler in transaction mode may be used.
//!
//! **Invariant:** every statement has a deadline, and a connection is used again only after the end of its transaction
//! was confirmed.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::{Query, QueryAs};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, Row, SqlSafeStr};

use crate::store::pooled_connection::PooledConnection;
use crate::store::postgres::connection::within;
use crate::store::postgres::error::retry;
use crate::store::postgres::migrations::refuse_newer;
use crate::store::postgres::{Postgres, lock};
use crate::store::{FailureClass, StoreError};

/// Maximum wait for a lock in a transaction of the writer. The wait for partitions is shorter.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// Begins a transaction with the settings that every transaction of this process needs, whatever the server, the
/// database, the role or a pooler sets. With backslashes in literals, the bounds of partitions were misread. Above READ
/// COMMITTED, batches conflict. JIT compilation takes longer than any of our statements.
///
/// Unchanged are `search_path`, `default_tablespace` and similar settings, and `default_transaction_read_only`, by
/// which a provider stops writes when a disk is full. The server parses a string of several statements as a whole
/// before it runs the first of them, so the rest of this string must contain no backslash.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SET LOCAL standard_conforming_strings = on; SET LOCAL client_encoding = 'UTF8'; SET LOCAL TimeZone = 'UTC'; \
     SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL bytea_output = 'hex'; \
     SET LOCAL quote_all_identifiers = off; SET LOCAL array_nulls = on; SET LOCAL synchronous_commit = on; \
     SET LOCAL enable_seqscan = on; SET LOCAL jit = off;";

/// Lets a transaction last as long as its statements may (PostgreSQL 17 and later have a timeout for transactions), and
/// reads the transaction's time, and the server, database and table that it uses.
const NOW_AND_SERVER: &str = "CASE WHEN current_setting('server_version_num')::int >= 170000 \
          THEN set_config('transaction_timeout', '0', true) END, \
     (extract(epoch FROM now()) * 1000000)::bigint - 946684800000000 AS now_us, \
     concat_ws('/', extract(epoch FROM pg_postmaster_start_time()), (SELECT oid FROM pg_database WHERE datname = current_database()), \
     to_regclass('ingest_streams')::oid) AS server";

/// The newest migration of the schema. The table exists after the first contact.
const NEWEST_MIGRATION: &str = "(SELECT max(version) FROM ruvvector_migrations WHERE success)";

/// Stands for the newest migration in a transaction on any database.
const ANY_MIGRATION: &str = "NULL::bigint";

/// A transaction that was begun. If it is dropped, its connection is closed or must not be used again.
pub(super) struct Transaction<'a> {
    pub(super) store: &'a Postgres,
    connection: TransactionConnection<'a>,
    /// Deadline of each statement.
    pub(super) limit: Duration,
    /// The transaction's `now()`, in microseconds since 2000-01-01 UTC.
    pub(super) now_us: i64,
    /// The server, the database and the table that the transaction uses.
    pub(super) server: String,
}

/// The connection that a transaction uses.
pub(super) enum TransactionConnection<'a> {
    /// Returns to its pool once the end of the transaction is confirmed.
    Pooled(PooledConnection<sqlx::Postgres>),
    /// Outside the pools: the connection of maintenance, of an import or of a migration.
    Separate(&'a mut PgConnection),
}

impl Postgres {
    /// Begins a transaction of the write pool on the database that [`Postgres::prepare`] has checked.
    ///
    /// # Errors
    /// `Retry` of class `connection` if the server was restarted or is another one. It may have lost stored positions,
    /// so they must be read again. `Schema` if a newer version has migrated it in the meantime.
    pub(super) async fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        self.begin_with(TransactionConnection::Pooled(self.acquire().await?))
            .await
    }

    /// As [`Postgres::begin`], on the connection of an earlier transaction.
    pub(super) async fn begin_with<'a>(
        &'a self,
        connection: TransactionConnection<'a>,
    ) -> Result<Transaction<'a>, StoreError> {
        let transaction = Transaction::begin(self, connection, BEGIN, NEWEST_MIGRATION).await?;
        if lock(&self.shared.server).as_ref() == Some(&transaction.server) {
            return Ok(transaction);
        }
        self.forget();
        Err(retry(
            FailureClass::Connection,
            "the database is not the one of the last contact (restarted, failed over, or restored): what it has \
             stored is read again",
        ))
    }

    /// Begins a transaction of the write pool on any database.
    pub(super) async fn begin_anywhere(&self) -> Result<Transaction<'_>, StoreError> {
        let pooled = TransactionConnection::Pooled(self.acquire().await?);
        Transaction::begin(self, pooled, BEGIN, ANY_MIGRATION).await
    }

    /// Begins a transaction on a connection outside the pools, on any database.
    pub(super) async fn begin_on<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> Result<Transaction<'a>, StoreError> {
        let separate = TransactionConnection::Separate(connection);
        Transaction::begin(self, separate, BEGIN, ANY_MIGRATION).await
    }

    /// As [`Postgres::begin_on`], on any database whose schema this version knows.
    ///
    /// # Errors
    /// `Schema` if the schema is newer.
    pub(super) async fn begin_in_known_schema<'a>(
        &'a self,
        connection: &'a mut PgConnection,
    ) -> Result<Transaction<'a>, StoreError> {
        let separate = TransactionConnection::Separate(connection);
        Transaction::begin(self, separate, BEGIN, NEWEST_MIGRATION).await
    }

    /// Takes part in a transaction that sqlx has begun with [`BEGIN`] and will end, as its migrator requires.
    pub(super) async fn join<'a>(
        &'a self,
        begun: &'a mut PgConnection,
    ) -> Result<Transaction<'a>, StoreError> {
        let separate = TransactionConnection::Separate(begun);
        Transaction::begin(self, separate, "", ANY_MIGRATION).await
    }
}

impl<'a> Transaction<'a> {
    async fn begin(
        store: &'a Postgres,
        mut connection: TransactionConnection<'a>,
        begin: &str,
        newest_migration: &str,
    ) -> Result<Self, StoreError> {
        let statement_ms = store.shared.options.statement_timeout.as_millis().max(1);
        let lock_ms = LOCK_TIMEOUT.as_millis().min(statement_ms);
        let begin = format!(
            "{begin} SET LOCAL statement_timeout = {statement_ms}; \
             SET LOCAL idle_in_transaction_session_timeout = {statement_ms}; SET LOCAL lock_timeout = {lock_ms}; \
             SELECT {NOW_AND_SERVER}, {newest_migration} AS newest_migration"
        );
        let limit = store.limit();
        let reading = async {
            let sql = sqlx::raw_sql(AssertSqlSafe(begin));
            let rows = sql.fetch_all(connection.as_mut()).await?;
            let row: &PgRow = rows.first().ok_or(sqlx::Error::RowNotFound)?;
            let newest: Option<i64> = row.try_get("newest_migration")?;
            Ok((row.try_get("now_us")?, row.try_get("server")?, newest))
        };
        let (now_us, server, newest) = within(limit, "beginning a transaction", reading).await?;
        refuse_newer(newest.unwrap_or(0))?;
        Ok(Self {
            store,
            connection,
            limit,
            now_us,
            server,
        })
    }

    /// Returns the connection, for a COPY or for sqlx's migrator.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        self.connection.as_mut()
    }

    /// Runs a statement. Returns the number of rows that it changed.
    pub(super) async fn run(
        &mut self,
        doing: &'static str,
        statement: Query<'_, sqlx::Postgres, PgArguments>,
    ) -> Result<u64, StoreError> {
        let running = statement
            .persistent(false)
            .execute(self.connection.as_mut());
        Ok(within(self.limit, doing, running).await?.rows_affected())
    }

    /// Runs statements without parameters.
    pub(super) async fn run_all(
        &mut self,
        doing: &'static str,
        statements: impl SqlSafeStr,
    ) -> Result<(), StoreError> {
        let running = sqlx::raw_sql(statements).execute(self.connection.as_mut());
        within(self.limit, doing, running).await.map(drop)
    }

    /// Returns the only row of a statement.
    pub(super) async fn one<T>(
        &mut self,
        doing: &'static str,
        statement: QueryAs<'_, sqlx::Postgres, T, PgArguments>,
    ) -> Result<T, StoreError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let reading = statement
            .persistent(false)
            .fetch_one(self.connection.as_mut());
        within(self.limit, doing, reading).await
    }

    /// Returns the first row of a statement, if there is one.
    pub(super) async fn first<T>(
        &mut self,
        doing: &'static str,
        statement: QueryAs<'_, sqlx::Postgres, T, PgArguments>,
    ) -> Result<Option<T>, StoreError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let statement = statement.persistent(false);
        let reading = statement.fetch_optional(self.connection.as_mut());
        within(self.limit, doing, reading).await
    }

    /// Returns all rows of a statement.
    pub(super) async fn rows<T>(
        &mut self,
        doing: &'static str,
        statement: QueryAs<'_, sqlx::Postgres, T, PgArguments>,
    ) -> Result<Vec<T>, StoreError>
    where
        T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let reading = statement
            .persistent(false)
            .fetch_all(self.connection.as_mut());
        within(self.limit, doing, reading).await
    }

    /// Commits, and returns a pooled connection to its pool.
    pub(super) async fn commit(self) -> Result<(), StoreError> {
        self.end("COMMIT")
            .await
            .map(TransactionConnection::give_back)
    }

    /// Rolls back, and returns a pooled connection to its pool.
    pub(super) async fn roll_back(self) -> Result<(), StoreError> {
        self.end("ROLLBACK")
            .await
            .map(TransactionConnection::give_back)
    }

    /// Commits if the work in the transaction was `done`, else rolls back. Returns the work's result, or the error of
    /// the commit.
    pub(super) async fn end_after<T>(self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        match done {
            Ok(found) => self.commit().await.map(|()| found),
            Err(error) => {
                // The work's error names the cause.
                let _ = self.roll_back().await;
                Err(error)
            }
        }
    }

    /// Ends the transaction, and returns its connection for another one.
    pub(super) async fn end(
        mut self,
        end: &'static str,
    ) -> Result<TransactionConnection<'a>, StoreError> {
        self.run_all("ending a transaction", end).await?;
        Ok(self.connection)
    }
}

impl TransactionConnection<'_> {
    fn give_back(self) {
        if let Self::Pooled(connection) = self {
            connection.give_back();
        }
    }
}

impl AsMut<PgConnection> for TransactionConnection<'_> {
    fn as_mut(&mut self) -> &mut PgConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Separate(connection) => connection,
        }
    }
}
