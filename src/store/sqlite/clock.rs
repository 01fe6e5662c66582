//! Keeps the row with the doubt of retention's clock, which [`crate::store::retention_clock`] judges.
//!
//! **Invariant:** the doubt of a round is committed before the round removes anything.

use sqlx::SqliteConnection;

use crate::store::StoreError;
use crate::store::plausible_time::DAY_US;
use crate::store::retention_clock::{
    ClockFacts, Doubt, DoubtReason, DoubtRow, Judgement, RetentionClock,
};
use crate::store::sqlite::error::ErrorContext;
use crate::store::sqlite::schema;

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

/// Judges `clock` by the row and by `facts`, whose newest and oldest times are filled in here, and stores the resulting
/// doubt.
pub(super) async fn judge(
    connection: &mut SqliteConnection,
    clock: &std::sync::Mutex<RetentionClock>,
    facts: ClockFacts,
    oldest_us: Option<i64>,
    fault: ErrorContext<'_>,
) -> Result<Judgement, StoreError> {
    let mut transaction = schema::begin(connection, &fault).await?;
    let kept = sqlx::query_as::<_, DoubtRow>(
        "SELECT reason, waited_us, began_us, granted_us, granted_before_us, confirmations FROM ruvvector_retention",
    );
    let kept = fault.within(kept.fetch_optional(&mut *transaction)).await?;
    let kept = kept.map(Doubt::from);
    let (asks, start_us) = {
        let clock = lock(clock);
        (clock.asks_for_newest(kept), clock.start().unix_us)
    };
    let newest_stored_us = if asks {
        newest_received_before(&mut transaction, start_us, &fault).await?
    } else {
        None
    };
    let judgement = lock(clock).judge(
        kept,
        ClockFacts {
            oldest_day_end_us: oldest_us.map(day_end),
            newest_stored_us,
            ..facts
        },
    );
    let doubt = judgement.doubt;
    if kept != Some(doubt) {
        let keep =
            sqlx::query("INSERT OR REPLACE INTO ruvvector_retention VALUES (1, ?, ?, ?, ?, ?, ?)")
                .bind(doubt.reason.map(DoubtReason::name))
                .bind(doubt.waited_us)
                .bind(doubt.began_us)
                .bind(doubt.granted_us)
                .bind(doubt.granted_before_us)
                .bind(doubt.confirmations);
        fault.within(keep.execute(&mut *transaction)).await?;
    }
    fault.within(transaction.commit()).await?;
    Ok(judgement)
}

/// Returns whether a round, or a first contact, has judged the clock before.
pub(super) async fn is_judged(
    connection: &mut SqliteConnection,
    fault: &ErrorContext<'_>,
) -> Result<bool, StoreError> {
    let kept = sqlx::query_scalar("SELECT count(*) > 0 FROM ruvvector_retention");
    fault.within(kept.fetch_one(connection)).await
}

/// Confirms, for an operator, that the clock is right. Returns the reason for the doubt that this ends, if there was
/// one.
pub(super) async fn confirm(
    connection: &mut SqliteConnection,
    fault: ErrorContext<'_>,
) -> Result<Option<DoubtReason>, StoreError> {
    let mut transaction = schema::begin(connection, &fault).await?;
    let kept = sqlx::query_scalar::<_, Option<String>>("SELECT reason FROM ruvvector_retention");
    let kept = fault.within(kept.fetch_optional(&mut *transaction)).await?;
    let confirm = sqlx::query(
        "UPDATE ruvvector_retention SET reason = NULL, confirmations = confirmations + 1",
    );
    fault.within(confirm.execute(&mut *transaction)).await?;
    fault.within(transaction.commit()).await?;
    Ok(kept.flatten().as_deref().map(DoubtReason::of))
}

async fn newest_received_before(
    connection: &mut SqliteConnection,
    before_us: i64,
    fault: &ErrorContext<'_>,
) -> Result<Option<i64>, StoreError> {
    let newest = sqlx::query_scalar(
        "SELECT max(created_at) FROM (SELECT created_at FROM telemetry_events WHERE created_at < ? ORDER BY id DESC LIMIT ?)",
    )
    .bind(before_us)
    .bind(LAST_ROWS);
    fault.within(newest.fetch_one(connection)).await
}

/// Returns the end of the day that contains a time, both in Unix microseconds.
const fn day_end(us: i64) -> i64 {
    (us.div_euclid(DAY_US) + 1).saturating_mul(DAY_US)
}

fn lock(clock: &std::sync::Mutex<RetentionClock>) -> std::sync::MutexGuard<'_, RetentionClock> {
    clock
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
