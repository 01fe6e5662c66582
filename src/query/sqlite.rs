//! A search in SQLite: one statement, which is interrupted if its time is over or its query is abandoned.
//!
//! **Invariant:** no statement keeps running after its query was abandoned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, Sqlite, SqlitePool};

use crate::query::answer_memory::AnswerGrant;
use crate::query::error::{QueryError, QueryHalted};
use crate::query::page::{self, AddedEvent, FoundEvent, PageBuilder, ResultPage};
use crate::query::search::Search;
use crate::query::select;
use crate::query::statement::{Dialect, SqlStatement};
use crate::query::{CONNECTION_WAIT, Options, RESOURCES_LISTED};
use crate::store::pooled_connection::PooledConnection;

/// Number of steps of SQLite's virtual machine between two checks of the clock, well under a millisecond.
const STEPS: i32 = 10_000;

/// Memory of this process for each key that SQLite sorts.
const SORTED_BYTES: usize = 64;

/// Returns the page of a search.
pub(super) async fn search(
    pool: &SqlitePool,
    search: Search,
    options: &Options,
    held: &mut AnswerGrant,
) -> Result<ResultPage, QueryError> {
    let found = page(pool, search, options, held).await;
    found.map_err(|halted| halted.into_answer(options.timeout))
}

async fn page(
    pool: &SqlitePool,
    mut search: Search,
    options: &Options,
    held: &mut AnswerGrant,
) -> Result<ResultPage, QueryHalted> {
    let mut session = SqliteQuery::begin(pool, options).await?;
    if search.asks_for_resources() {
        let statement = select::resource_ids(Dialect::Sqlite, &search, RESOURCES_LISTED + 1);
        let ids = session.ids(&statement).await?;
        if ids.is_empty() {
            session.end().await?;
            return Ok(ResultPage::default());
        }
        search.list_resources(ids);
    }
    let sorted = (search.limit as usize + search.offset as usize) * SORTED_BYTES;
    let statement = select::plain(Dialect::Sqlite, &search);
    let mut page = session.page(&statement, options, sorted, held).await?;
    let unfinished = page.more;
    page.truncate(search.limit as usize, options.answer_bytes);
    if unfinished {
        // Closes the connection, which ends its statement.
        drop(session);
        if !page.has_unread() {
            return Ok(page);
        }
        session = SqliteQuery::begin(pool, options).await?;
    }
    session.read_unread(page, held).await
}

/// Returns the event with this id.
pub(super) async fn event(
    pool: &SqlitePool,
    id: i64,
    options: &Options,
    held: &mut AnswerGrant,
) -> Result<Option<FoundEvent>, QueryError> {
    let found = async {
        let mut session = SqliteQuery::begin(pool, options).await?;
        let statement = select::event(Dialect::Sqlite, id);
        let page = session.page(&statement, options, 0, held).await?;
        session.read_unread(page, held).await
    };
    let page = found.await;
    let mut page = page.map_err(|halted: QueryHalted| halted.into_answer(options.timeout))?;
    Ok(page.events.pop())
}

/// One query on a connection, with its deadline.
struct SqliteQuery {
    /// Dropped first, so that the statement is interrupted before the connection is closed.
    cancel_on_drop: CancelOnDrop,
    lease: PooledConnection<Sqlite>,
}

/// Makes SQLite interrupt the statement when dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl SqliteQuery {
    async fn begin(pool: &SqlitePool, options: &Options) -> Result<Self, sqlx::Error> {
        let mut lease = PooledConnection::take(pool, "read", CONNECTION_WAIT).await?;
        let cancel_on_drop = CancelOnDrop(Arc::default());
        let stop = Arc::clone(&cancel_on_drop.0);
        let deadline = Instant::now() + options.timeout;
        let mut handle = lease.lock_handle().await?;
        handle.set_progress_handler(STEPS, move || {
            !stop.load(Ordering::Relaxed) && Instant::now() < deadline
        });
        drop(handle);
        Ok(Self {
            cancel_on_drop,
            lease,
        })
    }

    async fn ids(&mut self, statement: &SqlStatement) -> Result<Vec<Vec<u8>>, sqlx::Error> {
        let query = sqlx::query_with(
            AssertSqlSafe(statement.text.clone()),
            statement.sqlite_arguments()?,
        );
        let rows = query.persistent(false).fetch_all(&mut *self.lease);
        rows.await?.iter().map(|row| row.try_get(0)).collect()
    }

    /// Reads rows until the answer's bytes are full; then `more` is set and the statement unfinished.
    async fn page(
        &mut self,
        statement: &SqlStatement,
        options: &Options,
        sorted_bytes: usize,
        held: &mut AnswerGrant,
    ) -> Result<ResultPage, QueryHalted> {
        let query = sqlx::query_with(
            AssertSqlSafe(statement.text.clone()),
            statement.sqlite_arguments()?,
        );
        let mut rows = query.persistent(false).fetch(&mut *self.lease);
        let mut filling = PageBuilder::new(options.answer_bytes, sorted_bytes, held);
        while let Some(row) = rows.try_next().await? {
            if filling.add(page::event(&row)?).await? == AddedEvent::No {
                break;
            }
        }
        Ok(filling.into_page())
    }

    /// Reads the texts that were too long to be read with the other rows, and ends the query.
    async fn read_unread(
        mut self,
        mut page: ResultPage,
        held: &mut AnswerGrant,
    ) -> Result<ResultPage, QueryHalted> {
        while let Some((index, key)) = page.next_unread(held).await? {
            let statement = select::whole_event(Dialect::Sqlite, key);
            let query = sqlx::query_with(
                AssertSqlSafe(statement.text.clone()),
                statement.sqlite_arguments()?,
            );
            let mut rows = query.persistent(false).fetch(&mut *self.lease);
            let row = rows.try_next().await?;
            // Once the statement has ended, SQLite no longer holds a copy of the text.
            while rows.try_next().await?.is_some() {}
            drop(rows);
            let event = row.map(|row| page::event(&row)).transpose()?;
            page.replace(index, event);
        }
        self.end().await?;
        Ok(page)
    }

    async fn end(mut self) -> Result<(), sqlx::Error> {
        self.lease.lock_handle().await?.remove_progress_handler();
        self.lease.give_back();
        drop(self.cancel_on_drop);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
