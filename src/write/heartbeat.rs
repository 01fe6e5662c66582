//! Sends the heartbeats of the streams, beside the batches.
//!
//! **Invariant:** a batch waits for at most one heartbeat. If the store has a connection for heartbeats, no heartbeat
//! waits for a batch that hangs. No heartbeat marks a position stored.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::event::StreamId;
use crate::store::{StoreError, StreamHeartbeat};
use crate::write::WriteLoop;
use crate::write::copied_streams::Ownership;

const HEARTBEAT: Duration = Duration::from_secs(10);

/// Reports to the database, while it answers, the streams that this collector holds. Checks that no stored position is
/// lost, since a failover can lose some although no connection is seen to fail.
pub(super) async fn run_heartbeats(shared: &WriteLoop, over: &CancellationToken) {
    while pause(HEARTBEAT, over).await {
        if !shared.progress.answers() {
            continue;
        }
        match send_heartbeat(shared).await {
            Ok(true) => {}
            Ok(false) => shared.reconcile_requested.notify_one(),
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

/// Reports to the database the streams that are held and those that are released. Returns whether the database still
/// holds all positions that it has confirmed.
///
/// # Errors
/// Any [`StoreError`] of the store.
pub(super) async fn send_heartbeat(shared: &WriteLoop) -> Result<bool, StoreError> {
    let _turn = shared.heartbeat_permit().await;
    let held = shared.journal.streams();
    let oldest = shared.journal.status().oldest_unix_nano;
    let mut facts = Vec::with_capacity(held.len());
    let mut sound = true;
    let mut news = false;
    for stream in &held {
        let stored = shared.progress.stored_of(stream.id);
        let parts = shared.journal.parts(stream.id);
        let account = shared.store.stored_positions(stream.id).await?;
        let is_sound = stored
            .ranges()
            .iter()
            .all(|range| account.missing(range).is_empty());
        sound &= is_sound;
        if shared.copied_streams.is_contested(stream.id) {
            let silence = shared.options.silence;
            let (look, changed) = shared
                .copied_streams
                .check_ownership(&shared.store, stream, silence)
                .await?;
            news |= changed | shared.copied_streams.stored(stream.id, &account);
            shared.copied_streams.report(&shared.progress);
            if look == Ownership::Shared {
                continue;
            }
        }
        // Only a record in a segment can still be written; a gap waits for nothing.
        let waiting = parts
            .into_iter()
            .find(|part| !account.missing(&part.positions).is_empty());
        // The journal's oldest time covers the records that it counts as unstored. After a loss, more than those may be
        // missing.
        let known = oldest.filter(|_| is_sound);
        facts.push(StreamHeartbeat {
            stream: stream.id,
            appended: stream.last,
            oldest_unix_nano: waiting.map(|part| known.unwrap_or(part.first_received_unix_nano)),
            contested: false,
        });
    }
    if news {
        shared.reconcile_requested.notify_one();
    }
    let known = shared.progress.streams();
    let gone = |id: &StreamId| held.iter().all(|stream| stream.id != *id);
    let released: Vec<StreamId> = known.into_iter().filter(gone).collect();
    shared.store.heartbeat(&facts, &released).await?;
    for id in released {
        shared.progress.forget(id);
    }
    Ok(sound)
}
