//! PostgreSQL, 14 or later.
//!
//! Every statement runs inside a transaction that sets what it needs by `SET LOCAL`, and is unnamed. Therefore a pooler
//! in transaction mode may be used.
//!
//! **Invariant:** a batch's rows, dead letters and positions are committed together.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::time::timeout;

use crate::event::StreamId;
use crate::store::lock;
use crate::store::retention_clock::{Clock, RetentionClock};
use crate::store::written_cache::WrittenCache;
use crate::store::{Liveness, Options, PoolState, ProcessStart, StoreTarget};

/// Connections, and deadlines.
mod connection;

/// One transaction, and the statements in it.
mod transaction;

/// Replaces credentials while the service runs.
mod credentials;

/// Classifies the database's errors.
mod error;

/// Asks the server for the cause of an error.
mod cause;

/// The migrations of the schema.
mod migrations;

/// The shape of the table of events.
mod table_shape;

/// First contact: version, encoding, shape, migrations.
mod schema;

/// Keeps the original service's table aside, and imports it.
mod import_v0;

/// The days that have partitions.
mod partitions;

/// The batch transaction.
mod batch;

/// Writes dead letters.
mod dead_letters;

/// The rows of streams, with the stored positions.
mod streams;

/// Writes the stream's row and the resources before a batch.
mod resources;

/// Runs the round of maintenance.
mod maintenance;

/// The connection of a round, and its failed steps.
mod round;

/// Summaries and statistics.
mod statistics;

/// The facts behind the gauges.
mod gauges;

/// Finds obstacles to the removal of a day.
mod obstacles;

/// The clocks of retention.
mod clock;

/// Removes events that are older than the retention.
mod retention;

pub use import_v0::ImportProgress;

/// The store behind [`super::Store::Postgres`]. Cheap to clone.
#[derive(Clone)]
pub struct Postgres {
    /// The pool for queries; see [`crate::query`].
    pub read_pool: PgPool,
    write_pool: PgPool,
    shared: Arc<PostgresShared>,
}

/// Settings, and cached facts about the database.
struct PostgresShared {
    options: Options,
    /// The server, the database and the table that [`Postgres::prepare`] checked last.
    server: Mutex<Option<String>>,
    partitions: partitions::Partitions,
    written: WrittenCache,
    counted: statistics::WrittenRows,
    clock: Clock,
    retention_clock: Mutex<RetentionClock>,
}

impl Postgres {
    pub(super) fn new(options: &Options, start: &ProcessStart) -> Self {
        let StoreTarget::Postgres {
            options: write,
            read,
        } = &options.target
        else {
            unreachable!("a Postgres is only made for a Postgres target");
        };
        let read = read.as_ref().unwrap_or(write);
        let pool = |connections: u32| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(options.connect_timeout)
        };
        let write_pool = pool(options.write_connections);
        // A query tries the next connection if its BEGIN fails, which saves a round trip.
        let read_pool = pool(options.read_connections).test_before_acquire(false);
        Self {
            write_pool: write_pool.connect_lazy_with(for_poolers(write)),
            read_pool: read_pool.connect_lazy_with(for_poolers(read)),
            shared: Arc::new(PostgresShared {
                options: options.clone(),
                server: Mutex::default(),
                partitions: partitions::Partitions::default(),
                written: WrittenCache::default(),
                counted: statistics::WrittenRows::default(),
                clock: start.clock.clone(),
                retention_clock: Mutex::new(RetentionClock::of(start)),
            }),
        }
    }

    /// Measures a round trip on each pool.
    pub(super) async fn check_liveness(&self, limit: Duration) -> Liveness {
        let (write, read) = tokio::join!(
            timeout(limit, self.ping(&self.write_pool)),
            timeout(limit, self.ping(&self.read_pool)),
        );
        let [write, read] = [write, read].map(|ping| ping.ok()?.ok());
        let (database, replica_unavailable) = match &self.shared.options.target {
            StoreTarget::Postgres { read: Some(_), .. } => (write, read.is_none()),
            // With one server, a pool whose connections are all in use does not mean that the server is unavailable.
            _ => (write.or(read), false),
        };
        let refusal = match database {
            Some(_) => None,
            None => timeout(limit, self.refusal()).await.ok().flatten(),
        };
        Liveness {
            database,
            refusal,
            replica_unavailable,
        }
    }

    /// Closes the pools in order, so that the server logs no lost connections.
    pub(super) async fn close(&self, within: Duration) {
        let closed = futures_util::future::join(self.write_pool.close(), self.read_pool.close());
        let _ = tokio::time::timeout(within, closed).await;
    }

    pub(super) fn pools(&self) -> [PoolState; 2] {
        [&self.write_pool, &self.read_pool].map(PoolState::of)
    }

    /// Clears the cached facts. After an error it may be another database, or the same one restored to an earlier
    /// state.
    fn forget(&self) {
        self.shared.partitions.clear();
        self.shared.written.clear();
    }
}

/// Sets no startup parameter that a pooler would refuse, and keeps statements out of log lines.
fn for_poolers(options: &PgConnectOptions) -> PgConnectOptions {
    let options = options
        .clone()
        .extra_float_digits(None)
        .disable_statement_logging();
    if options.get_application_name().is_some() {
        options
    } else {
        options.application_name("ruvvector-service")
    }
}

/// Formats a stream's id as PostgreSQL's uuid.
fn uuid(stream: StreamId) -> String {
    stream.to_string()
}
