//! Runs the round of maintenance: partitions ahead, summaries, statistics, retention, and gauges.
//!
//! One collector at a time does the work: the one that holds an advisory lock in a separate transaction, which touches
//! no table, so that nothing waits for it. (A session's lock fails behind a pooler.) Every collector reads the gauges.
//!
//! **Invariant:** no step holds a lock that an insert waits for, and a step that fails does not prevent the others.

use std::collections::BTreeSet;

use crate::store::postgres::Postgres;
use crate::store::postgres::migrations::MIGRATION_LOCK;
use crate::store::postgres::partitions::{DAYS_AHEAD, Day};
use crate::store::postgres::round::MaintenanceRound;
use crate::store::postgres::transaction::Transaction;
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
        let today = self.today(&mut round).await?;
        let mut connection = self.connect().await?;
        let mut notice = None;
        let begun = self.begin_on(&mut connection).await;
        if let Some(mut guard) = round.note(MaintenanceStep::Turn, begun) {
            let turn = guard.take_turn().await;
            if round.note(MaintenanceStep::Turn, turn) == Some(MaintenanceTurn::Ours) {
                round.make_days_ahead(today).await;
                round.refresh_statistics().await;
                notice = round
                    .remove_expired(&mut guard, oldest_held_unix_nano)
                    .await;
                let ended = guard.roll_back().await;
                round.note(MaintenanceStep::Turn, ended);
            }
        }
        self.close_connection(connection).await;
        let gauges = round.read_gauges().await;
        Ok(MaintenanceReport {
            gauges,
            failures: round.end().await,
            notice,
        })
    }

    async fn today(&self, round: &mut MaintenanceRound<'_>) -> Result<Day, StoreError> {
        let connection = round.connection().await?;
        let transaction = self.begin_in_known_schema(connection).await?;
        let today = Day::of(transaction.now_us);
        transaction.roll_back().await?;
        Ok(today)
    }
}

impl Transaction<'_> {
    /// Tries to take the turn. If no other collector has it, holds it until the transaction ends, which is idle
    /// meanwhile.
    async fn take_turn(&mut self) -> Result<MaintenanceTurn, StoreError> {
        let take = sqlx::query_as(
            "SELECT pg_try_advisory_xact_lock($1), set_config('idle_in_transaction_session_timeout', '0', true)",
        );
        let taken = self.one(
            "taking the turn for maintenance",
            take.bind(MAINTENANCE_LOCK),
        );
        let (is_ours, _): (bool, String) = taken.await?;
        Ok(if is_ours {
            MaintenanceTurn::Ours
        } else {
            MaintenanceTurn::Others
        })
    }
}

impl MaintenanceRound<'_> {
    /// Creates the partition of each day separately, so that a failure for one day does not prevent the others.
    async fn make_days_ahead(&mut self, today: Day) {
        let days: BTreeSet<Day> = (today.0..=today.0 + DAYS_AHEAD).map(Day).collect();
        for day in self.store.shared.partitions.missing(&days) {
            let made = self.make_day(day).await;
            if self.note(MaintenanceStep::Partitions, made).is_none() && self.is_busy() {
                return;
            }
        }
    }

    async fn make_day(&mut self, day: Day) -> Result<(), StoreError> {
        let days = BTreeSet::from([day]);
        let transaction = self.begin().await?;
        transaction.make_partitions(&days).await.map(drop)
    }
}
