//! A search in PostgreSQL, fast for common, rare and absent values.
//!
//! The indexes answer a trace, a correlation id and a range of times directly. Every other search has three steps:
//!
//! 1. Search the newest [`Options::window_rows`] by the index on `timestamp`. Common values fill the page from these.
//!    If a few events are found, the time between them shows the time in which the page is probably full, which is then
//!    searched as one slice (below). Otherwise, if at least a tenth of the page is found, search ten times as many rows
//!    after the last one found.
//! 2. If the page is not full and a filter can skip block ranges, search the table in slices: ranges of days, newest
//!    first, then parts of a day. These statements have no order, so that the planner uses the summaries of the block
//!    ranges: a day without the value costs next to nothing. A slice with many matches is split, and its newest part
//!    is searched first. The matches found so far decide how many days the next slice has.
//! 3. Once the page is full, the rest of the table can only add events that precede the page's last one. One statement
//!    reads these by the index on `timestamp`.
//!
//! A search for several conditions in a short time is first asked as one slice.
//!
//! **Invariant:** the steps decide the order of searching, never the result: the page equals that of the plain
//! statement.

use std::cmp::Reverse;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres, Row};

use crate::query::answer_memory::AnswerGrant;
use crate::query::cursor::{PageKey, SortOrder};
use crate::query::days::{DayRanges, Days, Slice};
use crate::query::error::QueryError;
use crate::query::filter::Filter;
use crate::query::first_ids::{DayOfId, FirstIds};
use crate::query::page::{self, AddedEvent, PageBuilder, ResultPage};
use crate::query::rest_of_search::{MatchDensity, RestOfSearch};
use crate::query::search::{Lookup, Search};
use crate::query::select;
use crate::query::slice_statements::{any_order, in_order, window};
use crate::query::statement::{Dialect, SqlStatement};
use crate::query::{CONNECTION_WAIT, Options};
use crate::store::pooled_connection::PooledConnection;

/// Number of matches from which a slice is split.
const MANY_MATCHES: usize = 400;

/// Maximum number of slices whose length follows from the density of the events found.
const DENSITY_SLICES: u32 = 3;

/// Factor by which the second window is larger, if the first one filled enough of the page.
const WIDER: u8 = 10;

/// The database with the settings of queries.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) pool: &'a PgPool,
    pub(super) options: &'a Options,
    pub(super) first_ids: &'a FirstIds,
}

impl Reader<'_> {
    /// Returns the page of a search, or the event with an id alone.
    pub(super) async fn find(
        self,
        lookup: Lookup,
        held: &mut AnswerGrant,
    ) -> Result<ResultPage, QueryError> {
        let mut query = PostgresQuery::begin(self, held).await?;
        let page = match lookup {
            Lookup::Event(id) => query.event(id).await?,
            Lookup::Page(mut search) => {
                if search.asks_for_resources() {
                    let ids = query.resource_ids(&search).await?;
                    if ids.is_empty() {
                        query.end();
                        return Ok(ResultPage::default());
                    }
                    search.list_resources(ids);
                }
                let mut page = query.search(&search).await?;
                page.truncate(search.limit as usize, self.options.answer_bytes);
                page
            }
        };
        query.read_unread(page).await
    }

    /// Begins a read-only transaction. The pool does not check its connections, so a connection on which this fails is
    /// closed, and the next one is tried.
    async fn begin(self) -> Result<PooledConnection<Postgres>, sqlx::Error> {
        // All settings are local to the transaction, so that they also apply behind a pooler. Generic plans are slower
        // by a factor of a hundred. JIT compilation takes longer than any of these queries. Without parallel workers,
        // one query uses one core. Sequential scans are the last resort: the planner's estimates for rare values make
        // them look cheap. The connection check (Linux only) makes the server end a query whose client has
        // disconnected.
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
             SET LOCAL statement_timeout = {}; \
             SET LOCAL plan_cache_mode = force_custom_plan; \
             SET LOCAL jit = off; \
             SET LOCAL max_parallel_workers_per_gather = 0; \
             SET LOCAL enable_seqscan = off; \
             SELECT set_config('client_connection_check_interval', '1s', true) WHERE version() LIKE '%linux%'",
            self.options.timeout.as_millis().max(1)
        );
        let deadline = Instant::now() + CONNECTION_WAIT;
        let mut untried = self.pool.options().get_max_connections();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut connection = PooledConnection::take(self.pool, "read", left).await?;
            let beginning = connection.execute(AssertSqlSafe(begin.clone()));
            let left = deadline.saturating_duration_since(Instant::now());
            let begun = tokio::time::timeout(left, beginning).await;
            match begun.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                Ok(_) => return Ok(connection),
                Err(error) if untried == 0 => return Err(error),
                Err(_) => untried -= 1,
            }
        }
    }
}

/// One read-only transaction, whose statements all see the same rows.
struct PostgresQuery<'a> {
    reader: Reader<'a>,
    connection: PooledConnection<Postgres>,
    held: &'a mut AnswerGrant,
    /// Memory of the events that earlier statements found.
    found_bytes: usize,
    /// A statement was abandoned before its last row, so the connection must not be reused.
    unfinished: bool,
}

impl<'a> PostgresQuery<'a> {
    async fn begin(reader: Reader<'a>, held: &'a mut AnswerGrant) -> Result<Self, sqlx::Error> {
        Ok(Self {
            reader,
            connection: reader.begin().await?,
            held,
            found_bytes: 0,
            unfinished: false,
        })
    }

    /// Ends the transaction in a separate task, as the answer need not wait for it. An unfinished statement ends with
    /// its connection.
    fn end(self) {
        if self.unfinished {
            return;
        }
        let mut connection = self.connection;
        tokio::spawn(async move {
            let commit = connection.execute("COMMIT");
            if let Ok(Ok(_)) = tokio::time::timeout(CONNECTION_WAIT, commit).await {
                connection.give_back();
            }
        });
    }

    /// Reads the texts that were too long to be read with the other rows, and ends the transaction.
    async fn read_unread(self, mut page: ResultPage) -> Result<ResultPage, QueryError> {
        let mut query = self;
        while let Some((index, key)) = page.next_unread(query.held).await? {
            if query.unfinished {
                // On this connection, the rest of the abandoned statement's rows would arrive first.
                drop(query.connection);
                query = Self::begin(query.reader, query.held).await?;
            }
            let whole = select::whole_event(Dialect::Postgres, key).for_postgres();
            let row = whole.fetch_optional(&mut *query.connection).await?;
            let event = row.map(|row| page::event(&row)).transpose()?;
            page.replace(index, event);
        }
        query.end();
        Ok(page)
    }

    /// Finds an event: first in the day that its id suggests, then in the whole table.
    async fn event(&mut self, id: i64) -> Result<ResultPage, QueryError> {
        let day = self.day_of(id).await?;
        let found = self.rows(select::event(Dialect::Postgres, id, day)).await?;
        if !found.events.is_empty() {
            return Ok(found);
        }
        self.rows(select::event(Dialect::Postgres, id, Days::ALL))
            .await
    }

    async fn day_of(&mut self, id: i64) -> Result<Days, QueryError> {
        let first_ids = self.reader.first_ids;
        let mut search = DayOfId::new(id, now_micros());
        let mut reads = false;
        while let Some(day_us) = search.next() {
            let mut first_id = first_ids.known(day_us);
            if first_id.is_none() {
                if !reads {
                    // The first row in the table's order is wanted, not the first one in an index.
                    self.connection
                        .execute("SET LOCAL enable_seqscan = on")
                        .await?;
                    reads = true;
                }
                let from_day = Days {
                    from: Some(day_us),
                    to: None,
                };
                let statement = select::first_id(Dialect::Postgres, from_day).for_postgres();
                let row = statement.fetch_optional(&mut *self.connection).await?;
                first_id = row.map(|row| row.try_get(0)).transpose()?;
                if let Some(first_id) = first_id {
                    first_ids.learn(day_us, first_id);
                }
            }
            search.compare(first_id);
        }
        if reads {
            self.connection
                .execute("SET LOCAL enable_seqscan = off")
                .await?;
        }
        Ok(search.day())
    }

    async fn resource_ids(&mut self, search: &Search) -> Result<Vec<Vec<u8>>, sqlx::Error> {
        let statement = select::resource_ids(Dialect::Postgres, search).for_postgres();
        let rows = statement.fetch_all(&mut *self.connection).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// Finds the events of a page, up to one more than its limit, which shows if another page follows.
    async fn search(&mut self, search: &Search) -> Result<ResultPage, QueryError> {
        let unordered = |filter: &Filter| !filter.is_range();
        if search.filters.iter().any(Filter::is_quick) || !search.filters.iter().any(unordered) {
            return self.rows(select::plain(Dialect::Postgres, search)).await;
        }
        let skips_blocks = search.offset == 0 && search.filters.iter().any(Filter::skips_blocks);
        if skips_blocks && search.is_narrow() {
            let slice = Slice::of(Days::ALL);
            if let SliceMatches::All(found) = self.slice(search, slice).await? {
                return Ok(found);
            }
        }
        let mut rest = RestOfSearch::new(search);
        // Without block ranges, a wider window costs less than a second one.
        let narrow = self.reader.options.window_rows;
        let first = if skips_blocks { narrow } else { 4 * narrow };
        let mut rows = first;
        loop {
            let found = self.rows(window(&rest.search, rows)).await?;
            let events = found.events.len();
            self.add(&mut rest, found);
            if rest.is_full() || search.is_bounded() && self.holds_at_most(&rest, rows).await? {
                return Ok(rest.page);
            }
            if skips_blocks && self.by_density(&mut rest).await? == DensitySlices::Searched {
                break;
            }
            if rows > first || events * usize::from(WIDER) < rest.wanted {
                break;
            }
            rows = rows.saturating_mul(WIDER.into());
        }
        if rest.is_full() {
            return Ok(rest.page);
        }
        if skips_blocks {
            return self.by_slices(rest).await;
        }
        let found = self
            .rows(select::plain(Dialect::Postgres, &rest.search))
            .await?;
        self.add(&mut rest, found);
        Ok(rest.page)
    }

    /// Searches back to the time at which the page is probably full, as one slice; again from there if it is not full.
    async fn by_density(&mut self, rest: &mut RestOfSearch) -> Result<DensitySlices, QueryError> {
        let mut searched = DensitySlices::None;
        for _ in 0..DENSITY_SLICES {
            let Some(from_ms) = rest.probable_end().filter(|_| !rest.is_full()) else {
                break;
            };
            let slice = Slice {
                from_ms: Some(from_ms),
                ..Slice::of(Days::ALL)
            };
            let SliceMatches::All(found) = self.slice(&rest.search, slice).await? else {
                break;
            };
            self.merge(rest, found);
            rest.begin_before(from_ms);
            searched = DensitySlices::Searched;
        }
        Ok(searched)
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

    /// Performs steps 2 and 3 of the module's description.
    async fn by_slices(&mut self, mut rest: RestOfSearch) -> Result<ResultPage, QueryError> {
        let now_us = now_micros();
        let mut ranges = match rest.search.order {
            SortOrder::NewestFirst => DayRanges::newest_first(now_us),
            SortOrder::OldestFirst => DayRanges::all(),
        };
        let mut left = Vec::new();
        let mut density = MatchDensity::default();
        loop {
            let slice = match left.pop() {
                Some(slice) => slice,
                None => {
                    let missing = rest.wanted.saturating_sub(rest.page.events.len());
                    let Some(days) = ranges.next(density.days_with(missing)) else {
                        return Ok(rest.page);
                    };
                    density.begin(days);
                    Slice::of(days)
                }
            };
            if rest.is_full() {
                let floor = rest.page.events.last().map(|event| event.key);
                let is_above = |key: PageKey| slice.to_ms.is_none_or(|to| key.timestamp < to);
                let older = if slice.is_part_of_day() {
                    slice
                } else {
                    Slice::of(Days {
                        to: slice.days.to,
                        ..Days::ALL
                    })
                };
                if floor.is_none_or(is_above) {
                    let found = self.rows(in_order(&rest, older, floor)).await?;
                    self.merge(&mut rest, found);
                }
                if slice.is_part_of_day() {
                    continue;
                }
                return Ok(rest.page);
            }
            let found = match self.slice(&rest.search, slice).await? {
                SliceMatches::All(found) => found,
                SliceMatches::TooMany => match slice.split(now_us) {
                    Some((older, newer)) => {
                        left.extend([older, newer]);
                        continue;
                    }
                    None => self.rows(in_order(&rest, slice, None)).await?,
                },
            };
            density.add(found.events.len());
            self.merge(&mut rest, found);
        }
    }

    /// Searches a slice in any order.
    async fn slice(&mut self, search: &Search, slice: Slice) -> Result<SliceMatches, QueryError> {
        let too_many = (2 * search.limit as usize).max(MANY_MATCHES);
        let (found, rows) = self.fetch(any_order(search, slice, too_many)).await?;
        Ok(if rows >= too_many {
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

    /// Reads the rows of a statement, as [`Self::fetch`] does, without the number.
    async fn rows(&mut self, statement: SqlStatement) -> Result<ResultPage, QueryError> {
        Ok(self.fetch(statement).await?.0)
    }

    /// Reads the rows of a statement until the answer's bytes are full, and returns them with the number in the column
    /// `found` of [`any_order`] (0 for other statements).
    ///
    /// If the bytes are full, `more` is set and the connection is not returned to the pool.
    async fn fetch(&mut self, statement: SqlStatement) -> Result<(ResultPage, usize), QueryError> {
        let mut rows = statement.for_postgres().fetch(&mut *self.connection);
        let mut filling = PageBuilder::new(
            self.reader.options.answer_bytes,
            self.found_bytes,
            self.held,
        );
        let mut found = 0;
        while let Some(row) = rows.try_next().await? {
            if filling.add(page::event(&row)?).await? == AddedEvent::No {
                self.unfinished = true;
                break;
            }
            if let Ok(number) = row.try_get::<i64, _>("found") {
                found = usize::try_from(number).unwrap_or(usize::MAX);
            }
        }
        Ok((filling.into_page(), found))
    }
}

/// The result of [`PostgresQuery::by_density`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum DensitySlices {
    Searched,
    /// Too few events are found to know their density, or many more than expected.
    None,
}

/// The matches in a slice.
enum SliceMatches {
    All(ResultPage),
    /// More than a page; these were not read to the end.
    TooMany,
}

/// Returns the current Unix time in µs; it decides only which days are searched first.
fn now_micros() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
