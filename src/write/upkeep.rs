//! Heartbeats and maintenance, beside the batches.
//!
//! A round that has begun when the work is over goes on to its end, so that no transaction is left open.
//!
//! **Invariant:** a batch waits for one heartbeat at most and never for a round of maintenance, and neither marks anything
//! stored.

use std::time::{Duration, Instant};

use metrics::gauge;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::others::Look;
use super::progress::Concern;
use crate::log::StreamId;
use crate::observe::metrics as names;
use crate::store::{Maintained, StoreError, StreamFacts};

const HEARTBEAT: Duration = Duration::from_secs(10);

/// How often it is looked whether the database is there at last.
const UNTIL_CONNECTED: Duration = Duration::from_millis(500);

/// Tells the database, while it is there, what this collector holds; and looks whether its account moved back, which a
/// failover can do without any connection being seen to fail.
pub(super) async fn heartbeats(shared: &Shared, over: &CancellationToken) {
    while pause(HEARTBEAT, over).await {
        if !shared.progress.connected() {
            continue;
        }
        match beat(shared).await {
            Ok(true) => {}
            Ok(false) => shared.look_again.notify_one(),
            Err(error) => {
                tracing::debug!(%error, "the heartbeat failed");
                shared.look_again.notify_one();
            }
        }
    }
}

/// Whether there is more to do after it.
async fn pause(length: Duration, over: &CancellationToken) -> bool {
    let paused = over.run_until_cancelled(tokio::time::sleep(length)).await;
    paused.is_some()
}

/// Tells the database which streams are held and which are gone. Whether it still holds all that it said it stored.
///
/// # Errors
/// As the store's.
pub(super) async fn beat(shared: &Shared) -> Result<bool, StoreError> {
    let _turn = shared.turn().await;
    let held = shared.log.streams();
    let oldest = shared.log.status().oldest_unix_nano;
    let mut facts = Vec::with_capacity(held.len());
    let mut sound = true;
    let mut news = false;
    for stream in &held {
        let stored = shared.progress.stored_of(stream.id);
        let parts = shared.log.parts(stream.id);
        let account = shared.store.account(stream.id).await?;
        let is_sound = stored
            .ranges()
            .iter()
            .all(|range| account.missing(range).is_empty());
        sound &= is_sound;
        if shared.others.is_shared(stream.id) {
            let silence = shared.options.silence;
            let (look, changed) = shared.others.look(&shared.store, stream, silence).await?;
            news |= changed | shared.others.stored(stream.id, &account);
            shared.others.tell(&shared.progress);
            if look == Look::Shared {
                continue;
            }
        }
        // Only what a segment holds can still be brought: a gap waits for nothing.
        let waiting = parts
            .into_iter()
            .find(|part| !account.missing(&part.positions).is_empty());
        // The log knows the time of what it takes for unstored, which may be less than what the account lacks.
        let known = oldest.filter(|_| is_sound);
        facts.push(StreamFacts {
            stream: stream.id,
            appended: stream.last,
            oldest_unix_nano: waiting.map(|part| known.unwrap_or(part.first_received_unix_nano)),
            shared: false,
        });
    }
    if news {
        shared.look_again.notify_one();
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

/// Rounds of the store's own maintenance, while the last contact went well: none in a schema that is not known.
pub(super) async fn maintenance(shared: &Shared, over: &CancellationToken) {
    while !shared.progress.connected() {
        if !pause(UNTIL_CONNECTED, over).await {
            return;
        }
    }
    loop {
        if shared.progress.connected() {
            let oldest = shared.log.status().oldest_unix_nano;
            let began = Instant::now();
            match shared.store.maintain(oldest).await {
                Ok(maintained) => {
                    shared.progress.solved(Concern::Maintenance);
                    show(shared, &maintained);
                }
                // The database is away, or its schema is newer: the writer finds out, and says so.
                Err(
                    StoreError::Retry {
                        class: "connection",
                        ..
                    }
                    | StoreError::Schema(_),
                ) => shared.look_again.notify_one(),
                Err(error) => {
                    let text = format!("the database's maintenance fails: {error}");
                    tracing::warn!("{text}");
                    shared
                        .progress
                        .problem_since(Concern::Maintenance, text, began);
                }
            }
        }
        if !pause(shared.options.maintenance_interval, over).await {
            return;
        }
    }
}

fn show(shared: &Shared, maintained: &Maintained) {
    if let Some(days) = maintained.partitions_ahead_days {
        gauge!(names::PARTITIONS_AHEAD_DAYS).set(f64::from(days));
    }
    gauge!(names::RETENTION_OVERDUE_DAYS).set(f64::from(maintained.retention_overdue_days));
    let undrained = u32::try_from(maintained.undrained_streams).unwrap_or(u32::MAX);
    gauge!(names::STREAMS_UNDRAINED).set(f64::from(undrained));
    shared.progress.notice(maintained.import_v0_pending.then_some(
        "telemetry_events_v0 holds events of the original service; run the command `migrate --import-v0`",
    ));
}
