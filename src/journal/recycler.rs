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
pub(super) fn run(core: &Shared) {
    let mut recycled = None;
    let mut noted = Instant::now();
    loop {
        let orders = std::mem::take(&mut *lock(&core.recycler_requests));
        if orders.stop {
            return;
        }
        let mut more = false;
        if !core.is_broken() {
            if orders.recycle || recycled.is_none_or(|at: Instant| at.elapsed() >= TICK) {
                core.recycle();
                recycled = Some(Instant::now());
            }
            if noted.elapsed() >= core.settings.sync_marker_after {
                core.note_positions();
                noted = Instant::now();
            }
            more = core.fill() | core.clear();
        }
        let idle =
            |orders: &mut RecyclerRequests| !(more || orders.recycle || orders.fill || orders.stop);
        // A wakeup and the end of a tick both lead to the next round.
        drop(
            core.recycler_wakeup
                .wait_timeout_while(lock(&core.recycler_requests), TICK, idle),
        );
    }
}
