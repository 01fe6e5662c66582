//! Reads the facts behind the gauges: partitions ahead, days past the retention, streams that no collector drains.
//!
//! **Invariant:** each fact is read in a separate transaction, in every round and by every collector, whatever failed
//! before.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::store::plausible_time::DAY_US;
use crate::store::postgres::connection::{end, within};
use crate::store::postgres::partitions::{ATTACHED, Day};
use crate::store::postgres::retention::MARKED;
use crate::store::postgres::round::MaintenanceRound;
use crate::store::postgres::{Postgres, import_v0, partitions};
use crate::store::{MaintenanceGauges, MaintenanceStep, Overdue, StoreError};

impl Postgres {
    pub(super) async fn read_gauges(&self, round: &mut MaintenanceRound<'_>) -> MaintenanceGauges {
        let partitions_end = self.partitions_end(round).await;
        let partitions_end_us = round.note(MaintenanceStep::Gauges, partitions_end);
        let overdue = self.overdue(round).await;
        let overdue_us = round.note(MaintenanceStep::Gauges, overdue);
        let undrained = self.undrained(round).await;
        let undrained_streams = round.note(MaintenanceStep::Gauges, undrained);
        let import = self.import_pending(round).await;
        MaintenanceGauges {
            partitions_end_us,
            overdue_us,
            undrained_streams,
            import_v0_pending: round.note(MaintenanceStep::Gauges, import),
        }
    }

    async fn partitions_end(&self, round: &mut MaintenanceRound<'_>) -> Result<i64, StoreError> {
        let connection = round.connection().await?;
        let begun = self.begin_anywhere(connection).await?;
        let covered = partitions::covered(connection, self.limit()).await?;
        end(connection, "COMMIT", self.limit()).await?;
        self.shared.partitions.learn(covered);
        let today = Day::of(begun.now_us);
        let ahead = i64::from(self.shared.partitions.days_ahead(today));
        Ok(Day(today.0 + 1 + ahead).start_us() - begun.now_us)
    }

    /// A day that was detached and not dropped takes the same space as before.
    async fn overdue(&self, round: &mut MaintenanceRound<'_>) -> Result<Overdue, StoreError> {
        let Some(days) = self.shared.retention_days else {
            return Ok(Overdue::Never);
        };
        let connection = round.connection().await?;
        let begun = self.begin_anywhere(connection).await?;
        let oldest_us: Option<i64> = within(
            self.limit(),
            "looking for the oldest day",
            sqlx::query_scalar(AssertSqlSafe(format!(
                "SELECT min(to_us) FROM (SELECT to_us FROM ({ATTACHED}) a UNION ALL SELECT to_us FROM ({MARKED}) m) days"
            )))
            .persistent(false)
            .fetch_one(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        Ok(oldest_us.map_or(Overdue::Never, |oldest_us| {
            Overdue::By(begun.now_us - i64::from(days) * DAY_US - oldest_us)
        }))
    }

    async fn undrained(&self, round: &mut MaintenanceRound<'_>) -> Result<u64, StoreError> {
        let connection: &mut PgConnection = round.connection().await?;
        self.begin_anywhere(connection).await?;
        let undrained: i64 = within(
            self.limit(),
            "counting silent streams",
            sqlx::query_scalar(
                "SELECT count(*) FROM ingest_streams WHERE released IS NULL AND appended > 0 \
                 AND oldest IS NOT NULL AND heartbeat < now() - interval '5 minutes' \
                 AND NOT stored_positions @> int8range(1, appended + 1)",
            )
            .persistent(false)
            .fetch_one(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        Ok(u64::try_from(undrained).unwrap_or(0))
    }

    async fn import_pending(&self, round: &mut MaintenanceRound<'_>) -> Result<bool, StoreError> {
        let connection = round.connection().await?;
        self.begin_anywhere(connection).await?;
        let pending = import_v0::is_pending(connection, self.limit()).await?;
        end(connection, "COMMIT", self.limit()).await?;
        Ok(pending)
    }
}
