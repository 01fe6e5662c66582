//! Runs the round of maintenance: partitions ahead, summaries, statistics, retention, and gauges.
//!
//! One collector at a time does the work: the one that holds an advisory lock in a separate transaction, which touches
//! no table, so that nothing waits for it. (A session's lock fails behind a pooler.) Every collector reads the gauges.
//!
//! **Invariant:** no step holds a lock that an insert waits for, and a step that fails does not prevent the others.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::store::postgres::Postgres;
use crate::store::postgres::connection::{BEGIN, NO_TRANSACTION_TIMEOUT, end, within};
use crate::store::postgres::partitions::{DAYS_AHEAD, Day};
use crate::store::postgres::round::MaintenanceRound;
use crate::store::postgres::schema::MIGRATION_LOCK;
use crate::store::{MaintenanceReport, MaintenanceStep, StoreError};

const MAINTENANCE_LOCK: i64 = MIGRATION_LOCK + 2;

/// The collector that does the work of a round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MaintenanceTurn {
    Ours,
    Others,
}

impl Postgres {
    /// Runs one round.
    pub(in crate::store) async fn maintain(
        &self,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<MaintenanceReport, StoreError> {
        let mut round = MaintenanceRound::new(self);
        let today = self.today(round.connection().await?).await?;
        let mut guard = self.connect().await?;
        let turn = self.take_turn(&mut guard).await;
        let mut notice = None;
        if round.note(MaintenanceStep::Turn, turn) == Some(MaintenanceTurn::Ours) {
            self.make_days_ahead(&mut round, today).await;
            self.refresh_statistics(&mut round).await;
            notice = self
                .remove_expired(&mut round, &mut guard, oldest_held_unix_nano)
                .await;
            let ended = end(&mut guard, "ROLLBACK", self.limit()).await;
            round.note(MaintenanceStep::Turn, ended);
        }
        let _ = within(self.limit(), "closing", guard.close()).await;
        let gauges = self.read_gauges(&mut round).await;
        Ok(MaintenanceReport {
            gauges,
            failures: round.end().await,
            notice,
        })
    }

    /// Tries to take the turn. If no other collector has it, holds it until the transaction ends.
    async fn take_turn(&self, guard: &mut PgConnection) -> Result<MaintenanceTurn, StoreError> {
        const DOING: &str = "taking the turn for maintenance";
        let begin = format!(
            "{BEGIN}; SET LOCAL idle_in_transaction_session_timeout = 0; SELECT {NO_TRANSACTION_TIMEOUT}"
        );
        within(
            self.limit(),
            DOING,
            sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *guard),
        )
        .await?;
        let is_ours: bool = within(
            self.limit(),
            DOING,
            sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
                .bind(MAINTENANCE_LOCK)
                .persistent(false)
                .fetch_one(guard),
        )
        .await?;
        Ok(if is_ours {
            MaintenanceTurn::Ours
        } else {
            MaintenanceTurn::Others
        })
    }

    async fn today(&self, connection: &mut PgConnection) -> Result<Day, StoreError> {
        let begun = self.begin_in_known_schema(connection).await?;
        end(connection, "ROLLBACK", self.limit()).await?;
        Ok(Day::of(begun.now_us))
    }

    /// Creates the partition of each day separately, so that a failure for one day does not prevent the others.
    async fn make_days_ahead(&self, round: &mut MaintenanceRound<'_>, today: Day) {
        let days: BTreeSet<Day> = (today.0..=today.0 + DAYS_AHEAD).map(Day).collect();
        for day in self.shared.partitions.missing(&days) {
            let made = self.make_day(round, day).await;
            if round.note(MaintenanceStep::Partitions, made).is_none() && round.is_busy() {
                return;
            }
        }
    }

    async fn make_day(&self, round: &mut MaintenanceRound<'_>, day: Day) -> Result<(), StoreError> {
        let connection = round.connection().await?;
        self.make_partitions(connection, &BTreeSet::from([day]))
            .await
    }

    /// Runs one statement in a transaction with our timeouts, and rolls back on an error.
    pub(super) async fn alone(
        &self,
        connection: &mut PgConnection,
        statement: String,
    ) -> Result<(), StoreError> {
        self.begin_anywhere(connection).await?;
        let done = within(
            self.limit(),
            "maintaining a partition",
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *connection),
        )
        .await;
        let how = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        end(connection, how, self.limit()).await?;
        done.map(|_| ())
    }
}
