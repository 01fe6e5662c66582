//! The rows of one large record on their way from the decoder to the store, a few at a time.
//!
//! **Invariant:** a store that reads to the end has seen every piece of the record, or an error.

use tokio::sync::mpsc;

use crate::store::row_encoding::EncodedRows;
use crate::store::{DeadLetter, StoreError};

/// A part of a record.
#[derive(Debug)]
pub enum RecordPiece {
    /// Never empty.
    Rows(EncodedRows),
    /// A row that the database refused before.
    Refused(DeadLetter),
    /// Nothing of the record is missing. The last piece.
    End,
}

/// The store's side.
#[derive(Debug)]
pub struct RecordPieces(mpsc::Receiver<RecordPiece>);

impl RecordPieces {
    /// The decoder's side and the store's. The decoder waits while one piece is in between, and hears that the store has
    /// given up once the store's side is dropped.
    #[must_use]
    pub fn new() -> (mpsc::Sender<RecordPiece>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(receiver))
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// `Retry` if the decoder ended before the record did.
    pub(super) async fn next(&mut self) -> Result<Option<RecordPiece>, StoreError> {
        match self.0.recv().await {
            Some(RecordPiece::End) => Ok(None),
            Some(piece) => Ok(Some(piece)),
            None => Err(StoreError::Retry {
                class: "other",
                sqlstate: None,
                message: "a record's rows ended before the record did".to_owned(),
            }),
        }
    }
}

/// An error of one piece, counted in the rows of the record.
pub(super) fn after_rows(sent: usize, error: StoreError) -> StoreError {
    match error {
        StoreError::Refused {
            sqlstate,
            row,
            message,
            detail,
        } => StoreError::Refused {
            sqlstate,
            row: row.map(|row| row + sent),
            message,
            detail,
        },
        error => error,
    }
}
