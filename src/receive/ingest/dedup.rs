//! Requests that were accepted lately: a client that missed the answer sends the same one again.
//!
//! Best effort, and of this instance alone. What is remembered is rebuilt from the log's records at a start.
//!
//! **Invariant:** a request is a duplicate only of one that is synced, and what is remembered is bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::event::{Position, Signal};
use crate::journal::{AppendError, Journal};
use crate::receive::Options;
use crate::receive::ingest::dedup_key::{DedupBy, DedupKey, Fingerprint, IdempotencyKey};

/// A start is not held up longer than this by reading what the log holds; the newest comes first.
const RECALL: Duration = Duration::from_secs(3);

/// What is remembered, and for how long.
pub(in crate::receive) struct RecentRequests {
    /// 0 = nothing is.
    window_nano: i64,
    most: usize,
    by_body: Vec<Signal>,
    memory: Mutex<RecentRequestTable>,
}

#[derive(Default)]
struct RecentRequestTable {
    known: HashMap<[u8; 16], RecentRequest>,
    /// What was accepted, the oldest first, with the receive time that tells it from an earlier one of the same digest.
    order: VecDeque<([u8; 16], i64)>,
}

/// A request with that digest.
struct RecentRequest {
    /// Where it is known by a key: of its body.
    fingerprint: Option<Fingerprint>,
    received_unix_nano: i64,
    stands: RecentState,
}

enum RecentState {
    UnderWay(watch::Receiver<Option<RecentOutcome>>),
    Synced(Position),
}

/// What became of a request that was under way.
#[derive(Clone, Copy, Debug)]
enum RecentOutcome {
    Synced(Position),
    NotStored,
    Unknown,
}

/// What a request is to those before it.
pub(in crate::receive) enum Claim {
    /// The first of its kind, to be appended; `None` where others like it are requests of their own.
    First(Option<ClaimGuard>),
    /// Synced already, there.
    Duplicate(Position),
    /// Another one has this key, with other bytes.
    KeyReused,
    /// The one before it may be stored or not.
    Unknown,
}

enum FoundRequest {
    Claim(Claim),
    UnderWay(watch::Receiver<Option<RecentOutcome>>),
}

impl RecentRequests {
    pub(in crate::receive) fn new(options: &Options) -> Self {
        let window = options.duplicate_window.unwrap_or_default();
        Self {
            window_nano: i64::try_from(window.as_nanos()).unwrap_or(i64::MAX),
            most: options.duplicate_requests,
            by_body: options.duplicate_signals.clone(),
            memory: Mutex::default(),
        }
    }

    /// What a retry of such a request is known by.
    pub(in crate::receive) fn known_by(
        &self,
        signal: Signal,
        key: Option<IdempotencyKey>,
    ) -> DedupBy {
        match key {
            _ if self.window_nano == 0 => DedupBy::Nothing,
            Some(key) => DedupBy::Key(key),
            None if self.by_body.contains(&signal) => DedupBy::Body,
            None => DedupBy::Nothing,
        }
    }

    /// Looks for one like it, and waits for one that is under way; `received_unix_nano` is its own receive time.
    pub(in crate::receive) async fn claim(
        self: &Arc<Self>,
        identity: Option<DedupKey>,
        received_unix_nano: i64,
    ) -> Claim {
        let Some(identity) = identity else {
            return Claim::First(None);
        };
        loop {
            let mut under_way = match self.find(identity, received_unix_nano) {
                FoundRequest::Claim(claim) => return claim,
                FoundRequest::UnderWay(under_way) => under_way,
            };
            let fate = under_way.wait_for(Option::is_some).await;
            match fate.as_deref() {
                Ok(Some(RecentOutcome::Synced(position))) => return Claim::Duplicate(*position),
                Ok(Some(RecentOutcome::NotStored)) => {}
                Ok(Some(RecentOutcome::Unknown) | None) | Err(_) => return Claim::Unknown,
            }
        }
    }

    fn find(self: &Arc<Self>, identity: DedupKey, received_unix_nano: i64) -> FoundRequest {
        let mut memory = self.memory();
        if let Some(known) = memory.known.get(&identity.digest) {
            let age_nano = received_unix_nano.saturating_sub(known.received_unix_nano);
            match &known.stands {
                RecentState::Synced(_) if age_nano >= self.window_nano => {}
                _ if known.fingerprint != identity.fingerprint => {
                    return FoundRequest::Claim(Claim::KeyReused);
                }
                RecentState::Synced(position) => {
                    return FoundRequest::Claim(Claim::Duplicate(*position));
                }
                RecentState::UnderWay(fate) => return FoundRequest::UnderWay(fate.clone()),
            }
        }
        let (fate, under_way) = watch::channel(None);
        let known = RecentRequest {
            fingerprint: identity.fingerprint,
            received_unix_nano,
            stands: RecentState::UnderWay(under_way),
        };
        memory.known.insert(identity.digest, known);
        let first = ClaimGuard {
            duplicates: Arc::clone(self),
            identity,
            received_unix_nano,
            fate,
            settled: None,
        };
        FoundRequest::Claim(Claim::First(Some(first)))
    }

    /// Remembers what the log holds from before this start. Blocks; reads for a few seconds at most.
    pub(in crate::receive) fn recall(&self, journal: &Journal, now_unix_nano: i64) {
        if self.window_nano == 0 {
            return;
        }
        let since_unix_nano = now_unix_nano.saturating_sub(self.window_nano);
        let held = journal.request_digests(since_unix_nano, self.most, RECALL);
        let mut memory = self.memory();
        for record in held {
            let known = RecentRequest {
                fingerprint: Fingerprint::of_record(&record),
                received_unix_nano: record.received_unix_nano,
                stands: RecentState::Synced(record.position),
            };
            self.remember(&mut memory, record.digest, known);
        }
    }

    fn remember(&self, memory: &mut RecentRequestTable, digest: [u8; 16], known: RecentRequest) {
        let newest = known.received_unix_nano;
        memory.order.push_back((digest, newest));
        memory.known.insert(digest, known);
        while let Some((digest, received)) = memory.order.front().copied() {
            let old = newest.saturating_sub(received) >= self.window_nano;
            if !old && memory.order.len() <= self.most {
                break;
            }
            memory.order.pop_front();
            // One that came again since then stands further back, or is under way.
            let known = memory.known.get(&digest);
            let synced = known.is_some_and(|known| {
                known.received_unix_nano == received
                    && matches!(known.stands, RecentState::Synced(_))
            });
            if synced {
                memory.known.remove(&digest);
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, RecentRequestTable> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way; those like it wait for what becomes of it.
///
/// Dropped before that is told, it leaves nothing that a later request would be taken for a duplicate of, and those that
/// wait learn that nothing is known.
pub(in crate::receive) struct ClaimGuard {
    duplicates: Arc<RecentRequests>,
    identity: DedupKey,
    received_unix_nano: i64,
    fate: watch::Sender<Option<RecentOutcome>>,
    settled: Option<RecentOutcome>,
}

impl ClaimGuard {
    /// Tells what became of it.
    pub(in crate::receive) fn settle(mut self, appended: Result<Position, AppendError>) {
        self.settled = Some(match appended {
            Ok(position) => RecentOutcome::Synced(position),
            Err(AppendError::Unknown) => RecentOutcome::Unknown,
            Err(
                AppendError::Full
                | AppendError::DiskFull
                | AppendError::TooLarge
                | AppendError::Closed,
            ) => RecentOutcome::NotStored,
        });
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        let fate = self.settled.unwrap_or(RecentOutcome::Unknown);
        let digest = self.identity.digest;
        let mut memory = self.duplicates.memory();
        if let RecentOutcome::Synced(position) = fate {
            let known = RecentRequest {
                fingerprint: self.identity.fingerprint,
                received_unix_nano: self.received_unix_nano,
                stands: RecentState::Synced(position),
            };
            self.duplicates.remember(&mut memory, digest, known);
        } else {
            memory.known.remove(&digest);
        }
        drop(memory);
        // Whoever waits looks again after this, and finds the memory as it is now.
        self.fate.send_replace(Some(fate));
    }
}

#[cfg(test)]
mod tests;
