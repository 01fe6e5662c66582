//! A connection of a read pool for the time of one query.
//!
//! **Invariant:** a connection goes back to its pool only after its query has ended; one that is given up midway — the client
//! left, the deadline passed, the page was full — is closed, which stops the query, and the pool opens another.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};

use crate::telemetry::metrics::DB_POOL_WAIT_SECONDS;

/// How long a query waits for a connection, or a connection for its transaction's end: a database that is away is answered
/// for in seconds, not at the query's timeout.
pub(super) const CONNECTION_WAIT: Duration = Duration::from_secs(3);

pub(super) struct PooledConnection<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> PooledConnection<DB> {
    /// Waits no longer than [`CONNECTION_WAIT`].
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
            .expect("a lease holds its connection until it is dropped")
    }

    /// After the query's end.
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
