//! The memory that one record takes while it is written alone.
//!
//! **Invariant:** no row or resource that the store would have to hold beyond the limit is built.

use crate::event::{Encoding, Position};
use crate::journal::Record;
use crate::memory::limit_for_record;
use crate::store::DeadLetterReason;
use crate::write::WriteLoop;
use crate::write::dead_letters::DecodeFault;

/// Pieces of rows that are held beside the record's body: one being filled, one in the channel, one being written.
const PIECES: usize = 3;

/// Resources that are held beside the one that is being written: one being decoded, one in the channel.
const OTHER_RESOURCES: usize = 2;

const MIB: usize = 1 << 20;

/// The limit on the memory of one record, and its present use.
#[derive(Clone, Copy)]
pub(super) struct RecordMemory {
    pub(super) limit_bytes: usize,
    /// Bytes of the body and of the pieces of small rows.
    pub(super) held_bytes: usize,
    pub(super) row_copies: usize,
    pub(super) resource_copies: usize,
    pub(super) store: &'static str,
    pub(super) position: Position,
}

impl RecordMemory {
    pub(super) fn new(shared: &WriteLoop, record: &Record, body_bytes: usize) -> Self {
        let store = &shared.store;
        // JSON texts are copied without their escapes, and items of OTLP JSON are converted to protobuf.
        let body_copies = match record.source.encoding {
            Encoding::Protobuf => 1,
            Encoding::Json | Encoding::NdJson => 2,
        };
        Self {
            limit_bytes: shared.options.large_record_bytes,
            held_bytes: body_copies * body_bytes + PIECES * shared.options.piece_bytes(),
            row_copies: store.copies_of_large_metadata(),
            resource_copies: store.copies_of_resource() + OTHER_RESOURCES,
            store: store.kind(),
            position: record.position,
        }
    }

    /// Returns the reason why a row with this much metadata cannot be written, if so.
    pub(super) fn row_fault(&self, metadata_bytes: usize) -> Option<DecodeFault> {
        self.fault("event", metadata_bytes, self.row_copies)
    }

    /// Returns the reason why a resource of this size cannot be written, if so.
    pub(super) fn resource_fault(&self, bytes: usize) -> Option<DecodeFault> {
        self.fault("resource", bytes, self.resource_copies)
    }

    fn fault(&self, what: &str, bytes: usize, copies: usize) -> Option<DecodeFault> {
        let needed_bytes = self.held_bytes + bytes.saturating_mul(copies);
        // If no copy of a row is made, any record that could be read can be written.
        if copies == 0 || needed_bytes <= self.limit_bytes {
            return None;
        }
        let mib = |bytes: usize| bytes.div_ceil(MIB);
        let message = format!(
            "one {what} of this record has {} MiB as it is stored, and writing it to {} takes {} MiB of memory where {} MiB are \
             allowed; set RUVVECTOR_MEMORY_BYTES to at least {}MiB and send the record again",
            mib(bytes),
            self.store,
            mib(needed_bytes),
            self.limit_bytes / MIB,
            mib(usize::try_from(limit_for_record(needed_bytes as u64)).unwrap_or(usize::MAX)),
        );
        let Position { stream, n } = self.position;
        tracing::error!(%stream, position = n, "{message}");
        Some(DecodeFault::new(DeadLetterReason::Fatal, message))
    }
}

#[cfg(test)]
mod tests {
    use super::{MIB, Position, RecordMemory};
    use crate::event::StreamId;
    use crate::memory::MemoryShares;

    fn memory(row_copies: usize, limit_mib: u64) -> RecordMemory {
        RecordMemory {
            limit_bytes: MemoryShares::of(Some(limit_mib << 20)).large_record_bytes,
            held_bytes: 30 * MIB,
            row_copies,
            resource_copies: row_copies + 2,
            store: "sqlite",
            position: Position {
                stream: StreamId([1; 16]),
                n: 1,
            },
        }
    }

    #[test]
    fn what_does_not_fit_says_the_limit_under_which_it_does() {
        assert_eq!(memory(3, 256).row_fault(16 * MIB), None);
        let fault = memory(3, 256).row_fault(17 * MIB).unwrap();
        assert!(fault.message.contains("takes 81 MiB"), "{fault:?}");
        let enough = "RUVVECTOR_MEMORY_BYTES to at least 260MiB";
        assert!(fault.message.contains(enough), "{fault:?}");
        assert_eq!(memory(3, 260).row_fault(17 * MIB), None);
        assert!(memory(3, 260).resource_fault(17 * MIB).is_some());
    }

    #[test]
    fn a_row_of_which_no_copy_is_made_is_written_however_long_it_is() {
        assert_eq!(memory(0, 256).row_fault(190 * MIB), None);
        assert!(memory(0, 256).resource_fault(64 * MIB).is_some());
    }
}
