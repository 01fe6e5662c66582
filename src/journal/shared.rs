//! State that the journal's threads and its callers share.
//!
//! **Invariant:** locks are acquired in the order in which [`Shared`] lists them. A broken journal stays broken.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::append::queue::Queue;
use crate::journal::disk::{Disk, LockGuard};
use crate::journal::io_mode::IoMode;
use crate::journal::positions_file::PositionsFile;
use crate::journal::read::record_window::RecordWindow;
use crate::journal::recycler::RecyclerRequests;
use crate::journal::space::{RoomError, SegmentPool};
use crate::journal::streams::StreamTable;

/// Settings of the journal, resolved at its opening.
pub(super) struct JournalSettings {
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) budget_bytes: u64,
    pub(super) free_floor_bytes: u64,
    pub(super) keep_stored: Duration,
    /// The way in which segments are read and written, as decided.
    pub(super) io: IoMode,
    pub(super) sync_marker_after: Duration,
}

impl JournalSettings {
    /// Returns the age at which a segment is sealed, and the time within which a recycled one's old bytes are
    /// overwritten.
    pub(super) fn unstored_age_limit(&self) -> Duration {
        self.keep_stored.max(self.sync_marker_after)
    }
}

/// The journal without its threads.
///
/// A thread that holds one of these locks acquires only later ones: `stored_lock`, `pool`, `positions_file`, `state`,
/// and last the lock within a [`Segment`](crate::journal::segment_index::Segment). The locks of the queue, of `window`, of
/// `read_buffer` and of `recycler_requests` are held for single steps, and nothing is acquired under them.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) settings: JournalSettings,
    pub(super) queue: Queue,
    /// Held by the one caller at a time that changes the stored positions.
    pub(super) stored_lock: Mutex<()>,
    /// Held while files are made, freed and filled, and while these are synced.
    pub(super) pool: Mutex<SegmentPool>,
    /// Held while the file `positions` is written.
    pub(super) positions_file: Mutex<PositionsFile>,
    /// Never held during an operation of the disk.
    pub(super) state: Mutex<StreamTable>,
    pub(super) window: Mutex<RecordWindow>,
    /// The memory into which a backlog was read last, for the next read of it.
    pub(super) read_buffer: Mutex<Option<AlignedBuffer>>,
    /// The last synced position of the live stream.
    pub(super) synced: watch::Sender<u64>,
    /// Cancelled when the append thread has ended: nothing more is appended.
    pub(super) ended: CancellationToken,
    pub(super) broken: AtomicBool,
    pub(super) full: AtomicBool,
    pub(super) at_floor: AtomicBool,
    /// A write found the volume full, and no write has succeeded since then.
    pub(super) unwritable: AtomicBool,
    pub(super) appended_bytes: AtomicU64,
    /// Bytes that the open segment has left for groups.
    pub(super) open_room_bytes: AtomicU64,
    pub(super) recycler_requests: Mutex<RecyclerRequests>,
    pub(super) recycler_wakeup: Condvar,
    pub(super) _lock: LockGuard,
}

impl Shared {
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Marks the journal as broken, once and for good: nothing more is written.
    pub(super) fn break_down(&self, error: &std::io::Error) {
        if self.broken.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            dir = %self.settings.dir.display(), %error,
            "the journal failed and takes no more: check the disk, then start again; what was acknowledged is safe"
        );
    }

    /// Wakes the callers that wait for further syncs: there will be none.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Wakes the recycler thread to recycle segments and to make the spares that are wanting.
    pub(super) fn wake_recycler(&self) {
        lock(&self.recycler_requests).recycle = true;
        self.recycler_wakeup.notify_one();
    }

    /// Counts appended bytes, and wakes the recycler thread every 128 KiB: it fills a spare at that pace.
    pub(super) fn count_appended(&self, bytes: u64) {
        const FILL_REQUEST_BYTES: u64 = 128 << 10;
        let before = self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before / FILL_REQUEST_BYTES != (before + bytes) / FILL_REQUEST_BYTES {
            lock(&self.recycler_requests).fill = true;
            self.recycler_wakeup.notify_one();
        }
    }

    /// Reports the journal as full, after a write into allocated space found the volume full, until a write succeeds.
    pub(super) fn note_unwritable(&self) {
        if !self.unwritable.swap(true, Ordering::Relaxed) {
            tracing::error!(
                dir = %self.settings.dir.display(),
                "the volume is full, even for what the journal has allocated: events are refused until space is free"
            );
            self.note_room(Some(&RoomError::Volume));
        }
    }

    /// Ends the report of [`Self::note_unwritable`]: a write succeeded.
    pub(super) fn note_writable(&self) {
        if self.unwritable.swap(false, Ordering::Relaxed) {
            self.note_room(None);
        }
    }

    /// Reports the journal as full for this reason, or as having room for a further segment.
    pub(super) fn note_room(&self, error: Option<&RoomError>) {
        if error.is_none() && self.unwritable.load(Ordering::Relaxed) {
            return;
        }
        let full = error.is_some();
        let at_floor = matches!(error, Some(RoomError::Volume));
        self.at_floor.store(at_floor, Ordering::Relaxed);
        if self.full.swap(full, Ordering::Relaxed) != full {
            match error {
                Some(shortage) => {
                    tracing::warn!(%shortage, "the journal has no room for a further segment");
                }
                None => tracing::info!("the journal has room again"),
            }
        }
    }
}

/// Returns the clock's time, Unix nanoseconds; within 1970 to 2262 whatever the clock reads.
pub(crate) fn now_unix_nano() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Locks, also after another thread panicked: it left the state as it was before or after one step, and both are sound.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
