//! Reads the stored positions, at the first contact with the database and again after every failure.
//!
//! **Invariant:** no entry of a stream is read for writing before the stream's stored positions have been read.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use metrics::counter;

use crate::event::StreamId;
use crate::journal::{Stream, now_unix_nano};
use crate::store::{KEEP_RELEASED, StoreError, StoredPositions};
use crate::telemetry::metrics as names;
use crate::write::WriteLoop;
use crate::write::batch_reader::{BatchReader, StreamCursor};
use crate::write::failure_policy::FailurePolicy;
use crate::write::problems::ProblemTopic;
use crate::write::run::{on_committed, works_again};

/// Connects if necessary, and reads the stored positions of every stream. Returns a reader of the entries that are not
/// stored.
///
/// # Errors
/// Any [`StoreError`] of the store.
pub(super) async fn reconcile<'a>(
    shared: &'a WriteLoop,
    policy: &mut FailurePolicy,
) -> Result<BatchReader<'a>, StoreError> {
    let cursors = read_stored_positions(shared, policy).await?;
    shared.problems.solve(ProblemTopic::Contact);
    // Otherwise the first batch that is committed shows it.
    if shared.journal.status().queue_events == 0 {
        works_again(shared, policy);
    }
    shared.problems.set_connected();
    Ok(BatchReader::new(shared, cursors))
}

async fn read_stored_positions(
    shared: &WriteLoop,
    policy: &mut FailurePolicy,
) -> Result<VecDeque<StreamCursor>, StoreError> {
    let _permit = shared.write_permit().await;
    shared.store.prepare().await?;
    let held = shared.journal.streams();
    let copied_streams = &shared.copied_streams;
    let mut cursors = VecDeque::with_capacity(held.len());
    for stream in &held {
        let silence = shared.options.silence;
        copied_streams
            .check_ownership(&shared.store, stream, silence)
            .await?;
        let stored = shared.store.stored_positions(stream.id).await?;
        copied_streams.remove_stored(stream.id, &stored);
        for batch in policy.on_stored_positions(stream.id, &stored) {
            on_committed(shared, policy, &batch);
        }
        if leaves_freed(shared, stream.id).await? {
            continue;
        }
        let contested = copied_streams.is_contested(stream.id);
        update_stream(shared, stream, stored, contested);
        cursors.push_back(StreamCursor {
            stream: stream.id,
            live: stream.live,
            contested,
            next: stream.first.max(1),
        });
    }
    copied_streams.forget_all_but(&held);
    shared.attempts.keep_unstored(|stream| {
        let held = cursors.iter().any(|cursor| cursor.stream == stream);
        held.then(|| shared.progress.stored_of(stream))
    });
    shared.show_attempts();
    copied_streams.report(&shared.problems);
    for id in shared.progress.streams() {
        if held.iter().all(|stream| stream.id != id) {
            let stored = shared.store.stored_positions(id).await?;
            for range in shared.progress.stored_of(id).ranges() {
                report_gaps(shared, id, &stored, range);
            }
        }
    }
    Ok(cursors)
}

/// Decides about files that an older version may have freed, and leaves them alone if their records may have been
/// stored and forgotten: a stream's row is removed [`KEEP_RELEASED`] after the stream was released. If there is no row,
/// a record younger than that was never stored. Neither was any record of a stream of which sound files are held. Such
/// records are written.
async fn leaves_freed(shared: &WriteLoop, stream: StreamId) -> Result<bool, StoreError> {
    if !shared.journal.may_have_freed(stream) || shared.store.has_stream_row(stream).await? {
        return Ok(false);
    }
    let now = now_unix_nano();
    let kept = i64::try_from(KEEP_RELEASED.as_nanos()).unwrap_or(i64::MAX);
    let doubtless = now.saturating_sub(kept)..=now;
    Ok(shared.journal.leave_freed(stream, doubtless).await)
}

/// Updates the journal and the progress with the stored positions, and with those that are no longer stored.
fn update_stream(shared: &WriteLoop, stream: &Stream, stored: StoredPositions, contested: bool) {
    let held = stream.first..=stream.last;
    for range in stored.within(&held) {
        // Another collector stored them, on a copy of the directory, or a batch that this process does not remember.
        let (first, last) = range.into_inner();
        let waited = shared.journal.mark_stored(stream.id, first, last);
        counter!(names::WRITE_EVENTS_TOTAL).increment(waited);
        shared.progress.add_stored_before(waited);
    }
    // Positions that were stored once and are not now are written again, if the journal still holds their records.
    for range in shared.progress.stored_of(stream.id).within(&held) {
        for back in stored.missing(&range) {
            let (first, last) = back.into_inner();
            tracing::warn!(stream = %stream.id, first, last, "the database no longer holds these positions; they are written again");
            shared.journal.mark_unstored(stream.id, first, last);
        }
    }
    // A copy may lack records that its origin holds.
    if !contested {
        let missing = shared.journal.missing_positions(stream.id);
        let lost = missing.without(&stored);
        shared.journal.report_missing(stream.id, &lost);
        // The journal recycles only stored positions.
        report_gaps(
            shared,
            stream.id,
            &stored,
            &(1..=stream.first.saturating_sub(1)),
        );
    }
    shared.progress.set_stored_positions(stream.id, stored);
}

/// Reports positions that neither the database nor the journal holds. Either the database was restored to a state from
/// before the journal recycled them, or files are lost together with the note of their positions.
fn report_gaps(
    shared: &WriteLoop,
    id: StreamId,
    stored: &StoredPositions,
    recycled: &RangeInclusive<u64>,
) {
    for lost in stored.missing(recycled) {
        for gap in shared.progress.add_gap(id, lost) {
            let (first, last) = gap.into_inner();
            tracing::error!(stream = %id, first, last,
                "these positions are neither in the database nor in the journal: the database was set back to an earlier state after \
                 the journal had recycled them, or files of the journal and its note of positions are gone. Restore the database \
                 further forward, or put the files back from a backup, if there is one");
            counter!(names::STORED_GAPS_TOTAL).increment(1);
        }
    }
}
