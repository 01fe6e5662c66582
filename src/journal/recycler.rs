//! The recycler thread: recycles stored segments, makes spares and fills them, and writes the file `positions`.
//!
//! **Invariant:** none of its work delays an append by more than one small write.

use std::time::{Duration, Instant};

use crate::journal::{Shared, lock};

const TICK: Duration = Duration::from_secs(1);

/// Requests of other threads to the recycler thread.
#[derive(Debug, Default)]
pub(super) struct RecyclerRequests {
    /// A segment was begun or ended.
    pub(super) recycle: bool,
    /// More was appended, so that more of a spare may be filled.
    pub(super) fill: bool,
    pub(super) stop: bool,
}

/// Runs until [`RecyclerRequests::stop`] is set.
pub(super) fn run(shared: &Shared) {
    let mut recycled = None;
    let mut noted = Instant::now();
    loop {
        let requests = std::mem::take(&mut *lock(&shared.recycler_requests));
        if requests.stop {
            return;
        }
        let mut more = false;
        if !shared.is_broken() {
            if requests.recycle || recycled.is_none_or(|at: Instant| at.elapsed() >= TICK) {
                shared.recycle();
                recycled = Some(Instant::now());
            }
            if noted.elapsed() >= shared.settings.sync_marker_after {
                shared.note_positions();
                noted = Instant::now();
            }
            more = shared.fill() | shared.clear();
        }
        let idle = |requests: &mut RecyclerRequests| {
            !(more || requests.recycle || requests.fill || requests.stop)
        };
        // A wakeup and the end of a tick both lead to the next round.
        let requests = lock(&shared.recycler_requests);
        drop(
            shared
                .recycler_wakeup
                .wait_timeout_while(requests, TICK, idle),
        );
    }
}
