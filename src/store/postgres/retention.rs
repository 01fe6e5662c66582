//! Removes events that are older than the retention, and rows that are no longer used.
//!
//! **Invariant:** a day is removed only if the whole day has passed the retention and no stream's journal, of this or
//! another collector, still holds an unstored record of it. It is hidden (detached) only if no known obstacle would
//! prevent the drop.

use std::pin::pin;
use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::store::plausible_time::DAY_US;
use crate::store::postgres::clock::ClockJudgement;
use crate::store::postgres::connection::within;
use crate::store::postgres::partitions::{Day, MARK, MARKED, Partition};
use crate::store::postgres::round::MaintenanceRound;
use crate::store::postgres::transaction::Transaction;
use crate::store::row_encoding::{POSTGRES_EPOCH_US, postgres_time};
use crate::store::{FailureClass, KEEP_RELEASED, MaintenanceStep, StoreError};

const STEP: MaintenanceStep = MaintenanceStep::Retention;

impl MaintenanceRound<'_> {
    /// Removes expired partitions, and the rows of streams and resources that are no longer used. Returns a sentence
    /// for the operator while the clock is doubted.
    pub(super) async fn remove_expired(
        &mut self,
        guard: &mut Transaction<'_>,
        oldest_held_unix_nano: Option<i64>,
    ) -> Option<String> {
        let finished = self.finish_detaching(guard).await;
        let Some(days) = self.store.shared.options.retention_days else {
            let forgotten = self.forget_released_streams().await;
            self.note(MaintenanceStep::Books, forgotten);
            return None;
        };
        let judged = self.judge_clock(days).await;
        let ClockJudgement {
            judgement,
            store_us,
        } = self.note(STEP, judged)?;
        if judgement.doubt.reason.is_none() {
            let forgotten = self.forget_released_streams().await;
            self.note(MaintenanceStep::Books, forgotten);
            let forgotten = self.forget_unused_resources(days, store_us).await;
            self.note(MaintenanceStep::Books, forgotten);
        }
        if let Some(remove_before_us) = judgement.remove_before_us {
            let before_us = remove_before_us - POSTGRES_EPOCH_US;
            let needed_from = self.needed_from(before_us, oldest_held_unix_nano).await;
            if let Some(needed_from_us) = self.note(STEP, needed_from) {
                self.drop_marked(needed_from_us).await;
                // While one detach is pending, the server allows no other.
                if finished == FinalizeOutcome::All {
                    self.remove_days(guard, needed_from_us).await;
                }
            }
        }
        judgement.notice
    }

    async fn remove_days(&mut self, guard: &mut Transaction<'_>, needed_from_us: i64) {
        let listed = self.partition_list().await;
        for partition in self.note(STEP, listed).unwrap_or_default() {
            let Some(to_us) = partition.to_us.filter(|to_us| *to_us <= needed_from_us) else {
                continue;
            };
            let removed = Box::pin(self.remove(guard, &partition, to_us)).await;
            // If a detach waits for a transaction, every other detach would wait, too.
            if self.note(STEP, removed).is_none() && self.is_busy() {
                return;
            }
        }
    }

    /// Finishes the detaches that an earlier `DETACH CONCURRENTLY` left pending. No other detach can begin before.
    async fn finish_detaching(&mut self, guard: &mut Transaction<'_>) -> FinalizeOutcome {
        let listed = self.partition_list().await;
        let Some(partitions) = self.note(STEP, listed) else {
            return FinalizeOutcome::NotAll;
        };
        let mut finished = FinalizeOutcome::All;
        for partition in partitions.iter().filter(|partition| partition.pending) {
            let name = &partition.qualified;
            let finalize = format!("ALTER TABLE telemetry_events DETACH PARTITION {name} FINALIZE");
            let finalizing = self.run_alone(AssertSqlSafe(finalize));
            let done = Box::pin(guard.naming_who_blocks(name, finalizing)).await;
            if self.note(STEP, done).is_none() {
                finished = FinalizeOutcome::NotAll;
            }
        }
        finished
    }

    /// Returns the start of the oldest time that is still needed, at most `before_us`. Days that end before it may be
    /// removed. If a stream is stored up to its collector's last report, it needs no day, even if that report is old.
    async fn needed_from(
        &mut self,
        before_us: i64,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<i64, StoreError> {
        let mut transaction = self.begin().await?;
        let oldest = sqlx::query_as(
            "SELECT (extract(epoch FROM min(oldest)) * 1000000)::bigint - 946684800000000 \
             FROM ingest_streams WHERE released IS NULL AND NOT stored_positions @> int8range(1, appended + 1)",
        );
        let doing = "reading the oldest record that a collector holds";
        let (oldest_elsewhere,) = transaction.one(doing, oldest).await?;
        transaction.commit().await?;
        let held = [oldest_elsewhere, oldest_held_unix_nano.map(postgres_time)];
        let held = held.into_iter().flatten().map(|us| Day::of(us).start_us());
        Ok(held.fold(before_us, i64::min))
    }

    /// Detaches the partition without blocking other sessions, then drops it. Does nothing if there is a known
    /// obstacle.
    async fn remove(
        &mut self,
        guard: &mut Transaction<'_>,
        partition: &Partition,
        to_us: i64,
    ) -> Result<(), StoreError> {
        let name = &partition.qualified;
        self.refuse_if_obstructed(name).await?;
        let end = jiff::Timestamp::from_microsecond(to_us + POSTGRES_EPOCH_US)
            .map_or_else(|_| String::new(), |end| format!(", received before {end}"));
        let mark = format!("COMMENT ON TABLE {name} IS '{MARK}{end}'");
        self.run_alone(AssertSqlSafe(mark)).await?;
        let detaching = self.detach_marked(name);
        guard.naming_who_blocks(name, detaching).await?;
        self.drop_detached(name).await
    }

    async fn detach_marked(&mut self, name: &str) -> Result<(), StoreError> {
        let detached = self.detach(name).await;
        if detached.is_err() {
            self.drop_connection();
        }
        // Only if the server itself reported that it aborted. Otherwise it may still detach the day.
        if let Err(StoreError::Retry {
            sqlstate: Some(_), ..
        }) = &detached
            && let Err(error) = self.take_back_mark(name).await
        {
            tracing::debug!(%error, partition = name, "its mark could not be taken back");
        }
        detached
    }

    /// Runs outside any transaction, as the statement requires. Therefore it cannot have a separate timeout, and an
    /// interrupted wait leaves the detach pending, to be finished later. The connection must not be used after an
    /// error.
    async fn detach(&mut self, name: &str) -> Result<(), StoreError> {
        let limit = self.store.limit();
        let detach = format!("ALTER TABLE telemetry_events DETACH PARTITION {name} CONCURRENTLY");
        let detaching = sqlx::raw_sql(AssertSqlSafe(detach)).execute(self.connection().await?);
        let detached = within(limit, "detaching a partition", detaching).await;
        detached.map(drop)
    }

    /// Removes the mark of a day that was not detached, since an operator may detach it later to keep it. A day whose
    /// detach is pending keeps its mark.
    async fn take_back_mark(&mut self, name: &str) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let attached = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass($1) AND NOT inhdetachpending)",
        );
        let doing = "looking for an attached partition";
        let (is_attached,) = transaction.one(doing, attached.bind(name)).await?;
        transaction.commit().await?;
        if is_attached {
            let unmark = format!("COMMENT ON TABLE {name} IS NULL");
            self.run_alone(AssertSqlSafe(unmark)).await?;
        }
        Ok(())
    }

    /// Drops the tables that an earlier round detached but did not drop.
    async fn drop_marked(&mut self, needed_from_us: i64) {
        let marked = self.marked().await;
        for (name, to_us) in self.note(STEP, marked).unwrap_or_default() {
            if to_us <= needed_from_us {
                let dropped = self.drop_unobstructed(&name).await;
                self.note(STEP, dropped);
            }
        }
    }

    async fn marked(&mut self) -> Result<Vec<(String, i64)>, StoreError> {
        let mut transaction = self.begin().await?;
        let marked = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT qualified, to_us FROM ({MARKED}) m WHERE to_us IS NOT NULL ORDER BY to_us"
        )));
        let doing = "looking for detached partitions";
        let marked = transaction.rows(doing, marked).await?;
        transaction.commit().await?;
        Ok(marked)
    }

    async fn drop_unobstructed(&mut self, name: &str) -> Result<(), StoreError> {
        self.refuse_if_obstructed(name).await?;
        self.drop_detached(name).await
    }

    async fn drop_detached(&mut self, name: &str) -> Result<(), StoreError> {
        self.run_alone(AssertSqlSafe(format!("DROP TABLE {name}")))
            .await?;
        tracing::info!(partition = name, "removed by retention");
        Ok(())
    }

    /// Forgets streams that their collectors released [`KEEP_RELEASED`] ago, and that have had no heartbeat since. Both
    /// the server's clock and this collector's must agree. Without the row, a backup of a directory would be stored
    /// again, so one clock that is ahead must not decide.
    async fn forget_released_streams(&mut self) -> Result<(), StoreError> {
        let now_us = self.store.shared.clock.read().unix_us - POSTGRES_EPOCH_US;
        let forget = format!(
            "DELETE FROM ingest_streams WHERE released IS NOT NULL AND greatest(released, heartbeat) \
                 < least(now(), timestamptz '2000-01-01 00:00:00+00' + {now_us} * interval '1 microsecond') \
                   - interval '{} seconds'",
            KEEP_RELEASED.as_secs()
        );
        self.run_alone(AssertSqlSafe(forget)).await
    }

    /// Forgets resources that are no longer used. `last_seen` is refreshed daily while a resource is in use. Therefore
    /// no row refers to a resource that was last seen 30 days before the retention.
    async fn forget_unused_resources(
        &mut self,
        retention_days: u32,
        store_us: i64,
    ) -> Result<(), StoreError> {
        let before_us = store_us - POSTGRES_EPOCH_US - (i64::from(retention_days) + 30) * DAY_US;
        let forget = format!(
            "DELETE FROM telemetry_resources WHERE last_seen < timestamptz '2000-01-01 00:00:00+00' \
                 + {before_us} * interval '1 microsecond'"
        );
        self.run_alone(AssertSqlSafe(forget)).await
    }
}

impl Transaction<'_> {
    /// Runs a detach, which waits for every transaction that may read the day. If it times out, the error names the
    /// process that blocked it.
    async fn naming_who_blocks(
        &mut self,
        name: &str,
        detaching: impl Future<Output = Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let timeout = self.store.shared.options.statement_timeout;
        let interval = (timeout / 4).min(Duration::from_secs(1));
        let mut detaching = pin!(detaching);
        let mut blocking = None;
        let detached = loop {
            tokio::select! {
                detached = &mut detaching => break detached,
                () = tokio::time::sleep(interval) => {
                    if let Ok(Some(found)) = self.who_blocks_a_detach().await {
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
                StoreError::Retry {
                    class: FailureClass::Timeout,
                    sqlstate: sqlstate.or_else(|| Some("57014".to_owned())),
                    message: format!(
                        "the day {name} cannot be detached while a transaction is open that may read it: {blocking}"
                    ),
                }
            }
            error => error,
        })
    }
}

/// The outcome of finishing the detaches that earlier rounds left pending.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FinalizeOutcome {
    All,
    NotAll,
}
