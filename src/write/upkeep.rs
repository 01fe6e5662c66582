//! Heartbeats and maintenance, beside the batches.
//!
//! **Invariant:** a batch waits for one heartbeat at most and never for a round of maintenance, and neither marks anything
//! stored.

use std::convert::Infallible;
use std::time::Duration;

use metrics::gauge;

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
pub(super) async fn heartbeats(shared: &Shared) -> Infallible {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
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
        let account = shared.store.account(stream.id).await?;
        sound &= stored
            .ranges()
            .iter()
            .all(|range| account.missing(range).is_empty());
        if shared.others.is_shared(stream.id) {
            let silence = shared.options.silence;
            let (look, changed) = shared.others.look(&shared.store, stream, silence).await?;
            news |= changed | shared.others.stored(stream.id, &account);
            shared.others.tell(&shared.progress);
            if look == Look::Shared {
                continue;
            }
        }
        let drained = stream.last == 0
            || account
                .missing(&(stream.first.max(1)..=stream.last))
                .is_empty();
        facts.push(StreamFacts {
            stream: stream.id,
            appended: stream.last,
            oldest_unix_nano: oldest.filter(|_| !drained),
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
pub(super) async fn maintenance(shared: &Shared) -> Infallible {
    while !shared.progress.connected() {
        tokio::time::sleep(UNTIL_CONNECTED).await;
    }
    loop {
        if shared.progress.connected() {
            let oldest = shared.log.status().oldest_unix_nano;
            match shared.store.maintain(oldest).await {
                Ok(maintained) => {
                    shared.progress.solved(Concern::Maintenance);
                    show(shared, &maintained);
                }
                // The database is away: the writer finds out, and says so.
                Err(StoreError::Retry {
                    class: "connection",
                    ..
                }) => shared.look_again.notify_one(),
                Err(error) => {
                    let text = format!("the database's maintenance fails: {error}");
                    tracing::warn!("{text}");
                    shared.progress.problem(Concern::Maintenance, text);
                }
            }
        }
        tokio::time::sleep(shared.options.maintenance_interval).await;
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
