//! Rows as PostgreSQL's binary COPY tuples, without the stream's header and trailer.
//!
//! **Invariant:** a row is either whole in the buffer or not in it; `rows.len()` is what COPY must report.

use crate::event::Event;

/// The columns of a row in their order, as `COPY telemetry_events (…)` names them.
pub const COLUMNS: &str = "timestamp, time_unix_nano, duration_ns, created_at, kind, flags, correlation_id, integration, \
     provider, event_type, trace_id, span_id, parent_span_id, name, status, resource_id, metadata";

/// The rows of a batch.
#[derive(Debug, Default)]
pub struct Rows {
    bytes: Vec<u8>,
    /// Where each row ends in `bytes`.
    ends: Vec<usize>,
}

impl Rows {
    /// Adds one event, received at that time.
    pub fn push(&mut self, event: &Event<'_>, received_unix_nano: i64) {
        let _ = (event, received_unix_nano);
        todo!()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All tuples, as COPY takes them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The tuple of one row.
    #[must_use]
    pub fn row(&self, index: usize) -> Row<'_> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Row {
            tuple: &self.bytes[start..self.ends[index]],
        }
    }

    /// Takes a row out.
    pub fn remove(&mut self, index: usize) {
        let _ = index;
        todo!()
    }

    /// Forgets the rows after the first `len`, to undo a record that could not be decoded to its end.
    pub fn truncate(&mut self, len: usize) {
        let _ = len;
        todo!()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// One encoded row, read back.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    tuple: &'a [u8],
}

impl<'a> Row<'a> {
    /// The fields in the order of [`COLUMNS`]; `None` = NULL. Texts are UTF-8, numbers big-endian, `metadata` JSON text
    /// without JSONB's version byte, `created_at` microseconds since 2000-01-01 UTC.
    pub fn fields(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let _ = self.tuple;
        std::iter::empty()
    }

    /// The row as one JSON object under the names of the API, for the dead letters.
    #[must_use]
    pub fn to_json(self) -> String {
        todo!()
    }
}
