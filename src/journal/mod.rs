//! The journal: every accepted request, synced to disk before it is answered, kept until the database has it.
//!
//! **Invariant:** every record for which [`Journal::append`] returned `Ok` is read back after any crash, in order,
//! once.
//!
//! # How a record lives
//!
//! A request that decoding **accepted** becomes a [`NewRecord`] and waits in the queue of [`Journal::append`]. The
//! append thread takes all waiting records, gives them the next positions of the live stream, and writes them as one
//! group: they are **appended**. One sync covers the group: its records are **synced**, and readers see them. If they
//! are the first of their segment, their positions are then written to the file `positions`. At last each caller gets
//! its position and the client its answer: the records are **acknowledged**.
//!
//! A crash before the write loses the records. A crash between write and sync leaves each of them whole, torn or lost:
//! the next opening keeps the whole ones, and a position before them that it cannot read becomes a hole, for which no
//! rows are due. A crash after the sync loses nothing. Until the acknowledgement the client has no answer and may send
//! the request again; if the record was kept and has a digest, the digest identifies the retry. A write or sync that
//! fails is like a crash: the callers get [`AppendError::Unknown`], the journal is broken, and the next opening finds
//! out. Only a full volume does not break it: the failed group's positions become a hole, and the journal continues in
//! another file once there is room.
//!
//! The writer reads synced records that are not stored ([`Journal::read`]), from memory or from the disk, and commits
//! their rows and their positions in one transaction of the database: the records are **stored**. Then it reports the
//! positions to the journal ([`Journal::mark_stored`]), which keeps them in memory only. After a crash before the commit
//! the records are read again. After a crash between commit and report nothing is written twice: the writer first reads
//! the stored positions from the database, and reports these.
//!
//! A sealed segment is **recycled** once all of its positions are stored, nobody reads it, and [`Options::keep_stored`]
//! has passed since then (or room is short). The recycler thread writes the freed positions to the file `positions`,
//! then makes the file a spare, or removes it. A crash before that is durable leaves a segment whose positions are
//! stored: it is recycled later. An opening after a crash writes each segment without footer again, with one, before it
//! retires the original; an opening that crashes itself is repeated by the next.
//!
//! # Direct I/O
//!
//! Segments are read and written past the system's page cache, where that works ([`IoMode`]). An opening tries it on a
//! spare before it changes a segment, and decides for the whole life of the journal. Each write begins and ends at a
//! multiple of 4096 and is copied into an aligned buffer, piece by piece. Reads begin and end anywhere: the buffer has
//! the blocks around them. The bytes on disk are the same in both modes, so an opening in one reads what the other
//! wrote. A buffered opening first drops the pages that it finds.
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
//! The header is there three times: in the sectors at 0 and 2048 of the first block, and at 2048 of the last. The
//! footer joins it, at 0 of the last block, once nothing more is appended. Every later format keeps the first 16 bytes,
//! and the checksum's rule: over the sector's 512 bytes with its own four as zero.
//!
//! ```text
//! header  0 "ruvvlog\n"  8 format u16  10 flags u16 (1 freed by a mark)  12 checksum u32  16 nonce u64
//!         24 stream 16 bytes  40 epoch u64 (number of the opening; orders streams)  48 segment's length u64
//!         56 first position u64 (of the first record)
//! footer  0 "ruvvend\n"  8 to 63 as in the header  64 last position u64  72 end of the last group u64
//!         80 records u64  88 events u64  96 bytes of records u64  104 first receive time i64
//! spare   0 "ruvvspr\n"  8 format u16  10 zero u16  12 checksum u32  16 nonce u64 (its own)
//!         24 nonce of the segment that it was u64 (0 none)
//! ```
//!
//! A **spare** has its mark at 0 and 2048 of the last block, and zeros in the first. A segment is freed by writing the
//! mark over its footer, a sync, then zeros over its first block, and a sync: a mark that names the header's own nonce
//! frees it already. Zeros in the first block alone prove nothing: if the last block has a header or footer, the first
//! block is lost, and the segment is read as the last block states. If neither block states anything and the first is
//! not zeros, records of one nonce that follow are read under the only stream that lacks just these: one of its files
//! ends right before the first.
//!
//! The format's number stays 1. Versions before the mark take zeros in the first block for a spare, and see a spare in
//! today's; they free by those zeros alone, and their headers lack flag 1. A file of theirs with such zeros may be
//! freed or damaged. Without a footer, like the original of a tail that was written again, it is left alone: never
//! read, written to or counted as damage. With one it is kept and read like a segment until the database was asked:
//!
//! * The database has a row of the stream: positions in that row are stored, and all others are written.
//! * It has no row: a freed file was stored, so it had a row, which is removed 30 days after the stream's last segment.
//!   A file of a stream that has sound segments or misses positions, or a file with a record of the last 30 days, was
//!   therefore never stored: it is damaged, and its records are written. Any other file is left alone, as nothing shows
//!   which it is: its records may be stored already and must not be stored twice, or may be the only ones and must not
//!   be lost.
//!
//! A group is covered by one sync: records one after the other, each on a multiple of 8, padded with zeros.
//!
//! ```text
//! record  0 segment's nonce u64  8 checksum u32 (of the 124 other bytes of the header)  12 payload's length u32
//!         16 position u64  24 synced position u64  32 receive time i64 (Unix ns)  40 length once decoded u32
//!         44 accepted u32  48 rejected u32  52 payload's checksum u32
//!         56 class u8 (1 request, 2 sync marker, 3 hole, 4 damaged, 5 missing)
//!         57 signal u8 (1 event, 2 span, 3 log record, 4 metric)
//!         58 encoding u8 (1 JSON, 2 NDJSON, 3 protobuf)  59 content encoding u8 (1 none, 2 gzip, 3 zstd, 4 deflate)
//!         60 flags u8 (1 partial, 2 strict JSON, 4 header lost, 8 clean)  61 depth u8  62 native depth u8  63 zero u8
//!         64 decoder's version u16  66 zero u16  68 nodes u32  72 attributes u32  76 value bytes u32
//!         80 events u32  84 zero u32  88 digest 16 bytes  104 tenant 16 bytes (reserved, zero)
//!         120 last position u64 (of a hole or of missing records; else the position)
//!         128 payload
//! ```
//!
//! * The **nonce** is random: bytes of a segment's earlier life, and records forged in a client's payload, are no
//!   records.
//! * The **synced position** is the highest position that was synced when the record was written. A bad record at or
//!   below the highest one found is damage; above it, it was never confirmed. A header's first position proves the same
//!   of all positions before it.
//! * Every opening starts a new **stream** and never appends to an older one's segments.
//! * A segment without footer is read record by record at the next opening and written again, whole and with a footer,
//!   under the same stream, first position and positions; holes and damage are then records of their own class. Only
//!   when that is synced is the original retired. Two files with the same first position are one segment: the one with
//!   the footer. A segment with a footer and no position is not a segment.
//! * A segment that begins after a write found the volume full has in its first group no request: a sync marker, or a
//!   hole with the positions of that write. If a file with that first position has records of these positions, the hole
//!   is believed.
//!
//! The file `positions` states how far each stream got and which positions were freed. So a lost file is missed, even
//! the last one. It is written before the first records of a segment are acknowledged, about once a second, and before
//! a segment is freed. After a crash, at least these first records of the last file are missed. Positions that are in
//! no file, were not freed and are not in the database are reported, and become one dead letter for each range.
//!
//! The file `lock` keeps a second process out. Its text, 128 bytes padded with spaces, is its own identity (inode and
//! time of birth) and the number of the first opening in this directory: a stream of an earlier opening came with a
//! copy. The original of such a stream may still be in use, and hold records that are holes and damage in the copy. The
//! copy's `positions` may be younger than its files: positions in it behind the last position of a file are not missed.

use crate::event::{Position, StreamId};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;

use crate::event::{ContentEncoding, Signal, Source};
use crate::telemetry::own_traces::SpanError;

use crate::journal::shared::{Shared, lock};

pub use crate::journal::handle::Journal;
pub use crate::journal::io_mode::{IoMode, IoSetting};
pub use crate::journal::read::inspect::SegmentReport;
pub(crate) use crate::journal::shared::now_unix_nano;
pub use crate::journal::status::{JournalSizes, JournalStatus};

/// Reading: records for the writer, digests for the detection of duplicates, and reports for the command line.
mod read;

/// Appending: the queue of waiting requests, and the one thread that writes and syncs them.
mod append;

/// The bytes of a journal on disk: segments, records, and the scan that reads them back.
mod format;

/// The operations of a disk: the journal's only access to the file system.
pub mod disk;

/// Memory that direct I/O accepts.
mod aligned_buffer;

/// A disk whose segments are read and written past the page cache.
mod direct_disk;

/// The choice between direct I/O and the page cache.
mod io_mode;

/// A segment in memory: its header, totals and index.
mod segment_index;

/// The streams that the journal holds, and which of their positions are stored.
mod streams;

/// Room for segments: spares, the budget, the volume's floor.
mod space;

/// The file `positions`: the last position of each stream, and the positions that were freed.
mod positions_file;

/// Recovery of the files that earlier openings left.
mod recovery;

/// State that the journal's threads and its callers share.
mod shared;

/// The state of the journal in numbers, for metrics and `/health`.
mod status;

/// The recycler thread: recycles stored segments and fills spares.
mod recycler;

/// Changes of the stored positions, as the writer reports them.
mod stored;

/// Copies of damaged segments, for inspection.
mod quarantine;

/// The open journal, as the other stages use it.
mod handle;

/// Settings of the journal.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The directory of the segments.
    pub dir: PathBuf,
    /// Maximum bytes of all segment files together; `None` = 4 GiB or 80 % of the volume, whichever is less.
    pub budget_bytes: Option<u64>,
    /// Bytes of a segment; at most a sixteenth of the budget. `None` = 64 MiB, or a thirty-second of the volume if that
    /// is less.
    pub segment_bytes: Option<u64>,
    /// Bytes of the volume that stay free; `None` = 256 MiB, or an eighth of the volume if that is less.
    pub free_floor_bytes: Option<u64>,
    /// Time for which stored segments are kept.
    pub keep_stored: Duration,
    /// The way in which segments are read and written.
    pub io: IoSetting,
    /// Maximum bytes of synced records that are kept in memory for the writer.
    pub window_bytes: usize,
}

#[cfg(test)]
impl Options {
    /// Returns the options of a small journal for a unit test.
    pub(crate) fn small(dir: PathBuf) -> Self {
        Self {
            dir,
            budget_bytes: Some(1 << 20),
            segment_bytes: None,
            free_floor_bytes: Some(0),
            keep_stored: Duration::ZERO,
            io: IoSetting::Auto,
            window_bytes: 0,
        }
    }
}

/// A request that [`crate::decode::check`] accepted.
#[derive(Clone, Debug)]
pub struct NewRecord {
    pub source: Source,
    pub content_encoding: ContentEncoding,
    /// Length of the payload once the content encoding is undone.
    pub decoded_bytes: u32,
    /// Number of accepted events.
    pub accepted: u32,
    /// Number of rejected events.
    pub rejected: u32,
    /// Decoding rejected and changed nothing, so that the events need no second validation.
    pub is_clean: bool,
    /// Identifies a client's retry of the request; zero = no digest.
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
    /// Length of the payload once the content encoding is undone.
    pub decoded_bytes: u32,
    /// Number of accepted events.
    pub accepted: u32,
    /// Number of rejected events.
    pub rejected: u32,
    /// As [`NewRecord::is_clean`]; false for records of versions without the flag.
    pub is_clean: bool,
    /// As [`NewRecord::digest`].
    pub digest: [u8; 16],
    /// The client's bytes as received.
    pub payload: Bytes,
}

/// The digest of a record of the journal, which identifies a retry of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestDigest {
    pub position: Position,
    /// Never zero.
    pub digest: [u8; 16],
    pub signal: Signal,
    /// Receive time, Unix nanoseconds.
    pub received_unix_nano: i64,
    pub payload_bytes: u32,
    /// CRC-32C of the payload.
    pub payload_checksum: u32,
}

/// The entry of a stream at its next position or positions.
#[derive(Clone, Debug)]
pub enum JournalEntry {
    Record(Record),
    /// Positions that cannot be read and, as far as this directory shows, were never confirmed to anybody: they join
    /// the stored positions, without rows.
    Hole {
        first: u64,
        last: u64,
    },
    /// Confirmed records of which nothing is left, as a file is lost or a part of it: they become one dead letter.
    Missing {
        first: u64,
        last: u64,
    },
    /// A confirmed record that can no longer be read: it becomes a dead letter. `accepted` is known if the header
    /// survived.
    Damaged {
        n: u64,
        accepted: Option<u32>,
        bytes: Bytes,
        reason: String,
    },
}

/// A stream of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub id: StreamId,
    /// The lowest position that a segment holds or that is missing.
    pub first: u64,
    /// The highest synced position; 0 if there is none.
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

/// The reason for which a record was not appended, or may not have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Not appended: the budget is used up.
    #[error("the journal is full")]
    Full,
    /// Not appended: the volume is at its floor.
    #[error("the disk is full")]
    DiskFull,
    /// Not appended: the record is larger than the journal can ever hold.
    #[error("the request is larger than the journal can hold")]
    TooLarge,
    /// Not appended: the journal was closed or broken before the append thread accepted this record.
    #[error("the journal takes no more records")]
    Closed,
    /// May yet be stored: the write or sync of the record's group failed.
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

/// An error of opening the journal.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("{}: there is no journal here", .0.display())]
    NoJournal(PathBuf),
    /// The folder beside it is a journal under the name that earlier versions gave it.
    #[error(
        "{} holds a journal under the name that earlier versions gave it: end every process that uses it, then run \
         `mv {} {}`",
        earlier.display(), earlier.display(), dir.display()
    )]
    EarlierName { earlier: PathBuf, dir: PathBuf },
    #[error(
        "{}: direct I/O does not work here: {error}; set RUVVECTOR_JOURNAL_IO to auto or buffered, or move the data \
         directory to a file system with direct I/O",
        dir.display()
    )]
    NoDirectIo { dir: PathBuf, error: std::io::Error },
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

/// An I/O error of the disk while a stream was read; never damage.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct ReadError {
    pub path: PathBuf,
    pub error: std::io::Error,
}

/// A disk that forgets unsynced writes, for tests.
#[cfg(test)]
mod sim;

#[cfg(test)]
mod tests;
