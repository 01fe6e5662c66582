//! Writes the stream's row and the resources, to which a batch refers.
//!
//! They are committed in a short separate transaction. Inside the batch's transaction they would make one collector
//! wait for another's commit.
//!
//! **Invariant:** an id is cached only after its commit was confirmed.

use sqlx::PgConnection;

use crate::event::Resource;
use crate::store::postgres::connection::within;
use crate::store::postgres::{Postgres, uuid};
use crate::store::row_encoding::postgres_time;
use crate::store::{StoreError, StreamHeartbeat};
use crate::telemetry::own_traces::spans::{self, DatabaseSystem};
use crate::telemetry::own_traces::traced;

impl Postgres {
    /// Commits the stream's row and the resources that the database may lack.
    pub(in crate::store) async fn write_resources(
        &self,
        facts: StreamHeartbeat,
        resources: &[&Resource],
    ) -> Result<(), StoreError> {
        let missing = self.shared.written.missing(resources);
        if missing.is_empty() && self.shared.written.has_stream(facts.stream) {
            return Ok(());
        }
        let inserting =
            spans::statement(DatabaseSystem::Postgresql, "INSERT", "telemetry_resources");
        let result = traced(inserting, self.commit_resources(facts, &missing)).await;
        match &result {
            Ok(()) => self.shared.written.add(facts.stream, &missing),
            Err(_) => self.forget(),
        }
        result
    }

    async fn commit_resources(
        &self,
        facts: StreamHeartbeat,
        resources: &[&Resource],
    ) -> Result<(), StoreError> {
        let mut lease = self.lease().await?;
        self.begin(&mut lease).await?;
        note_stream(self, &mut lease, facts).await?;
        if !resources.is_empty() {
            let ids: Vec<&[u8]> = resources.iter().map(|r| &r.id.0[..]).collect();
            let texts: Vec<&str> = resources.iter().map(|r| r.resource.as_str()).collect();
            let scopes: Vec<&str> = resources.iter().map(|r| r.scope.as_str()).collect();
            // Sorted, so that two collectors never deadlock; SKIP LOCKED for the same reason.
            within(
                self.limit(),
                "storing resources",
                sqlx::query(
                    "INSERT INTO telemetry_resources (id, resource, scope) \
                     SELECT id, resource::jsonb, scope::jsonb \
                     FROM unnest($1::bytea[], $2::text[], $3::text[]) AS r (id, resource, scope) ORDER BY id \
                     ON CONFLICT DO NOTHING",
                )
                .bind(&ids)
                .bind(texts)
                .bind(scopes)
                .persistent(false)
                .execute(&mut *lease),
            )
            .await?;
            within(
                self.limit(),
                "refreshing resources",
                sqlx::query(
                    "UPDATE telemetry_resources SET last_seen = now() WHERE id IN ( \
                         SELECT id FROM telemetry_resources \
                         WHERE id = ANY ($1) AND last_seen < now() - interval '20 hours' \
                         ORDER BY id FOR UPDATE SKIP LOCKED)",
                )
                .bind(&ids)
                .persistent(false)
                .execute(&mut *lease),
            )
            .await?;
        }
        self.commit(lease).await
    }
}

/// Creates or refreshes a stream's row. The row of a contested stream is only created, without facts about this
/// collector. A heartbeat clears the row's release, which another collector may have reported on a copy of the
/// directory. A collector without waiting records leaves another collector's report of waiting records unchanged, since
/// that one's copy may hold more.
pub(super) async fn note_stream(
    store: &Postgres,
    connection: &mut PgConnection,
    facts: StreamHeartbeat,
) -> Result<(), StoreError> {
    if facts.contested {
        within(
            store.limit(),
            "noting a stream",
            sqlx::query(
                "INSERT INTO ingest_streams (stream) VALUES ($1::uuid) ON CONFLICT DO NOTHING",
            )
            .bind(uuid(facts.stream))
            .persistent(false)
            .execute(connection),
        )
        .await?;
        return Ok(());
    }
    within(
        store.limit(),
        "noting a stream",
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
        .bind(&store.shared.collector)
        .bind(i64::try_from(facts.appended).unwrap_or(i64::MAX))
        .bind(facts.oldest_unix_nano.map(postgres_time))
        .persistent(false)
        .execute(connection),
    )
    .await?;
    Ok(())
}
