//! The facts of a batch that are counted once it is stored.
//!
//! **Invariant:** every event that is counted for a batch was waiting in the journal and is in the database now.

use std::ops::RangeInclusive;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge, histogram};

use crate::event::StreamId;
use crate::store::{DeadLetter, DeadLetterReason};
use crate::telemetry::metrics as names;
use crate::write::batch::PendingBatch;

/// The facts of a batch that are counted once it is stored.
pub(super) struct BatchSummary {
    pub(super) stream: StreamId,
    pub(super) positions: RangeInclusive<u64>,
    /// Number of records, holes and damaged records.
    pub(super) entries: usize,
    pub(super) rows: u64,
    pub(super) records: u64,
    /// Reason and events of each dead letter.
    pub(super) dead: Vec<(DeadLetterReason, u64)>,
}

impl BatchSummary {
    pub(super) fn of(pending: &PendingBatch) -> Self {
        Self {
            stream: pending.batch.stream,
            positions: pending.batch.positions.clone(),
            entries: pending.entries,
            rows: pending.batch.rows.len() as u64,
            records: pending.records.len() as u64,
            dead: pending.batch.dead_letters.iter().map(dead).collect(),
        }
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.stream == other.stream
            && self.positions.start() <= other.positions.end()
            && other.positions.start() <= self.positions.end()
    }

    pub(super) fn dead_events(&self) -> u64 {
        self.dead.iter().map(|(_, events)| events).sum()
    }
}

/// Returns a dead letter's reason and events.
pub(super) fn dead(letter: &DeadLetter) -> (DeadLetterReason, u64) {
    (letter.reason, u64::from(letter.events))
}

/// Counts the events that waited in the journal and that the database has now, as rows or as dead letters. `waited` is
/// the journal's own sum, so the counters balance whichever process stored them.
pub(super) fn count(batch: &BatchSummary, waited: u64) {
    let dead = batch.dead_events();
    counter!(names::WRITE_EVENTS_TOTAL).increment(waited.saturating_sub(dead));
    for &(reason, events) in &batch.dead {
        counter!(names::DEAD_LETTERS_TOTAL, "reason" => reason.as_str()).increment(events);
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "batches are far below 2^52 rows"
    )]
    histogram!(names::WRITE_BATCH_EVENTS).record(batch.rows as f64);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    gauge!(names::WRITE_LAST_SUCCESS_TIMESTAMP_SECONDS).set(now.as_secs_f64());
    if !batch.dead.is_empty() {
        let (first, last) = (*batch.positions.start(), *batch.positions.end());
        tracing::error!(stream = %batch.stream, first, last, events = dead,
            "events went to telemetry_dead_letters; their reason and payload stand there");
    }
}
