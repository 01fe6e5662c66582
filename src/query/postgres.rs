//! A query in PostgreSQL: its transaction, and an event by its id.
//!
//! **Invariant:** all statements of a query see the same rows.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Executor, PgPool, Postgres, Row};

use crate::query::answer_memory::AnswerGrant;
use crate::query::days::Days;
use crate::query::error::QueryError;
use crate::query::first_ids::{DayOfId, FirstIds};
use crate::query::page::{self, AddedEvent, PageBuilder, ResultPage};
use crate::query::page_ends::PageEnds;
use crate::query::search::{Lookup, Search};
use crate::query::select;
use crate::query::statement::{Dialect, SqlStatement};
use crate::query::{CONNECTION_WAIT, Options};
use crate::store::pooled_connection::PooledConnection;

/// The database with the settings of queries.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) pool: &'a PgPool,
    pub(super) options: &'a Options,
    pub(super) first_ids: &'a FirstIds,
    pub(super) page_ends: &'a PageEnds,
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
                if !query.list_resources(&mut search).await? {
                    query.end();
                    return Ok(ResultPage::default());
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
             SELECT set_config('statement_timeout', '{}', true), \
             set_config('plan_cache_mode', 'force_custom_plan', true), \
             set_config('jit', 'off', true), \
             set_config('max_parallel_workers_per_gather', '0', true), \
             set_config('enable_seqscan', 'off', true), \
             CASE WHEN version() LIKE '%linux%' THEN set_config('client_connection_check_interval', '1s', true) END",
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
pub(super) struct PostgresQuery<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) connection: PooledConnection<Postgres>,
    pub(super) held: &'a mut AnswerGrant,
    /// Memory of the events that earlier statements found.
    pub(super) found_bytes: usize,
    /// A statement was abandoned before its last row, so the connection must not be reused.
    unfinished: bool,
}

impl<'a> PostgresQuery<'a> {
    pub(super) async fn begin(
        reader: Reader<'a>,
        held: &'a mut AnswerGrant,
    ) -> Result<Self, sqlx::Error> {
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
    pub(super) fn end(self) {
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

    /// Finds an event: first in the day that its id suggests, then in all others.
    async fn event(&mut self, id: i64) -> Result<ResultPage, QueryError> {
        let day = self.day_of(id).await?;
        let found = self.rows(select::event(Dialect::Postgres, id, day)).await?;
        if !found.events.is_empty() {
            return Ok(found);
        }
        let elsewhere = select::event_outside(Dialect::Postgres, id, day);
        self.rows(elsewhere).await
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

    /// Replaces the conditions on resources by the ids of the resources that match. Returns `false` if none does.
    pub(super) async fn list_resources(
        &mut self,
        search: &mut Search,
    ) -> Result<bool, sqlx::Error> {
        if !search.asks_for_resources() {
            return Ok(true);
        }
        let statement = select::resource_ids(Dialect::Postgres, search).for_postgres();
        let rows = statement.fetch_all(&mut *self.connection).await?;
        let ids = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        Ok(search.list_resources(ids))
    }

    /// Reads the rows of a statement, as [`Self::fetch`] does, without the number.
    pub(super) async fn rows(&mut self, statement: SqlStatement) -> Result<ResultPage, QueryError> {
        Ok(self.fetch(statement).await?.0)
    }

    /// Reads the rows of a statement until the answer's bytes are full, and returns them with the number in the column
    /// `found` of [`crate::query::slice_statements::any_order`] (0 for other statements).
    ///
    /// If the bytes are full, `more` is set and the connection is not returned to the pool.
    pub(super) async fn fetch(
        &mut self,
        statement: SqlStatement,
    ) -> Result<(ResultPage, usize), QueryError> {
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

/// Returns the current Unix time in µs; it decides only which days are searched first.
pub(super) fn now_micros() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}
