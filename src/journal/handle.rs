//! The open journal, as the other stages use it.
//!
//! **Invariant:** nothing here blocks the async runtime on a sync; dropping the last clone ends the threads.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::event::{Position, StreamId};
use crate::journal::append::append_thread::{self, AppendThread};
use crate::journal::format::record;
use crate::journal::read::record_reader;
use crate::journal::shared::{Shared, lock, now_unix_nano};
use crate::journal::streams::StreamState;
use crate::journal::{
    AppendError, JournalEntry, JournalStatus, NewRecord, OpenError, Options, ReadError, Stream,
    StreamPart, disk, recovery, recycler, space,
};

/// The open journal. Cheap to clone; all clones are the same journal.
#[derive(Clone)]
pub struct Journal {
    pub(super) shared: Arc<Shared>,
    threads: Arc<JournalThreads>,
}

/// The threads of an open journal; dropping this ends them.
struct JournalThreads {
    shared: Arc<Shared>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Journal {
    /// Recovers the records that earlier openings left, and starts a new stream. Blocks.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process uses the directory, [`OpenError::EarlierName`] if it still has its
    /// earlier name, [`OpenError::Newer`] if a file is of a newer format, and [`OpenError::Io`] if a file cannot be
    /// read or written.
    pub fn open(disk: Arc<dyn disk::Disk>, options: &Options) -> Result<Self, OpenError> {
        Self::open_with_sync_marker_after(disk, options, append_thread::SYNC_MARKER_AFTER)
    }

    /// Recovers the records that earlier openings left, to be read and marked as stored. Accepts no records, keeps no
    /// spares, and removes no segment until [`Journal::recycle_all_stored`] is called. Blocks.
    ///
    /// # Errors
    /// As [`Journal::open`], and [`OpenError::NoJournal`] if there is no journal in the directory; then nothing is
    /// created there.
    pub fn open_to_empty(disk: Arc<dyn disk::Disk>, options: &Options) -> Result<Self, OpenError> {
        if !recovery::holds_a_journal(&*disk, &options.dir)? {
            return Err(OpenError::NoJournal(options.dir.clone()));
        }
        let journal = Self::without_threads(recovery::open_to_empty(disk, options)?);
        journal.shared.queue.close();
        journal.shared.end();
        Ok(journal)
    }

    /// As [`Journal::open`]; an idle journal writes a sync marker `sync_marker_after` its last sync.
    pub(super) fn open_with_sync_marker_after(
        disk: Arc<dyn disk::Disk>,
        options: &Options,
        sync_marker_after: Duration,
    ) -> Result<Self, OpenError> {
        let journal = Self::without_threads(recovery::open(disk, options, sync_marker_after)?);
        let append_thread = AppendThread::new(journal.shared.clone());
        let recycled = journal.shared.clone();
        let mut handles = lock(&journal.threads.handles);
        handles.push(spawn("journal-append", || append_thread.run())?);
        handles.push(spawn("journal-recycle", move || recycler::run(&recycled))?);
        drop(handles);
        Ok(journal)
    }

    /// Makes a journal of which nothing is done but what its callers do.
    pub(super) fn without_threads(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let threads = Arc::new(JournalThreads {
            shared: shared.clone(),
            handles: Mutex::default(),
        });
        Self { shared, threads }
    }

    /// Appends a record, and returns once it is synced. While much is queued, the caller waits its turn; if it stops
    /// waiting then, nothing was appended.
    ///
    /// # Errors
    /// [`AppendError::Unknown`] if the record may yet be stored; every other error means that it was not appended.
    pub async fn append(&self, record: NewRecord) -> Result<Position, AppendError> {
        let shared = &self.shared;
        let bytes = record::total_bytes(record.payload.len() as u64);
        if u32::try_from(record.payload.len()).is_err()
            || space::own_size(bytes) > shared.largest_segment()
        {
            return Err(AppendError::TooLarge);
        }
        shared.queue.append(record).await
    }

    /// The directory of the segments.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.settings.dir
    }

    /// Returns the streams of the journal, oldest first; the live one is the last.
    #[must_use]
    pub fn streams(&self) -> Vec<Stream> {
        let state = lock(&self.shared.state);
        let listed = state.streams.iter().map(|stream| Stream {
            id: stream.id,
            first: stream.first(),
            last: stream.last,
            live: stream.live,
            from_copy: stream.from_copy,
        });
        listed.collect()
    }

    /// Returns the parts of `stream` that segments hold, in order; positions between two parts may have been recycled.
    #[must_use]
    pub fn parts(&self, stream: StreamId) -> Vec<StreamPart> {
        let mut state = lock(&self.shared.state);
        let segments = state.stream(stream).map(|stream| &stream.segments);
        let held = segments.into_iter().flatten();
        held.filter(|segment| !segment.is_empty())
            .map(|segment| StreamPart {
                positions: segment.header.first_position..=segment.last(),
                first_received_unix_nano: segment.contents().first_received_unix_nano,
            })
            .collect()
    }

    /// Returns the synced entries of `stream` at and after position `from`, in order: at least one if there is one,
    /// then more up to about `max_bytes`. Returns an empty list at the end of the synced positions.
    ///
    /// # Errors
    /// [`ReadError`] if the disk cannot be read.
    pub async fn read(
        &self,
        stream: StreamId,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<JournalEntry>, ReadError> {
        let shared = self.shared.clone();
        let read = move || record_reader::read(&shared, stream, from, max_bytes.max(1));
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or_else(|error| {
            Err(ReadError {
                path: self.dir().to_owned(),
                error: std::io::Error::other(error),
            })
        })
    }

    /// Waits until the live stream has synced a position above `n`, or the journal is closed or broken.
    pub async fn synced_past(&self, n: u64) {
        let mut synced = self.shared.synced.subscribe();
        tokio::select! {
            // Fails only without a sender, which lives as long as the journal does.
            _ = synced.wait_for(|synced| *synced > n) => {}
            () = self.shared.ended.cancelled() => {}
        }
    }

    /// Waits until the append thread polls its queue again (the liveness check of the systemd watchdog). Returns
    /// immediately if the thread is idle, after the current group if it is writing, and never if it hangs. Returns
    /// immediately if the journal is closed or broken.
    pub async fn writer_is_alive(&self) {
        self.shared.queue.next_poll().await;
    }

    #[must_use]
    pub fn status(&self) -> JournalStatus {
        let shared = &*self.shared;
        let settings = &shared.settings;
        let state = lock(&shared.state);
        let live = state.streams.last();
        let waiting = state.waiting();
        let segments = state.streams.iter().map(|stream| stream.segments.len());
        let undrained = |stream: &&StreamState| !stream.live && !stream.is_drained();
        let retained = |received| now_unix_nano().saturating_sub(received) / 1_000_000_000;
        JournalStatus {
            io: settings.io,
            queue_events: waiting.events,
            queue_bytes: waiting.bytes,
            capacity_bytes: settings.budget_bytes,
            oldest_unix_nano: state.oldest_waiting(),
            appended: state.appended,
            synced: live.map_or(0, |live| live.last),
            stored: live.map_or(0, |live| live.stored.first_missing(1) - 1),
            segments: segments.sum::<usize>() as u64,
            volume_free_bytes: state.volume.free_bytes,
            volume_size_bytes: state.volume.size_bytes,
            retained_seconds: state
                .oldest_stored()
                .map_or(0, |at| u64::try_from(retained(at)).unwrap_or(0)),
            backlog_at_start_events: state.backlog_at_start_events,
            damaged_records: state.damaged_records,
            cut_segments: state.cut_segments,
            missing_records: state.missing_records,
            undecided_records: state.undecided_records(),
            undrained_streams: state.streams.iter().filter(undrained).count() as u64,
            full: shared.full.load(Ordering::Relaxed),
            at_floor: shared.at_floor.load(Ordering::Relaxed),
            volume_needed_bytes: settings
                .free_floor_bytes
                .saturating_add(settings.segment_bytes),
            segment_bytes: settings.segment_bytes,
            open_room_bytes: shared.open_room_bytes.load(Ordering::Relaxed),
            broken: shared.is_broken(),
        }
    }

    /// Returns whether a write or sync failed, or the append thread panicked: then nothing more is appended until the
    /// next opening.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.shared.is_broken()
    }

    /// Returns once the journal is broken; never if it is closed in order.
    pub async fn broken(&self) {
        self.shared.ended.cancelled().await;
        if !self.is_broken() {
            std::future::pending::<()>().await;
        }
    }

    /// Rejects further records, syncs those that were queued, and ends the journal's threads. Streams can still be read
    /// and marked.
    pub async fn close(&self) {
        let threads = self.threads.clone();
        // Fails only if the async runtime ends; then the drop of the last clone does the same.
        let _ = tokio::task::spawn_blocking(move || threads.stop()).await;
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| {
            recovery::failed(Path::new(name), error, "the system gives no more threads")
        })
}

impl JournalThreads {
    fn stop(&self) {
        let shared = &self.shared;
        shared.queue.close();
        lock(&shared.recycler_requests).stop = true;
        shared.recycler_wakeup.notify_one();
        let handles = std::mem::take(&mut *lock(&self.handles));
        if handles.is_empty() {
            return;
        }
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("a thread of the journal panicked");
            }
        }
        if !shared.is_broken() {
            shared.note_positions();
        }
    }
}

impl Drop for JournalThreads {
    fn drop(&mut self) {
        self.stop();
    }
}
