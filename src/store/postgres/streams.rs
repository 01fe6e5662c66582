//! The rows of `ingest_streams`: each holds the stored positions of a stream, and its collector's heartbeat.
//!
//! **Invariant:** only the batch's transaction changes stored positions.

use crate::event::StreamId;
use crate::store::postgres::transaction::Transaction;
use crate::store::postgres::{Postgres, uuid};
use crate::store::row_encoding::postgres_time;
use crate::store::{StoreError, StoredPositions, StreamHeartbeat, StreamOwner};

impl Postgres {
    /// Returns the stored positions of `stream`.
    pub(in crate::store) async fn stored_positions(
        &self,
        stream: StreamId,
    ) -> Result<StoredPositions, StoreError> {
        let ranges = sqlx::query_as(
            "SELECT lower(r), upper(r) - 1 FROM ingest_streams, unnest(stored_positions) r WHERE stream = $1::uuid",
        );
        let mut transaction = self.begin().await?;
        let ranges: Vec<(i64, i64)> = transaction
            .rows("reading the stored positions", ranges.bind(uuid(stream)))
            .await?;
        transaction.commit().await?;
        Ok(StoredPositions::new(ranges.into_iter().filter_map(
            |(first, last)| Some(u64::try_from(first).ok()?..=u64::try_from(last).ok()?),
        )))
    }

    /// Returns the owner of the stream according to its row.
    pub(in crate::store) async fn stream_owner(
        &self,
        stream: StreamId,
    ) -> Result<StreamOwner, StoreError> {
        let owner = sqlx::query_as(
            "SELECT coalesce(collector <> $2, false) AS other, \
                    (extract(epoch FROM heartbeat) * 1000000)::bigint AS heartbeat_us, \
                    extract(epoch FROM now() - heartbeat)::bigint AS silent_seconds \
             FROM ingest_streams WHERE stream = $1::uuid",
        );
        let owner = owner
            .bind(uuid(stream))
            .bind(&self.shared.options.collector);
        let mut transaction = self.begin().await?;
        let owner: Option<StreamOwner> =
            transaction.first("reading a stream's owner", owner).await?;
        transaction.commit().await?;
        Ok(owner.unwrap_or_default())
    }

    /// Returns whether the stream has a row.
    pub(in crate::store) async fn has_stream_row(
        &self,
        stream: StreamId,
    ) -> Result<bool, StoreError> {
        let exists = "SELECT EXISTS (SELECT FROM ingest_streams WHERE stream = $1::uuid)";
        let exists = sqlx::query_as(exists).bind(uuid(stream));
        let mut transaction = self.begin().await?;
        let (has_row,) = transaction.one("looking for a stream", exists).await?;
        transaction.commit().await?;
        Ok(has_row)
    }

    /// Writes the heartbeats of streams, and marks the `released` ones as released.
    pub(in crate::store) async fn heartbeat(
        &self,
        held: &[StreamHeartbeat],
        released: &[StreamId],
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        // A stream without a record gets no row. Every collector writes in the order of the key, so two collectors
        // never deadlock.
        let mut held: Vec<_> = held.iter().filter(|facts| facts.appended > 0).collect();
        held.sort_by_key(|facts| facts.stream);
        for facts in held {
            transaction.write_stream(*facts).await?;
        }
        let released: Vec<String> = released.iter().copied().map(uuid).collect();
        let release = sqlx::query(
            "UPDATE ingest_streams SET released = now(), heartbeat = now(), oldest = NULL \
             WHERE stream = ANY ($1::uuid[]) AND released IS NULL",
        );
        transaction
            .run("releasing streams", release.bind(released))
            .await?;
        transaction.commit().await
    }
}

impl Transaction<'_> {
    /// Creates or refreshes a stream's row. The row of a contested stream is only created, without facts about this
    /// collector. A heartbeat clears the row's release, which another collector may have reported on a copy of the
    /// directory. A collector without waiting records leaves another collector's report of waiting records unchanged,
    /// since that one's copy may hold more.
    pub(super) async fn write_stream(&mut self, facts: StreamHeartbeat) -> Result<(), StoreError> {
        let write = if facts.contested {
            let create =
                "INSERT INTO ingest_streams (stream) VALUES ($1::uuid) ON CONFLICT DO NOTHING";
            sqlx::query(create).bind(uuid(facts.stream))
        } else {
            sqlx::query(
                "INSERT INTO ingest_streams (stream, collector, appended, oldest, heartbeat) \
                 VALUES ($1::uuid, $2, $3, timestamptz '2000-01-01 00:00:00+00' + $4 * interval '1 microsecond', now()) \
                 ON CONFLICT (stream) DO UPDATE SET \
                     collector = CASE WHEN excluded.oldest IS NULL AND ingest_streams.oldest IS NOT NULL \
                         THEN ingest_streams.collector ELSE excluded.collector END, \
                     appended = greatest(ingest_streams.appended, excluded.appended), \
                     oldest = CASE WHEN excluded.oldest IS NULL AND ingest_streams.collector <> excluded.collector \
                         THEN ingest_streams.oldest ELSE excluded.oldest END, \
                     heartbeat = excluded.heartbeat, released = NULL",
            )
            .bind(uuid(facts.stream))
            .bind(&self.store.shared.options.collector)
            .bind(i64::try_from(facts.appended).unwrap_or(i64::MAX))
            .bind(facts.oldest_unix_nano.map(postgres_time))
        };
        self.run("writing a stream's row", write).await.map(drop)
    }
}
