//! The two stores, PostgreSQL and SQLite, behind one interface.
//!
//! **Invariant:** a batch's rows, its dead letters and its positions are committed in one transaction. The stored
//! positions in the database alone define which positions are stored.

use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::event::{Resource, StreamId};
use crate::position_set::PositionSet;
use crate::telemetry::own_traces::spans::DatabaseSystem;

/// The errors of both stores, in classes.
mod error;

/// Data that is kept apart from the rows, with the reason.
mod dead_letter;

/// Settings of the store, and the facts about the start of the process.
mod options;

/// The facts about a stream that other collectors read.
mod stream_heartbeat;

/// The series of the store's metrics that exist from the start.
mod seed_metrics;

/// The one encoding of rows: PostgreSQL's binary COPY tuples, which SQLite's writer reads back field by field.
pub mod row_encoding;

/// PostgreSQL: first contact, the batch transaction, the stored positions.
pub mod postgres;

/// SQLite: the same in one embedded file.
pub mod sqlite;

/// The note of the store's kind in the data directory.
pub mod kind_note;

/// A connection of a pool, for one transaction or one query.
pub(crate) mod pooled_connection;

/// A cache of the resources and streams that the database has.
mod written_cache;

/// Plausible times of receipt.
mod plausible_time;

/// The clocks of retention.
pub mod retention_clock;

/// The harmless row of a probe.
mod probe;

/// The rows of one large record, a few at a time.
mod record_pieces;

/// The result of a round of maintenance.
mod maintenance_report;

pub use dead_letter::{DeadLetter, DeadLetterKind, DeadLetterReason};
pub use error::{FailureClass, StoreError};
pub use kind_note::StoreKind;
pub use maintenance_report::{
    MaintenanceGauges, MaintenanceReport, MaintenanceStep, Overdue, StepFailure,
};
pub use options::{Options, ProcessStart, StoreTarget};
pub use record_pieces::{LargeRecord, LargeRow, RecordPiece, RecordPieces};
use row_encoding::EncodedRows;
pub use seed_metrics::seed_metrics;
pub use stream_heartbeat::{KEEP_RELEASED, StreamHeartbeat, StreamOwner};

/// The positions of a stream that are stored.
pub type StoredPositions = PositionSet;

/// The contents of one database transaction: whole records of one stream.
#[derive(Debug)]
pub struct Batch {
    pub stream: StreamId,
    /// All of these positions are added to the stored positions.
    pub positions: RangeInclusive<u64>,
    pub rows: EncodedRows,
    pub dead_letters: Vec<DeadLetter>,
}

/// The store of this process.
#[derive(Clone)]
pub enum Store {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Creates the pools without connecting. Must be called on a Tokio runtime, which the pools use.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self::starting(options, &ProcessStart::default())
    }

    /// As [`Store::new`], for a process that removes events past the retention.
    #[must_use]
    pub fn starting(options: &Options, start: &ProcessStart) -> Self {
        match &options.target {
            StoreTarget::Postgres { .. } => Self::Postgres(postgres::Postgres::new(options, start)),
            StoreTarget::Sqlite { .. } => Self::Sqlite(sqlite::Sqlite::new(options, start)),
        }
    }

    /// Returns the name of the database system, for spans.
    pub(crate) const fn system(&self) -> DatabaseSystem {
        match self {
            Self::Postgres(_) => DatabaseSystem::Postgresql,
            Self::Sqlite(_) => DatabaseSystem::Sqlite,
        }
    }

    /// Uses the credentials of `target` for new connections.
    ///
    /// # Errors
    /// A sentence, if `target` is another database. Nothing is changed then.
    pub fn replace_credentials(&self, target: &StoreTarget) -> Result<(), String> {
        match self {
            Self::Postgres(store) => store.replace_credentials(target),
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Makes the first contact: checks the encoding and the schema, and applies migrations. Repeated after every
    /// reconnect; cheap if there is nothing to do.
    ///
    /// # Errors
    /// [`StoreError::Retry`] or [`StoreError::Schema`].
    pub async fn prepare(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.with_cause(store.prepare().await).await,
            Self::Sqlite(store) => store.prepare().await,
        }
    }

    /// Returns the stored positions of `stream`; empty if the database does not know it.
    ///
    /// # Errors
    /// [`StoreError::Retry`].
    pub async fn stored_positions(&self, stream: StreamId) -> Result<StoredPositions, StoreError> {
        match self {
            Self::Postgres(store) => store.stored_positions(stream).await,
            Self::Sqlite(store) => store.stored_positions(stream).await,
        }
    }

    /// Returns the owner of `stream` according to its row; `None` for a store that no other collector can write to.
    ///
    /// # Errors
    /// [`StoreError::Retry`].
    pub async fn stream_owner(&self, stream: StreamId) -> Result<Option<StreamOwner>, StoreError> {
        match self {
            Self::Postgres(store) => store.stream_owner(stream).await.map(Some),
            Self::Sqlite(_) => Ok(None),
        }
    }

    /// Returns whether `stream` has a row, even if none of its positions is stored. There is no row before its
    /// collector's first contact, nor [`KEEP_RELEASED`] after that collector released the stream.
    ///
    /// # Errors
    /// [`StoreError::Retry`].
    pub async fn has_stream_row(&self, stream: StreamId) -> Result<bool, StoreError> {
        match self {
            Self::Postgres(store) => store.has_stream_row(stream).await,
            Self::Sqlite(store) => store.has_stream_row(stream).await,
        }
    }

    /// Commits the stream's row and the resources, to which the rows of a batch refer. Must come before the batch.
    ///
    /// # Errors
    /// [`StoreError::Retry`].
    pub async fn write_resources(
        &self,
        facts: StreamHeartbeat,
        resources: &[&Resource],
    ) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => {
                store
                    .with_cause(store.write_resources(facts, resources).await)
                    .await
            }
            Self::Sqlite(store) => store.write_resources(facts, resources).await,
        }
    }

    /// Commits a batch and its positions in one transaction. PostgreSQL first creates missing partitions.
    ///
    /// # Errors
    /// Every variant. After any of them nothing of the batch is stored, with one exception: if the answer to COMMIT was
    /// lost, the error is `Retry` and only the stored positions show the outcome.
    pub async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.with_cause(store.write(batch).await).await,
            Self::Sqlite(store) => store.write(batch).await,
        }
    }

    /// Commits a record whose rows do not fit in memory together, and its position, in one transaction.
    ///
    /// No statement sends more than one piece or one row, so each deadline bounds a stall and not the length of the
    /// record.
    ///
    /// # Errors
    /// As [`Store::write`]; and `Retry` if the pieces end before their record does. The row of `Refused` is counted
    /// across all pieces; for a [`LargeRow`] it is `None`.
    pub async fn write_pieces(
        &self,
        record: LargeRecord,
        pieces: RecordPieces,
    ) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => {
                store
                    .with_cause(store.write_pieces(record, pieces).await)
                    .await
            }
            Self::Sqlite(store) => store.write_pieces(record, pieces).await,
        }
    }

    /// Inserts one harmless row and rolls back, to check that the database accepts good rows at all.
    ///
    /// # Errors
    /// Any [`StoreError`] of the insertion.
    pub async fn probe(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.probe().await,
            Self::Sqlite(store) => store.probe().await,
        }
    }

    /// Writes the heartbeats of the streams that this collector holds, and marks the `released` ones as released.
    ///
    /// # Errors
    /// [`StoreError::Retry`].
    pub async fn heartbeat(
        &self,
        held: &[StreamHeartbeat],
        released: &[StreamId],
    ) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => {
                store
                    .with_cause(store.heartbeat(held, released).await)
                    .await
            }
            Self::Sqlite(store) => store.heartbeat(held, released).await,
        }
    }

    /// Runs one round of maintenance: partitions ahead, summaries, ANALYZE, retention. `oldest_held` is the receive
    /// time of the oldest record that the journal still holds unstored, Unix nanoseconds; its day is never removed. If
    /// a step fails, its error is added to [`MaintenanceReport::failures`], and the round continues with the next.
    ///
    /// # Errors
    /// [`StoreError::Retry`] if the store cannot be reached, [`StoreError::Schema`] if its schema is newer.
    pub async fn maintain(
        &self,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<MaintenanceReport, StoreError> {
        match self {
            Self::Postgres(store) => {
                let report = store.maintain(oldest_held_unix_nano).await;
                let mut report = store.with_cause(report).await?;
                for failure in &mut report.failures {
                    store.name_cause(&mut failure.error).await;
                }
                Ok(report)
            }
            Self::Sqlite(store) => store.maintain(oldest_held_unix_nano).await,
        }
    }

    /// Adds the rows that this collector has written since the last round to the summaries by which searches in
    /// PostgreSQL skip blocks. [`Self::maintain`] does that again.
    ///
    /// # Errors
    /// [`StoreError::Retry`], [`StoreError::Schema`].
    pub async fn summarise_written(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.summarise_written().await,
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// Confirms, for an operator, that the clocks are right, which ends retention's doubt. Returns the reason for that
    /// doubt, if there was one.
    ///
    /// # Errors
    /// [`StoreError::Retry`], also if the database's clock differs from this machine's; [`StoreError::Schema`].
    pub async fn confirm_clock(&self) -> Result<Option<retention_clock::DoubtReason>, StoreError> {
        match self {
            Self::Postgres(store) => store.confirm_clock().await,
            Self::Sqlite(store) => store.confirm_clock().await,
        }
    }

    /// Checks the database's liveness for `/health`. Waits at most `limit`, and as long again for the reason of a
    /// failure.
    pub async fn check_liveness(&self, limit: Duration) -> Liveness {
        match self {
            Self::Postgres(store) => store.check_liveness(limit).await,
            Self::Sqlite(store) => store.check_liveness(limit).await,
        }
    }

    /// Closes all connections in order, waiting at most `within`. After that SQLite's file is complete without its WAL,
    /// or a warning reports that it is not. The store must not be used afterwards.
    pub async fn close(&self, within: Duration) {
        match self {
            Self::Postgres(store) => store.close(within).await,
            Self::Sqlite(store) => store.close(within).await,
        }
    }

    /// `postgres` or `sqlite`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Sqlite(_) => "sqlite",
        }
    }

    /// Returns the number of copies of a [`LargeRow`]'s metadata that are held at the same time, as measured.
    /// PostgreSQL receives it part by part. SQLite needs the whole text, copies it to its statement, and copies it
    /// again to the row.
    #[must_use]
    pub const fn copies_of_large_metadata(&self) -> usize {
        match self {
            Self::Postgres(_) => 0,
            Self::Sqlite(_) => 3,
        }
    }

    /// Returns the number of copies of a resource's texts that are held at the same time while it is written, as
    /// measured, including the resource itself.
    #[must_use]
    pub const fn copies_of_resource(&self) -> usize {
        match self {
            Self::Postgres(_) => 3,
            Self::Sqlite(_) => 4,
        }
    }

    /// Returns the number of batches that the store writes at the same time; disjoint ones may commit in any order. The
    /// other connections are for maintenance.
    #[must_use]
    pub fn batches_at_once(&self) -> usize {
        const MOST_AT_ONCE: u32 = 8;
        const FOR_UPKEEP: u32 = 2;
        let [write, _] = self.pools();
        let left = write.max.saturating_sub(FOR_UPKEEP).clamp(1, MOST_AT_ONCE);
        usize::try_from(left).unwrap_or(1)
    }

    /// Returns whether the store has a connection for writing beside those of the batches.
    #[must_use]
    pub fn spares_a_connection(&self) -> bool {
        let [write, _] = self.pools();
        usize::try_from(write.max).is_ok_and(|max| max > self.batches_at_once())
    }

    /// Returns the size, the idle connections and the maximum of the write pool and of the read pool.
    #[must_use]
    pub fn pools(&self) -> [PoolState; 2] {
        match self {
            Self::Postgres(store) => store.pools(),
            Self::Sqlite(store) => store.pools(),
        }
    }
}

/// The result of a check for liveness.
#[derive(Clone, Copy, Debug, Default)]
pub struct Liveness {
    /// Round trip of the database that is written to; `None` if it did not answer.
    pub database: Option<Duration>,
    /// Advice, if the database answered by refusing the connection.
    pub refusal: Option<&'static str>,
    /// True if queries go to a replica that did not answer.
    pub replica_unavailable: bool,
}

/// Time in which any store that answers can be closed.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection pool, for `/health` and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolState {
    pub max: u32,
    pub size: u32,
    pub idle: u32,
}

impl PoolState {
    fn of<Driver: sqlx::Database>(pool: &sqlx::Pool<Driver>) -> Self {
        Self {
            max: pool.options().get_max_connections(),
            size: pool.size(),
            idle: u32::try_from(pool.num_idle()).unwrap_or(u32::MAX),
        }
    }
}

/// Locks a mutex whose contents are consistent after every statement, so that a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
