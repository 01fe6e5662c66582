//! Partitions ahead, summaries, statistics, gauges.
//!
//! One collector at a time does it: the one that holds an advisory lock in a transaction of its own, which touches no
//! table, so that nothing waits for it. (A session's lock is wrong behind a pooler.)
//!
//! **Invariant:** no step holds a lock that an insert waits for, and one that cannot be done now is left for the next round.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;

use sqlx::{AssertSqlSafe, PgConnection};

use super::connection::{end, within};
use super::partitions::{ATTACHED, DAYS_AHEAD, Day};
use super::schema::MIGRATION_LOCK;
use super::{Postgres, import_v0, lock};
use crate::store::window::DAY_US;
use crate::store::{Maintained, StoreError};

const MAINTENANCE_LOCK: i64 = MIGRATION_LOCK + 2;

/// Rows after which a new partition's statistics are first worth having.
const FIRST_ANALYZE_ROWS: i64 = 50_000;

/// Rows inserted into each partition, as the server counted them, when its summaries were last made.
#[derive(Default)]
pub(super) struct Counted(Mutex<HashMap<String, i64>>);

/// A partition with what the server counted.
#[derive(sqlx::FromRow)]
pub(super) struct Partition {
    /// Schema and name, quoted.
    pub(super) qualified: String,
    pub(super) name: String,
    /// Whether an earlier detaching was cut short.
    pub(super) pending: bool,
    from_us: Option<i64>,
    pub(super) to_us: Option<i64>,
    inserted: i64,
    needs_analyze: bool,
}

impl Partition {
    fn holds(&self, day: Day) -> bool {
        self.from_us.is_none_or(|from| from <= day.start_us())
            && self.to_us.is_none_or(|to| day.start_us() < to)
    }
}

impl Postgres {
    /// One round.
    pub(in crate::store) async fn maintain(
        &self,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<Maintained, StoreError> {
        let mut connection = self.connect().await?;
        let mut guard = self.connect().await?;
        let maintained = self
            .round(&mut connection, &mut guard, oldest_held_unix_nano)
            .await;
        // An orderly goodbye; the work is done or has failed, whether it is heard or not.
        for connection in [connection, guard] {
            let _ = within(self.limit(), "closing", sqlx::Connection::close(connection)).await;
        }
        maintained
    }

    async fn round(
        &self,
        connection: &mut PgConnection,
        guard: &mut PgConnection,
        oldest_held_unix_nano: Option<i64>,
    ) -> Result<Maintained, StoreError> {
        if self.take_turn(guard).await? {
            self.make_days_ahead(connection).await?;
            self.summarise_and_analyze(connection).await?;
            self.remove_expired(connection, oldest_held_unix_nano)
                .await?;
            end(guard, "ROLLBACK", self.limit()).await?;
        }
        self.gauges(connection).await
    }

    /// Whether no other collector is at it; if so, holds the turn until the transaction ends.
    async fn take_turn(&self, guard: &mut PgConnection) -> Result<bool, StoreError> {
        const DOING: &str = "taking the turn for maintenance";
        let begin = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0";
        within(
            self.limit(),
            DOING,
            sqlx::raw_sql(begin).execute(&mut *guard),
        )
        .await?;
        within(
            self.limit(),
            DOING,
            sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1)")
                .bind(MAINTENANCE_LOCK)
                .persistent(false)
                .fetch_one(guard),
        )
        .await
    }

    async fn make_days_ahead(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let today = self.today(connection).await?;
        let days: BTreeSet<Day> = (today.0..=today.0 + DAYS_AHEAD).map(Day).collect();
        if self.shared.partitions.missing(&days).is_empty() {
            return Ok(());
        }
        skip_if_busy(
            "making partitions ahead",
            self.make_partitions(connection, &days).await,
        )
        .map(|_| ())
    }

    async fn today(&self, connection: &mut PgConnection) -> Result<Day, StoreError> {
        let begun = self.begin_in_known_schema(connection).await?;
        end(connection, "ROLLBACK", self.limit()).await?;
        Ok(Day::of(begun.now_us))
    }

    /// BRIN does not know rows that were not summarised; the planner does not know a table that was never analysed.
    async fn summarise_and_analyze(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let written = self.shared.partitions.take_written();
        for partition in self.partition_list(connection).await? {
            if partition.pending {
                continue;
            }
            let counted = lock(&self.shared.counted.0).get(&partition.name).copied();
            let was_written = written.iter().any(|day| partition.holds(*day));
            if was_written || counted != Some(partition.inserted) && partition.inserted > 0 {
                let done = skip_if_busy(
                    "summarising a partition",
                    self.summarise(connection, &partition).await,
                )?;
                if done {
                    lock(&self.shared.counted.0).insert(partition.name.clone(), partition.inserted);
                } else {
                    let days = written.iter().copied().filter(|day| partition.holds(*day));
                    self.shared.partitions.note_written(days.collect());
                }
            }
            if partition.needs_analyze {
                let statement = format!("ANALYZE {}", partition.qualified);
                skip_if_busy(
                    "analysing a partition",
                    self.alone(connection, statement).await,
                )?;
            }
        }
        Ok(())
    }

    async fn summarise(
        &self,
        connection: &mut PgConnection,
        partition: &Partition,
    ) -> Result<(), StoreError> {
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

    /// Runs one statement in a transaction with our timeouts, and undoes it on an error.
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

    /// The partitions, oldest first.
    pub(super) async fn partition_list(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<Partition>, StoreError> {
        self.begin_anywhere(connection).await?;
        let partitions = within(
            self.limit(),
            "reading the partitions",
            sqlx::query_as(AssertSqlSafe(format!(
                "SELECT p.name, p.qualified, p.pending, p.from_us, p.to_us, \
                        coalesce(s.n_tup_ins, 0) AS inserted, \
                        coalesce(CASE WHEN greatest(s.last_analyze, s.last_autoanalyze) IS NULL \
                                      THEN s.n_tup_ins >= {FIRST_ANALYZE_ROWS} \
                                      ELSE s.n_mod_since_analyze > 0 \
                                           AND greatest(s.last_analyze, s.last_autoanalyze) < now() - interval '1 day' \
                                 END, false) AS needs_analyze \
                 FROM ({ATTACHED}) p LEFT JOIN pg_stat_all_tables s ON s.relid = p.oid \
                 ORDER BY p.from_us NULLS FIRST"
            )))
            .persistent(false)
            .fetch_all(&mut *connection),
        )
        .await?;
        end(connection, "COMMIT", self.limit()).await?;
        Ok(partitions)
    }

    async fn gauges(&self, connection: &mut PgConnection) -> Result<Maintained, StoreError> {
        let partitions = self.partition_list(connection).await?;
        let begun = self.begin_anywhere(connection).await?;
        self.shared
            .partitions
            .learn(super::partitions::covered(connection, self.limit()).await?);
        let undrained: i64 = within(
            self.limit(),
            "counting silent streams",
            sqlx::query_scalar(
                "SELECT count(*) FROM ingest_streams WHERE released IS NULL AND appended > 0 \
                 AND oldest IS NOT NULL AND heartbeat < now() - interval '5 minutes' \
                 AND NOT done @> int8range(1, appended + 1)",
            )
            .persistent(false)
            .fetch_one(&mut *connection),
        )
        .await?;
        let import_v0_pending = import_v0::is_pending(connection, self.limit()).await?;
        end(connection, "COMMIT", self.limit()).await?;

        let overdue_us = self.shared.retention_days.and_then(|days| {
            let cutoff_us = begun.now_us - i64::from(days) * DAY_US;
            let oldest_us = partitions.iter().filter_map(|p| p.to_us).min()?;
            Some(cutoff_us - oldest_us)
        });
        Ok(Maintained {
            partitions_ahead_days: Some(self.shared.partitions.days_ahead(Day::of(begun.now_us))),
            retention_overdue_days: overdue_us
                .map_or(0, |us| u32::try_from(us.div_euclid(DAY_US)).unwrap_or(0)),
            undrained_streams: u64::try_from(undrained).unwrap_or(0),
            import_v0_pending,
        })
    }
}

/// Whether it was done; a lock that is held or a server that is too slow now is left for the next round, with a line in
/// the log.
pub(super) fn skip_if_busy(
    doing: &'static str,
    result: Result<(), StoreError>,
) -> Result<bool, StoreError> {
    match result {
        Ok(()) => Ok(true),
        Err(StoreError::Retry {
            class: "timeout" | "conflict",
            sqlstate: Some(_),
            message,
        }) => {
            tracing::warn!(
                doing,
                reason = message,
                "left for the next round of maintenance"
            );
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
