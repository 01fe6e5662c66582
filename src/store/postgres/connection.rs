//! Connections, deadlines, and the begin of a transaction.
//!
//! **Invariant:** a connection returns to its pool only after the end of its transaction was confirmed. After an error
//! or a timeout, or if its user is cancelled, it is closed.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgRow};
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::store::postgres::error::{advice, from_sqlx, retry};
use crate::store::postgres::schema::refuse_newer;
use crate::store::postgres::{Postgres, lock};
use crate::store::{FailureClass, StoreError};
use crate::telemetry::metrics::DB_POOL_WAIT_SECONDS;

/// Time by which this process's timeout exceeds the server's, so that the server can report the reason.
const GRACE: Duration = Duration::from_secs(5);

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
     SET LOCAL enable_seqscan = on; SET LOCAL jit = off";

/// Lets a transaction last as long as its statements may. PostgreSQL 17 and later have a timeout for transactions.
pub(super) const NO_TRANSACTION_TIMEOUT: &str = "CASE WHEN current_setting('server_version_num')::int >= 170000 \
     THEN set_config('transaction_timeout', '0', true) END";

/// The transaction's time, and the server, database and table that it uses.
const NOW_AND_SERVER: &str = "(extract(epoch FROM now()) * 1000000)::bigint - 946684800000000 AS now_us, \
     concat_ws('/', extract(epoch FROM pg_postmaster_start_time()), (SELECT oid FROM pg_database WHERE datname = current_database()), \
     to_regclass('ingest_streams')::oid) AS server";

/// The newest migration of the schema. The table exists after the first contact.
const SCHEMA: &str = "(SELECT max(version) FROM ruvvector_migrations WHERE success) AS schema";

/// A connection of the write pool while it is in use.
pub(super) struct WriteConnection(Option<PoolConnection<sqlx::Postgres>>);

impl WriteConnection {
    /// Returns the connection to its pool.
    fn release(mut self) {
        self.0 = None;
    }
}

impl Deref for WriteConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_deref().expect("only release empties it")
    }
}

impl DerefMut for WriteConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_deref_mut().expect("only release empties it")
    }
}

impl Drop for WriteConnection {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Facts that a transaction reads at its begin.
pub(super) struct TransactionStart {
    /// The transaction's `now()`, in microseconds since 2000-01-01 UTC.
    pub(super) now_us: i64,
    pub(super) server: String,
}

impl Postgres {
    /// Returns the deadline of one statement.
    pub(super) fn limit(&self) -> Duration {
        self.shared.statement_timeout + GRACE
    }

    /// Takes a connection from the write pool.
    pub(super) async fn lease(&self) -> Result<WriteConnection, StoreError> {
        let connection = self.acquire(&self.write_pool, "write").await?;
        Ok(WriteConnection(Some(connection)))
    }

    /// Takes a connection from the read pool, and records the time of the wait.
    ///
    /// # Errors
    /// [`StoreError::Retry`] if none is free within the connect timeout.
    pub async fn read_connection(&self) -> Result<PoolConnection<sqlx::Postgres>, StoreError> {
        self.acquire(&self.read_pool, "read").await
    }

    /// Measures a round trip for the check of liveness: without a histogram, and without the reason of a failure.
    pub(super) async fn ping(&self, pool: &PgPool) -> Result<Duration, sqlx::Error> {
        let mut lease = WriteConnection(Some(pool.acquire().await?));
        let start = Instant::now();
        lease.ping().await?;
        lease.release();
        Ok(start.elapsed())
    }

    async fn acquire(
        &self,
        pool: &PgPool,
        name: &'static str,
    ) -> Result<PoolConnection<sqlx::Postgres>, StoreError> {
        let start = Instant::now();
        let limit = self.shared.connect_timeout + GRACE;
        let acquired = tokio::time::timeout(limit, pool.acquire()).await;
        metrics::histogram!(DB_POOL_WAIT_SECONDS, "pool" => name).record(start.elapsed());
        match acquired {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => {
                Err(self.why_no_connection(pool, name).await)
            }
            Ok(Err(error)) => Err(from_sqlx("connecting", &error)),
        }
    }

    /// Finds the reason why there is no connection. The pool retries without reporting errors until its timeout, so
    /// this makes one attempt outside it.
    async fn why_no_connection(&self, pool: &PgPool, name: &str) -> StoreError {
        match self.connect_with(&pool.connect_options()).await {
            // The outage has just ended, and the pool was still waiting.
            Ok(_) if pool.size() < pool.options().get_max_connections() => retry(
                FailureClass::Connection,
                None,
                "the database did not answer, or had no connection free, until now".to_owned(),
            ),
            Ok(_) => retry(
                FailureClass::Resources,
                None,
                format!(
                    "all {name} connections are in use: raise RUVVECTOR_{}_CONNECTIONS",
                    name.to_uppercase()
                ),
            ),
            Err(error) => error,
        }
    }

    /// Returns advice if the server answers and refuses the connection. A pool retries without reporting that, so this
    /// attempt is outside the pools. `None` if the server does not answer, or accepts the connection.
    pub(super) async fn refusal(&self) -> Option<&'static str> {
        let refused = PgConnection::connect_with(&self.write_pool.connect_options()).await;
        refused.err().as_ref().and_then(advice)
    }

    /// Opens a connection outside the pools, for maintenance.
    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        self.connect_with(&self.write_pool.connect_options()).await
    }

    async fn connect_with(&self, options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
        within(
            self.shared.connect_timeout,
            "connecting",
            PgConnection::connect_with(options),
        )
        .await
    }

    /// Begins a transaction on the database that [`Postgres::prepare`] has checked.
    ///
    /// # Errors
    /// `Retry` of class `connection` if the server was restarted or is another one. It may have lost stored positions,
    /// so they must be read again. `Schema` if a newer version has migrated it in the meantime.
    pub(super) async fn begin(
        &self,
        connection: &mut PgConnection,
    ) -> Result<TransactionStart, StoreError> {
        let begun = self.begin_in_known_schema(connection).await?;
        let known = lock(&self.shared.server).as_deref() == Some(begun.server.as_str());
        if known {
            return Ok(begun);
        }
        self.forget();
        Err(retry(
            FailureClass::Connection,
            None,
            "the database is not the one of the last contact (restarted, failed over, or restored): what it has \
             stored is read again",
        ))
    }

    /// Begins a transaction on any database whose schema this version knows.
    ///
    /// # Errors
    /// `Schema` if the schema is newer.
    pub(super) async fn begin_in_known_schema(
        &self,
        connection: &mut PgConnection,
    ) -> Result<TransactionStart, StoreError> {
        let (begun, row) = self
            .begin_selecting(connection, &format!("{NOW_AND_SERVER}, {SCHEMA}"))
            .await?;
        let newest: Option<i64> = row
            .try_get("schema")
            .map_err(|error| from_sqlx("beginning a transaction", &error))?;
        refuse_newer(newest.unwrap_or(0))?;
        Ok(begun)
    }

    /// Begins a transaction with the settings of [`BEGIN`] on any database.
    pub(super) async fn begin_anywhere(
        &self,
        connection: &mut PgConnection,
    ) -> Result<TransactionStart, StoreError> {
        let (begun, _) = self.begin_selecting(connection, NOW_AND_SERVER).await?;
        Ok(begun)
    }

    async fn begin_selecting(
        &self,
        connection: &mut PgConnection,
        select: &str,
    ) -> Result<(TransactionStart, PgRow), StoreError> {
        let statement_ms = self.shared.statement_timeout.as_millis().max(1);
        let lock_ms = LOCK_TIMEOUT.as_millis().min(statement_ms);
        let begin = format!(
            "{BEGIN}; SET LOCAL statement_timeout = {statement_ms}; \
             SET LOCAL idle_in_transaction_session_timeout = {statement_ms}; SET LOCAL lock_timeout = {lock_ms}; \
             SELECT {NO_TRANSACTION_TIMEOUT}, {select}"
        );
        let rows = within(
            self.limit(),
            "beginning a transaction",
            sqlx::raw_sql(AssertSqlSafe(begin)).fetch_all(connection),
        )
        .await?;
        let row = rows.into_iter().next().ok_or_else(|| {
            retry(
                FailureClass::Other,
                None,
                "the database did not tell its time",
            )
        })?;
        let read = |error| from_sqlx("beginning a transaction", &error);
        let begun = TransactionStart {
            now_us: row.try_get("now_us").map_err(read)?,
            server: row.try_get("server").map_err(read)?,
        };
        Ok((begun, row))
    }

    /// Commits the transaction and returns the connection to its pool.
    pub(super) async fn commit(&self, mut lease: WriteConnection) -> Result<(), StoreError> {
        end(&mut lease, "COMMIT", self.limit()).await?;
        lease.release();
        Ok(())
    }

    /// Rolls the transaction back and returns the connection to its pool.
    pub(super) async fn roll_back(&self, mut lease: WriteConnection) -> Result<(), StoreError> {
        end(&mut lease, "ROLLBACK", self.limit()).await?;
        lease.release();
        Ok(())
    }
}

/// Sends `COMMIT` or `ROLLBACK`.
pub(super) async fn end(
    connection: &mut PgConnection,
    how: &'static str,
    limit: Duration,
) -> Result<(), StoreError> {
    within(
        limit,
        "ending a transaction",
        sqlx::raw_sql(how).execute(connection),
    )
    .await?;
    Ok(())
}

/// Runs a statement with a deadline: sqlx has none, and an unresponsive server may never answer.
pub(super) async fn within<T>(
    limit: Duration,
    doing: &'static str,
    future: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result.map_err(|error| from_sqlx(doing, &error)),
        Err(_) => Err(retry(
            FailureClass::Timeout,
            None,
            format!(
                "{doing}: no answer within {} s: the database or the network to it hangs, or a pooler before it has no \
                 connection free (PgBouncer: cl_waiting in SHOW POOLS; raise default_pool_size)",
                limit.as_secs()
            ),
        )),
    }
}
