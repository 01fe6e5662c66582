//! A search in SQLite: one statement, which is interrupted if its time is over or its query is abandoned.
//!
//! **Invariant:** no statement keeps running after its query was abandoned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::TryStreamExt;
use sqlx::{Row, Sqlite, SqlitePool};

use crate::query::answer_memory::AnswerGrant;
use crate::query::cursor::PageKey;
use crate::query::days::Days;
use crate::query::error::QueryError;
use crate::query::page::{self, AddedEvent, FoundEvent, PageBuilder, ResultPage};
use crate::query::search::{Lookup, Search};
use crate::query::select;
use crate::query::statement::{Dialect, SqlStatement};
use crate::query::{CONNECTION_WAIT, Options};
use crate::store::pooled_connection::PooledConnection;

/// Number of steps of SQLite's virtual machine between two checks of the clock, well under a millisecond.
const STEPS: i32 = 10_000;

/// Memory of this process for each key that SQLite sorts.
const SORTED_BYTES: usize = 64;

/// Returns the page of a search, or the event with an id alone.
pub(super) async fn find(
    pool: &SqlitePool,
    lookup: Lookup,
    options: &Options,
    held: &mut AnswerGrant,
) -> Result<ResultPage, QueryError> {
    let mut query = SqliteQuery::begin(pool, options).await?;
    let mut page = match lookup {
        Lookup::Event(id) => {
            let statement = select::event(Dialect::Sqlite, id, Days::ALL);
            query.page(statement, options, 0, held).await?
        }
        Lookup::Page(mut search) => {
            if !query.list_resources(&mut search).await? {
                query.end().await?;
                return Ok(ResultPage::default());
            }
            let sorted_bytes = (search.limit as usize + search.offset as usize) * SORTED_BYTES;
            let statement = select::plain(Dialect::Sqlite, &search);
            let mut page = query.page(statement, options, sorted_bytes, held).await?;
            let unfinished = page.more;
            page.truncate(search.limit as usize, options.answer_bytes);
            if unfinished {
                // Closes the connection, which ends its statement.
                drop(query);
                if !page.has_unread() {
                    return Ok(page);
                }
                query = SqliteQuery::begin(pool, options).await?;
            }
            page
        }
    };
    while let Some((index, key)) = page.next_unread(held).await? {
        page.replace(index, query.whole_event(key).await?);
    }
    query.end().await?;
    Ok(page)
}

/// One query on a connection, with its deadline.
pub(super) struct SqliteQuery {
    /// Dropped first, so that the statement is interrupted before the connection is closed.
    cancel_on_drop: CancelOnDrop,
    pub(super) connection: PooledConnection<Sqlite>,
}

/// Makes SQLite interrupt the statement when dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl SqliteQuery {
    pub(super) async fn begin(pool: &SqlitePool, options: &Options) -> Result<Self, sqlx::Error> {
        let mut connection = PooledConnection::take(pool, "read", CONNECTION_WAIT).await?;
        let cancel_on_drop = CancelOnDrop(Arc::default());
        let stop = Arc::clone(&cancel_on_drop.0);
        let deadline = Instant::now() + options.timeout;
        let mut handle = connection.lock_handle().await?;
        handle.set_progress_handler(STEPS, move || {
            !stop.load(Ordering::Relaxed) && Instant::now() < deadline
        });
        drop(handle);
        Ok(Self {
            cancel_on_drop,
            connection,
        })
    }

    /// Replaces the conditions on resources by the ids of the resources that match. Returns `false` if none does.
    pub(super) async fn list_resources(
        &mut self,
        search: &mut Search,
    ) -> Result<bool, sqlx::Error> {
        if !search.asks_for_resources() {
            return Ok(true);
        }
        let statement = select::resource_ids(Dialect::Sqlite, search).for_sqlite();
        let rows = statement.fetch_all(&mut *self.connection).await?;
        let ids = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?;
        Ok(search.list_resources(ids))
    }

    /// Reads rows until the answer's bytes are full; then `more` is set and the statement unfinished.
    async fn page(
        &mut self,
        statement: SqlStatement,
        options: &Options,
        sorted_bytes: usize,
        held: &mut AnswerGrant,
    ) -> Result<ResultPage, QueryError> {
        let mut rows = statement.for_sqlite().fetch(&mut *self.connection);
        let mut filling = PageBuilder::new(options.answer_bytes, sorted_bytes, held);
        while let Some(row) = rows.try_next().await? {
            if filling.add(page::event(&row)?).await? == AddedEvent::No {
                break;
            }
        }
        Ok(filling.into_page())
    }

    /// Returns an event with its texts, which were too long to be read with the other rows.
    async fn whole_event(&mut self, key: PageKey) -> Result<Option<FoundEvent>, sqlx::Error> {
        let whole = select::whole_event(Dialect::Sqlite, key).for_sqlite();
        let mut rows = whole.fetch(&mut *self.connection);
        let row = rows.try_next().await?;
        // Once the statement has ended, SQLite no longer holds a copy of the text.
        while rows.try_next().await?.is_some() {}
        drop(rows);
        row.map(|row| page::event(&row)).transpose()
    }

    pub(super) async fn end(mut self) -> Result<(), sqlx::Error> {
        self.connection
            .lock_handle()
            .await?
            .remove_progress_handler();
        self.connection.give_back();
        drop(self.cancel_on_drop);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
