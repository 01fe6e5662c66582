//! Drains a journal that accepts no more requests into the store, and then removes its records.
//!
//! **Invariant:** nothing is removed before every position is stored and the stored positions, read once more, confirm
//! it.

use std::time::Duration;

use futures_util::future::join;
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::store::{Store, StoreError};
use crate::write::backoff::Backoff;
use crate::write::{Options, Progress, RunUntil, WriteLoop, heartbeat, run_loop};

/// The reason why a part of the journal is left.
#[derive(Debug)]
pub enum Unfinished {
    /// The caller cancelled `stop`.
    Stopped,
    /// [`StoreError::Schema`]: waiting does not help.
    Schema(StoreError),
    /// Another collector uses a stream with positions that cannot be read here. Holds a sentence.
    Shared(String),
}

/// Drains the journal into the store until it is empty, recycles its segments, and marks its streams released. Tries
/// again without limit and reports each problem in `progress`. Once `stop` is cancelled, it begins nothing more, and
/// batches that are being committed have `grace` to end.
///
/// The future may be dropped at any time, and the call repeated.
///
/// # Errors
/// [`Unfinished`] with the reason, if something may be left.
pub async fn drain_to_empty(
    journal: Journal,
    store: Store,
    options: Options,
    progress: Progress,
    stop: CancellationToken,
    grace: Duration,
) -> Result<(), Unfinished> {
    let shared = WriteLoop::new(journal, store, options, progress, stop, RunUntil::Empty);
    let stopped = async {
        shared.stop.cancelled().await;
        // Without the database, no commit is in flight.
        if shared.progress.connected() {
            // The semaphore is fair: no other task gets a permit before this one has them all.
            let _ = tokio::time::timeout(grace, shared.all_write_permits()).await;
        }
    };
    let over = CancellationToken::new();
    let emptied = async {
        let _over = over.clone().drop_guard();
        drain_and_release(&shared).await
    };
    tokio::select! {
        (done, ()) = join(emptied, heartbeat::run_heartbeats(&shared, &over)) => done,
        () = stopped => Err(Unfinished::Stopped),
    }
}

async fn drain_and_release(shared: &WriteLoop) -> Result<(), Unfinished> {
    loop {
        run_loop(shared).await?;
        // A failover since the last commit may have lost stored positions.
        if report_streams(shared).await? {
            break;
        }
    }
    let journal = shared.journal.clone();
    // It fails only if the runtime shuts down.
    let _ = tokio::task::spawn_blocking(move || journal.recycle_all_stored()).await;
    report_streams(shared).await.map(drop)
}

/// Sends heartbeats until the database has accepted one. Returns whether the database still holds all stored positions.
async fn report_streams(shared: &WriteLoop) -> Result<bool, Unfinished> {
    let mut backoff = Backoff::default();
    let mut told = heartbeat::send_heartbeat(shared).await;
    loop {
        let error = match told {
            Ok(sound) => return Ok(sound),
            Err(error @ StoreError::Schema(_)) => return Err(Unfinished::Schema(error)),
            Err(error) => error,
        };
        tracing::warn!(
            "all is written; the database has not heard yet what is held and what is gone: {error}"
        );
        let options = &shared.options;
        tokio::time::sleep(backoff.pause(options.retry_min, options.retry_max)).await;
        told = match shared.store.prepare().await {
            Ok(()) => heartbeat::send_heartbeat(shared).await,
            Err(error) => Err(error),
        };
    }
}
