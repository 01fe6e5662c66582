//! The state of the journal in numbers, for metrics and `/health`.
//!
//! **Invariant:** the positions of one status are of one moment: always `stored` ≤ `synced` ≤ `appended`.

use crate::journal::io_mode::IoMode;

/// The state of the journal, for `/health` and `/metrics`.
///
/// `appended`, `synced` and `stored` are positions of the live stream, 0 before the first, and always `stored` ≤
/// `synced` ≤ `appended`. The append thread raises `appended` before it writes a group, and `synced` after the group's
/// sync. The writer raises `stored`, the highest position up to which all are stored, after the database's commit.
/// Records above `synced` are not durable yet; synced records above `stored` are not, or not all, in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalStatus {
    /// The way in which segments are read and written.
    pub io: IoMode,
    /// Events of the synced records that are not stored.
    pub queue_events: u64,
    /// Bytes of these records in the segments, headers included.
    pub queue_bytes: u64,
    /// The budget.
    pub capacity_bytes: u64,
    /// Receive time of the oldest synced record that is not stored, Unix nanoseconds.
    pub oldest_unix_nano: Option<i64>,
    pub appended: u64,
    pub synced: u64,
    pub stored: u64,
    /// Number of segments, without spares.
    pub segments: u64,
    pub volume_free_bytes: u64,
    pub volume_size_bytes: u64,
    /// Age of the oldest stored record that a segment still holds.
    pub retained_seconds: u64,
    /// Events that were not stored when the journal was opened. Includes events that an earlier process stored, until
    /// the writer reports them from the database, and events that the database lost since then.
    pub backlog_at_start_events: u64,
    pub damaged_records: u64,
    /// Files that were found cut short when the journal was opened.
    pub cut_segments: u64,
    /// Records that should be in a file and are neither in one nor in the database; `damaged_records` includes them.
    pub missing_records: u64,
    /// Records that should be in a file and are in none, and of which it is not known yet whether the database holds
    /// them.
    pub undecided_records: u64,
    /// Number of streams of earlier openings that are not wholly stored.
    pub undrained_streams: u64,
    /// There is no room for a further segment.
    pub full: bool,
    /// The cause of `full` is the volume, not the budget.
    pub at_floor: bool,
    /// Free bytes that the volume needs for a further segment: the floor and the segment.
    pub volume_needed_bytes: u64,
    /// Bytes of a usual segment.
    pub segment_bytes: u64,
    /// Bytes that the open segment has left for records, each with its header.
    pub open_room_bytes: u64,
    /// A write or sync failed, or the append thread panicked: nothing more is appended until the next opening.
    pub broken: bool,
}

/// The sizes that the settings of a journal yield on its volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalSizes {
    pub budget_bytes: u64,
    pub segment_bytes: u64,
    pub free_floor_bytes: u64,
}
