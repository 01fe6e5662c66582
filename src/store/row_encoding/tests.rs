//! Tests of the encoding.
//!
//! **Invariant:** no database is needed.

use crate::event::{Event, EventFlags, ResourceId};
use crate::store::row_encoding::{COLUMNS, EncodedRow, EncodedRows, FIELDS};

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
fn removed_rows_leave_the_others_whole() {
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
fn the_times_of_receipt_are_those_of_the_rows_whatever_was_removed() {
    let times = |rows: &EncodedRows| {
        let mut each: Vec<i64> = rows.iter().map(EncodedRow::created_at_us).collect();
        each.dedup();
        let known: Vec<i64> = rows.times_received_us().collect();
        let mut merged = known.clone();
        merged.dedup();
        assert_eq!(merged, each);
        known.len()
    };
    let received = |second: i64| 946_684_800_000_000_000 + second * 1_000_000_000;
    let mut rows = EncodedRows::default();
    for second in [1, 1, 2, 3, 3, 3, 1] {
        rows.push(&event("c"), received(second));
    }
    assert_eq!(times(&rows), 4);
    for (index, runs) in [(2, 3), (4, 3), (0, 3), (4 - 1, 2), (0, 1)] {
        rows.remove(index);
        assert_eq!(times(&rows), runs, "{index}");
    }
    rows.push_row_received(rows.clone().row(0), 77);
    rows.push(&event("c"), received(4));
    assert_eq!(times(&rows), 3);
    rows.truncate(rows.len() - 1);
    assert_eq!(times(&rows), 2);
    let mut copy = EncodedRows::default();
    for row in rows.iter() {
        copy.push_row(row);
    }
    assert_eq!(times(&copy), 2);
    rows.clear();
    assert_eq!(times(&rows), 0);
    rows.push(&event("c"), received(4));
    assert_eq!(times(&rows), 1);
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

#[test]
fn a_row_reads_back_as_the_json_of_the_api() {
    let mut event = Event {
        flags: EventFlags::CUT,
        ..event("c-1")
    };
    let mut rows = EncodedRows::default();
    rows.push(&event, 1_700_000_000_123_456_789);
    assert_eq!(
        rows.row(0).to_json(),
        r#"{"timestamp":1700000000123,"timeUnixNano":"1700000000123456789","durationNs":-5,"createdAt":"2023-11-14T22:13:20.123456Z","kind":2,"flags":4,"correlationId":"c-1","integration":"shop","eventType":"span","traceId":"7d1c5a90e3b24f68a1c0d2e4f6a8b0c2","name":"GET \"/\"","resourceId":"abababababababababababababababab","metadata":{"a": 1}}"#
    );
    event.metadata = "{not json".into();
    rows.push(&event, 0);
    let json = rows.row(1).to_json();
    assert!(json.ends_with(r#""metadata":"{not json"}"#), "{json}");
}
