//! Sends the heartbeats of the streams, beside the batches.
//!
//! **Invariant:** a batch waits for at most one heartbeat. If the store has a connection for heartbeats, no heartbeat
//! waits for a batch that hangs. No heartbeat marks a position stored.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::event::StreamId;
use crate::store::{StoreError, StreamHeartbeat};
use crate::write::backoff::Backoff;
use crate::write::copied_streams::Ownership;
use crate::write::{Unfinished, WriteLoop};

const HEARTBEAT: Duration = Duration::from_secs(10);

/// The findings of a heartbeat that the database has accepted.
pub(super) struct Heartbeat {
    /// The database still holds all positions that it has confirmed.
    pub(super) stored_positions_intact: bool,
}

/// Reports to the database, while it answers, the streams that this collector holds. Checks that no stored position is
/// lost, since a failover can lose some although no connection is seen to fail.
pub(super) async fn run_heartbeats(shared: &WriteLoop, over: &CancellationToken) {
    while pause(HEARTBEAT, over).await {
        if !shared.problems.database_answers() {
            continue;
        }
        match send_heartbeat(shared).await {
            Ok(heartbeat) if heartbeat.stored_positions_intact => {}
            Ok(_) => shared.reconcile_requested.notify_one(),
            Err(error) => {
                tracing::debug!(%error, "the heartbeat failed");
                shared.reconcile_requested.notify_one();
            }
        }
    }
}

/// Waits. Returns false if `over` was cancelled first.
pub(super) async fn pause(length: Duration, over: &CancellationToken) -> bool {
    let paused = over.run_until_cancelled(tokio::time::sleep(length)).await;
    paused.is_some()
}

/// Sends heartbeats until the database has accepted one.
///
/// # Errors
/// [`Unfinished::Schema`].
pub(super) async fn send_until_accepted(shared: &WriteLoop) -> Result<Heartbeat, Unfinished> {
    let options = &shared.options;
    let mut backoff = Backoff::default();
    loop {
        let sent = async {
            shared.store.prepare().await?;
            send_heartbeat(shared).await
        };
        match sent.await {
            Ok(heartbeat) => return Ok(heartbeat),
            Err(error @ StoreError::Schema(_)) => return Err(Unfinished::Schema(error)),
            Err(error) => tracing::warn!(
                "all is written; the database has not heard yet what is held and what is gone: {error}"
            ),
        }
        tokio::time::sleep(backoff.pause(options.retry_min, options.retry_max)).await;
    }
}

/// Reports to the database the streams that are held and those that are released.
///
/// # Errors
/// Any [`StoreError`] of the store.
pub(super) async fn send_heartbeat(shared: &WriteLoop) -> Result<Heartbeat, StoreError> {
    // Otherwise the store keeps a connection beside those of the batches, which may hang.
    let _permit = if shared.store.spares_a_connection() {
        None
    } else {
        Some(shared.write_permit().await)
    };
    let held = shared.journal.streams();
    let oldest = shared.journal.status().oldest_unix_nano;
    let copied_streams = &shared.copied_streams;
    let mut facts = Vec::with_capacity(held.len());
    let mut stored_positions_intact = true;
    let mut ownership_changed = false;
    for stream in &held {
        let confirmed = shared.progress.stored_of(stream.id);
        let parts = shared.journal.parts(stream.id);
        let stored = shared.store.stored_positions(stream.id).await?;
        let mut confirmed = confirmed.ranges().iter();
        let is_intact = confirmed.all(|range| stored.missing(range).is_empty());
        stored_positions_intact &= is_intact;
        let before = copied_streams.ownership(stream.id);
        if before != Ownership::Exclusive {
            let silence = shared.options.silence;
            let ownership = copied_streams
                .check_ownership(&shared.store, stream, silence)
                .await?;
            ownership_changed |= ownership != before;
            ownership_changed |= copied_streams.remove_stored(stream.id, &stored);
            copied_streams.report(&shared.problems);
            if ownership != Ownership::Exclusive {
                continue;
            }
        }
        // Only a record in a segment can still be written; a gap waits for nothing.
        let waiting = parts
            .into_iter()
            .find(|part| !stored.missing(&part.positions).is_empty());
        // The journal's oldest time covers the records that it counts as unstored. After a loss, more than those may be
        // missing.
        let known = oldest.filter(|_| is_intact);
        facts.push(StreamHeartbeat {
            stream: stream.id,
            appended: stream.last,
            oldest_unix_nano: waiting.map(|part| known.unwrap_or(part.first_received_unix_nano)),
            contested: false,
        });
    }
    if ownership_changed {
        shared.reconcile_requested.notify_one();
    }
    let known = shared.progress.streams();
    let gone = |id: &StreamId| held.iter().all(|stream| stream.id != *id);
    let released: Vec<StreamId> = known.into_iter().filter(gone).collect();
    shared.store.heartbeat(&facts, &released).await?;
    for id in released {
        shared.progress.forget(id);
    }
    Ok(Heartbeat {
        stored_positions_intact,
    })
}
