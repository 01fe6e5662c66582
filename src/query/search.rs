//! A search for one page of events.
//!
//! **Invariant:** an event is found only if it matches every condition.

use std::ops::RangeInclusive;

use crate::event::Signal;
use crate::query::RESOURCES_LISTED;
use crate::query::cursor::{PageKey, SortOrder};
use crate::query::error::QueryError;
use crate::query::filter::{Filter, Quantity, TextColumn};

const DAY_MS: i64 = 86_400_000;

/// The events that a request asks for.
pub(super) enum Lookup {
    Page(Search),
    /// The event with this id.
    Event(i64),
}

/// A search for one page of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Search {
    /// The conditions, all of which an event must match.
    pub(super) filters: Vec<Filter>,
    pub(super) order: SortOrder,
    /// Maximum number of events in the page.
    pub(super) limit: u32,
    /// Number of matching events to skip.
    pub(super) offset: u32,
    /// The last event of the previous page.
    pub(super) after: Option<PageKey>,
}

impl Search {
    /// Returns the number of rows to read: one more than the limit, which shows if another page follows.
    pub(super) fn wanted(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// Returns the one signal of the search, as an export has one signal.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] if `eventType` does not name a signal of OTLP.
    pub(super) fn signal(&self) -> Result<Signal, QueryError> {
        let named = self.equal(TextColumn::EventType);
        Signal::OTLP
            .into_iter()
            .find(|signal| named == Some(signal.as_str()))
            .ok_or_else(|| {
                QueryError::parameter(
                    "eventType",
                    "an answer in OTLP has one signal: eventType must be span, log or metric",
                )
            })
    }

    /// Restricts the search to spans, and returns their signal.
    pub(super) fn spans_alone(&mut self) -> Signal {
        let signal = Signal::Span;
        let is_span = Filter::Equal(TextColumn::EventType, signal.as_str().to_owned());
        self.filters.push(is_span);
        signal
    }

    /// Returns the value that a column must have.
    pub(super) fn equal(&self, column: TextColumn) -> Option<&str> {
        self.filters.iter().find_map(|filter| match filter {
            Filter::Equal(of, value) if *of == column => Some(value.as_str()),
            _ => None,
        })
    }

    /// Returns `true` if the search has a bound of times, or continues after a page.
    pub(super) fn is_bounded(&self) -> bool {
        self.after.is_some() || self.filters.iter().any(Filter::is_range)
    }

    /// Returns the lower bound of the events' own times in Unix ms.
    pub(super) fn earliest_ms(&self) -> Option<i64> {
        let after = self.after.filter(|_| self.order == SortOrder::OldestFirst);
        let bounds = self.filters.iter().filter_map(|filter| match filter {
            Filter::AtLeast(Quantity::Time, ms) => Some(*ms),
            _ => None,
        });
        bounds.chain(after.map(|key| key.timestamp)).max()
    }

    /// Returns the upper bound of the events' own times in Unix ms.
    pub(super) fn latest_ms(&self) -> Option<i64> {
        let after = self.after.filter(|_| self.order == SortOrder::NewestFirst);
        let bounds = self.filters.iter().filter_map(|filter| match filter {
            Filter::AtMost(Quantity::Time, ms) => Some(*ms),
            _ => None,
        });
        bounds.chain(after.map(|key| key.timestamp)).min()
    }

    /// Returns the length of all texts that the conditions compare with.
    pub(super) fn text_bytes(&self) -> usize {
        self.filters.iter().map(Filter::text_bytes).sum()
    }

    /// Returns the time span in Unix ms of a search that has several conditions besides a span of at most a day. Then few
    /// events match.
    pub(super) fn narrow_span(&self) -> Option<RangeInclusive<i64>> {
        let (mut from, mut to, mut others) = (None, None, 0);
        for filter in &self.filters {
            match filter {
                Filter::AtLeast(Quantity::Time, ms) => from = Some(*ms),
                Filter::AtMost(Quantity::Time, ms) => to = Some(*ms),
                _ => others += usize::from(!filter.is_range()),
            }
        }
        let (from, to) = from.zip(to)?;
        (others > 1 && to.saturating_sub(from) <= DAY_MS).then_some(from..=to)
    }

    /// Returns `true` if a condition concerns the resource of an event.
    pub(super) fn asks_for_resources(&self) -> bool {
        self.filters.iter().any(Filter::is_about_resource)
    }

    /// Replaces the conditions on resources by the ids of the resources that match them, unless there are more than
    /// [`RESOURCES_LISTED`]. Returns `false` if none matches, so that no event can.
    pub(super) fn list_resources(&mut self, ids: Vec<Vec<u8>>) -> bool {
        let is_any = !ids.is_empty();
        if i64::try_from(ids.len()).is_ok_and(|found| found <= RESOURCES_LISTED) {
            self.filters.retain(|filter| !filter.is_about_resource());
            self.filters.push(Filter::ResourceIn(ids));
        }
        is_any
    }
}
