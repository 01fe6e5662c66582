//! SQLite: the same store in one embedded file.
//!
//! One connection writes, and a few read. The file is in WAL mode and every commit is synced, so committed rows survive
//! a power failure.
//!
//! **Invariant:** a batch's rows, dead letters and positions are committed together.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::Mutex as Turn;

use crate::event::{Resource, StreamId};
use crate::store::plausible_time::{DAY_US, PlausibleTimes};
use crate::store::retention_clock::{Clock, ClockFacts, DoubtReason, Judgement, RetentionClock};
use crate::store::written_cache::WrittenCache;
use crate::store::{
    Batch, LargeRecord, LargeRow, Liveness, MaintenanceGauges, MaintenanceReport, MaintenanceStep,
    Options, Overdue, PoolState, ProcessStart, RecordPiece, RecordPieces, StepFailure, StoreError,
    StoreTarget, StoredPositions, StreamHeartbeat,
};
use crate::telemetry::own_traces::spans::{self, DatabaseSystem};
use crate::telemetry::own_traces::traced;

/// The stored positions: one JSON text for each stream.
mod stored_positions;

/// Keeps the write-ahead log small.
mod wal;

/// Classifies SQLite's errors.
mod error;

/// Detects that the file was renamed or removed while the service runs.
mod open_file;

/// Migrates the schema, and refuses unknown ones.
mod schema;

/// Writes rows and resources.
mod rows;

/// Writes dead letters.
mod dead_letters;

/// Finds rows that are due for removal, and undrained streams.
mod maintenance;

/// Removes rows that are due.
mod removal;

/// The doubt of retention's clock.
mod clock;

use error::ErrorContext;
use maintenance::RetentionWalks;
use open_file::OpenFile;

/// Maximum wait for another connection's lock, within the deadline of a statement.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of rows that a query's connection reads ahead of its consumer. Each may have 64 KiB.
const ROWS_AHEAD: usize = 6;

/// Size from which the next round of maintenance resets the WAL. Several of the largest batches fit.
const WAL_BYTES: u64 = 64 << 20;

/// The store behind [`super::Store::Sqlite`].
#[derive(Clone)]
pub struct Sqlite {
    /// The pool for queries; see [`crate::query`].
    pub read_pool: SqlitePool,
    write_pool: SqlitePool,
    /// Held while a large record is written, which occupies the connection for an unlimited time. Other tasks wait for
    /// this lock without a deadline, and for the connection with one.
    turn: Arc<Turn<()>>,
    settings: Arc<SqliteSettings>,
    written: Arc<WrittenCache>,
    clock: Clock,
    retention_clock: Arc<Mutex<RetentionClock>>,
    walks: Arc<Mutex<RetentionWalks>>,
    presence: Arc<OpenFile>,
}

struct SqliteSettings {
    path: PathBuf,
    migrate: bool,
    retention_days: Option<u32>,
    connect_timeout: Duration,
    statement_timeout: Duration,
    collector: String,
}

impl Sqlite {
    pub(super) fn new(options: &Options, start: &ProcessStart) -> Self {
        let path = match &options.target {
            StoreTarget::Sqlite { path } => path.clone(),
            StoreTarget::Postgres { .. } => {
                unreachable!("Store::new picks the store by its target")
            }
        };
        let connect = SqliteConnectOptions::new()
            .filename(&path)
            .busy_timeout(BUSY_TIMEOUT.min(options.statement_timeout))
            .optimize_on_close(false, None)
            // SQLite keeps temporary data in memory. Files in a full or read-only /var/tmp would stop all writes. An
            // insert keeps the pages that it changes, at most 1.4 MiB in a batch of 10,000 rows. A query sorts keys,
            // and must never sort larger data.
            .pragma("temp_store", "MEMORY");
        let write = connect
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            // Deleted rows are overwritten, those of retention included, at no measurable cost.
            .pragma("secure_delete", "ON")
            .synchronous(SqliteSynchronous::Full);
        // `read_only` is not set, since the first reader after a crash has to recover the WAL.
        let read = connect
            .pragma("query_only", "ON")
            .row_buffer_size(ROWS_AHEAD);
        let presence = Arc::<OpenFile>::default();
        let pool = |most: u32| {
            let presence = presence.clone();
            SqlitePoolOptions::new()
                .max_connections(most.max(1))
                .acquire_timeout(options.connect_timeout)
                .before_acquire(move |_, meta| {
                    let is_current = presence.is_current(meta.age);
                    Box::pin(async move { Ok(is_current) })
                })
        };
        Self {
            read_pool: pool(options.read_connections).connect_lazy_with(read),
            write_pool: pool(1).connect_lazy_with(write),
            turn: Arc::default(),
            settings: Arc::new(SqliteSettings {
                path,
                migrate: options.migrate,
                retention_days: options.retention_days,
                connect_timeout: options.connect_timeout,
                statement_timeout: options.statement_timeout,
                collector: options.collector.clone(),
            }),
            written: Arc::default(),
            clock: start.clock.clone(),
            retention_clock: Arc::new(Mutex::new(RetentionClock::of(start))),
            walks: Arc::default(),
            presence,
        }
    }

    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        self.written.clear();
        self.presence.settle(&self.settings.path, &self.fault())?;
        let mut connection = self.writer().await?;
        self.presence.learn(&self.settings.path, &self.fault())?;
        let done = schema::prepare(&mut connection, self.settings.migrate, self.fault()).await;
        settle(connection, done)?;
        self.note_first_use_of_retention().await
    }

    /// If retention was never applied to the file, judges the clock before the first row is written. Otherwise these
    /// rows would count as old events at the first use of retention after a later start.
    async fn note_first_use_of_retention(&self) -> Result<(), StoreError> {
        let Some(days) = self.settings.retention_days else {
            return Ok(());
        };
        let mut connection = self.writer().await?;
        let known = clock::is_judged(&mut connection, &self.fault()).await;
        if !settle(connection, known)? {
            self.judge_clock(days).await?;
        }
        Ok(())
    }

    pub(super) async fn stored_positions(
        &self,
        stream: StreamId,
    ) -> Result<StoredPositions, StoreError> {
        let mut connection = self.writer().await?;
        let done = stored_positions::read(&mut connection, stream, self.fault()).await;
        settle(connection, done)
    }

    pub(super) async fn has_stream_row(&self, stream: StreamId) -> Result<bool, StoreError> {
        let mut connection = self.writer().await?;
        let done = stored_positions::knows(&mut connection, stream, self.fault()).await;
        settle(connection, done)
    }

    pub(super) async fn write_resources(
        &self,
        facts: StreamHeartbeat,
        resources: &[&Resource],
    ) -> Result<(), StoreError> {
        let missing = self.written.missing(resources);
        if missing.is_empty() && self.written.has_stream(facts.stream) {
            return Ok(());
        }
        let mut connection = self.writer().await?;
        let inserting = spans::statement(DatabaseSystem::Sqlite, "INSERT", "telemetry_resources");
        let done = self.insert_resources(&mut connection, facts, &missing);
        let done = traced(inserting, done).await;
        settle(connection, done)?;
        self.written.add(facts.stream, &missing);
        Ok(())
    }

    async fn insert_resources(
        &self,
        connection: &mut SqliteConnection,
        facts: StreamHeartbeat,
        resources: &[&Resource],
    ) -> Result<(), StoreError> {
        let fault = self.fault();
        let mut transaction = schema::begin(connection, &fault).await?;
        stored_positions::ensure(&mut transaction, facts.stream, &fault).await?;
        rows::insert_resources(&mut transaction, resources, &fault).await?;
        fault.within(transaction.commit()).await
    }

    pub(super) async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut connection = self.writer().await?;
        let done = self.write_batch(&mut connection, batch).await;
        self.shrink_wal_if_full(settle(connection, done)).await
    }

    async fn write_batch(
        &self,
        connection: &mut SqliteConnection,
        batch: &Batch,
    ) -> Result<(), StoreError> {
        let fault = self.fault();
        let mut transaction = schema::begin(connection, &fault).await?;
        stored_positions::add(&mut transaction, batch.stream, &batch.positions, &fault).await?;
        let window = PlausibleTimes::at(now_us(), self.settings.retention_days);
        let inserting = spans::statement(DatabaseSystem::Sqlite, "INSERT", "telemetry_events");
        let inserted = rows::insert(&mut transaction, &batch.rows, window, &fault);
        traced(inserting, inserted).await?;
        dead_letters::insert(&mut transaction, batch.stream, &batch.dead_letters, &fault).await?;
        let committing = spans::statement(DatabaseSystem::Sqlite, "COMMIT", "");
        traced(committing, fault.within(transaction.commit())).await
    }

    pub(super) async fn write_pieces(
        &self,
        record: LargeRecord,
        pieces: RecordPieces,
    ) -> Result<(), StoreError> {
        let turn = self.turn.lock().await;
        let mut connection = self.connection().await?;
        let done = self.write_record(&mut connection, record, pieces).await;
        let done = settle(connection, done);
        drop(turn);
        self.shrink_wal_if_full(done).await
    }

    /// Writes a large record in one transaction. Pages that do not fit into SQLite's cache are in the WAL until the
    /// commit.
    async fn write_record(
        &self,
        connection: &mut SqliteConnection,
        record: LargeRecord,
        mut pieces: RecordPieces,
    ) -> Result<(), StoreError> {
        let fault = self.fault();
        let mut transaction = schema::begin(connection, &fault).await?;
        let positions = record.position..=record.position;
        stored_positions::add(&mut transaction, record.stream, &positions, &fault).await?;
        let window = PlausibleTimes::at(now_us(), self.settings.retention_days);
        let (mut sent, mut bytes) = (0, 0);
        while let Some(piece) = pieces.next().await? {
            match piece {
                RecordPiece::Rows(rows) => {
                    let inserting =
                        spans::statement(DatabaseSystem::Sqlite, "INSERT", "telemetry_events");
                    let inserted = rows::insert(&mut transaction, &rows, window, &fault);
                    traced(inserting, inserted)
                        .await
                        .map_err(|error| error.with_row(|row| Some(row? + sent)))?;
                    sent += rows.len();
                    bytes += rows.as_bytes().len();
                }
                RecordPiece::LargeRow(LargeRow {
                    row,
                    metadata_bytes,
                }) => {
                    let mut metadata = String::with_capacity(metadata_bytes);
                    let mut missing_bytes = metadata_bytes;
                    while let Some(part) = pieces.next_metadata(&mut missing_bytes).await? {
                        metadata.push_str(&part);
                    }
                    let fault = fault.for_bytes(metadata_bytes);
                    rows::insert_large(&mut transaction, &row, metadata, window, &fault)
                        .await
                        // Its dead letter would hold all of its metadata.
                        .map_err(|error| error.with_row(|_| None))?;
                    sent += 1;
                    bytes += metadata_bytes;
                }
                RecordPiece::Refused(letter) => {
                    let stream = record.stream;
                    dead_letters::insert(&mut transaction, stream, &[letter], &fault).await?;
                }
                RecordPiece::Metadata(_) | RecordPiece::End => {}
            }
        }
        let committing = spans::statement(DatabaseSystem::Sqlite, "COMMIT", "");
        let fault = fault.for_bytes(bytes);
        traced(committing, fault.within(transaction.commit())).await
    }

    pub(super) async fn probe(&self) -> Result<(), StoreError> {
        let mut connection = self.writer().await?;
        let done = rows::probe(&mut connection, &self.fault()).await;
        settle(connection, done)
    }

    pub(super) async fn heartbeat(
        &self,
        held: &[StreamHeartbeat],
        released: &[StreamId],
    ) -> Result<(), StoreError> {
        let mut connection = self.writer().await?;
        let collector = &self.settings.collector;
        let done =
            stored_positions::heartbeat(&mut connection, collector, held, released, self.fault());
        let done = done.await;
        settle(connection, done)
    }

    pub(super) async fn maintain(
        &self,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<MaintenanceReport, StoreError> {
        let mut failures = Vec::new();
        let mut note = |step, error| failures.push(StepFailure { step, error });
        let mut overdue = Some(Overdue::Never);
        let mut notice = None;
        if let Some(days) = self.settings.retention_days {
            let now_us = self.clock.read().unix_us;
            let retained = self.retain(days, oldest_held_unix_nano).await;
            overdue = self.overdue(now_us - i64::from(days) * DAY_US);
            match retained {
                Ok(judgement) => notice = judgement.notice,
                Err(error @ StoreError::Schema(_)) => return Err(error),
                Err(error) => note(MaintenanceStep::Retention, error),
            }
        }
        if let Err(error) = self.bound_wal(WAL_BYTES).await {
            note(MaintenanceStep::Statistics, error);
        }
        let undrained = self.undrained().await;
        let gauges = MaintenanceGauges {
            partitions_end_us: None,
            overdue_us: overdue,
            undrained_streams: undrained
                .map_err(|error| note(MaintenanceStep::Gauges, error))
                .ok(),
            import_v0_pending: Some(false),
        };
        Ok(MaintenanceReport {
            gauges,
            failures,
            notice,
        })
    }

    /// Removes the rows that both the judgement of the clock and the journal permit to remove.
    async fn retain(
        &self,
        retention_days: u32,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<Judgement, StoreError> {
        let judgement = self.judge_clock(retention_days).await?;
        // If the journal holds an unstored record of a day, the whole day is kept.
        let held_from_us = oldest_held_unix_nano.map_or(i64::MAX, |nano| {
            nano.div_euclid(1_000).div_euclid(DAY_US) * DAY_US
        });
        let before_us = judgement.remove_before_us.unwrap_or(i64::MIN);
        self.remove_expired(before_us.min(held_from_us)).await?;
        Ok(judgement)
    }

    async fn judge_clock(&self, retention_days: u32) -> Result<Judgement, StoreError> {
        let now = self.clock.read();
        let facts = ClockFacts {
            now,
            store_us: now.unix_us,
            retention_days,
            oldest_day_end_us: None,
            newest_stored_us: None,
        };
        let oldest_us = self.walks().oldest_us();
        let mut connection = self.writer().await?;
        let judged = clock::judge(
            &mut connection,
            &self.retention_clock,
            facts,
            oldest_us,
            self.fault(),
        )
        .await;
        settle(connection, judged)
    }

    /// Returns the age of the oldest row that the walks passed, relative to the retention; `None` before any piece was
    /// read.
    fn overdue(&self, cutoff_us: i64) -> Option<Overdue> {
        let walks = self.walks();
        match walks.oldest_us() {
            Some(oldest_us) => Some(Overdue::By(cutoff_us - oldest_us)),
            None => walks.have_looked().then_some(Overdue::Never),
        }
    }

    fn walks(&self) -> MutexGuard<'_, RetentionWalks> {
        self.walks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn undrained(&self) -> Result<u64, StoreError> {
        let mut connection = self.writer().await?;
        let collector = &self.settings.collector;
        let done = maintenance::undrained(&mut connection, collector, self.fault()).await;
        settle(connection, done)
    }

    pub(super) async fn confirm_clock(&self) -> Result<Option<DoubtReason>, StoreError> {
        let mut connection = self.writer().await?;
        let done = clock::confirm(&mut connection, self.fault()).await;
        settle(connection, done)
    }

    pub(super) async fn check_liveness(&self, limit: Duration) -> Liveness {
        let began = Instant::now();
        let ping = sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&self.read_pool);
        let answer = tokio::time::timeout(limit, ping).await;
        Liveness {
            database: matches!(answer, Ok(Ok(_))).then(|| began.elapsed()),
            refusal: None,
            replica_away: false,
        }
    }

    /// Closes the readers first, since they prevent the transfer of the WAL into the file.
    pub(super) async fn close(&self, within: Duration) {
        if self.write_pool.is_closed() {
            return;
        }
        let last = Instant::now() + within;
        let _ = tokio::time::timeout(within / 2, self.read_pool.close()).await;
        let emptied = async {
            let emptied = self.empty_wal(BUSY_TIMEOUT).await;
            self.write_pool.close().await;
            emptied
        };
        let left = last.saturating_duration_since(Instant::now());
        let why = match tokio::time::timeout(left, emptied).await {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => "another process reads the file".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the disk did not come to an end within {within:?}"),
        };
        tracing::warn!(
            "{0}: rows are left in {0}-wal, which belongs to it ({why}); copy both, or start and stop once more",
            self.settings.path.display()
        );
    }

    pub(super) fn pools(&self) -> [PoolState; 2] {
        [&self.write_pool, &self.read_pool].map(|pool| PoolState {
            max: pool.options().get_max_connections(),
            size: pool.size(),
            idle: u32::try_from(pool.num_idle()).unwrap_or(u32::MAX),
        })
    }

    fn fault(&self) -> ErrorContext<'_> {
        ErrorContext {
            path: &self.settings.path,
            deadline: self.settings.statement_timeout,
        }
    }

    /// Returns the only connection that writes, once no large record is being written.
    async fn writer(&self) -> Result<PoolConnection<sqlx::Sqlite>, StoreError> {
        let _turn = self.turn.lock().await;
        self.connection().await
    }

    /// Returns the only connection that writes, if it has the file at the store's path open. The caller holds `turn`.
    async fn connection(&self) -> Result<PoolConnection<sqlx::Sqlite>, StoreError> {
        self.presence.check(&self.settings.path, &self.fault())?;
        let fault = ErrorContext {
            deadline: self.settings.connect_timeout,
            ..self.fault()
        };
        fault.within(self.write_pool.acquire()).await
    }
}

/// Closes the connection after an error that is not a row's fault. SQLite rolls back automatically if the disk is full,
/// and a connection in an unknown state must not be used again.
fn settle<T>(
    mut connection: PoolConnection<sqlx::Sqlite>,
    done: Result<T, StoreError>,
) -> Result<T, StoreError> {
    if matches!(done, Err(StoreError::Retry { .. } | StoreError::Schema(_))) {
        connection.close_on_drop();
    }
    done
}

/// Returns the Unix time in microseconds by this machine's clock, which is also the database's.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests;
