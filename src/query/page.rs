//! Conversion of rows to the JSON text of a page.
//!
//! `provider`, `traceId` and `spanId` are `null` if an event has none, as in the service's first version. Members that
//! were added later are left out instead.
//!
//! **Invariant:** stored JSON is answered as text, never parsed into values, so that numbers keep every digit.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fmt::{Display, Write as _};

use bytes::Bytes;
use sqlx::{ColumnIndex, Decode, Row, Type};
use tracing::Span;

use crate::memory::budget::BudgetRefusal;
use crate::query::answer_memory::{AnswerGrant, LARGE_ROW_BYTES};
use crate::query::cursor::{PageKey, SortOrder};
use crate::query::error::QueryError;
use crate::query::time_text;
use crate::telemetry::own_traces::{SpanAttributes, spans};

/// One event of a page.
#[derive(Clone, Debug)]
pub(super) struct FoundEvent {
    pub(super) key: PageKey,
    /// The receive time in Unix µs.
    pub(super) received_us: i64,
    /// Unix time in nanoseconds, if the event has one.
    time_unix_nano: Option<i64>,
    /// One JSON object; without metadata, resource and scope while these are unread.
    pub(super) json: String,
    /// Length of metadata, resource and scope if they are unread: too long to be read with the other rows.
    pub(super) unread_bytes: Option<usize>,
}

impl FoundEvent {
    /// Makes an event without any text.
    #[cfg(test)]
    pub(super) const fn of(key: PageKey, received_us: i64) -> Self {
        Self {
            key,
            received_us,
            time_unix_nano: None,
            json: String::new(),
            unread_bytes: None,
        }
    }

    /// Returns the event's length in an answer, with a comma.
    fn answer_bytes(&self) -> usize {
        self.json.len() + self.unread_bytes.unwrap_or(0) + 1
    }

    /// Returns the bytes of memory that the event occupies.
    pub(super) const fn held_bytes(&self) -> usize {
        self.json.capacity() + size_of::<Self>() + size_of::<Bytes>()
    }
}

/// A page of events, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct ResultPage {
    pub(super) events: Vec<FoundEvent>,
    /// A next page may have events.
    pub(super) more: bool,
}

impl SpanAttributes for ResultPage {
    fn record(&self, span: &Span) {
        span.record(
            "db.response.returned_rows",
            spans::number(self.events.len()),
        );
    }
}

impl ResultPage {
    /// Cuts the page to at most `limit` events and `bytes` bytes: at whole events, but to at least one.
    pub(super) fn truncate(&mut self, limit: usize, bytes: usize) {
        let mut used = 0_usize;
        let fits = self.events.iter().take_while(|event| {
            used += event.answer_bytes();
            used <= bytes
        });
        let keep = fits.count().max(1).min(limit);
        self.truncate_at(keep);
    }

    /// Keeps the first `events` events, and leaves the others to the next page.
    fn truncate_at(&mut self, events: usize) {
        if events < self.events.len() {
            self.events.truncate(events);
            self.more = true;
        }
    }

    /// Returns the bytes of memory that the events occupy.
    pub(super) fn held_bytes(&self) -> usize {
        self.events.iter().map(FoundEvent::held_bytes).sum()
    }

    /// Reserves memory for the unread texts of the first event that has any, and returns its index and key; `None` if
    /// all texts are read.
    ///
    /// An event that never fits together with those before it is left to the next page.
    ///
    /// # Errors
    /// [`QueryError::NoMemory`] if other answers hold the memory, [`QueryError::TooLarge`] if the event does not even
    /// fit into a page alone.
    pub(super) async fn next_unread(
        &mut self,
        held: &mut AnswerGrant,
    ) -> Result<Option<(usize, PageKey)>, QueryError> {
        let unread = |event: &FoundEvent| event.unread_bytes.map(|bytes| (event.key, bytes));
        let mut found = self.events.iter().enumerate();
        let Some((index, (key, bytes))) =
            found.find_map(|(index, event)| Some((index, unread(event)?)))
        else {
            return Ok(None);
        };
        match held.hold_row(self.held_bytes(), bytes).await {
            Ok(()) => Ok(Some((index, key))),
            Err(BudgetRefusal::NoRoom) => Err(QueryError::NoMemory),
            Err(BudgetRefusal::NeverFits { .. }) if index > 0 => {
                self.truncate_at(index);
                Ok(None)
            }
            Err(BudgetRefusal::NeverFits { limit_bytes }) => Err(QueryError::TooLarge {
                id: key.id,
                bytes,
                limit_bytes: limit_bytes / 2,
            }),
        }
    }

    /// Returns `true` if an event has unread texts.
    pub(super) fn has_unread(&self) -> bool {
        self.events.iter().any(|event| event.unread_bytes.is_some())
    }

    /// Replaces an event with unread texts by the whole one, or removes it if the database no longer has it.
    pub(super) fn replace(&mut self, index: usize, event: Option<FoundEvent>) {
        match event {
            Some(event) => self.events[index] = event,
            None => drop(self.events.remove(index)),
        }
    }

    /// Returns the key after which the next page begins, if there may be one.
    pub(super) fn next(&self, order: SortOrder) -> Option<PageKey> {
        let keys = self.events.iter().map(|event| event.key);
        match order {
            _ if !self.more => None,
            SortOrder::NewestFirst => keys.min(),
            SortOrder::OldestFirst => keys.max(),
        }
    }

    /// Sorts the events of each millisecond by nanosecond, so that a parent precedes a child that began in the same
    /// millisecond. Pages are still delimited by [`PageKey`].
    pub(super) fn order_by_nanosecond(&mut self, order: SortOrder) {
        let time = |event: &FoundEvent| {
            let of_millisecond = event.key.timestamp.saturating_mul(1_000_000);
            event.time_unix_nano.unwrap_or(of_millisecond)
        };
        let place = |event: &FoundEvent| (event.key.timestamp, time(event), event.key.id);
        match order {
            SortOrder::NewestFirst => self.events.sort_by_key(|event| Reverse(place(event))),
            SortOrder::OldestFirst => self.events.sort_by_key(place),
        }
    }

    /// Returns the JSON array in non-empty parts.
    pub(super) fn into_json(self) -> VecDeque<Bytes> {
        if self.events.is_empty() {
            return VecDeque::from([Bytes::from_static(b"[]")]);
        }
        let last = self.events.len() - 1;
        let mut parts = VecDeque::with_capacity(self.events.len() + 1);
        parts.push_back(Bytes::from_static(b"["));
        for (index, mut event) in self.events.into_iter().enumerate() {
            event.json.reserve_exact(1);
            event.json.push(if index < last { ',' } else { ']' });
            parts.push_back(event.json.into());
        }
        parts
    }
}

/// A page that is being read from the database.
pub(super) struct PageBuilder<'a> {
    page: ResultPage,
    /// Length of the answer so far.
    answer_bytes: usize,
    /// Memory of the query so far.
    held_bytes: usize,
    /// Maximum length of the answer.
    room_bytes: usize,
    held: &'a mut AnswerGrant,
}

/// The result of adding an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddedEvent {
    Yes,
    /// The event does not fit into the page's bytes.
    No,
}

impl<'a> PageBuilder<'a> {
    /// Begins a page of at most `room_bytes`, or one event. The query holds `held_bytes` in addition to the page.
    pub(super) fn new(room_bytes: usize, held_bytes: usize, held: &'a mut AnswerGrant) -> Self {
        Self {
            page: ResultPage::default(),
            answer_bytes: 0,
            held_bytes,
            room_bytes,
            held,
        }
    }

    /// Adds the next event.
    ///
    /// # Errors
    /// [`QueryError::NoMemory`] if the query gets no memory for it.
    pub(super) async fn add(&mut self, event: FoundEvent) -> Result<AddedEvent, QueryError> {
        self.answer_bytes += event.answer_bytes();
        if self.answer_bytes > self.room_bytes && !self.page.events.is_empty() {
            self.page.more = true;
            return Ok(AddedEvent::No);
        }
        self.held_bytes += event.held_bytes();
        let held = self.held.hold(self.held_bytes).await;
        held.map_err(|_| QueryError::NoMemory)?;
        self.page.events.push(event);
        Ok(AddedEvent::Yes)
    }

    pub(super) fn into_page(self) -> ResultPage {
        self.page
    }
}

/// Reads a row of a statement that [`super::select::with_resources`] made.
pub(super) fn event<'r, R: Row>(row: &'r R) -> Result<FoundEvent, sqlx::Error>
where
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
{
    let int = |index: usize| row.try_get::<Option<i64>, usize>(index);
    let text = |index: usize| row.try_get::<Option<&'r str>, usize>(index);
    let key = PageKey {
        timestamp: row.try_get(0)?,
        id: row.try_get(1)?,
    };
    let texts @ [metadata, resource, scope] = [text(6)?, text(17)?, text(18)?];
    let bytes: usize = texts.iter().flatten().map(|text| text.len()).sum();
    let columns = if bytes > LARGE_ROW_BYTES {
        8 << 10
    } else {
        512
    };
    let mut json = String::with_capacity(bytes + columns);
    let unread: Option<i64> = int(19)?;

    let time_unix_nano = int(12)?;
    let received_us = row.try_get(9)?;
    let created_at = time_text::rfc3339(received_us);
    let quoted = |nanos: i64| format!("\"{nanos}\"");
    let out = &mut json;

    write!(out, "{{\"id\":{}", key.id).expect("a String takes any text");
    put_text(out, "correlationId", text(2)?);
    put_text(out, "integration", text(3)?);
    put_text_or_null(out, "provider", text(4)?);
    put_text(out, "eventType", text(5)?);
    put(out, "timestamp", Some(key.timestamp));
    put(out, "metadata", metadata);
    put_text_or_null(out, "traceId", text(7)?);
    put_text_or_null(out, "spanId", text(8)?);
    put_text_or_null(out, "createdAt", created_at.as_deref());
    put_text(out, "parentSpanId", text(10)?);
    put_text(out, "name", text(11)?);
    put(out, "timeUnixNano", time_unix_nano.map(quoted));
    put(out, "durationNs", int(13)?);
    put(out, "kind", int(14)?);
    put_text(out, "status", text(15)?);
    put(out, "flags", int(16)?);
    put(out, "resource", resource);
    put(out, "scope", scope);
    json.push('}');
    Ok(FoundEvent {
        key,
        received_us,
        time_unix_nano,
        json,
        unread_bytes: unread.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
    })
}

/// Appends a member whose value is printed as JSON; none if there is no value. Stored JSON is appended unchanged: both
/// stores hold it in the form in which PostgreSQL prints it.
fn put(json: &mut String, name: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        write!(json, ",\"{name}\":{value}").expect("a String takes any text");
    }
}

fn put_text(json: &mut String, name: &str, value: Option<&str>) {
    put(json, name, value.map(serde_json::Value::from));
}

fn put_text_or_null(json: &mut String, name: &str, value: Option<&str>) {
    put(json, name, Some(serde_json::Value::from(value)));
}

#[cfg(test)]
mod tests {
    use super::{FoundEvent, PageKey, ResultPage, SortOrder};

    fn page_of(sizes: &[usize]) -> ResultPage {
        let key = PageKey {
            timestamp: 0,
            id: 0,
        };
        let event = |size: &usize| FoundEvent {
            json: "x".repeat(*size),
            ..FoundEvent::of(key, 0)
        };
        ResultPage {
            events: sizes.iter().map(event).collect(),
            more: false,
        }
    }

    #[test]
    fn a_page_is_cut_at_whole_events_and_holds_at_least_one() {
        for (sizes, limit, bytes, kept, more) in [
            (&[10, 10, 10][..], 3, 100, 3, false),
            (&[10, 10, 10], 2, 100, 2, true),
            (&[10, 10, 10], 3, 25, 2, true),
            (&[500, 10], 3, 25, 1, true),
            (&[500], 3, 25, 1, false),
            (&[], 3, 25, 0, false),
        ] {
            let mut page = page_of(sizes);
            page.truncate(limit, bytes);
            assert_eq!((page.events.len(), page.more), (kept, more), "{sizes:?}");
        }
    }

    #[test]
    fn within_a_millisecond_nanoseconds_decide_and_the_next_page_does_not_care() {
        let event = |id, nanos: Option<i64>| FoundEvent {
            time_unix_nano: nanos.map(|n| 5_000_000 + n),
            ..FoundEvent::of(PageKey { timestamp: 5, id }, 0)
        };
        let mut page = ResultPage {
            events: vec![event(1, Some(900)), event(2, Some(100)), event(3, None)],
            more: true,
        };
        let ids = |page: &ResultPage| page.events.iter().map(|e| e.key.id).collect::<Vec<_>>();
        page.order_by_nanosecond(SortOrder::OldestFirst);
        assert_eq!(ids(&page), [3, 2, 1]);
        page.order_by_nanosecond(SortOrder::NewestFirst);
        assert_eq!(ids(&page), [1, 2, 3]);
        assert_eq!(page.next(SortOrder::OldestFirst).map(|key| key.id), Some(3));
        assert_eq!(page.next(SortOrder::NewestFirst).map(|key| key.id), Some(1));
    }
}
