//! A connection of a pool, for the duration of one transaction or one query.
//!
//! **Invariant:** a connection is returned to its pool only after the end of its transaction or query was confirmed.
//! After an error, or if its user is cancelled (the client disconnected, the deadline passed, or the page was full), it
//! is closed, which stops its statement, and the pool opens another.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};

use crate::telemetry::metrics::DB_POOL_WAIT_SECONDS;

/// A connection that is closed when dropped, unless it was returned to the pool.
pub(crate) struct PooledConnection<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> PooledConnection<DB> {
    /// Acquires a connection within `limit`, and records the time of the wait under the pool's name.
    ///
    /// # Errors
    /// [`sqlx::Error::PoolTimedOut`] if none is free by then, and every error of connecting.
    pub(crate) async fn take(
        pool: &Pool<DB>,
        name: &'static str,
        limit: Duration,
    ) -> Result<Self, sqlx::Error> {
        let asked = Instant::now();
        let connection = tokio::time::timeout(limit, pool.acquire()).await;
        metrics::histogram!(DB_POOL_WAIT_SECONDS, "pool" => name).record(asked.elapsed());
        connection
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map(Self::from)
    }

    /// Returns the connection to the pool; only after its transaction or query has ended.
    pub(crate) fn give_back(mut self) {
        drop(self.0.take());
    }
}

impl<DB: Database> From<PoolConnection<DB>> for PooledConnection<DB> {
    fn from(connection: PoolConnection<DB>) -> Self {
        Self(Some(connection))
    }
}

impl<DB: Database> Deref for PooledConnection<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        self.0.as_deref().expect("only give_back empties it")
    }
}

impl<DB: Database> DerefMut for PooledConnection<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        self.0.as_deref_mut().expect("only give_back empties it")
    }
}

impl<DB: Database> Drop for PooledConnection<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}
