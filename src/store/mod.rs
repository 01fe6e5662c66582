//! The two stores, PostgreSQL and SQLite: one shape, the same answers.
//!
//! **Invariant:** rows, dead letters and the account of the positions they came from are committed in one transaction;
//! the account is the only truth about what is stored.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::event::{Resource, StreamId};
use crate::position_set::PositionSet;
use crate::telemetry::own_traces::SpanError;
use crate::telemetry::own_traces::spans::DatabaseSystem;

/// The one encoding of rows: PostgreSQL's binary COPY tuples, which SQLite's writer reads back field by field.
pub mod row_encoding;

/// PostgreSQL: first contact, the batch transaction, the account.
pub mod postgres;

/// SQLite: the same, in one embedded file.
pub mod sqlite;

/// The note of the store's kind in the data directory.
pub mod kind_note;

/// What need not be written again.
mod written_cache;

/// Times of receipt.
mod plausible_time;

/// The clocks that retention goes by.
pub mod retention_clock;

/// A harmless row.
mod probe;

/// The rows of one large record, a few at a time.
mod record_pieces;

/// The result of a round of maintenance.
mod maintenance_report;

use bytes::Bytes;
pub use kind_note::StoreKind;
pub use maintenance_report::{
    MaintenanceGauges, MaintenanceReport, MaintenanceStep, Overdue, StepFailure,
};
pub use record_pieces::{LargeRow, RecordPiece, RecordPieces};
use retention_clock::Clock;
use row_encoding::EncodedRows;

/// Which positions of a stream are stored.
pub type StoredPositions = PositionSet;

/// What one database transaction writes: whole records of one stream.
#[derive(Debug)]
pub struct Batch {
    pub stream: StreamId,
    /// Every position of it joins the account.
    pub positions: RangeInclusive<u64>,
    pub rows: EncodedRows,
    pub dead_letters: Vec<DeadLetter>,
}

/// What the database refused by itself, or what could not be decoded again: kept, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub position: u64,
    /// The row's number within its record, from 0; `None` = the whole record.
    pub item: Option<u32>,
    /// Events it stands for: 1 for a row, the header's accepted count for a record.
    pub events: u32,
    /// `event/json`, `event/ndjson`, `span/protobuf`, `span/json`, …; for a row `row`, for a damaged record `unknown`.
    pub kind: &'static str,
    /// `identity`, `gzip`, `zstd`, `deflate`.
    pub content_encoding: &'static str,
    /// [`crate::decode::VERSION`] of the record.
    pub decoder: u16,
    pub received_unix_nano: i64,
    /// A closed set, the label of `ruvvector_dead_letters_total`: `refused`, `undecodable`, `miscounted`, `damaged`,
    /// `fatal`.
    pub reason: &'static str,
    pub sqlstate: Option<String>,
    pub message: String,
    /// The client's bytes, or the row as one JSON object.
    pub payload: Bytes,
}

/// A record that one transaction writes alone; its rows come in [`Pieces`].
#[derive(Clone, Copy, Debug)]
pub struct LargeRecord {
    pub stream: StreamId,
    pub position: u64,
    /// Receive time of all its rows, Unix nanoseconds.
    pub received_unix_nano: i64,
}

/// Facts about a stream that its row in `ingest_streams` holds for others to see.
#[derive(Clone, Copy, Debug)]
pub struct StreamHeartbeat {
    pub stream: StreamId,
    /// The highest synced position.
    pub appended: u64,
    /// Receive time of the oldest record that is held and not stored; `None` = all that is held is stored. What neither the
    /// account nor the journal has is a gap, and waits for nobody.
    pub oldest_unix_nano: Option<i64>,
    /// Another collector may live on it: what its row says is left to that one.
    pub contested: bool,
}

/// A stream's row is kept so long after its collector has let go of all of it.
pub const KEEP_RELEASED: Duration = Duration::from_secs(30 * 86_400);

/// What a stream's row in `ingest_streams` says of who holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamOwner {
    /// Whether the name is another collector's; names alone are no proof.
    pub other: bool,
    /// The last heartbeat, by the database's clock, as microseconds since 1970.
    pub heartbeat_us: Option<i64>,
    pub silent_seconds: Option<i64>,
}

/// How to reach the database, and what the store is allowed to do there.
#[derive(Clone)]
pub enum StoreTarget {
    Postgres {
        options: Box<sqlx::postgres::PgConnectOptions>,
        /// For queries; `None` = the same.
        read: Option<Box<sqlx::postgres::PgConnectOptions>>,
    },
    Sqlite {
        path: std::path::PathBuf,
    },
}

/// Where it is, without the password that the driver's own `Debug` would show.
impl std::fmt::Debug for StoreTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Postgres { options, .. } => write!(
                f,
                "Postgres {{ {}@{}:{} }}",
                options.get_username(),
                options.get_host(),
                options.get_port()
            ),
            Self::Sqlite { path } => write!(f, "Sqlite {{ {} }}", path.display()),
        }
    }
}

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct Options {
    pub target: StoreTarget,
    /// Apply migrations on first contact.
    pub migrate: bool,
    /// `None` = keep for ever.
    pub retention_days: Option<u32>,
    pub connect_timeout: Duration,
    /// For every statement of a batch transaction.
    pub statement_timeout: Duration,
    /// Connections for writing, of which SQLite has one whatever this says, and for queries.
    pub write_connections: u32,
    pub read_connections: u32,
    /// Names this collector in `ingest_streams`: host name and data directory.
    pub collector: String,
}

/// The facts about this process's start that retention needs.
#[derive(Clone, Debug)]
pub struct ProcessStart {
    pub clock: Clock,
    /// The newest receive time that the journal is known to hold, Unix nanoseconds.
    pub newest_journaled_unix_nano: Option<i64>,
}

impl Default for ProcessStart {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            newest_journaled_unix_nano: None,
        }
    }
}

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, slow, full, or misconfigured: tried again for ever. `class` is the label of
    /// `ruvvector_write_failures_total`: `connection`, `timeout`, `resources`, `permission`, `schema`, `conflict`,
    /// `count`, `other`.
    #[error("{message}")]
    Retry {
        class: &'static str,
        sqlstate: Option<String>,
        message: String,
    },
    /// May be a row's own fault (`postgres/error.rs` and `sqlite/error.rs` say which codes).
    #[error("{message}")]
    Refused {
        sqlstate: String,
        /// The row's index in the batch where the database named it.
        row: Option<usize>,
        /// Without values of the row, so that a log line may quote it.
        message: String,
        /// Quotes the row (`RepeatedFailure row contains …`): for the dead letter, which holds the row anyway, and nothing else.
        detail: Option<String>,
    },
    /// Some of these positions are stored already: read the account again.
    #[error("some of the batch is in the account already")]
    AlreadyStored,
    /// The schema is newer than this binary, of an unknown shape, or the database's encoding is not UTF8: writing stops
    /// until somebody acts; the sentence says what to do.
    #[error("{0}")]
    Schema(String),
}

impl StoreError {
    /// Returns whether this process had no memory for SQLite: SQLITE_NOMEM and SQLITE_IOERR_NOMEM. (PostgreSQL's codes have
    /// five characters.)
    pub(crate) fn is_out_of_memory(&self) -> bool {
        match self {
            Self::Retry { sqlstate, .. } => matches!(sqlstate.as_deref(), Some("7" | "3082")),
            Self::Refused { .. } | Self::AlreadyStored | Self::Schema(_) => false,
        }
    }
}

impl SpanError for StoreError {
    fn error_type(&self) -> Option<&'static str> {
        Some(match self {
            Self::Retry { class, .. } => class,
            Self::Refused { .. } => "refused",
            Self::AlreadyStored => "conflict",
            Self::Schema(_) => "schema",
        })
    }
}

/// The store of this process.
#[derive(Clone)]
pub enum Store {
    Postgres(postgres::Postgres),
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Makes the pools; connects to nothing yet. Needs a Tokio runtime, where the pools live.
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

    /// Uses the credentials of `target` for the next connections.
    ///
    /// # Errors
    /// A sentence, if `target` is another database. Then nothing is changed.
    pub fn replace_credentials(&self, target: &StoreTarget) -> Result<(), String> {
        match self {
            Self::Postgres(store) => store.replace_credentials(target),
            Self::Sqlite(_) => Ok(()),
        }
    }

    /// First contact: encoding, schema, migrations. Done again after every reconnect; cheap when nothing is to do.
    ///
    /// # Errors
    /// [`StoreError::Retry`] or [`StoreError::Schema`].
    pub async fn prepare(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.with_cause(store.prepare().await).await,
            Self::Sqlite(store) => store.prepare().await,
        }
    }

    /// What of `stream` is stored; empty when the database does not know it.
    ///
    /// # Errors
    /// [`StoreError::Retry`].
    pub async fn stored_positions(&self, stream: StreamId) -> Result<StoredPositions, StoreError> {
        match self {
            Self::Postgres(store) => store.stored_positions(stream).await,
            Self::Sqlite(store) => store.stored_positions(stream).await,
        }
    }

    /// Who holds `stream`, by its row; `None` for a store that no other collector can write to.
    ///
    /// # Errors
    /// [`StoreError::Retry`].
    pub async fn stream_owner(&self, stream: StreamId) -> Result<Option<StreamOwner>, StoreError> {
        match self {
            Self::Postgres(store) => store.stream_owner(stream).await.map(Some),
            Self::Sqlite(_) => Ok(None),
        }
    }

    /// Returns whether `stream` has a row, even if nothing of it is stored: it has none before its collector first had contact, and
    /// none [`KEEP_RELEASED`] after that let go of the last of it.
    ///
    /// # Errors
    /// [`StoreError::Retry`].
    pub async fn has_stream_row(&self, stream: StreamId) -> Result<bool, StoreError> {
        match self {
            Self::Postgres(store) => store.has_stream_row(stream).await,
            Self::Sqlite(store) => store.has_stream_row(stream).await,
        }
    }

    /// Commits what must stand before a batch: the stream's row and the resources its rows refer to.
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

    /// Commits a batch and its positions in one transaction. For PostgreSQL it first makes sure of the partitions.
    ///
    /// # Errors
    /// Every kind; after any of them nothing of the batch is stored, except that a lost answer to COMMIT is `Retry` and
    /// only the account tells.
    pub async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.with_cause(store.write(batch).await).await,
            Self::Sqlite(store) => store.write(batch).await,
        }
    }

    /// Commits a record whose rows are too many to be held together, and its position, in one transaction.
    ///
    /// No statement sends more than a piece or one row, so each deadline bounds a stall and not the length of the record.
    ///
    /// # Errors
    /// As [`Store::write`]; and `Retry` if the pieces end before their record does. The row of `Refused` counts the rows of
    /// all pieces; a [`LargeRow`] is not named.
    pub async fn write_pieces(
        &self,
        record: LargeRecord,
        pieces: RecordPieces,
    ) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => {
                let written = store.write_pieces(record, pieces).await;
                store.with_cause(written).await
            }
            Self::Sqlite(store) => store.write_pieces(record, pieces).await,
        }
    }

    /// Copies one harmless row and rolls back: whether the database takes good rows at all.
    ///
    /// # Errors
    /// Whatever it says.
    pub async fn probe(&self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(store) => store.probe().await,
            Self::Sqlite(store) => store.probe().await,
        }
    }

    /// Heartbeats of the streams this collector holds, and `released` for those whose last segment is gone.
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

    /// One round of maintenance: partitions ahead, summaries, ANALYZE, retention. `oldest_held` is the receive time of
    /// the oldest record of any stream that the journal still holds unstored: its day is never removed. A step that fails is
    /// among [`Maintained::failures`], and the round goes on with the next.
    ///
    /// # Errors
    /// [`StoreError::Retry`] if the store cannot be reached, [`StoreError::Schema`] if its schema is newer.
    pub async fn maintain(
        &self,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<MaintenanceReport, StoreError> {
        match self {
            Self::Postgres(store) => {
                let mut found = store
                    .with_cause(store.maintain(oldest_held_unix_nano).await)
                    .await?;
                for StepFailure { step, error } in std::mem::take(&mut found.failures) {
                    let error = store.cause_of(error).await;
                    found.failures.push(StepFailure { step, error });
                }
                Ok(found)
            }
            Self::Sqlite(store) => store.maintain(oldest_held_unix_nano).await,
        }
    }

    /// A person says that the clocks are right: retention doubts them no longer. Returns the reason for the doubt that this ends,
    /// if there is one.
    ///
    /// # Errors
    /// [`StoreError::Retry`], also if the database's clock differs from this machine's; [`StoreError::Schema`].
    pub async fn confirm_clock(&self) -> Result<Option<retention_clock::DoubtReason>, StoreError> {
        match self {
            Self::Postgres(store) => store.confirm_clock().await,
            Self::Sqlite(store) => store.confirm_clock().await,
        }
    }

    /// Signs of life, for `/health`; waits for no longer than `limit`, and as long again for the reason of a silence.
    pub async fn check_liveness(&self, limit: Duration) -> Liveness {
        match self {
            Self::Postgres(store) => store.check_liveness(limit).await,
            Self::Sqlite(store) => store.check_liveness(limit).await,
        }
    }

    /// Ends all connections in order, in so long at most; what does not answer by then need not be told goodbye. SQLite's file
    /// is whole without its WAL after that, or a warning says that it is not. Nothing can be asked of the store any more.
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

    /// How often the metadata of a [`LargeRow`] is held at once, as measured. PostgreSQL gets it part by part. SQLite needs the
    /// whole text, copies that to its statement, and copies it again to the row that it makes.
    #[must_use]
    pub const fn copies_of_large_metadata(&self) -> usize {
        match self {
            Self::Postgres(_) => 0,
            Self::Sqlite(_) => 3,
        }
    }

    /// How often the texts of a resource are held at once while they are written, as measured; of them the resource itself
    /// is one.
    #[must_use]
    pub const fn copies_of_resource(&self) -> usize {
        match self {
            Self::Postgres(_) => 3,
            Self::Sqlite(_) => 4,
        }
    }

    /// How many batches it takes at once; disjoint ones may commit in any order. Two keep a server busy while one of them
    /// is synced, and leave connections for upkeep.
    #[must_use]
    pub fn batches_at_once(&self) -> usize {
        const AT_ONCE: u32 = 2;
        const FOR_UPKEEP: u32 = 2;
        let [write, _] = self.pools();
        let left = write.max.saturating_sub(FOR_UPKEEP).clamp(1, AT_ONCE);
        usize::try_from(left).unwrap_or(1)
    }

    /// Returns whether there is a connection to write with beside those of the batches.
    #[must_use]
    pub fn spares_a_connection(&self) -> bool {
        let [write, _] = self.pools();
        usize::try_from(write.max).is_ok_and(|max| max > self.batches_at_once())
    }

    /// Size, idle and maximum of the write pool and of the read pool.
    #[must_use]
    pub fn pools(&self) -> [PoolState; 2] {
        match self {
            Self::Postgres(store) => store.pools(),
            Self::Sqlite(store) => store.pools(),
        }
    }
}

/// Who gave a sign of life.
#[derive(Clone, Copy, Debug, Default)]
pub struct Liveness {
    /// How long the database that is written to took for a round trip; `None` = it did not answer.
    pub database: Option<Duration>,
    /// It answered by refusing the connection: what to do about that.
    pub refusal: Option<&'static str>,
    /// Queries go to a replica, and it did not answer.
    pub replica_away: bool,
}

/// Long enough to close any store that answers.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// One connection pool, for `/health` and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolState {
    pub max: u32,
    pub size: u32,
    pub idle: u32,
}
