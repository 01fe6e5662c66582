//! Opening: segments that earlier openings left unsealed are written again and sealed, and a new stream begins.
//!
//! **Invariant:** run twice, or interrupted and run again, recovery yields the same records. No file is removed before
//! the file that replaces it is synced.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::telemetry::metrics::JOURNAL_DAMAGED_RECORDS_TOTAL;

use crate::event::StreamId;
use crate::journal::append::queue::Queue;
use crate::journal::disk::Disk;
use crate::journal::format::segment::{BLOCK_BYTES, FORMAT, SegmentHeader};
use crate::journal::positions_file::{self, NotedStreams, PositionsFile};
use crate::journal::recovery::segment_files::{
    HeaderSource, SegmentFile, SegmentFileKind, number, segment_files,
};
use crate::journal::shared::{JournalSettings, Shared, Synced, lock};
use crate::journal::space::SegmentPool;
use crate::journal::streams::{StreamState, StreamTable};
use crate::journal::{JournalSizes, OpenError, Options};
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

/// Defaults of the segment's length and the floor; on a small volume they take at most these shares of it.
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENT_SHARE: u64 = 32;
const FLOOR_BYTES: u64 = 256 << 20;
const FLOOR_SHARE: u64 = 8;

/// A recovered journal, without its threads.
pub(super) struct OpenedJournal {
    pub(super) core: Shared,
    pub(super) stream: StreamId,
    pub(super) epoch: u64,
}

/// Implements [`Journal::open`](super::Journal::open), without its threads.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    options: &Options,
    mark_after: Duration,
) -> Result<OpenedJournal, OpenError> {
    let opened = recovered(disk, options, mark_after)?;
    let core = &opened.core;
    let room = core.replenish(&mut lock(&core.pool));
    if let Err(crate::journal::space::Shortage::Io(error)) = room {
        return Err(failed(
            &options.dir,
            error,
            "the directory must be writable",
        ));
    }
    core.note_full(room.as_ref().err());
    core.create_positions_file();
    Ok(opened)
}

/// Implements [`Journal::open_to_empty`](super::Journal::open_to_empty). Spares are removed first, and the copy of an
/// unsealed segment takes no more than it needs: so there is room for it on a full volume, whatever length the segments
/// had.
pub(super) fn open_to_empty(
    disk: Arc<dyn Disk>,
    options: &Options,
) -> Result<OpenedJournal, OpenError> {
    let options = Options {
        segment_bytes: Some(SMALLEST_SEGMENT),
        ..options.clone()
    };
    let opened = recovered(disk, &options, Duration::MAX)?;
    let core = &opened.core;
    lock(&core.pool)
        .remove_spares(&*core.disk)
        .map_err(|(path, error)| {
            failed(&path, error, "the files of the journal must be removable")
        })?;
    Ok(opened)
}

fn recovered(
    disk: Arc<dyn Disk>,
    options: &Options,
    mark_after: Duration,
) -> Result<OpenedJournal, OpenError> {
    let dir = &options.dir;
    refuse_earlier_name(&*disk, dir)?;
    let at_dir = |advice| move |error| failed(dir, error, advice);
    disk.create_dir(dir)
        .map_err(at_dir("the directory must be writable"))?;
    let guard = disk
        .lock(&dir.join(LOCK))
        .map_err(at_dir("the directory must be writable"))?
        .ok_or_else(|| OpenError::Locked(dir.clone()))?;
    let space = disk
        .space(dir)
        .map_err(at_dir("the volume must be readable"))?;
    let settings = resolve_settings(options, mark_after, space.size_bytes);
    if settings.least_volume_bytes() > space.size_bytes {
        tracing::error!(
            dir = %dir.display(), volume_bytes = space.size_bytes, floor_bytes = settings.free_floor_bytes,
            segment_bytes = settings.segment_bytes,
            "this volume can never hold the journal: no event will be accepted. Lower RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES or \
             RUVVECTOR_JOURNAL_SEGMENT_BYTES, or use a larger volume"
        );
    }
    let recovered = recover(&*disk, &settings)?;

    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| failed(dir, error.into(), "no random numbers"))?;
    let stream = StreamId(id);
    let mut state = recovered.state;
    state.volume = space;
    state
        .streams
        .push(StreamState::new(stream, true, recovered.epoch));
    let core = Shared {
        disk,
        settings,
        queue: Queue::new(),
        stored_lock: Mutex::default(),
        pool: Mutex::new(recovered.pool),
        state: Mutex::new(state),
        positions_file: Mutex::new(recovered.notebook),
        synced: watch::Sender::new(Synced::default()),
        broken: AtomicBool::new(false),
        full: AtomicBool::new(false),
        at_floor: AtomicBool::new(false),
        unwritable: AtomicBool::new(false),
        appended_bytes: AtomicU64::new(0),
        open_room_bytes: AtomicU64::new(0),
        recycler_requests: Mutex::default(),
        recycler_wakeup: Condvar::new(),
        _lock: guard,
    };
    Ok(OpenedJournal {
        core,
        stream,
        epoch: recovered.epoch,
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
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(failed(dir, error, "the directory must be readable")),
    }
}

fn resolve_settings(options: &Options, mark_after: Duration, volume_bytes: u64) -> JournalSettings {
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
    JournalSettings {
        dir: options.dir.clone(),
        segment_bytes: (segment_bytes / BLOCK_BYTES * BLOCK_BYTES).max(SMALLEST_SEGMENT),
        budget_bytes,
        free_floor_bytes,
        keep_stored: options.keep_stored,
        sync_marker_after: mark_after,
    }
}

/// Implements [`Journal::sizes`](super::Journal::sizes).
pub(in crate::journal) fn sizes(options: &Options, volume_bytes: u64) -> JournalSizes {
    let settings = resolve_settings(options, Duration::MAX, volume_bytes);
    JournalSizes {
        budget_bytes: settings.budget_bytes,
        segment_bytes: settings.segment_bytes,
        free_floor_bytes: settings.free_floor_bytes,
    }
}

/// The state of the directory after recovery.
struct RecoveredState {
    state: StreamTable,
    pool: SegmentPool,
    notebook: PositionsFile,
    /// Number of this opening, and so of the stream that begins.
    epoch: u64,
}

fn recover(disk: &dyn Disk, settings: &JournalSettings) -> Result<RecoveredState, OpenError> {
    let dir = &settings.dir;
    let files = segment_files(disk, dir)?;
    let (noted, notebook) = positions_file::read(disk, dir);
    let next_file = files.iter().filter_map(|file| number(&file.path)).max();
    let used_bytes = files.iter().map(|file| file.bytes).sum();
    let mut recovery = Recovery {
        disk,
        settings,
        pool: SegmentPool::new(next_file.map_or(1, |number| number + 1), used_bytes),
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
            SegmentFileKind::Spare | SegmentFileKind::Blank
                if file.bytes == settings.segment_bytes && recovery.pool.wants_spares() =>
            {
                recovery.reuse(&file)?;
            }
            SegmentFileKind::Spare | SegmentFileKind::Blank => {
                recovery.remove(&file.path, file.bytes)?;
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
                crate::journal::quarantine::quarantine_copy(disk, settings, &file.path);
            }
        }
    }
    disk.sync_dir(dir)
        .map_err(|error| failed(dir, error, "the directory must be writable"))?;
    for (id, stream) in &noted {
        streams.entry((stream.epoch, *id)).or_default();
    }
    let opening = streams.keys().map(|key| key.0).max().unwrap_or(0) + 1;
    let first_here = directory_identity::first_epoch_here(disk, &dir.join(LOCK), opening);
    for ((begun, id), segments) in streams {
        let mut stream = StreamState::new(id, false, begun);
        stream.from_copy = begun < first_here;
        recovery.stream(&mut stream, segments)?;
        seek_missing(&mut stream, &noted);
        recovery.state.streams.push(stream);
        recovery.state.remove_empty_streams();
    }
    let state = &mut recovery.state;
    state.backlog_at_start_events = state.waiting().events;
    if state.damaged_records > 0 {
        metrics::counter!(JOURNAL_DAMAGED_RECORDS_TOTAL).increment(state.damaged_records);
    }
    Ok(RecoveredState {
        state: recovery.state,
        pool: recovery.pool,
        notebook,
        epoch: opening,
    })
}

/// Finds the positions of a recovered stream that should be in a file and are in none. In a copied directory the file
/// `positions` may be younger than the segments: there the search ends at the last position that a segment holds.
fn seek_missing(stream: &mut StreamState, noted: &NotedStreams) {
    let found = stream.found_positions();
    let noted = noted.get(&stream.id);
    let absent = positions_file::missing_positions(&found, noted);
    if stream.from_copy {
        stream.missing = PositionSet::new(absent.within(&(1..=stream.last)));
    } else {
        stream.missing = absent;
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
