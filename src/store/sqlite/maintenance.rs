//! Retention, and what the streams of other collectors look like.
//!
//! Rows go in about the order of their receipt, so the oldest have the lowest ids: looking at the first few thousand
//! finds what is due without an index on `created_at`, which every insert would pay for.
//!
//! **Invariant:** a row younger than the retention is never removed.

use sqlx::SqliteConnection;

use super::error::Fault;
use super::{now_us, schema};
use crate::store::window::DAY_US;
use crate::store::{Overdue, StoreError};

/// Rows looked at by one piece; it holds the write lock for a few milliseconds.
const ROWS_A_PIECE: i64 = 2_000;

/// Pieces that one round removes at most.
pub(super) const PIECES_A_ROUND: usize = 500;

/// A stream is silent once its heartbeat is so old.
const SILENT_US: i64 = 300_000_000;

/// Removes what is due among the lowest ids; how many rows went.
pub(super) async fn remove_expired(
    connection: &mut SqliteConnection,
    days: u32,
    fault: Fault<'_>,
) -> Result<u64, StoreError> {
    let query = sqlx::query(
        "DELETE FROM telemetry_events
         WHERE id IN (SELECT id FROM telemetry_events ORDER BY id LIMIT ?) AND created_at < ?",
    )
    .bind(ROWS_A_PIECE)
    .bind(now_us() - i64::from(days) * DAY_US);
    let mut transaction = schema::begin(connection, &fault).await?;
    let removed = fault.within(query.execute(&mut *transaction)).await?;
    fault.within(transaction.commit()).await?;
    Ok(removed.rows_affected())
}

/// How late the oldest row is.
pub(super) async fn overdue(
    connection: &mut SqliteConnection,
    days: u32,
    fault: Fault<'_>,
) -> Result<Overdue, StoreError> {
    let query = sqlx::query_scalar("SELECT created_at FROM telemetry_events ORDER BY id LIMIT 1");
    let oldest: Option<i64> = fault.within(query.fetch_optional(connection)).await?;
    Ok(oldest.map_or(Overdue::Never, |oldest| {
        Overdue::By(now_us() - i64::from(days) * DAY_US - oldest)
    }))
}

/// Streams of other collectors that are silent and hold what is not stored.
pub(super) async fn undrained(
    connection: &mut SqliteConnection,
    collector: &str,
    fault: Fault<'_>,
) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM ingest_streams
         WHERE collector IS NOT ? AND released IS NULL AND oldest IS NOT NULL AND heartbeat < ?
           AND NOT (json_array_length(done) = 1
               AND json_extract(done, '$[0][0]') <= 1 AND json_extract(done, '$[0][1]') >= appended)",
    )
    .bind(collector)
    .bind(now_us() - SILENT_US);
    let streams = fault.within(query.fetch_one(connection)).await?;
    Ok(u64::try_from(streams).unwrap_or(0))
}
