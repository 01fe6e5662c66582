//! A search in SQLite: one statement, interrupted when its time is over or nobody waits for it.
//!
//! **Invariant:** no statement runs on after its query was given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, Sqlite, SqlitePool};

use super::Options;
use super::RESOURCES_LISTED;
use super::error::QueryError;
use super::lease::Lease;
use super::page::{self, Event, Page};
use super::parameters::Search;
use super::sql::{self, Dialect, Statement};

/// How many steps of its virtual machine SQLite takes between two looks at the clock; well under a millisecond.
const STEPS: i32 = 10_000;

/// The page of a search.
pub(super) async fn search(
    pool: &SqlitePool,
    mut search: Search,
    options: &Options,
) -> Result<Page, QueryError> {
    let failed = |error| QueryError::from_database(error, options.timeout);
    let mut session = Session::begin(pool, options).await.map_err(failed)?;
    if search.asks_for_resources() {
        let statement = sql::resource_ids(Dialect::Sqlite, &search, RESOURCES_LISTED + 1);
        let ids = session.ids(&statement).await.map_err(failed)?;
        if ids.is_empty() {
            session.end().await.map_err(failed)?;
            return Ok(Page::default());
        }
        search.list_resources(ids);
    }
    let statement = sql::plain(Dialect::Sqlite, &search);
    let page = session.page(&statement, options).await.map_err(failed)?;
    if !page.more {
        session.end().await.map_err(failed)?;
    }
    Ok(page)
}

/// The event with that id.
pub(super) async fn event(
    pool: &SqlitePool,
    id: i64,
    options: &Options,
) -> Result<Option<Event>, QueryError> {
    let failed = |error| QueryError::from_database(error, options.timeout);
    let mut session = Session::begin(pool, options).await.map_err(failed)?;
    let statement = sql::event(Dialect::Sqlite, id);
    let mut page = session.page(&statement, options).await.map_err(failed)?;
    session.end().await.map_err(failed)?;
    Ok(page.events.pop())
}

struct Session {
    /// Dropped first, so that the connection is closed with its statement interrupted.
    given_up: GivenUp,
    lease: Lease<Sqlite>,
}

/// Tells SQLite, when dropped, that nobody waits any more.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Session {
    async fn begin(pool: &SqlitePool, options: &Options) -> Result<Self, sqlx::Error> {
        let mut lease = Lease::take(pool).await?;
        let given_up = GivenUp(Arc::default());
        let stop = Arc::clone(&given_up.0);
        let deadline = Instant::now() + options.timeout;
        let mut handle = lease.connection().lock_handle().await?;
        handle.set_progress_handler(STEPS, move || {
            !stop.load(Ordering::Relaxed) && Instant::now() < deadline
        });
        drop(handle);
        Ok(Self { given_up, lease })
    }

    async fn ids(&mut self, statement: &Statement) -> Result<Vec<Vec<u8>>, sqlx::Error> {
        let query = sqlx::query_with(
            AssertSqlSafe(statement.text.clone()),
            statement.sqlite_arguments()?,
        );
        let rows = query.persistent(false).fetch_all(self.lease.connection());
        rows.await?.iter().map(|row| row.try_get(0)).collect()
    }

    /// Reads rows until the answer's bytes are full, which leaves `more` set and the statement unfinished.
    async fn page(
        &mut self,
        statement: &Statement,
        options: &Options,
    ) -> Result<Page, sqlx::Error> {
        let query = sqlx::query_with(
            AssertSqlSafe(statement.text.clone()),
            statement.sqlite_arguments()?,
        );
        let mut rows = query.persistent(false).fetch(self.lease.connection());
        let mut page = Page::default();
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            if bytes > options.answer_bytes {
                page.more = true;
                break;
            }
            let event = page::event(&row)?;
            bytes += event.json.len();
            page.events.push(event);
        }
        Ok(page)
    }

    async fn end(mut self) -> Result<(), sqlx::Error> {
        self.lease
            .connection()
            .lock_handle()
            .await?
            .remove_progress_handler();
        self.lease.give_back();
        drop(self.given_up);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
