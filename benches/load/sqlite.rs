//! Floor: the rows of one SQLite file, inserted into another by a loop of prepared statements of several rows.
//!
//! **Invariant:** 10,000 rows are one transaction, which is synced (`synchronous=FULL`) before the next one begins.

use std::time::Instant;

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{Arguments as _, AssertSqlSafe, ConnectOptions, Executor, FromRow};

use crate::arguments::Arguments;

const COLUMNS: &str = "timestamp, time_unix_nano, duration_ns, created_at, kind, flags, correlation_id, integration, \
     provider, event_type, trace_id, span_id, parent_span_id, name, status, resource_id, metadata";
const TRANSACTION_ROWS: usize = 10_000;
/// Rows of one statement.
const STATEMENT_ROWS: usize = 100;

#[derive(FromRow)]
struct StoredRow {
    timestamp: i64,
    time_unix_nano: Option<i64>,
    duration_ns: Option<i64>,
    created_at: i64,
    kind: Option<i64>,
    flags: Option<i64>,
    correlation_id: String,
    integration: String,
    provider: Option<String>,
    event_type: String,
    trace_id: Option<String>,
    span_id: Option<String>,
    parent_span_id: Option<String>,
    name: Option<String>,
    status: Option<String>,
    resource_id: Option<Vec<u8>>,
    metadata: String,
}

impl StoredRow {
    fn bind(self, arguments: &mut SqliteArguments) -> Result<(), sqlx::error::BoxDynError> {
        for number in [
            Some(self.timestamp),
            self.time_unix_nano,
            self.duration_ns,
            Some(self.created_at),
            self.kind,
            self.flags,
        ] {
            arguments.add(number)?;
        }
        for text in [
            Some(self.correlation_id),
            Some(self.integration),
            self.provider,
            Some(self.event_type),
            self.trace_id,
            self.span_id,
            self.parent_span_id,
            self.name,
            self.status,
        ] {
            arguments.add(text)?;
        }
        arguments.add(self.resource_id)?;
        arguments.add(self.metadata)
    }
}

fn insert(rows: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMNS.split(", ").count()].join(", "));
    format!(
        "INSERT INTO telemetry_events ({COLUMNS}) VALUES {}",
        vec![row.as_str(); rows].join(", ")
    )
}

async fn open(file: &str) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await
        .expect("the file opens")
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn measure(arguments: &Arguments) -> String {
    let mut source = open(arguments.text("source")).await;
    let select = format!("SELECT {COLUMNS} FROM telemetry_events ORDER BY id");
    let rows: Vec<StoredRow> = sqlx::query_as(AssertSqlSafe(select))
        .fetch_all(&mut source)
        .await
        .expect("the rows can be read");
    let count = rows.len();
    let mut out = open(arguments.text("file")).await;
    let schema = std::fs::read_to_string(arguments.text("schema")).expect("the schema is a file");
    out.execute(AssertSqlSafe(schema))
        .await
        .expect("the schema is valid");
    let statement: sqlx::SqlStr =
        sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(insert(STATEMENT_ROWS)));
    let mut rows = rows.into_iter().peekable();
    let mut inserted = 0;
    let began = Instant::now();
    while rows.peek().is_some() {
        out.execute("BEGIN IMMEDIATE").await.expect("it is ours");
        for _ in 0..TRANSACTION_ROWS / STATEMENT_ROWS {
            let mut arguments = SqliteArguments::default();
            let mut bound = 0;
            for row in rows.by_ref().take(STATEMENT_ROWS) {
                row.bind(&mut arguments).expect("SQLite has these types");
                bound += 1;
            }
            let query = match bound {
                0 => break,
                STATEMENT_ROWS => sqlx::query_with(statement.clone(), arguments),
                rest => sqlx::query_with(
                    sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(insert(rest))),
                    arguments,
                ),
            };
            let done = query.execute(&mut out).await;
            inserted += done.expect("the rows fit the schema").rows_affected();
        }
        out.execute("COMMIT").await.expect("the disk syncs");
    }
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(
        u64::try_from(count).ok(),
        Some(inserted),
        "rows are missing"
    );
    format!(
        r#"{{"rows":{inserted},"seconds":{seconds:.3},"rows_per_s":{:.0}}}"#,
        inserted as f64 / seconds
    )
}
