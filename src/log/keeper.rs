//! The background thread: gives stored segments up, makes spares and fills them.
//!
//! **Invariant:** nothing that it does makes an append wait for more than one small write.

use std::time::Duration;

use super::{Core, lock};

const TICK: Duration = Duration::from_secs(1);

/// What the keeper is told.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pub(super) wake: bool,
    pub(super) stop: bool,
}

/// Runs until it is told to stop.
pub(super) fn run(core: &Core) {
    loop {
        if !core.is_broken() {
            core.recycle();
            while core.fill() {}
        }
        let mut orders = lock(&core.orders);
        if !orders.wake && !orders.stop {
            orders = core
                .ordered
                .wait_timeout(orders, TICK)
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .0;
        }
        orders.wake = false;
        if orders.stop {
            return;
        }
    }
}
