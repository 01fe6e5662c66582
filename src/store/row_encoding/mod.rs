//! Encodes rows as PostgreSQL's binary COPY tuples, without the stream's header and trailer.
//!
//! A tuple is a 16-bit count of fields, then each field as a 32-bit length and its bytes; the length -1 means NULL. All
//! numbers are big-endian (PostgreSQL, COPY, "Binary Format"). A timestamptz is microseconds since 2000-01-01 UTC.
//! JSONB is a version byte and JSON text.
//!
//! **Invariant:** a row is in the buffer as a whole or not at all; `rows.len()` is the count that COPY must report.

use std::ops::Range;

use crate::event::{Event, EventFlags};

/// A row as JSON, for the dead letters.
mod json;

/// The columns of a row in their order, as `COPY telemetry_events (…)` names them.
pub const COLUMNS: &str = "timestamp, time_unix_nano, duration_ns, created_at, kind, flags, correlation_id, integration, \
     provider, event_type, trace_id, span_id, parent_span_id, name, status, resource_id, metadata";

/// 2000-01-01 UTC in Unix microseconds, the epoch of PostgreSQL's times.
pub const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

const FIELDS: i16 = 17;
const CREATED_AT: usize = 3;
const FLAGS: usize = 5;
const METADATA: usize = 16;
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
const JSONB_VERSION: u8 = 1;

/// The last field of a row without metadata.
const EMPTY_METADATA: [u8; 5] = [0, 0, 0, 1, JSONB_VERSION];

/// Maximum number of bytes of a tuple beside its texts: the count, seventeen lengths, four 64-bit numbers, `kind`,
/// `flags`, the resource id and JSONB's version.
const FIXED_BYTES: usize = 2 + 17 * 4 + 4 * 8 + 4 + 2 + 16 + 1;

/// The rows of a batch.
#[derive(Clone, Debug, Default)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    /// The end of each row in `bytes`.
    ends: Vec<usize>,
}

impl EncodedRows {
    /// Adds one event as a row.
    pub fn push(&mut self, event: &Event<'_>, received_unix_nano: i64) {
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
        out.reserve(FIXED_BYTES + text_bytes + event.metadata.len());

        out.extend_from_slice(&FIELDS.to_be_bytes());
        put_i64(out, Some(event.timestamp_ms));
        put_i64(out, event.time_unix_nano);
        put_i64(out, event.duration_ns);
        put_i64(out, Some(postgres_time(received_unix_nano)));
        put_field(out, event.kind.map(i32::to_be_bytes));
        put_field(
            out,
            (!event.flags.is_empty()).then(|| event.flags.0.to_be_bytes()),
        );
        for text in texts {
            put_field(out, text.map(|text| text.as_bytes()));
        }
        put_field(out, event.resource_id.map(|id| id.0));
        out.extend_from_slice(&length(event.metadata.len() + 1));
        out.push(JSONB_VERSION);
        out.extend_from_slice(event.metadata.as_bytes());
        self.ends.push(self.bytes.len());
    }

    /// Adds a row that is already encoded.
    pub fn push_row(&mut self, row: EncodedRow<'_>) {
        self.bytes.extend_from_slice(row.tuple);
        self.ends.push(self.bytes.len());
    }

    /// Adds a row with a replaced time of receipt, in microseconds since 2000-01-01 UTC, and sets the flag for that.
    pub(super) fn push_row_received(&mut self, row: EncodedRow<'_>, created_at_us: i64) {
        self.bytes.extend_from_slice(&FIELDS.to_be_bytes());
        for (column, field) in row.raw_fields().enumerate() {
            match column {
                CREATED_AT => put_i64(&mut self.bytes, Some(created_at_us)),
                FLAGS => {
                    let mut flags = EventFlags(field.and_then(array).map_or(0, i16::from_be_bytes));
                    flags.insert(EventFlags::RECEIVE_TIME_REPLACED);
                    put_field(&mut self.bytes, Some(flags.0.to_be_bytes()));
                }
                _ => put_field(&mut self.bytes, field),
            }
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
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        EncodedRow {
            tuple: &self.bytes[start..self.ends[index]],
        }
    }

    /// Returns the number of bytes of a range of rows.
    #[must_use]
    pub fn bytes_of(&self, rows: Range<usize>) -> usize {
        let end = |rows: usize| rows.checked_sub(1).map_or(0, |last| self.ends[last]);
        end(rows.end) - end(rows.start)
    }

    /// Returns all rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = EncodedRow<'_>> {
        (0..self.len()).map(|index| self.row(index))
    }

    /// Removes a row.
    pub fn remove(&mut self, index: usize) {
        let bytes = self.row(index).tuple.len();
        let end = self.ends.remove(index);
        self.bytes.drain(end - bytes..end);
        for later in &mut self.ends[index..] {
            *later -= bytes;
        }
    }

    /// Drops the rows after the first `len`, to undo a record that could not be decoded to its end.
    pub fn truncate(&mut self, len: usize) {
        if len < self.ends.len() {
            self.bytes
                .truncate(if len == 0 { 0 } else { self.ends[len - 1] });
            self.ends.truncate(len);
        }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// One encoded row.
#[derive(Clone, Copy, Debug)]
pub struct EncodedRow<'a> {
    tuple: &'a [u8],
}

impl<'a> EncodedRow<'a> {
    /// Parses a tuple; `None` unless it is one whole tuple with as many fields as [`COLUMNS`] and a time of receipt.
    /// The contents of the fields are not checked.
    #[must_use]
    pub fn new(tuple: &'a [u8]) -> Option<Self> {
        let mut rest = tuple.strip_prefix(&FIELDS.to_be_bytes())?;
        for column in 0..FIELDS {
            let (length, after) = rest.split_first_chunk()?;
            let length = match i32::from_be_bytes(*length) {
                -1 => 0,
                length => usize::try_from(length).ok()?,
            };
            if usize::try_from(column) == Ok(CREATED_AT) && length != 8 {
                return None;
            }
            rest = after.get(length..)?;
        }
        rest.is_empty().then_some(Self { tuple })
    }

    /// Returns the fields in the order of [`COLUMNS`]; `None` = NULL. Texts are UTF-8, numbers big-endian, `metadata`
    /// is JSON text without JSONB's version byte, `created_at` is microseconds since 2000-01-01 UTC.
    pub fn fields(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        self.raw_fields().enumerate().map(|(column, field)| {
            if column == METADATA {
                field.map(|jsonb| jsonb.strip_prefix(&[JSONB_VERSION]).unwrap_or(jsonb))
            } else {
                field
            }
        })
    }

    /// Returns the tuple of a row without metadata, up to the place where `metadata_bytes` of metadata follow.
    pub(super) fn before_metadata(self, metadata_bytes: usize) -> Vec<u8> {
        let (before, empty) = self.tuple.split_at(self.tuple.len() - EMPTY_METADATA.len());
        debug_assert_eq!(empty, EMPTY_METADATA);
        [before, &length(metadata_bytes + 1), &[JSONB_VERSION]].concat()
    }

    /// Returns the time of receipt in microseconds since 2000-01-01 UTC.
    #[must_use]
    pub fn created_at_us(self) -> i64 {
        let field = self.raw_fields().nth(CREATED_AT).flatten();
        i64::from_be_bytes(field.and_then(array).expect("every row has its created_at"))
    }

    /// Returns the fields as encoded.
    fn raw_fields(self) -> impl Iterator<Item = Option<&'a [u8]>> {
        let mut rest = &self.tuple[2..];
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
                rest = after;
                return Some(None);
            };
            let (field, after) = after.split_at(length);
            rest = after;
            Some(Some(field))
        })
    }
}

/// Converts Unix nanoseconds to PostgreSQL's time: microseconds since 2000-01-01 UTC, rounded down. Never returns one
/// of the two values that PostgreSQL reads as infinity.
#[must_use]
pub const fn postgres_time(unix_nano: i64) -> i64 {
    unix_nano.div_euclid(1000) - POSTGRES_EPOCH_US
}

fn put_i64(out: &mut Vec<u8>, value: Option<i64>) {
    put_field(out, value.map(i64::to_be_bytes));
}

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

fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes)
        .expect("a field is part of one request, which is far below 2 GiB")
        .to_be_bytes()
}

fn array<const N: usize>(field: &[u8]) -> Option<[u8; N]> {
    field.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, EncodedRow, EncodedRows, FIELDS};
    use crate::event::{Event, EventFlags, ResourceId};

    fn event(correlation_id: &str) -> Event<'_> {
        Event {
            correlation_id: correlation_id.into(),
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
            resource_id: Some(ResourceId([0xab; 16])),
            flags: EventFlags::default(),
        }
    }

    fn correlation_ids(rows: &EncodedRows) -> Vec<String> {
        rows.iter()
            .map(|row| {
                let field = row.fields().nth(6).flatten().expect("never NULL");
                String::from_utf8(field.to_vec()).expect("UTF-8")
            })
            .collect()
    }

    #[test]
    fn a_tuple_is_laid_out_as_copy_reads_it() {
        let mut rows = EncodedRows::default();
        rows.push(&event("c-1"), 946_684_800_000_001_999);
        let bytes = rows.as_bytes();
        let head: Vec<u8> = [
            &17_i16.to_be_bytes()[..],
            &8_i32.to_be_bytes(),
            &1_700_000_000_123_i64.to_be_bytes(),
            &8_i32.to_be_bytes(),
            &1_700_000_000_123_456_789_i64.to_be_bytes(),
            &8_i32.to_be_bytes(),
            &(-5_i64).to_be_bytes(),
            &8_i32.to_be_bytes(),
            &1_i64.to_be_bytes(),
            &4_i32.to_be_bytes(),
            &2_i32.to_be_bytes(),
            &(-1_i32).to_be_bytes(),
            &3_i32.to_be_bytes(),
            b"c-1",
        ]
        .concat();
        assert_eq!(&bytes[..head.len()], head);
        let tail = [&9_i32.to_be_bytes()[..], b"\x01{\"a\": 1}"].concat();
        assert_eq!(&bytes[bytes.len() - tail.len()..], tail);
        assert!(EncodedRow::new(bytes).is_some());
        assert!(EncodedRow::new(&bytes[..bytes.len() - 1]).is_none());
    }

    #[test]
    fn there_are_as_many_fields_as_columns() {
        assert_eq!(
            COLUMNS.split(", ").count(),
            usize::from(FIELDS.unsigned_abs())
        );
        let mut rows = EncodedRows::default();
        rows.push(&event("c"), 0);
        assert_eq!(rows.row(0).fields().count(), COLUMNS.split(", ").count());
    }

    #[test]
    fn a_row_whose_metadata_follows_is_the_same_tuple() {
        let (mut whole, mut empty) = (EncodedRows::default(), EncodedRows::default());
        let one = event("c");
        whole.push(&one, 77);
        empty.push(
            &Event {
                metadata: "".into(),
                ..one.clone()
            },
            77,
        );
        let mut joined = empty.row(0).before_metadata(one.metadata.len());
        joined.extend_from_slice(one.metadata.as_bytes());
        assert_eq!(joined, whole.as_bytes());
    }

    #[test]
    fn a_time_before_1970_is_rounded_down() {
        let mut rows = EncodedRows::default();
        rows.push(&event("c"), -1);
        assert_eq!(rows.row(0).created_at_us(), -1 - 946_684_800_000_000);
    }

    #[test]
    fn rows_taken_out_leave_the_others_whole() {
        let mut rows = EncodedRows::default();
        for id in ["a", "bb", "ccc", "dddd", "eeeee"] {
            rows.push(&event(id), 0);
        }
        rows.remove(1);
        assert_eq!(correlation_ids(&rows), ["a", "ccc", "dddd", "eeeee"]);
        rows.remove(3);
        rows.remove(0);
        assert_eq!(correlation_ids(&rows), ["ccc", "dddd"]);
        rows.push(&event("f"), 0);
        rows.truncate(7);
        rows.truncate(1);
        assert_eq!(correlation_ids(&rows), ["ccc"]);
        rows.truncate(0);
        assert!(rows.is_empty() && rows.as_bytes().is_empty());
    }

    #[test]
    fn a_replaced_time_of_receipt_is_flagged_and_changes_nothing_else() {
        let mut original = EncodedRows::default();
        original.push(&event("c"), 0);
        original.push(
            &Event {
                flags: EventFlags::CUT,
                ..event("c")
            },
            0,
        );
        let mut patched = EncodedRows::default();
        for row in original.iter() {
            patched.push_row_received(row, 77);
        }
        for (index, flags) in [(0, 8_i16), (1, 12)] {
            let before: Vec<_> = original.row(index).fields().collect();
            let after: Vec<_> = patched.row(index).fields().collect();
            assert_eq!(patched.row(index).created_at_us(), 77);
            assert_eq!(after[5], Some(&flags.to_be_bytes()[..]));
            assert_eq!(before[..3], after[..3]);
            assert_eq!(before[4], after[4]);
            assert_eq!(before[6..], after[6..]);
        }
    }
}
