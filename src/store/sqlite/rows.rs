//! Writes rows and resources.
//!
//! Rows are inserted by statements of [`CHUNK`] rows each, since every statement is a round trip to the connection's
//! thread.
//!
//! **Invariant:** either all rows of a batch are inserted, or none.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};

use crate::event::Resource;
use crate::store::plausible_time::DAY_US;
use crate::store::row_encoding::{
    COLUMNS, ColumnValue, EncodedRow, EncodedRows, METADATA, POSTGRES_EPOCH_US,
};
use crate::store::sqlite::{Sqlite, now_us};
use crate::store::{FailureClass, StoreError};

/// Rows in one statement.
const CHUNK: usize = 32;

/// Rows with more bytes than this together are inserted one by one, since the driver and SQLite each copy a statement's
/// arguments.
const CHUNK_BYTES: usize = 1 << 20;

/// Minimum interval, in microseconds, at which a stored resource's `last_seen` is refreshed.
const REFRESH_SEEN_US: i64 = DAY_US * 5 / 6;

static INSERT_CHUNK: LazyLock<Arc<str>> = LazyLock::new(|| insert_sql(CHUNK).into());
static INSERT_ONE: LazyLock<Arc<str>> = LazyLock::new(|| insert_sql(1).into());

fn insert_sql(rows: usize) -> String {
    let row = format!("({})", vec!["?"; COLUMNS.split(", ").count()].join(", "));
    format!(
        "INSERT INTO telemetry_events ({COLUMNS}) VALUES {}",
        vec![row.as_str(); rows].join(", ")
    )
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
        let (mut inserted, mut next) = (0, 0);
        // The end of a refused chunk, whose rows are inserted one by one to find the refused one.
        let mut refused: Option<(usize, StoreError)> = None;
        while next < rows.len() {
            let mut chunk = next..next + CHUNK;
            if refused.is_some()
                || chunk.end > rows.len()
                || rows.bytes_of(chunk.clone()) > CHUNK_BYTES
            {
                chunk.end = next + 1;
            }
            match self.insert_chunk(connection, rows, chunk.clone()).await {
                Ok(count) => {
                    inserted += count;
                    next = chunk.end;
                    // A trigger with RAISE(FAIL) leaves the chunk's earlier rows, so that inserting all again is no
                    // success.
                    if let Some((_, error)) = refused.take_if(|(end, _)| *end == next) {
                        return Err(error);
                    }
                }
                Err(error @ StoreError::Refused { .. }) if chunk.len() > 1 => {
                    refused = Some((chunk.end, error));
                }
                Err(error) => return Err(error.with_row(|_| Some(next))),
            }
        }
        self.check_count(inserted, rows.len())
    }

    /// Inserts [`CHUNK`] rows or one row by one statement, and returns the number of rows that it inserted.
    async fn insert_chunk(
        &self,
        connection: &mut SqliteConnection,
        rows: &EncodedRows,
        chunk: Range<usize>,
    ) -> Result<u64, StoreError> {
        let sql: &Arc<str> = if chunk.len() == CHUNK {
            &INSERT_CHUNK
        } else {
            &INSERT_ONE
        };
        let mut arguments = SqliteArguments::default();
        arguments.reserve(chunk.len() * 17, 0);
        for row in chunk {
            bind(&mut arguments, rows.row(row).values())
                .map_err(|error| self.unbindable(&*error))?;
        }
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), arguments);
        let inserted = self.within(query.execute(connection)).await?;
        Ok(inserted.rows_affected())
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
        let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&INSERT_ONE)), arguments);
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
