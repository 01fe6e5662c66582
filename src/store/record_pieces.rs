//! Carries the rows of one large record from the decoder to the store, a few at a time.
//!
//! **Invariant:** a store that reads to the end has received every piece of the record, or an error.

use tokio::sync::mpsc;

use crate::event::StreamId;
use crate::store::row_encoding::EncodedRows;
use crate::store::{DeadLetter, FailureClass, StoreError};

/// A record that one transaction writes alone. Its rows arrive as [`RecordPieces`].
#[derive(Clone, Copy, Debug)]
pub struct LargeRecord {
    pub stream: StreamId,
    pub position: u64,
    /// Receive time of all its rows, Unix nanoseconds.
    pub received_unix_nano: i64,
}

/// A part of a record.
#[derive(Debug)]
pub enum RecordPiece {
    /// Never empty.
    Rows(EncodedRows),
    /// One row with long metadata; [`RecordPiece::Metadata`] follows.
    LargeRow(LargeRow),
    /// The next part of a large row's metadata.
    Metadata(String),
    /// The dead letter of a row that the database refused in an earlier attempt.
    Refused(DeadLetter),
    /// The last piece: the record is complete.
    End,
}

/// A row whose metadata arrives in parts.
#[derive(Debug)]
pub struct LargeRow {
    /// One row, whose metadata is empty.
    pub row: EncodedRows,
    /// The length of all parts together.
    pub metadata_bytes: usize,
}

/// The store's end of the channel.
#[derive(Debug)]
pub struct RecordPieces(mpsc::Receiver<RecordPiece>);

impl RecordPieces {
    /// Returns the decoder's end and the store's end. The decoder waits while one piece is in the channel. Its sends
    /// fail once the store's end is dropped.
    #[must_use]
    pub fn new() -> (mpsc::Sender<RecordPiece>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(receiver))
    }

    /// Returns the next piece; `None` after the last.
    ///
    /// # Errors
    /// `Retry` if the decoder ended before the record did.
    pub(super) async fn next(&mut self) -> Result<Option<RecordPiece>, StoreError> {
        match self.0.recv().await {
            Some(RecordPiece::End) => Ok(None),
            Some(piece) => Ok(Some(piece)),
            None => Err(ended_early()),
        }
    }

    /// Returns the next part of a large row's metadata, of which `missing_bytes` are still to be received; `None` after
    /// the last.
    ///
    /// # Errors
    /// `Retry` if the decoder ended before the row did.
    pub(super) async fn next_metadata(
        &mut self,
        missing_bytes: &mut usize,
    ) -> Result<Option<String>, StoreError> {
        if *missing_bytes == 0 {
            return Ok(None);
        }
        match self.0.recv().await {
            Some(RecordPiece::Metadata(part)) if part.len() <= *missing_bytes => {
                *missing_bytes -= part.len();
                Ok(Some(part))
            }
            _ => Err(ended_early()),
        }
    }
}

fn ended_early() -> StoreError {
    let message = "a record's rows ended before the record did";
    StoreError::retry(FailureClass::Other, message.to_owned())
}
