//! Detects other collectors that use streams of this directory: the directory is a copy, or was copied.
//!
//! A copy may lack records that its origin holds, and cannot distinguish those from damage. Its records are written,
//! since each position is stored once, whichever collector writes it first. Its missing positions stay undecided as
//! long as the heartbeat in the stream's row keeps moving; in the meantime, this collector does not write that
//! heartbeat.
//!
//! **Invariant:** a position whose record is missing here is marked stored only if the stream is this directory's own,
//! or if no other collector updated the stream's heartbeat for [`super::Options::silence`] of contact with the
//! database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::StreamId;
use crate::journal::Stream;
use crate::position_set::PositionSet;
use crate::store::{Store, StoreError, StoredPositions, StreamOwner};
use crate::write::progress::{ProblemTopic, Progress};

/// Checks are seconds apart. If the last one is longer ago than this, the database was unavailable, for other
/// collectors too.
const UNOBSERVED: Duration = Duration::from_secs(60);

/// The ownership of each stream as observed so far. Clones share their state.
#[derive(Clone, Default)]
pub(super) struct CopiedStreams {
    by_stream: Arc<Mutex<HashMap<StreamId, StreamOwnership>>>,
}

enum StreamOwnership {
    /// No other collector uses the stream.
    Exclusive,
    Contested(ContestedStream),
}

struct ContestedStream {
    heartbeat_us: Option<i64>,
    /// The time since which the heartbeat has not moved.
    silent_since: Instant,
    last_checked: Instant,
    /// Set once the heartbeat was seen to move.
    origin_is_alive: bool,
    /// Positions that have no record here, and stay undecided.
    missing: PositionSet,
    /// The value of `origin_is_alive` in the last log line.
    last_reported: Option<bool>,
}

/// The ownership of a stream according to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    Alone,
    Shared,
}

impl CopiedStreams {
    /// Checks a stream's row before this collector writes to it. Returns the ownership, and whether it changed.
    ///
    /// # Errors
    /// As [`Store::stream_owner`].
    pub(super) async fn check_ownership(
        &self,
        store: &Store,
        stream: &Stream,
        silence: Duration,
    ) -> Result<(Ownership, bool), StoreError> {
        if stream.live
            || matches!(
                self.by_stream().get(&stream.id),
                Some(StreamOwnership::Exclusive)
            )
        {
            return Ok((Ownership::Alone, false));
        }
        let holder = store.stream_owner(stream.id).await?;
        Ok(self.update(stream, holder, silence, Instant::now()))
    }

    fn update(
        &self,
        stream: &Stream,
        holder: Option<StreamOwner>,
        silence: Duration,
        now: Instant,
    ) -> (Ownership, bool) {
        let mut held = self.by_stream();
        let Some(holder) = holder else {
            held.insert(stream.id, StreamOwnership::Exclusive);
            return (Ownership::Alone, false);
        };
        let Some(StreamOwnership::Contested(watched)) = held.get_mut(&stream.id) else {
            let silent = holder.silent_seconds.map(|s| u64::try_from(s).unwrap_or(0));
            let speaks = silent.is_some_and(|s| Duration::from_secs(s) < silence);
            if !(stream.from_copy || holder.other && speaks) {
                held.insert(stream.id, StreamOwnership::Exclusive);
                return (Ownership::Alone, false);
            }
            let watched = ContestedStream {
                heartbeat_us: holder.heartbeat_us,
                silent_since: now,
                last_checked: now,
                origin_is_alive: false,
                missing: PositionSet::default(),
                last_reported: None,
            };
            held.insert(stream.id, StreamOwnership::Contested(watched));
            return (Ownership::Shared, false);
        };
        let looked_away = now.duration_since(watched.last_checked) > UNOBSERVED;
        watched.last_checked = now;
        if watched.heartbeat_us != holder.heartbeat_us {
            let news = !watched.origin_is_alive;
            watched.heartbeat_us = holder.heartbeat_us;
            watched.silent_since = now;
            watched.origin_is_alive = true;
            return (Ownership::Shared, news);
        }
        if looked_away {
            watched.silent_since = now;
        }
        if now.duration_since(watched.silent_since) < silence {
            return (Ownership::Shared, false);
        }
        let lacking: u64 = watched.missing.ranges().iter().map(length).sum();
        tracing::warn!(stream = %stream.id, lacking,
            "no other collector was heard of on this stream: what cannot be read of it here is given up");
        held.insert(stream.id, StreamOwnership::Exclusive);
        (Ownership::Alone, true)
    }

    pub(super) fn is_contested(&self, id: StreamId) -> bool {
        matches!(
            self.by_stream().get(&id),
            Some(StreamOwnership::Contested(_))
        )
    }

    /// Notes positions that have no record here.
    pub(super) fn add_missing(&self, id: StreamId, positions: &PositionSet) {
        if let Some(StreamOwnership::Contested(watched)) = self.by_stream().get_mut(&id) {
            for range in positions.ranges() {
                watched.missing.insert(range.clone());
            }
        }
    }

    /// Removes stored positions from the missing ones. Returns whether that removed any.
    pub(super) fn stored(&self, id: StreamId, account: &StoredPositions) -> bool {
        let mut held = self.by_stream();
        let Some(StreamOwnership::Contested(watched)) = held.get_mut(&id) else {
            return false;
        };
        let ranges = watched.missing.ranges().iter();
        let left = PositionSet::new(ranges.flat_map(|range| account.missing(range)));
        let some = left != watched.missing;
        watched.missing = left;
        some
    }

    /// Forgets all streams but these: the journal has recycled the others.
    pub(super) fn forget_all_but(&self, streams: &[Stream]) {
        self.by_stream()
            .retain(|id, _| streams.iter().any(|stream| stream.id == *id));
    }

    /// Returns a sentence if positions are missing, and if on each stream with missing positions another collector is
    /// alive.
    pub(super) fn contested_by_live_origin(&self) -> Option<String> {
        let held = self.by_stream();
        let mut left = held.iter().filter_map(|(id, held)| match held {
            StreamOwnership::Contested(watched) if !watched.missing.ranges().is_empty() => {
                Some((id, watched))
            }
            _ => None,
        });
        let (id, first) = left.next()?;
        (first.origin_is_alive && left.all(|(_, watched)| watched.origin_is_alive))
            .then(|| sentence(*id, first))
    }

    /// Returns whether any stream has missing positions.
    pub(super) fn any_missing(&self) -> bool {
        let lacks = |held: &StreamOwnership| matches!(held, StreamOwnership::Contested(watched) if !watched.missing.ranges().is_empty());
        self.by_stream().values().any(lacks)
    }

    /// Reports the missing positions in `/health` and, once for each state of each stream, in a log line.
    pub(super) fn report(&self, progress: &Progress) {
        let mut sentences = Vec::new();
        for (id, held) in self.by_stream().iter_mut() {
            let StreamOwnership::Contested(watched) = held else {
                continue;
            };
            if watched.missing.ranges().is_empty() {
                continue;
            }
            let text = sentence(*id, watched);
            if watched.last_reported != Some(watched.origin_is_alive) {
                watched.last_reported = Some(watched.origin_is_alive);
                tracing::warn!("{text}");
            }
            sentences.push(text);
        }
        if sentences.is_empty() {
            progress.solved(ProblemTopic::Copy);
        } else {
            sentences.sort();
            progress.problem(ProblemTopic::Copy, sentences.join("; "));
        }
    }

    fn by_stream(&self) -> MutexGuard<'_, HashMap<StreamId, StreamOwnership>> {
        self.by_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn sentence(id: StreamId, watched: &ContestedStream) -> String {
    let ranges = watched.missing.ranges();
    let positions: u64 = ranges.iter().map(length).sum();
    let (first, last) = (
        ranges.first().map_or(0, |range| *range.start()),
        ranges.last().map_or(0, |range| *range.end()),
    );
    let lacking = format!("{positions} positions of {first} to {last} cannot be read here");
    if watched.origin_is_alive {
        format!(
            "another collector lives on stream {id}: this directory is a copy; what it lacks is left to that one ({lacking})"
        )
    } else {
        format!(
            "another collector may live on stream {id}: this directory is a copy, or was moved; what it lacks is given up \
             once nobody else was heard of on it for some minutes ({lacking})"
        )
    }
}

fn length(range: &std::ops::RangeInclusive<u64>) -> u64 {
    range.end() - range.start() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(300);

    fn stream(copied: bool) -> Stream {
        Stream {
            id: StreamId([3; 16]),
            first: 1,
            last: 9,
            live: false,
            from_copy: copied,
        }
    }

    fn holder(other: bool, heartbeat_us: Option<i64>, silent_seconds: i64) -> Option<StreamOwner> {
        Some(StreamOwner {
            other,
            heartbeat_us,
            silent_seconds: heartbeat_us.map(|_| silent_seconds),
        })
    }

    #[test]
    fn a_stream_at_home_is_waited_for_only_when_another_name_speaks_on_it() {
        let now = Instant::now();
        for (copied, holder, expected) in [
            (false, None, Ownership::Alone),
            (true, None, Ownership::Alone),
            (false, holder(false, None, 0), Ownership::Alone),
            (false, holder(false, Some(1), 1), Ownership::Alone),
            (false, holder(true, Some(1), 1), Ownership::Shared),
            (false, holder(true, Some(1), 301), Ownership::Alone),
            (true, holder(false, None, 0), Ownership::Shared),
            (true, holder(true, Some(1), 301), Ownership::Shared),
        ] {
            let (look, _) = CopiedStreams::default().update(&stream(copied), holder, SILENCE, now);
            assert_eq!(look, expected, "{copied} {holder:?}");
        }
    }

    #[test]
    fn what_is_lacking_is_given_up_after_a_silence_of_contact_and_no_sooner() {
        let (others, stream, start) = (CopiedStreams::default(), stream(true), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let look = |seconds, heartbeat| {
            let holder = holder(true, Some(heartbeat), 1_000);
            others.update(&stream, holder, SILENCE, at(seconds))
        };
        assert_eq!(look(0, 1), (Ownership::Shared, false));
        others.add_missing(stream.id, &PositionSet::new([3..=4, 7..=7]));
        assert!(others.any_missing() && others.contested_by_live_origin().is_none());
        for second in (10..=290).step_by(10) {
            assert_eq!(look(second, 1), (Ownership::Shared, false));
        }
        assert_eq!(look(299, 2), (Ownership::Shared, true), "it moved");
        let said = others.contested_by_live_origin().unwrap();
        assert!(said.contains("3 positions of 3 to 7"), "{said}");
        assert!(others.stored(stream.id, &StoredPositions::new([1..=3])));
        assert!(!others.stored(stream.id, &StoredPositions::new([1..=3])));
        // The database was unavailable, so no heartbeat could be observed.
        assert_eq!(look(700, 2), (Ownership::Shared, false));
        for second in (710..1_000).step_by(10) {
            assert_eq!(look(second, 2), (Ownership::Shared, false));
        }
        assert_eq!(look(1_001, 2), (Ownership::Alone, true));
        assert!(!others.any_missing() && !others.is_contested(stream.id));
    }
}
