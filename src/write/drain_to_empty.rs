//! Empties a journal that nobody appends to any more: all of it into the store, then it goes.
//!
//! **Invariant:** nothing is removed before all is stored and the account, read once more, says so.

use std::time::Duration;

use futures_util::future::join;
use tokio_util::sync::CancellationToken;

use crate::journal::Journal;
use crate::store::{Store, StoreError};
use crate::write::backoff::Backoff;
use crate::write::{Options, Progress, RunUntil, WriteLoop, heartbeat, run_loop};

/// Why something of the journal is left.
#[derive(Debug)]
pub enum Unfinished {
    /// It was told to stop.
    Stopped,
    /// [`StoreError::Schema`]: waiting does not help.
    Schema(StoreError),
    /// Another collector lives on a stream of which something cannot be read here; a sentence.
    Shared(String),
}

/// Drains the journal into the store until nothing of it is left, removes it, and marks its streams released. Tries for ever,
/// and says so in `progress`; once `stop` is cancelled it begins nothing more, and what is being committed has `grace` to end.
///
/// May be dropped at any time, and done again.
///
/// # Errors
/// When something may be left, with the reason.
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
        // Without the database nothing is being committed.
        if shared.progress.connected() {
            // The semaphore is fair: nothing takes a turn before this has them all.
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
        // A failover between the last commit and here may have taken some of them back.
        if report_streams(shared).await? {
            break;
        }
    }
    let journal = shared.journal.clone();
    // Fails only when the runtime ends.
    let _ = tokio::task::spawn_blocking(move || journal.recycle_all_stored()).await;
    report_streams(shared).await.map(drop)
}

/// Tells the database what is still held, until it has heard; whether its account holds all that was stored.
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
