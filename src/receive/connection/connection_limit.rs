//! The limit on connections of the process, on all listeners together.
//!
//! **Invariant:** while all slots are in use, reserved ones serve health and metrics alone, and an idle connection
//! never keeps out one that has a request.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// A clone for each connection that waits for an ordinary slot.
    waiting: Arc<()>,
    counts: ConnectionCounts,
    shortage: OncePerMinute,
}

/// A connection that has a slot.
struct OpenConnection {
    /// `None` once HTTP has ended on it.
    stream: Option<TrackedStream>,
    /// Asks the connection to close in order.
    leave: CancellationToken,
    /// The time at which it was asked to close.
    asked_at: Option<Instant>,
}

impl OpenConnection {
    /// Returns the time since which it has been idle; `None` if it is busy or has been asked to close.
    fn rests_since(&self) -> Option<Instant> {
        match (&self.stream, self.asked_at) {
            (Some(stream), None) => stream.rests_since(),
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
        let ordinary = Arc::new(Semaphore::new(connections));
        let all = SlotTable {
            counts: ConnectionCounts::new(connections, Arc::clone(&ordinary)),
            ordinary,
            reserved: Arc::new(Semaphore::new(RESERVED)),
            open: Mutex::default(),
            numbers: AtomicU64::new(0),
            waiting: Arc::default(),
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
        let permit = match self.all.try_ordinary() {
            Some(permit) => permit,
            None => tokio::select! {
                biased;
                permit = acquire(&self.all.reserved), if self.reserve == Reserve::Monitoring => permit,
                permit = self.all.ordinary() => permit,
            },
        };
        ConnectionSlot {
            all: Arc::clone(&self.all),
            number: self.all.numbers.fetch_add(1, Ordering::Relaxed),
            permit: Mutex::new(permit),
        }
    }
}

impl SlotTable {
    fn try_ordinary(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.ordinary).try_acquire_owned().ok();
        if permit.is_none() {
            self.found_none_free();
        }
        permit
    }

    /// Waits for an ordinary slot. Meanwhile idle connections are asked to close, one for each that waits.
    async fn ordinary(&self) -> OwnedSemaphorePermit {
        let _waiting = Arc::clone(&self.waiting);
        let mut permit = std::pin::pin!(acquire(&self.ordinary));
        loop {
            self.make_room();
            tokio::select! {
                biased;
                permit = permit.as_mut() => return permit,
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
        let ending = open.values().filter(|connection| connection.is_ending());
        let waiting = Arc::strong_count(&self.waiting) - 1;
        if ending.count() >= waiting {
            return;
        }
        let longest = open
            .values_mut()
            .filter_map(|connection| Some((connection.rests_since()?, connection)))
            .min_by_key(|(since, _)| *since)
            .filter(|(since, _)| since.elapsed() > RESTED);
        if let Some((_, connection)) = longest {
            connection.asked_at = Some(Instant::now());
            connection.leave.cancel();
            metrics::counter!(RECEIVE_CONNECTIONS_DISPLACED_TOTAL).increment(1);
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

/// The slot of one connection.
pub(crate) struct ConnectionSlot {
    all: Arc<SlotTable>,
    number: u64,
    /// The permit of an ordinary or of a reserved slot.
    permit: Mutex<OwnedSemaphorePermit>,
}

impl ConnectionSlot {
    /// Registers the connection. The returned token is cancelled if the connection should close to make room for
    /// another.
    pub(crate) fn register(&self, stream: &TrackedStream) -> CancellationToken {
        let leave = CancellationToken::new();
        let connection = OpenConnection {
            stream: Some(stream.clone()),
            leave: leave.clone(),
            asked_at: None,
        };
        self.all.lock().insert(self.number, connection);
        leave
    }

    /// Marks the connection as ended; returns `true` if it was asked to close to make room.
    pub(crate) fn leave(&self) -> bool {
        let mut open = self.all.lock();
        let connection = open.get_mut(&self.number);
        connection.is_some_and(|connection| {
            connection.stream = None;
            connection.asked_at.is_some()
        })
    }

    pub(crate) fn is_reserved(&self) -> bool {
        Arc::ptr_eq(self.permit().semaphore(), &self.all.reserved)
    }

    /// Exchanges a reserved slot for an ordinary one, for which it waits up to one second.
    ///
    /// # Errors
    /// [`NoFreeSlot`] if no ordinary slot becomes free.
    pub(crate) async fn exchange(&self) -> Result<(), NoFreeSlot> {
        if !self.is_reserved() {
            return Ok(());
        }
        let permit = match self.all.try_ordinary() {
            Some(permit) => permit,
            None => {
                let waiting = timeout(ADMISSION, self.all.ordinary()).await;
                waiting.map_err(|_| NoFreeSlot {
                    connections: self.all.counts.max(),
                })?
            }
        };
        *self.permit() = permit;
        Ok(())
    }

    fn permit(&self) -> MutexGuard<'_, OwnedSemaphorePermit> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
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
