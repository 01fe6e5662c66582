//! Groups and counts in SQLite, whose events this process groups.
//!
//! **Invariant:** memory is reserved for each group and each bucket of its sketch before the next event is read.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use sqlx::{Row, SqlitePool};

use crate::duration_sketch::{self, DurationSketch};
use crate::query::Options;
use crate::query::aggregate::groups::{self, EventGroup, EventGroups, GroupKey};
use crate::query::aggregate::{Aggregation, Counted, statement};
use crate::query::answer_memory::AnswerGrant;
use crate::query::error::QueryError;
use crate::query::search::Search;
use crate::query::select;
use crate::query::sqlite::SqliteQuery;
use crate::query::statement::Dialect;

/// The memory of a sketch for each bucket that it uses.
const BUCKET_BYTES: usize = 32;

/// The numbers of a group so far.
#[derive(Default)]
struct GroupTotals {
    count: u64,
    errors: u64,
    durations: DurationSketch,
}

/// Reads the groups of an aggregation.
pub(in crate::query) async fn groups(
    pool: &SqlitePool,
    mut aggregation: Aggregation,
    options: &Options,
    held: &mut AnswerGrant,
) -> Result<EventGroups, QueryError> {
    let mut query = SqliteQuery::begin(pool, options).await?;
    let mut found: HashMap<GroupKey, GroupTotals> = HashMap::new();
    if query.list_resources(&mut aggregation.search).await? {
        let statement = statement::events(&aggregation).for_sqlite();
        let mut rows = statement.fetch(&mut *query.connection);
        let mut held_bytes = 0;
        while let Some(row) = rows.try_next().await? {
            let key = GroupKey::of_row(&row, &aggregation.by)?;
            let first = aggregation.by.len() + 1;
            let is_error = row.try_get::<i64, usize>(first)? > 0;
            let duration_ns: Option<i64> = row.try_get(first + 1)?;
            let key_bytes = key.held_bytes();
            let totals = found.entry(key).or_default();
            if totals.count == 0 {
                held_bytes += key_bytes + size_of::<(GroupKey, GroupTotals)>();
            }
            totals.count += 1;
            totals.errors += u64::from(is_error);
            if let Some(duration_ns) = duration_ns {
                let bucket = duration_sketch::bucket(duration_ns.unsigned_abs());
                let buckets = totals.durations.len();
                totals.durations.add(bucket, 1);
                held_bytes += (totals.durations.len() - buckets) * BUCKET_BYTES;
            }
            let held = held.hold(held_bytes).await;
            held.map_err(groups::refused)?;
        }
    }
    query.end().await?;
    let groups = found
        .into_iter()
        .map(|(key, totals)| EventGroup::new(key, totals.count, totals.errors, &totals.durations));
    Ok(EventGroups(groups.collect()))
}

/// Counts the events of a search.
pub(in crate::query) async fn count(
    pool: &SqlitePool,
    mut search: Search,
    options: &Options,
) -> Result<Counted, QueryError> {
    let mut query = SqliteQuery::begin(pool, options).await?;
    let mut count = 0;
    if query.list_resources(&mut search).await? {
        let statement = select::count(Dialect::Sqlite, &search).for_sqlite();
        count = statement
            .fetch_one(&mut *query.connection)
            .await?
            .try_get(0)?;
    }
    query.end().await?;
    Ok(Counted(count))
}
