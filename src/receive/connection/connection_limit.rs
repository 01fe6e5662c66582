//! The limit on connections of the process, on all listeners together.
//!
//! **Invariant:** while all slots are in use, reserved ones serve health and metrics alone, and an idle connection
//! never keeps out one that has a request.

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

/// Number of reserved slots, in addition to the limit: for probes, scrapers, and people who look for the cause. The
/// descriptors that are kept back suffice for them.
const RESERVED: usize = 16;
/// Idle time after which a connection may be closed to make room for another.
const RESTED: Duration = Duration::from_secs(5);
/// Interval at which a waiting connection searches for an idle one to close.
const ROOM_AGAIN: Duration = Duration::from_millis(250);
/// Time after which a connection that was asked to close no longer counts as closing: its client may never acknowledge,
/// so another connection is asked too.
const ENDING: Duration = Duration::from_secs(1);
/// Time for which a request in a reserved slot waits for an ordinary one.
const ADMISSION: Duration = Duration::from_secs(1);

/// The slots for connections, as one listener assigns them. Cheap to clone; clones share the slots.
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
    /// Number of connections that wait for an ordinary slot.
    waiting: AtomicUsize,
    counts: ConnectionCounts,
    displaced: Counter,
    shortage: OncePerMinute,
}

/// A connection that has a slot.
struct OpenConnection {
    /// `None` once HTTP has ended on it.
    wire: Option<TrackedStream>,
    /// Asks the connection to close in order.
    leave: CancellationToken,
    /// The time at which it was asked to close.
    asked_at: Option<Instant>,
}

impl OpenConnection {
    /// Returns the time since which it has been idle; `None` if it is busy or has been asked to close.
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

/// The reserved slots that a listener may assign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserve {
    None,
    Monitoring,
}

impl ConnectionLimit {
    /// Makes the limit that the options set, or a lower one if the limit of open files is too low. Assigns no reserved
    /// slots.
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

    /// Returns the same slots for a listener that serves health and metrics: if none is free, it assigns the reserved
    /// ones.
    #[must_use]
    pub fn with_reserved(&self) -> Self {
        Self {
            all: Arc::clone(&self.all),
            reserve: Reserve::Monitoring,
        }
    }

    /// Returns the numbers for `/health` and `/metrics`.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        self.all.counts.clone()
    }

    /// Waits for a free slot; dropping it frees it again.
    pub(crate) async fn take(&self) -> ConnectionSlot {
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

    /// Waits for an ordinary slot. Meanwhile idle connections are asked to close, one for each that waits.
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
                "all places for connections are taken: raise RUVVECTOR_CONNECTIONS, or find the clients that hold them"
            );
        }
    }

    /// Asks the longest idle connection to close, if it has been idle for more than five seconds and fewer connections
    /// are closing than wait.
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

/// Counts a connection as waiting for an ordinary slot until this is dropped.
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

/// The slot of one connection.
pub(crate) struct ConnectionSlot {
    all: Arc<SlotTable>,
    number: u64,
    kind: Mutex<SlotKind>,
}

enum SlotKind {
    Ordinary { _open: OpenSlot },
    Reserved { _permit: OwnedSemaphorePermit },
}

/// An ordinary slot, counted as an open connection until it is dropped.
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
    /// Registers the connection. The returned token is cancelled if the connection should close to make room for
    /// another.
    pub(crate) fn settle(&self, wire: &TrackedStream) -> CancellationToken {
        let leave = CancellationToken::new();
        let resident = OpenConnection {
            wire: Some(wire.clone()),
            leave: leave.clone(),
            asked_at: None,
        };
        self.all.lock().insert(self.number, resident);
        leave
    }

    /// Marks the connection as ended; returns `true` if it was asked to close to make room.
    pub(crate) fn leave(&self) -> bool {
        let mut open = self.all.lock();
        let resident = open.get_mut(&self.number);
        resident.is_some_and(|resident| {
            resident.wire = None;
            resident.asked_at.is_some()
        })
    }

    pub(crate) fn is_reserved(&self) -> bool {
        matches!(*self.kind(), SlotKind::Reserved { .. })
    }

    /// Exchanges a reserved slot for an ordinary one, for which it waits up to one second.
    ///
    /// # Errors
    /// [`NoFreeSlot`] if no ordinary slot becomes free.
    pub(crate) async fn exchange(&self) -> Result<(), NoFreeSlot> {
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

/// The error that all slots are in use. The middleware refuses a request that has it in its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoFreeSlot {
    /// The limit of connections.
    pub(crate) connections: usize,
}
