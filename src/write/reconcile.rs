//! Reads the stored positions, at the first contact with the database and again after every failure.
//!
//! **Invariant:** no entry of a stream is read for writing before the stream's stored positions have been read.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

use metrics::counter;

use crate::event::StreamId;
use crate::journal::{Stream, now_unix_nano};
use crate::position_set::PositionSet;
use crate::store::{KEEP_RELEASED, StoreError, StoredPositions};
use crate::telemetry::metrics as names;
use crate::write::RunUntil;
use crate::write::batch_reader::{BatchReader, StreamCursor};
use crate::write::copied_streams::Ownership;
use crate::write::failure_policy::FailurePolicy;
use crate::write::progress::ProblemTopic;

/// Tries until the database answers. Returns a reader of the entries that are not stored.
///
/// # Errors
/// [`StoreError::Schema`] if the journal is to be emptied, since waiting does not help.
pub(super) async fn connect_and_reconcile(
    writer: &mut FailurePolicy,
) -> Result<BatchReader, StoreError> {
    loop {
        let began = Instant::now();
        match read_stored_positions(writer).await {
            Ok(streams) => {
                writer.shared.progress.solved(ProblemTopic::Contact);
                // Otherwise the first batch that is committed shows it.
                if writer.shared.journal.status().queue_events == 0 {
                    writer.works_again();
                }
                writer.shared.progress.set_connected(true);
                return Ok(BatchReader::new(writer.shared.clone(), streams));
            }
            Err(error @ StoreError::Schema(_)) if writer.shared.run_until == RunUntil::Empty => {
                return Err(error);
            }
            Err(error) => writer.pause(ProblemTopic::Contact, &error, "", began).await,
        }
    }
}

async fn read_stored_positions(
    writer: &mut FailurePolicy,
) -> Result<VecDeque<StreamCursor>, StoreError> {
    let shared = writer.shared.clone();
    let _turn = shared.write_permit().await;
    shared.store.prepare().await?;
    let held = shared.journal.streams();
    let mut cursors = VecDeque::with_capacity(held.len());
    for stream in &held {
        let silence = shared.options.silence;
        let (look, _) = shared
            .copied_streams
            .check_ownership(&shared.store, stream, silence)
            .await?;
        let account = shared.store.stored_positions(stream.id).await?;
        shared.copied_streams.stored(stream.id, &account);
        writer.settle_doubt(stream.id, &account);
        if leaves_freed(writer, stream.id).await? {
            continue;
        }
        reconcile(writer, stream, &account, look);
        cursors.push_back(StreamCursor {
            stream: stream.id,
            live: stream.live,
            shared: look == Ownership::Shared,
            stored_positions: account,
            next: stream.first.max(1),
        });
    }
    shared.copied_streams.forget_all_but(&held);
    let stored: Vec<_> = cursors
        .iter()
        .map(|one| (one.stream, &one.stored_positions))
        .collect();
    shared.attempts.keep_unstored(&stored);
    shared.show_attempts();
    shared.copied_streams.report(&shared.progress);
    for id in shared.progress.streams() {
        if held.iter().all(|stream| stream.id != id) {
            let account = shared.store.stored_positions(id).await?;
            for range in shared.progress.stored_of(id).ranges() {
                report_gaps(writer, id, &account, range.clone());
            }
        }
    }
    Ok(cursors)
}

/// Decides about files that an older version may have freed, and leaves them alone if their records may have been
/// stored and forgotten: a stream's row is removed [`KEEP_RELEASED`] after the stream was released. If there is no row,
/// a record younger than that was never stored. Neither was any record of a stream of which sound files are held. Such
/// records are written.
async fn leaves_freed(writer: &FailurePolicy, stream: StreamId) -> Result<bool, StoreError> {
    let shared = &writer.shared;
    if !shared.journal.may_have_freed(stream) || shared.store.has_stream_row(stream).await? {
        return Ok(false);
    }
    let now = now_unix_nano();
    let kept = i64::try_from(KEEP_RELEASED.as_nanos()).unwrap_or(i64::MAX);
    let doubtless = now.saturating_sub(kept)..=now;
    Ok(shared.journal.leave_freed(stream, doubtless).await)
}

/// Updates the journal and the progress with the stored positions, and with those that are no longer stored.
fn reconcile(
    writer: &mut FailurePolicy,
    stream: &Stream,
    account: &StoredPositions,
    look: Ownership,
) {
    let shared = &writer.shared;
    for range in account.ranges() {
        let (first, last) = clamp(range, stream.first, stream.last);
        if first <= last {
            // Another collector stored them, on a copy of the directory, or a batch that this process does not
            // remember.
            let waited = shared.journal.mark_stored(stream.id, first, last);
            counter!(names::WRITE_EVENTS_TOTAL).increment(waited);
            shared
                .progress
                .count(|written| written.stored_before += waited);
        }
    }
    // Positions that were stored once and are not now are written again, if the journal still holds their records.
    for range in shared.progress.stored_of(stream.id).ranges() {
        let (first, last) = clamp(range, stream.first, stream.last);
        for back in account.missing(&(first..=last)) {
            let (first, last) = back.into_inner();
            tracing::warn!(stream = %stream.id, first, last, "the database no longer holds these positions; they are written again");
            shared.journal.mark_unstored(stream.id, first, last);
        }
    }
    shared
        .progress
        .set_stored_positions(stream.id, account.clone());
    if look == Ownership::Alone {
        let absent = shared.journal.missing_positions(stream.id);
        let lost = absent
            .ranges()
            .iter()
            .flat_map(|range| account.missing(range));
        shared
            .journal
            .report_missing(stream.id, &PositionSet::new(lost));
    }
    // The journal recycles only stored positions. But a copy may lack records that its origin holds.
    if stream.first > 1 && look == Ownership::Alone {
        report_gaps(writer, stream.id, account, 1..=stream.first - 1);
    }
}

fn clamp(range: &RangeInclusive<u64>, first: u64, last: u64) -> (u64, u64) {
    (*range.start().max(&first), *range.end().min(&last))
}

/// Reports positions that neither the database nor the journal holds. Either the database was restored to a state from
/// before the journal recycled them, or files are lost together with the note of their positions.
fn report_gaps(
    writer: &mut FailurePolicy,
    id: StreamId,
    account: &StoredPositions,
    range: RangeInclusive<u64>,
) {
    let reported = writer.reported_gaps.entry(id).or_default();
    for lost in account.missing(&range) {
        for gap in reported.missing(&lost) {
            let (first, last) = (*gap.start(), *gap.end());
            tracing::error!(stream = %id, first, last,
                "these positions are neither in the database nor in the journal: the database was set back to an earlier state after \
                 the journal had recycled them, or files of the journal and its note of positions are gone. Restore the database \
                 further forward, or put the files back from a backup, if there is one");
            counter!(names::STORED_GAPS_TOTAL).increment(1);
            reported.insert(gap);
            writer.shared.progress.count(|written| written.gaps += 1);
        }
    }
}
