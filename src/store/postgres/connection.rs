//! Connections to the server, and the deadline of each wait for it.
//!
//! **Invariant:** nothing that waits for the database waits without a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{Connection, PgConnection};

use crate::store::pooled_connection::PooledConnection;
use crate::store::postgres::Postgres;
use crate::store::postgres::error::{advice, from_sqlx, retry};
use crate::store::{FailureClass, StoreError};

/// Time by which this process's timeout exceeds the server's, so that the server can report the reason.
const GRACE: Duration = Duration::from_secs(5);

impl Postgres {
    /// Returns the deadline of one statement.
    pub(super) fn limit(&self) -> Duration {
        self.shared.options.statement_timeout + GRACE
    }

    /// Takes a connection from the write pool.
    pub(super) async fn acquire(&self) -> Result<PooledConnection<sqlx::Postgres>, StoreError> {
        let limit = self.shared.options.connect_timeout + GRACE;
        match PooledConnection::take(&self.write_pool, "write", limit).await {
            Ok(connection) => Ok(connection),
            Err(sqlx::Error::PoolTimedOut) => Err(self.why_no_connection().await),
            Err(error) => Err(from_sqlx("connecting", &error)),
        }
    }

    /// Measures a round trip for the check of liveness: without a histogram, and without the reason of a failure.
    pub(super) async fn ping(&self, pool: &PgPool) -> Result<Duration, sqlx::Error> {
        let mut connection = PooledConnection::from(pool.acquire().await?);
        let start = Instant::now();
        connection.ping().await?;
        connection.give_back();
        Ok(start.elapsed())
    }

    /// Finds the reason why there is no connection. The pool retries without reporting errors until its timeout, so
    /// this makes one attempt outside it.
    async fn why_no_connection(&self) -> StoreError {
        let pool = &self.write_pool;
        match self.connect().await {
            // The outage has just ended, and the pool was still waiting.
            Ok(_) if pool.size() < pool.options().get_max_connections() => retry(
                FailureClass::Connection,
                "the database did not answer, or had no connection free, until now",
            ),
            Ok(_) => retry(
                FailureClass::Resources,
                "all write connections are in use: raise RUVVECTOR_WRITE_CONNECTIONS",
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
        let options: &PgConnectOptions = &self.write_pool.connect_options();
        let connecting = PgConnection::connect_with(options);
        within(
            self.shared.options.connect_timeout,
            "connecting",
            connecting,
        )
        .await
    }

    /// Closes a connection in order. An error of that is ignored, since the work has ended.
    pub(super) async fn close_connection(&self, connection: PgConnection) {
        let _ = within(self.limit(), "closing", connection.close()).await;
    }
}

/// Waits for the database with a deadline: sqlx has none, and an unresponsive server may never answer.
pub(super) async fn within<T>(
    limit: Duration,
    doing: &'static str,
    future: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result.map_err(|error| from_sqlx(doing, &error)),
        Err(_) => Err(retry(
            FailureClass::Timeout,
            format!(
                "{doing}: no answer within {} s: the database or the network to it hangs, or a pooler before it has no \
                 connection free (PgBouncer: cl_waiting in SHOW POOLS; raise default_pool_size)",
                limit.as_secs()
            ),
        )),
    }
}
