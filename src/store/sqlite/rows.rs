//! Writes rows and resources.
//!
//! Rows are inserted by statements of many rows each, since every statement is a round trip to the connection's thread,
//! and keeps a copy of each page that it changes until it ends. While one statement runs, the arguments of the next are
//! bound.
//!
//! **Invariant:** either all rows of a batch are inserted, or none.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use futures_util::future::join;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};

use crate::event::Resource;
use crate::store::plausible_time::DAY_US;
use crate::store::row_encoding::{
    COLUMNS, ColumnValue, EncodedRow, EncodedRows, METADATA, POSTGRES_EPOCH_US,
};
use crate::store::sqlite::{Sqlite, now_us};
use crate::store::{FailureClass, StoreError};

/// Rows in one statement, for each of the statements: each chunk of a batch is inserted by the first one that it fills.
const STATEMENT_ROWS: [usize; 3] = [128, 16, 1];

/// Rows with more bytes than this together are inserted by smaller statements, since the driver and SQLite each copy a
/// statement's arguments.
const STATEMENT_BYTES: usize = 1 << 20;

/// Minimum interval, in microseconds, at which a stored resource's `last_seen` is refreshed.
const REFRESH_SEEN_US: i64 = DAY_US * 5 / 6;

/// The statements of [`STATEMENT_ROWS`].
static INSERTS: LazyLock<[Arc<str>; 3]> =
    LazyLock::new(|| STATEMENT_ROWS.map(|rows| insert_sql(rows).into()));

fn insert_sql(rows: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMNS.split(", ").count()].join(", "));
    format!(
        "INSERT INTO telemetry_events ({COLUMNS}) VALUES {}",
        vec![row.as_str(); rows].join(", ")
    )
}

/// Rows that one statement inserts, with its arguments.
struct BoundRows {
    rows: Range<usize>,
    sql: &'static Arc<str>,
    arguments: SqliteArguments,
}

impl BoundRows {
    /// Binds the rows from `next` on that the largest fitting statement of at most `most_rows` inserts. `None` if there
    /// is no such row.
    fn bind(
        rows: &EncodedRows,
        next: usize,
        most_rows: usize,
    ) -> Result<Option<Self>, sqlx::error::BoxDynError> {
        let left = rows.len() - next;
        let fits = |count: usize| {
            count <= left.min(most_rows)
                && (count == 1 || rows.bytes_of(next..next + count) <= STATEMENT_BYTES)
        };
        let Some(statement) = STATEMENT_ROWS.iter().position(|&count| fits(count)) else {
            return Ok(None);
        };
        let bound = next..next + STATEMENT_ROWS[statement];
        let mut arguments = SqliteArguments::default();
        arguments.reserve(bound.len() * (METADATA + 1), 0);
        for row in bound.clone() {
            bind(&mut arguments, rows.row(row).values())?;
        }
        Ok(Some(Self {
            rows: bound,
            sql: &INSERTS[statement],
            arguments,
        }))
    }
}

impl Sqlite {
    /// Inserts all rows.
    ///
    /// # Errors
    /// [`StoreError::Refused`] names the first row that the database refuses.
    pub(super) async fn insert_rows(
        &self,
        connection: &mut SqliteConnection,
        rows: &EncodedRows,
    ) -> Result<(), StoreError> {
        let bind = |next, most_rows| {
            let bound = BoundRows::bind(rows, next, most_rows);
            bound.map_err(|error| self.unbindable(&*error))
        };
        let mut inserted = 0;
        let mut bound = bind(0, usize::MAX)?;
        while let Some(BoundRows {
            rows: chunk,
            sql,
            arguments,
        }) = bound
        {
            let query = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), arguments);
            let (done, following) = join(self.within(query.execute(&mut *connection)), async {
                bind(chunk.end, usize::MAX)
            })
            .await;
            match done {
                Ok(done) => inserted += done.rows_affected(),
                Err(error @ StoreError::Refused { .. }) if chunk.len() > 1 => {
                    return Err(self.find_refused(connection, rows, chunk, error).await);
                }
                Err(error) => return Err(error.with_row(|_| Some(chunk.start))),
            }
            bound = following?;
        }
        self.check_count(inserted, rows.len())
    }

    /// Inserts the rows of a refused chunk one by one, and returns the error of the first one that is refused. If none
    /// is, returns the chunk's error: a trigger with RAISE(FAIL) leaves the chunk's earlier rows, so that inserting all
    /// again is no success.
    async fn find_refused(
        &self,
        connection: &mut SqliteConnection,
        rows: &EncodedRows,
        chunk: Range<usize>,
        refused: StoreError,
    ) -> StoreError {
        for row in chunk {
            let bound = match BoundRows::bind(rows, row, 1) {
                Ok(bound) => bound,
                Err(error) => return self.unbindable(&*error),
            };
            let Some(BoundRows { sql, arguments, .. }) = bound else {
                break;
            };
            let query = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), arguments);
            if let Err(error) = self.within(query.execute(&mut *connection)).await {
                return error.with_row(|_| Some(row));
            }
        }
        refused
    }

    /// Inserts one row with `metadata` in place of its own. The text is moved and not copied.
    pub(super) async fn insert_large(
        &self,
        connection: &mut SqliteConnection,
        row: EncodedRow<'_>,
        metadata: String,
    ) -> Result<(), StoreError> {
        let bytes = metadata.len();
        let mut arguments = SqliteArguments::default();
        bind(&mut arguments, row.values().take(METADATA))
            .and_then(|()| arguments.add(metadata))
            .map_err(|error| self.unbindable(&*error))?;
        // A persistent statement would keep its copy of the arguments.
        let query = sqlx::query_with(AssertSqlSafe(insert_sql(1)), arguments);
        let inserting = query.persistent(false).execute(connection);
        let inserted = self.within_time_of(bytes, inserting).await?;
        self.check_count(inserted.rows_affected(), 1)
    }

    fn unbindable(&self, error: &(dyn std::error::Error + Send + Sync)) -> StoreError {
        self.retry(FailureClass::Other, &error.to_string())
    }

    fn check_count(&self, inserted: u64, rows: usize) -> Result<(), StoreError> {
        if inserted == rows as u64 {
            return Ok(());
        }
        let message = format!(
            "{inserted} of {rows} rows were inserted; look for triggers on telemetry_events"
        );
        Err(self.retry(FailureClass::Count, &message))
    }

    /// Inserts the resources that rows refer to, each once.
    pub(super) async fn insert_resources(
        &self,
        connection: &mut SqliteConnection,
        resources: &[&Resource],
    ) -> Result<(), StoreError> {
        let now = now_us();
        for resource in resources {
            let query = sqlx::query(
                "INSERT INTO telemetry_resources (id, resource, scope, last_seen) VALUES (?, ?, ?, ?)
                 ON CONFLICT (id) DO UPDATE SET last_seen = excluded.last_seen WHERE last_seen < ?",
            )
            .bind(&resource.id.0[..])
            .bind(resource.resource.as_str())
            .bind(resource.scope.as_str())
            .bind(now)
            .bind(now - REFRESH_SEEN_US);
            self.within(query.execute(&mut *connection)).await?;
        }
        Ok(())
    }
}

/// Binds the values of a row's columns in their order.
fn bind<'r>(
    arguments: &mut SqliteArguments,
    values: impl Iterator<Item = Option<ColumnValue<'r>>>,
) -> Result<(), sqlx::error::BoxDynError> {
    for value in values {
        match value {
            None => arguments.add(None::<i64>)?,
            Some(ColumnValue::Integer(number)) => arguments.add(number)?,
            Some(ColumnValue::Time(us)) => arguments.add(us + POSTGRES_EPOCH_US)?,
            Some(ColumnValue::Bytes(bytes)) => arguments.add(bytes)?,
            Some(ColumnValue::Text(text) | ColumnValue::Json(text)) => {
                arguments.add(Arc::<str>::from(std::str::from_utf8(text)?))?;
            }
        }
    }
    Ok(())
}
