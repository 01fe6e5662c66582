//! Rows to the JSON text of a page.
//!
//! `provider`, `traceId` and `spanId` are `null` where an event has none, as in the first service; what was added since is
//! left out.
//!
//! **Invariant:** stored JSON is answered as its text, never parsed into values: numbers keep every digit.

use std::cmp::Reverse;
use std::fmt::Write as _;

use sqlx::{ColumnIndex, Decode, Row, Type};
use tracing::Span;

use super::cursor::{Key, Order};
use super::time;
use crate::observe::own_traces::{Noted, spans};

/// One event of a page.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) key: Key,
    /// Its time to the nanosecond, where it has one.
    time_unix_nano: Option<i64>,
    /// One JSON object.
    pub(super) json: String,
}

/// Events in their order, and whether more may follow.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) events: Vec<Event>,
    pub(super) more: bool,
}

impl Noted for Page {
    fn note(&self, span: &Span) {
        span.record(
            "db.response.returned_rows",
            spans::number(self.events.len()),
        );
    }
}

impl Noted for Option<Event> {
    fn note(&self, span: &Span) {
        span.record("db.response.returned_rows", i64::from(self.is_some()));
    }
}

impl Page {
    /// Keeps what a page of `limit` events and `bytes` has room for: whole events, at least one.
    pub(super) fn cut(&mut self, limit: usize, bytes: usize) {
        let mut used = 0_usize;
        let fits = self.events.iter().take_while(|event| {
            used += event.json.len() + 1;
            used <= bytes
        });
        let keep = fits.count().max(1).min(limit);
        if keep < self.events.len() {
            self.events.truncate(keep);
            self.more = true;
        }
    }

    /// The key that the next page begins after, where there may be one.
    pub(super) fn next(&self, order: Order) -> Option<Key> {
        let keys = self.events.iter().map(|event| event.key);
        match order {
            _ if !self.more => None,
            Order::NewestFirst => keys.min(),
            Order::OldestFirst => keys.max(),
        }
    }

    /// Puts the events of each millisecond in the order of their nanoseconds: a parent that began with its child stands
    /// before it. Pages are still told apart by [`Key`].
    pub(super) fn order_by_nanosecond(&mut self, order: Order) {
        let time = |event: &Event| {
            let of_millisecond = event.key.timestamp.saturating_mul(1_000_000);
            event.time_unix_nano.unwrap_or(of_millisecond)
        };
        let place = |event: &Event| (event.key.timestamp, time(event), event.key.id);
        match order {
            Order::NewestFirst => self.events.sort_by_key(|event| Reverse(place(event))),
            Order::OldestFirst => self.events.sort_by_key(place),
        }
    }

    /// The JSON array.
    pub(super) fn into_json(self) -> String {
        let bytes: usize = self.events.iter().map(|event| event.json.len() + 1).sum();
        let mut json = String::with_capacity(bytes + 2);
        json.push('[');
        for (index, event) in self.events.into_iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            json.push_str(&event.json);
        }
        json.push(']');
        json
    }
}

/// Reads a row of [`super::sql::with_resources`].
pub(super) fn event<'r, R: Row>(row: &'r R) -> Result<Event, sqlx::Error>
where
    usize: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
{
    let int = |index: usize| row.try_get::<Option<i64>, usize>(index);
    let text = |index: usize| row.try_get::<Option<&'r str>, usize>(index);
    let key = Key {
        timestamp: row.try_get(0)?,
        id: row.try_get(1)?,
    };
    let metadata: &str = row.try_get(6)?;
    let mut json = String::with_capacity(metadata.len() + 512);

    write!(json, "{{\"id\":{}", key.id).expect("a String takes any text");
    put_text(&mut json, "correlationId", text(2)?);
    put_text(&mut json, "integration", text(3)?);
    put_text_or_null(&mut json, "provider", text(4)?);
    put_text(&mut json, "eventType", text(5)?);
    put_raw(&mut json, "timestamp", key.timestamp);
    put_json(&mut json, "metadata", Some(metadata));
    put_text_or_null(&mut json, "traceId", text(7)?);
    put_text_or_null(&mut json, "spanId", text(8)?);
    put_text_or_null(
        &mut json,
        "createdAt",
        time::rfc3339(row.try_get(9)?).as_deref(),
    );
    put_text(&mut json, "parentSpanId", text(10)?);
    put_text(&mut json, "name", text(11)?);
    let time_unix_nano = int(12)?;
    if let Some(nanos) = time_unix_nano {
        put_raw(&mut json, "timeUnixNano", format_args!("\"{nanos}\""));
    }
    put_int(&mut json, "durationNs", int(13)?);
    put_int(&mut json, "kind", int(14)?);
    put_text(&mut json, "status", text(15)?);
    put_int(&mut json, "flags", int(16)?);
    put_json(&mut json, "resource", text(17)?);
    put_json(&mut json, "scope", text(18)?);
    json.push('}');
    Ok(Event {
        key,
        time_unix_nano,
        json,
    })
}

fn put_raw(json: &mut String, name: &str, value: impl std::fmt::Display) {
    write!(json, ",\"{name}\":{value}").expect("a String takes any text");
}

fn put_int(json: &mut String, name: &str, value: Option<i64>) {
    if let Some(value) = value {
        put_raw(json, name, value);
    }
}

fn put_text(json: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        put_raw(json, name, serde_json::Value::from(value));
    }
}

fn put_text_or_null(json: &mut String, name: &str, value: Option<&str>) {
    match value {
        Some(_) => put_text(json, name, value),
        None => put_raw(json, name, "null"),
    }
}

/// Both stores hold JSON as PostgreSQL prints it, so it is answered as it stands.
fn put_json(json: &mut String, name: &str, stored: Option<&str>) {
    if let Some(stored) = stored {
        put_raw(json, name, stored);
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Key, Order, Page};

    fn page_of(sizes: &[usize]) -> Page {
        let event = |size: &usize| Event {
            key: Key {
                timestamp: 0,
                id: 0,
            },
            time_unix_nano: None,
            json: "x".repeat(*size),
        };
        Page {
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
            page.cut(limit, bytes);
            assert_eq!((page.events.len(), page.more), (kept, more), "{sizes:?}");
        }
    }

    #[test]
    fn within_a_millisecond_nanoseconds_decide_and_the_next_page_does_not_care() {
        let event = |id, nanos: Option<i64>| Event {
            key: Key { timestamp: 5, id },
            time_unix_nano: nanos.map(|n| 5_000_000 + n),
            json: String::new(),
        };
        let mut page = Page {
            events: vec![event(1, Some(900)), event(2, Some(100)), event(3, None)],
            more: true,
        };
        let ids = |page: &Page| page.events.iter().map(|e| e.key.id).collect::<Vec<_>>();
        page.order_by_nanosecond(Order::OldestFirst);
        assert_eq!(ids(&page), [3, 2, 1]);
        page.order_by_nanosecond(Order::NewestFirst);
        assert_eq!(ids(&page), [1, 2, 3]);
        assert_eq!(page.next(Order::OldestFirst).map(|key| key.id), Some(3));
        assert_eq!(page.next(Order::NewestFirst).map(|key| key.id), Some(1));
    }
}
