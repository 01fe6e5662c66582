//! Runs the round of maintenance: retention, the size of the WAL, the gauges.
//!
//! **Invariant:** a step that fails is reported and does not prevent the next one, unless the file's schema is newer.

use crate::store::plausible_time::DAY_US;
use crate::store::sqlite::{Sqlite, now_us};
use crate::store::{
    MaintenanceGauges, MaintenanceReport, MaintenanceStep, Overdue, StoreError, lock,
};

/// Size from which a round resets the WAL. Several of the largest batches fit.
const WAL_BYTES: u64 = 64 << 20;

/// Age of its last heartbeat, in microseconds, from which a stream counts as silent.
const SILENT_US: i64 = 300_000_000;

impl Sqlite {
    pub(in crate::store) async fn maintain(
        &self,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<MaintenanceReport, StoreError> {
        let mut report = MaintenanceReport {
            gauges: MaintenanceGauges {
                overdue_us: Some(Overdue::Never),
                import_v0_pending: Some(false),
                ..MaintenanceGauges::default()
            },
            ..MaintenanceReport::default()
        };
        if let Some(days) = self.shared.options.retention_days {
            let cutoff_us = self.shared.clock.read().unix_us - i64::from(days) * DAY_US;
            match self.retain(days, oldest_held_unix_nano).await {
                Ok(notice) => report.notice = notice,
                Err(error @ StoreError::Schema(_)) => return Err(error),
                Err(error) => report.failed(MaintenanceStep::Retention, error),
            }
            report.gauges.overdue_us = lock(&self.shared.walks).overdue(cutoff_us);
        }
        if let Err(error) = self.bound_wal(WAL_BYTES).await {
            report.failed(MaintenanceStep::Statistics, error);
        }
        match self.undrained_streams().await {
            Ok(streams) => report.gauges.undrained_streams = Some(streams),
            Err(error) => report.failed(MaintenanceStep::Gauges, error),
        }
        Ok(report)
    }

    /// Removes the rows that both the judgement of the clock and the journal permit to remove. Returns the notice of a
    /// doubt, if any.
    async fn retain(
        &self,
        retention_days: u32,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<Option<String>, StoreError> {
        let judgement = self.judge_clock(retention_days).await?;
        // If the journal holds an unstored record of a day, the whole day is kept.
        let held_from_us = oldest_held_unix_nano.map_or(i64::MAX, |nano| {
            nano.div_euclid(1_000).div_euclid(DAY_US) * DAY_US
        });
        let before_us = judgement.remove_before_us.unwrap_or(i64::MIN);
        self.remove_expired(before_us.min(held_from_us)).await?;
        Ok(judgement.notice)
    }

    /// Returns the number of other collectors' streams that are silent and have unstored records.
    async fn undrained_streams(&self) -> Result<u64, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT count(*) FROM ingest_streams
             WHERE collector IS NOT ? AND released IS NULL AND oldest IS NOT NULL AND heartbeat < ?
               AND NOT (json_array_length(stored_positions) = 1
                   AND json_extract(stored_positions, '$[0][0]') <= 1 AND json_extract(stored_positions, '$[0][1]') >= appended)",
        )
        .bind(&self.shared.options.collector)
        .bind(now_us() - SILENT_US);
        let streams: i64 = self
            .on_writer(async |connection| self.within(query.fetch_one(connection)).await)
            .await?;
        Ok(u64::try_from(streams).unwrap_or(0))
    }
}
