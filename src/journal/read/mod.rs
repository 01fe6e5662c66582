//! Reading: records for the writer, digests for the detection of duplicates, and reports for the command line.
//!
//! **Invariant:** nothing here changes a file.

/// Records and other entries, read back.
pub(in crate::journal) mod record_reader;

/// Synced records in memory.
pub(in crate::journal) mod record_window;

/// The digests by which retries are recognised.
pub(in crate::journal) mod request_digests;

/// `journal list` and `journal verify`.
pub(in crate::journal) mod inspect;
