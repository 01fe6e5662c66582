//! Other collectors that live on streams of this directory: it is a copy, or was copied.
//!
//! A copy may lack what its origin holds, and cannot tell that from damage. Its records are written, as each position is
//! stored once, whoever comes first; but what it lacks is left undecided while another is heard of on the stream: while the
//! heartbeat in its row, which is not ours meanwhile, keeps moving.
//!
//! **Invariant:** a position without a record joins the account only where the stream is at home in this directory, or
//! nobody else was heard of on it for [`super::Options::silence`] of contact with the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::StreamId;
use crate::journal::Stream;
use crate::position_set::PositionSet;
use crate::store::{Store, StoreError, StoredPositions, StreamOwner};
use crate::write::progress::{ProblemTopic, Progress};

/// Between two looks there are seconds; after so long the database was away, and away for others too.
const UNOBSERVED: Duration = Duration::from_secs(60);

/// What is known of others. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct CopiedStreams {
    by_stream: Arc<Mutex<HashMap<StreamId, StreamOwnership>>>,
}

enum StreamOwnership {
    /// By nobody else.
    Exclusive,
    Contested(ContestedStream),
}

struct ContestedStream {
    heartbeat_us: Option<i64>,
    /// Since when it has not moved.
    silent_since: Instant,
    last_checked: Instant,
    /// Whether it was seen to move.
    origin_is_alive: bool,
    /// What is not written meanwhile.
    missing: PositionSet,
    /// Whether it lived when that was last said.
    last_reported: Option<bool>,
}

/// What a look at a stream's row came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    Alone,
    Shared,
}

impl CopiedStreams {
    /// Looks at a stream's row, before anything of ours is written to it. Whether something changed, and what is so now.
    ///
    /// # Errors
    /// As the store's.
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

    /// Takes in what is stored by now. Whether some of it was lacking.
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

    /// Streams that the journal let go of.
    pub(super) fn forget_all_but(&self, streams: &[Stream]) {
        self.by_stream()
            .retain(|id, _| streams.iter().any(|stream| stream.id == *id));
    }

    /// Whether something is left undecided, and another is heard of on each such stream: what to say of it.
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

    /// Whether something is left undecided.
    pub(super) fn any_missing(&self) -> bool {
        let lacks = |held: &StreamOwnership| matches!(held, StreamOwnership::Contested(watched) if !watched.missing.ranges().is_empty());
        self.by_stream().values().any(lacks)
    }

    /// Says what is left undecided, in `/health` and, once for each state of each stream, in a line.
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
        // The database was away: nobody could be heard of.
        assert_eq!(look(700, 2), (Ownership::Shared, false));
        for second in (710..1_000).step_by(10) {
            assert_eq!(look(second, 2), (Ownership::Shared, false));
        }
        assert_eq!(look(1_001, 2), (Ownership::Alone, true));
        assert!(!others.any_missing() && !others.is_contested(stream.id));
    }
}
