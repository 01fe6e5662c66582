//! Reads the facts behind the gauges: partitions ahead, days past the retention, streams that no collector drains.
//!
//! **Invariant:** each fact is read in a separate transaction, in every round and by every collector, whatever failed
//! before.

use crate::store::plausible_time::DAY_US;
use crate::store::postgres::partitions::Day;
use crate::store::postgres::round::MaintenanceRound;
use crate::store::{MaintenanceGauges, MaintenanceStep, Overdue, StoreError};

impl MaintenanceRound<'_> {
    pub(super) async fn read_gauges(&mut self) -> MaintenanceGauges {
        const STEP: MaintenanceStep = MaintenanceStep::Gauges;
        let partitions_end = self.partitions_end().await;
        let partitions_end_us = self.note(STEP, partitions_end);
        let overdue = self.overdue().await;
        let overdue_us = self.note(STEP, overdue);
        let undrained = self.undrained().await;
        let undrained_streams = self.note(STEP, undrained);
        let import = self.is_import_pending().await;
        MaintenanceGauges {
            partitions_end_us,
            overdue_us,
            undrained_streams,
            import_v0_pending: self.note(STEP, import),
        }
    }

    async fn partitions_end(&mut self) -> Result<i64, StoreError> {
        let partitions = &self.store.shared.partitions;
        let mut transaction = self.begin().await?;
        let now_us = transaction.now_us;
        let covered = transaction.covered_days().await?;
        transaction.commit().await?;
        partitions.learn(covered);
        let today = Day::of(now_us);
        let ahead = i64::from(partitions.days_ahead(today));
        Ok(Day(today.0 + 1 + ahead).start_us() - now_us)
    }

    async fn overdue(&mut self) -> Result<Overdue, StoreError> {
        let Some(days) = self.store.shared.options.retention_days else {
            return Ok(Overdue::Never);
        };
        let mut transaction = self.begin().await?;
        let retained_from_us = transaction.now_us - i64::from(days) * DAY_US;
        let oldest_us = transaction.oldest_day_end("reading the oldest day").await?;
        transaction.commit().await?;
        Ok(oldest_us.map_or(Overdue::Never, |oldest_us| {
            Overdue::By(retained_from_us - oldest_us)
        }))
    }

    async fn undrained(&mut self) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let undrained = sqlx::query_as(
            "SELECT count(*) FROM ingest_streams WHERE released IS NULL AND appended > 0 \
             AND oldest IS NOT NULL AND heartbeat < now() - interval '5 minutes' \
             AND NOT stored_positions @> int8range(1, appended + 1)",
        );
        let (undrained,): (i64,) = transaction
            .one("counting silent streams", undrained)
            .await?;
        transaction.commit().await?;
        Ok(u64::try_from(undrained).unwrap_or(0))
    }

    async fn is_import_pending(&mut self) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let is_pending = transaction.is_import_pending().await?;
        transaction.commit().await?;
        Ok(is_pending)
    }
}
