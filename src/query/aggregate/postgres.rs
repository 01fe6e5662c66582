//! Groups and counts in PostgreSQL, which groups the events itself.

use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::{Executor, Row};

use crate::duration_sketch::DurationSketch;
use crate::query::aggregate::groups::{self, EventGroup, EventGroups, GroupKey};
use crate::query::aggregate::{Aggregation, Counted, statement};
use crate::query::answer_memory::AnswerGrant;
use crate::query::error::QueryError;
use crate::query::postgres::{PostgresQuery, Reader};
use crate::query::search::Search;
use crate::query::select;
use crate::query::statement::Dialect;

impl Reader<'_> {
    /// Reads the groups of an aggregation.
    pub(in crate::query) async fn groups(
        self,
        mut aggregation: Aggregation,
        held: &mut AnswerGrant,
    ) -> Result<EventGroups, QueryError> {
        let mut query = PostgresQuery::begin(self, held).await?;
        let mut found = Vec::new();
        if query.list_resources(&mut aggregation.search).await? {
            query.allow_scans().await?;
            let statement = statement::groups(&aggregation).for_postgres();
            let mut rows = statement.fetch(&mut *query.connection);
            let mut held_bytes = 0;
            while let Some(row) = rows.try_next().await? {
                let key = GroupKey::of_row(&row, &aggregation.by)?;
                held_bytes += key.held_bytes();
                let held = query.held.hold(held_bytes).await;
                held.map_err(groups::refused)?;
                found.push(group(key, &row, aggregation.by.len() + 1)?);
            }
        }
        query.end();
        Ok(EventGroups(found))
    }

    /// Counts the events of a search.
    pub(in crate::query) async fn count(
        self,
        mut search: Search,
        held: &mut AnswerGrant,
    ) -> Result<Counted, QueryError> {
        let mut query = PostgresQuery::begin(self, held).await?;
        let mut count = 0;
        if query.list_resources(&mut search).await? {
            query.allow_scans().await?;
            let statement = select::count(Dialect::Postgres, &search).for_postgres();
            count = statement
                .fetch_one(&mut *query.connection)
                .await?
                .try_get(0)?;
        }
        query.end();
        Ok(Counted(count))
    }
}

impl PostgresQuery<'_> {
    /// Allows the planner to read whole partitions in their order: a search finds few of the rows, an aggregation often
    /// counts nearly all.
    async fn allow_scans(&mut self) -> Result<(), sqlx::Error> {
        let allow = self.connection.execute("SET LOCAL enable_seqscan = on");
        allow.await.map(drop)
    }
}

/// Reads the numbers of a group from its row, of which `first` is the first.
fn group(key: GroupKey, row: &PgRow, first: usize) -> Result<EventGroup, sqlx::Error> {
    let number = |index| Ok::<_, sqlx::Error>(row.try_get::<i64, usize>(index)?.unsigned_abs());
    let sketch = sketch(row.try_get(first + 2)?);
    Ok(EventGroup::new(
        key,
        number(first)?,
        number(first + 1)?,
        &sketch,
    ))
}

/// Reads a sketch that the database has written.
fn sketch(text: Option<&str>) -> DurationSketch {
    let mut sketch = DurationSketch::default();
    for pair in text.into_iter().flat_map(|text| text.split(',')) {
        let numbers = pair
            .split_once(':')
            .and_then(|(bucket, number)| Some((bucket.parse().ok()?, number.parse().ok()?)));
        if let Some((bucket, number)) = numbers {
            sketch.add(bucket, number);
        }
    }
    sketch
}
