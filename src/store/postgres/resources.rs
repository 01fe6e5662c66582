//! What must stand before a batch: the stream's row and the resources.
//!
//! In a short transaction of their own: inside the batch's they would make one collector wait for another's commit.
//!
//! **Invariant:** an id is in the cache only after its commit was confirmed.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sqlx::PgConnection;

use super::connection::within;
use super::{Postgres, lock, uuid};
use crate::event::{Resource, ResourceId};
use crate::log::StreamId;
use crate::store::copy::postgres_time;
use crate::store::{StoreError, StreamFacts};

/// Ids remembered at most: about 6 MiB.
const CACHE_IDS: usize = 100_000;

/// After that an id is sent again, which refreshes its `last_seen`.
const REFRESH: Duration = Duration::from_secs(20 * 3600);

/// Streams and resources that the database is known to have.
#[derive(Default)]
pub(super) struct Committed {
    resources: Mutex<HashMap<ResourceId, Instant>>,
    streams: Mutex<HashSet<StreamId>>,
}

impl Committed {
    pub(super) fn clear(&self) {
        lock(&self.resources).clear();
        lock(&self.streams).clear();
    }

    fn missing<'a>(&self, resources: &'a [Resource]) -> Vec<&'a Resource> {
        let known = lock(&self.resources);
        let mut missing: Vec<_> = resources
            .iter()
            .filter(|resource| {
                known
                    .get(&resource.id)
                    .is_none_or(|seen| seen.elapsed() > REFRESH)
            })
            .collect();
        missing.sort_unstable_by_key(|resource| resource.id);
        missing.dedup_by_key(|resource| resource.id);
        missing
    }

    fn add(&self, stream: StreamId, resources: &[&Resource]) {
        lock(&self.streams).insert(stream);
        let mut known = lock(&self.resources);
        if known.len() + resources.len() > CACHE_IDS {
            known.clear();
        }
        let now = Instant::now();
        known.extend(
            resources
                .iter()
                .take(CACHE_IDS)
                .map(|resource| (resource.id, now)),
        );
    }
}

impl Postgres {
    /// Commits the stream's row and the resources that the database may not have yet.
    pub(in crate::store) async fn write_resources(
        &self,
        facts: StreamFacts,
        resources: &[Resource],
    ) -> Result<(), StoreError> {
        let missing = self.shared.committed.missing(resources);
        if missing.is_empty() && lock(&self.shared.committed.streams).contains(&facts.stream) {
            return Ok(());
        }
        let result = self.commit_resources(facts, &missing).await;
        match &result {
            Ok(()) => self.shared.committed.add(facts.stream, &missing),
            Err(_) => self.forget(),
        }
        result
    }

    async fn commit_resources(
        &self,
        facts: StreamFacts,
        resources: &[&Resource],
    ) -> Result<(), StoreError> {
        let mut lease = self.lease().await?;
        self.begin(&mut lease).await?;
        note_stream(self, &mut lease, facts).await?;
        if !resources.is_empty() {
            let ids: Vec<&[u8]> = resources.iter().map(|r| &r.id.0[..]).collect();
            let texts: Vec<&str> = resources.iter().map(|r| r.resource.as_str()).collect();
            let scopes: Vec<&str> = resources.iter().map(|r| r.scope.as_str()).collect();
            // Sorted, so that two collectors never wait for each other crosswise; SKIP LOCKED for the same reason.
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

/// Makes or refreshes a stream's row. Whoever holds a stream takes back that it was released: another, on a copy of the
/// directory, may have let go of it.
pub(super) async fn note_stream(
    store: &Postgres,
    connection: &mut PgConnection,
    facts: StreamFacts,
) -> Result<(), StoreError> {
    within(
        store.limit(),
        "noting a stream",
        sqlx::query(
            "INSERT INTO ingest_streams (stream, collector, appended, oldest, heartbeat) \
             VALUES ($1::uuid, $2, $3, timestamptz '2000-01-01 00:00:00+00' + $4 * interval '1 microsecond', now()) \
             ON CONFLICT (stream) DO UPDATE SET collector = excluded.collector, \
                 appended = greatest(ingest_streams.appended, excluded.appended), \
                 oldest = excluded.oldest, heartbeat = excluded.heartbeat, released = NULL",
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
