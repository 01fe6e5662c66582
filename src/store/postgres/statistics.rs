//! Refreshes summaries and statistics: a search reads every row that is not in BRIN's summaries, and the planner knows
//! nothing about a table that was never analysed.
//!
//! Between the rounds, each collector summarises the days that it writes to, so that searches have few such rows to read.
//!
//! **Invariant:** a partition that was written to is summarised in the next round that can do it, whatever failed
//! before.

use std::collections::HashMap;
use std::sync::Mutex;

use sqlx::AssertSqlSafe;

use crate::store::postgres::partitions::Partition;
use crate::store::postgres::round::MaintenanceRound;
use crate::store::postgres::transaction::Transaction;
use crate::store::postgres::{Postgres, lock};
use crate::store::{MaintenanceStep, StoreError};

/// Number of rows inserted into each partition, by the server's count, at its last summary.
#[derive(Default)]
pub(super) struct WrittenRows(Mutex<HashMap<String, i64>>);

impl MaintenanceRound<'_> {
    /// Summarises the partitions that were written to, and analyses those that have changed.
    pub(super) async fn refresh_statistics(&mut self) {
        const STEP: MaintenanceStep = MaintenanceStep::Statistics;
        let listed = self.partition_list().await;
        let Some(partitions) = self.note(STEP, listed) else {
            return;
        };
        let shared = &self.store.shared;
        let written = shared.partitions.take_written();
        for partition in partitions.iter().filter(|partition| !partition.pending) {
            let counted = lock(&shared.counted.0).get(&partition.name).copied();
            let was_written = written.iter().any(|day| partition.holds(*day));
            if was_written || counted != Some(partition.inserted) && partition.inserted > 0 {
                let summarised = self.summarise(partition).await;
                if self.note(STEP, summarised).is_some() {
                    lock(&shared.counted.0).insert(partition.name.clone(), partition.inserted);
                } else {
                    let days = written.iter().copied().filter(|day| partition.holds(*day));
                    shared.partitions.note_written(days.collect());
                }
            }
            if partition.needs_analyze {
                let analyze = format!("ANALYZE {}", partition.qualified);
                let analysed = self.run_alone(AssertSqlSafe(analyze)).await;
                self.note(STEP, analysed);
            }
        }
    }

    async fn summarise(&mut self, partition: &Partition) -> Result<(), StoreError> {
        let transaction = self.begin().await?;
        transaction.summarise(partition).await
    }
}

impl Postgres {
    /// Summarises the days that this collector has written to since the last round, which will summarise them again.
    pub(in crate::store) async fn summarise_written(&self) -> Result<(), StoreError> {
        let days = self.shared.partitions.written();
        if days.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        let partitions = transaction.partition_list().await?;
        transaction.commit().await?;
        let is_written = |partition: &&Partition| days.iter().any(|day| partition.holds(*day));
        for partition in partitions.iter().filter(is_written) {
            let mut transaction = self.begin().await?;
            transaction
                .run_all("summarising a partition", SHORT_WAIT)
                .await?;
            transaction.summarise(partition).await?;
        }
        Ok(())
    }
}

/// Waits for a lock for less time than after which the server ends an autovacuum that holds it (`deadlock_timeout`).
/// Every few seconds, that would leave the server no time for its own work on a busy day.
const SHORT_WAIT: &str = "SET LOCAL lock_timeout = 100";

impl Transaction<'_> {
    /// Summarises a partition, and ends the transaction.
    async fn summarise(mut self, partition: &Partition) -> Result<(), StoreError> {
        let summarise = sqlx::query(
            "SELECT brin_summarize_new_values(i.indexrelid) FROM pg_index i \
             JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam \
             WHERE i.indrelid = $1::regclass AND a.amname = 'brin'",
        );
        let summarise = summarise.bind(&partition.qualified);
        let summarised = self.run("summarising a partition", summarise).await;
        self.end_after(summarised).await.map(drop)
    }
}
