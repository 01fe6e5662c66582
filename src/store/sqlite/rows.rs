//! Writes rows and resources.
//!
//! Rows are inserted by statements of [`CHUNK`] rows each, since every statement is a round trip to the connection's
//! thread.
//!
//! **Invariant:** either all rows of a batch are inserted, or none.

use std::sync::{Arc, LazyLock};

use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, SqliteConnection};

use crate::event::{EventFlags, Resource};
use crate::store::plausible_time::{DAY_US, PlausibleTimes};
use crate::store::probe::probe_row;
use crate::store::row_encoding::{COLUMNS, EncodedRow, EncodedRows, POSTGRES_EPOCH_US};
use crate::store::sqlite::error::ErrorContext;
use crate::store::sqlite::{now_us, schema};
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

/// Inserts all rows.
///
/// # Errors
/// [`StoreError::Refused`] names the first row that the database refuses.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    rows: &EncodedRows,
    window: PlausibleTimes,
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    let mut inserted = 0;
    let mut next = 0;
    while next < rows.len() {
        let (sql, count) =
            if rows.len() - next >= CHUNK && rows.bytes_of(next..next + CHUNK) <= CHUNK_BYTES {
                (&*INSERT_CHUNK, CHUNK)
            } else {
                (&*INSERT_ONE, 1)
            };
        match insert_some(connection, sql, rows, next, count, window, fault).await {
            Ok(affected) => inserted += affected,
            Err(error @ StoreError::Refused { .. }) => {
                return Err(name_row(connection, rows, next, count, window, fault, error).await);
            }
            Err(error) => return Err(error),
        }
        next += count;
    }
    counted(inserted, rows.len(), fault)
}

async fn insert_some(
    connection: &mut SqliteConnection,
    sql: &Arc<str>,
    rows: &EncodedRows,
    first: usize,
    count: usize,
    window: PlausibleTimes,
    fault: &ErrorContext<'_>,
) -> Result<u64, StoreError> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(count * 17, 0);
    for index in first..first + count {
        bind(&mut arguments, rows.row(index), window)
            .map_err(|what| fault.retry(FailureClass::Other, None, &what.to_string()))?;
    }
    let query = sqlx::query_with(AssertSqlSafe(Arc::clone(sql)), arguments);
    Ok(fault
        .within(query.execute(connection))
        .await?
        .rows_affected())
}

/// Inserts one row with `metadata` in place of its own. The text is moved and not copied.
pub(super) async fn insert_large(
    connection: &mut SqliteConnection,
    row: &EncodedRows,
    metadata: String,
    window: PlausibleTimes,
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    let mut arguments = SqliteArguments::default();
    bind_columns(&mut arguments, row.row(0), window)
        .and_then(|_| arguments.add(metadata))
        .map_err(|what| fault.retry(FailureClass::Other, None, &what.to_string()))?;
    // A persistent statement would keep its copy of the arguments.
    let query = sqlx::query_with(AssertSqlSafe(Arc::clone(&INSERT_ONE)), arguments);
    let inserted = fault.within(query.persistent(false).execute(connection));
    counted(inserted.await?.rows_affected(), 1, fault)
}

fn counted(inserted: u64, rows: usize, fault: &ErrorContext<'_>) -> Result<(), StoreError> {
    if inserted == rows as u64 {
        return Ok(());
    }
    let what =
        format!("{inserted} of {rows} rows were inserted; look for triggers on telemetry_events");
    Err(fault.retry(FailureClass::Count, None, &what))
}

/// Finds the refused row by inserting the rows one by one. A refused statement has undone its own rows and nothing
/// else.
async fn name_row(
    connection: &mut SqliteConnection,
    rows: &EncodedRows,
    first: usize,
    count: usize,
    window: PlausibleTimes,
    fault: &ErrorContext<'_>,
    unnamed: StoreError,
) -> StoreError {
    for index in first..first + count {
        match insert_some(connection, &INSERT_ONE, rows, index, 1, window, fault).await {
            Ok(_) => {}
            Err(error) => return error.with_row(|_| Some(index)),
        }
    }
    unnamed
}

/// Binds one tuple's fields as arguments, in the order of [`COLUMNS`].
fn bind(
    arguments: &mut SqliteArguments,
    row: EncodedRow<'_>,
    window: PlausibleTimes,
) -> Result<(), sqlx::error::BoxDynError> {
    let metadata = bind_columns(arguments, row, window)?;
    arguments.add(metadata.map(text).transpose()?)
}

/// Binds all fields but the metadata, which is returned.
fn bind_columns<'r>(
    arguments: &mut SqliteArguments,
    row: EncodedRow<'r>,
    window: PlausibleTimes,
) -> Result<Option<&'r [u8]>, sqlx::error::BoxDynError> {
    let mut fields = row.fields();
    let mut next = || fields.next().flatten();
    let timestamp = next().map(integer).transpose()?;
    let time_unix_nano = next().map(integer).transpose()?;
    let duration_ns = next().map(integer).transpose()?;
    let received = next().map(integer).transpose()?.unwrap_or_default() + POSTGRES_EPOCH_US;
    let kind = next().map(integer).transpose()?;
    let mut flags = next().map(integer).transpose()?;
    let believed = window.contains(received);
    if !believed {
        flags = Some(flags.unwrap_or(0) | i64::from(EventFlags::RECEIVE_TIME_REPLACED.0));
    }
    arguments.add(timestamp)?;
    arguments.add(time_unix_nano)?;
    arguments.add(duration_ns)?;
    arguments.add(if believed { received } else { window.now_us })?;
    arguments.add(kind)?;
    arguments.add(flags)?;
    // correlation_id, integration, provider, event_type, trace_id, span_id, parent_span_id, name, status
    for _ in 0..9 {
        arguments.add(next().map(text).transpose()?)?;
    }
    arguments.add(next())?; // resource_id
    Ok(next()) // metadata
}

/// Decodes a big-endian integer of two, four or eight bytes.
fn integer(bytes: &[u8]) -> Result<i64, std::array::TryFromSliceError> {
    match bytes.len() {
        2 => Ok(i64::from(i16::from_be_bytes(bytes.try_into()?))),
        4 => Ok(i64::from(i32::from_be_bytes(bytes.try_into()?))),
        _ => Ok(i64::from_be_bytes(bytes.try_into()?)),
    }
}

fn text(bytes: &[u8]) -> Result<Arc<str>, std::str::Utf8Error> {
    std::str::from_utf8(bytes).map(Arc::from)
}

/// Inserts the resources that rows refer to, each once.
pub(super) async fn insert_resources(
    connection: &mut SqliteConnection,
    resources: &[&Resource],
    fault: &ErrorContext<'_>,
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
        fault.within(query.execute(&mut *connection)).await?;
    }
    Ok(())
}

/// Inserts one harmless row and rolls back.
pub(super) async fn probe(
    connection: &mut SqliteConnection,
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    let mut transaction = schema::begin(connection, fault).await?;
    let window = PlausibleTimes::at(now_us(), None);
    insert(&mut transaction, &probe_row(), window, fault).await?;
    fault.within(transaction.rollback()).await
}
