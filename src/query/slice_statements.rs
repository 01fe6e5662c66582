//! The statements of a search that PostgreSQL answers window by window and slice by slice.
//!
//! **Invariant:** a statement adds conditions that its part of the search implies, and no others.

use crate::query::cursor::{PageKey, SortOrder};
use crate::query::days::{Days, Slice};
use crate::query::filter::{Filter, Quantity, TextColumn};
use crate::query::rest_of_search::RestOfSearch;
use crate::query::search::Search;
use crate::query::select::{self, TextLength};
use crate::query::statement::{Dialect, SqlStatement, SqlValue};

/// Makes the statement of step 1: the matches among the first `rows` rows of the range, and among those of the same
/// millisecond as the last.
pub(super) fn window(search: &Search, rows: u32) -> SqlStatement {
    select::events(Dialect::Postgres, search.order, |sql| {
        sql.push("SELECT * FROM (SELECT * FROM telemetry_events e WHERE true");
        select::push_range(sql, search);
        sql.push(match search.order {
            SortOrder::NewestFirst => " ORDER BY e.timestamp DESC",
            SortOrder::OldestFirst => " ORDER BY e.timestamp",
        });
        sql.push(" FETCH FIRST ").int(i64::from(rows));
        sql.push(" ROWS WITH TIES) e WHERE true");
        select::push_filters(sql, search);
        select::push_order(sql, search.order, "e");
        select::push_slice(sql, search.wanted(), search.offset);
    })
}

/// Makes the statement of step 2: the matches in a slice, if these are fewer than `too_many` rows, else one of them; the
/// column `found` is their number, at most `too_many`. As many of these rows as the search's offset are skipped.
pub(super) fn any_order(search: &Search, slice: Slice, too_many: usize) -> SqlStatement {
    let (dialect, texts) = (Dialect::Postgres, TextLength::Short);
    select::with_resources(dialect, texts, search.order, ", e.found", |sql| {
        sql.push(
            "SELECT * FROM (SELECT *, count(*) OVER () AS found, row_number() OVER () AS n \
             FROM (SELECT * FROM telemetry_events e WHERE true",
        );
        if is_found_by_time(search, slice) {
            push_slice(sql, slice, "e.timestamp");
            select::push_range(sql, search);
        } else {
            push_slice(sql, slice, SUMMARISED_TIME);
            push_summarised_range(sql, search);
        }
        select::push_filters(sql, search);
        push_pair(sql, search);
        let too_many = i64::try_from(too_many).unwrap_or(i64::MAX);
        sql.push(" LIMIT ").int(too_many);
        sql.push(") e) e WHERE e.found < ").int(too_many);
        sql.push(" OR e.n = 1");
        select::push_order(sql, search.order, "e");
        select::push_slice(sql, search.wanted(), search.offset);
    })
}

/// Makes the statement for the matches in a slice, without restrictions on the plan; above the key `floor` if given.
pub(super) fn in_order(rest: &RestOfSearch, slice: Slice, floor: Option<PageKey>) -> SqlStatement {
    let search = &rest.search;
    select::events(Dialect::Postgres, search.order, |sql| {
        sql.push("SELECT * FROM telemetry_events e WHERE true");
        push_slice(sql, slice, "e.timestamp");
        select::push_range(sql, search);
        if let Some(key) = floor {
            select::push_beyond(sql, ">", key);
        }
        select::push_filters(sql, search);
        select::push_order(sql, search.order, "e");
        select::push_slice(sql, search.wanted(), 0);
    })
}

/// Makes the statement for one event of these days that may be above the key `floor`, whatever else the search asks for.
pub(super) fn any_above(search: &Search, days: Days, floor: PageKey) -> SqlStatement {
    let mut sql = SqlStatement::new(Dialect::Postgres, ANY_EVENT);
    select::push_days(&mut sql, days);
    push_probed_range(&mut sql, search);
    push_probed_time(&mut sql, ">=", Some(floor.timestamp));
    sql.push(" LIMIT 1");
    sql
}

/// Makes the statement for the matches received outside these days, without restrictions on the plan.
pub(super) fn outside(search: &Search, days: Days) -> SqlStatement {
    select::events(Dialect::Postgres, search.order, |sql| {
        sql.push("SELECT * FROM telemetry_events e WHERE true");
        select::push_outside(sql, days);
        select::push_range(sql, search);
        select::push_filters(sql, search);
        select::push_order(sql, search.order, "e");
        select::push_slice(sql, search.wanted(), 0);
    })
}

/// Makes the statement for one event in the search's range, received outside these days, whatever else the search asks
/// for.
pub(super) fn any_outside(search: &Search, days: Days) -> SqlStatement {
    let mut sql = SqlStatement::new(Dialect::Postgres, ANY_EVENT);
    select::push_outside(&mut sql, days);
    push_probed_range(&mut sql, search);
    sql.push(" LIMIT 1");
    sql
}

const ANY_EVENT: &str = "SELECT e.id FROM telemetry_events e WHERE true";

/// Appends the bounds of a search's range for a statement that finds an event or usually none. The end of the previous
/// page is a bound of times alone.
fn push_probed_range(sql: &mut SqlStatement, search: &Search) {
    for filter in &search.filters {
        if let Filter::AtLeast(Quantity::Received, _) | Filter::AtMost(Quantity::Received, _) =
            filter
        {
            sql.push(" AND ");
            filter.push(sql);
        }
    }
    push_probed_time(sql, ">=", search.earliest_ms());
    push_probed_time(sql, "<=", search.latest_ms());
}

/// Appends a bound of times as a subselect, whose value the planner does not know. It would estimate a known value by the
/// statistics of each partition and by the ends of its index, which takes longer than the statement itself.
fn push_probed_time(sql: &mut SqlStatement, sign: &str, bound_ms: Option<i64>) {
    if let Some(ms) = bound_ms {
        sql.push(&format!(" AND e.timestamp {sign} (SELECT "))
            .int(ms);
        sql.push(")");
    }
}

/// The event's own time in the form that the block ranges summarise. The index on `timestamp` does not apply to it: the
/// planner would prefer that index for many slices, although it leads to each of their rows.
const SUMMARISED_TIME: &str = "(e.timestamp + 0)";

/// Returns `true` if few rows of the slice's days are in the range of the search, so that the index on `timestamp` is
/// the best one.
fn is_found_by_time(search: &Search, slice: Slice) -> bool {
    let is_before = |from_us: i64| {
        search
            .latest_ms()
            .is_some_and(|latest| latest < from_us / 1000)
    };
    slice.days.from.is_none_or(is_before)
}

fn push_slice(sql: &mut SqlStatement, slice: Slice, time: &str) {
    select::push_days(sql, slice.days);
    if let Some(from) = slice.from_ms {
        sql.push(&format!(" AND {time} >= ")).int(from);
    }
    if let Some(to) = slice.to_ms {
        sql.push(&format!(" AND {time} < ")).int(to);
    }
}

/// Appends the search's range as [`select::push_range`] does, for the block ranges.
fn push_summarised_range(sql: &mut SqlStatement, search: &Search) {
    for filter in search.filters.iter().filter(|filter| filter.is_range()) {
        sql.push(" AND ");
        match filter {
            Filter::AtLeast(Quantity::Time, ms) => sql.push(SUMMARISED_TIME).push(" >= ").int(*ms),
            Filter::AtMost(Quantity::Time, ms) => sql.push(SUMMARISED_TIME).push(" <= ").int(*ms),
            _ => filter.push(sql),
        }
    }
    if let Some(key) = search.after {
        let sign = match search.order {
            SortOrder::NewestFirst => "<",
            SortOrder::OldestFirst => ">",
        };
        sql.push(&format!(" AND {SUMMARISED_TIME} {sign}= "))
            .int(key.timestamp);
        let timestamp = sql.keep(SqlValue::Int(key.timestamp));
        let id = sql.keep(SqlValue::Int(key.id));
        sql.push(&format!(
            " AND ({SUMMARISED_TIME} {sign} {timestamp} OR e.id {sign} {id})"
        ));
    }
}

/// Appends the condition on integration and name together that the block ranges summarise. Nearly every range has each
/// of two common values, but few have a row with both.
fn push_pair(sql: &mut SqlStatement, search: &Search) {
    let integration = search.equal(TextColumn::Integration);
    if let Some((integration, name)) = integration.zip(search.equal(TextColumn::Name)) {
        sql.push(" AND hashtext(e.integration) # hashtext(e.name) = hashtext(");
        sql.text(integration);
        sql.push(") # hashtext(").text(name);
        sql.push(")");
    }
}

#[cfg(test)]
mod tests {
    use super::{any_above, any_outside};
    use crate::query::cursor::{PageKey, SortOrder};
    use crate::query::days::{DAY_US, Days};
    use crate::query::filter::{Filter, Quantity, TextColumn};
    use crate::query::search::Search;

    /// A known bound takes the planner a third of its time for each partition.
    #[test]
    fn the_planner_learns_no_time_of_a_probe_but_all_bounds_of_receipt() {
        let search = Search {
            filters: vec![
                Filter::AtLeast(Quantity::Time, 11),
                Filter::AtMost(Quantity::Time, 22),
                Filter::AtLeast(Quantity::Received, 33),
                Filter::AtMost(Quantity::Received, 44),
                Filter::Equal(TextColumn::Name, "name".to_owned()),
            ],
            order: SortOrder::OldestFirst,
            limit: 10,
            offset: 0,
            after: Some(PageKey {
                timestamp: 15,
                id: 1,
            }),
        };
        let days = Days {
            from: Some(0),
            to: Some(DAY_US),
        };
        let range = "e.created_at >= $3 AND e.created_at < $4 \
                     AND e.timestamp >= (SELECT $5) AND e.timestamp <= (SELECT $6)";
        let begin = "SELECT e.id FROM telemetry_events e WHERE true AND";
        assert_eq!(
            any_outside(&search, days).text,
            format!(
                "{begin} (false OR e.created_at < $1 OR e.created_at >= $2) AND {range} LIMIT 1"
            )
        );
        let floor = PageKey {
            timestamp: 66,
            id: 2,
        };
        assert_eq!(
            any_above(&search, days, floor).text,
            format!(
                "{begin} e.created_at >= $1 AND e.created_at < $2 AND {range} AND e.timestamp >= (SELECT $7) LIMIT 1"
            )
        );
    }
}
