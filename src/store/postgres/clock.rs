//! Reads the clocks of retention and keeps the row with their doubt, which [`crate::store::retention_clock`] judges.
//!
//! **Invariant:** the doubt of a round is committed before the round removes anything.

use sqlx::AssertSqlSafe;

use crate::store::postgres::error::retry;
use crate::store::postgres::partitions::ATTACHED;
use crate::store::postgres::round::MaintenanceRound;
use crate::store::postgres::transaction::Transaction;
use crate::store::postgres::{Postgres, lock};
use crate::store::retention_clock::{ClockFacts, Doubt, DoubtReason, Judgement, differ};
use crate::store::row_encoding::POSTGRES_EPOCH_US;
use crate::store::{FailureClass, StoreError};

const DOING: &str = "judging the clock that retention goes by";

/// Number of partitions, newest first, that are searched for the newest row.
const NEWEST_PARTITIONS: i64 = 8;

/// Blocks at the end of a partition that are read in that search, since rows are only ever appended.
const LAST_BLOCKS: i64 = 64;

/// The judgement of a round, and the server's time of it in Unix microseconds.
pub(super) struct ClockJudgement {
    pub(super) judgement: Judgement,
    pub(super) store_us: i64,
}

impl MaintenanceRound<'_> {
    pub(super) async fn judge_clock(
        &mut self,
        retention_days: u32,
    ) -> Result<ClockJudgement, StoreError> {
        let shared = &self.store.shared;
        let mut transaction = self.begin().await?;
        let now = shared.clock.read();
        let store_us = transaction.now_us + POSTGRES_EPOCH_US;
        let kept = transaction.kept_doubt().await?;
        let oldest_day_end = transaction.oldest_day_end(DOING).await?;
        let (asks, start_us) = {
            let clock = lock(&shared.retention_clock);
            // The start is measured by the server's clock, since it is compared with the rows' times.
            let passed_us = now.boot_us - clock.start().boot_us;
            (clock.asks_for_newest(kept), store_us - passed_us)
        };
        let newest_stored_us = if asks {
            transaction.newest_received_before(start_us).await?
        } else {
            None
        };
        let facts = ClockFacts {
            now,
            store_us,
            retention_days,
            oldest_day_end_us: oldest_day_end.map(|end_us| end_us + POSTGRES_EPOCH_US),
            newest_stored_us,
        };
        let judgement = lock(&shared.retention_clock).judge(kept, facts);
        if kept != Some(judgement.doubt) {
            transaction.keep_doubt(&judgement.doubt).await?;
        }
        transaction.commit().await?;
        Ok(ClockJudgement {
            judgement,
            store_us,
        })
    }
}

impl Transaction<'_> {
    /// Reads the row and locks it until the end of the transaction.
    async fn kept_doubt(&mut self) -> Result<Option<Doubt>, StoreError> {
        let kept = sqlx::query_as(
            "SELECT reason, waited_us, began_us, granted_us, granted_before_us, confirmations \
             FROM ruvvector_retention FOR UPDATE",
        );
        self.first(DOING, kept).await
    }

    async fn keep_doubt(&mut self, doubt: &Doubt) -> Result<(), StoreError> {
        let keep = sqlx::query(
            "INSERT INTO ruvvector_retention \
                 (reason, waited_us, began_us, granted_us, granted_before_us, confirmations) \
             VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (only_row) DO UPDATE SET reason = excluded.reason, waited_us = excluded.waited_us, \
                 began_us = excluded.began_us, granted_us = excluded.granted_us, \
                 granted_before_us = excluded.granted_before_us, confirmations = excluded.confirmations",
        )
        .bind(doubt.reason.map(DoubtReason::as_str))
        .bind(doubt.waited_us)
        .bind(doubt.began_us)
        .bind(doubt.granted_us)
        .bind(doubt.granted_before_us)
        .bind(doubt.confirmations);
        self.run(DOING, keep).await.map(drop)
    }

    /// Returns the receive time of the newest row from before a time, both in Unix microseconds. Rows are stored
    /// roughly in the order of their writing, so the last blocks of the newest partition are searched. If all of those
    /// rows are younger, any older row counts.
    async fn newest_received_before(&mut self, before_us: i64) -> Result<Option<i64>, StoreError> {
        let partitions = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT qualified, pg_relation_size(oid) / current_setting('block_size')::bigint FROM ({ATTACHED}) p \
             WHERE NOT pending AND pg_relation_size(oid) > 0 ORDER BY from_us DESC NULLS LAST LIMIT {NEWEST_PARTITIONS}"
        )));
        let partitions: Vec<(String, i64)> = self.rows(DOING, partitions).await?;
        for (name, blocks) in partitions {
            let from_block = (blocks - LAST_BLOCKS).max(0);
            let older =
                "created_at < timestamptz '2000-01-01 00:00:00+00' + $1 * interval '1 microsecond'";
            let newest = sqlx::query_as(AssertSqlSafe(format!(
                "SELECT (extract(epoch FROM coalesce( \
                     (SELECT max(created_at) FROM {name} WHERE ctid >= '({from_block},0)'::tid AND {older}), \
                     (SELECT created_at FROM {name} WHERE {older} LIMIT 1))) * 1000000)::bigint"
            )));
            let newest = newest.bind(before_us - POSTGRES_EPOCH_US);
            if let (Some(newest_us),) = self.one(DOING, newest).await? {
                return Ok(Some(newest_us));
            }
        }
        Ok(None)
    }
}

impl Postgres {
    /// Confirms, for an operator, that the clocks are right. Returns the reason for the doubt that this ends, if there
    /// was one.
    pub(in crate::store) async fn confirm_clock(&self) -> Result<Option<DoubtReason>, StoreError> {
        let mut connection = self.connect().await?;
        let mut transaction = self.begin_in_known_schema(&mut connection).await?;
        let store_us = transaction.now_us + POSTGRES_EPOCH_US;
        let apart_us = store_us - self.shared.clock.read().unix_us;
        if differ(apart_us) {
            return Err(retry(
                FailureClass::Other,
                format!(
                    "the database's clock and this machine's differ by {} min: set the wrong one right first; then no \
                     confirmation may be needed",
                    apart_us.abs() / 60_000_000
                ),
            ));
        }
        let kept = transaction.kept_doubt().await?;
        let confirm =
            "UPDATE ruvvector_retention SET reason = NULL, confirmations = confirmations + 1";
        transaction.run_all(DOING, confirm).await?;
        transaction.commit().await?;
        Ok(kept.and_then(|doubt| doubt.reason))
    }
}
