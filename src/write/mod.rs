//! The log to the store: reads what is synced and not stored, decodes it again, writes it in batches.
//!
//! While one batch is committed the next is decoded; no more than two are in memory. After any failure the database's
//! account is read again and the batches are built again from the log, so nothing has to be remembered across failures.
//!
//! **Invariant:** what is marked stored in the log has been committed, with its positions, in the database's account.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use crate::log::Log;
use crate::store::Store;

/// Entries of the log to one batch.
mod batch;

/// One batch to the database, and what each refusal means.
mod commit;

/// What the database holds: read at first contact and after every failure.
mod contact;

/// What the writer knows.
mod progress;

/// Waiting between attempts.
mod retry;

/// What is to be written next.
mod source;

/// Heartbeats and maintenance.
mod upkeep;

pub use progress::Progress;

/// Settings of the writer.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows and bytes that a batch holds at most; a larger record is a batch alone.
    pub batch_rows: usize,
    pub batch_bytes: usize,
    /// The longest that a batch waits for more while more keeps coming; an idle writer commits at once.
    pub batch_wait: Duration,
    /// The pause after a failure doubles from the one to the other, with full jitter.
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

/// What the writer's parts have in common.
#[derive(Clone)]
struct Shared {
    log: Log,
    store: Store,
    options: Arc<Options>,
    progress: Progress,
    stop: CancellationToken,
    /// Says that the account is to be read again.
    look_again: Arc<Notify>,
    /// A heartbeat waits for its turn while a batch is written: there is one connection.
    turn: Arc<Mutex<()>>,
}

impl Shared {
    fn is_to_look_again(&self) -> bool {
        self.look_again.notified().now_or_never().is_some()
    }
}

/// Drains the log into the store until `stop` is cancelled and then, while `grace` lasts, what is left. Never fails:
/// it tries again, for ever, and says so in `progress`.
///
/// May be dropped at any time: a batch that is then being committed is in the account or it is not, and whoever opens the
/// log next reads which.
pub async fn run(
    log: Log,
    store: Store,
    options: Options,
    progress: Progress,
    stop: CancellationToken,
    grace: Duration,
) {
    let shared = Shared {
        log,
        store,
        options: Arc::new(options),
        progress,
        stop: stop.clone(),
        look_again: Arc::default(),
        turn: Arc::default(),
    };
    let grace_is_over = async {
        stop.cancelled().await;
        if shared.log.status().queue_events > 0 {
            tokio::time::sleep(grace).await;
        }
    };
    tokio::select! {
        () = drain(&shared) => {}
        () = upkeep::heartbeats(&shared) => {}
        () = upkeep::maintenance(&shared) => {}
        () = grace_is_over => {}
    }
}

/// The whole way of the writer. Returns when it is to stop and nothing is left.
async fn drain(shared: &Shared) {
    let mut writer = commit::Writer::new(shared.clone());
    loop {
        let mut source = contact::contact(&mut writer).await;
        let mut batch = None;
        loop {
            let idle = CancellationToken::new();
            let committed = writer.commit(batch.take(), &idle);
            let next = async { Ok(source.next(&idle).await) };
            match tokio::try_join!(committed, next) {
                Ok(((), Some(_))) if shared.is_to_look_again() => break,
                Ok(((), Some(next))) => batch = Some(next),
                Ok(((), None)) if shared.stop.is_cancelled() => return,
                Ok(((), None)) => break,
                Err(failure) => {
                    writer.after(failure).await;
                    break;
                }
            }
        }
    }
}
