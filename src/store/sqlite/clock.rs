//! Keeps the row with the doubt of retention's clock, which [`crate::store::retention_clock`] judges.
//!
//! **Invariant:** the doubt of a round is committed before the round removes anything.

use sqlx::SqliteConnection;

use crate::store::plausible_time::DAY_US;
use crate::store::retention_clock::{ClockFacts, Doubt, DoubtReason, Judgement};
use crate::store::sqlite::Sqlite;
use crate::store::{StoreError, lock};

/// Number of rows with the highest ids that are searched for the newest one. Rows are stored roughly in the order of
/// receipt.
const LAST_ROWS: i64 = 1_000;

/// Created outside the migrations, so that versions that do not know the table can still use the file.
pub(super) const TABLE: &str = "CREATE TABLE IF NOT EXISTS ruvvector_retention (
    only_row          INTEGER PRIMARY KEY CHECK (only_row = 1),
    reason            TEXT,
    waited_us         INTEGER NOT NULL,
    began_us          INTEGER NOT NULL,
    granted_us        INTEGER,
    granted_before_us INTEGER,
    confirmations     INTEGER NOT NULL
)";

impl Sqlite {
    /// If retention was never applied to the file, judges the clock before the first row is written. Otherwise these
    /// rows would count as old events at the first use of retention after a later start.
    pub(super) async fn judge_first_use_of_retention(&self) -> Result<(), StoreError> {
        let Some(days) = self.shared.options.retention_days else {
            return Ok(());
        };
        let is_judged = sqlx::query_scalar("SELECT count(*) > 0 FROM ruvvector_retention");
        let is_judged = self.on_writer(async |c| self.within(is_judged.fetch_one(c)).await);
        if !is_judged.await? {
            self.judge_clock(days).await?;
        }
        Ok(())
    }

    /// Judges this machine's clock by the row and by the times of the stored rows, and stores the resulting doubt.
    pub(super) async fn judge_clock(&self, retention_days: u32) -> Result<Judgement, StoreError> {
        let now = self.shared.clock.read();
        let oldest_us = lock(&self.shared.walks).oldest_us();
        self.in_transaction(async |transaction| {
            let kept = sqlx::query_as(
                "SELECT reason, waited_us, began_us, granted_us, granted_before_us, confirmations FROM ruvvector_retention",
            );
            let kept: Option<Doubt> = self.within(kept.fetch_optional(&mut *transaction)).await?;
            let (asks, start_us) = {
                let clock = lock(&self.shared.retention_clock);
                (clock.asks_for_newest(kept), clock.start().unix_us)
            };
            let newest_stored_us = if asks {
                self.newest_received_before(transaction, start_us).await?
            } else {
                None
            };
            let facts = ClockFacts {
                now,
                store_us: now.unix_us,
                retention_days,
                oldest_day_end_us: oldest_us.map(day_end),
                newest_stored_us,
            };
            let judgement = lock(&self.shared.retention_clock).judge(kept, facts);
            let doubt = judgement.doubt;
            if kept != Some(doubt) {
                let keep = sqlx::query(
                    "INSERT OR REPLACE INTO ruvvector_retention VALUES (1, ?, ?, ?, ?, ?, ?)",
                )
                .bind(doubt.reason.map(DoubtReason::as_str))
                .bind(doubt.waited_us)
                .bind(doubt.began_us)
                .bind(doubt.granted_us)
                .bind(doubt.granted_before_us)
                .bind(doubt.confirmations);
                self.within(keep.execute(transaction)).await?;
            }
            Ok(judgement)
        })
        .await
    }

    /// Confirms, for an operator, that the clock is right. Returns the reason for the doubt that this ends, if there
    /// was one.
    pub(in crate::store) async fn confirm_clock(&self) -> Result<Option<DoubtReason>, StoreError> {
        self.in_transaction(async |transaction| {
            let kept = sqlx::query_scalar("SELECT reason FROM ruvvector_retention");
            let kept: Option<Option<DoubtReason>> =
                self.within(kept.fetch_optional(&mut *transaction)).await?;
            let confirm = sqlx::query(
                "UPDATE ruvvector_retention SET reason = NULL, confirmations = confirmations + 1",
            );
            self.within(confirm.execute(transaction)).await?;
            Ok(kept.flatten())
        })
        .await
    }

    async fn newest_received_before(
        &self,
        connection: &mut SqliteConnection,
        before_us: i64,
    ) -> Result<Option<i64>, StoreError> {
        let newest = sqlx::query_scalar(
            "SELECT max(created_at) FROM (SELECT created_at FROM telemetry_events WHERE created_at < ? ORDER BY id DESC LIMIT ?)",
        )
        .bind(before_us)
        .bind(LAST_ROWS);
        self.within(newest.fetch_one(connection)).await
    }
}

/// Returns the end of the day that contains a time, both in Unix microseconds.
const fn day_end(us: i64) -> i64 {
    (us.div_euclid(DAY_US) + 1).saturating_mul(DAY_US)
}
