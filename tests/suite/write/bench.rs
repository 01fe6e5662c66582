//! A journal, a writer and a database, put together for a test.
//!
//! **Invariant:** event `n` has the correlation id `e<n>`, so that what is stored can be compared with what was accepted.

use std::fmt::Write as _;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ruvvector_service::decode::VERSION;
use ruvvector_service::event::{ContentEncoding, Encoding, Limits, Position, Signal, Source};
use ruvvector_service::journal::disk::OsDisk;
use ruvvector_service::journal::{self, Journal, NewRecord};
use ruvvector_service::store::{self, Store, StoreTarget};
use ruvvector_service::write::{self, Problems, Progress, WriteLoop};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection};
use tokio_util::sync::CancellationToken;

use crate::support::postgres::Database;

/// Far longer than anything takes; a test that waits that long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// Polls until it is so.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < PATIENCE, "never came about: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A separate database, of either kind.
pub(super) enum Db {
    Postgres(Box<PgConnectOptions>),
    Sqlite(tempfile::TempDir),
}

impl Db {
    pub(super) async fn postgres() -> Self {
        Self::Postgres(Box::new(Database::new().await.options()))
    }

    pub(super) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(super) fn options(&self) -> store::Options {
        let target = match self {
            Self::Postgres(options) => StoreTarget::Postgres {
                options: options.clone(),
                read: None,
            },
            Self::Sqlite(dir) => StoreTarget::Sqlite {
                path: dir.path().join("ruvvector.db"),
            },
        };
        store::Options {
            target,
            migrate: true,
            retention_days: None,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            write_connections: 4,
            read_connections: 1,
            collector: "test".to_owned(),
        }
    }

    /// Makes the schema, before the writer starts.
    pub(super) async fn prepare(&self) {
        Store::new(&self.options())
            .prepare()
            .await
            .expect("first contact succeeds");
    }

    pub(super) async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(options) => {
                let mut connection = PgConnection::connect_with(options).await.expect("connects");
                sqlx::raw_sql(sql).execute(&mut connection).await.map(drop)
            }
            Self::Sqlite(_) => {
                let mut connection = self.open().await;
                sqlx::raw_sql(sql).execute(&mut connection).await.map(drop)
            }
        }
        .expect("the statement runs");
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Postgres(options) => {
                let mut connection = PgConnection::connect_with(options).await.expect("connects");
                sqlx::query_scalar(sql).fetch_one(&mut connection).await
            }
            Self::Sqlite(_) => {
                let mut connection = self.open().await;
                sqlx::query_scalar(sql).fetch_one(&mut connection).await
            }
        }
        .expect("the query answers a number")
    }

    async fn open(&self) -> SqliteConnection {
        let Self::Sqlite(dir) = self else {
            unreachable!("only SQLite is opened");
        };
        let options = SqliteConnectOptions::new().filename(dir.path().join("ruvvector.db"));
        SqliteConnection::connect_with(&options)
            .await
            .expect("the file opens")
    }

    /// Asserts that events `e1` to `e<count>` are in the table, each once, and nothing else is.
    pub(super) async fn assert_holds_exactly(&self, count: u64) {
        let rows = self.number("SELECT count(*) FROM telemetry_events").await;
        let different = "SELECT count(DISTINCT correlation_id) FROM telemetry_events
                         WHERE CAST(substr(correlation_id, 2) AS BIGINT) BETWEEN 1 AND ";
        let different = self.number(&format!("{different} {count}")).await;
        let count = i64::try_from(count).expect("small");
        assert_eq!((rows, different), (count, count), "rows, different ones");
    }

    pub(super) async fn dead_letters(&self) -> i64 {
        self.number("SELECT count(*) FROM telemetry_dead_letters")
            .await
    }
}

pub(super) fn open_log(dir: &Path) -> Journal {
    let options = journal::Options {
        dir: dir.to_owned(),
        budget_bytes: Some(256 << 20),
        segment_bytes: Some(1 << 20),
        free_floor_bytes: Some(0),
        keep_stored: Duration::from_secs(3600),
        ..journal::Options::default()
    };
    Journal::open(Arc::new(OsDisk), &options).expect("the journal opens")
}

/// A record as the receiver hands it to the journal.
pub(super) fn record(accepted: u32, payload: &str) -> NewRecord {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    let now = i64::try_from(since.expect("after 1970").as_nanos()).expect("before 2262");
    NewRecord {
        source: Source {
            signal: Signal::Event,
            encoding: Encoding::Json,
            partial: false,
            received_unix_nano: now,
            limits: Limits::default(),
            version: VERSION,
        },
        content_encoding: ContentEncoding::Identity,
        decoded_bytes: u32::try_from(payload.len()).expect("short"),
        accepted,
        rejected: 0,
        digest: [0; 16],
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

pub(super) fn json(n: u64, integration: &str) -> String {
    format!(
        r#"{{"correlationId":"e{n}","integration":"{integration}","eventType":"tested","timestamp":1700000000000,"metadata":{{"n":{n}}}}}"#
    )
}

/// A journal that hands out event numbers, and the writer that drains it.
pub(super) struct Bench {
    pub(super) journal: Journal,
    pub(super) progress: Progress,
    pub(super) problems: Problems,
    next: u64,
    stop: CancellationToken,
    writer: Option<tokio::task::JoinHandle<()>>,
    pub(super) options: write::Options,
    pub(super) grace: Duration,
}

impl Bench {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            journal: open_log(dir),
            progress: Progress::default(),
            problems: Problems::default(),
            next: 1,
            stop: CancellationToken::new(),
            writer: None,
            options: write::Options {
                retry_min: Duration::from_millis(20),
                retry_max: Duration::from_millis(200),
                maintenance_interval: Duration::from_secs(1),
                ..write::Options::default()
            },
            grace: Duration::from_secs(60),
        }
    }

    pub(super) fn start(&mut self, options: &store::Options) {
        let writer = WriteLoop::new(
            self.journal.clone(),
            Store::new(options),
            self.options.clone(),
        );
        (self.progress, self.problems) = (writer.progress.clone(), writer.problems.clone());
        self.stop = CancellationToken::new();
        self.writer = Some(tokio::spawn(writer.run(self.stop.clone(), self.grace)));
    }

    /// Ends the writer in any state, as a crash does.
    pub(super) async fn kill(&mut self) {
        let writer = self.writer.take().expect("the writer runs");
        writer.abort();
        assert!(writer.await.is_err_and(|error| error.is_cancelled()));
    }

    /// Asks the writer to stop and waits until it has.
    pub(super) async fn stop(&mut self) {
        self.stop.cancel();
        let writer = self.writer.take().expect("the writer runs");
        tokio::time::timeout(PATIENCE, writer)
            .await
            .expect("the writer stops")
            .expect("the writer does not panic");
    }

    /// Accepts one record of that many events.
    pub(super) async fn accept(&mut self, events: u64) -> Position {
        let integration = vec!["orders"; usize::try_from(events).expect("few")];
        self.accept_of(&integration).await
    }

    /// Accepts one record with an event of each of these integrations.
    pub(super) async fn accept_of(&mut self, integrations: &[&str]) -> Position {
        let events: Vec<String> = integrations
            .iter()
            .zip(self.next..)
            .map(|(integration, n)| json(n, integration))
            .collect();
        self.next += integrations.len() as u64;
        let accepted = u32::try_from(integrations.len()).expect("few");
        let record = record(accepted, &format!("[{}]", events.join(",")));
        self.journal
            .append(record)
            .await
            .expect("the journal takes it")
    }

    /// Accepts a record of good events with one of another integration after each `between`, and something after the last.
    pub(super) async fn accept_with(&mut self, bad: &[&str], between: u64, end: &str) -> Position {
        let mut body = "[".to_owned();
        let mut events = 0_u32;
        for integration in bad.iter().copied().chain(["orders"]) {
            for integration in (1..between).map(|_| "orders").chain([integration]) {
                let comma = if events == 0 { "" } else { "," };
                let event = json(self.next, integration);
                write!(body, "{comma}{event}").expect("a string takes it");
                (events, self.next) = (events + 1, self.next + 1);
            }
        }
        body.push_str(end);
        let record = record(events, &body);
        self.journal
            .append(record)
            .await
            .expect("the journal takes it")
    }

    /// The number of accepted events.
    pub(super) const fn accepted(&self) -> u64 {
        self.next - 1
    }

    /// Continues the numbers of an earlier run's events.
    pub(super) const fn after(mut self, accepted: u64) -> Self {
        self.next = accepted + 1;
        self
    }

    /// Another journal has handed out the numbers up to this one.
    pub(super) const fn next_from(&mut self, accepted: u64) {
        self.next = accepted + 1;
    }

    pub(super) async fn drained(&self) {
        until("the journal is drained", async || {
            self.journal.status().queue_events == 0
        })
        .await;
    }
}
