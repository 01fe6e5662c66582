//! What the database holds, as the log is told.
//!
//! **Invariant:** each record counts as waiting from its sync until it is marked stored, exactly.

use std::ops::RangeInclusive;
use std::time::Instant;

use crate::observe::metrics::STORED_GAPS_TOTAL;

use super::{Core, StreamId, lock};

/// Events and bytes of records.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    events: u64,
    bytes: u64,
}

impl Core {
    pub(super) fn mark_stored(&self, id: StreamId, range: RangeInclusive<u64>) {
        let _marking = lock(&self.marking);
        let (new, unread) = {
            let mut state = lock(&self.state);
            let Some(stream) = state.stream(id) else {
                return;
            };
            let new = stream.stored.missing(&range);
            // What nobody read in this life was stored in an earlier one: it never was a backlog of this one.
            let unread: Vec<_> = new
                .iter()
                .flat_map(|part| stream.read.missing(part))
                .collect();
            (new, unread)
        };
        let waiting = self.sums(id, &new);
        let never_waited = self.sums(id, &unread);
        {
            let mut state = lock(&self.state);
            state.queue_events = state.queue_events.saturating_sub(waiting.events);
            state.queue_bytes = state.queue_bytes.saturating_sub(waiting.bytes);
            if let Some(stream) = state.stream(id) {
                stream.stored.insert(range);
                stream.note_stored(Instant::now());
                if !stream.live {
                    state.backlog_at_start_events = state
                        .backlog_at_start_events
                        .saturating_sub(never_waited.events);
                }
            }
        }
        self.find_oldest();
    }

    pub(super) fn mark_unstored(&self, id: StreamId, range: RangeInclusive<u64>) {
        let _marking = lock(&self.marking);
        let (back, gaps) = {
            let mut state = lock(&self.state);
            let Some(stream) = state.stream(id) else {
                return;
            };
            let mut held = super::ranges::Ranges::default();
            for (_, part) in stream.held(&range) {
                held.insert(part);
            }
            let gaps = held.missing(&(*range.start()..=*range.end().min(&stream.last)));
            (stream.stored.within(&range), gaps)
        };
        for gap in &gaps {
            metrics::counter!(STORED_GAPS_TOTAL).increment(1);
            tracing::error!(
                stream = %id, first = gap.start(), last = gap.end(),
                "the database lost records that the log no longer holds: restore them from a backup of the database"
            );
        }
        let waiting = self.sums(id, &back);
        {
            let mut state = lock(&self.state);
            state.queue_events += waiting.events;
            state.queue_bytes += waiting.bytes;
            state.backlog_at_start_events += waiting.events;
            if let Some(stream) = state.stream(id) {
                stream.stored.remove(&range);
                stream.read.remove(&range);
                stream.note_stored(Instant::now());
            }
        }
        self.find_oldest();
    }

    /// The sums of what is held of `parts`.
    fn sums(&self, id: StreamId, parts: &[RangeInclusive<u64>]) -> Sums {
        let held = {
            let mut state = lock(&self.state);
            let Some(stream) = state.stream(id) else {
                return Sums::default();
            };
            let held: Vec<_> = parts.iter().flat_map(|part| stream.held(part)).collect();
            held
        };
        let mut sums = Sums::default();
        for (segment, part) in held {
            let before = segment.sums_before(&*self.disk, *part.start());
            let after = segment.sums_before(&*self.disk, part.end().saturating_add(1));
            sums.events += after.events.saturating_sub(before.events);
            sums.bytes += after.bytes.saturating_sub(before.bytes);
        }
        sums
    }

    /// Finds the receive time of the oldest record that is not stored.
    fn find_oldest(&self) {
        let find = || {
            lock(&self.state)
                .streams
                .iter()
                .find_map(super::state::StreamState::first_unstored)
        };
        let received = |(n, segment): &(u64, std::sync::Arc<super::held::Segment>)| {
            segment.sums_before(&*self.disk, *n).received
        };
        let first = find();
        let oldest = first.as_ref().map(received);
        let mut state = lock(&self.state);
        // A first record may have come since: then the writer's own note stands.
        if first.is_some() || state.queue_bytes == 0 {
            state.oldest = oldest;
        }
    }
}
