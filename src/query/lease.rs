//! A connection of a read pool for the time of one query.
//!
//! **Invariant:** a connection goes back to its pool only after its query has ended; one that is given up midway — the client
//! left, the deadline passed, the page was full — is closed, which stops the query, and the pool opens another.

use sqlx::pool::PoolConnection;
use sqlx::{Database, Pool};

pub(super) struct Lease<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> Lease<DB> {
    pub(super) async fn take(pool: &Pool<DB>) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool.acquire().await?)))
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

impl<DB: Database> Drop for Lease<DB> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}
