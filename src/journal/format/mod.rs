//! The bytes of a journal on disk: segments, records, and the scan that reads them back.
//!
//! **Invariant:** no length or position is believed before the checksum that covers it.

/// Record headers.
pub(in crate::journal) mod record;

/// Segment headers and footers.
pub(in crate::journal) mod segment;

/// From bytes to records, past any damage.
pub(in crate::journal) mod scan;

/// Numbers in blocks.
pub(in crate::journal) mod le_bytes;
