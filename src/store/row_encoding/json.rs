//! Formats a row as JSON, for the dead letters.
//!
//! **Invariant:** whatever the fields contain, the result is one valid JSON object.

use serde_json::value::RawValue;

use crate::store::row_encoding::{ColumnValue, EncodedRow, POSTGRES_EPOCH_US, TIME_UNIX_NANO};

/// The API's names of the columns, in the order of [`super::COLUMNS`].
const API_NAMES: [&str; 17] = [
    "timestamp",
    "timeUnixNano",
    "durationNs",
    "createdAt",
    "kind",
    "flags",
    "correlationId",
    "integration",
    "provider",
    "eventType",
    "traceId",
    "spanId",
    "parentSpanId",
    "name",
    "status",
    "resourceId",
    "metadata",
];

impl EncodedRow<'_> {
    /// Returns the row as one JSON object with the names of the API. Bytes that are not UTF-8 become U+FFFD, and
    /// metadata that is not JSON becomes a string.
    #[must_use]
    pub fn to_json(self) -> String {
        let mut json = String::with_capacity(self.tuple.len() + 512);
        for (column, value) in self.values().enumerate() {
            let Some(value) = value else { continue };
            json.push(if json.is_empty() { '{' } else { ',' });
            put_string(&mut json, API_NAMES[column]);
            json.push(':');
            match value {
                ColumnValue::Integer(number) if column == TIME_UNIX_NANO => {
                    put_string(&mut json, &number.to_string());
                }
                ColumnValue::Integer(number) => json.push_str(&number.to_string()),
                ColumnValue::Time(us) => put_string(&mut json, &rfc3339(us)),
                ColumnValue::Text(text) => put_string(&mut json, &String::from_utf8_lossy(text)),
                ColumnValue::Bytes(bytes) => {
                    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                    put_string(&mut json, &hex);
                }
                ColumnValue::Json(text) => match serde_json::from_slice::<&RawValue>(text) {
                    Ok(value) => json.push_str(value.get()),
                    Err(_) => put_string(&mut json, &String::from_utf8_lossy(text)),
                },
            }
        }
        json.push('}');
        json
    }
}

fn rfc3339(created_at_us: i64) -> String {
    let unix_us = created_at_us.saturating_add(POSTGRES_EPOCH_US);
    jiff::Timestamp::from_microsecond(unix_us)
        .map_or_else(|_| unix_us.to_string(), |time| time.to_string())
}

fn put_string(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
