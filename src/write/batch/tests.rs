//! Tests of records whose headers say that they are clean.

use bytes::Bytes;

use super::PendingBatch;
use crate::decode::{VERSION, check};
use crate::event::{ContentEncoding, Encoding, Limits, Position, Signal, Source, StreamId};
use crate::journal::{JournalEntry, Record};
use crate::store::row_encoding::EncodedRows;

const STREAM: StreamId = StreamId([1; 16]);

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 0x80);
    [&[number << 3 | 2, length], content].concat()
}

/// A request of two spans, of which the second has this name.
fn request(name: &[u8]) -> Vec<u8> {
    let span = |name: &[u8]| {
        let start = 1_799_999_999_000_000_000_u64.to_le_bytes();
        let ids = [field(1, &[1; 16]), field(2, &[2; 8])].concat();
        field(2, &[&ids[..], &field(5, name), &[0x39], &start].concat())
    };
    field(1, &field(2, &[span(b"a"), span(name)].concat()))
}

fn record(payload: &[u8]) -> Record {
    let source = Source {
        signal: Signal::Span,
        encoding: Encoding::Protobuf,
        partial: false,
        received_unix_nano: 1_800_000_000_000_000_000,
        limits: Limits::default(),
        version: VERSION,
    };
    let report = check(payload, &source).unwrap();
    Record {
        position: Position {
            stream: STREAM,
            n: 1,
        },
        source,
        content_encoding: ContentEncoding::Identity,
        decoded_bytes: u32::try_from(payload.len()).unwrap(),
        accepted: report.accepted,
        rejected: report.rejected,
        is_clean: false,
        digest: [0; 16],
        payload: Bytes::copy_from_slice(payload),
    }
}

fn batch(record: Record) -> PendingBatch {
    let mut batch = PendingBatch::new(STREAM, 1, EncodedRows::default());
    assert!(batch.add(JournalEntry::Record(record), 1 << 20).is_none());
    assert!(batch.batch.dead_letters.is_empty());
    batch
}

#[test]
fn a_clean_record_has_the_same_rows_as_if_it_were_validated_again() {
    let payload = request("é".as_bytes());
    let [clean, validated] = [true, false].map(|is_clean| {
        batch(Record {
            is_clean,
            ..record(&payload)
        })
    });
    assert_eq!(clean.batch.rows.as_bytes(), validated.batch.rows.as_bytes());
    assert_eq!((clean.batch.rows.len(), clean.items.len()), (2, 2));
    assert_eq!(clean.resources, validated.resources);
}

/// PostgreSQL refuses text that is not UTF-8, at each attempt.
#[test]
fn a_record_whose_header_is_wrong_about_it_is_validated() {
    let payload = request(b"\xff");
    let [flagged, validated] = [true, false].map(|is_clean| {
        batch(Record {
            is_clean,
            ..record(&payload)
        })
    });
    assert_eq!(
        flagged.batch.rows.as_bytes(),
        validated.batch.rows.as_bytes()
    );
    assert_eq!((flagged.batch.rows.len(), flagged.items.len()), (2, 2));
}
