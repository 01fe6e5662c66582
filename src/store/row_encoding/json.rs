//! Formats a row as JSON, for the dead letters.
//!
//! **Invariant:** whatever the fields contain, the result is one valid JSON object.

use crate::store::row_encoding::{EncodedRow, POSTGRES_EPOCH_US};

impl EncodedRow<'_> {
    /// Returns the row as one JSON object with the names of the API. Bytes that are not UTF-8 become U+FFFD, and
    /// metadata that is not JSON becomes a string.
    #[must_use]
    pub fn to_json(self) -> String {
        let mut json = String::with_capacity(self.tuple.len() + 512);
        for (column, field) in API_NAMES.iter().zip(self.fields()) {
            let Some(field) = field else { continue };
            json.push(if json.is_empty() { '{' } else { ',' });
            put_json_string(&mut json, column.name);
            json.push(':');
            match column.form {
                ColumnForm::Number => json.push_str(&number(field).to_string()),
                ColumnForm::NumberAsText => put_json_string(&mut json, &number(field).to_string()),
                ColumnForm::Time => put_json_string(&mut json, &rfc3339(number(field))),
                ColumnForm::Text => put_json_string(&mut json, &String::from_utf8_lossy(field)),
                ColumnForm::Bytes => put_json_string(&mut json, &hex(field)),
                ColumnForm::Json => put_json(&mut json, field),
            }
        }
        json.push('}');
        json
    }
}

/// The form of a column in the API's JSON.
enum ColumnForm {
    Number,
    NumberAsText,
    Time,
    Text,
    Bytes,
    Json,
}

struct ApiColumn {
    name: &'static str,
    form: ColumnForm,
}

const fn column(name: &'static str, form: ColumnForm) -> ApiColumn {
    ApiColumn { name, form }
}

/// The API's names of the columns, in the order of [`super::COLUMNS`].
const API_NAMES: [ApiColumn; 17] = [
    column("timestamp", ColumnForm::Number),
    column("timeUnixNano", ColumnForm::NumberAsText),
    column("durationNs", ColumnForm::Number),
    column("createdAt", ColumnForm::Time),
    column("kind", ColumnForm::Number),
    column("flags", ColumnForm::Number),
    column("correlationId", ColumnForm::Text),
    column("integration", ColumnForm::Text),
    column("provider", ColumnForm::Text),
    column("eventType", ColumnForm::Text),
    column("traceId", ColumnForm::Text),
    column("spanId", ColumnForm::Text),
    column("parentSpanId", ColumnForm::Text),
    column("name", ColumnForm::Text),
    column("status", ColumnForm::Text),
    column("resourceId", ColumnForm::Bytes),
    column("metadata", ColumnForm::Json),
];

/// Decodes a big-endian integer of two, four or eight bytes.
fn number(field: &[u8]) -> i64 {
    let negative = field.first().is_some_and(|byte| byte & 0x80 != 0);
    field
        .iter()
        .fold(if negative { -1 } else { 0 }, |value: i64, byte| {
            value << 8 | i64::from(*byte)
        })
}

fn rfc3339(created_at_us: i64) -> String {
    let unix_us = created_at_us.saturating_add(POSTGRES_EPOCH_US);
    jiff::Timestamp::from_microsecond(unix_us)
        .map_or_else(|_| unix_us.to_string(), |time| time.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put_json_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

fn put_json(out: &mut String, field: &[u8]) {
    match serde_json::from_slice::<&serde_json::value::RawValue>(field) {
        Ok(json) => out.push_str(json.get()),
        Err(_) => put_json_string(out, &String::from_utf8_lossy(field)),
    }
}

#[cfg(test)]
mod tests {
    use crate::event::{Event, EventFlags};
    use crate::store::row_encoding::EncodedRows;

    #[test]
    fn a_row_reads_back_as_the_json_of_the_api() {
        let mut event = Event {
            correlation_id: "c-1".into(),
            integration: "shop".into(),
            provider: None,
            event_type: "span".into(),
            timestamp_ms: 1_700_000_000_123,
            metadata: r#"{"a": 1}"#.into(),
            trace_id: Some("7d1c5a90e3b24f68a1c0d2e4f6a8b0c2".into()),
            span_id: None,
            parent_span_id: None,
            name: Some("GET \"/\"".into()),
            time_unix_nano: Some(1_700_000_000_123_456_789),
            duration_ns: Some(-5),
            kind: Some(2),
            status: None,
            resource_id: Some(crate::event::ResourceId([0xab; 16])),
            flags: EventFlags::CUT,
        };
        let mut rows = EncodedRows::default();
        rows.push(&event, 1_700_000_000_123_456_789);
        assert_eq!(
            rows.row(0).to_json(),
            r#"{"timestamp":1700000000123,"timeUnixNano":"1700000000123456789","durationNs":-5,"createdAt":"2023-11-14T22:13:20.123456Z","kind":2,"flags":4,"correlationId":"c-1","integration":"shop","eventType":"span","traceId":"7d1c5a90e3b24f68a1c0d2e4f6a8b0c2","name":"GET \"/\"","resourceId":"abababababababababababababababab","metadata":{"a": 1}}"#
        );
        event.metadata = "{not json".into();
        rows.push(&event, 0);
        assert!(
            rows.row(1)
                .to_json()
                .ends_with(r#""metadata":"{not json"}"#)
        );
    }
}
