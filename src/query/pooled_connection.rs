//! A connection of a read pool, for the duration of one query.
//!
//! **Invariant:** a connection is returned to its pool only after its query has ended. If the query is abandoned (the
//! client disconnected, the deadline passed, or the page was full), the connection is closed, which stops the query,
//! and the pool opens another.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};

use crate::telemetry::metrics::DB_POOL_WAIT_SECONDS;

/// Longest wait of a query for a connection, and of a connection for the end of its transaction. It is shorter than the
/// query's timeout, so that an unavailable database is answered within seconds.
pub(super) const CONNECTION_WAIT: Duration = Duration::from_secs(3);

/// A connection that is closed when dropped, unless it was returned to the pool.
pub(super) struct PooledConnection<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> PooledConnection<DB> {
    /// Acquires a connection within [`CONNECTION_WAIT`].
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] if none is free by then, and every error of connecting.
    pub(super) async fn take(pool: &Pool<DB>) -> Result<Self, sqlx::Error> {
        let asked = Instant::now();
        let connection = tokio::time::timeout(CONNECTION_WAIT, pool.acquire()).await;
        metrics::histogram!(DB_POOL_WAIT_SECONDS, "pool" => "read").record(asked.elapsed());
        let connection = connection.unwrap_or(Err(sqlx::Error::PoolTimedOut))?;
        Ok(Self(Some(connection)))
    }

    pub(super) fn connection(&mut self) -> &mut DB::Connection {
        self.0
            .as_mut()
            .expect("the connection is held until it is returned or dropped")
    }

    /// Returns the connection to the pool; only after its query has ended.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl<DB: Database> Drop for PooledConnection<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}
