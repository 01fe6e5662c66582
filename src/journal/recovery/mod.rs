//! Opening: segments that earlier openings left unsealed are written again and sealed, and a new stream begins.
//!
//! **Invariant:** run twice, or interrupted and run again, recovery yields the same records. No file is removed before
//! the file that replaces it is synced.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::JOURNAL_DAMAGED_RECORDS_TOTAL;

use crate::event::StreamId;
use crate::journal::append::queue::Queue;
use crate::journal::disk::Disk;
use crate::journal::format::segment::{BLOCK_BYTES, FORMAT, SegmentHeader};
use crate::journal::positions_file::{self, FoundPositions, NotedStreams};
use crate::journal::read::record_window::RecordWindow;
use crate::journal::recovery::segment_files::{
    HeaderSource, SegmentFile, SegmentFileKind, number, segment_files,
};
use crate::journal::shared::{JournalSettings, Shared, lock};
use crate::journal::space::{RoomError, SegmentPool};
use crate::journal::streams::{StreamState, StreamTable};
use crate::journal::{Journal, JournalSizes, OpenError, Options, io_mode, quarantine};
use crate::position_set::PositionSet;

/// The segment files of a directory.
pub(in crate::journal) mod segment_files;

/// The plan for a segment that was never sealed.
pub(in crate::journal) mod plan;

/// The copy of it, sealed.
pub(in crate::journal) mod rewrite;

/// Detection of copied directories.
pub(in crate::journal) mod directory_identity;

/// The recovery of one stream.
mod stream;

/// A segment has room for a header, a footer and two groups at least.
pub(super) const SMALLEST_SEGMENT: u64 = 4 * BLOCK_BYTES;

/// The file whose lock keeps a second process out.
const LOCK: &str = "lock";

/// Default of the budget, in bytes and as a percentage of the volume.
const BUDGET_BYTES: u64 = 4 << 30;
const BUDGET_PERCENT: u64 = 80;

/// Advice of errors.
const WRITABLE: &str = "the directory must be writable";
const REMOVABLE: &str = "the files of the journal must be removable";
pub(super) const READABLE: &str = "the files of the journal must be readable";
const CHECK_DISK: &str = "check the disk and start again";

/// Defaults of the segment's length and the floor; on a small volume they take at most these shares of it.
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENT_SHARE: u64 = 32;
const FLOOR_BYTES: u64 = 256 << 20;
const FLOOR_SHARE: u64 = 8;

/// Implements [`Journal::open`], without its threads.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    options: &Options,
    sync_marker_after: Duration,
) -> Result<Shared, OpenError> {
    let shared = recovered(disk, options, sync_marker_after)?;
    let room = shared.replenish(&mut lock(&shared.pool));
    if let Err(RoomError::Disk(error)) = room {
        return Err(failed(&options.dir, error, WRITABLE));
    }
    shared.note_room(room.as_ref().err());
    shared.create_positions_file();
    Ok(shared)
}

/// Implements [`Journal::open_to_empty`]. Spares are removed first, and the copy of an unsealed segment takes no more
/// than it needs: so there is room for it on a full volume, whatever length the segments had.
pub(super) fn open_to_empty(disk: Arc<dyn Disk>, options: &Options) -> Result<Shared, OpenError> {
    let options = Options {
        segment_bytes: Some(SMALLEST_SEGMENT),
        ..options.clone()
    };
    let shared = recovered(disk, &options, Duration::MAX)?;
    lock(&shared.pool)
        .remove_spares(&*shared.disk)
        .map_err(|(path, error)| failed(&path, error, REMOVABLE))?;
    Ok(shared)
}

fn recovered(
    disk: Arc<dyn Disk>,
    options: &Options,
    sync_marker_after: Duration,
) -> Result<Shared, OpenError> {
    let dir = &options.dir;
    refuse_earlier_name(&*disk, dir)?;
    let at_dir = |advice| move |error| failed(dir, error, advice);
    disk.create_dir(dir).map_err(at_dir(WRITABLE))?;
    let guard = disk
        .lock(&dir.join(LOCK))
        .map_err(at_dir(WRITABLE))?
        .ok_or_else(|| OpenError::Locked(dir.clone()))?;
    let (disk, io) = io_mode::choose(disk, dir, options.io)?;
    let space = disk
        .space(dir)
        .map_err(at_dir("the volume must be readable"))?;
    let sizes = sizes(options, space.size_bytes);
    let settings = JournalSettings {
        dir: dir.clone(),
        segment_bytes: sizes.segment_bytes,
        budget_bytes: sizes.budget_bytes,
        free_floor_bytes: sizes.free_floor_bytes,
        keep_stored: options.keep_stored,
        io,
        sync_marker_after,
    };
    // Below this size no segment ever fits: the floor, two spares and the segment that is appended to.
    let least_bytes = sizes
        .free_floor_bytes
        .saturating_add(3 * sizes.segment_bytes);
    if least_bytes > space.size_bytes {
        tracing::error!(
            dir = %dir.display(), volume_bytes = space.size_bytes, floor_bytes = settings.free_floor_bytes,
            segment_bytes = settings.segment_bytes,
            "this volume can never hold the journal: no event will be accepted. Lower RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES or \
             RUVVECTOR_JOURNAL_SEGMENT_BYTES, or use a larger volume"
        );
    }
    let (noted, positions_file) = positions_file::read(&*disk, dir);
    let (pool, mut state) = recover(&*disk, &settings, &noted)?;
    state.volume = space;
    tracing::info!(dir = %dir.display(), io = %io.name(), "the journal is open");
    Ok(Shared {
        disk,
        settings,
        queue: Queue::new(),
        stored_lock: Mutex::default(),
        pool: Mutex::new(pool),
        positions_file: Mutex::new(positions_file),
        state: Mutex::new(state),
        window: Mutex::new(RecordWindow::new(options.window_bytes)),
        read_buffer: Mutex::default(),
        synced: watch::Sender::default(),
        ended: CancellationToken::new(),
        broken: AtomicBool::default(),
        full: AtomicBool::default(),
        at_floor: AtomicBool::default(),
        unwritable: AtomicBool::default(),
        appended_bytes: AtomicU64::default(),
        open_room_bytes: AtomicU64::default(),
        recycler_requests: Mutex::default(),
        recycler_wakeup: Condvar::new(),
        _lock: guard,
    })
}

/// Refuses to start a second journal beside one that still has its earlier name, `log`.
///
/// # Errors
/// [`OpenError::EarlierName`] if the folder beside `dir` has segments.
pub(in crate::journal) fn refuse_earlier_name(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<(), OpenError> {
    let earlier = dir.with_file_name("log");
    let is_journal = dir.file_name().is_some_and(|name| name == "journal");
    let has_segments = || {
        let files = disk.list(&earlier).unwrap_or_default();
        files.iter().any(|file| number(&file.path).is_some())
    };
    if !is_journal || !has_segments() {
        return Ok(());
    }
    Err(OpenError::EarlierName {
        earlier,
        dir: dir.to_owned(),
    })
}

/// Returns whether an earlier opening left the lock or a segment in the directory.
pub(super) fn holds_a_journal(disk: &dyn Disk, dir: &Path) -> Result<bool, OpenError> {
    refuse_earlier_name(disk, dir)?;
    match disk.list(dir) {
        Ok(files) => Ok(files
            .iter()
            .any(|file| number(&file.path).is_some() || file.path.ends_with(LOCK))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(false)
        }
        Err(error) => Err(failed(dir, error, "the directory must be readable")),
    }
}

/// Returns the sizes that `options` come to on a volume of this size.
fn sizes(options: &Options, volume_bytes: u64) -> JournalSizes {
    let budget_bytes = options
        .budget_bytes
        .unwrap_or_else(|| BUDGET_BYTES.min(volume_bytes / 100 * BUDGET_PERCENT));
    let segment_bytes = options
        .segment_bytes
        .unwrap_or_else(|| SEGMENT_BYTES.min(volume_bytes / SEGMENT_SHARE))
        .min(budget_bytes / 16);
    let free_floor_bytes = options
        .free_floor_bytes
        .unwrap_or_else(|| FLOOR_BYTES.min(volume_bytes / FLOOR_SHARE));
    JournalSizes {
        budget_bytes,
        segment_bytes: (segment_bytes / BLOCK_BYTES * BLOCK_BYTES).max(SMALLEST_SEGMENT),
        free_floor_bytes,
    }
}

impl Journal {
    /// Returns the sizes that `options` come to on the volume that holds `dir`, without opening anything.
    ///
    /// # Errors
    /// [`io::Error`] if the volume does not report its size.
    pub fn sizes(disk: &dyn Disk, options: &Options, dir: &Path) -> io::Result<JournalSizes> {
        Ok(sizes(options, disk.space(dir)?.size_bytes))
    }
}

/// Recovers the streams of earlier openings, and begins a new one. `noted` is the contents of the file `positions`.
fn recover(
    disk: &dyn Disk,
    settings: &JournalSettings,
    noted: &NotedStreams,
) -> Result<(SegmentPool, StreamTable), OpenError> {
    let dir = &settings.dir;
    let files = segment_files(disk, dir)?;
    let next_file = files.iter().filter_map(|file| number(&file.path)).max();
    let used_bytes = files.iter().map(|file| file.bytes).sum();
    let mut recovery = Recovery {
        disk,
        settings,
        pool: SegmentPool::new(
            next_file.map_or(1, |number| number + 1),
            used_bytes,
            settings.io,
        ),
        state: StreamTable::default(),
    };
    let mut streams: BTreeMap<(u64, StreamId), Vec<(SegmentHeader, SegmentFile)>> = BTreeMap::new();
    for file in files {
        match file.kind {
            SegmentFileKind::Segment(header, _) => {
                let stream = streams.entry((header.epoch, header.stream)).or_default();
                stream.push((header, file));
            }
            SegmentFileKind::Newer(found) => {
                return Err(OpenError::Newer {
                    path: file.path,
                    found,
                    known: FORMAT,
                });
            }
            SegmentFileKind::Spare | SegmentFileKind::Blank => {
                if file.bytes == settings.segment_bytes && recovery.pool.wants_spares() {
                    recovery.reuse(&file)?;
                } else {
                    recovery.remove(&file)?;
                }
            }
            SegmentFileKind::Unidentified {
                identity: HeaderSource::PerhapsFreed,
                first,
                ..
            } => {
                tracing::warn!(
                    path = %file.path.display(), first,
                    "the first block of this journal segment is zeros, and nothing tells the stream of its records: an older \
                     version has freed it, or it is damaged. It is left alone; remove it once all events are in the database"
                );
            }
            SegmentFileKind::Unidentified { .. } | SegmentFileKind::Unreadable => {
                tracing::error!(
                    path = %file.path.display(),
                    "this journal segment has no readable header: it is left alone. Put it back from a backup, if there is one"
                );
                quarantine::quarantine_copy(disk, settings, &file.path);
            }
        }
    }
    disk.sync_dir(dir)
        .map_err(|error| failed(dir, error, WRITABLE))?;
    for (id, stream) in noted {
        streams.entry((stream.epoch, *id)).or_default();
    }
    let epoch = streams.keys().map(|key| key.0).max().unwrap_or(0) + 1;
    let first_here = directory_identity::first_epoch_here(disk, &dir.join(LOCK), epoch);
    for ((begun, id), segments) in streams {
        let mut stream = StreamState {
            id,
            epoch: begun,
            from_copy: begun < first_here,
            ..StreamState::default()
        };
        recovery.stream(&mut stream, segments)?;
        seek_missing(&mut stream, noted);
        recovery.state.streams.push(stream);
    }
    let Recovery {
        pool, mut state, ..
    } = recovery;
    state.remove_empty_streams();
    state.backlog_at_start_events = state.waiting().events;
    if state.damaged_records > 0 {
        metrics::counter!(JOURNAL_DAMAGED_RECORDS_TOTAL).increment(state.damaged_records);
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| failed(dir, error.into(), "no random numbers"))?;
    state.streams.push(StreamState {
        id: StreamId(id),
        epoch,
        live: true,
        ..StreamState::default()
    });
    Ok((pool, state))
}

/// Finds the positions of a recovered stream that should be in a file and are in none. In a copied directory the file
/// `positions` may be younger than the segments: there the search ends at the last position that a segment holds.
fn seek_missing(stream: &mut StreamState, noted: &NotedStreams) {
    let mut found = FoundPositions::default();
    for segment in &stream.segments {
        let positions = segment.header.first_position..=segment.last();
        found.insert(segment.header_source, positions);
    }
    let noted = noted.get(&stream.id);
    let missing = positions_file::missing_positions(found, noted);
    if stream.from_copy {
        stream.missing = PositionSet::new(missing.within(&(1..=stream.last)));
    } else {
        stream.missing = missing;
        stream.last = stream.last.max(noted.map_or(0, |noted| noted.last));
    }
    for range in stream.missing.ranges() {
        let (first, last) = (range.start(), range.end());
        if *last == stream.last {
            tracing::warn!(
                stream = %stream.id, first, at_least_to = last,
                "positions of the journal are in no file: unless the database holds them, these records are lost, and perhaps \
                 later ones that were acknowledged within the last second before a crash"
            );
        } else {
            tracing::warn!(
                stream = %stream.id, first, last,
                "positions of the journal are in no file: unless the database holds them, these records are lost"
            );
        }
    }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    settings: &'a JournalSettings,
    pool: SegmentPool,
    state: StreamTable,
}

pub(super) fn failed(path: &Path, error: io::Error, advice: &'static str) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        error,
        advice,
    }
}
