//! Recognition of duplicate requests: a client that missed the answer sends the same request again.
//!
//! Best effort, and of this instance alone. A start rebuilds the table of recent requests from the journal's records.
//!
//! **Invariant:** a request is a duplicate only of one that is synced, and the number of remembered requests is
//! bounded.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::event::{Position, Signal};
use crate::journal::{AppendError, Journal};
use crate::receive::Options;
use crate::receive::ingest::dedup_key::{DedupBy, DedupKey, Fingerprint, IdempotencyKey};

/// Longest time that a start spends on reading digests from the journal, newest records first.
const RECALL: Duration = Duration::from_secs(3);

/// The requests that were accepted within the window, with the limits on remembering them.
pub(crate) struct RecentRequests {
    /// Nanoseconds for which an accepted request is remembered; 0 = not at all.
    window_nano: i64,
    /// Maximum number of accepted requests that are remembered.
    most: usize,
    /// The signals whose requests are duplicates if their bytes are equal.
    by_body: Vec<Signal>,
    memory: Mutex<RecentRequestTable>,
}

#[derive(Default)]
struct RecentRequestTable {
    /// Requests by digest, accepted or in flight.
    known: HashMap<[u8; 16], RecentRequest>,
    /// Accepted requests, oldest first: the digest, and the receive time (Unix ns) that distinguishes the request from
    /// an earlier one with the same digest.
    order: VecDeque<([u8; 16], i64)>,
}

/// The newest request with a given digest.
struct RecentRequest {
    /// The body's fingerprint, if the request is identified by an idempotency key.
    fingerprint: Option<Fingerprint>,
    received_unix_nano: i64,
    state: RecentState,
}

enum RecentState {
    /// Holds the channel for the result once an identical request waits for it, which hardly any request has.
    InFlight(Option<watch::Sender<Option<RecentOutcome>>>),
    Synced(Position),
}

/// The result of a request that was in flight.
#[derive(Clone, Copy, Debug)]
enum RecentOutcome {
    Synced(Position),
    NotStored,
    Unknown,
}

/// A request's relation to earlier requests.
pub(crate) enum Claim {
    /// No earlier request has its digest, so it is appended; `None` if it is not deduplicated.
    First(Option<ClaimGuard>),
    /// An identical request is synced, at this position.
    Duplicate(Position),
    /// An earlier request had the same key and another body.
    KeyReused,
    /// An identical request was in flight, and it is unknown if it is stored.
    Unknown,
}

impl RecentRequests {
    pub(crate) fn new(options: &Options) -> Self {
        let window = options.duplicate_window.unwrap_or_default();
        Self {
            window_nano: i64::try_from(window.as_nanos()).unwrap_or(i64::MAX),
            most: options.duplicate_requests,
            by_body: options.duplicate_signals.clone(),
            memory: Mutex::default(),
        }
    }

    /// Returns the property that identifies retries of a request of this signal.
    pub(crate) fn dedup_by(&self, signal: Signal, key: Option<IdempotencyKey>) -> DedupBy {
        match key {
            _ if self.window_nano == 0 => DedupBy::Nothing,
            Some(key) => DedupBy::Key(key),
            None if self.by_body.contains(&signal) => DedupBy::Body,
            None => DedupBy::Nothing,
        }
    }

    /// Looks for an earlier request with this identity, and waits for the result of one that is in flight.
    /// `received_unix_nano` is the receive time of the request that claims.
    ///
    /// If the one in flight is not stored, one of those that wait becomes the first, and the rest wait for that one.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        identity: Option<DedupKey>,
        received_unix_nano: i64,
    ) -> Claim {
        let Some(identity) = identity else {
            return Claim::First(None);
        };
        loop {
            let mut in_flight = match self.find(identity, received_unix_nano) {
                ControlFlow::Break(claim) => return claim,
                ControlFlow::Continue(in_flight) => in_flight,
            };
            let outcome = in_flight.wait_for(Option::is_some).await;
            match outcome.as_deref() {
                Ok(Some(RecentOutcome::Synced(position))) => return Claim::Duplicate(*position),
                Ok(Some(RecentOutcome::NotStored)) => {}
                Ok(Some(RecentOutcome::Unknown) | None) | Err(_) => return Claim::Unknown,
            }
        }
    }

    /// Returns the claim, or the result to wait for if an identical request is in flight.
    fn find(
        self: &Arc<Self>,
        identity: DedupKey,
        received_unix_nano: i64,
    ) -> ControlFlow<Claim, watch::Receiver<Option<RecentOutcome>>> {
        let mut memory = self.memory();
        if let Some(known) = memory.known.get_mut(&identity.digest) {
            let age_nano = received_unix_nano.saturating_sub(known.received_unix_nano);
            match &mut known.state {
                RecentState::Synced(_) if age_nano >= self.window_nano => {}
                _ if known.fingerprint != identity.fingerprint => {
                    return ControlFlow::Break(Claim::KeyReused);
                }
                RecentState::Synced(position) => {
                    return ControlFlow::Break(Claim::Duplicate(*position));
                }
                RecentState::InFlight(outcome) => {
                    let outcome = outcome.get_or_insert_with(|| watch::channel(None).0);
                    return ControlFlow::Continue(outcome.subscribe());
                }
            }
        }
        let known = RecentRequest {
            fingerprint: identity.fingerprint,
            received_unix_nano,
            state: RecentState::InFlight(None),
        };
        memory.known.insert(identity.digest, known);
        let first = ClaimGuard {
            duplicates: Arc::clone(self),
            identity,
            received_unix_nano,
            settled: RecentOutcome::Unknown,
        };
        ControlFlow::Break(Claim::First(Some(first)))
    }

    /// Remembers the requests in the journal that were received within the window. Blocks for at most a few seconds.
    pub(crate) fn recall(&self, journal: &Journal, now_unix_nano: i64) {
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
                state: RecentState::Synced(record.position),
            };
            self.remember(&mut memory, record.digest, known);
        }
    }

    /// Adds an accepted request, and removes those that are too old or too many. Returns the request that it replaces.
    fn remember(
        &self,
        memory: &mut RecentRequestTable,
        digest: [u8; 16],
        known: RecentRequest,
    ) -> Option<RecentRequest> {
        let newest = known.received_unix_nano;
        memory.order.push_back((digest, newest));
        let replaced = memory.known.insert(digest, known);
        while let Some((digest, received)) = memory.order.front().copied() {
            let old = newest.saturating_sub(received) >= self.window_nano;
            if !old && memory.order.len() <= self.most {
                break;
            }
            memory.order.pop_front();
            // If the same request was sent again since then, its entry is further back, or it is in flight.
            let synced = memory.known.get(&digest).is_some_and(|known| {
                known.received_unix_nano == received
                    && matches!(known.state, RecentState::Synced(_))
            });
            if synced {
                memory.known.remove(&digest);
            }
        }
        replaced
    }

    fn memory(&self) -> MutexGuard<'_, RecentRequestTable> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight; identical requests wait for its result.
///
/// If it is dropped before [`Self::settle`], no later request becomes a duplicate of it, and those that wait are
/// answered [`Claim::Unknown`].
pub(crate) struct ClaimGuard {
    duplicates: Arc<RecentRequests>,
    identity: DedupKey,
    received_unix_nano: i64,
    settled: RecentOutcome,
}

impl ClaimGuard {
    /// Publishes the result of the append to the requests that wait.
    pub(crate) fn settle(mut self, appended: Result<Position, AppendError>) {
        self.settled = match appended {
            Ok(position) => RecentOutcome::Synced(position),
            Err(AppendError::Unknown) => RecentOutcome::Unknown,
            Err(
                AppendError::Full
                | AppendError::DiskFull
                | AppendError::TooLarge
                | AppendError::Closed,
            ) => RecentOutcome::NotStored,
        };
    }
}

impl Drop for ClaimGuard {
    fn drop(&mut self) {
        let outcome = self.settled;
        let digest = self.identity.digest;
        let mut memory = self.duplicates.memory();
        let in_flight = if let RecentOutcome::Synced(position) = outcome {
            let known = RecentRequest {
                fingerprint: self.identity.fingerprint,
                received_unix_nano: self.received_unix_nano,
                state: RecentState::Synced(position),
            };
            self.duplicates.remember(&mut memory, digest, known)
        } else {
            memory.known.remove(&digest)
        };
        drop(memory);
        // The order matters: requests that wait search the table again once this is sent.
        if let Some(RecentState::InFlight(Some(waiting))) = in_flight.map(|known| known.state) {
            waiting.send_replace(Some(outcome));
        }
    }
}

#[cfg(test)]
mod tests;
