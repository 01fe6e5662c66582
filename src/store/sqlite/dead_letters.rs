//! Writes dead letters.
//!
//! **Invariant:** at most [`PART_BYTES`] of a payload are copied at a time. (Three copies of a value are held while it
//! is inserted: the driver's, SQLite's parameter, and the row that SQLite builds.)

use sqlx::SqliteConnection;

use crate::event::StreamId;
use crate::store::sqlite::Sqlite;
use crate::store::{DeadLetter, StoreError};

/// A longer payload is split into several rows, in the order of their ids. Only the first row counts events.
const PART_BYTES: usize = 16 << 20;

impl Sqlite {
    /// Inserts dead letters, each with its reason.
    pub(super) async fn insert_dead_letters(
        &self,
        connection: &mut SqliteConnection,
        stream: StreamId,
        letters: &[DeadLetter],
    ) -> Result<(), StoreError> {
        for letter in letters {
            for (index, part) in parts(&letter.payload).enumerate() {
                let query = sqlx::query(
                    "INSERT INTO telemetry_dead_letters (stream, position, item, events, kind, content_encoding, decoder,
                         received_at, reason, sqlstate, message, payload)
                     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                )
                .bind(&stream.0[..])
                .bind(i64::try_from(letter.position).unwrap_or(i64::MAX))
                .bind(letter.item)
                .bind(if index == 0 { letter.events } else { 0 })
                .bind(letter.kind.to_string())
                .bind(letter.content_encoding.as_str())
                .bind(letter.decoder)
                .bind(letter.received_unix_nano.div_euclid(1_000))
                .bind(letter.reason.as_str())
                .bind(letter.sqlstate.as_deref())
                .bind(letter.message.as_str())
                .bind(part);
                self.within(query.execute(&mut *connection)).await?;
            }
        }
        Ok(())
    }
}

/// Splits a payload into its parts. There is at least one, which is empty only if the payload is.
fn parts(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = payload.split_at(payload.len().min(PART_BYTES));
    std::iter::once(first).chain(rest.chunks(PART_BYTES))
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
