//! Removes events that are older than the retention, and rows that are no longer used.
//!
//! **Invariant:** a day is removed only if the whole day has passed the retention and no stream's journal, of this or
//! another collector, still holds an unstored record of it. It is hidden (detached) only if no known obstacle would
//! prevent the drop.

use std::pin::pin;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::store::plausible_time::DAY_US;
use crate::store::postgres::Postgres;
use crate::store::postgres::clock::ClockJudgement;
use crate::store::postgres::connection::{end, within};
use crate::store::postgres::error::retry;
use crate::store::postgres::partitions::{Day, Partition};
use crate::store::postgres::round::MaintenanceRound;
use crate::store::row_encoding::{POSTGRES_EPOCH_US, postgres_time};
use crate::store::{FailureClass, KEEP_RELEASED, MaintenanceStep, StoreError};

/// The mark of a table that is about to be detached, followed by the end of its time. If a removal is interrupted, the
/// mark shows that it has to be finished; a day that an operator detached to keep has no mark.
const MARK: &str = "ruvvector: removed by retention";

/// Tables that were marked and detached, and are not dropped yet, with the end of their time in microseconds since
/// 2000-01-01 UTC. Earlier versions marked only days, whose names contain the date.
pub(super) const MARKED: &str = "\
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS qualified, \
           coalesce((extract(epoch FROM substring(d.description FROM ', received before ([0-9TZ:.-]+)$')::timestamptz) \
                     * 1000000)::bigint - 946684800000000, \
                    (substring(c.relname FROM '^telemetry_events_([0-9]{8})(?:_[0-9]+)?$')::date - date '2000-01-01' + 1) \
                     * 86400000000) AS to_us \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0 \
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND d.description LIKE 'ruvvector: removed by retention%' \
      AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('telemetry_events'))";

impl Postgres {
    /// Removes expired partitions, and the rows of streams and resources that are no longer used. Returns a sentence
    /// for the operator while the clock is doubted.
    pub(super) async fn remove_expired(
        &self,
        round: &mut MaintenanceRound<'_>,
        guard: &mut PgConnection,
        oldest_held_unix_nano: Option<i64>,
    ) -> Option<String> {
        let finished = self.finish_detaching(round, guard).await;
        let Some(days) = self.shared.retention_days else {
            let forgotten = self.forget_released_streams(round).await;
            round.note(MaintenanceStep::Books, forgotten);
            return None;
        };
        let judged = self.judge_clock(round, days).await;
        let ClockJudgement {
            judgement,
            store_us,
        } = round.note(MaintenanceStep::Retention, judged)?;
        if judgement.doubt.reason.is_none() {
            let forgotten = self.forget_released_streams(round).await;
            round.note(MaintenanceStep::Books, forgotten);
            let forgotten = self.forget_unused_resources(round, days, store_us).await;
            round.note(MaintenanceStep::Books, forgotten);
        }
        if let Some(remove_before_us) = judgement.remove_before_us {
            let before_us = remove_before_us - POSTGRES_EPOCH_US;
            let needed_from = self
                .needed_from(round, before_us, oldest_held_unix_nano)
                .await;
            if let Some(needed_from_us) = round.note(MaintenanceStep::Retention, needed_from) {
                self.drop_marked(round, needed_from_us).await;
                // While one detach is pending, the server allows no other.
                if finished == FinalizeOutcome::All {
                    self.remove_days(round, guard, needed_from_us).await;
                }
            }
        }
        judgement.notice
    }

    async fn remove_days(
        &self,
        round: &mut MaintenanceRound<'_>,
        guard: &mut PgConnection,
        needed_from_us: i64,
    ) {
        let listed = self.list(round).await;
        let partitions = round
            .note(MaintenanceStep::Retention, listed)
            .unwrap_or_default();
        for partition in partitions {
            let Some(to_us) = partition.to_us.filter(|to_us| *to_us <= needed_from_us) else {
                continue;
            };
            let removed = Box::pin(self.remove(round, guard, &partition, to_us)).await;
            // If a detach waits for a transaction, every other detach would wait, too.
            if round.note(MaintenanceStep::Retention, removed).is_none() && round.is_busy() {
                return;
            }
        }
    }

    async fn list(&self, round: &mut MaintenanceRound<'_>) -> Result<Vec<Partition>, StoreError> {
        self.partition_list(round.connection().await?).await
    }

    /// Finishes the detaches that an earlier `DETACH CONCURRENTLY` left pending. No other detach can begin before.
    async fn finish_detaching(
        &self,
        round: &mut MaintenanceRound<'_>,
        guard: &mut PgConnection,
    ) -> FinalizeOutcome {
        let listed = self.list(round).await;
        let Some(partitions) = round.note(MaintenanceStep::Retention, listed) else {
            return FinalizeOutcome::NotAll;
        };
        let mut finished = FinalizeOutcome::All;
        for partition in partitions.iter().filter(|partition| partition.pending) {
            let done = Box::pin(self.finalize(round, guard, partition)).await;
            if round.note(MaintenanceStep::Retention, done).is_none() {
                finished = FinalizeOutcome::NotAll;
            }
        }
        finished
    }

    async fn finalize(
        &self,
        round: &mut MaintenanceRound<'_>,
        guard: &mut PgConnection,
        partition: &Partition,
    ) -> Result<(), StoreError> {
        let name = &partition.qualified;
        let statement = format!("ALTER TABLE telemetry_events DETACH PARTITION {name} FINALIZE");
        let done = self.alone(round.connection().await?, statement);
        self.naming_who_blocks(guard, name, done).await
    }

    /// Returns the start of the oldest time that is still needed, at most `before_us`. Days that end before it may be
    /// removed. If a stream is stored up to its collector's last report, it needs no day, even if that report is old.
    async fn needed_from(
        &self,
        round: &mut MaintenanceRound<'_>,
        before_us: i64,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<i64, StoreError> {
        let connection = round.connection().await?;
        self.begin_anywhere(connection).await?;
        let oldest_elsewhere: Option<i64> = within(
            self.limit(),
            "reading the oldest record held",
            sqlx::query_scalar(
                "SELECT (extract(epoch FROM min(oldest)) * 1000000)::bigint - 946684800000000 \
                 FROM ingest_streams WHERE released IS NULL AND NOT stored_positions @> int8range(1, appended + 1)",
            )
            .persistent(false)
            .fetch_one(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        let held = [oldest_elsewhere, oldest_held_unix_nano.map(postgres_time)];
        let held = held.into_iter().flatten().map(|us| Day::of(us).start_us());
        Ok(held.fold(before_us, i64::min))
    }

    /// Detaches the partition without blocking other sessions, then drops it. Does nothing if there is a known
    /// obstacle.
    async fn remove(
        &self,
        round: &mut MaintenanceRound<'_>,
        guard: &mut PgConnection,
        partition: &Partition,
        to_us: i64,
    ) -> Result<(), StoreError> {
        let name = &partition.qualified;
        self.refuse_if_obstructed(round, &partition.qualified)
            .await?;
        let end = jiff::Timestamp::from_microsecond(to_us + POSTGRES_EPOCH_US)
            .map_or_else(|_| String::new(), |end| format!(", received before {end}"));
        let mark = format!("COMMENT ON TABLE {name} IS '{MARK}{end}'");
        self.alone(round.connection().await?, mark).await?;
        let detaching = self.detach_marked(round, name);
        self.naming_who_blocks(guard, name, detaching).await?;
        self.alone(round.connection().await?, format!("DROP TABLE {name}"))
            .await?;
        tracing::info!(partition = partition.name, "removed by retention");
        Ok(())
    }

    async fn detach_marked(
        &self,
        round: &mut MaintenanceRound<'_>,
        name: &str,
    ) -> Result<(), StoreError> {
        let detached = self.detach(round.connection().await?, name).await;
        if detached.is_err() {
            round.drop_connection();
        }
        // Only if the server itself reported that it aborted. Otherwise it may still detach the day.
        if let Err(StoreError::Retry {
            sqlstate: Some(_), ..
        }) = &detached
            && let Err(error) = self.take_back_mark(round, name).await
        {
            tracing::debug!(%error, partition = name, "its mark could not be taken back");
        }
        detached
    }

    /// Runs outside any transaction, as the statement requires. Therefore it cannot have a separate timeout, and an
    /// interrupted wait leaves the detach pending, to be finished later. The connection must not be used after an
    /// error.
    async fn detach(&self, connection: &mut PgConnection, name: &str) -> Result<(), StoreError> {
        let statement =
            format!("ALTER TABLE telemetry_events DETACH PARTITION {name} CONCURRENTLY");
        within(
            self.limit(),
            "detaching a partition",
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection),
        )
        .await
        .map(drop)
    }

    /// Removes the mark of a day that was not detached, since an operator may detach it later to keep it. A day whose
    /// detach is pending keeps its mark.
    async fn take_back_mark(
        &self,
        round: &mut MaintenanceRound<'_>,
        name: &str,
    ) -> Result<(), StoreError> {
        let connection = round.connection().await?;
        self.begin_anywhere(connection).await?;
        let is_attached: bool = within(
            self.limit(),
            "looking whether a partition is attached",
            sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1) AND NOT inhdetachpending)",
            )
            .bind(name)
            .persistent(false)
            .fetch_one(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        if is_attached {
            self.alone(connection, format!("COMMENT ON TABLE {name} IS NULL"))
                .await?;
        }
        Ok(())
    }

    /// Runs a detach, which waits for every transaction that may read the day. If it times out, the error names the
    /// process that blocked it.
    async fn naming_who_blocks(
        &self,
        guard: &mut PgConnection,
        name: &str,
        detaching: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let mut detaching = pin!(detaching);
        let mut blocking = None;
        let detached = loop {
            tokio::select! {
                detached = &mut detaching => break detached,
                () = tokio::time::sleep(self.look_interval()) => {
                    if let Ok(Some(found)) = self.who_blocks_a_detach(guard).await {
                        blocking = Some(found);
                    }
                }
            }
        };
        detached.map_err(|error| match error {
            // Also after this process's timeout, since the server continues to wait.
            StoreError::Retry {
                class: FailureClass::Timeout,
                sqlstate,
                ..
            } => {
                let blocking = blocking.as_deref().unwrap_or("see pg_stat_activity");
                retry(
                    FailureClass::Timeout,
                    Some(sqlstate.as_deref().unwrap_or("57014")),
                    format!("the day {name} cannot be detached while a transaction is open that may read it: {blocking}"),
                )
            }
            error => error,
        })
    }

    /// Interval of checks of a waiting detach: a quarter of the statement timeout, at most 1 s.
    fn look_interval(&self) -> Duration {
        (self.shared.statement_timeout / 4).min(Duration::from_secs(1))
    }

    /// Drops the tables that an earlier round detached but did not drop.
    async fn drop_marked(&self, round: &mut MaintenanceRound<'_>, needed_from_us: i64) {
        let marked = self.marked(round).await;
        for (name, to_us) in round
            .note(MaintenanceStep::Retention, marked)
            .unwrap_or_default()
        {
            if to_us <= needed_from_us {
                let dropped = self.drop_detached(round, &name).await;
                round.note(MaintenanceStep::Retention, dropped);
            }
        }
    }

    async fn marked(
        &self,
        round: &mut MaintenanceRound<'_>,
    ) -> Result<Vec<(String, i64)>, StoreError> {
        let connection = round.connection().await?;
        self.begin_anywhere(connection).await?;
        let marked = within(
            self.limit(),
            "looking for detached partitions",
            sqlx::query_as(AssertSqlSafe(format!(
                "SELECT qualified, to_us FROM ({MARKED}) m WHERE to_us IS NOT NULL ORDER BY to_us"
            )))
            .persistent(false)
            .fetch_all(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        Ok(marked)
    }

    async fn drop_detached(
        &self,
        round: &mut MaintenanceRound<'_>,
        name: &str,
    ) -> Result<(), StoreError> {
        self.refuse_if_obstructed(round, name).await?;
        self.alone(round.connection().await?, format!("DROP TABLE {name}"))
            .await?;
        tracing::info!(partition = name, "removed by retention");
        Ok(())
    }

    /// Forgets streams that their collectors released [`KEEP_RELEASED`] ago, and that have had no heartbeat since. Both
    /// the server's clock and this collector's must agree. Without the row, a backup of a directory would be stored
    /// again, so one clock that is ahead must not decide.
    async fn forget_released_streams(
        &self,
        round: &mut MaintenanceRound<'_>,
    ) -> Result<(), StoreError> {
        let now_us = self.shared.clock.read().unix_us - POSTGRES_EPOCH_US;
        self.alone(
            round.connection().await?,
            format!(
                "DELETE FROM ingest_streams WHERE released IS NOT NULL AND greatest(released, heartbeat) \
                     < least(now(), timestamptz '2000-01-01 00:00:00+00' + {now_us} * interval '1 microsecond') \
                       - interval '{} seconds'",
                KEEP_RELEASED.as_secs()
            ),
        )
        .await
    }

    /// Forgets resources that are no longer used. `last_seen` is refreshed daily while a resource is in use. Therefore
    /// no row refers to a resource that was last seen 30 days before the retention.
    async fn forget_unused_resources(
        &self,
        round: &mut MaintenanceRound<'_>,
        retention_days: u32,
        store_us: i64,
    ) -> Result<(), StoreError> {
        let before_us = store_us - POSTGRES_EPOCH_US - (i64::from(retention_days) + 30) * DAY_US;
        self.alone(
            round.connection().await?,
            format!(
                "DELETE FROM telemetry_resources WHERE last_seen < timestamptz '2000-01-01 00:00:00+00' \
                     + {before_us} * interval '1 microsecond'"
            ),
        )
        .await
    }
}

/// The outcome of finishing the detaches that earlier rounds left pending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FinalizeOutcome {
    All,
    NotAll,
}
