//! Conversion of a request's parameters to a [`Search`]; pure.
//!
//! **Invariant:** a parameter that is unknown, repeated, malformed or beyond its limit is an error that names it. None
//! is ignored.

use std::collections::HashSet;

use crate::decode::timestamp::{LOOKS_LIKE_SECONDS, SECONDS_BELOW_MS};
use crate::query::cursor::{self, SortOrder};
use crate::query::error::QueryError;
use crate::query::filter::{Filter, Quantity, TextColumn};
use crate::query::search::Search;
use crate::query::{Options, time_text};
use crate::text::shown;

/// Maximum number of segments in a `metadata.` path; JSON of more levels is never stored.
const PATH_MAX: usize = 32;

/// The condition that a parameter becomes.
enum FilterKind {
    Equal(TextColumn),
    Trace,
    Span,
    AtLeast(Quantity),
    AtMost(Quantity),
}

const FILTERS: [(&str, FilterKind); 14] = [
    ("integration", FilterKind::Equal(TextColumn::Integration)),
    (
        "correlationId",
        FilterKind::Equal(TextColumn::CorrelationId),
    ),
    ("eventType", FilterKind::Equal(TextColumn::EventType)),
    ("provider", FilterKind::Equal(TextColumn::Provider)),
    ("traceId", FilterKind::Trace),
    ("spanId", FilterKind::Span),
    ("name", FilterKind::Equal(TextColumn::Name)),
    ("status", FilterKind::Equal(TextColumn::Status)),
    ("from", FilterKind::AtLeast(Quantity::Time)),
    ("to", FilterKind::AtMost(Quantity::Time)),
    ("minDurationMs", FilterKind::AtLeast(Quantity::Duration)),
    ("maxDurationMs", FilterKind::AtMost(Quantity::Duration)),
    ("receivedFrom", FilterKind::AtLeast(Quantity::Received)),
    ("receivedTo", FilterKind::AtMost(Quantity::Received)),
];

const PAGE_PARAMETERS: [&str; 5] = ["limit", "offset", "order", "cursor", "format"];

/// Asks for the number of events instead of a page.
const COUNT: &str = "count";

const A_TIME: &str = "must be a time: Unix milliseconds, or RFC 3339 like 2026-01-31T12:00:00Z";
const A_DURATION: &str = "must be a number of milliseconds, at most six digits after the point";

impl Search {
    /// Reads the parameters of `GET /query`.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for the first invalid one.
    pub(super) fn of_query(
        pairs: &[(String, String)],
        options: &Options,
    ) -> Result<Self, QueryError> {
        let mut search = Self {
            filters: Vec::new(),
            order: order(pairs, SortOrder::NewestFirst)?,
            limit: options.limit_default,
            offset: 0,
            after: None,
        };
        each_once(pairs)?;
        for (name, value) in pairs {
            if !search.page_parameter(name, value, options)? {
                search.add_filter(name, value, options)?;
            }
        }
        if search.offset > 0 && search.after.is_some() {
            return Err(QueryError::parameter(
                "offset",
                "a query has cursor or offset, not both",
            ));
        }
        search.check_bounds()?;
        Ok(search)
    }

    /// Reads the parameters of `GET /traces/{traceId}`: all events of the trace, oldest first, in pages of the maximum
    /// size.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for the first invalid one.
    pub(super) fn of_trace(
        trace_id: &str,
        pairs: &[(String, String)],
        options: &Options,
    ) -> Result<Self, QueryError> {
        let mut search = Self {
            filters: vec![Filter::trace(trace_id)],
            order: order(pairs, SortOrder::OldestFirst)?,
            limit: options.limit_max,
            offset: 0,
            after: None,
        };
        each_once(pairs)?;
        for (name, value) in pairs {
            if name == "offset" || !search.page_parameter(name, value, options)? {
                return Err(QueryError::parameter(
                    name,
                    "a trace is read with limit, order, cursor and format only",
                ));
            }
        }
        Ok(search)
    }

    /// Reads `limit`, `offset` or `cursor`, and returns `false` for an unknown name. `order` and `format` are read
    /// elsewhere.
    fn page_parameter(
        &mut self,
        name: &str,
        value: &str,
        options: &Options,
    ) -> Result<bool, QueryError> {
        match name {
            "limit" => self.limit = whole(name, value, 1, options.limit_max)?,
            "offset" => self.offset = whole(name, value, 0, options.offset_max)?,
            "order" | "format" | COUNT => {}
            "cursor" => {
                let key = cursor::decode(self.order, value).ok_or_else(|| {
                    QueryError::parameter(
                        name,
                        "cursor must be copied from the previous page's Link header unchanged, with the same order",
                    )
                })?;
                self.after = Some(key);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads the parameters of `GET /query?count=true`; `None` if the request asks for events.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for the first invalid one.
    pub(super) fn of_count(
        pairs: &[(String, String)],
        options: &Options,
    ) -> Result<Option<Self>, QueryError> {
        let count = pairs.iter().find(|(name, _)| name == COUNT);
        match count.map(|(_, value)| value.as_str()) {
            None | Some("false") => return Ok(None),
            Some("true") => {}
            Some(_) => {
                let reason = "count must be true or false";
                return Err(QueryError::parameter(COUNT, reason));
            }
        }
        let mut search = Self::of_all();
        each_once(pairs)?;
        for (name, value) in pairs.iter().filter(|(name, _)| name != COUNT) {
            if PAGE_PARAMETERS.contains(&name.as_str()) {
                let reason = format!("a count has no page: leave out {name}");
                return Err(QueryError::parameter(name, reason));
            }
            search.add_filter(name, value, options)?;
        }
        search.check_bounds()?;
        Ok(Some(search))
    }

    /// Returns the search without a condition, for statements that count.
    pub(super) const fn of_all() -> Self {
        Self {
            filters: Vec::new(),
            order: SortOrder::NewestFirst,
            limit: 0,
            offset: 0,
            after: None,
        }
    }

    /// Adds the condition of a parameter.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] if it is unknown or malformed, or one too many.
    pub(super) fn add_filter(
        &mut self,
        name: &str,
        value: &str,
        options: &Options,
    ) -> Result<(), QueryError> {
        self.filters.push(filter(name, value)?);
        if self.filters.len() > options.filters_max {
            let reason = format!("a query has at most {} filters", options.filters_max);
            return Err(QueryError::parameter(name, reason));
        }
        Ok(())
    }

    /// Refuses a lower bound that exceeds the upper bound of the same quantity.
    pub(super) fn check_bounds(&self) -> Result<(), QueryError> {
        for filter in &self.filters {
            let Filter::AtLeast(quantity, lower) = filter else {
                continue;
            };
            let is_below = |filter: &Filter| matches!(filter, Filter::AtMost(of, upper) if of == quantity && upper < lower);
            if self.filters.iter().any(is_below) {
                let (lower, upper) = match quantity {
                    Quantity::Time => ("from", "to"),
                    Quantity::Received => ("receivedFrom", "receivedTo"),
                    Quantity::Duration => ("minDurationMs", "maxDurationMs"),
                };
                let reason = format!("{lower} is after {upper}: nothing can match");
                return Err(QueryError::parameter(lower, reason));
            }
        }
        Ok(())
    }
}

pub(super) fn each_once(pairs: &[(String, String)]) -> Result<(), QueryError> {
    let mut seen = HashSet::new();
    match pairs.iter().find(|(name, _)| !seen.insert(name)) {
        None => Ok(()),
        Some((name, _)) => Err(QueryError::parameter(
            name,
            format!("{} is given twice", shown(name)),
        )),
    }
}

/// Returns the order, which is needed to read the cursor and may follow it among the parameters.
fn order(pairs: &[(String, String)], default: SortOrder) -> Result<SortOrder, QueryError> {
    match pairs.iter().find(|(name, _)| name == "order") {
        None => Ok(default),
        Some((_, value)) if value == "desc" => Ok(SortOrder::NewestFirst),
        Some((_, value)) if value == "asc" => Ok(SortOrder::OldestFirst),
        Some(_) => Err(QueryError::parameter("order", "order must be asc or desc")),
    }
}

pub(super) fn whole(name: &str, value: &str, min: u32, max: u32) -> Result<u32, QueryError> {
    Some(value)
        .filter(|value| value.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|value| value.parse().ok())
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| {
            QueryError::parameter(
                name,
                format!("{name} must be a whole number from {min} to {max}"),
            )
        })
}

fn filter(name: &str, value: &str) -> Result<Filter, QueryError> {
    let Some((_, kind)) = FILTERS.iter().find(|(known, _)| *known == name) else {
        return json_filter(name, value);
    };
    Ok(match kind {
        FilterKind::Equal(column) => Filter::Equal(*column, value.to_owned()),
        FilterKind::Trace => Filter::trace(value),
        FilterKind::Span => Filter::span(value),
        FilterKind::AtLeast(quantity) => Filter::AtLeast(*quantity, bound(name, value, *quantity)?),
        FilterKind::AtMost(quantity) => {
            let bound = bound(name, value, *quantity)?;
            // An end in Unix seconds would precede all events with a usual time, and nothing would be found.
            let is_digits = value.bytes().all(|b| b.is_ascii_digit());
            let is_seconds = is_digits && (0..SECONDS_BELOW_MS).contains(&bound);
            if is_seconds && *quantity != Quantity::Duration {
                return Err(malformed(name, LOOKS_LIKE_SECONDS));
            }
            Filter::AtMost(*quantity, bound)
        }
    })
}

fn bound(name: &str, value: &str, quantity: Quantity) -> Result<i64, QueryError> {
    match quantity {
        Quantity::Time | Quantity::Received => {
            time_text::millis(value).ok_or_else(|| malformed(name, A_TIME))
        }
        Quantity::Duration => {
            time_text::duration_ns(value).ok_or_else(|| malformed(name, A_DURATION))
        }
    }
}

fn malformed(name: &str, expected: &str) -> QueryError {
    QueryError::parameter(name, format!("{name} {expected}"))
}

fn json_filter(name: &str, value: &str) -> Result<Filter, QueryError> {
    let value = value.to_owned();
    let filter = match name.split_once('.') {
        Some(("attributes", key)) => {
            Filter::Metadata(vec!["attributes".to_owned(), key.to_owned()], value)
        }
        Some(("resource", key)) => Filter::Resource(key.to_owned(), value),
        Some(("metadata", path)) => Filter::Metadata(segments(path), value),
        _ => return Err(unknown(name)),
    };
    match &filter {
        Filter::Metadata(path, _) if path.len() > PATH_MAX => Err(QueryError::parameter(
            name,
            format!("a path has at most {PATH_MAX} segments"),
        )),
        _ => Ok(filter),
    }
}

/// Splits a path at `.`; `\.` is a literal dot. A segment may be empty, as a key may be: the empty path is the key
/// `""`.
fn segments(path: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut characters = path.chars().peekable();
    while let Some(character) = characters.next() {
        let last = segments.len() - 1;
        match character {
            '\\' if characters.next_if_eq(&'.').is_some() => segments[last].push('.'),
            '.' => segments.push(String::new()),
            _ => segments[last].push(character),
        }
    }
    segments
}

fn unknown(name: &str) -> QueryError {
    let filters = FILTERS.iter().map(|(known, _)| *known);
    let near = filters
        .chain(PAGE_PARAMETERS)
        .chain([COUNT])
        .filter(|_| name.len() <= 64)
        .map(|known| (strsim::damerau_levenshtein(known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= 3 && 2 * distance <= name.len());
    let hint = match near {
        Some((_, known)) => format!("; did you mean {known}?"),
        None => "; attributes.<key>, resource.<key> and metadata.<path> search the data that was sent with the event"
            .to_owned(),
    };
    QueryError::parameter(name, format!("unknown parameter {}{hint}", shown(name)))
}

#[cfg(test)]
mod tests;
