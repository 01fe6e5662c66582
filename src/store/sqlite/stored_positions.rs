//! Reads and adds the stored positions, one row for each stream.
//!
//! **Invariant:** positions are added to `stored_positions` only in the transaction that writes their rows, and only if
//! none of them was stored.

use std::ops::RangeInclusive;

use sqlx::SqliteConnection;

use crate::event::StreamId;
use crate::store::sqlite::error::ErrorContext;
use crate::store::sqlite::{now_us, schema};
use crate::store::{FailureClass, KEEP_RELEASED, StoreError, StoredPositions, StreamHeartbeat};

/// Returns the stored positions of the stream; empty if it is unknown.
pub(super) async fn read(
    connection: &mut SqliteConnection,
    stream: StreamId,
    fault: ErrorContext<'_>,
) -> Result<StoredPositions, StoreError> {
    let query = sqlx::query_scalar("SELECT stored_positions FROM ingest_streams WHERE stream = ?");
    let done: Option<String> = fault
        .within(query.bind(&stream.0[..]).fetch_optional(connection))
        .await?;
    let Some(done) = done else {
        return Ok(StoredPositions::default());
    };
    let ranges: Vec<(u64, u64)> = serde_json::from_str(&done).map_err(|error| {
        let what =
            format!("ingest_streams.stored_positions is not readable ({error}); restore the file");
        fault.retry(FailureClass::Schema, None, &what)
    })?;
    Ok(StoredPositions::new(
        ranges.into_iter().map(|(first, last)| first..=last),
    ))
}

/// Returns whether the stream has a row.
pub(super) async fn knows(
    connection: &mut SqliteConnection,
    stream: StreamId,
    fault: ErrorContext<'_>,
) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM ingest_streams WHERE stream = ?)");
    fault
        .within(query.bind(&stream.0[..]).fetch_one(connection))
        .await
}

/// Adds positions. The caller holds the write lock, so the stored positions cannot change in between.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    stream: StreamId,
    positions: &RangeInclusive<u64>,
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    let mut account = read(connection, stream, *fault).await?;
    let (first, last) = (*positions.start(), *positions.end());
    if account
        .ranges()
        .iter()
        .any(|done| *done.start() <= last && *done.end() >= first)
    {
        return Err(StoreError::AlreadyStored);
    }
    account.insert(first..=last);
    let query = sqlx::query(
        "INSERT INTO ingest_streams (stream, stored_positions) VALUES (?, ?)
         ON CONFLICT (stream) DO UPDATE SET stored_positions = excluded.stored_positions",
    )
    .bind(&stream.0[..])
    .bind(to_json(&account));
    fault.within(query.execute(connection)).await.map(drop)
}

fn to_json(account: &StoredPositions) -> String {
    let ranges: Vec<String> = account
        .ranges()
        .iter()
        .map(|range| format!("[{},{}]", range.start(), range.end()))
        .collect();
    format!("[{}]", ranges.join(","))
}

/// Creates the stream's row before its first batch.
pub(super) async fn ensure(
    connection: &mut SqliteConnection,
    stream: StreamId,
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    let query =
        sqlx::query("INSERT INTO ingest_streams (stream) VALUES (?) ON CONFLICT DO NOTHING");
    fault
        .within(query.bind(&stream.0[..]).execute(connection))
        .await
        .map(drop)
}

/// Writes the heartbeats of the held streams, and marks the `released` ones as released. A collector without waiting
/// records leaves another collector's report of waiting records unchanged, since that one's copy of the directory may
/// hold more.
pub(super) async fn heartbeat(
    connection: &mut SqliteConnection,
    collector: &str,
    held: &[StreamHeartbeat],
    released: &[StreamId],
    fault: ErrorContext<'_>,
) -> Result<(), StoreError> {
    let now = now_us();
    let mut transaction = schema::begin(connection, &fault).await?;
    // A stream without a record gets no row.
    for facts in held.iter().filter(|facts| facts.appended > 0) {
        let query = sqlx::query(
            "INSERT INTO ingest_streams (stream, collector, appended, oldest, heartbeat) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (stream) DO UPDATE SET
                 collector = CASE WHEN excluded.oldest IS NULL AND oldest IS NOT NULL
                     THEN collector ELSE excluded.collector END,
                 appended = max(coalesce(appended, 0), excluded.appended),
                 oldest = CASE WHEN excluded.oldest IS NULL AND collector <> excluded.collector
                     THEN oldest ELSE excluded.oldest END,
                 heartbeat = excluded.heartbeat, released = NULL",
        )
        .bind(&facts.stream.0[..])
        .bind(collector)
        .bind(i64::try_from(facts.appended).unwrap_or(i64::MAX))
        .bind(facts.oldest_unix_nano.map(|nano| nano.div_euclid(1_000)))
        .bind(now);
        fault.within(query.execute(&mut *transaction)).await?;
    }
    for stream in released {
        let query = sqlx::query(
            "UPDATE ingest_streams SET released = ?1, heartbeat = ?1, oldest = NULL
             WHERE stream = ?2 AND released IS NULL",
        )
        .bind(now)
        .bind(&stream.0[..]);
        fault.within(query.execute(&mut *transaction)).await?;
    }
    // No collector has sent a heartbeat for it since, on a copy of the directory.
    let kept = i64::try_from(KEEP_RELEASED.as_micros()).unwrap_or(i64::MAX);
    let query = sqlx::query(
        "DELETE FROM ingest_streams WHERE max(released, coalesce(heartbeat, released)) < ?",
    );
    fault
        .within(query.bind(now - kept).execute(&mut *transaction))
        .await?;
    fault.within(transaction.commit()).await
}
