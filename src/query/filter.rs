//! One condition on events, and how each store is asked for it.
//!
//! **Invariant:** both stores hold a condition for the same events; every value and every JSON key is bound.

use crate::query::statement::{Dialect, SqlStatement, SqlValue};

/// One condition on events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// A text column equals.
    Equal(&'static str, String),
    /// The trace, whatever its events' correlation ids.
    Trace(String),
    /// The event's own time in Unix ms, inclusive, as are all bounds here.
    From(i64),
    To(i64),
    /// The time of receipt in Unix ms; `ReceivedTo` includes the whole millisecond.
    ReceivedFrom(i64),
    ReceivedTo(i64),
    /// Nanoseconds.
    MinDuration(i64),
    MaxDuration(i64),
    /// The scalar at a path of object keys in `metadata`.
    Metadata(Vec<String>, String),
    /// The scalar under a key of the resource's attributes.
    Resource(String, String),
    /// The resource is one of these, as [`Filter::Resource`]s were found to ask for.
    ResourceIn(Vec<Vec<u8>>),
}

impl Filter {
    /// Ids of OTLP's size and alphabet are stored lower-case; any other as sent.
    pub(super) fn trace(id: &str) -> Self {
        Self::Trace(lower_hex(id, 32))
    }

    pub(super) fn span(id: &str) -> Self {
        Self::Equal("span_id", lower_hex(id, 16))
    }

    /// A bound of the times, which the order of a page runs along.
    pub(super) const fn is_range(&self) -> bool {
        matches!(
            self,
            Self::From(_) | Self::To(_) | Self::ReceivedFrom(_) | Self::ReceivedTo(_)
        )
    }

    /// Answered by a btree in both stores.
    pub(super) fn is_quick(&self) -> bool {
        matches!(self, Self::Trace(_) | Self::Equal("correlation_id", _))
    }

    /// Answered by the block ranges' bloom filters in PostgreSQL.
    pub(super) fn has_bloom(&self) -> bool {
        matches!(
            self,
            Self::Equal("integration" | "event_type" | "provider" | "name", _)
        )
    }

    /// Adds the condition on the row `e`.
    pub(super) fn push(&self, sql: &mut SqlStatement) {
        match self {
            Self::Equal(column, value) => {
                sql.push("e.").push(column).push(" = ").text(value);
            }
            // Most traces are their events' correlation id; the rest has an index of its own.
            Self::Trace(id) => {
                let id = sql.keep(SqlValue::Text(id.clone()));
                sql.push(&format!(
                    "(e.correlation_id = {id} AND e.trace_id = {id} OR e.trace_id = {id} AND e.trace_id <> e.correlation_id)"
                ));
            }
            Self::From(ms) => sql.push("e.timestamp >= ").int(*ms),
            Self::To(ms) => sql.push("e.timestamp <= ").int(*ms),
            Self::ReceivedFrom(ms) => {
                let micros = ms.saturating_mul(1000);
                sql.push("e.created_at >= ").micros(micros);
            }
            Self::ReceivedTo(ms) => {
                let micros = ms.saturating_add(1).saturating_mul(1000);
                sql.push("e.created_at < ").micros(micros);
            }
            Self::MinDuration(ns) => sql.push("e.duration_ns >= ").int(*ns),
            Self::MaxDuration(ns) => sql.push("e.duration_ns <= ").int(*ns),
            Self::Metadata(path, value) => push_json(sql, "e.metadata", path, value),
            // Where too many resources match to be listed: most rows will, so each is looked up as it comes.
            Self::Resource(..) => {
                sql.push(
                    "EXISTS (SELECT 1 FROM telemetry_resources r WHERE r.id = e.resource_id AND ",
                );
                self.push_on_resource(sql);
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

    /// Adds the condition of a [`Filter::Resource`] on the resource `r`; `true` for any other.
    pub(super) fn push_on_resource(&self, sql: &mut SqlStatement) {
        match self {
            Self::Resource(key, value) => {
                let path = ["attributes".to_owned(), key.clone()];
                push_json(sql, "r.resource", &path, value);
            }
            _ => {
                sql.push("true");
            }
        }
    }
}

/// A scalar at a path of object keys equals the value: a string unquoted, anything else as its JSON text.
fn push_json(sql: &mut SqlStatement, column: &str, path: &[String], value: &str) {
    match sql.dialect {
        // `->` with a text operand looks into objects alone, `#>` would into arrays too. JSON's null comes out as NULL,
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
        // `->` gives the stored text; `->>` would turn numbers into doubles.
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

/// As JSON strings are stored: the short escapes, `\u00xx` for other control characters, all else plain.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `true`, `false`, or what could be a number's text: what starts with a digit or a minus. `null` matches nothing.
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
    use super::Filter;

    #[test]
    fn ids_of_otlp_s_size_are_looked_up_in_lower_case_and_others_as_sent() {
        let upper = "3F2A9C4E7B1D48F0A6C5E8D7B2A1903C";
        assert_eq!(Filter::trace(upper), Filter::Trace(upper.to_lowercase()));
        assert_eq!(Filter::trace("REQ-17"), Filter::Trace("REQ-17".into()));
        let not_hex = "3F2A9C4E7B1D48F0A6C5E8D7B2A1903G";
        assert_eq!(Filter::trace(not_hex), Filter::Trace(not_hex.into()));
        assert_eq!(
            Filter::span("61D0C2B3A4F5E697"),
            Filter::Equal("span_id", "61d0c2b3a4f5e697".into())
        );
    }
}
