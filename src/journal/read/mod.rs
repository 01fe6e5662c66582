//! Reading: records for the writer, digests for the detection of duplicates, and reports for the command line.
//!
//! **Invariant:** nothing here changes a file.

/// Reading back.
pub(in crate::journal) mod record_reader;

/// What retries are known by.
pub(in crate::journal) mod request_digests;

/// `journal list` and `journal verify`.
pub(in crate::journal) mod inspect;
