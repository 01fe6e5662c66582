//! Recognises the original service's table, keeps it aside as `telemetry_events_v0`, and imports it on request.
//!
//! **Invariant:** only names of it are changed, and each of its rows is imported once: a chunk and the progress after
//! it are committed together.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::event::EventFlags;
use crate::store::postgres::Postgres;
use crate::store::postgres::error::retry;
use crate::store::postgres::partitions::Day;
use crate::store::postgres::table_shape::{Columns, FoundTable};
use crate::store::postgres::transaction::Transaction;
use crate::store::{FailureClass, StoreError};

/// Rows in one transaction.
const CHUNK_ROWS: i64 = 10_000;

/// Timeout of a chunk, which takes longer than a statement of the writer if its rows are wide.
const CHUNK_LIMIT: Duration = Duration::from_secs(600);

/// Names of the original columns, with the types that were seen in use.
const COLUMNS: &Columns = &[
    ("id", &["integer", "bigint"]),
    ("correlation_id", &["character varying(255)"]),
    ("integration", &["character varying(100)"]),
    ("provider", &["character varying(100)"]),
    ("event_type", &["character varying(50)"]),
    ("timestamp", &["bigint"]),
    ("metadata", &["jsonb"]),
    ("trace_id", &["character varying(64)"]),
    ("span_id", &["character varying(32)"]),
    (
        "created_at",
        &["timestamp without time zone", "timestamp with time zone"],
    ),
];

/// The progress of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// Number of rows imported so far, by this run and those before it.
    pub rows: i64,
    /// Every row up to this id is imported.
    pub up_to_id: i64,
    /// The highest id to import.
    pub last_id: i64,
}

/// Checks that a table named `telemetry_events` is the original service's.
pub(super) fn check_shape(table: &FoundTable) -> Result<(), StoreError> {
    let mut differences = table.differences(COLUMNS);
    if table.partitioned {
        differences.insert(0, "it is partitioned".to_owned());
    }
    for (column, _) in &table.columns {
        if !COLUMNS.iter().any(|(name, _)| name == column) {
            differences.push(format!("column {column} is unknown"));
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "there is a table telemetry_events that is neither this service's nor the original one's: {}. Rename it, or \
         name another database or schema",
        differences.join("; ")
    )))
}

impl Transaction<'_> {
    /// Renames the table, its indexes, constraints and sequence, and notes that it waits for its import.
    pub(super) async fn rename_v0_table(&mut self, doing: &'static str) -> Result<(), StoreError> {
        // Renaming an index that backs a constraint renames the constraint, too. A name has at most 63 bytes.
        let renames = sqlx::query_as(
            "SELECT format('ALTER TABLE telemetry_events RENAME CONSTRAINT %I TO %I', conname, left(conname, 60) || '_v0') \
             FROM pg_constraint WHERE conrelid = to_regclass('telemetry_events') AND conindid = 0 \
             UNION ALL \
             SELECT format('ALTER INDEX %s RENAME TO %I', c.oid::regclass, left(c.relname, 60) || '_v0') \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass('telemetry_events') \
             UNION ALL \
             SELECT format('ALTER SEQUENCE %s RENAME TO %I', c.oid::regclass, left(c.relname, 60) || '_v0') \
             FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S' \
             WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass \
               AND d.refobjid = to_regclass('telemetry_events') AND d.deptype IN ('a', 'i')",
        );
        let renames: Vec<(String,)> = self.rows(doing, renames).await?;
        for (rename,) in renames {
            self.run_all(doing, AssertSqlSafe(rename)).await?;
        }
        self.run_all(
            doing,
            "ALTER TABLE telemetry_events RENAME TO telemetry_events_v0; \
             CREATE TABLE ruvvector_import_v0 (rows BIGINT NOT NULL, up_to_id BIGINT NOT NULL, last_id BIGINT NOT NULL); \
             INSERT INTO ruvvector_import_v0 SELECT 0, coalesce(min(id), 1) - 1, coalesce(max(id), 0) FROM telemetry_events_v0",
        )
        .await
    }

    /// Makes new ids start above those of the table that was kept aside.
    pub(super) async fn start_ids_above_v0(
        &mut self,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        let last_id = sqlx::query_as("SELECT last_id FROM ruvvector_import_v0");
        let (last_id,): (i64,) = self.one(doing, last_id).await?;
        let first = last_id.max(0).saturating_add(1);
        let restart = format!("ALTER TABLE telemetry_events ALTER COLUMN id RESTART WITH {first}");
        self.run_all(doing, AssertSqlSafe(restart)).await
    }

    /// Returns whether a table was kept aside.
    async fn has_v0_table(&mut self) -> Result<bool, StoreError> {
        let kept = "SELECT to_regclass('ruvvector_import_v0') IS NOT NULL AND to_regclass('telemetry_events_v0') IS NOT NULL";
        let (kept,) = self.one(LOOKING, sqlx::query_as(kept)).await?;
        Ok(kept)
    }

    /// Returns whether a table that was kept aside waits to be imported.
    pub(super) async fn is_import_pending(&mut self) -> Result<bool, StoreError> {
        if !self.has_v0_table().await? {
            return Ok(false);
        }
        let pending = "SELECT up_to_id < last_id FROM ruvvector_import_v0";
        let (pending,) = self.one(LOOKING, sqlx::query_as(pending)).await?;
        Ok(pending)
    }
}

const LOOKING: &str = "looking for a table to import";

impl Postgres {
    /// Copies the rows of the original service's table in chunks, in the order of their ids, and calls `progress` after
    /// each. If an import is interrupted, the next one continues; after the last chunk it does nothing. `id` and
    /// `created_at` are kept. A time without a zone is read as UTC.
    ///
    /// # Errors
    /// [`StoreError::Retry`] or [`StoreError::Schema`]. The rows that were imported before stay.
    pub async fn import_v0(
        &self,
        mut progress: impl FnMut(ImportProgress),
    ) -> Result<ImportProgress, StoreError> {
        self.migrate().await?;
        let mut connection = self.connect().await?;
        let mut transaction = self.begin_on(&mut connection).await?;
        let has_table = transaction.has_v0_table().await?;
        transaction.commit().await?;
        if !has_table {
            return Err(StoreError::Schema(
                "there is no telemetry_events_v0 to import".into(),
            ));
        }
        loop {
            let import = self.import_chunk(&mut connection).await?;
            progress(import);
            if import.up_to_id >= import.last_id {
                return Ok(import);
            }
        }
    }

    async fn import_chunk(
        &self,
        connection: &mut PgConnection,
    ) -> Result<ImportProgress, StoreError> {
        const DOING: &str = "importing";
        let mut transaction = self.begin_on(connection).await?;
        transaction.limit = CHUNK_LIMIT;
        let chunk = sqlx::query_as(
            "SELECT up_to_id, coalesce((SELECT max(id) FROM (SELECT id::bigint FROM telemetry_events_v0 \
                                        WHERE id > up_to_id ORDER BY id LIMIT $1) c), last_id) \
             FROM ruvvector_import_v0",
        );
        let (before, chunk_end): (i64, i64) =
            transaction.one(DOING, chunk.bind(CHUNK_ROWS)).await?;
        let days = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT DISTINCT floor(extract(epoch FROM {CREATED_AT}) / 86400)::bigint - 10957 \
             FROM telemetry_events_v0 WHERE id > $1 AND id <= $2"
        )));
        let days = days.bind(before).bind(chunk_end);
        let days: Vec<(i64,)> = transaction.rows(DOING, days).await?;
        let today = Day::of(transaction.now_us);
        transaction.commit().await?;

        let mut days: BTreeSet<Day> = days.into_iter().map(|(day,)| Day(day)).collect();
        // For times that cannot be kept. Tomorrow is included, since midnight may pass.
        days.extend([today, Day(today.0 + 1)]);
        if !self.shared.partitions.missing(&days).is_empty() {
            self.begin_on(connection)
                .await?
                .make_partitions(&days)
                .await?;
        }

        let mut transaction = self.begin_on(connection).await?;
        transaction.limit = CHUNK_LIMIT;
        transaction
            .run_all(DOING, "SET LOCAL statement_timeout = 0")
            .await?;
        let import = sqlx::query_as(AssertSqlSafe(format!(
            "WITH copied AS ({} RETURNING 1) \
             UPDATE ruvvector_import_v0 SET rows = rows + (SELECT count(*) FROM copied), up_to_id = $2 \
             WHERE up_to_id = $1 RETURNING rows, up_to_id, last_id",
            copy_chunk()
        )));
        let import = import.bind(before).bind(chunk_end);
        let Some((rows, up_to_id, last_id)) = transaction.first(DOING, import).await? else {
            transaction.roll_back().await?;
            return Err(retry(
                FailureClass::Conflict,
                "another import runs at the same time: let it finish",
            ));
        };
        transaction.commit().await?;
        Ok(ImportProgress {
            rows,
            up_to_id,
            last_id,
        })
    }
}

/// True for a time of receipt that can be kept: partitions exist only for days that have a name and fit 64-bit
/// nanoseconds.
const KEPT: &str = "(created_at >= '1970-01-01' AND created_at < '2262-01-01')";

/// Our transactions are in UTC, so a time without a zone is converted as UTC.
const CREATED_AT: &str = "(CASE WHEN created_at >= '1970-01-01' AND created_at < '2262-01-01' \
     THEN created_at::timestamptz ELSE now() END)";

/// Returns the statement that copies the chunk after `$1` up to `$2`. Ids of the OTLP kinds are converted to lower
/// case, which queries use.
fn copy_chunk() -> String {
    let replaced = EventFlags::RECEIVE_TIME_REPLACED.0;
    format!(
        "INSERT INTO telemetry_events (id, timestamp, created_at, flags, correlation_id, integration, provider, \
                                       event_type, trace_id, span_id, metadata) \
         SELECT id, coalesce(timestamp, (extract(epoch FROM {CREATED_AT}) * 1000)::bigint), {CREATED_AT}, \
                CASE WHEN {KEPT} THEN NULL ELSE {replaced} END, coalesce(correlation_id, ''), \
                coalesce(integration, ''), provider, coalesce(event_type, ''), \
                CASE WHEN trace_id ~ '^[0-9A-Fa-f]{{32}}$' THEN lower(trace_id) ELSE trace_id END, \
                CASE WHEN span_id ~ '^[0-9A-Fa-f]{{16}}$' THEN lower(span_id) ELSE span_id END, \
                coalesce(metadata, '{{}}') \
         FROM telemetry_events_v0 WHERE id > $1 AND id <= $2 ORDER BY id"
    )
}
