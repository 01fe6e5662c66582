//! Commits one batch and classifies each refusal of the database.
//!
//! **Invariant:** a row becomes a dead letter only after the database has accepted a good row of the same batch or the
//! probe row.

use std::time::{Duration, Instant};

use crate::event::{Resource, StreamId};
use crate::store::{FailureClass, StoreError, StreamHeartbeat};
use crate::telemetry::own_traces::{SpanError, links, spans, traced};
use crate::write::batch::PendingBatch;
use crate::write::batch_reader::NextWrite;
use crate::write::batch_summary::BatchSummary;
use crate::write::{WriteLoop, large_record};

/// Refused rows of one batch after which smaller batches are tried, since each refusal costs a whole attempt.
pub(super) const REFUSALS_A_BATCH: usize = 64;

/// The reason why a batch is not stored.
#[derive(Debug)]
pub(super) enum Failure {
    Store(StoreError),
    /// The database refuses a part of the batch and does not report which. Smaller batches isolate it.
    Smaller,
}

impl SpanError for Failure {
    fn error_type(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.error_type(),
            Self::Smaller => Some("refused"),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A batch after the attempt to commit it.
pub(super) struct CommitResult {
    pub(super) summary: BatchSummary,
    /// The time before the first statement.
    pub(super) began: Instant,
    /// The time from the first statement to the commit.
    pub(super) outcome: Result<Duration, Failure>,
}

/// Writes the next unit of the reader.
pub(super) async fn write(shared: &WriteLoop, next: NextWrite) -> CommitResult {
    match next {
        NextWrite::Batch(pending) | NextWrite::Alone(pending) => {
            Box::pin(write_batch(shared, pending)).await
        }
        NextWrite::Large(record) => Box::pin(large_record::write(shared, record)).await,
    }
}

/// Commits a batch without the rows that the database refuses.
async fn write_batch(shared: &WriteLoop, mut pending: PendingBatch) -> CommitResult {
    let _permit = shared.write_permit().await;
    let began = Instant::now();
    let span = spans::batch(
        pending.request_tags(),
        pending.entries,
        pending.batch.rows.len(),
    );
    let written = traced(span, attempts(shared, &mut pending)).await;
    if written.is_ok() {
        links::forget(pending.request_tags());
    }
    let ended = CommitResult {
        summary: BatchSummary::of(&pending),
        began,
        outcome: written.map(|()| began.elapsed()),
    };
    shared.row_buffers.give_back(pending.batch.rows);
    ended
}

async fn attempts(shared: &WriteLoop, pending: &mut PendingBatch) -> Result<(), Failure> {
    let facts = facts(shared, pending.batch.stream, *pending.batch.positions.end());
    let resources: Vec<&Resource> = pending.resources.values().collect();
    shared.store.write_resources(facts, &resources).await?;
    let mut refusals = 0;
    let mut takes_good_rows = false;
    loop {
        match shared.store.write(&pending.batch).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Refused {
                sqlstate,
                row,
                message,
                detail,
            }) => {
                // A constraint that refuses every row may be dropped between an attempt and the probe. Therefore a row
                // is at fault only if it is refused after a good row was accepted.
                if !takes_good_rows {
                    probe(shared, &message).await?;
                    takes_good_rows = true;
                    continue;
                }
                refusals += 1;
                if refusals > REFUSALS_A_BATCH && pending.entries > 1 {
                    return Err(Failure::Smaller);
                }
                let letter = with_detail(&message, detail);
                let row = row.filter(|&row| row < pending.batch.rows.len());
                match row {
                    Some(row) => pending.refuse_row(row, sqlstate, letter),
                    None if pending.entries > 1 => return Err(Failure::Smaller),
                    None if pending.batch.rows.is_empty() => {
                        return Err(wrong_setting(&message).into());
                    }
                    None => pending.refuse_record(sqlstate, letter),
                }
                // This many refusals indicate a wrong setting long before the last row is refused.
                let suspicious = refusals == REFUSALS_A_BATCH;
                if suspicious || pending.batch.rows.is_empty() {
                    probe(shared, &message).await?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns a dead letter's message.
pub(super) fn with_detail(message: &str, detail: Option<String>) -> String {
    detail.map_or_else(
        || message.to_owned(),
        |detail| format!("{message}: {detail}"),
    )
}

/// Checks, after a refusal, that the database accepts a good row.
pub(super) async fn probe(shared: &WriteLoop, refusal: &str) -> Result<(), StoreError> {
    match shared.store.probe().await {
        Err(StoreError::Refused { message, .. }) => Err(wrong_setting(&message)),
        Err(error) => Err(error),
        Ok(()) => {
            tracing::warn!(
                refusal,
                "the database refuses rows of a batch, and takes a good one"
            );
            Ok(())
        }
    }
}

/// Returns the facts about a stream that the database stores before a batch that ends at this position.
pub(super) fn facts(shared: &WriteLoop, stream: StreamId, appended: u64) -> StreamHeartbeat {
    StreamHeartbeat {
        stream,
        appended,
        oldest_unix_nano: shared.journal.status().oldest_unix_nano,
        contested: shared.copied_streams.is_contested(stream),
    }
}

pub(super) fn wrong_setting(message: &str) -> StoreError {
    let message = format!(
        "the database refuses even a harmless row: {message}; look for constraints and triggers on telemetry_events"
    );
    StoreError::retry(FailureClass::Schema, message)
}
