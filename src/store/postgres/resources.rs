//! Writes the stream's row and the resources, to which a batch refers.
//!
//! They are committed in a short separate transaction. Inside the batch's transaction they would make one collector
//! wait for another's commit.
//!
//! **Invariant:** an id is cached only after its commit was confirmed.

use crate::event::Resource;
use crate::store::postgres::Postgres;
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
        let Some(missing) = self.shared.written.missing(facts.stream, resources) else {
            return Ok(());
        };
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
        let mut transaction = self.begin().await?;
        transaction.write_stream(facts).await?;
        if !resources.is_empty() {
            let ids: Vec<&[u8]> = resources.iter().map(|r| &r.id.0[..]).collect();
            let texts: Vec<&str> = resources.iter().map(|r| r.resource.as_str()).collect();
            let scopes: Vec<&str> = resources.iter().map(|r| r.scope.as_str()).collect();
            // Sorted, so that two collectors never deadlock; SKIP LOCKED for the same reason.
            let insert = sqlx::query(
                "INSERT INTO telemetry_resources (id, resource, scope) \
                 SELECT id, resource::jsonb, scope::jsonb \
                 FROM unnest($1::bytea[], $2::text[], $3::text[]) AS r (id, resource, scope) ORDER BY id \
                 ON CONFLICT DO NOTHING",
            );
            let insert = insert.bind(&ids).bind(texts).bind(scopes);
            transaction.run("storing resources", insert).await?;
            let refresh = sqlx::query(
                "UPDATE telemetry_resources SET last_seen = now() WHERE id IN ( \
                     SELECT id FROM telemetry_resources \
                     WHERE id = ANY ($1) AND last_seen < now() - interval '20 hours' \
                     ORDER BY id FOR UPDATE SKIP LOCKED)",
            );
            let refresh = refresh.bind(&ids);
            transaction.run("refreshing resources", refresh).await?;
        }
        transaction.commit().await
    }
}
