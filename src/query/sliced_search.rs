//! A search in PostgreSQL, fast for common, rare and absent values.
//!
//! The indexes answer a trace, a correlation id and a range of times directly. Every other search has three steps:
//!
//! 1. Search the newest [`crate::query::Options::window_rows`] by the index on `timestamp`. Common values fill the page from
//!    these.
//! 2. If the page is not full and a filter can skip block ranges, search the table in slices, newest first: ranges of days,
//!    or parts of a day. These statements have no order, so that the planner uses the summaries of the block ranges: a day
//!    without the value costs next to nothing. The times of the events found so far decide the length of the next slice.
//!    A slice with many matches is split, and its newest part is searched first.
//! 3. Once the page is full, the rest of the table can only add events that precede the page's last one. Usually it has no
//!    such event at all, which the index on `timestamp` shows.
//!
//! A search for several conditions in a short time is first asked of the days of that time, as one slice. So is a search
//! whose page had a known end the last time, of the days and times before that end.
//!
//! **Invariant:** the steps decide the order of searching, never the result: the page equals that of the plain
//! statement.

use std::cmp::Reverse;

use crate::query::cursor::SortOrder;
use crate::query::days::{Days, Slice};
use crate::query::error::QueryError;
use crate::query::filter::Filter;
use crate::query::page::ResultPage;
use crate::query::postgres::{PostgresQuery, now_micros};
use crate::query::rest_of_search::RestOfSearch;
use crate::query::search::Search;
use crate::query::select;
use crate::query::slice_queue::{NextPart, SliceQueue};
use crate::query::slice_statements::{
    any_above, any_order, any_outside, in_order, outside, window,
};
use crate::query::statement::{Dialect, SqlStatement};

/// Least number of matches from which a slice is split.
const MANY_MATCHES: usize = 200;

/// Number of events from which a trace or correlation id has too many to sort them all for a page.
const MANY_OF_AN_ID: usize = 10_000;

/// Factor by which a second window is larger.
const WIDER: u32 = 10;

/// The matches in a slice.
enum SliceMatches {
    All(ResultPage),
    /// More than a page; these were not read to the end.
    TooMany,
}

impl PostgresQuery<'_> {
    /// Finds the events of a page, up to one more than its limit, which shows if another page follows.
    pub(super) async fn search(&mut self, search: &Search) -> Result<ResultPage, QueryError> {
        if search.filters.iter().any(Filter::is_quick) {
            return self.by_id(search).await;
        }
        if search.filters.iter().all(Filter::is_range) {
            return self.rows(select::plain(Dialect::Postgres, search)).await;
        }
        let skips_blocks = search.offset == 0 && search.filters.iter().any(Filter::skips_blocks);
        if !skips_blocks {
            return self.by_windows(search).await;
        }
        if let Some(span) = search.narrow_span() {
            let days = Days::of_span(&span);
            if let Some(page) = self.by_days(search, days).await? {
                return Ok(page);
            }
        }
        if let Some(page) = self.by_known_end(search).await? {
            return Ok(page);
        }
        let mut rest = RestOfSearch::new(search);
        let rows = self.reader.options.window_rows;
        if !self.by_window(search, &mut rest, rows).await? {
            self.by_slices(&mut rest).await?;
            let page_ends = self.reader.page_ends;
            page_ends.learn(search, &rest.page, rest.wanted);
        }
        Ok(rest.page)
    }

    /// Searches for a trace or a correlation id. Its events are found by their index and then sorted. With the order in the
    /// same statement, the planner would read the whole table by time for a small page of few events, to save sorting them.
    /// If there are too many events, the plan is left to the planner: the newest of a common id are near the table's end.
    async fn by_id(&mut self, search: &Search) -> Result<ResultPage, QueryError> {
        let everywhere = Slice::of(Days::ALL);
        match self.slice(search, everywhere, MANY_OF_AN_ID).await? {
            SliceMatches::All(found) => Ok(found),
            SliceMatches::TooMany => self.rows(select::plain(Dialect::Postgres, search)).await,
        }
    }

    /// Searches a window and, if that shows that the page will be full, a larger one; then all rows in order. Without block
    /// ranges that can be skipped, a wide window costs less than a second one.
    async fn by_windows(&mut self, search: &Search) -> Result<ResultPage, QueryError> {
        let mut rest = RestOfSearch::new(search);
        let rows = 4 * self.reader.options.window_rows;
        for rows in [rows, rows.saturating_mul(WIDER)] {
            let found_before = rest.page.events.len();
            if self.by_window(search, &mut rest, rows).await? {
                return Ok(rest.page);
            }
            let found = rest.page.events.len().saturating_sub(found_before);
            if found * usize::try_from(WIDER).unwrap_or(usize::MAX) < rest.wanted {
                break;
            }
        }
        let plain = select::plain(Dialect::Postgres, &rest.search);
        let found = self.rows(plain).await?;
        self.add(&mut rest, found);
        Ok(rest.page)
    }

    /// Performs step 1 of the module's description for the rest of a search. Returns `true` if the page is complete.
    async fn by_window(
        &mut self,
        search: &Search,
        rest: &mut RestOfSearch,
        rows: u32,
    ) -> Result<bool, QueryError> {
        let found = self.rows(window(&rest.search, rows)).await?;
        self.add(rest, found);
        Ok(rest.is_full() || search.is_bounded() && self.holds_at_most(rest, rows).await?)
    }

    /// Searches the days in which the events of a narrow search are received as one slice, then makes sure that no other
    /// day has any. Returns `None` if too many match, or larger ones than an answer may have.
    async fn by_days(
        &mut self,
        search: &Search,
        days: Days,
    ) -> Result<Option<ResultPage>, QueryError> {
        let found = match self.slice(search, Slice::of(days), many(search)).await? {
            SliceMatches::All(found) if !found.more => found,
            _ => return Ok(None),
        };
        let mut rest = RestOfSearch::new(search);
        self.merge(&mut rest, found);
        let any = any_outside(search, days).for_postgres();
        if any.fetch_optional(&mut *self.connection).await?.is_some() {
            let found = self.rows(outside(search, days)).await?;
            self.merge(&mut rest, found);
        }
        Ok(Some(rest.page))
    }

    /// Searches the slice that had the page of this search the last time. Returns `None` if it has no longer.
    async fn by_known_end(&mut self, search: &Search) -> Result<Option<ResultPage>, QueryError> {
        let page_ends = self.reader.page_ends;
        let Some(slice) = page_ends.slice(search) else {
            return Ok(None);
        };
        let mut rest = RestOfSearch::new(search);
        let mut has_page = false;
        if let SliceMatches::All(found) = self.slice(search, slice, many(search)).await? {
            self.merge(&mut rest, found);
            has_page = rest.is_full() || slice == Slice::of(Days::ALL);
        }
        if !has_page {
            page_ends.forget(search);
            self.found_bytes = 0;
            return Ok(None);
        }
        if let Some(to) = slice.days.from {
            let older = Days {
                from: None,
                to: Some(to),
            };
            self.add_from_rest(&mut rest, older).await?;
        }
        page_ends.learn(search, &rest.page, rest.wanted);
        Ok(Some(rest.page))
    }

    /// Performs steps 2 and 3 of the module's description.
    async fn by_slices(&mut self, rest: &mut RestOfSearch) -> Result<(), QueryError> {
        let mut slices = match rest.search.order {
            SortOrder::NewestFirst => SliceQueue::newest_first(&rest.search, now_micros()),
            SortOrder::OldestFirst => SliceQueue::all(),
        };
        while let Some(part) = slices.next(rest) {
            match part {
                NextPart::Rest(days) => return self.add_from_rest(rest, days).await,
                NextPart::Slice(slice) if rest.is_full() => {
                    let floor = rest.floor();
                    let is_above = |to| floor.is_none_or(|key| key.timestamp < to);
                    if slice.to_ms.is_none_or(is_above) {
                        let found = self.rows(in_order(rest, slice, floor)).await?;
                        self.merge(rest, found);
                    }
                }
                NextPart::Slice(slice) => {
                    let too_many = many(&rest.search);
                    let found = match self.slice(&rest.search, slice, too_many).await? {
                        SliceMatches::All(found) => found,
                        SliceMatches::TooMany if slices.split(slice) => continue,
                        SliceMatches::TooMany => self.rows(in_order(rest, slice, None)).await?,
                    };
                    slices.note(found.events.len());
                    self.merge(rest, found);
                }
            }
        }
        Ok(())
    }

    /// Adds the events of days that can have only few of the search: those that precede the page's last event, if it is
    /// full.
    async fn add_from_rest(
        &mut self,
        rest: &mut RestOfSearch,
        days: Days,
    ) -> Result<(), QueryError> {
        let floor = rest.floor().filter(|_| rest.is_full());
        if let Some(floor) = floor {
            let any = any_above(&rest.search, days, floor).for_postgres();
            if any.fetch_optional(&mut *self.connection).await?.is_none() {
                return Ok(());
            }
        }
        let found = self.rows(in_order(rest, Slice::of(days), floor)).await?;
        self.merge(rest, found);
        Ok(())
    }

    /// Adds the events that precede all others of the rest, which then begins after them.
    fn add(&mut self, rest: &mut RestOfSearch, found: ResultPage) {
        if rest.search.offset > 0 {
            // The statement has skipped events, so the next one starts anew.
            rest.page = found;
            return;
        }
        self.merge(rest, found);
        rest.begin_after_page();
    }

    /// Returns `true` if the rest of a search with a range of times has at most `rows` rows.
    async fn holds_at_most(&mut self, rest: &RestOfSearch, rows: u32) -> Result<bool, sqlx::Error> {
        let search = &rest.search;
        let mut sql = SqlStatement::new(
            Dialect::Postgres,
            "SELECT e.timestamp FROM telemetry_events e WHERE true",
        );
        select::push_range(&mut sql, search);
        sql.push(match search.order {
            SortOrder::NewestFirst => " ORDER BY e.timestamp DESC",
            SortOrder::OldestFirst => " ORDER BY e.timestamp",
        });
        select::push_slice(&mut sql, 1, rows);
        let beyond = sql.for_postgres().fetch_optional(&mut *self.connection);
        Ok(beyond.await?.is_none())
    }

    /// Searches a slice in any order, unless it has `too_many` matches.
    async fn slice(
        &mut self,
        search: &Search,
        slice: Slice,
        too_many: usize,
    ) -> Result<SliceMatches, QueryError> {
        let (found, rows) = self.fetch(any_order(search, slice, too_many)).await?;
        // An offset may have skipped the one row of too many.
        let may_be_skipped = rows == 0 && search.offset > 0;
        Ok(if rows >= too_many || may_be_skipped {
            SliceMatches::TooMany
        } else {
            SliceMatches::All(found)
        })
    }

    /// Merges `found` into the page in order, and cuts it to the events wanted and the bytes of a page.
    fn merge(&mut self, rest: &mut RestOfSearch, found: ResultPage) {
        let page = &mut rest.page;
        page.events.extend(found.events);
        match rest.search.order {
            SortOrder::NewestFirst => page.events.sort_unstable_by_key(|event| Reverse(event.key)),
            SortOrder::OldestFirst => page.events.sort_unstable_by_key(|event| event.key),
        }
        page.more |= found.more;
        page.truncate(rest.wanted, self.reader.options.answer_bytes);
        self.found_bytes = page.held_bytes();
    }
}

/// Returns the number of matches from which a slice is split.
fn many(search: &Search) -> usize {
    (2 * search.limit as usize).max(MANY_MATCHES)
}
