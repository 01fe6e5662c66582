//! Heartbeats, beside the batches.
//!
//! **Invariant:** a batch waits for one heartbeat at most, a heartbeat for no batch that hangs if the store has a connection for
//! it, and no heartbeat marks anything stored.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::event::StreamId;
use crate::store::{StoreError, StreamHeartbeat};
use crate::write::WriteLoop;
use crate::write::copied_streams::Ownership;

const HEARTBEAT: Duration = Duration::from_secs(10);

/// Tells the database, while it answers, what this collector holds; and looks whether its account moved back, which a
/// failover can do without any connection being seen to fail.
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

/// Whether there is more to do after it.
pub(super) async fn pause(length: Duration, over: &CancellationToken) -> bool {
    let paused = over.run_until_cancelled(tokio::time::sleep(length)).await;
    paused.is_some()
}

/// Tells the database which streams are held and which are gone. Whether it still holds all that it said it stored.
///
/// # Errors
/// As the store's.
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
        // Only what a segment holds can still be brought: a gap waits for nothing.
        let waiting = parts
            .into_iter()
            .find(|part| !account.missing(&part.positions).is_empty());
        // The journal knows the time of what it takes for unstored, which may be less than what the account lacks.
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
