//! Opening: what earlier openings left becomes sealed segments, and a new stream begins.
//!
//! **Invariant:** done twice, or cut short and done again, it yields the same records; no file goes before what
//! replaces it is synced.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::observe::metrics::LOG_DAMAGED_RECORDS_TOTAL;

use super::core::{Core, Settings, Synced, lock};
use super::disk::Disk;
use super::home;
use super::noted::{self, Notebook, Streams};
use super::pool::Pool;
use super::queue::Queue;
use super::ranges::Ranges;
use super::segment::{BLOCK_BYTES, FORMAT, Header};
use super::state::{State, StreamState};
use super::survey::{Identity, Kind, Surveyed, number, survey};
use super::{OpenError, Options, Sizes, StreamId};

/// One stream.
mod stream;

/// A segment has room for a header, a footer and two groups at least.
pub(super) const SMALLEST_SEGMENT: u64 = 4 * BLOCK_BYTES;

/// The file whose lock keeps a second process out.
const LOCK: &str = "lock";

/// The budget, where none is set, and its part of the volume in per cent.
const BUDGET_BYTES: u64 = 4 << 30;
const BUDGET_PERCENT: u64 = 80;

/// A segment and the floor, where none are set: the share of a small volume that they take at most.
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENT_SHARE: u64 = 32;
const FLOOR_BYTES: u64 = 256 << 20;
const FLOOR_SHARE: u64 = 8;

/// A log made ready, without its threads.
pub(super) struct Opened {
    pub(super) core: Core,
    pub(super) stream: StreamId,
    pub(super) opening: u64,
}

/// As [`super::Log::open`], but for the threads.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    options: &Options,
    mark_after: Duration,
) -> Result<Opened, OpenError> {
    let opened = recovered(disk, options, mark_after)?;
    let core = &opened.core;
    let room = core.replenish(&mut lock(&core.pool));
    if let Err(super::pool::Shortage::Io(error)) = room {
        return Err(failed(
            &options.dir,
            error,
            "the directory must be writable",
        ));
    }
    core.note_full(room.as_ref().err());
    Ok(opened)
}

/// As [`super::Log::open_to_empty`]. Spares go first, and a tail that is written again takes no more than it needs: there
/// is room for it on a full volume, whatever length the segments had.
pub(super) fn open_to_empty(disk: Arc<dyn Disk>, options: &Options) -> Result<Opened, OpenError> {
    let options = Options {
        segment_bytes: Some(SMALLEST_SEGMENT),
        ..options.clone()
    };
    let opened = recovered(disk, &options, Duration::MAX)?;
    let core = &opened.core;
    lock(&core.pool)
        .give_up_spares(&*core.disk)
        .map_err(|(path, error)| failed(&path, error, "the files of the log must be removable"))?;
    Ok(opened)
}

fn recovered(
    disk: Arc<dyn Disk>,
    options: &Options,
    mark_after: Duration,
) -> Result<Opened, OpenError> {
    let dir = &options.dir;
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
    let settings = settle(options, mark_after, space.size_bytes);
    if settings.least_volume_bytes() > space.size_bytes {
        tracing::error!(
            dir = %dir.display(), volume_bytes = space.size_bytes, floor_bytes = settings.free_floor_bytes,
            segment_bytes = settings.segment_bytes,
            "this volume can never hold the log: no event will be accepted. Lower RUVVECTOR_LOG_FREE_FLOOR_BYTES or \
             RUVVECTOR_LOG_SEGMENT_BYTES, or use a larger volume"
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
        .push(StreamState::new(stream, true, recovered.opening));
    let core = Core {
        disk,
        settings,
        queue: Queue::new(),
        marking: Mutex::default(),
        pool: Mutex::new(recovered.pool),
        state: Mutex::new(state),
        notebook: Mutex::new(recovered.notebook),
        synced: watch::Sender::new(Synced::default()),
        broken: AtomicBool::new(false),
        full: AtomicBool::new(false),
        at_floor: AtomicBool::new(false),
        unwritable: AtomicBool::new(false),
        appended_bytes: AtomicU64::new(0),
        orders: Mutex::default(),
        ordered: Condvar::new(),
        _lock: guard,
    };
    Ok(Opened {
        core,
        stream,
        opening: recovered.opening,
    })
}

/// Whether some opening left its traces in the directory: the lock, or a segment.
pub(super) fn holds_a_log(disk: &dyn Disk, dir: &Path) -> Result<bool, OpenError> {
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

fn settle(options: &Options, mark_after: Duration, volume_bytes: u64) -> Settings {
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
    Settings {
        dir: options.dir.clone(),
        segment_bytes: (segment_bytes / BLOCK_BYTES * BLOCK_BYTES).max(SMALLEST_SEGMENT),
        budget_bytes,
        free_floor_bytes,
        keep_stored: options.keep_stored,
        mark_after,
    }
}

/// As [`super::Log::sizes`].
pub(super) fn sizes(options: &Options, volume_bytes: u64) -> Sizes {
    let settings = settle(options, Duration::MAX, volume_bytes);
    Sizes {
        budget_bytes: settings.budget_bytes,
        segment_bytes: settings.segment_bytes,
        free_floor_bytes: settings.free_floor_bytes,
    }
}

/// What is in the directory, without what recovery left behind.
struct Recovered {
    state: State,
    pool: Pool,
    notebook: Notebook,
    /// Of the stream that begins.
    opening: u64,
}

fn recover(disk: &dyn Disk, settings: &Settings) -> Result<Recovered, OpenError> {
    let dir = &settings.dir;
    let files = survey(disk, dir)?;
    let (noted, notebook) = noted::read(disk, dir);
    let next_file = files.iter().filter_map(|file| number(&file.path)).max();
    let used_bytes = files.iter().map(|file| file.bytes).sum();
    let mut recovery = Recovery {
        disk,
        settings,
        pool: Pool::new(next_file.map_or(1, |number| number + 1), used_bytes),
        state: State::default(),
    };
    let mut streams: BTreeMap<(u64, StreamId), Vec<(Header, Surveyed)>> = BTreeMap::new();
    for file in files {
        match file.kind {
            Kind::Segment(header, _) => {
                let stream = streams.entry((header.opening, header.stream)).or_default();
                stream.push((header, file));
            }
            Kind::Newer(found) => {
                return Err(OpenError::Newer {
                    path: file.path,
                    found,
                    known: FORMAT,
                });
            }
            Kind::Spare | Kind::Blank
                if file.bytes == settings.segment_bytes && recovery.pool.wants_spares() =>
            {
                recovery.reuse(&file)?;
            }
            Kind::Spare | Kind::Blank => recovery.remove(&file.path, file.bytes)?,
            Kind::Unidentified {
                identity: Identity::PerhapsFreed,
                first,
                ..
            } => {
                tracing::warn!(
                    path = %file.path.display(), first,
                    "the first block of this log segment is zeros, and nothing tells the stream of its records: an older \
                     version has freed it, or it is damaged. It is left alone; remove it once all events are in the database"
                );
            }
            Kind::Unidentified { .. } | Kind::Unreadable => {
                tracing::error!(
                    path = %file.path.display(),
                    "this log segment has no readable header: it is left alone. Put it back from a backup, if there is one"
                );
                super::aside::copy(disk, settings, &file.path);
            }
        }
    }
    disk.sync_dir(dir)
        .map_err(|error| failed(dir, error, "the directory must be writable"))?;
    for (id, stream) in &noted {
        streams.entry((stream.opening, *id)).or_default();
    }
    let opening = streams.keys().map(|key| key.0).max().unwrap_or(0) + 1;
    let first_here = home::first_opening(disk, &dir.join(LOCK), opening);
    for ((begun, id), segments) in streams {
        let mut stream = StreamState::new(id, false, begun);
        stream.copied = begun < first_here;
        recovery.stream(&mut stream, segments)?;
        seek_missing(&mut stream, &noted);
        recovery.state.streams.push(stream);
        recovery.state.drop_emptied();
    }
    let state = &mut recovery.state;
    state.backlog_at_start_events = state.waiting().events;
    if state.damaged_records > 0 {
        metrics::counter!(LOG_DAMAGED_RECORDS_TOTAL).increment(state.damaged_records);
    }
    Ok(Recovered {
        state: recovery.state,
        pool: recovery.pool,
        notebook,
        opening,
    })
}

/// Finds the positions of a recovered stream that are in no file and should be. A copy may have its note from a later time
/// than its files: behind the last that they hold it lacks nothing.
fn seek_missing(stream: &mut StreamState, noted: &Streams) {
    let found = stream.found();
    let noted = noted.get(&stream.id);
    let absent = noted::absent(&found, noted);
    if stream.copied {
        stream.absent = Ranges::new(absent.within(&(1..=stream.last)));
    } else {
        stream.absent = absent;
        stream.last = stream.last.max(noted.map_or(0, |noted| noted.last));
    }
    for range in stream.absent.ranges() {
        tracing::warn!(
            stream = %stream.id, first = range.start(), last = range.end(),
            "positions of the log are in no file: unless the database holds them, these records are lost"
        );
    }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    settings: &'a Settings,
    pool: Pool,
    state: State,
}

pub(super) fn failed(path: &Path, error: io::Error, advice: &'static str) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        error,
        advice,
    }
}
