//! The rows of a batch, in one buffer.
//!
//! **Invariant:** a row is in the buffer as a whole or not at all; `rows.len()` is the count that COPY must report. The
//! times of receipt are those of the rows.

use std::ops::Range;

use crate::event::{Event, EventFlags};
use crate::store::row_encoding::{
    CREATED_AT, EMPTY_METADATA, EncodedRow, FIELDS, FLAGS, length, postgres_time, put_field,
    put_number,
};

/// Maximum number of bytes of a tuple beside its texts: the count, seventeen lengths, four 64-bit numbers, `kind`,
/// `flags`, the resource id and JSONB's version.
const FIXED_BYTES: usize = 2 + 17 * 4 + 4 * 8 + 4 + 2 + 16 + 1;

/// Bytes of metadata for which room is made together with the other columns.
const USUAL_METADATA_BYTES: usize = 1 << 10;

/// The rows of a batch.
#[derive(Clone, Debug, Default)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    /// The end of each row in `bytes`.
    ends: Vec<usize>,
    /// The times of receipt. All rows of a record have the same one.
    received: Vec<ReceivedRun>,
}

/// Rows in succession with the same time of receipt, up to the next run's first row.
#[derive(Clone, Copy, Debug)]
struct ReceivedRun {
    first_row: usize,
    /// Microseconds since 2000-01-01 UTC.
    created_at_us: i64,
}

impl EncodedRows {
    /// Adds one event as a row.
    pub fn push(&mut self, event: &Event<'_>, received_unix_nano: i64) {
        self.push_with(event, received_unix_nano, |bytes| {
            bytes.extend_from_slice(event.metadata.as_bytes());
        });
    }

    /// Adds one event as a row whose metadata `write` appends. If `write` panics, no row is added.
    pub fn push_with(
        &mut self,
        event: &Event<'_>,
        received_unix_nano: i64,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        // A panic may have left a part of a row.
        self.bytes.truncate(self.end_of(self.ends.len()));
        let texts = [
            Some(&event.correlation_id),
            Some(&event.integration),
            event.provider.as_ref(),
            Some(&event.event_type),
            event.trace_id.as_ref(),
            event.span_id.as_ref(),
            event.parent_span_id.as_ref(),
            event.name.as_ref(),
            event.status.as_ref(),
        ];
        let text_bytes: usize = texts.iter().flatten().map(|text| text.len()).sum();
        let out = &mut self.bytes;
        out.reserve(FIXED_BYTES + text_bytes + USUAL_METADATA_BYTES);

        out.extend_from_slice(&FIELDS.to_be_bytes());
        put_number(out, Some(event.timestamp_ms.to_be_bytes()));
        put_number(out, event.time_unix_nano.map(i64::to_be_bytes));
        put_number(out, event.duration_ns.map(i64::to_be_bytes));
        let created_at_us = postgres_time(received_unix_nano);
        put_number(out, Some(created_at_us.to_be_bytes()));
        put_number(out, event.kind.map(i32::to_be_bytes));
        let flags = event.flags;
        put_number(out, (!flags.is_empty()).then(|| flags.0.to_be_bytes()));
        for text in texts {
            put_field(out, text.map(|text| text.as_bytes()));
        }
        put_field(out, event.resource_id.map(|id| id.0));
        out.extend_from_slice(&EMPTY_METADATA);
        let start = out.len();
        write(out);
        let field_bytes = length(out.len() - start + 1);
        out[start - EMPTY_METADATA.len()..start - 1].copy_from_slice(&field_bytes);
        self.end_row(created_at_us);
    }

    /// Adds a row that is already encoded.
    pub fn push_row(&mut self, row: EncodedRow<'_>) {
        self.bytes.extend_from_slice(row.tuple);
        self.end_row(row.created_at_us());
    }

    /// Adds a row with a replaced time of receipt, in microseconds since 2000-01-01 UTC, and sets the flag for that.
    pub(in crate::store) fn push_row_received(&mut self, row: EncodedRow<'_>, created_at_us: i64) {
        self.bytes.extend_from_slice(&FIELDS.to_be_bytes());
        let out = &mut self.bytes;
        for (column, field) in row.fields().enumerate() {
            match column {
                CREATED_AT => put_field(out, Some(created_at_us.to_be_bytes())),
                FLAGS => {
                    let flags = field.and_then(|flags| flags.try_into().ok());
                    let mut flags = EventFlags(flags.map_or(0, i16::from_be_bytes));
                    flags.insert(EventFlags::RECEIVE_TIME_REPLACED);
                    put_field(out, Some(flags.0.to_be_bytes()));
                }
                _ => put_field(out, field),
            }
        }
        self.end_row(created_at_us);
    }

    /// Adds the row that was appended to the buffer.
    fn end_row(&mut self, created_at_us: i64) {
        let last = self.received.last();
        if last.is_none_or(|run| run.created_at_us != created_at_us) {
            self.received.push(ReceivedRun {
                first_row: self.ends.len(),
                created_at_us,
            });
        }
        self.ends.push(self.bytes.len());
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns all tuples as COPY expects them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the tuple of one row.
    #[must_use]
    pub fn row(&self, index: usize) -> EncodedRow<'_> {
        EncodedRow {
            tuple: &self.bytes[self.end_of(index)..self.ends[index]],
        }
    }

    /// Returns the number of bytes of a range of rows.
    #[must_use]
    pub fn bytes_of(&self, rows: Range<usize>) -> usize {
        self.end_of(rows.end) - self.end_of(rows.start)
    }

    /// Returns the end of the first `len` rows in the buffer.
    fn end_of(&self, len: usize) -> usize {
        len.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    /// Returns all rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EncodedRow<'_>> {
        (0..self.len()).map(|index| self.row(index))
    }

    /// Returns the times of receipt of the rows in microseconds since 2000-01-01 UTC, in order. Rows in succession with
    /// the same time have one in common. So a batch is not read again for the times of its few records.
    pub(in crate::store) fn times_received_us(&self) -> impl Iterator<Item = i64> {
        self.received.iter().map(|run| run.created_at_us)
    }

    /// Removes a row.
    pub fn remove(&mut self, index: usize) {
        let bytes = self.row(index).tuple.len();
        let end = self.ends.remove(index);
        self.bytes.drain(end - bytes..end);
        for later in &mut self.ends[index..] {
            *later -= bytes;
        }
        let run = self
            .received
            .partition_point(|run| run.first_row <= index)
            .saturating_sub(1);
        for later in self.received.iter_mut().skip(run + 1) {
            later.first_row -= 1;
        }
        let next = self.received.get(run + 1);
        let run_end = next.map_or(self.ends.len(), |next| next.first_row);
        if self.received[run].first_row == run_end {
            self.received.remove(run);
        }
    }

    /// Drops the rows after the first `len`, to undo a record that could not be decoded to its end.
    pub fn truncate(&mut self, len: usize) {
        if len < self.ends.len() {
            self.bytes.truncate(self.end_of(len));
            self.ends.truncate(len);
            let runs = self.received.partition_point(|run| run.first_row < len);
            self.received.truncate(runs);
        }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.received.clear();
    }
}
