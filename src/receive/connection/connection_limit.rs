//! The connections that the process may have at once, on all of its sockets together.
//!
//! **Invariant:** while all places are taken, a few further ones serve health and metrics alone, and a connection that rests
//! keeps none out that has a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::receive::Options;
use crate::receive::connection::fd_limit;
use crate::receive::connection::tracked_stream::TrackedStream;
use crate::telemetry::ConnectionCounts;
use crate::telemetry::log_limit::OncePerMinute;
use crate::telemetry::metrics::RECEIVE_CONNECTIONS_DISPLACED_TOTAL;

/// Places beside those of the options: for probes, scrapers, and people who look for the cause. The descriptors that are kept
/// back have room for them.
const RESERVED: usize = 16;
/// A connection that has rested for so long may be ended to make room for another.
const RESTED: Duration = Duration::from_secs(5);
/// Until a connection at rest is looked for again.
const ROOM_AGAIN: Duration = Duration::from_millis(250);
/// Time after which a connection that was asked to end no longer counts as ending, as its client may never acknowledge:
/// another one is asked too.
const ENDING: Duration = Duration::from_secs(1);
/// Time for which a request on a reserved place waits for an ordinary one.
const ADMISSION: Duration = Duration::from_secs(1);

/// The places of the process, as one listening socket gives them out. Cheap to clone.
#[derive(Clone)]
pub struct ConnectionLimit {
    all: Arc<SlotTable>,
    reserve: Reserve,
}

struct SlotTable {
    ordinary: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    open: Mutex<BTreeMap<u64, OpenConnection>>,
    numbers: AtomicU64,
    /// Those that wait for an ordinary place.
    waiting: AtomicUsize,
    counts: ConnectionCounts,
    displaced: Counter,
    shortage: OncePerMinute,
}

/// A connection that has a place.
struct OpenConnection {
    /// `None` once its conversation is over.
    wire: Option<TrackedStream>,
    /// Asks it to end in order.
    leave: CancellationToken,
    asked_at: Option<Instant>,
}

impl OpenConnection {
    /// Returns since when it has rested, unless it has been asked to end.
    fn rests_since(&self) -> Option<Instant> {
        match (&self.wire, self.asked_at) {
            (Some(wire), None) => wire.rests_since(),
            _ => None,
        }
    }

    fn is_ending(&self) -> bool {
        self.asked_at.is_some_and(|at| at.elapsed() < ENDING)
    }
}

/// The further places that a socket may give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserve {
    None,
    Monitoring,
}

impl ConnectionLimit {
    /// As many as the options say, if the limit of open files leaves room for them.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let connections = fd_limit::connections_max(options.connections);
        let connections = connections.min(Semaphore::MAX_PERMITS);
        let all = SlotTable {
            ordinary: Arc::new(Semaphore::new(connections)),
            reserved: Arc::new(Semaphore::new(RESERVED)),
            open: Mutex::default(),
            numbers: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            counts: ConnectionCounts::new(connections),
            displaced: metrics::counter!(RECEIVE_CONNECTIONS_DISPLACED_TOTAL),
            shortage: OncePerMinute::default(),
        };
        Self {
            all: Arc::new(all),
            reserve: Reserve::None,
        }
    }

    /// The same places for a socket that serves health and metrics: if all are taken, it gives out the reserved ones.
    #[must_use]
    pub fn with_reserved(&self) -> Self {
        Self {
            all: Arc::clone(&self.all),
            reserve: Reserve::Monitoring,
        }
    }

    /// The numbers for `/health` and `/metrics`.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        self.all.counts.clone()
    }

    /// Waits for a free place, which is given back when dropped.
    pub(in crate::receive) async fn take(&self) -> ConnectionSlot {
        let kind = match self.all.try_ordinary() {
            Some(open) => SlotKind::Ordinary { _open: open },
            None => tokio::select! {
                biased;
                reserved = acquire(&self.all.reserved), if self.reserve == Reserve::Monitoring => {
                    SlotKind::Reserved { _permit: reserved }
                }
                open = self.all.ordinary() => SlotKind::Ordinary { _open: open },
            },
        };
        ConnectionSlot {
            all: Arc::clone(&self.all),
            number: self.all.numbers.fetch_add(1, Ordering::Relaxed),
            kind: Mutex::new(kind),
        }
    }
}

impl SlotTable {
    fn try_ordinary(&self) -> Option<OpenSlot> {
        let permit = Arc::clone(&self.ordinary).try_acquire_owned().ok();
        if permit.is_none() {
            self.found_none_free();
        }
        permit.map(|permit| OpenSlot::new(permit, &self.counts))
    }

    /// Waits for an ordinary place, and has connections that rest end meanwhile: one for each that waits.
    async fn ordinary(&self) -> OpenSlot {
        let _waiting = WaitingConnection::new(&self.waiting);
        let mut permit = std::pin::pin!(acquire(&self.ordinary));
        loop {
            self.make_room();
            tokio::select! {
                biased;
                permit = permit.as_mut() => return OpenSlot::new(permit, &self.counts),
                () = sleep(ROOM_AGAIN) => {}
            }
        }
    }

    fn found_none_free(&self) {
        self.counts.found_none_free();
        if self.shortage.ready() {
            tracing::warn!(
                connections = self.counts.max(),
                "all places for connections are taken: raise RUVVECTOR_CONNECTIONS, or look who holds them open"
            );
        }
    }

    /// Asks the connection that has rested longest to end, if it has for over five seconds, and if not enough of them are
    /// ending already.
    fn make_room(&self) {
        self.found_none_free();
        let mut open = self.lock();
        let ending = open.values().filter(|resident| resident.is_ending());
        if ending.count() >= self.waiting.load(Ordering::Relaxed) {
            return;
        }
        let longest = open
            .values_mut()
            .filter_map(|resident| Some((resident.rests_since()?, resident)))
            .min_by_key(|(since, _)| *since)
            .filter(|(since, _)| since.elapsed() > RESTED);
        if let Some((_, resident)) = longest {
            resident.asked_at = Some(Instant::now());
            resident.leave.cancel();
            self.displaced.increment(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, OpenConnection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    let permit = Arc::clone(semaphore).acquire_owned().await;
    permit.expect("the semaphore is never closed")
}

/// A connection that waits for an ordinary place, counted while this lives.
struct WaitingConnection<'a>(&'a AtomicUsize);

impl<'a> WaitingConnection<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for WaitingConnection<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection's place.
pub(in crate::receive) struct ConnectionSlot {
    all: Arc<SlotTable>,
    number: u64,
    kind: Mutex<SlotKind>,
}

enum SlotKind {
    Ordinary { _open: OpenSlot },
    Reserved { _permit: OwnedSemaphorePermit },
}

/// A place that counts as open.
struct OpenSlot {
    counts: ConnectionCounts,
    _permit: OwnedSemaphorePermit,
}

impl OpenSlot {
    fn new(permit: OwnedSemaphorePermit, counts: &ConnectionCounts) -> Self {
        counts.opened();
        Self {
            counts: counts.clone(),
            _permit: permit,
        }
    }
}

impl Drop for OpenSlot {
    fn drop(&mut self) {
        self.counts.closed();
    }
}

impl ConnectionSlot {
    /// Registers the connection. The returned token is cancelled when it should end to make room for another.
    pub(in crate::receive) fn settle(&self, wire: &TrackedStream) -> CancellationToken {
        let leave = CancellationToken::new();
        let resident = OpenConnection {
            wire: Some(wire.clone()),
            leave: leave.clone(),
            asked_at: None,
        };
        self.all.lock().insert(self.number, resident);
        leave
    }

    /// Drops the connection; returns whether it was asked to end.
    pub(in crate::receive) fn leave(&self) -> bool {
        let mut open = self.all.lock();
        let resident = open.get_mut(&self.number);
        resident.is_some_and(|resident| {
            resident.wire = None;
            resident.asked_at.is_some()
        })
    }

    pub(in crate::receive) fn is_reserved(&self) -> bool {
        matches!(*self.kind(), SlotKind::Reserved { .. })
    }

    /// Waits a second for an ordinary place in exchange for a reserved one.
    ///
    /// # Errors
    /// [`NoFreeSlot`] if none comes free.
    pub(in crate::receive) async fn exchange(&self) -> Result<(), NoFreeSlot> {
        if !self.is_reserved() {
            return Ok(());
        }
        let open = match self.all.try_ordinary() {
            Some(open) => open,
            None => {
                let waiting = timeout(ADMISSION, self.all.ordinary()).await;
                waiting.map_err(|_| NoFreeSlot {
                    connections: self.all.counts.max(),
                })?
            }
        };
        *self.kind() = SlotKind::Ordinary { _open: open };
        Ok(())
    }

    fn kind(&self) -> MutexGuard<'_, SlotKind> {
        self.kind.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.all.lock().remove(&self.number);
    }
}

/// All places for connections are taken. In a request's extensions: it is to be refused.
#[derive(Clone, Copy, Debug)]
pub(in crate::receive) struct NoFreeSlot {
    pub(in crate::receive) connections: usize,
}
