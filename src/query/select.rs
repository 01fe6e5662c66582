//! The statements of queries: the same text for both stores, except for JSON and the receive time.
//!
//! **Invariant:** every statement reads the columns that [`super::page`] expects, in the order of the search.

use crate::query::RESOURCES_LISTED;
use crate::query::answer_memory::LARGE_ROW_BYTES;
use crate::query::cursor::{PageKey, SortOrder};
use crate::query::days::Days;
use crate::query::filter::{Filter, push_on_resource};
use crate::query::search::Search;
use crate::query::statement::{Dialect, SqlStatement, SqlValue};

/// The texts (metadata, resource and scope) that a statement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextLength {
    /// All texts, of any length.
    Whole,
    /// The texts of rows with at most [`LARGE_ROW_BYTES`] of them; of larger rows only their length.
    Short,
}

/// Returns the columns that [`super::page`] reads, from the event `e` and its resource `r`.
fn columns(dialect: Dialect, texts: TextLength) -> String {
    let (created_at, [metadata, resource, scope]) = match dialect {
        Dialect::Postgres => (
            "CAST(extract(epoch FROM e.created_at) * 1000000 AS BIGINT)",
            ["t.metadata", "t.resource", "t.scope"],
        ),
        Dialect::Sqlite => ("e.created_at", ["e.metadata", "r.resource", "r.scope"]),
    };
    let bytes = format!(
        "octet_length({metadata}) + coalesce(octet_length({resource}) + octet_length({scope}), 0)"
    );
    let sent = |text: &str| match texts {
        TextLength::Whole => text.to_owned(),
        TextLength::Short => format!("CASE WHEN {bytes} <= {LARGE_ROW_BYTES} THEN {text} END"),
    };
    let (metadata, resource, scope) = (sent(metadata), sent(resource), sent(scope));
    let unread = match texts {
        TextLength::Whole => "NULL".to_owned(),
        TextLength::Short => format!("CASE WHEN {bytes} > {LARGE_ROW_BYTES} THEN {bytes} END"),
    };
    format!(
        "e.timestamp, e.id, e.correlation_id, e.integration, e.provider, e.event_type, {metadata}, e.trace_id, e.span_id, \
         {created_at}, e.parent_span_id, e.name, e.time_unix_nano, e.duration_ns, CAST(e.kind AS BIGINT), e.status, \
         CAST(e.flags AS BIGINT), {resource}, {scope}, CAST({unread} AS BIGINT)"
    )
}

/// Makes a statement that joins the resources to the rows of a subquery.
///
/// The subquery, which `rows` appends, selects the columns of [`selected`].
pub(super) fn with_resources(
    dialect: Dialect,
    texts: TextLength,
    order: SortOrder,
    more_columns: &str,
    rows: impl FnOnce(&mut SqlStatement),
) -> SqlStatement {
    let mut sql = SqlStatement::new(dialect, "SELECT ");
    sql.push(&columns(dialect, texts))
        .push(more_columns)
        .push(" FROM (");
    rows(&mut sql);
    sql.push(match dialect {
        // Each text is converted from JSON once, for its length and its content: OFFSET keeps the planner from
        // converting it twice.
        Dialect::Postgres => {
            ") e LEFT JOIN telemetry_resources r ON r.id = e.resource_id \
             CROSS JOIN LATERAL (SELECT CAST(e.metadata AS TEXT) AS metadata, CAST(r.resource AS TEXT) AS resource, \
             CAST(r.scope AS TEXT) AS scope OFFSET 0) t"
        }
        Dialect::Sqlite => {
            ") k CROSS JOIN telemetry_events e ON e.id = k.id \
             LEFT JOIN telemetry_resources r ON r.id = e.resource_id"
        }
    });
    push_order(&mut sql, order, outer(dialect));
    sql
}

/// Returns the begin of a subquery. SQLite's selects keys alone, as SQLite sorts in this process's memory.
const fn selected(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "SELECT * FROM telemetry_events e WHERE ",
        Dialect::Sqlite => "SELECT e.timestamp, e.id FROM telemetry_events e WHERE ",
    }
}

/// Returns the alias that the outer statement is ordered by.
const fn outer(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Postgres => "e",
        Dialect::Sqlite => "k",
    }
}

/// Makes a statement for events in order, without their long texts.
pub(super) fn events(
    dialect: Dialect,
    order: SortOrder,
    rows: impl FnOnce(&mut SqlStatement),
) -> SqlStatement {
    with_resources(dialect, TextLength::Short, order, "", rows)
}

/// Makes the statement for the event with this id, received in these days.
pub(super) fn event(dialect: Dialect, id: i64, days: Days) -> SqlStatement {
    events(dialect, SortOrder::NewestFirst, |sql| {
        sql.push(selected(dialect)).push("e.id = ").int(id);
        push_days(sql, days);
        sql.push(" LIMIT 1");
    })
}

/// Makes the statement for the event with this id, received before or after these days.
pub(super) fn event_outside(dialect: Dialect, id: i64, days: Days) -> SqlStatement {
    events(dialect, SortOrder::NewestFirst, |sql| {
        sql.push(selected(dialect)).push("e.id = ").int(id);
        push_outside(sql, days);
        sql.push(" LIMIT 1");
    })
}

/// Makes the statement for the id of one event of these days, the first that the table has.
pub(super) fn first_id(dialect: Dialect, days: Days) -> SqlStatement {
    let mut sql = SqlStatement::new(dialect, "SELECT e.id FROM telemetry_events e WHERE true");
    push_days(&mut sql, days);
    sql.push(" LIMIT 1");
    sql
}

/// Makes the statement for the event with this key, with all of its texts.
pub(super) fn whole_event(dialect: Dialect, key: PageKey) -> SqlStatement {
    let order = SortOrder::NewestFirst;
    with_resources(dialect, TextLength::Whole, order, "", |sql| {
        sql.push(selected(dialect)).push("e.id = ").int(key.id);
        sql.push(" AND e.timestamp = ").int(key.timestamp);
        sql.push(" LIMIT 1");
    })
}

/// Makes the statement for a page in one step, with the plan left to the database.
pub(super) fn plain(dialect: Dialect, search: &Search) -> SqlStatement {
    events(dialect, search.order, |sql| {
        sql.push(selected(dialect)).push("true");
        push_range(sql, search);
        push_filters(sql, search);
        push_order(sql, search.order, "e");
        push_slice(sql, search.wanted(), search.offset);
    })
}

/// Makes the statement for the number of events that match a search.
pub(super) fn count(dialect: Dialect, search: &Search) -> SqlStatement {
    let mut sql = SqlStatement::new(
        dialect,
        "SELECT count(*) FROM telemetry_events e WHERE true",
    );
    push_range(&mut sql, search);
    push_filters(&mut sql, search);
    sql
}

/// Makes the statement for the ids of the resources that match all of the search's conditions on resources, up to one
/// more than [`RESOURCES_LISTED`].
pub(super) fn resource_ids(dialect: Dialect, search: &Search) -> SqlStatement {
    let mut sql = SqlStatement::new(dialect, "SELECT r.id FROM telemetry_resources r WHERE true");
    for filter in &search.filters {
        if let Filter::Resource(key, value) = filter {
            sql.push(" AND ");
            push_on_resource(&mut sql, key, value);
        }
    }
    sql.push(" LIMIT ").int(RESOURCES_LISTED + 1);
    sql
}

/// Appends the bounds of the receive time.
pub(super) fn push_days(sql: &mut SqlStatement, days: Days) {
    if let Some(from) = days.from {
        sql.push(" AND e.created_at >= ").micros(from);
    }
    if let Some(to) = days.to {
        sql.push(" AND e.created_at < ").micros(to);
    }
}

/// Appends the condition that the receive time is not within these days.
pub(super) fn push_outside(sql: &mut SqlStatement, days: Days) {
    sql.push(" AND (false");
    if let Some(from) = days.from {
        sql.push(" OR e.created_at < ").micros(from);
    }
    if let Some(to) = days.to {
        sql.push(" OR e.created_at >= ").micros(to);
    }
    sql.push(")");
}

/// Appends the bounds of times, and the end of the previous page.
pub(super) fn push_range(sql: &mut SqlStatement, search: &Search) {
    for filter in search.filters.iter().filter(|filter| filter.is_range()) {
        sql.push(" AND ");
        filter.push(sql);
    }
    if let Some(key) = search.after {
        let sign = match search.order {
            SortOrder::NewestFirst => "<",
            SortOrder::OldestFirst => ">",
        };
        push_beyond(sql, sign, key);
    }
}

/// Appends the condition that the event's key is below or above `key`. It compares the timestamp separately, as the
/// index has the timestamp alone.
pub(super) fn push_beyond(sql: &mut SqlStatement, sign: &str, key: PageKey) {
    let timestamp = sql.keep(SqlValue::Int(key.timestamp));
    let id = sql.keep(SqlValue::Int(key.id));
    sql.push(&format!(
        " AND e.timestamp {sign}= {timestamp} AND (e.timestamp {sign} {timestamp} OR e.id {sign} {id})"
    ));
}

/// Appends all conditions except the range.
pub(super) fn push_filters(sql: &mut SqlStatement, search: &Search) {
    // SQLite would prefer the index on a common integration, which has the page's order, to that on the correlation id;
    // `+` prevents the use of an index.
    let is_quick = search.filters.iter().any(Filter::is_quick);
    let off_index = sql.dialect == Dialect::Sqlite && is_quick;
    for filter in search.filters.iter().filter(|filter| !filter.is_range()) {
        sql.push(" AND ");
        if off_index && matches!(filter, Filter::Equal(..)) && !filter.is_quick() {
            sql.push("+");
        }
        filter.push(sql);
    }
}

/// Appends the order by the key of the table or subquery `of`.
pub(super) fn push_order(sql: &mut SqlStatement, order: SortOrder, of: &str) {
    let direction = match order {
        SortOrder::NewestFirst => " DESC",
        SortOrder::OldestFirst => "",
    };
    sql.push(&format!(
        " ORDER BY {of}.timestamp{direction}, {of}.id{direction}"
    ));
}

/// Appends the limit and the offset.
pub(super) fn push_slice(sql: &mut SqlStatement, wanted: i64, offset: u32) {
    sql.push(" LIMIT ").int(wanted);
    if offset > 0 {
        sql.push(" OFFSET ").int(i64::from(offset));
    }
}
