//! The days that have partitions.
//!
//! A partition is created as a separate table and then attached. That takes no lock that an insert or a query waits
//! for, whereas `CREATE TABLE … PARTITION OF` waits for every reader and stalls all inserts in the meantime.
//!
//! **Invariant:** a day is in the cache only if a partition held it when the database was last read.

use std::collections::BTreeSet;
use std::sync::Mutex;

use sqlx::AssertSqlSafe;

use crate::store::StoreError;
use crate::store::plausible_time::DAY_US;
use crate::store::postgres::lock;
use crate::store::postgres::migrations::MIGRATION_LOCK;
use crate::store::postgres::transaction::{Transaction, TransactionConnection};

/// Number of days after today for which partitions are created.
pub(super) const DAYS_AHEAD: i64 = 7;

const MAKING: &str = "making partitions";

const PARTITION_LOCK: i64 = MIGRATION_LOCK + 1;

/// A day in UTC, counted from 2000-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(pub(super) i64);

impl Day {
    /// Returns the day of a time in microseconds since 2000-01-01 UTC.
    pub(super) const fn of(time_us: i64) -> Self {
        Self(time_us.div_euclid(DAY_US))
    }

    pub(super) fn start_us(self) -> i64 {
        self.0.saturating_mul(DAY_US)
    }

    /// Returns the date; `None` past the year 9999, where dates have no name.
    fn date(self) -> Option<jiff::civil::Date> {
        let days = jiff::Span::new().try_days(self.0).ok()?;
        jiff::civil::date(2000, 1, 1).checked_add(days).ok()
    }
}

/// A time span that one partition holds, in microseconds since 2000-01-01 UTC.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct CoveredDays {
    from_us: i64,
    to_us: i64,
}

impl CoveredDays {
    fn holds(&self, day: Day) -> bool {
        self.from_us <= day.start_us() && Day(day.0 + 1).start_us() <= self.to_us
    }
}

/// The cached partitions, and the days that were written to since the last maintenance.
#[derive(Default)]
pub(super) struct Partitions {
    covered: Mutex<Vec<CoveredDays>>,
    written: Mutex<BTreeSet<Day>>,
}

impl Partitions {
    pub(super) fn learn(&self, covered: Vec<CoveredDays>) {
        *lock(&self.covered) = covered;
    }

    pub(super) fn clear(&self) {
        lock(&self.covered).clear();
    }

    /// Returns those of the days that no cached partition holds.
    pub(super) fn missing(&self, days: &BTreeSet<Day>) -> Vec<Day> {
        let covered = lock(&self.covered);
        days.iter()
            .copied()
            .filter(|day| !covered.iter().any(|span| span.holds(*day)))
            .collect()
    }

    /// Returns the number of days after `today` in the unbroken run of days with partitions, at most 366.
    pub(super) fn days_ahead(&self, today: Day) -> u32 {
        let covered = lock(&self.covered);
        let held = |day: &i64| covered.iter().any(|span| span.holds(Day(*day)));
        let ahead = (today.0 + 1..=today.0 + 366).take_while(held).count();
        u32::try_from(ahead).unwrap_or(u32::MAX)
    }

    pub(super) fn note_written(&self, days: BTreeSet<Day>) {
        lock(&self.written).extend(days);
    }

    pub(super) fn written(&self) -> BTreeSet<Day> {
        lock(&self.written).clone()
    }

    pub(super) fn take_written(&self) -> BTreeSet<Day> {
        std::mem::take(&mut lock(&self.written))
    }
}

/// The partitions with their bounds in microseconds since 2000-01-01 UTC; NULL if a bound is not a time. A default
/// partition, which only a user can have made, holds no day.
pub(super) const ATTACHED: &str = "\
    SELECT c.oid, c.relname::text AS name, format('%I.%I', n.nspname, c.relname) AS qualified, i.inhdetachpending AS pending, \
           CASE WHEN isfinite(b.lower) THEN (extract(epoch FROM b.lower) * 1000000)::bigint - 946684800000000 END AS from_us, \
           CASE WHEN isfinite(b.upper) THEN (extract(epoch FROM b.upper) * 1000000)::bigint - 946684800000000 END AS to_us \
    FROM pg_inherits i \
    JOIN pg_class c ON c.oid = i.inhrelid \
    JOIN pg_namespace n ON n.oid = c.relnamespace \
    CROSS JOIN LATERAL pg_get_expr(c.relpartbound, c.oid) AS bound \
    CROSS JOIN LATERAL (SELECT substring(bound FROM 'FROM [(]''([^'']+)''[)]')::timestamptz AS lower, \
                               substring(bound FROM 'TO [(]''([^'']+)''[)]')::timestamptz AS upper) AS b \
    WHERE i.inhparent = to_regclass('telemetry_events') AND bound <> 'DEFAULT'";

/// The mark of a table that is about to be detached, followed by the end of its time. If a removal is interrupted, the
/// mark shows that it has to be finished; a day that an operator detached to keep has no mark.
pub(super) const MARK: &str = "ruvvector: removed by retention";

/// Tables that were marked and detached, and are not dropped yet, with the end of their time in microseconds since
/// 2000-01-01 UTC. Earlier versions marked only days, whose names contain the date.
pub(super) const MARKED: &str = "\
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS qualified, \
           coalesce((extract(epoch FROM substring(d.description FROM ', received before ([0-9TZ:.-]+)$')::timestamptz) \
                     * 1000000)::bigint - 946684800000000, \
                    (substring(c.relname FROM '^telemetry_events_([0-9]{8})(?:_[0-9]+)?$')::date - date '2000-01-01' + 1) \
                     * 86400000000) AS to_us \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0 \
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND d.description LIKE 'ruvvector: removed by retention%' \
      AND c.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('telemetry_events'))";

/// Number of rows from which a new partition's statistics are useful.
const FIRST_ANALYZE_ROWS: i64 = 50_000;

/// A partition with the server's counts.
#[derive(sqlx::FromRow)]
pub(super) struct Partition {
    /// Schema and name, both quoted.
    pub(super) qualified: String,
    pub(super) name: String,
    /// True if an earlier detach was interrupted.
    pub(super) pending: bool,
    from_us: Option<i64>,
    pub(super) to_us: Option<i64>,
    pub(super) inserted: i64,
    pub(super) needs_analyze: bool,
}

impl Partition {
    pub(super) fn holds(&self, day: Day) -> bool {
        self.from_us.is_none_or(|from| from <= day.start_us())
            && self.to_us.is_none_or(|to| day.start_us() < to)
    }
}

impl<'a> Transaction<'a> {
    /// Returns the spans that the attached partitions hold. A partition whose detach is pending holds none.
    pub(super) async fn covered_days(&mut self) -> Result<Vec<CoveredDays>, StoreError> {
        let spans = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT coalesce(from_us, ({min})::bigint) AS from_us, coalesce(to_us, ({max})::bigint) AS to_us \
             FROM ({ATTACHED}) p WHERE NOT pending",
            min = i64::MIN,
            max = i64::MAX
        )));
        self.rows("reading the partitions", spans).await
    }

    /// Returns the partitions, oldest first.
    pub(super) async fn partition_list(&mut self) -> Result<Vec<Partition>, StoreError> {
        let partitions = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT p.name, p.qualified, p.pending, p.from_us, p.to_us, \
                    coalesce(s.n_tup_ins, 0) AS inserted, \
                    coalesce(CASE WHEN greatest(s.last_analyze, s.last_autoanalyze) IS NULL \
                                  THEN s.n_tup_ins >= {FIRST_ANALYZE_ROWS} \
                                  ELSE s.n_mod_since_analyze > 0 \
                                       AND greatest(s.last_analyze, s.last_autoanalyze) < now() - interval '1 day' \
                             END, false) AS needs_analyze \
             FROM ({ATTACHED}) p LEFT JOIN pg_stat_all_tables s ON s.relid = p.oid \
             ORDER BY p.from_us NULLS FIRST"
        )));
        self.rows("reading the partitions", partitions).await
    }

    /// Returns the end of the oldest day, in microseconds since 2000-01-01 UTC. A day that was detached and not dropped
    /// takes the same space as before.
    pub(super) async fn oldest_day_end(
        &mut self,
        doing: &'static str,
    ) -> Result<Option<i64>, StoreError> {
        let oldest = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT min(to_us) FROM (SELECT to_us FROM ({ATTACHED}) a UNION ALL SELECT to_us FROM ({MARKED}) m) days"
        )));
        let (end_us,) = self.one(doing, oldest).await?;
        Ok(end_us)
    }

    /// Creates the partitions of the days that have none, and ends the transaction. Returns its connection.
    pub(super) async fn make_partitions(
        mut self,
        days: &BTreeSet<Day>,
    ) -> Result<TransactionConnection<'a>, StoreError> {
        let made = self.attach_missing(days).await;
        let partitions = &self.store.shared.partitions;
        let ended = self.end(if made.is_ok() { "COMMIT" } else { "ROLLBACK" });
        let ended = ended.await;
        let covered = made?;
        let connection = ended?;
        partitions.learn(covered);
        Ok(connection)
    }

    /// Creates and attaches the missing partitions. Returns the spans that all partitions then hold.
    async fn attach_missing(
        &mut self,
        days: &BTreeSet<Day>,
    ) -> Result<Vec<CoveredDays>, StoreError> {
        // This waits for another collector that creates the same partition, but not for a lock on the table.
        let take_turn = format!(
            "SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({PARTITION_LOCK}); SET LOCAL lock_timeout = 2000"
        );
        self.run_all(MAKING, AssertSqlSafe(take_turn)).await?;
        let covered = self.covered_days().await?;
        let partitions = &self.store.shared.partitions;
        partitions.learn(covered);
        for day in partitions.missing(days) {
            let (Some(from), Some(to)) = (day.date(), Day(day.0 + 1).date()) else {
                continue;
            };
            let name = self.free_name(from).await?;
            let attach = format!(
                "CREATE TABLE {name} (LIKE telemetry_events INCLUDING DEFAULTS INCLUDING CONSTRAINTS \
                 INCLUDING STORAGE INCLUDING COMPRESSION); \
                 ALTER TABLE telemetry_events ATTACH PARTITION {name} \
                 FOR VALUES FROM ('{from} 00:00:00+00') TO ('{to} 00:00:00+00')"
            );
            self.run_all(MAKING, AssertSqlSafe(attach)).await?;
        }
        self.covered_days().await
    }

    /// Returns `telemetry_events_20260131`, or that with a number if a separate table of that name exists: a day that
    /// was detached and kept is never filled again.
    async fn free_name(&mut self, day: jiff::civil::Date) -> Result<String, StoreError> {
        let base = format!("telemetry_events_{}", day.strftime("%Y%m%d"));
        let mut name = base.clone();
        let mut number = 1;
        loop {
            let is_free = sqlx::query_as("SELECT to_regclass($1) IS NULL").bind(&name);
            if let (true,) = self.one(MAKING, is_free).await? {
                return Ok(name);
            }
            number += 1;
            name = format!("{base}_{number}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{CoveredDays, DAY_US, Day, Partitions};

    #[test]
    fn a_time_before_2000_falls_on_the_day_that_holds_it() {
        assert_eq!(Day::of(-1), Day(-1));
        assert_eq!(Day::of(0), Day(0));
        assert_eq!(Day::of(DAY_US), Day(1));
        assert_eq!(
            Day(-10_957).date().expect("in range").to_string(),
            "1970-01-01"
        );
    }

    #[test]
    fn a_day_is_held_only_as_a_whole() {
        let partitions = Partitions::default();
        partitions.learn(vec![
            CoveredDays {
                from_us: 0,
                to_us: 3 * DAY_US,
            },
            CoveredDays {
                from_us: 4 * DAY_US + 1,
                to_us: 6 * DAY_US,
            },
        ]);
        let days: BTreeSet<Day> = (-1..7).map(Day).collect();
        assert_eq!(partitions.missing(&days), [Day(-1), Day(3), Day(4), Day(6)]);
        assert_eq!(partitions.days_ahead(Day(0)), 2);
    }
}
