//! Reads the synced entries of the journal that are not stored, oldest stream first.
//!
//! **Invariant:** no batch holds a stored position, and no batch crosses streams.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::event::{Position, StreamId};
use crate::journal::{JournalEntry, Record};
use crate::position_set::PositionSet;
use crate::store::{DeadLetterReason, StoredPositions};
use crate::write::attempts::{FATAL, WriteCare};
use crate::write::batch::{AddResult, BatchSize, PendingBatch, positions};
use crate::write::dead_letters::DecodeFault;
use crate::write::progress::ProblemTopic;
use crate::write::{RunUntil, WriteLoop};

/// Bytes that are read from the journal at a time.
const READ_BYTES: usize = 1 << 20;

/// Interval of checks of a closed or broken journal, which syncs nothing more.
const CLOSED_LOG_PAUSE: Duration = Duration::from_millis(50);

/// The next unit to write.
pub(super) enum NextWrite {
    Batch(PendingBatch),
    /// One record that is written alone, as the process may have died of it.
    Alone(PendingBatch),
    /// A record whose rows are too large for a batch.
    Large(Record),
}

/// The reader's place in the journal, from one reconciliation to the next.
pub(super) struct BatchReader {
    shared: WriteLoop,
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
    pub(super) shared: bool,
    pub(super) stored_positions: StoredPositions,
    pub(super) next: u64,
}

/// Bounds the size of batches up to a position, since one of them keeps failing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchLimit {
    pub(super) stream: StreamId,
    pub(super) until: u64,
    pub(super) entries: usize,
}

impl BatchReader {
    pub(super) fn new(shared: WriteLoop, streams: VecDeque<StreamCursor>) -> Self {
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

    /// Returns the next batch, or a record that is too large for one. A batch is returned as soon as it is full. Once
    /// `idle` is cancelled (no commit is in flight), it is also returned as soon as nothing more is synced or its wait
    /// is over. Returns `None` if the writer is to stop or to read the stored positions again.
    pub(super) async fn next(&mut self, idle: &CancellationToken) -> Option<NextWrite> {
        let mut built: Option<PendingBatch> = None;
        let mut since = Instant::now();
        loop {
            let size = built.as_ref().map(PendingBatch::size).unwrap_or_default();
            if !self.fill().await {
                match built {
                    None if self.wait().await => since = Instant::now(),
                    None => return None,
                    Some(built) if idle.is_cancelled() => return Some(NextWrite::Batch(built)),
                    Some(_) => {
                        tokio::select! {
                            () = idle.cancelled() => {}
                            () = self.synced_more() => {}
                        }
                    }
                }
                continue;
            }
            let stream = self.streams.front().map(|cursor| cursor.stream)?;
            if built.is_none() {
                let care = self
                    .pending
                    .front()
                    .map_or(WriteCare::Usual, |one| self.care(one));
                if care != WriteCare::Usual {
                    // Batches that began earlier end first.
                    idle.cancelled().await;
                }
                if care == WriteCare::Fatal {
                    return self.take_fatal(stream).map(NextWrite::Alone);
                }
                if let Some(record) = self.take_large() {
                    let positions = record.position.n..=record.position.n;
                    self.shared
                        .attempts
                        .begin(stream, &positions, WriteCare::Alone);
                    return Some(NextWrite::Large(record));
                }
                if care == WriteCare::Alone {
                    let first: VecDeque<JournalEntry> =
                        self.pending.pop_front().into_iter().collect();
                    let begun = PendingBatch::new(
                        stream,
                        first.front().map_or(0, |one| *positions(one).start()),
                    );
                    let alone = self.decode(begun, first, care).await;
                    if alone.entries > 0 {
                        return Some(NextWrite::Alone(alone));
                    }
                    continue;
                }
            }
            let other = built
                .as_ref()
                .is_some_and(|built| built.batch.stream != stream);
            let taken = if other {
                VecDeque::new()
            } else {
                self.take(size)
            };
            let waited = idle.is_cancelled() && since.elapsed() >= self.shared.options.batch_wait;
            match (taken.front(), built.take()) {
                (None, full) => return full.map(NextWrite::Batch),
                (Some(first), begun) => {
                    let begun = begun
                        .unwrap_or_else(|| PendingBatch::new(stream, *positions(first).start()));
                    let more = self.decode(begun, taken, WriteCare::Usual).await;
                    if more.entries > 0 && waited {
                        return Some(NextWrite::Batch(more));
                    }
                    built = (more.entries > 0).then_some(more);
                }
            }
        }
    }

    /// Removes from `pending` the entries that still fit into a batch of this size.
    fn take(&mut self, mut size: BatchSize) -> VecDeque<JournalEntry> {
        let mut taken = VecDeque::new();
        while let Some(entry) = self.pending.front() {
            let most = self.most_entries(*positions(entry).start());
            if self.care(entry) != WriteCare::Usual
                || self.is_large(entry)
                || !size.takes(entry, &self.shared.options, most)
            {
                break;
            }
            size.add(entry);
            taken.extend(self.pending.pop_front());
        }
        taken
    }

    /// Removes and returns the first pending record if it is too large for a batch.
    fn take_large(&mut self) -> Option<Record> {
        let first = self.pending.front()?;
        if !self.is_large(first) {
            return None;
        }
        self.too_large = None;
        match self.pending.pop_front() {
            Some(JournalEntry::Record(record)) => Some(record),
            _ => None,
        }
    }

    /// Returns the care that earlier deaths of the process demand for the entry.
    fn care(&self, entry: &JournalEntry) -> WriteCare {
        match entry {
            JournalEntry::Record(record) => {
                let position = record.position;
                self.shared.attempts.care(position.stream, position.n)
            }
            JournalEntry::Hole { .. }
            | JournalEntry::Missing { .. }
            | JournalEntry::Damaged { .. } => WriteCare::Usual,
        }
    }

    /// Removes the first pending record and returns it as a dead letter, without decoding it.
    fn take_fatal(&mut self, stream: StreamId) -> Option<PendingBatch> {
        let Some(JournalEntry::Record(record)) = self.pending.pop_front() else {
            return None;
        };
        let mut built = PendingBatch::new(stream, record.position.n);
        let message = format!(
            "the process died or SQLite ran out of memory, {FATAL} times in a row, while this record was being written, at last \
             with nothing beside it"
        );
        tracing::error!(%stream, position = record.position.n, "{message}");
        let fault = DecodeFault {
            reason: DeadLetterReason::Fatal,
            sqlstate: None,
            message,
        };
        built.add_as_dead_letter(record, fault);
        Some(built)
    }

    /// Returns whether the entry is written alone. If a body is longer than a batch, its rows most likely are, too.
    fn is_large(&self, entry: &JournalEntry) -> bool {
        match entry {
            JournalEntry::Record(record) => {
                record.decoded_bytes as usize > self.shared.options.batch_bytes
                    || self.too_large == Some(record.position)
            }
            JournalEntry::Hole { .. }
            | JournalEntry::Missing { .. }
            | JournalEntry::Damaged { .. } => false,
        }
    }

    /// Decodes these entries into the batch as far as they fit, and returns the others to `pending`.
    async fn decode(
        &mut self,
        mut built: PendingBatch,
        mut entries: VecDeque<JournalEntry>,
        care: WriteCare,
    ) -> PendingBatch {
        if let (Some(first), Some(last)) = (entries.front(), entries.back()) {
            let range = *positions(first).start()..=*positions(last).end();
            self.shared.attempts.begin(built.batch.stream, &range, care);
        }
        let most_bytes = self.shared.options.batch_bytes;
        let (built, rest, too_large) = blocking(move || {
            let mut too_large = None;
            while built.bytes() <= most_bytes
                && let Some(entry) = entries.pop_front()
            {
                if let AddResult::TooLarge(record) = built.add(entry, most_bytes) {
                    too_large = Some(record.position);
                    entries.push_front(JournalEntry::Record(record));
                    break;
                }
            }
            (built, entries, too_large)
        })
        .await;
        self.too_large = too_large;
        for entry in rest.into_iter().rev() {
            self.pending.push_front(entry);
        }
        built
    }

    fn most_entries(&self, position: u64) -> usize {
        let stream = self.streams.front().map(|cursor| cursor.stream);
        match self.shared.batch_limit() {
            Some(cap) if Some(cap.stream) == stream && position <= cap.until => cap.entries,
            _ => usize::MAX,
        }
    }

    /// Fills `pending` with the next entries. Returns false if nothing more is synced.
    async fn fill(&mut self) -> bool {
        while self.pending.is_empty() {
            let Some(cursor) = self.streams.front_mut() else {
                return false;
            };
            let entries = read(&self.shared, cursor).await;
            let Some(last) = entries.last().map(|entry| *positions(entry).end()) else {
                if cursor.live {
                    return false;
                }
                if cursor.shared {
                    self.shared.copied_streams.report(&self.shared.progress);
                }
                self.streams.pop_front();
                continue;
            };
            cursor.next = last + 1;
            let missing = entries
                .into_iter()
                .flat_map(|entry| not_in(&cursor.stored_positions, entry));
            if cursor.shared {
                let (records, lacking): (Vec<_>, Vec<_>) =
                    missing.partition(|entry| matches!(entry, JournalEntry::Record(_)));
                if !lacking.is_empty() {
                    let lacking = PositionSet::new(lacking.iter().map(positions));
                    self.shared
                        .copied_streams
                        .add_missing(cursor.stream, &lacking);
                }
                self.pending.extend(records);
            } else {
                self.pending.extend(missing);
            }
        }
        true
    }

    /// Waits for more entries. Returns false if the writer is to stop or to read the stored positions again.
    async fn wait(&mut self) -> bool {
        self.shared.progress.solved(ProblemTopic::Write);
        self.exhausted = true;
        if self.shared.stop.is_cancelled() {
            return false;
        }
        if self.shared.run_until == RunUntil::Empty {
            let others = &self.shared.copied_streams;
            if others.any_missing() && others.contested_by_live_origin().is_none() {
                self.shared.reconcile_requested.notified().await;
            }
            return false;
        }
        tokio::select! {
            () = self.synced_more() => true,
            () = self.shared.stop.cancelled() => false,
            () = self.shared.reconcile_requested.notified() => false,
        }
    }

    async fn synced_more(&self) {
        let (stream, read) = match self.streams.back() {
            Some(cursor) => (cursor.stream, cursor.next - 1),
            None => return std::future::pending().await,
        };
        self.shared.journal.synced_past(read).await;
        let more = |held: &crate::journal::Stream| held.id == stream && held.last > read;
        if !self.shared.journal.streams().iter().any(more) {
            tokio::time::sleep(CLOSED_LOG_PAUSE).await;
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
        match shared
            .journal
            .read(cursor.stream, cursor.next, READ_BYTES)
            .await
        {
            Ok(entries) => {
                shared.progress.solved(ProblemTopic::Journal);
                return entries;
            }
            Err(error) => {
                let text = format!(
                    "the journal cannot be read: {error}; look at the disk and the kernel's log"
                );
                tracing::error!("{text}");
                shared.progress.problem(ProblemTopic::Journal, text);
                tokio::time::sleep(shared.options.retry_max).await;
            }
        }
    }
}

/// Returns entries for the parts of a range that are not stored.
fn parts(
    account: &StoredPositions,
    first: u64,
    last: u64,
    entry: fn(u64, u64) -> JournalEntry,
) -> Vec<JournalEntry> {
    let missing = account.missing(&(first..=last)).into_iter();
    missing
        .map(|range| entry(*range.start(), *range.end()))
        .collect()
}

/// Returns the parts of the entry that are not stored. A hole may be stored in part.
fn not_in(account: &StoredPositions, entry: JournalEntry) -> Vec<JournalEntry> {
    match entry {
        JournalEntry::Hole { first, last } => parts(account, first, last, |first, last| {
            JournalEntry::Hole { first, last }
        }),
        JournalEntry::Missing { first, last } => parts(account, first, last, |first, last| {
            JournalEntry::Missing { first, last }
        }),
        one if account.contains(*positions(&one).start()) => Vec::new(),
        one => vec![one],
    }
}
