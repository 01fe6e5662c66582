//! Removal of what is older than the retention, and of what nobody needs any more.
//!
//! **Invariant:** a day is removed only when it has passed the retention as a whole and no stream's log, of this collector
//! or another, still holds a record of it that is not stored.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Postgres;
use super::connection::{end, within};
use super::error::retry;
use super::maintenance::{Partition, skip_if_busy};
use super::partitions::Day;
use crate::store::StoreError;
use crate::store::copy::postgres_time;
use crate::store::window::DAY_US;

/// How a table is marked before it is detached, so that a removal cut short in between is finished, while what a person
/// detached to keep is left alone.
const MARK: &str = "ruvvector: removed by retention";

impl Postgres {
    /// Removes expired partitions and rows of the books that are out of use.
    pub(super) async fn remove_expired(
        &self,
        connection: &mut PgConnection,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<(), StoreError> {
        self.finish_detaching(connection).await?;
        self.forget_released_streams(connection).await?;
        let Some(days) = self.shared.retention_days else {
            return Ok(());
        };
        let needed_from_us = self
            .needed_from(connection, days, oldest_held_unix_nano)
            .await?;
        self.drop_marked(connection, needed_from_us).await?;
        for partition in self.partition_list(connection).await? {
            let expired = partition.to_us.is_some_and(|to| to <= needed_from_us);
            if expired && !partition.pending {
                skip_if_busy(
                    "removing a partition",
                    self.remove(connection, &partition).await,
                )?;
            }
        }
        self.forget_unused_resources(connection, days).await
    }

    /// Finishes what an earlier `DETACH CONCURRENTLY` left pending: no other can begin before.
    async fn finish_detaching(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        for partition in self.partition_list(connection).await? {
            if partition.pending {
                let statement = format!(
                    "ALTER TABLE telemetry_events DETACH PARTITION {} FINALIZE",
                    partition.qualified
                );
                skip_if_busy(
                    "finishing a detach",
                    self.alone(connection, statement).await,
                )?;
            }
        }
        Ok(())
    }

    /// The start of the oldest time that is needed: what lies wholly before may go. A stream that is stored as far as its
    /// collector was heard needs nothing, though its last word may have been before that.
    async fn needed_from(
        &self,
        connection: &mut PgConnection,
        retention_days: u32,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<i64, StoreError> {
        let begun = self.begin_anywhere(connection).await?;
        let oldest_elsewhere: Option<i64> = within(
            self.limit(),
            "reading the oldest record held",
            sqlx::query_scalar(
                "SELECT (extract(epoch FROM min(oldest)) * 1000000)::bigint - 946684800000000 \
                 FROM ingest_streams WHERE released IS NULL AND NOT done @> int8range(1, appended + 1)",
            )
            .persistent(false)
            .fetch_one(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        let cutoff_us = begun.now_us - i64::from(retention_days) * DAY_US;
        let held = [oldest_elsewhere, oldest_held_unix_nano.map(postgres_time)];
        let held = held.into_iter().flatten().map(|us| Day::of(us).start_us());
        Ok(held.fold(cutoff_us, i64::min))
    }

    /// Detaches without blocking anybody, then drops.
    async fn remove(
        &self,
        connection: &mut PgConnection,
        partition: &Partition,
    ) -> Result<(), StoreError> {
        let name = &partition.qualified;
        self.alone(connection, format!("COMMENT ON TABLE {name} IS '{MARK}'"))
            .await?;
        self.detach(name).await?;
        self.alone(connection, format!("DROP TABLE {name}")).await?;
        tracing::info!(partition = partition.name, "removed by retention");
        Ok(())
    }

    /// Runs alone and outside any transaction, so it cannot be given a timeout of its own, and a wait cut short by ours
    /// leaves it pending, to be finished later. So it has a connection of its own, which is not used again.
    async fn detach(&self, name: &str) -> Result<(), StoreError> {
        let mut connection = self.connect().await?;
        let statement =
            format!("ALTER TABLE telemetry_events DETACH PARTITION {name} CONCURRENTLY");
        let detached = within(
            self.limit(),
            "detaching a partition",
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection),
        )
        .await;
        match detached {
            // Ours, not the server's: it waits for a long transaction and goes on waiting.
            Err(StoreError::Retry {
                class: "timeout",
                sqlstate: None,
                ..
            }) => Err(retry(
                "timeout",
                Some("57014"),
                "a long transaction keeps a partition from being detached: see pg_stat_activity",
            )),
            Err(error) => Err(error),
            Ok(_) => {
                let _ = within(self.limit(), "closing", connection.close()).await;
                Ok(())
            }
        }
    }

    /// Drops what an earlier round detached and did not come to drop.
    async fn drop_marked(
        &self,
        connection: &mut PgConnection,
        needed_from_us: i64,
    ) -> Result<(), StoreError> {
        self.begin_anywhere(connection).await?;
        let marked: Vec<(String, i64)> = within(
            self.limit(),
            "looking for detached partitions",
            sqlx::query_as(
                "SELECT c.oid::regclass::text, \
                        substring(c.relname FROM '^telemetry_events_([0-9]{8})')::date - date '2000-01-01' + 0::bigint \
                 FROM pg_class c JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass \
                                                       AND d.objsubid = 0 \
                 WHERE c.relkind = 'r' AND NOT c.relispartition AND d.description = $1 \
                   AND c.relname ~ '^telemetry_events_[0-9]{8}(_[0-9]+)?$' \
                   AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('telemetry_events'))",
            )
            .bind(MARK)
            .persistent(false)
            .fetch_all(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        for (name, day) in marked {
            if Day(day + 1).start_us() <= needed_from_us {
                let dropped = self.alone(connection, format!("DROP TABLE {name}")).await;
                skip_if_busy("dropping a detached partition", dropped)?;
            }
        }
        Ok(())
    }

    /// A stream's account is of no more use a month after its collector deleted the last of it and nobody, on a copy of its
    /// directory, was heard to hold it since.
    async fn forget_released_streams(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), StoreError> {
        self.alone(
            connection,
            "DELETE FROM ingest_streams WHERE greatest(released, heartbeat) < now() - interval '30 days' \
                 AND released IS NOT NULL"
                .to_owned(),
        )
        .await
    }

    /// `last_seen` is refreshed daily while a resource is in use, so no row refers to one that was last seen a month
    /// before the retention.
    async fn forget_unused_resources(
        &self,
        connection: &mut PgConnection,
        retention_days: u32,
    ) -> Result<(), StoreError> {
        let days = i64::from(retention_days) + 30;
        self.alone(
            connection,
            format!(
                "DELETE FROM telemetry_resources WHERE last_seen < now() - {days} * interval '1 day'"
            ),
        )
        .await
    }
}
