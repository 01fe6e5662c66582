//! The statements of an aggregation: one row for each group in PostgreSQL, one for each event in SQLite.
//!
//! PostgreSQL counts durations by the buckets of [`crate::duration_sketch`], so that a group is one row with its sketch as
//! a text: `bucket:number`, separated by commas. SQLite would sort all events in this process's memory for that.
//!
//! **Invariant:** PostgreSQL puts each duration into the bucket that [`crate::duration_sketch::bucket`] gives it.

use crate::duration_sketch::{BUCKETS_PER_DOUBLING, EXACT_BELOW_NS};
use crate::query::aggregate::parameters::Aggregation;
use crate::query::select;
use crate::query::statement::{Dialect, SqlStatement, SqlValue};

/// 1 for an event that reports an error, else 0: the status of a span, the severity of a log record.
const ERROR: &str = "CASE WHEN e.event_type = 'span' AND e.status = 'ERROR' \
                     OR e.event_type = 'log' AND e.status IN ('ERROR', 'FATAL') THEN 1 ELSE 0 END";

/// The greatest number of low bits of a duration, a positive `BIGINT`, that its bucket does not distinguish.
const GREATEST_SHIFT: u32 = i64::BITS - 1 - EXACT_BELOW_NS.ilog2();

/// Makes the statement for the groups in PostgreSQL. Its columns are the start of the group in Unix ms, the columns of the
/// group, the number of its events, of its errors, and the sketch. The earliest groups come first, the largest of a time
/// before the others. Within the statement, `d` is a duration, `s` the number of its low bits that its bucket `b` does not
/// distinguish, and `n` the number of events in a bucket.
pub(super) fn groups(aggregation: &Aggregation) -> SqlStatement {
    let keys: String = (0..aggregation.by.len())
        .map(|index| format!(", k{index}"))
        .collect();
    let shift = shift(0, GREATEST_SHIFT);
    let mut sql = SqlStatement::new(
        Dialect::Postgres,
        &format!(
            "SELECT t{keys}, CAST(sum(n) AS BIGINT) AS events, CAST(sum(errors) AS BIGINT), \
             string_agg(b || ':' || n, ',') \
             FROM (SELECT t{keys}, CASE WHEN d IS NOT NULL THEN {BUCKETS_PER_DOUBLING} * s + (d >> s) END AS b, \
             count(*) AS n, sum(error) AS errors FROM (SELECT t{keys}, error, d, {shift} AS s FROM ("
        ),
    );
    push_events(&mut sql, aggregation);
    sql.push(&format!(
        ") e0) e1 GROUP BY t{keys}, b) e2 GROUP BY t{keys} ORDER BY t, events DESC{keys} LIMIT "
    ))
    .int(i64::from(aggregation.groups) + 1);
    sql
}

/// Makes the statement for the events in SQLite. Its columns are the start of the event's group in Unix ms, the columns of
/// the group, 1 for an error, and the duration.
pub(super) fn events(aggregation: &Aggregation) -> SqlStatement {
    let mut sql = SqlStatement::new(Dialect::Sqlite, "");
    push_events(&mut sql, aggregation);
    sql
}

/// Appends the statement for the columns `t`, `k0`, `k1`, …, `error` and `d` of each event.
fn push_events(sql: &mut SqlStatement, aggregation: &Aggregation) {
    sql.push("SELECT ");
    push_time(sql, aggregation);
    for (index, column) in aggregation.by.iter().enumerate() {
        sql.push(&format!(", {} AS k{index}", column.column()));
    }
    sql.push(", ").push(ERROR).push(
        " AS error, CASE WHEN e.duration_ns < 0 THEN 0 ELSE e.duration_ns END AS d FROM telemetry_events e WHERE true",
    );
    select::push_range(sql, &aggregation.search);
    select::push_filters(sql, &aggregation.search);
}

/// Appends the start of an event's group in time, in Unix ms, as the column `t`.
fn push_time(sql: &mut SqlStatement, aggregation: &Aggregation) {
    match aggregation.bucket_ms {
        None => sql.push("CAST(NULL AS BIGINT) AS t"),
        Some(width_ms) => {
            // A remainder has the sign of the time.
            let width = sql.keep(SqlValue::Int(width_ms));
            sql.push(&format!(
                "e.timestamp - (e.timestamp % {width} + {width}) % {width} AS t"
            ))
        }
    };
}

/// Returns the expression for the number of low bits of `d` that its bucket does not distinguish, from `least` to
/// `greatest`.
fn shift(least: u32, greatest: u32) -> String {
    if least == greatest {
        return least.to_string();
    }
    let middle = u32::midpoint(least, greatest);
    let above = EXACT_BELOW_NS << middle;
    let (lower, upper) = (shift(least, middle), shift(middle + 1, greatest));
    format!("CASE WHEN d < {above} THEN {lower} ELSE {upper} END")
}
