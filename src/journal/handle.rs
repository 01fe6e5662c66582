//! The open journal, as the other stages use it.
//!
//! **Invariant:** nothing here blocks the async runtime on a sync; dropping the last clone ends the threads.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::event::{Position, StreamId};
use crate::journal::append::append_thread;
use crate::journal::format::record;
use crate::journal::read::{inspect, record_reader, request_digests};
use crate::journal::shared::{Shared, lock};
use crate::journal::{
    AppendError, JournalEntry, JournalSizes, JournalStatus, NewRecord, OpenError, Options,
    ReadError, RequestDigest, SegmentReport, Stream, StreamPart, disk, recovery, recycler, space,
};
use crate::position_set::PositionSet;

/// The open journal. Cheap to clone; all clones are the same journal.
#[derive(Clone)]
pub struct Journal {
    pub(super) shared: Arc<OpenJournal>,
}

/// The threads of an open journal; dropping the last clone ends them.
pub(super) struct OpenJournal {
    pub(super) core: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        let opened = recovery::open_to_empty(disk, options)?;
        let core = Arc::new(opened.core);
        core.queue.close();
        core.end();
        Ok(Self {
            shared: Arc::new(OpenJournal {
                core,
                threads: Mutex::default(),
            }),
        })
    }

    /// As [`Journal::open`]; an idle journal writes a sync marker `mark_after` its last sync.
    pub(super) fn open_with_sync_marker_after(
        disk: Arc<dyn disk::Disk>,
        options: &Options,
        mark_after: Duration,
    ) -> Result<Self, OpenError> {
        let opened = recovery::open(disk, options, mark_after)?;
        let (stream, opening) = (opened.stream, opened.epoch);
        let core = Arc::new(opened.core);
        let writer = append_thread::AppendThread::new(core.clone(), stream, opening);
        let keeper = core.clone();
        let threads = vec![
            spawn("log-writer", move || writer.run())?,
            spawn("log-keeper", move || recycler::run(&keeper))?,
        ];
        Ok(Self {
            shared: Arc::new(OpenJournal {
                core,
                threads: Mutex::new(threads),
            }),
        })
    }

    /// Appends a record, and returns once it is synced. While much is queued, the caller waits its turn; if it stops
    /// waiting then, nothing was appended.
    ///
    /// # Errors
    /// [`AppendError::Unknown`] if the record may yet be stored; every other error means that it was not appended.
    pub async fn append(&self, record: NewRecord) -> Result<Position, AppendError> {
        let core = &self.shared.core;
        let bytes = record::total_bytes(record.payload.len() as u64);
        if u32::try_from(record.payload.len()).is_err()
            || space::own_size(bytes) > core.largest_segment()
        {
            return Err(AppendError::TooLarge);
        }
        core.queue.append(record).await
    }

    /// The directory of the segments.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.shared.core.settings.dir
    }

    /// Returns the streams of the journal, oldest first; the live one is the last.
    #[must_use]
    pub fn streams(&self) -> Vec<Stream> {
        lock(&self.shared.core.state).listed()
    }

    /// Returns the parts of `stream` that segments hold, in order; positions between two parts may have been recycled.
    #[must_use]
    pub fn parts(&self, stream: StreamId) -> Vec<StreamPart> {
        let mut state = lock(&self.shared.core.state);
        state
            .stream(stream)
            .map_or_else(Vec::new, |stream| stream.parts())
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
        let journal = self.clone();
        let dir = journal.shared.core.settings.dir.clone();
        tokio::task::spawn_blocking(move || {
            record_reader::read(&journal.shared.core, stream, from, max_bytes.max(1))
        })
        .await
        .unwrap_or_else(|error| {
            Err(ReadError {
                path: dir,
                error: std::io::Error::other(error),
            })
        })
    }

    /// Returns the synced records with a digest that were received since `since_unix_nano`, stored or not, in the order
    /// of positions: the newest `most` of them, or those of the newest that can be read within about `patience`.
    /// Blocks.
    #[must_use]
    pub fn request_digests(
        &self,
        since_unix_nano: i64,
        most: usize,
        patience: Duration,
    ) -> Vec<RequestDigest> {
        request_digests::request_digests(&self.shared.core, since_unix_nano, most, patience)
    }

    /// Waits until the live stream has synced a position above `n`, or the journal is closed or broken.
    pub async fn synced_past(&self, n: u64) {
        let mut synced = self.shared.core.synced.subscribe();
        // The sender lives as long as the journal does.
        let _ = synced.wait_for(|synced| synced.n > n || synced.ended).await;
    }

    /// Waits until the append thread polls its queue again (the liveness check of the systemd watchdog). Returns
    /// immediately if the thread is idle, after the current group if it is writing, and never if it hangs. Returns
    /// immediately if the journal is closed or broken.
    pub async fn writer_is_alive(&self) {
        self.shared.core.queue.next_poll().await;
    }

    /// Reports to the journal that the database has committed these positions: their segments may be recycled. A
    /// repeated report changes nothing. If it marks a part of a segment, it may read up to 64 KiB of that segment, of
    /// the part that was read last.
    ///
    /// Returns the number of events that were waiting and no longer are. Events that an earlier process stored and
    /// nobody read in this one never waited.
    pub fn mark_stored(&self, stream: StreamId, first: u64, last: u64) -> u64 {
        self.shared.core.mark_stored(stream, &(first..=last))
    }

    /// Reports to the journal that the database no longer has these positions: they are read again. Positions that no
    /// segment holds any more are a gap: counted and logged.
    pub fn mark_unstored(&self, stream: StreamId, first: u64, last: u64) {
        self.shared.core.mark_unstored(stream, &(first..=last));
    }

    /// Returns the positions of `stream` that should be in a file and are in none: lost, unless the database holds
    /// them.
    #[must_use]
    pub fn missing_positions(&self, stream: StreamId) -> PositionSet {
        self.shared.core.absent(stream)
    }

    /// Reports to the journal that the database does not hold these of the [`Journal::missing_positions`]: each is
    /// counted and logged once.
    pub fn report_missing(&self, stream: StreamId, lost: &PositionSet) {
        self.shared.core.report_missing(stream, lost);
    }

    /// Reports to the journal that the database has no row of `stream`, and that it keeps the rows of streams of which
    /// a record was received in `doubtless`, Unix nanoseconds. If the stream has only files that an older version
    /// perhaps freed, and their newest record was received outside `doubtless`, the files are left unchanged and not
    /// read. Returns whether that is so.
    pub async fn leave_freed(&self, stream: StreamId, doubtless: RangeInclusive<i64>) -> bool {
        let journal = self.clone();
        let left = tokio::task::spawn_blocking(move || {
            journal.shared.core.leave_freed(stream, &doubtless)
        });
        // Fails only if the async runtime ends.
        left.await.unwrap_or(false)
    }

    /// Returns whether an older version seems to have freed files of `stream` that are not known to be stored.
    #[must_use]
    pub fn may_have_freed(&self, stream: StreamId) -> bool {
        let mut state = lock(&self.shared.core.state);
        let stream = state.stream(stream);
        stream.is_some_and(|stream| stream.may_have_freed())
    }

    /// Recycles all segments that are wholly stored, however young. Blocks.
    pub fn recycle_all_stored(&self) {
        self.shared.core.recycle_all_stored();
    }

    #[must_use]
    pub fn status(&self) -> JournalStatus {
        self.shared.core.status()
    }

    /// Returns reports of the directory's segments, oldest first, for `journal list` and `journal verify`. Opens the
    /// files without starting a stream, and reads only.
    ///
    /// # Errors
    /// [`OpenError::EarlierName`] if the directory still has its earlier name, [`OpenError::Newer`] if a file is of a
    /// newer format, and [`OpenError::Io`] if a file cannot be read.
    #[expect(clippy::needless_pass_by_value, reason = "as open takes it")]
    pub fn inspect(
        disk: Arc<dyn disk::Disk>,
        options: &Options,
    ) -> Result<Vec<SegmentReport>, OpenError> {
        inspect::inspect(&*disk, &options.dir)
    }

    /// Returns whether a write or sync failed, or the append thread panicked: then nothing more is appended until the
    /// next opening.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.shared.core.is_broken()
    }

    /// Returns once the journal is broken; never if it is closed in order.
    pub async fn broken(&self) {
        self.synced_past(u64::MAX).await;
        if !self.is_broken() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns the sizes that `options` come to on the volume that holds `dir`, without opening anything.
    ///
    /// # Errors
    /// [`std::io::Error`] if the volume does not report its size.
    pub fn sizes(
        disk: &dyn disk::Disk,
        options: &Options,
        dir: &Path,
    ) -> std::io::Result<JournalSizes> {
        Ok(recovery::sizes(options, disk.space(dir)?.size_bytes))
    }

    /// Rejects further records, syncs those that were queued, and ends the journal's threads. Streams can still be read
    /// and marked.
    pub async fn close(&self) {
        let journal = self.clone();
        // Fails only if the async runtime ends; then the drop of the last clone does the same.
        let _ = tokio::task::spawn_blocking(move || journal.shared.stop()).await;
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|error| OpenError::Io {
            path: PathBuf::from(name),
            error,
            advice: "the system gives no more threads",
        })
}

impl OpenJournal {
    fn stop(&self) {
        self.core.queue.close();
        lock(&self.core.recycler_requests).stop = true;
        self.core.recycler_wakeup.notify_one();
        let threads = std::mem::take(&mut *lock(&self.threads));
        if threads.is_empty() {
            return;
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the journal panicked");
            }
        }
        if !self.core.is_broken() {
            self.core.note_positions();
        }
    }
}

impl Drop for OpenJournal {
    fn drop(&mut self) {
        self.stop();
    }
}
