//! Reads and adds the stored positions, one row for each stream.
//!
//! **Invariant:** positions are added to `stored_positions` only in the transaction that writes their rows, and only if
//! none of them was stored.

use std::ops::RangeInclusive;

use sqlx::SqliteConnection;

use crate::event::StreamId;
use crate::store::sqlite::{Sqlite, now_us};
use crate::store::{FailureClass, KEEP_RELEASED, StoreError, StoredPositions, StreamHeartbeat};

impl Sqlite {
    /// Returns the stored positions of the stream; empty if it is unknown.
    pub(in crate::store) async fn stored_positions(
        &self,
        stream: StreamId,
    ) -> Result<StoredPositions, StoreError> {
        self.on_writer(async |connection| self.read_positions(connection, stream).await)
            .await
    }

    async fn read_positions(
        &self,
        connection: &mut SqliteConnection,
        stream: StreamId,
    ) -> Result<StoredPositions, StoreError> {
        let query =
            sqlx::query_scalar("SELECT stored_positions FROM ingest_streams WHERE stream = ?")
                .bind(&stream.0[..]);
        let stored: Option<String> = self.within(query.fetch_optional(connection)).await?;
        let ranges: Vec<(u64, u64)> = match stored {
            None => Vec::new(),
            Some(stored) => serde_json::from_str(&stored).map_err(|error| {
                let text = format!(
                    "ingest_streams.stored_positions is not readable ({error}); restore the file"
                );
                self.retry(FailureClass::Schema, &text)
            })?,
        };
        let ranges = ranges.into_iter().map(|(first, last)| first..=last);
        Ok(StoredPositions::new(ranges))
    }

    /// Returns whether the stream has a row.
    pub(in crate::store) async fn has_stream_row(
        &self,
        stream: StreamId,
    ) -> Result<bool, StoreError> {
        let query =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM ingest_streams WHERE stream = ?)")
                .bind(&stream.0[..]);
        self.on_writer(async |connection| self.within(query.fetch_one(connection)).await)
            .await
    }

    /// Adds positions. The caller holds the write lock, so the stored positions cannot change in between.
    ///
    /// # Errors
    /// [`StoreError::AlreadyStored`] if one of them is stored; [`StoreError::Retry`].
    pub(super) async fn add_positions(
        &self,
        connection: &mut SqliteConnection,
        stream: StreamId,
        positions: &RangeInclusive<u64>,
    ) -> Result<(), StoreError> {
        let mut stored = self.read_positions(connection, stream).await?;
        if !stored.within(positions).is_empty() {
            return Err(StoreError::AlreadyStored);
        }
        stored.insert(positions.clone());
        let ranges = stored.ranges().iter();
        let ranges: Vec<(u64, u64)> = ranges.map(|range| (*range.start(), *range.end())).collect();
        let query = sqlx::query(
            "INSERT INTO ingest_streams (stream, stored_positions) VALUES (?, ?)
             ON CONFLICT (stream) DO UPDATE SET stored_positions = excluded.stored_positions",
        )
        .bind(&stream.0[..])
        .bind(serde_json::json!(ranges).to_string());
        self.within(query.execute(connection)).await.map(drop)
    }

    /// Creates the stream's row before its first batch.
    pub(super) async fn ensure_stream(
        &self,
        connection: &mut SqliteConnection,
        stream: StreamId,
    ) -> Result<(), StoreError> {
        let query =
            sqlx::query("INSERT INTO ingest_streams (stream) VALUES (?) ON CONFLICT DO NOTHING")
                .bind(&stream.0[..]);
        self.within(query.execute(connection)).await.map(drop)
    }

    /// Writes the heartbeats of the held streams, and marks the `released` ones as released. A collector without
    /// waiting records leaves another collector's report of waiting records unchanged, since that one's copy of the
    /// directory may hold more.
    pub(in crate::store) async fn heartbeat(
        &self,
        held: &[StreamHeartbeat],
        released: &[StreamId],
    ) -> Result<(), StoreError> {
        let now = now_us();
        self.in_transaction(async |transaction| {
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
                .bind(&self.shared.options.collector)
                .bind(i64::try_from(facts.appended).unwrap_or(i64::MAX))
                .bind(facts.oldest_unix_nano.map(|nano| nano.div_euclid(1_000)))
                .bind(now);
                self.within(query.execute(&mut *transaction)).await?;
            }
            for stream in released {
                let query = sqlx::query(
                    "UPDATE ingest_streams SET released = ?1, heartbeat = ?1, oldest = NULL
                     WHERE stream = ?2 AND released IS NULL",
                )
                .bind(now)
                .bind(&stream.0[..]);
                self.within(query.execute(&mut *transaction)).await?;
            }
            // No collector has sent a heartbeat for it since, on a copy of the directory.
            let kept = i64::try_from(KEEP_RELEASED.as_micros()).unwrap_or(i64::MAX);
            let query = sqlx::query(
                "DELETE FROM ingest_streams WHERE max(released, coalesce(heartbeat, released)) < ?",
            )
            .bind(now - kept);
            self.within(query.execute(transaction)).await.map(drop)
        })
        .await
    }
}
