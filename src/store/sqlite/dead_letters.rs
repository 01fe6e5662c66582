//! Writes dead letters.
//!
//! **Invariant:** at most [`PART_BYTES`] of a payload are copied at a time. (Three copies of a value are held while it
//! is inserted: the driver's, SQLite's parameter, and the row that SQLite builds.)

use sqlx::SqliteConnection;

use crate::event::StreamId;
use crate::store::sqlite::error::ErrorContext;
use crate::store::{DeadLetter, StoreError};

/// A longer payload is split into several rows, in the order of their ids. Only the first row counts events.
const PART_BYTES: usize = 16 << 20;

/// Inserts dead letters, each with its reason.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    stream: StreamId,
    letters: &[DeadLetter],
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    for letter in letters {
        let mut events = letter.events;
        for part in parts(&letter.payload) {
            insert_part(connection, stream, letter, events, part, fault).await?;
            events = 0;
        }
    }
    Ok(())
}

/// Splits a payload into its parts. There is at least one, which is empty only if the payload is.
fn parts(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = payload.split_at(payload.len().min(PART_BYTES));
    std::iter::once(first).chain(rest.chunks(PART_BYTES))
}

async fn insert_part(
    connection: &mut SqliteConnection,
    stream: StreamId,
    letter: &DeadLetter,
    events: u32,
    part: &[u8],
    fault: &ErrorContext<'_>,
) -> Result<(), StoreError> {
    let query = sqlx::query(
        "INSERT INTO telemetry_dead_letters (stream, position, item, events, kind, content_encoding, decoder,
             received_at, reason, sqlstate, message, payload)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&stream.0[..])
    .bind(i64::try_from(letter.position).unwrap_or(i64::MAX))
    .bind(letter.item)
    .bind(events)
    .bind(letter.kind.to_string())
    .bind(letter.content_encoding.as_str())
    .bind(letter.decoder)
    .bind(letter.received_unix_nano.div_euclid(1_000))
    .bind(letter.reason.as_str())
    .bind(letter.sqlstate.as_deref())
    .bind(letter.message.as_str())
    .bind(part);
    fault.within(query.execute(connection)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::{PART_BYTES, parts};

    #[test]
    fn a_payload_is_one_part_unless_it_is_large_and_no_byte_of_it_is_lost() {
        for (length, lengths) in [
            (0, vec![0]),
            (PART_BYTES, vec![PART_BYTES]),
            (2 * PART_BYTES + 1, vec![PART_BYTES, PART_BYTES, 1]),
        ] {
            let payload = vec![7; length];
            let found: Vec<usize> = parts(&payload).map(<[u8]>::len).collect();
            assert_eq!(found, lengths);
        }
    }
}
