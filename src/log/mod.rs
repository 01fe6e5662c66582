//! The log: every accepted request, synced to disk before it is answered, kept until the database has it.
//!
//! **Invariant:** what [`Log::append`] returned `Ok` for is read back after any crash, in order, once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::decode::Source;
use crate::decode::inflate::ContentEncoding;

/// The one seam to the file system.
pub mod disk;

/// All records of one opening of the log; random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub [u8; 16]);

/// A record's place: counts from 1 in its stream, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub stream: StreamId,
    pub n: u64,
}

/// Settings of the log.
#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    /// All segments together; `None` = 4 GiB or 80 % of the volume, whichever is less.
    pub budget_bytes: Option<u64>,
    /// One segment; a sixteenth of the budget if that is less.
    pub segment_bytes: u64,
    /// Space on the volume that is never used.
    pub free_floor_bytes: u64,
    /// How long stored segments are kept.
    pub keep_stored: Duration,
}

/// A request that [`crate::decode::check`] took.
#[derive(Clone, Debug)]
pub struct NewRecord {
    pub source: Source,
    pub content_encoding: ContentEncoding,
    /// Length of the payload once the content encoding is undone.
    pub decoded_bytes: u32,
    pub accepted: u32,
    pub rejected: u32,
    /// Of the request, to know a client's retry by; zero = none.
    pub digest: [u8; 16],
    /// The client's bytes as received.
    pub payload: Bytes,
}

/// A record read back.
#[derive(Clone, Debug)]
pub struct Record {
    pub position: Position,
    pub source: Source,
    pub content_encoding: ContentEncoding,
    pub decoded_bytes: u32,
    pub accepted: u32,
    pub rejected: u32,
    pub digest: [u8; 16],
    pub payload: Bytes,
}

/// What stands at the next position or positions of a stream.
#[derive(Clone, Debug)]
pub enum Entry {
    Record(Record),
    /// Positions that were never confirmed to anybody and cannot be read: they join the account, with no rows.
    Hole {
        first: u64,
        last: u64,
    },
    /// A confirmed record that can no longer be read: a record-level dead letter. `accepted` where the header survived.
    Damaged {
        n: u64,
        accepted: Option<u32>,
        bytes: Bytes,
        reason: String,
    },
}

/// One stream that the directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub id: StreamId,
    /// The lowest position still held.
    pub first: u64,
    /// The highest synced position; 0 when there is none.
    pub last: u64,
    /// Whether records are still appended to it.
    pub live: bool,
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Not stored: the budget is used up.
    #[error("the log is full")]
    Full,
    /// Not stored: the volume is at its floor.
    #[error("the disk is full")]
    DiskFull,
    /// Not stored: larger than the log can ever hold.
    #[error("the request is larger than the log can hold")]
    TooLarge,
    /// Not stored: the log is closed or was broken before this record was handed to it.
    #[error("the log takes no more records")]
    Closed,
    /// May yet be stored: the write or the sync that this record was part of failed.
    #[error("the log failed while the request was written")]
    Unknown,
}

/// For `/health` and `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub queue_events: u64,
    pub queue_bytes: u64,
    pub capacity_bytes: u64,
    /// Receive time of the oldest record that is not stored, Unix nanoseconds.
    pub oldest_unix_nano: Option<i64>,
    pub appended: u64,
    pub synced: u64,
    pub stored: u64,
    pub segments: u64,
    pub volume_free_bytes: u64,
    pub volume_size_bytes: u64,
    /// Age of the oldest stored record still kept.
    pub retained_seconds: u64,
    /// Events that were not stored when the log was opened.
    pub backlog_at_start_events: u64,
    pub damaged_records: u64,
    pub undrained_streams: u64,
    pub full: bool,
    pub broken: bool,
}

/// The open log. Cheap to clone; all clones are the same log.
#[derive(Clone)]
pub struct Log {
    shared: Arc<()>,
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("{}: {error}; {advice}", path.display())]
    Io {
        path: PathBuf,
        error: std::io::Error,
        advice: &'static str,
    },
    #[error("{}: written by a newer version (format {found}, this one reads up to {known})", path.display())]
    Newer {
        path: PathBuf,
        found: u16,
        known: u16,
    },
}

/// Why a stream could not be read: an I/O error of the disk, never damage.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct ReadError {
    pub path: PathBuf,
    pub error: std::io::Error,
}

impl Log {
    /// Recovers what earlier openings left and starts a new stream. Blocks.
    ///
    /// # Errors
    /// When the directory is in use, unreadable, or of a newer format.
    pub fn open(disk: Arc<dyn disk::Disk>, options: &Options) -> Result<Self, OpenError> {
        let _ = (disk, options);
        Ok(Self {
            shared: Arc::new(()),
        })
    }

    /// Returns once the record is synced.
    ///
    /// # Errors
    /// [`AppendError::Unknown`] when the record may yet be stored; every other error means that it was not.
    pub async fn append(&self, record: NewRecord) -> Result<Position, AppendError> {
        let _ = (record, &self.shared);
        todo!()
    }

    /// The streams held, oldest first; the live one is the last.
    #[must_use]
    pub fn streams(&self) -> Vec<Stream> {
        todo!()
    }

    /// The synced entries of `stream` at and after position `from`, in order: at least one if there is one, then more up
    /// to about `max_bytes`. Empty at the end of what is synced.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub async fn read(
        &self,
        stream: StreamId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let _ = (stream, from, max_bytes);
        todo!()
    }

    /// Waits until the live stream has synced a position above `n`, or the log is closed or broken.
    pub async fn synced_past(&self, n: u64) {
        let _ = n;
        todo!()
    }

    /// Says that the database has committed these positions: what holds them may be recycled. Called again with positions
    /// it already knows, it does nothing.
    pub fn mark_stored(&self, stream: StreamId, first: u64, last: u64) {
        let _ = (stream, first, last);
        todo!()
    }

    /// Says that the database's account moved back: these positions are to be drained again.
    pub fn mark_unstored(&self, stream: StreamId, first: u64, last: u64) {
        let _ = (stream, first, last);
        todo!()
    }

    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }

    /// The directory's segments, oldest first, for `log list`, and what `log verify` finds: opened without starting a
    /// stream, read only.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn inspect(
        disk: Arc<dyn disk::Disk>,
        options: &Options,
    ) -> Result<Vec<SegmentReport>, OpenError> {
        let _ = (disk, options);
        todo!()
    }

    /// Takes no more records, syncs what was appended, and stops the log's threads. Streams can still be read and marked.
    pub async fn close(&self) {
        todo!()
    }
}

/// One segment, as `log list` and `log verify` print it.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    pub path: PathBuf,
    pub stream: StreamId,
    pub bytes: u64,
    pub first: u64,
    pub last: u64,
    pub records: u64,
    pub events: u64,
    pub sealed: bool,
    /// What is wrong with it, one line each; empty when all verifies.
    pub problems: Vec<String>,
}
