//! The journal: every accepted request, synced to disk before it is answered, kept until the database has it.
//!
//! **Invariant:** what [`Log::append`] returned `Ok` for is read back after any crash, in order, once.
//!
//! # Format
//!
//! A directory of segments, `<16 hex digits>.seg`; names only tell files apart. All numbers are little-endian, all
//! checksums CRC-32C, all lengths bytes. A segment has a fixed length, a multiple of 4096, and is zeros before its use:
//!
//! ```text
//!      0  header block      4096
//!   4096  group, group …    each starts on a multiple of 4096 and is padded with zeros to the next
//!  -4096  last block
//! ```
//!
//! The header is there three times: in the sectors at 0 and 2048 of the first block, and at 2048 of the last. The footer
//! joins it, at 0 of the last block, once nothing more is appended. Every later format keeps the first 16 bytes, and the
//! checksum's rule: over the sector's 512 bytes with its own four as zero.
//!
//! ```text
//! header  0 "ruvvlog\n"  8 format u16  10 flags u16 (1 freed by a mark)  12 checksum u32  16 nonce u64
//!         24 stream 16 bytes  40 opening u64 (orders streams)  48 segment's length u64
//!         56 base u64 (position of the first record)
//! footer  0 "ruvvend\n"  8 to 63 as in the header  64 last position u64  72 end of the last group u64
//!         80 records u64  88 events u64  96 bytes of records u64  104 first receive time i64
//! spare   0 "ruvvspr\n"  8 format u16  10 zero u16  12 checksum u32  16 nonce u64 (its own)
//!         24 nonce of the segment that it was u64 (0 none)
//! ```
//!
//! A **spare** has its mark at 0 and 2048 of the last block, and zeros in the first. A segment is freed by writing the mark
//! over its footer, a sync, then zeros over its first block, and a sync: a mark that names the header's own nonce frees it
//! already. Zeros in the first block alone say nothing: where the last block has a header or footer, the first block is lost,
//! and the segment is read as that says. Where neither block says anything and the first is not zeros, records of one nonce
//! that follow are read under the only stream that lacks just these: one of its files ends right before the first of them.
//!
//! The format's number stays 1. Versions before the mark take zeros in the first block for a spare, and see a spare in
//! today's; they free by those zeros alone, and their headers lack flag 1. A file of theirs with such zeros may be freed or
//! damaged. Without a footer, as of the original of a tail that was written again, it is left alone: never read, written to or
//! counted as damage. With one it is kept and read like a segment until the database was asked:
//!
//! * It has a row of the stream: what is in the row's positions is stored, and all else is written.
//! * It has none: a freed file was stored, so it had one, which goes 30 days after the stream's last segment. A file of a stream
//!   of which sound segments are held, or positions are missed, or with a record of the last 30 days was therefore never
//!   stored: it is damaged, and its records are written. Of any other file nobody can tell; it is left alone, as its records
//!   may be stored already and must not be twice, and may be the only ones and must not be lost.
//!
//! A group is what one sync covers: records one after the other, each on a multiple of 8, padded with zeros.
//!
//! ```text
//! record  0 segment's nonce u64  8 checksum u32 (of the 124 other bytes of the header)  12 payload's length u32
//!         16 position u64  24 synced mark u64  32 receive time i64 (Unix ns)  40 length once decoded u32
//!         44 accepted u32  48 rejected u32  52 payload's checksum u32
//!         56 class u8 (1 request, 2 mark, 3 hole, 4 damaged, 5 missing)  57 signal u8 (1 event, 2 span, 3 log, 4 metric)
//!         58 encoding u8 (1 JSON, 2 NDJSON, 3 protobuf)  59 content encoding u8 (1 none, 2 gzip, 3 zstd, 4 deflate)
//!         60 flags u8 (1 partial, 2 strict JSON, 4 header lost)  61 depth u8  62 native depth u8  63 zero u8
//!         64 decoder's version u16  66 zero u16  68 nodes u32  72 attributes u32  76 value bytes u32
//!         80 events u32  84 zero u32  88 digest 16 bytes  104 tenant 16 bytes (reserved, zero)
//!         120 last position u64 (of a hole, or of what is missing; else the position)
//!         128 payload
//! ```
//!
//! * The **nonce** is random: bytes of a segment's earlier life, and records forged in a client's payload, are no records.
//! * The **synced mark** is the highest position that was synced when the record was written. A bad record at or below
//!   the highest mark found is damage; above it, it was never confirmed. A header's base says the same of all before it.
//! * Every opening starts a new **stream** and never appends to an older one's segments.
//! * A segment without footer is read record by record at the next opening and written again, whole and with a footer,
//!   under the same stream, base and positions; holes and damage are then records of their own class. Only when that
//!   is synced does the original go. A base found twice is one segment: the one with the footer. A segment with a footer and
//!   no position is none.
//! * A segment that begins after a write found the volume full has in its first group no record: a mark, or a hole with the
//!   positions of that write. Where a file with that base has records of these positions, the hole is believed.
//!
//! The file `positions` notes how far each stream got and which positions were freed, so that a file that goes missing, the
//! last one too, is missed: before the first records of a segment are acknowledged, about once a second, and before a segment
//! is freed. After a crash, of the last file at least these first records are missed. What no file holds, neither freed nor in the
//! database, is reported and becomes one dead letter for each range.
//!
//! The file `lock` keeps a second process out, and says in 128 bytes of text, padded with spaces, what it is known by (inode
//! and time of birth) and the first opening in this directory: a stream of an earlier one came with a copy. That one's origin
//! may live on and hold what the copy takes for holes and damage.
//! The copy's `positions` may be younger than its files: what it notes behind the last position of a file is not missed.

use crate::event::{Position, StreamId};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::event::{ContentEncoding, Signal, Source};
use crate::position_set::PositionSet;
use crate::telemetry::own_traces::SpanError;

use crate::journal::shared::{Shared, lock};

pub use crate::journal::handle::Journal;
pub(crate) use crate::journal::shared::now_unix_nano;

/// Reading: records for the writer, digests for the detection of duplicates, and reports for the command line.
mod read;

/// Appending: the queue of waiting requests, and the one thread that writes and syncs them.
mod append;

/// The bytes of a journal on disk: segments, records, and the scan that reads them back.
mod format;

/// The one seam to the file system.
pub mod disk;

/// A segment as memory knows it.
mod segment_index;

/// The streams that the journal holds, and which of their positions are stored.
mod streams;

/// Spares, budget, floor.
mod space;

/// The file `positions`: the last position of each stream, and the positions that were freed.
mod positions_file;

/// Recovery of the files that earlier openings left.
mod recovery;

/// State that the journal's threads and its callers share.
mod shared;

/// The thread that keeps room.
mod recycler;

/// Stored and unstored.
mod stored;

/// Copies of damaged segments.
mod quarantine;

/// The open journal, as the other stages hold it.
mod handle;

/// Settings of the journal.
#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    /// All segments together; `None` = 4 GiB or 80 % of the volume, whichever is less.
    pub budget_bytes: Option<u64>,
    /// One segment; a sixteenth of the budget if that is less. `None` = 64 MiB, or a thirty-second of the volume if that is
    /// less.
    pub segment_bytes: Option<u64>,
    /// Space on the volume that is never used; `None` = 256 MiB, or an eighth of the volume if that is less.
    pub free_floor_bytes: Option<u64>,
    /// Time for which stored segments are kept.
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

/// A record that the journal holds, as a retry of its request is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestDigest {
    pub position: Position,
    /// Never zero.
    pub digest: [u8; 16],
    pub signal: Signal,
    pub received_unix_nano: i64,
    pub payload_bytes: u32,
    /// CRC-32C.
    pub payload_checksum: u32,
}

/// The entry of a stream at its next position or positions.
#[derive(Clone, Debug)]
pub enum JournalEntry {
    Record(Record),
    /// Positions that cannot be read and, as far as this directory knows, were never confirmed to anybody: they join the
    /// account, with no rows.
    Hole {
        first: u64,
        last: u64,
    },
    /// Confirmed records of which nothing is left, as a file is gone or bytes of it are: one record-level dead letter for
    /// all of them.
    Missing {
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
    /// Records are still appended to it.
    pub live: bool,
    /// It was begun in another directory, of which this one is a copy. The original may still be in use, and hold
    /// records of the stream that this one lacks.
    pub from_copy: bool,
}

/// A part of a stream that one segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPart {
    pub positions: RangeInclusive<u64>,
    /// Receive time of its first record, Unix nanoseconds.
    pub first_received_unix_nano: i64,
}

/// Why a record was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Not stored: the budget is used up.
    #[error("the journal is full")]
    Full,
    /// Not stored: the volume is at its floor.
    #[error("the disk is full")]
    DiskFull,
    /// Not stored: larger than the journal can ever hold.
    #[error("the request is larger than the journal can hold")]
    TooLarge,
    /// Not stored: the journal is closed or was broken before this record was handed to it.
    #[error("the journal takes no more records")]
    Closed,
    /// May yet be stored: the write or the sync that this record was part of failed.
    #[error("the journal failed while the request was written")]
    Unknown,
}

impl SpanError for AppendError {
    fn error_type(&self) -> Option<&'static str> {
        Some(match self {
            Self::Full => "full",
            Self::DiskFull => "disk_full",
            Self::TooLarge => return None,
            Self::Closed => "closed",
            Self::Unknown => "unknown",
        })
    }
}

/// For `/health` and `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStatus {
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
    /// Events that were not stored when the journal was opened.
    pub backlog_at_start_events: u64,
    pub damaged_records: u64,
    /// Files that had lost their end when the journal was opened.
    pub cut_segments: u64,
    /// Records that should be in a file and are neither in one nor in the database; among the damaged.
    pub missing_records: u64,
    /// Records that should be in a file and are in none, and of which the database was not heard yet.
    pub undecided_records: u64,
    pub undrained_streams: u64,
    pub full: bool,
    /// The volume is short of space, not the budget.
    pub at_floor: bool,
    /// Free space that the volume needs for a further segment.
    pub volume_needed_bytes: u64,
    /// The part of it that the segment takes; the rest is the floor.
    pub segment_bytes: u64,
    /// Bytes that the open segment has left for records, each with its header.
    pub open_room_bytes: u64,
    pub broken: bool,
}

/// The sizes that the settings of a journal come to on its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalSizes {
    pub budget_bytes: u64,
    pub segment_bytes: u64,
    pub free_floor_bytes: u64,
}

/// Why the journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("{}: there is no journal here", .0.display())]
    NoJournal(PathBuf),
    /// The folder beside it still has the name that earlier versions gave the journal.
    #[error(
        "{} holds a journal under the name that earlier versions gave it: end every process that uses it, then run \
         `mv {} {}`",
        earlier.display(), earlier.display(), dir.display()
    )]
    EarlierName { earlier: PathBuf, dir: PathBuf },
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

/// One segment, as `journal list` and `journal verify` print it.
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
    /// Problems of the segment, and positions missing before it, one line each; empty if all verifies.
    pub problems: Vec<String>,
    /// Positions that cannot be read and were never confirmed to anybody: no problem.
    pub unconfirmed: PositionSet,
}

/// A disk that forgets.
#[cfg(test)]
mod sim;

#[cfg(test)]
mod tests;
