//! Writes dead letters by COPY. A payload is as long as a request may be, and three copies of a parameter would be
//! held.
//!
//! **Invariant:** beside the payload itself, at most one message of a COPY is held.

use crate::event::StreamId;
use crate::store::postgres::batch::CopyTarget;
use crate::store::postgres::error::from_sqlx;
use crate::store::postgres::transaction::Transaction;
use crate::store::row_encoding::{postgres_time, put_field};
use crate::store::{DeadLetter, StoreError};

const COLUMNS: &str = "stream, position, item, events, kind, content_encoding, decoder, received_at, reason, sqlstate, \
     message, payload";
const FIELDS: i16 = 12;

const LETTERS: CopyTarget<'_> = CopyTarget {
    table: "telemetry_dead_letters",
    columns: COLUMNS,
    error: |error| from_sqlx("keeping dead letters", error),
};

impl Transaction<'_> {
    pub(super) async fn keep_dead_letters(
        &mut self,
        stream: StreamId,
        letters: &[DeadLetter],
    ) -> Result<(), StoreError> {
        let heads: Vec<Vec<u8>> = letters.iter().map(|letter| head(stream, letter)).collect();
        let tuples: Vec<&[u8]> = heads
            .iter()
            .zip(letters)
            .flat_map(|(head, letter)| [&head[..], &letter.payload[..]])
            .collect();
        self.copy_into(&LETTERS, &tuples, letters.len()).await
    }
}

/// Returns a tuple up to its payload's bytes.
fn head(stream: StreamId, letter: &DeadLetter) -> Vec<u8> {
    let int = |value: u32| i32::try_from(value).unwrap_or(i32::MAX).to_be_bytes();
    let position = i64::try_from(letter.position).unwrap_or(i64::MAX);
    let received_us = postgres_time(letter.received_unix_nano);
    // The only text here that a client may have influenced.
    let message = letter.message.replace('\0', "\u{fffd}");
    let payload_bytes = i32::try_from(letter.payload.len()).expect("a request is below 2 GiB");
    let mut head = FIELDS.to_be_bytes().to_vec();
    let out = &mut head;
    put_field(out, Some(stream.0));
    put_field(out, Some(position.to_be_bytes()));
    put_field(out, letter.item.map(int));
    put_field(out, Some(int(letter.events)));
    put_field(out, Some(letter.kind.to_string()));
    put_field(out, Some(letter.content_encoding.as_str()));
    put_field(out, Some(int(letter.decoder.into())));
    put_field(out, Some(received_us.to_be_bytes()));
    put_field(out, Some(letter.reason.as_str()));
    put_field(out, letter.sqlstate.as_deref());
    put_field(out, Some(message));
    head.extend(payload_bytes.to_be_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::{COLUMNS, FIELDS};

    #[test]
    fn there_are_as_many_fields_as_columns() {
        let fields = usize::from(FIELDS.unsigned_abs());
        assert_eq!(COLUMNS.split(", ").count(), fields);
    }
}
