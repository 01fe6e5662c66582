//! The queue of records for the append thread.
//!
//! **Invariant:** the bytes that wait are bounded. A caller that brings more waits itself, and is served in turn.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::event::Position;
use crate::journal::format::record::{RecordClass, RecordHeader, total_bytes};
use crate::journal::{AppendError, NewRecord, lock};

/// Maximum KiB of payloads that wait or are being written.
const ROOM_KIB: u32 = 64 << 10;

/// A record that waits for its sync.
pub(in crate::journal) struct QueuedRecord {
    pub(in crate::journal) record: NewRecord,
    pub(in crate::journal) payload_checksum: u32,
    answer: oneshot::Sender<Result<Position, AppendError>>,
    _room: OwnedSemaphorePermit,
}

impl QueuedRecord {
    /// Bytes that the record takes in a segment.
    pub(in crate::journal) fn total_bytes(&self) -> u64 {
        total_bytes(self.record.payload.len() as u64)
    }

    /// Returns the record's header at position `n`; all up to position `synced` are synced.
    pub(in crate::journal) fn header(&self, n: u64, synced: u64) -> RecordHeader {
        let record = &self.record;
        RecordHeader {
            payload_bytes: u32::try_from(record.payload.len())
                .expect("larger payloads were refused"),
            payload_checksum: self.payload_checksum,
            decoded_bytes: record.decoded_bytes,
            accepted: record.accepted,
            rejected: record.rejected,
            is_clean: record.is_clean,
            content_encoding: record.content_encoding,
            source: record.source,
            digest: record.digest,
            ..RecordHeader::bare(RecordClass::Data, n, n, synced)
        }
    }

    pub(in crate::journal) fn answer(self, outcome: Result<Position, AppendError>) {
        // A caller that stopped waiting needs no answer.
        let _ = self.answer.send(outcome);
    }
}

/// The reason for which [`Queue::take`] returned.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::journal) enum Wakeup {
    Records,
    /// No record arrived until the deadline.
    Nothing,
    /// The queue is closed and empty.
    Closed,
}

pub(in crate::journal) struct Queue {
    waiting: Mutex<QueuedRecords>,
    ready: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct QueuedRecords {
    records: VecDeque<QueuedRecord>,
    /// Callers that wait for the append thread to poll the queue.
    poll_waiters: Vec<oneshot::Sender<()>>,
    closed: bool,
}

impl Queue {
    pub(in crate::journal) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            ready: Condvar::new(),
            room: Arc::new(Semaphore::new(ROOM_KIB as usize)),
        }
    }

    /// Queues a record and waits for its answer.
    pub(in crate::journal) async fn append(
        &self,
        record: NewRecord,
    ) -> Result<Position, AppendError> {
        let kib = u32::try_from(record.payload.len() / 1024).unwrap_or(u32::MAX);
        let room = self
            .room
            .clone()
            .acquire_many_owned(kib.saturating_add(1).min(ROOM_KIB))
            .await
            .map_err(|_| AppendError::Closed)?;
        let payload_checksum = crc32c::crc32c(&record.payload);
        let (answer, answered) = oneshot::channel();
        {
            let mut queued = lock(&self.waiting);
            if queued.closed {
                return Err(AppendError::Closed);
            }
            queued.records.push_back(QueuedRecord {
                record,
                payload_checksum,
                answer,
                _room: room,
            });
        }
        self.ready.notify_one();
        // If there is no answer, the append thread died, and it is unknown how far it got.
        answered.await.unwrap_or(Err(AppendError::Unknown))
    }

    /// Waits until the append thread polls the queue again. Returns immediately if the queue is closed.
    pub(in crate::journal) async fn next_poll(&self) {
        let (polled, was_polled) = oneshot::channel();
        {
            let mut queued = lock(&self.waiting);
            if queued.closed {
                return;
            }
            queued.poll_waiters.push(polled);
        }
        self.ready.notify_one();
        let _ = was_polled.await;
    }

    /// Moves all waiting records into `taken`, which is empty. If none wait, waits for one, at most until `deadline`.
    pub(in crate::journal) fn take(
        &self,
        taken: &mut VecDeque<QueuedRecord>,
        deadline: Option<Instant>,
    ) -> Wakeup {
        let mut queued = lock(&self.waiting);
        loop {
            for waiter in queued.poll_waiters.drain(..) {
                let _ = waiter.send(());
            }
            if !queued.records.is_empty() {
                std::mem::swap(taken, &mut queued.records);
                return Wakeup::Records;
            }
            if queued.closed {
                return Wakeup::Closed;
            }
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if left == Duration::ZERO {
                return Wakeup::Nothing;
            }
            let woken = self.ready.wait_timeout(queued, left);
            queued = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Closes the queue: further records are rejected, and those that wait are still served.
    pub(in crate::journal) fn close(&self) {
        lock(&self.waiting).closed = true;
        self.room.close();
        self.ready.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::event::{ContentEncoding, Encoding, Limits, Signal, Source};

    #[test]
    fn what_waits_is_bounded_and_the_rest_comes_in_turn() {
        const MIB: usize = 1 << 20;
        let queue = Queue::new();
        // One payload that all records share: only their stated lengths are large.
        let payload = bytes::Bytes::from(vec![0; MIB]);
        let record = |n| NewRecord {
            source: Source {
                signal: Signal::Event,
                encoding: Encoding::Json,
                partial: false,
                received_unix_nano: 0,
                limits: Limits::default(),
                version: 1,
            },
            content_encoding: ContentEncoding::Identity,
            decoded_bytes: n,
            accepted: 1,
            rejected: 0,
            is_clean: false,
            digest: [0; 16],
            payload: payload.clone(),
        };
        let mut context = Context::from_waker(Waker::noop());
        let mut appends: Vec<_> = (0..200)
            .map(|n| Box::pin(queue.append(record(n))))
            .collect();
        let mut seen = Vec::new();
        while seen.len() < 200 {
            for append in &mut appends {
                assert!(append.as_mut().poll(&mut context).is_pending());
            }
            let mut taken = VecDeque::new();
            assert_eq!(queue.take(&mut taken, None), Wakeup::Records);
            let bytes: usize = taken.iter().map(|one| one.record.payload.len()).sum();
            assert!(bytes <= 64 * MIB, "{bytes} bytes wait");
            seen.extend(taken.iter().map(|one| one.record.decoded_bytes));
            appends.drain(..taken.len());
        }
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
    }
}
