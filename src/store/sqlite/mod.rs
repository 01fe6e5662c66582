//! SQLite: the same store in one embedded file.
//!
//! One connection writes, and a few read. The file is in WAL mode and every commit is synced, so committed rows survive
//! a power failure.
//!
//! **Invariant:** a batch's rows, dead letters and positions are committed together.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{SqliteConnection, SqlitePool};

use crate::store::retention_clock::{Clock, RetentionClock};
use crate::store::written_cache::WrittenCache;
use crate::store::{Liveness, Options, PoolState, ProcessStart, StoreError, StoreTarget};

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

/// The transaction of a batch, or of a large record.
mod batch;

/// Writes rows and resources.
mod rows;

/// Writes dead letters.
mod dead_letters;

/// Runs the round of maintenance.
mod maintenance;

/// The walks over the rows in search of those that are due for removal.
mod retention_walks;

/// Removes rows that are due.
mod removal;

/// The doubt of retention's clock.
mod clock;

use open_file::OpenFile;
use retention_walks::RetentionWalks;

/// Maximum wait for another connection's lock, within the deadline of a statement.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages of the file that the writer keeps in memory, in KiB: those that a batch of 10,000 rows changes, and the inner
/// ones. SQLite's default of 2 MiB makes it write pages to the WAL, and read them again, several times in a transaction.
const WRITER_CACHE_KIB: u32 = 16 << 10;

/// Pages in the WAL from which a commit transfers it into the file: 16 MiB, about two batches. A page that both change
/// is written once.
const CHECKPOINT_PAGES: u32 = 4_000;

/// Number of rows that a query's connection reads ahead of its consumer. Each may have 64 KiB.
const ROWS_AHEAD: usize = 6;

/// The store behind [`super::Store::Sqlite`]. Cheap to clone.
#[derive(Clone)]
pub struct Sqlite {
    /// The pool for queries; see [`crate::query`].
    pub read_pool: SqlitePool,
    write_pool: SqlitePool,
    shared: Arc<SqliteShared>,
}

/// Settings, and the state of the file, of the writer and of retention.
struct SqliteShared {
    path: PathBuf,
    options: Options,
    /// Held while a large record is written, which occupies the connection for an unlimited time. Other tasks wait for
    /// this lock without a deadline, and for the connection with one.
    turn: tokio::sync::Mutex<()>,
    open_file: Arc<OpenFile>,
    written: WrittenCache,
    clock: Clock,
    retention_clock: Mutex<RetentionClock>,
    walks: Mutex<RetentionWalks>,
}

impl Sqlite {
    pub(super) fn new(options: &Options, start: &ProcessStart) -> Self {
        let StoreTarget::Sqlite { path } = &options.target else {
            unreachable!("Store::new picks the store by its target")
        };
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(BUSY_TIMEOUT.min(options.statement_timeout))
            .optimize_on_close(false, None)
            // SQLite keeps temporary data in memory. Files in a full or read-only /var/tmp would stop all writes. An
            // insert keeps the pages that it changes until it ends, at most 4 MiB. A query sorts keys, and must never
            // sort larger data.
            .pragma("temp_store", "MEMORY");
        let write = connect
            .clone()
            .journal_mode(SqliteJournalMode::Wal)
            // Deleted rows are overwritten, those of retention included, at no measurable cost.
            .pragma("secure_delete", "ON")
            .pragma("cache_size", format!("-{WRITER_CACHE_KIB}"))
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            .synchronous(SqliteSynchronous::Full);
        // `read_only` is not set, since the first reader after a crash has to recover the WAL.
        let read = connect
            .pragma("query_only", "ON")
            .row_buffer_size(ROWS_AHEAD);
        let open_file = Arc::<OpenFile>::default();
        let pool = |connections: u32| {
            let open_file = open_file.clone();
            SqlitePoolOptions::new()
                .max_connections(connections.max(1))
                .acquire_timeout(options.connect_timeout)
                .before_acquire(move |_, meta| {
                    let is_current = open_file.is_current(meta.age);
                    Box::pin(async move { Ok(is_current) })
                })
        };
        Self {
            read_pool: pool(options.read_connections).connect_lazy_with(read),
            write_pool: pool(1).connect_lazy_with(write),
            shared: Arc::new(SqliteShared {
                path: path.clone(),
                options: options.clone(),
                turn: tokio::sync::Mutex::default(),
                open_file,
                written: WrittenCache::default(),
                clock: start.clock.clone(),
                retention_clock: Mutex::new(RetentionClock::of(start)),
                walks: Mutex::default(),
            }),
        }
    }

    pub(super) async fn prepare(&self) -> Result<(), StoreError> {
        self.shared.written.clear();
        self.settle_file()?;
        self.on_writer(async |connection| {
            self.learn_file()?;
            self.prepare_schema(connection).await
        })
        .await?;
        self.judge_first_use_of_retention().await
    }

    pub(super) async fn check_liveness(&self, limit: Duration) -> Liveness {
        let began = Instant::now();
        let ping = sqlx::query("SELECT count(*) FROM sqlite_schema").execute(&self.read_pool);
        let answer = tokio::time::timeout(limit, ping).await;
        Liveness {
            database: matches!(answer, Ok(Ok(_))).then(|| began.elapsed()),
            ..Liveness::default()
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
            self.shared.path.display()
        );
    }

    pub(super) fn pools(&self) -> [PoolState; 2] {
        [&self.write_pool, &self.read_pool].map(PoolState::of)
    }

    /// Runs one operation in a transaction that holds the write lock, and commits it.
    async fn in_transaction<T>(
        &self,
        operation: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.on_writer(async |connection| {
            let mut transaction = self.begin(connection).await?;
            let done = operation(&mut transaction).await?;
            self.within(transaction.commit()).await?;
            Ok(done)
        })
        .await
    }

    /// Runs one operation on the connection that writes.
    async fn on_writer<T>(
        &self,
        operation: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        run_on(self.writer().await?, operation).await
    }

    /// Returns the only connection that writes, once no large record is being written.
    async fn writer(&self) -> Result<PoolConnection<sqlx::Sqlite>, StoreError> {
        let _turn = self.shared.turn.lock().await;
        self.connection().await
    }

    /// Returns the only connection that writes, if it has the file at the store's path open. The caller holds `turn`.
    async fn connection(&self) -> Result<PoolConnection<sqlx::Sqlite>, StoreError> {
        self.check_file()?;
        let limit = self.shared.options.connect_timeout;
        self.within_limit(limit, self.write_pool.acquire()).await
    }
}

/// Runs an operation on a connection, and closes the connection after an error that is not a row's fault. SQLite rolls
/// back automatically if the disk is full, and a connection in an unknown state must not be used again.
async fn run_on<T>(
    mut connection: PoolConnection<sqlx::Sqlite>,
    operation: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let done = operation(&mut connection).await;
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
