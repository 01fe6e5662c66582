//! Buffers for the rows of batches, from one batch to the next.
//!
//! A full batch has about 6 MB of rows. Memory of that size comes from the kernel and returns to it, page by page, so a
//! new buffer for each batch costs as much as a tenth of the encoding.
//!
//! **Invariant:** while the writer waits for entries, no buffer is kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::row_encoding::EncodedRows;

/// The buffers that are not in use; `None` while the writer waits for entries.
#[derive(Default)]
pub(super) struct RowBuffers(Mutex<Option<Vec<EncodedRows>>>);

impl RowBuffers {
    /// Returns an empty buffer for the next batch.
    pub(super) fn take(&self) -> EncodedRows {
        self.kept()
            .get_or_insert_default()
            .pop()
            .unwrap_or_default()
    }

    /// Keeps the buffer of a batch that ended, unless the writer waits for entries.
    pub(super) fn give_back(&self, mut rows: EncodedRows) {
        if let Some(kept) = &mut *self.kept() {
            rows.clear();
            kept.push(rows);
        }
    }

    /// Frees all buffers, and those that are given back before the next one is taken.
    pub(super) fn free(&self) {
        *self.kept() = None;
    }

    fn kept(&self) -> MutexGuard<'_, Option<Vec<EncodedRows>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn filled(mut rows: EncodedRows) -> EncodedRows {
        rows.push(&Event::EMPTY, 0);
        rows
    }

    #[test]
    fn a_buffer_is_used_again_without_its_rows() {
        let buffers = RowBuffers::default();
        let rows = filled(buffers.take());
        let address = rows.as_bytes().as_ptr();
        buffers.give_back(rows);
        let other = buffers.take();
        assert!(other.is_empty() && other.as_bytes().is_empty());
        assert_eq!(filled(other).as_bytes().as_ptr(), address);
    }

    #[test]
    fn nothing_is_kept_while_the_writer_waits() {
        let buffers = RowBuffers::default();
        let in_flight = filled(buffers.take());
        buffers.give_back(filled(buffers.take()));
        buffers.free();
        buffers.give_back(in_flight);
        assert!(buffers.kept().is_none());
        buffers.give_back(filled(buffers.take()));
        assert_eq!(buffers.kept().as_ref().map(Vec::len), Some(1));
    }
}
