//! Rows that the database refuses, which decode would not have accepted: here they are made by hand.

use ruvvector_service::store::row_encoding::{EncodedRow, EncodedRows};
use ruvvector_service::store::{Store, StoreError, StoredPositions};

use super::{
    batch, begun, class, count, event, execute, facts, new_stream, now_unix_nano, prepared,
};

const CORRELATION_ID: usize = 6;
const KIND: usize = 4;
const METADATA: usize = 16;

/// The tuple of a good row with one field replaced.
fn tuple(column: usize, field: Option<&[u8]>) -> Vec<u8> {
    let mut good = EncodedRows::default();
    good.push(&event("good"), now_unix_nano());
    let mut tuple = 17_i16.to_be_bytes().to_vec();
    // JSONB begins with its version.
    let version: &[u8] = if column == METADATA { &[1] } else { &[] };
    let replaced = field.map(|field| [version, field].concat());
    for (index, original) in good.row(0).fields().enumerate() {
        let value = if index == column {
            replaced.as_deref()
        } else {
            original
        };
        match value {
            Some(value) => {
                let length = i32::try_from(value.len()).expect("short");
                tuple.extend(length.to_be_bytes());
                tuple.extend(value);
            }
            None => tuple.extend((-1_i32).to_be_bytes()),
        }
    }
    tuple
}

/// Ten thousand valid rows with that one among them.
fn among_good(bad: &[u8], index: usize) -> EncodedRows {
    let mut rows = EncodedRows::default();
    for n in 0..10_000 {
        if n == index {
            rows.push_row(EncodedRow::new(bad).expect("a whole tuple"));
        } else {
            rows.push(&event(&format!("c-{n}")), now_unix_nano());
        }
    }
    rows
}

/// Writes rows of which one is invalid; then the others, without it.
async fn refused(store: &Store, bad: &[u8], index: usize) -> String {
    let stream = new_stream();
    store
        .write_resources(facts(stream), &[])
        .await
        .expect("committed");
    let mut all = batch(stream, 1..=9, among_good(bad, index));
    let error = store.write(&all).await.expect_err("one row is bad");
    let StoreError::Refused { sqlstate, row, .. } = &error else {
        panic!("not refused: {error:?}");
    };
    assert_eq!(*row, Some(index), "{error:?}");
    let stored_positions = store
        .stored_positions(stream)
        .await
        .expect("the database answers");
    assert_eq!(stored_positions, StoredPositions::default());
    all.rows.remove(index);
    store.write(&all).await.expect("the others are good");
    sqlstate.clone()
}

#[tokio::test]
async fn each_kind_of_bad_row_among_ten_thousand_is_named_and_the_others_are_stored() {
    let (database, store) = prepared().await;
    let deep = ["[".repeat(20_000), "]".repeat(20_000)].concat();
    let mut random = 1_u32;
    let incompressible: Vec<u8> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'!' + u8::try_from(random >> 26).unwrap()
    })
    .take(10_000)
    .collect();
    let cases: [(&str, usize, Option<&[u8]>, &str); 12] = [
        (
            "a NUL escaped in JSON",
            METADATA,
            Some(br#"{"a": "\u0000"}"#),
            "22P05",
        ),
        ("a NUL in text", CORRELATION_ID, Some(b"a\0b"), "22021"),
        (
            "invalid UTF-8 in text",
            CORRELATION_ID,
            Some(b"a\xff"),
            "22021",
        ),
        (
            "invalid UTF-8 in JSON",
            METADATA,
            Some(b"{\"a\": \"\xc3\"}"),
            "22021",
        ),
        (
            "a lone surrogate",
            METADATA,
            Some(br#"{"a": "\ud800"}"#),
            "22P02",
        ),
        ("not JSON", METADATA, Some(b"{"), "22P02"),
        ("no JSON", METADATA, Some(b""), "22P02"),
        ("NaN", METADATA, Some(br#"{"a": NaN}"#), "22P02"),
        (
            "a number out of range",
            METADATA,
            Some(br#"{"a": 1e131073}"#),
            "22003",
        ),
        (
            "JSON that is too deep",
            METADATA,
            Some(deep.as_bytes()),
            "54001",
        ),
        (
            "too long for the index",
            CORRELATION_ID,
            Some(&incompressible),
            "54000",
        ),
        ("no metadata", METADATA, None, "23502"),
    ];
    let mut stored = 0;
    for (number, (name, column, field, expected)) in cases.into_iter().enumerate() {
        let index = [0, 4_321, 9_999][number % 3];
        let sqlstate = refused(&store, &tuple(column, field), index).await;
        assert_eq!(sqlstate, expected, "{name}");
        stored += 9_999;
    }
    let mut sql = database.connect().await;
    assert_eq!(count(&mut sql).await, stored);

    execute(
        &mut sql,
        "ALTER TABLE telemetry_events ADD CONSTRAINT short CHECK (length(correlation_id) < 20)",
    )
    .await;
    let long = tuple(CORRELATION_ID, Some(&[b'x'; 20]));
    assert_eq!(refused(&store, &long, 77).await, "23514");
}

#[tokio::test]
async fn a_field_of_a_wrong_width_is_our_fault_and_never_a_rows() {
    let (database, store) = prepared().await;
    let stream = begun(&store).await;
    let wide = batch(stream, 1..=1, among_good(&tuple(KIND, Some(&[0; 8])), 5));
    let error = store.write(&wide).await.unwrap_err();
    assert_eq!(class(&error), "schema");
    assert_eq!(count(&mut database.connect().await).await, 0);
}
