//! Conversion of the parameters of `GET /aggregate`; pure.
//!
//! **Invariant:** a parameter that is unknown, repeated, malformed or beyond its limit is an error that names it.

use std::time::Duration;

use crate::query::Options;
use crate::query::error::QueryError;
use crate::query::filter::{Filter, Quantity};
use crate::query::parameters::{each_once, whole};
use crate::query::postgres::now_micros;
use crate::query::search::Search;

/// The time before `to`, or before now, that is searched without `from`.
const USUAL_SPAN: Duration = Duration::from_secs(3_600);

/// Number of groups of an answer without `limit`.
const USUAL_GROUPS: u32 = 1_000;

/// Maximum width of a group in time: no sum with it leaves the range of the stores' integers.
const WIDEST_MS: i64 = 366 * 86_400_000;

/// A column by which events are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::query) enum GroupColumn {
    Integration,
    Provider,
    EventType,
    Name,
    Status,
    Kind,
}

impl GroupColumn {
    const ALL: [Self; 6] = [
        Self::Integration,
        Self::Provider,
        Self::EventType,
        Self::Name,
        Self::Status,
        Self::Kind,
    ];

    /// Returns the name in requests and answers.
    pub(in crate::query) const fn name(self) -> &'static str {
        match self {
            Self::Integration => "integration",
            Self::Provider => "provider",
            Self::EventType => "eventType",
            Self::Name => "name",
            Self::Status => "status",
            Self::Kind => "kind",
        }
    }

    /// Returns the column of the event `e`.
    pub(in crate::query) const fn column(self) -> &'static str {
        match self {
            Self::Integration => "e.integration",
            Self::Provider => "e.provider",
            Self::EventType => "e.event_type",
            Self::Name => "e.name",
            Self::Status => "e.status",
            Self::Kind => "CAST(e.kind AS BIGINT)",
        }
    }
}

/// The groups that a request asks for.
#[derive(Clone, Debug)]
pub(in crate::query) struct Aggregation {
    /// The events that are counted; its order and its page have no meaning here.
    pub(in crate::query) search: Search,
    pub(in crate::query) by: Vec<GroupColumn>,
    /// The width of a group in time; `None` = the whole range is one.
    pub(in crate::query) bucket_ms: Option<i64>,
    /// Maximum number of groups in the answer.
    pub(in crate::query) groups: u32,
    /// The range of event times in Unix ms, as answered. Without `to` it ends now, and later events count, too.
    pub(in crate::query) from_ms: i64,
    pub(in crate::query) to_ms: i64,
}

impl Aggregation {
    /// Reads the parameters of `GET /aggregate`.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for the first invalid one.
    pub(super) fn of_query(
        pairs: &[(String, String)],
        options: &Options,
    ) -> Result<Self, QueryError> {
        let mut search = Search::of_all();
        let (mut by, mut bucket_ms, mut groups) = (Vec::new(), None, USUAL_GROUPS);
        each_once(pairs)?;
        for (name, value) in pairs {
            match name.as_str() {
                "by" => by = columns(value)?,
                "bucket" => bucket_ms = Some(width_ms(value)?),
                "limit" => groups = whole(name, value, 1, options.limit_max)?,
                _ => search.add_filter(name, value, options)?,
            }
        }
        search.check_bounds()?;
        let to_ms = search.latest_ms().unwrap_or_else(|| now_micros() / 1000);
        let usual_ms = i64::try_from(USUAL_SPAN.as_millis()).unwrap_or(i64::MAX);
        let from_ms = search.earliest_ms().unwrap_or_else(|| {
            let from_ms = to_ms.saturating_sub(usual_ms);
            search
                .filters
                .push(Filter::AtLeast(Quantity::Time, from_ms));
            from_ms
        });
        Ok(Self {
            search,
            by,
            bucket_ms,
            groups,
            from_ms,
            to_ms,
        })
    }
}

fn columns(list: &str) -> Result<Vec<GroupColumn>, QueryError> {
    let mut columns = Vec::new();
    for name in list.split(',') {
        let column = GroupColumn::ALL
            .into_iter()
            .find(|column| column.name() == name)
            .filter(|column| !columns.contains(column));
        columns.push(column.ok_or_else(|| {
            QueryError::parameter(
                "by",
                "by must be a comma-separated list of integration, provider, eventType, name, status and kind, each at \
                 most once",
            )
        })?);
    }
    Ok(columns)
}

/// Returns the width of a group in milliseconds: a whole number of seconds, minutes, hours or days, at most 366 days.
fn width_ms(text: &str) -> Result<i64, QueryError> {
    let width = || {
        let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let unit_ms = match unit {
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let is_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: i64 = digits.parse().ok().filter(|_| is_digits)?;
        let width = number.checked_mul(unit_ms)?;
        (1..=WIDEST_MS).contains(&width).then_some(width)
    };
    width().ok_or_else(|| {
        QueryError::parameter(
            "bucket",
            "bucket must be a whole number of seconds, minutes, hours or days, like 30s, 5m, 1h or 1d, and at most 366d",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::{Aggregation, GroupColumn, Options, width_ms};
    use crate::query::filter::{Filter, Quantity};

    fn of(pairs: &[(&str, &str)]) -> Result<Aggregation, String> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Aggregation::of_query(&pairs, &Options::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_width_is_a_whole_number_with_a_unit() {
        for (text, expected) in [
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("1d", Some(86_400_000)),
            ("366d", Some(31_622_400_000)),
            ("367d", None),
            ("0s", None),
            ("5", None),
            ("s", None),
            ("", None),
            ("1.5h", None),
            ("+5m", None),
            ("5é", None),
            ("9223372036854775807d", None),
        ] {
            assert_eq!(width_ms(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn without_a_range_the_last_hour_is_searched() {
        let last = of(&[]).unwrap();
        assert_eq!(last.to_ms - last.from_ms, 3_600_000);
        assert_eq!(
            last.search.filters,
            [Filter::AtLeast(Quantity::Time, last.from_ms)]
        );
        let before = of(&[("to", "2026-01-01T12:00:00Z")]).unwrap();
        assert_eq!(before.to_ms - before.from_ms, 3_600_000);
        let all = of(&[("from", "0")]).unwrap();
        assert_eq!((all.from_ms, all.search.filters.len()), (0, 1));
    }

    #[test]
    fn what_cannot_be_grouped_is_refused_by_its_name() {
        let columns = of(&[("by", "name,integration")]).unwrap().by;
        assert_eq!(columns, [GroupColumn::Name, GroupColumn::Integration]);
        for (pairs, named) in [
            (&[("by", "")][..], "by must be"),
            (&[("by", "name,name")], "by must be"),
            (&[("by", "traceId")], "by must be"),
            (&[("bucket", "1w")], "bucket must be"),
            (&[("limit", "0")], "limit must be"),
            (&[("order", "asc")], "unknown parameter"),
            (
                &[("from", "2"), ("to", "2026-01-01T12:00:00Z"), ("from", "3")],
                "given twice",
            ),
        ] {
            let error = of(pairs).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
