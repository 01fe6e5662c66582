//! The groups of an aggregation, and their JSON.
//!
//! **Invariant:** the groups of an answer are in the order of time, then of their number of events, then of their values,
//! whichever store they come from.

use std::cmp::Reverse;
use std::fmt::Write as _;

use serde::Serialize;
use sqlx::{ColumnIndex, Decode, Row, Type};
use tracing::Span;

use crate::duration_sketch::{DurationSketch, RELATIVE_ERROR};
use crate::memory::budget::BudgetRefusal;
use crate::query::aggregate::parameters::{Aggregation, GroupColumn};
use crate::query::error::QueryError;
use crate::telemetry::own_traces::{SpanAttributes, spans};

/// The percentiles of an answer.
const PERCENTS: [u64; 3] = [50, 95, 99];

/// The length of a group's numbers in an answer, with the names of its members, is at most this.
const NUMBERS_BYTES: usize = 512;

/// A value of a column. NULL is the greatest, as in PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub(super) enum GroupValue {
    Text(String),
    Number(i64),
    Null,
}

/// The values that the events of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct GroupKey {
    /// The start in Unix ms; `None` = the whole range is one.
    pub(super) time_ms: Option<i64>,
    /// In the order of [`Aggregation::by`].
    pub(super) values: Vec<GroupValue>,
}

impl GroupKey {
    /// Reads the first columns of a row: the start, and the values.
    pub(super) fn of_row<'r, R: Row>(row: &'r R, by: &[GroupColumn]) -> Result<Self, sqlx::Error>
    where
        usize: ColumnIndex<R>,
        i64: Decode<'r, R::Database> + Type<R::Database>,
        &'r str: Decode<'r, R::Database> + Type<R::Database>,
    {
        let value = |(index, column): (usize, &GroupColumn)| {
            let value = match column {
                GroupColumn::Kind => row
                    .try_get::<Option<i64>, usize>(index + 1)?
                    .map(GroupValue::Number),
                _ => {
                    let text = row.try_get::<Option<&'r str>, usize>(index + 1)?;
                    text.map(|text| GroupValue::Text(text.to_owned()))
                }
            };
            Ok::<_, sqlx::Error>(value.unwrap_or(GroupValue::Null))
        };
        Ok(Self {
            time_ms: row.try_get(0)?,
            values: by.iter().enumerate().map(value).collect::<Result<_, _>>()?,
        })
    }

    /// Returns the bytes of memory that a group with this key and its JSON occupy, without its sketch.
    pub(super) fn held_bytes(&self) -> usize {
        let text_bytes = |value: &GroupValue| match value {
            GroupValue::Text(text) => 2 * text.len(),
            GroupValue::Number(_) | GroupValue::Null => 0,
        };
        let values: usize = self.values.iter().map(text_bytes).sum();
        values
            + self.values.len() * size_of::<GroupValue>()
            + size_of::<EventGroup>()
            + NUMBERS_BYTES
    }
}

/// Returns the error of an aggregation whose groups get no memory.
pub(super) fn refused(refusal: BudgetRefusal) -> QueryError {
    match refusal {
        BudgetRefusal::NoRoom => QueryError::NoMemory,
        BudgetRefusal::NeverFits { limit_bytes } => QueryError::parameter(
            "by",
            format!(
                "the groups need more than {limit_bytes} bytes of memory, which no answer may hold: group by fewer \
                 columns, or narrow the query by its filters"
            ),
        ),
    }
}

/// Events with the same values.
#[derive(Debug)]
pub(super) struct EventGroup {
    key: GroupKey,
    count: u64,
    errors: u64,
    /// In nanoseconds, in the order of [`PERCENTS`]; `None` without durations.
    percentiles: [Option<u64>; PERCENTS.len()],
}

impl EventGroup {
    pub(super) fn new(key: GroupKey, count: u64, errors: u64, durations: &DurationSketch) -> Self {
        Self {
            key,
            count,
            errors,
            percentiles: PERCENTS.map(|percent| durations.percentile(percent)),
        }
    }
}

/// The groups of an answer.
#[derive(Debug, Default)]
pub(in crate::query) struct EventGroups(pub(super) Vec<EventGroup>);

impl SpanAttributes for EventGroups {
    fn record(&self, span: &Span) {
        span.record("db.response.returned_rows", spans::number(self.0.len()));
    }
}

impl EventGroups {
    /// Returns the answer.
    pub(super) fn into_json(mut self, aggregation: &Aggregation) -> String {
        let groups = &mut self.0;
        groups.sort_unstable_by(|a, b| {
            let place = |group: &EventGroup| (group.key.time_ms, Reverse(group.count));
            place(a)
                .cmp(&place(b))
                .then_with(|| a.key.values.cmp(&b.key.values))
        });
        let more = groups.len() > aggregation.groups as usize;
        groups.truncate(aggregation.groups as usize);
        let (from, to) = (aggregation.from_ms, aggregation.to_ms);
        let mut json = format!(
            "{{\"from\":{from},\"to\":{to},\"percentileError\":{RELATIVE_ERROR},\"more\":{more},\"groups\":["
        );
        for (index, group) in groups.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            group
                .write(&mut json, aggregation)
                .expect("a String takes any text");
        }
        json.push_str("]}");
        json
    }
}

impl EventGroup {
    #[expect(
        clippy::cast_precision_loss,
        reason = "shares and rates are rounded anyway"
    )]
    fn write(&self, json: &mut String, aggregation: &Aggregation) -> std::fmt::Result {
        let (count, errors) = (self.count, self.errors);
        json.push('{');
        let (mut first_ms, mut last_ms) = (aggregation.from_ms, aggregation.to_ms);
        if let (Some(time_ms), Some(width_ms)) = (self.key.time_ms, aggregation.bucket_ms) {
            write!(json, "\"time\":{time_ms},")?;
            first_ms = first_ms.max(time_ms);
            last_ms = last_ms.min(time_ms.saturating_add(width_ms - 1));
        }
        for (column, value) in aggregation.by.iter().zip(&self.key.values) {
            let value = serde_json::to_string(value).map_err(|_| std::fmt::Error)?;
            write!(json, "\"{}\":{value},", column.name())?;
        }
        let seconds = last_ms.saturating_sub(first_ms).saturating_add(1).max(1) as f64 / 1000.0;
        write!(
            json,
            "\"count\":{count},\"errors\":{errors},\"errorShare\":{},\"rate\":{}",
            errors as f64 / count.max(1) as f64,
            count as f64 / seconds,
        )?;
        for (percent, nanoseconds) in PERCENTS.iter().zip(self.percentiles) {
            match nanoseconds {
                Some(nanoseconds) => {
                    write!(json, ",\"p{percent}Ms\":{}", nanoseconds as f64 / 1e6)?;
                }
                None => write!(json, ",\"p{percent}Ms\":null")?,
            }
        }
        json.push('}');
        Ok(())
    }
}
