//! Reads the synced entries of the journal that are not stored, oldest stream first.
//!
//! **Invariant:** no batch holds a stored position, and no batch crosses streams.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::{Position, StreamId};
use crate::journal::{JournalEntry, Record, Stream};
use crate::store::DeadLetterReason;
use crate::write::attempts::{FATAL, WriteCare};
use crate::write::batch::{PendingBatch, positions};
use crate::write::dead_letters::DecodeFault;
use crate::write::failure_policy::BatchLimit;
use crate::write::problems::ProblemTopic;
use crate::write::{Progress, RunUntil, WriteLoop};

/// Bytes that are read from the journal at a time.
const READ_BYTES: usize = 1 << 20;

/// Interval of checks of a closed or broken journal, which syncs nothing more.
const CLOSED_JOURNAL_PAUSE: Duration = Duration::from_millis(50);

/// The next unit to write.
pub(super) enum NextWrite {
    Batch(PendingBatch),
    /// One record that is written alone, as the process may have died of it.
    Alone(PendingBatch),
    /// A record whose rows are too large for a batch.
    Large(Record),
}

/// The reason why a record is written alone.
enum AloneReason {
    /// The process has died of it too often: it becomes a dead letter without being decoded.
    Fatal,
    /// Its rows are too large for a batch.
    Large,
    /// The process may have died of it.
    Suspect,
}

/// The reader's place in the journal, from one reconciliation to the next.
pub(super) struct BatchReader<'a> {
    shared: &'a WriteLoop,
    streams: VecDeque<StreamCursor>,
    /// Entries of the first stream that were read and are not in a batch yet.
    pending: VecDeque<JournalEntry>,
    /// The position of the first pending record, if its rows were found to be too large for a batch.
    too_large: Option<Position>,
    /// Set once every entry that is to be written was read.
    exhausted: bool,
}

/// A stream and the next position to read.
pub(super) struct StreamCursor {
    pub(super) stream: StreamId,
    pub(super) live: bool,
    /// Another collector may use the stream: only its records are written, and missing positions stay undecided.
    pub(super) contested: bool,
    pub(super) next: u64,
}

impl<'a> BatchReader<'a> {
    pub(super) const fn new(shared: &'a WriteLoop, streams: VecDeque<StreamCursor>) -> Self {
        Self {
            shared,
            streams,
            pending: VecDeque::new(),
            too_large: None,
            exhausted: false,
        }
    }

    /// Returns whether nothing was left to read when the reader ended.
    pub(super) const fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Returns the next batch, or a record that is written alone. A batch is returned as soon as it is full. Once
    /// `idle` is cancelled (no commit is in flight), it is also returned as soon as nothing more is synced or its wait
    /// is over. A record that is written alone is returned only then. Returns `None` if the writer is to stop or to
    /// read the stored positions again.
    pub(super) async fn next(
        &mut self,
        idle: &CancellationToken,
        limit: Option<BatchLimit>,
    ) -> Option<NextWrite> {
        let mut batch: Option<PendingBatch> = None;
        let mut began = Instant::now();
        loop {
            if !self.fill().await {
                match batch {
                    None if self.wait().await => began = Instant::now(),
                    None => {
                        self.exhausted = true;
                        return None;
                    }
                    Some(batch) if idle.is_cancelled() => return Some(NextWrite::Batch(batch)),
                    Some(_) => {
                        tokio::select! {
                            () = idle.cancelled() => {}
                            () = self.synced_more() => {}
                        }
                    }
                }
                continue;
            }
            let first = self.pending.front()?;
            if let Some(reason) = self.alone(first) {
                if batch.is_some() {
                    return batch.map(NextWrite::Batch);
                }
                // Batches that began earlier end first.
                idle.cancelled().await;
                match self.take_alone(reason).await {
                    Some(alone) => return Some(alone),
                    None => continue,
                }
            }
            let stream = self.streams.front()?.stream;
            let first = *positions(first).start();
            let begun = batch.unwrap_or_else(|| {
                PendingBatch::new(stream, first, self.shared.row_buffers.take())
            });
            let taken = self.take(&begun, limit);
            if taken.is_empty() {
                return Some(NextWrite::Batch(begun));
            }
            let is_due = idle.is_cancelled() && began.elapsed() >= self.shared.options.batch_wait;
            let begun = self.decode(begun, taken, WriteCare::Usual).await;
            batch = (begun.entries > 0).then_some(begun);
            if is_due && batch.is_some() {
                return batch.map(NextWrite::Batch);
            }
        }
    }

    /// Returns the reason why an entry is written alone, if so. If a body is longer than a batch, its rows most likely
    /// are, too.
    fn alone(&self, entry: &JournalEntry) -> Option<AloneReason> {
        let JournalEntry::Record(record) = entry else {
            return None;
        };
        let Position { stream, n } = record.position;
        match self.shared.attempts.care(stream, n) {
            WriteCare::Fatal => Some(AloneReason::Fatal),
            _ if record.decoded_bytes as usize > self.shared.options.batch_bytes
                || self.too_large == Some(record.position) =>
            {
                Some(AloneReason::Large)
            }
            WriteCare::Alone => Some(AloneReason::Suspect),
            WriteCare::Usual => None,
        }
    }

    /// Removes the first pending record. Returns `None` if it was found to be too large for a batch, and is pending
    /// again.
    async fn take_alone(&mut self, reason: AloneReason) -> Option<NextWrite> {
        let Some(JournalEntry::Record(record)) = self.pending.pop_front() else {
            unreachable!("only a record is written alone");
        };
        let Position { stream, n } = record.position;
        let mut batch = PendingBatch::new(stream, n, self.shared.row_buffers.take());
        match reason {
            AloneReason::Fatal => {
                let message = format!(
                    "the process died or SQLite ran out of memory, {FATAL} times in a row, while this record was being written, \
                     at last with nothing beside it"
                );
                tracing::error!(%stream, position = n, "{message}");
                batch
                    .add_as_dead_letter(record, DecodeFault::new(DeadLetterReason::Fatal, message));
            }
            AloneReason::Large => {
                let attempts = &self.shared.attempts;
                attempts.begin(stream, &(n..=n), WriteCare::Alone);
                return Some(NextWrite::Large(record));
            }
            AloneReason::Suspect => {
                let alone = [JournalEntry::Record(record)].into();
                batch = self.decode(batch, alone, WriteCare::Alone).await;
            }
        }
        (batch.entries > 0).then_some(NextWrite::Alone(batch))
    }

    /// Removes from `pending` the entries that still fit into the batch.
    fn take(&mut self, batch: &PendingBatch, limit: Option<BatchLimit>) -> VecDeque<JournalEntry> {
        let stream = batch.batch.stream;
        let limit = limit.filter(|limit| limit.stream == stream);
        let mut taken = VecDeque::new();
        let mut size = batch.size();
        while let Some(entry) = self.pending.front() {
            let first = *positions(entry).start();
            let limit = limit.filter(|limit| first <= limit.until);
            let max_entries = limit.map_or(usize::MAX, |limit| limit.entries);
            if self.streams.front().map(|cursor| cursor.stream) != Some(stream)
                || self.alone(entry).is_some()
                || !size.takes(entry, &self.shared.options, max_entries)
            {
                break;
            }
            size.add(entry);
            taken.extend(self.pending.pop_front());
        }
        taken
    }

    /// Decodes these entries into the batch as far as they fit, and returns the others to `pending`.
    async fn decode(
        &mut self,
        mut batch: PendingBatch,
        mut entries: VecDeque<JournalEntry>,
        care: WriteCare,
    ) -> PendingBatch {
        if let (Some(first), Some(last)) = (entries.front(), entries.back()) {
            let range = *positions(first).start()..=*positions(last).end();
            self.shared.attempts.begin(batch.batch.stream, &range, care);
        }
        let max_bytes = self.shared.options.batch_bytes;
        let (batch, rest, too_large) = blocking(move || {
            let mut too_large = None;
            while batch.bytes() <= max_bytes
                && let Some(entry) = entries.pop_front()
            {
                if let Some(record) = batch.add(entry, max_bytes) {
                    too_large = Some(record.position);
                    entries.push_front(JournalEntry::Record(record));
                    break;
                }
            }
            (batch, entries, too_large)
        })
        .await;
        self.too_large = too_large;
        for entry in rest.into_iter().rev() {
            self.pending.push_front(entry);
        }
        batch
    }

    /// Fills `pending` with the next entries. Returns false if nothing more is synced.
    async fn fill(&mut self) -> bool {
        let shared = self.shared;
        while self.pending.is_empty() {
            let Some(cursor) = self.streams.front_mut() else {
                return false;
            };
            let entries = read(shared, cursor).await;
            let Some(last) = entries.last().map(|entry| *positions(entry).end()) else {
                if cursor.live {
                    return false;
                }
                if cursor.contested {
                    shared.copied_streams.report(&shared.problems);
                }
                self.streams.pop_front();
                continue;
            };
            cursor.next = last + 1;
            for entry in entries
                .into_iter()
                .flat_map(|entry| not_yet_stored(&shared.progress, cursor.stream, &entry))
            {
                if cursor.contested && !matches!(entry, JournalEntry::Record(_)) {
                    let missing = positions(&entry);
                    shared.copied_streams.add_missing(cursor.stream, missing);
                } else {
                    self.pending.push_back(entry);
                }
            }
        }
        true
    }

    /// Waits for more entries. Returns false if the writer is to stop or to read the stored positions again.
    async fn wait(&self) -> bool {
        let shared = self.shared;
        shared.problems.solve(ProblemTopic::Write);
        shared.row_buffers.free();
        if shared.stop.is_cancelled() {
            return false;
        }
        if shared.run_until == RunUntil::Empty {
            let copied_streams = &shared.copied_streams;
            if copied_streams.any_missing() && copied_streams.contested_by_live_origin().is_none() {
                shared.reconcile_requested.notified().await;
            }
            return false;
        }
        tokio::select! {
            () = self.synced_more() => true,
            () = shared.stop.cancelled() => false,
            () = shared.reconcile_requested.notified() => false,
        }
    }

    async fn synced_more(&self) {
        let (stream, read) = match self.streams.back() {
            Some(cursor) => (cursor.stream, cursor.next - 1),
            None => return std::future::pending().await,
        };
        self.shared.journal.synced_past(read).await;
        let more = |held: &Stream| held.id == stream && held.last > read;
        if !self.shared.journal.streams().iter().any(more) {
            tokio::time::sleep(CLOSED_JOURNAL_PAUSE).await;
        }
    }
}

/// Starts long work immediately on a thread that may block.
pub(super) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> {
    let begun = tokio::task::spawn_blocking(work);
    async {
        match begun.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// Reads from the disk until a read succeeds.
async fn read(shared: &WriteLoop, cursor: &StreamCursor) -> Vec<JournalEntry> {
    loop {
        let read = shared.journal.read(cursor.stream, cursor.next, READ_BYTES);
        match read.await {
            Ok(entries) => {
                shared.problems.solve(ProblemTopic::Journal);
                return entries;
            }
            Err(error) => {
                let text = format!(
                    "the journal cannot be read: {error}; look at the disk and the kernel's log"
                );
                tracing::error!("{text}");
                shared.problems.set(ProblemTopic::Journal, Some(text));
                tokio::time::sleep(shared.options.retry_max).await;
            }
        }
    }
}

/// Returns the parts of the entry that are not stored. A hole may be stored in part.
fn not_yet_stored(
    progress: &Progress,
    stream: StreamId,
    entry: &JournalEntry,
) -> Vec<JournalEntry> {
    let missing = progress.not_stored(stream, &positions(entry)).into_iter();
    let missing = missing.map(RangeInclusive::into_inner);
    match entry {
        JournalEntry::Hole { .. } => missing
            .map(|(first, last)| JournalEntry::Hole { first, last })
            .collect(),
        JournalEntry::Missing { .. } => missing
            .map(|(first, last)| JournalEntry::Missing { first, last })
            .collect(),
        JournalEntry::Record(_) | JournalEntry::Damaged { .. } => {
            missing.map(|_| entry.clone()).collect()
        }
    }
}
