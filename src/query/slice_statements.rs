//! The statements of a search that PostgreSQL answers window by window and slice by slice.
//!
//! **Invariant:** a statement adds conditions that its part of the search implies, and no others.

use crate::query::cursor::{PageKey, SortOrder};
use crate::query::days::Slice;
use crate::query::filter::TextColumn;
use crate::query::rest_of_search::RestOfSearch;
use crate::query::search::Search;
use crate::query::select::{self, TextLength};
use crate::query::statement::{Dialect, SqlStatement};

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

/// Makes the statement of step 2: the matches in a slice, if these are fewer than `too_many` rows; the column `found`
/// is their number, at most `too_many`.
pub(super) fn any_order(search: &Search, slice: Slice, too_many: usize) -> SqlStatement {
    let (dialect, texts) = (Dialect::Postgres, TextLength::Short);
    select::with_resources(dialect, texts, search.order, ", e.found", |sql| {
        sql.push(
            "SELECT *, count(*) OVER () AS found FROM (SELECT * FROM telemetry_events e WHERE true",
        );
        push_slice(sql, slice);
        select::push_range(sql, search);
        select::push_filters(sql, search);
        push_pair(sql, search);
        sql.push(" LIMIT ")
            .int(i64::try_from(too_many).unwrap_or(i64::MAX));
        sql.push(") e");
        select::push_order(sql, search.order, "e");
        select::push_slice(sql, search.wanted(), 0);
    })
}

/// Makes the statement for the matches in a slice, without restrictions on the plan; above the key `floor` if given.
pub(super) fn in_order(rest: &RestOfSearch, slice: Slice, floor: Option<PageKey>) -> SqlStatement {
    let search = &rest.search;
    select::events(Dialect::Postgres, search.order, |sql| {
        sql.push("SELECT * FROM telemetry_events e WHERE true");
        push_slice(sql, slice);
        select::push_range(sql, search);
        if let Some(key) = floor {
            select::push_beyond(sql, ">", key);
        }
        select::push_filters(sql, search);
        select::push_order(sql, search.order, "e");
        select::push_slice(sql, search.wanted(), 0);
    })
}

fn push_slice(sql: &mut SqlStatement, slice: Slice) {
    select::push_days(sql, slice.days);
    if let Some(from) = slice.from_ms {
        sql.push(" AND e.timestamp >= ").int(from);
    }
    if let Some(to) = slice.to_ms {
        sql.push(" AND e.timestamp < ").int(to);
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
