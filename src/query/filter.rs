//! One condition on events, and its SQL in each store.
//!
//! **Invariant:** a condition matches the same events in both stores; every value and every JSON key is bound.

use crate::query::statement::{Dialect, SqlStatement, SqlValue};

/// One condition on events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Filter {
    /// The text column equals the value.
    Equal(TextColumn, String),
    /// The trace id equals the value.
    Trace(String),
    /// The quantity is at least the value.
    AtLeast(Quantity, i64),
    /// The quantity is at most the value.
    AtMost(Quantity, i64),
    /// The scalar at a path of object keys in `metadata` equals the value.
    Metadata(Vec<String>, String),
    /// The resource's attribute with this key equals the value.
    Resource(String, String),
    /// The resource's id is one of these, which replaces all [`Filter::Resource`]s of a search.
    ResourceIn(Vec<Vec<u8>>),
}

/// A column of texts that a search may compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum TextColumn {
    CorrelationId,
    EventType,
    Integration,
    Name,
    Provider,
    SpanId,
    Status,
}

impl TextColumn {
    const fn column(self) -> &'static str {
        match self {
            Self::CorrelationId => "e.correlation_id",
            Self::EventType => "e.event_type",
            Self::Integration => "e.integration",
            Self::Name => "e.name",
            Self::Provider => "e.provider",
            Self::SpanId => "e.span_id",
            Self::Status => "e.status",
        }
    }
}

/// A quantity that a search may bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Quantity {
    /// The event's own time in Unix ms.
    Time,
    /// The receive time in Unix ms; an upper bound includes the whole millisecond.
    Received,
    /// The duration in nanoseconds.
    Duration,
}

impl Quantity {
    const fn column(self) -> &'static str {
        match self {
            Self::Time => "e.timestamp",
            Self::Received => "e.created_at",
            Self::Duration => "e.duration_ns",
        }
    }
}

impl Filter {
    /// Makes the condition on a trace id. An id of 32 hex digits is stored in lower case, any other as sent.
    pub(super) fn trace(id: &str) -> Self {
        Self::Trace(lower_hex(id, 32))
    }

    /// Makes the condition on a span id. An id of 16 hex digits is stored in lower case, any other as sent.
    pub(super) fn span(id: &str) -> Self {
        Self::Equal(TextColumn::SpanId, lower_hex(id, 16))
    }

    /// Returns `true` for a bound of a time: these narrow the range of rows to search.
    pub(super) const fn is_range(&self) -> bool {
        matches!(
            self,
            Self::AtLeast(Quantity::Time | Quantity::Received, _)
                | Self::AtMost(Quantity::Time | Quantity::Received, _)
        )
    }

    /// Returns `true` if a btree index answers the condition in both stores.
    pub(super) fn is_quick(&self) -> bool {
        matches!(
            self,
            Self::Trace(_) | Self::Equal(TextColumn::CorrelationId, _)
        )
    }

    /// Returns `true` if the summaries of PostgreSQL's block ranges show which ranges cannot match.
    pub(super) fn skips_blocks(&self) -> bool {
        use TextColumn::{EventType, Integration, Name, Provider, Status};
        matches!(
            self,
            Self::Equal(Integration | EventType | Provider | Name | Status, _)
                | Self::AtLeast(Quantity::Duration, _)
        )
    }

    /// Returns the length of all texts that the condition compares with.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Self::Equal(_, value) | Self::Trace(value) => value.len(),
            Self::AtLeast(..) | Self::AtMost(..) => 0,
            Self::Metadata(path, value) => {
                path.iter().map(String::len).sum::<usize>() + value.len()
            }
            Self::Resource(key, value) => key.len() + value.len(),
            Self::ResourceIn(ids) => ids.iter().map(Vec::len).sum(),
        }
    }

    /// Returns `true` if the condition concerns the resource of an event.
    pub(super) const fn is_about_resource(&self) -> bool {
        matches!(self, Self::Resource(..))
    }

    /// Appends the condition on the row `e`.
    pub(super) fn push(&self, sql: &mut SqlStatement) {
        match self {
            Self::Equal(column, value) => {
                sql.push(column.column()).push(" = ").text(value);
            }
            // For most events the correlation id is the trace id; the others have a partial index on the trace id.
            Self::Trace(id) => {
                let id = sql.keep(SqlValue::Text(id.clone()));
                sql.push(&format!(
                    "(e.correlation_id = {id} AND e.trace_id = {id} OR e.trace_id = {id} AND e.trace_id <> e.correlation_id)"
                ));
            }
            Self::AtLeast(Quantity::Received, ms) => {
                let from_us = ms.saturating_mul(1000);
                sql.push("e.created_at >= ").micros(from_us);
            }
            Self::AtMost(Quantity::Received, ms) => {
                let before_us = ms.saturating_add(1).saturating_mul(1000);
                sql.push("e.created_at < ").micros(before_us);
            }
            Self::AtLeast(quantity, value) => {
                sql.push(quantity.column()).push(" >= ").int(*value);
            }
            Self::AtMost(quantity, value) => {
                sql.push(quantity.column()).push(" <= ").int(*value);
            }
            Self::Metadata(path, value) => push_json(sql, "e.metadata", path, value),
            // Too many resources match to be listed. Most rows will match too, so the resource of each row is looked
            // up.
            Self::Resource(key, value) => {
                sql.push(
                    "EXISTS (SELECT 1 FROM telemetry_resources r WHERE r.id = e.resource_id AND ",
                );
                push_on_resource(sql, key, value);
                sql.push(")");
            }
            Self::ResourceIn(ids) => {
                sql.push("e.resource_id IN (");
                for (index, id) in ids.iter().enumerate() {
                    sql.push(if index == 0 { "" } else { ", " });
                    sql.bind(SqlValue::Bytes(id.clone()));
                }
                sql.push(")");
            }
        }
    }
}

/// Appends the condition of a [`Filter::Resource`] on the resource `r`.
pub(super) fn push_on_resource(sql: &mut SqlStatement, key: &str, value: &str) {
    let path = ["attributes".to_owned(), key.to_owned()];
    push_json(sql, "r.resource", &path, value);
}

/// Appends the condition that the scalar at a path of object keys equals `value`: a string's content, or any other
/// scalar's JSON text.
fn push_json(sql: &mut SqlStatement, column: &str, path: &[String], value: &str) {
    match sql.dialect {
        // `->` with a text operand applies to objects alone; `#>` would apply to arrays, too. JSON's null becomes NULL,
        // which equals nothing.
        Dialect::Postgres => {
            let keys: Vec<String> = path
                .iter()
                .map(|key| sql.keep(SqlValue::Text(key.clone())))
                .collect();
            let (last, first) = keys.split_last().expect("a path has a segment");
            let parent = [column].into_iter().chain(first.iter().map(String::as_str));
            let parent = parent.collect::<Vec<_>>().join(" -> ");
            sql.push(&format!("({parent} ->> {last} = "));
            sql.text(value);
            sql.push(&format!(
                " AND jsonb_typeof({parent} -> {last}) NOT IN ('object', 'array'))"
            ));
        }
        // `->` returns the stored text; `->>` would convert numbers to doubles.
        Dialect::Sqlite => {
            let path = path
                .iter()
                .fold(String::from("$"), |path, key| path + "." + &quoted(key));
            sql.push(column).push(" -> ").text(&path);
            sql.push(" IN (").text(&quoted(value));
            if is_bare_scalar(value) {
                sql.push(", ").text(value);
            }
            sql.push(")");
        }
    }
}

/// Quotes a text in the form of stored JSON strings: short escapes, `\u00xx` for other control characters, all else
/// plain.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Returns `true` for `true`, `false`, and texts that could be a number: those that begin with a digit or a minus.
/// `null` matches nothing.
fn is_bare_scalar(value: &str) -> bool {
    matches!(value, "true" | "false") || value.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

fn lower_hex(id: &str, digits: usize) -> String {
    if id.len() == digits && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        id.to_ascii_lowercase()
    } else {
        id.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, TextColumn};

    #[test]
    fn ids_of_otlp_s_size_are_looked_up_in_lower_case_and_others_as_sent() {
        let upper = "3F2A9C4E7B1D48F0A6C5E8D7B2A1903C";
        assert_eq!(Filter::trace(upper), Filter::Trace(upper.to_lowercase()));
        assert_eq!(Filter::trace("REQ-17"), Filter::Trace("REQ-17".into()));
        let not_hex = "3F2A9C4E7B1D48F0A6C5E8D7B2A1903G";
        assert_eq!(Filter::trace(not_hex), Filter::Trace(not_hex.into()));
        assert_eq!(
            Filter::span("61D0C2B3A4F5E697"),
            Filter::Equal(TextColumn::SpanId, "61d0c2b3a4f5e697".into())
        );
    }
}
