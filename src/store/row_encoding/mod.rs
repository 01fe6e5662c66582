//! Encodes rows as PostgreSQL's binary COPY tuples, without the stream's header and trailer.
//!
//! A tuple is a 16-bit count of fields, then each field as a 32-bit length and its bytes; the length -1 means NULL. All
//! numbers are big-endian (PostgreSQL, COPY, "Binary Format"). A timestamptz is microseconds since 2000-01-01 UTC.
//! JSONB is a version byte and JSON text.
//!
//! **Invariant:** each length that is written is that of the bytes behind it.

/// The rows of a batch.
mod encoded_rows;

/// One row, and the values of its columns.
mod encoded_row;

/// A row as JSON, for the dead letters.
mod json;

pub use encoded_row::{ColumnValue, EncodedRow};
pub use encoded_rows::EncodedRows;

/// The columns of a row in their order, as `COPY telemetry_events (…)` names them.
pub const COLUMNS: &str = "timestamp, time_unix_nano, duration_ns, created_at, kind, flags, correlation_id, integration, \
     provider, event_type, trace_id, span_id, parent_span_id, name, status, resource_id, metadata";

/// 2000-01-01 UTC in Unix microseconds, the epoch of PostgreSQL's times.
pub const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

const FIELDS: i16 = 17;

// The places of some of the columns.
const TIME_UNIX_NANO: usize = 1;
const CREATED_AT: usize = 3;
const FLAGS: usize = 5;
const RESOURCE_ID: usize = 15;
pub(super) const METADATA: usize = 16;

const NULL: [u8; 4] = (-1_i32).to_be_bytes();
const JSONB_VERSION: u8 = 1;

/// The last field of a row without metadata.
const EMPTY_METADATA: [u8; 5] = [0, 0, 0, 1, JSONB_VERSION];

/// Converts Unix nanoseconds to PostgreSQL's time: microseconds since 2000-01-01 UTC, rounded down. Never returns one
/// of the two values that PostgreSQL reads as infinity.
#[must_use]
pub const fn postgres_time(unix_nano: i64) -> i64 {
    unix_nano.div_euclid(1000) - POSTGRES_EPOCH_US
}

/// Appends one field, or NULL.
#[inline]
pub(super) fn put_field(out: &mut Vec<u8>, field: Option<impl AsRef<[u8]>>) {
    match field {
        Some(field) => {
            let field = field.as_ref();
            out.extend_from_slice(&length(field.len()));
            out.extend_from_slice(field);
        }
        None => out.extend_from_slice(&NULL),
    }
}

/// Appends one field of at most 8 bytes, or NULL.
#[inline]
fn put_number<const BYTES: usize>(out: &mut Vec<u8>, number: Option<[u8; BYTES]>) {
    match number {
        Some(number) => {
            let mut field = [0; 12];
            field[..4].copy_from_slice(&length(BYTES));
            field[4..4 + BYTES].copy_from_slice(&number);
            out.extend_from_slice(&field[..4 + BYTES]);
        }
        None => out.extend_from_slice(&NULL),
    }
}

fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes)
        .expect("a field is part of one request, which is far below 2 GiB")
        .to_be_bytes()
}

#[cfg(test)]
mod tests;
