//! The log to the store: reads what is synced and not stored, decodes it again, writes it in batches.
//!
//! **Invariant:** what is marked stored in the log has been committed, with its positions, in the database's account.

use std::sync::Arc;
use std::time::Duration;

use crate::log::Log;
use crate::store::Store;

/// Settings of the writer.
#[derive(Clone, Debug)]
pub struct Options {
    pub batch_rows: usize,
    pub batch_bytes: usize,
    /// The longest that a batch waits for more while more keeps coming; an idle writer commits at once.
    pub batch_wait: Duration,
    pub retry_min: Duration,
    pub retry_max: Duration,
    pub maintenance_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch_rows: 10_000,
            batch_bytes: 8 << 20,
            batch_wait: Duration::from_millis(200),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(30),
            maintenance_interval: Duration::from_secs(30),
        }
    }
}

/// What the writer knows, for `/health`, for `?wait=stored` and for `Retry-After`. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress {
    shared: Arc<()>,
}

impl Progress {
    /// Waits until the batch that holds `position` has been committed.
    pub async fn stored(&self, position: crate::log::Position) {
        let _ = (position, &self.shared);
        todo!()
    }

    /// What stands in the writer's way now, for `/health`: sentences that say what to do. Empty when nothing does.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        todo!()
    }

    /// Whether the last contact with the database went well.
    #[must_use]
    pub fn connected(&self) -> bool {
        todo!()
    }

    /// Events a second that were committed lately; 0 when none were.
    #[must_use]
    pub fn drain_rate(&self) -> f64 {
        todo!()
    }
}

/// Drains the log into the store until `stop` is cancelled and then, while `grace` lasts, what is left. Never fails:
/// it tries again, for ever, and says so in `progress`.
pub async fn run(
    log: Log,
    store: Store,
    options: Options,
    progress: Progress,
    stop: tokio_util::sync::CancellationToken,
    grace: Duration,
) {
    let _ = (log, store, options, progress, stop, grace);
    todo!()
}
