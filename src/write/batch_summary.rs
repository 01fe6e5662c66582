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
    pub(super) fn of(built: &PendingBatch) -> Self {
        Self {
            stream: built.batch.stream,
            positions: built.batch.positions.clone(),
            entries: built.entries,
            rows: built.batch.rows.len() as u64,
            records: built.records() as u64,
            dead: built.batch.dead_letters.iter().map(dead).collect(),
        }
    }

    pub(super) fn overlaps(&self, stream: StreamId, positions: &RangeInclusive<u64>) -> bool {
        self.stream == stream
            && self.positions.start() <= positions.end()
            && positions.start() <= self.positions.end()
    }

    pub(super) fn length(&self) -> u64 {
        self.positions.end() - self.positions.start()
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
pub(super) fn count(tally: &BatchSummary, waited: u64) {
    let dead = tally.dead_events();
    counter!(names::WRITE_EVENTS_TOTAL).increment(waited.saturating_sub(dead));
    for &(reason, events) in &tally.dead {
        counter!(names::DEAD_LETTERS_TOTAL, "reason" => reason.as_str()).increment(events);
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "batches are far below 2^52 rows"
    )]
    histogram!(names::WRITE_BATCH_EVENTS).record(tally.rows as f64);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    gauge!(names::WRITE_LAST_SUCCESS_TIMESTAMP_SECONDS).set(now.as_secs_f64());
    if !tally.dead.is_empty() {
        let (first, last) = (*tally.positions.start(), *tally.positions.end());
        tracing::error!(stream = %tally.stream, first, last, events = dead,
            "events went to telemetry_dead_letters; their reason and payload stand there");
    }
}
