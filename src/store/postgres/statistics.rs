//! Refreshes summaries and statistics: BRIN ignores rows that were not summarised, and the planner knows nothing about
//! a table that was never analysed.
//!
//! **Invariant:** a partition that was written to is summarised in the next round that can do it, whatever failed
//! before.

use std::collections::HashMap;
use std::sync::Mutex;

use sqlx::PgConnection;

use crate::store::postgres::connection::{end, within};
use crate::store::postgres::partitions::Partition;
use crate::store::postgres::round::MaintenanceRound;
use crate::store::postgres::{Postgres, lock};
use crate::store::{MaintenanceStep, StoreError};

/// Number of rows inserted into each partition, by the server's count, at its last summary.
#[derive(Default)]
pub(super) struct WrittenRows(Mutex<HashMap<String, i64>>);

impl Postgres {
    /// Summarises the partitions that were written to, and analyses those that have changed.
    pub(super) async fn refresh_statistics(&self, round: &mut MaintenanceRound<'_>) {
        let listed = self.partitions_of(round).await;
        let Some(partitions) = round.note(MaintenanceStep::Statistics, listed) else {
            return;
        };
        let written = self.shared.partitions.take_written();
        for partition in partitions.iter().filter(|partition| !partition.pending) {
            let counted = lock(&self.shared.counted.0).get(&partition.name).copied();
            let was_written = written.iter().any(|day| partition.holds(*day));
            if was_written || counted != Some(partition.inserted) && partition.inserted > 0 {
                let summarised = self.summarise(round, partition).await;
                if round
                    .note(MaintenanceStep::Statistics, summarised)
                    .is_some()
                {
                    lock(&self.shared.counted.0).insert(partition.name.clone(), partition.inserted);
                } else {
                    let days = written.iter().copied().filter(|day| partition.holds(*day));
                    self.shared.partitions.note_written(days.collect());
                }
            }
            if partition.needs_analyze {
                let analysed = self.analyze(round, partition).await;
                round.note(MaintenanceStep::Statistics, analysed);
            }
        }
    }

    async fn partitions_of(
        &self,
        round: &mut MaintenanceRound<'_>,
    ) -> Result<Vec<Partition>, StoreError> {
        self.partition_list(round.connection().await?).await
    }

    async fn summarise(
        &self,
        round: &mut MaintenanceRound<'_>,
        partition: &Partition,
    ) -> Result<(), StoreError> {
        let connection: &mut PgConnection = round.connection().await?;
        self.begin_anywhere(connection).await?;
        let summarised = within(
            self.limit(),
            "summarising a partition",
            sqlx::query(
                "SELECT brin_summarize_new_values(i.indexrelid) FROM pg_index i \
                 JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
                 WHERE i.indrelid = $1::regclass AND a.amname = 'brin'",
            )
            .bind(&partition.qualified)
            .persistent(false)
            .execute(&mut *connection),
        )
        .await;
        let how = if summarised.is_ok() {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        end(connection, how, self.limit()).await?;
        summarised.map(|_| ())
    }

    async fn analyze(
        &self,
        round: &mut MaintenanceRound<'_>,
        partition: &Partition,
    ) -> Result<(), StoreError> {
        let statement = format!("ANALYZE {}", partition.qualified);
        self.alone(round.connection().await?, statement).await
    }
}
