//! What the log holds and what of it is stored.
//!
//! **Invariant:** a segment leaves only when every position of it is stored and nobody reads it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::Space;
use super::held::Segment;
use super::ranges::Ranges;
use super::{Stream, StreamId};

/// A segment of a stream.
pub(super) struct Held {
    pub(super) segment: Arc<Segment>,
    /// Since when all of it is stored.
    stored_since: Option<Instant>,
}

/// One stream of the directory.
pub(super) struct StreamState {
    pub(super) id: StreamId,
    pub(super) live: bool,
    /// In the order of positions.
    pub(super) segments: Vec<Held>,
    pub(super) stored: Ranges,
    /// What was read in this life of the process.
    pub(super) read: Ranges,
    /// The highest synced position there ever was.
    pub(super) last: u64,
}

/// All that the log's threads and callers share of its contents.
#[derive(Default)]
pub(super) struct State {
    /// Oldest first; the live one is the last.
    pub(super) streams: Vec<StreamState>,
    pub(super) queue_events: u64,
    pub(super) queue_bytes: u64,
    /// Receive time of the oldest record that is not stored.
    pub(super) oldest: Option<i64>,
    pub(super) backlog_at_start_events: u64,
    pub(super) damaged_records: u64,
    pub(super) appended: u64,
    pub(super) volume: Space,
    /// Streams whose last segment is durably gone.
    pub(super) released: Vec<StreamId>,
}

impl StreamState {
    pub(super) fn new(id: StreamId, live: bool) -> Self {
        Self {
            id,
            live,
            segments: Vec::new(),
            stored: Ranges::default(),
            read: Ranges::default(),
            last: 0,
        }
    }

    pub(super) fn hold(&mut self, segment: Arc<Segment>) {
        self.last = self.last.max(segment.last());
        self.segments.push(Held {
            segment,
            stored_since: None,
        });
    }

    /// The lowest position held, else the one after the last.
    pub(super) fn first(&self) -> u64 {
        self.segments
            .first()
            .map_or(self.last + 1, |held| held.segment.header.base)
    }

    /// The lowest held position that is not stored, with its segment.
    pub(super) fn first_unstored(&self) -> Option<(u64, Arc<Segment>)> {
        self.segments.iter().find_map(|held| {
            let n = self.stored.first_missing(held.segment.header.base);
            (n <= held.segment.last()).then(|| (n, held.segment.clone()))
        })
    }

    /// The parts of `range` that are held, segment by segment.
    pub(super) fn held(
        &self,
        range: &RangeInclusive<u64>,
    ) -> Vec<(Arc<Segment>, RangeInclusive<u64>)> {
        self.segments
            .iter()
            .filter_map(|held| {
                let first = held.segment.header.base.max(*range.start());
                let last = held.segment.last().min(*range.end());
                (first <= last).then(|| (held.segment.clone(), first..=last))
            })
            .collect()
    }

    /// Notes which segments are wholly stored now.
    pub(super) fn note_stored(&mut self, now: Instant) {
        for held in &mut self.segments {
            let base = held.segment.header.base;
            let whole = self.stored.first_missing(base) > held.segment.last();
            held.stored_since = whole.then(|| held.stored_since.unwrap_or(now));
        }
    }
}

impl State {
    pub(super) fn stream(&mut self, id: StreamId) -> Option<&mut StreamState> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    pub(super) fn live(&mut self) -> &mut StreamState {
        self.streams
            .last_mut()
            .expect("an open log has a live stream, and it is the last")
    }

    pub(super) fn listed(&self) -> Vec<Stream> {
        self.streams
            .iter()
            .map(|stream| Stream {
                id: stream.id,
                first: stream.first(),
                last: stream.last,
                live: stream.live,
            })
            .collect()
    }

    /// The segment that holds position `n` of a stream, or the first after it.
    pub(super) fn segment_at(&mut self, id: StreamId, n: u64) -> Option<Arc<Segment>> {
        self.stream(id)?
            .segments
            .iter()
            .find(|held| held.segment.last() >= n)
            .map(|held| held.segment.clone())
    }

    /// Lets go of the oldest sealed segment that has been wholly stored for at least `kept`, and that nobody reads.
    pub(super) fn take_stored(&mut self, kept: Duration) -> Option<Arc<Segment>> {
        for stream in &mut self.streams {
            let free = stream.segments.iter().position(|held| {
                held.stored_since
                    .is_some_and(|since| since.elapsed() >= kept)
                    && held.segment.facts().sealed
                    && Arc::strong_count(&held.segment) == 1
            });
            if let Some(at) = free {
                return Some(stream.segments.remove(at).segment);
            }
        }
        None
    }

    /// Receive time of the oldest stored record that is still held.
    pub(super) fn oldest_stored(&self) -> Option<i64> {
        self.streams.iter().find_map(|stream| {
            stream.segments.iter().find_map(|held| {
                let contents = held.segment.contents();
                let range = held.segment.header.base..=contents.last;
                (!stream.stored.within(&range).is_empty()).then_some(contents.first_received)
            })
        })
    }

    /// Drops old streams that hold nothing more; called once the removal of their segments is durable.
    pub(super) fn release_emptied(&mut self) {
        let released = &mut self.released;
        self.streams.retain(|stream| {
            let gone = !stream.live && stream.segments.is_empty();
            if gone {
                released.push(stream.id);
            }
            !gone
        });
    }
}
