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
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::event::StreamId;
use crate::journal::Stream;
use crate::position_set::PositionSet;
use crate::store::{Store, StoreError, StoredPositions, StreamOwner};
use crate::write::problems::{ProblemTopic, Problems};

/// Checks are seconds apart. If the last one is longer ago than this, the database was unavailable, for other
/// collectors too.
const UNOBSERVED: Duration = Duration::from_secs(60);

/// The ownership of each stream as observed so far.
#[derive(Default)]
pub(super) struct CopiedStreams {
    /// The streams that were checked; `None` for those that no other collector uses.
    by_stream: Mutex<HashMap<StreamId, Option<ContestedStream>>>,
}

/// A stream that another collector may use.
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

/// The ownership of a stream, as far as it was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// No other collector is known to use the stream.
    Exclusive,
    /// Another collector may use it: only its records are written, and missing positions stay undecided.
    Contested { origin_is_alive: bool },
}

impl CopiedStreams {
    /// Checks a stream's row before this collector writes to it.
    ///
    /// # Errors
    /// As [`Store::stream_owner`].
    pub(super) async fn check_ownership(
        &self,
        store: &Store,
        stream: &Stream,
        silence: Duration,
    ) -> Result<Ownership, StoreError> {
        if !stream.live && !matches!(self.by_stream().get(&stream.id), Some(None)) {
            let owner = store.stream_owner(stream.id).await?;
            self.update(stream, owner, silence, Instant::now());
        }
        Ok(self.ownership(stream.id))
    }

    fn update(&self, stream: &Stream, owner: Option<StreamOwner>, silence: Duration, now: Instant) {
        let mut by_stream = self.by_stream();
        let known = by_stream.entry(stream.id).or_default();
        let Some(owner) = owner else {
            *known = None;
            return;
        };
        let Some(contested) = known else {
            let silent = owner.silent_seconds.map(|s| u64::try_from(s).unwrap_or(0));
            let is_heard = silent.is_some_and(|s| Duration::from_secs(s) < silence);
            if stream.from_copy || owner.other && is_heard {
                *known = Some(ContestedStream {
                    heartbeat_us: owner.heartbeat_us,
                    silent_since: now,
                    last_checked: now,
                    origin_is_alive: false,
                    missing: PositionSet::default(),
                    last_reported: None,
                });
            }
            return;
        };
        let is_observed = now.duration_since(contested.last_checked) <= UNOBSERVED;
        contested.last_checked = now;
        if contested.heartbeat_us != owner.heartbeat_us {
            contested.heartbeat_us = owner.heartbeat_us;
            contested.silent_since = now;
            contested.origin_is_alive = true;
            return;
        }
        if !is_observed {
            contested.silent_since = now;
        }
        if now.duration_since(contested.silent_since) >= silence {
            let lacking = contested.missing.count();
            tracing::warn!(stream = %stream.id, lacking,
                "no other collector was heard of on this stream: what cannot be read of it here is given up");
            *known = None;
        }
    }

    pub(super) fn ownership(&self, id: StreamId) -> Ownership {
        match self.by_stream().get(&id) {
            Some(Some(contested)) => Ownership::Contested {
                origin_is_alive: contested.origin_is_alive,
            },
            Some(None) | None => Ownership::Exclusive,
        }
    }

    pub(super) fn is_contested(&self, id: StreamId) -> bool {
        self.ownership(id) != Ownership::Exclusive
    }

    /// Notes positions that have no record here.
    pub(super) fn add_missing(&self, id: StreamId, positions: RangeInclusive<u64>) {
        if let Some(Some(contested)) = self.by_stream().get_mut(&id) {
            contested.missing.insert(positions);
        }
    }

    /// Removes stored positions from the missing ones. Returns whether that removed any.
    pub(super) fn remove_stored(&self, id: StreamId, stored: &StoredPositions) -> bool {
        let mut by_stream = self.by_stream();
        let Some(Some(contested)) = by_stream.get_mut(&id) else {
            return false;
        };
        let left = contested.missing.without(stored);
        let removes_any = left != contested.missing;
        contested.missing = left;
        removes_any
    }

    /// Forgets all streams but these: the journal has recycled the others.
    pub(super) fn forget_all_but(&self, streams: &[Stream]) {
        self.by_stream()
            .retain(|id, _| streams.iter().any(|stream| stream.id == *id));
    }

    /// Returns a sentence if positions are missing, and if on each stream with missing positions another collector is
    /// alive.
    pub(super) fn contested_by_live_origin(&self) -> Option<String> {
        let mut by_stream = self.by_stream();
        let mut lacking = lacking(&mut by_stream);
        let (id, first) = lacking.next()?;
        (first.origin_is_alive && lacking.all(|(_, contested)| contested.origin_is_alive))
            .then(|| sentence(*id, first))
    }

    /// Returns whether any stream has missing positions.
    pub(super) fn any_missing(&self) -> bool {
        lacking(&mut self.by_stream()).next().is_some()
    }

    /// Reports the missing positions in `/health` and, once for each state of each stream, in a log line.
    pub(super) fn report(&self, problems: &Problems) {
        let mut sentences = Vec::new();
        for (id, contested) in lacking(&mut self.by_stream()) {
            let text = sentence(*id, contested);
            if contested.last_reported.replace(contested.origin_is_alive)
                != Some(contested.origin_is_alive)
            {
                tracing::warn!("{text}");
            }
            sentences.push(text);
        }
        sentences.sort();
        let text = (!sentences.is_empty()).then(|| sentences.join("; "));
        problems.set(ProblemTopic::Copy, text);
    }

    fn by_stream(&self) -> MutexGuard<'_, HashMap<StreamId, Option<ContestedStream>>> {
        self.by_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the contested streams that have missing positions.
fn lacking(
    by_stream: &mut HashMap<StreamId, Option<ContestedStream>>,
) -> impl Iterator<Item = (&StreamId, &mut ContestedStream)> {
    by_stream.iter_mut().filter_map(|(id, known)| {
        let contested = known.as_mut()?;
        (!contested.missing.is_empty()).then_some((id, contested))
    })
}

fn sentence(id: StreamId, contested: &ContestedStream) -> String {
    let ranges = contested.missing.ranges();
    let positions = contested.missing.count();
    let (first, last) = (
        ranges.first().map_or(0, |range| *range.start()),
        ranges.last().map_or(0, |range| *range.end()),
    );
    let lacking = format!("{positions} positions of {first} to {last} cannot be read here");
    if contested.origin_is_alive {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(300);
    const QUIET: Ownership = Ownership::Contested {
        origin_is_alive: false,
    };
    const ALIVE: Ownership = Ownership::Contested {
        origin_is_alive: true,
    };

    fn stream(copied: bool) -> Stream {
        Stream {
            id: StreamId([3; 16]),
            first: 1,
            last: 9,
            live: false,
            from_copy: copied,
        }
    }

    fn owner(other: bool, heartbeat_us: Option<i64>, silent_seconds: i64) -> Option<StreamOwner> {
        Some(StreamOwner {
            other,
            heartbeat_us,
            silent_seconds: heartbeat_us.map(|_| silent_seconds),
        })
    }

    #[test]
    fn a_stream_at_home_is_waited_for_only_when_another_name_speaks_on_it() {
        let now = Instant::now();
        for (copied, owner, expected) in [
            (false, None, Ownership::Exclusive),
            (true, None, Ownership::Exclusive),
            (false, owner(false, None, 0), Ownership::Exclusive),
            (false, owner(false, Some(1), 1), Ownership::Exclusive),
            (false, owner(true, Some(1), 1), QUIET),
            (false, owner(true, Some(1), 301), Ownership::Exclusive),
            (true, owner(false, None, 0), QUIET),
            (true, owner(true, Some(1), 301), QUIET),
        ] {
            let streams = CopiedStreams::default();
            streams.update(&stream(copied), owner, SILENCE, now);
            let found = streams.ownership(stream(copied).id);
            assert_eq!(found, expected, "{copied} {owner:?}");
        }
    }

    #[test]
    fn missing_positions_are_decided_after_a_silence_of_contact_and_no_sooner() {
        let (streams, stream, start) = (CopiedStreams::default(), stream(true), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let check = |seconds, heartbeat| {
            let owner = owner(true, Some(heartbeat), 1_000);
            streams.update(&stream, owner, SILENCE, at(seconds));
            streams.ownership(stream.id)
        };
        assert_eq!(check(0, 1), QUIET);
        streams.add_missing(stream.id, 3..=4);
        streams.add_missing(stream.id, 7..=7);
        assert!(streams.any_missing() && streams.contested_by_live_origin().is_none());
        for second in (10..=290).step_by(10) {
            assert_eq!(check(second, 1), QUIET);
        }
        assert_eq!(check(299, 2), ALIVE, "it moved");
        let said = streams.contested_by_live_origin().unwrap();
        assert!(said.contains("3 positions of 3 to 7"), "{said}");
        assert!(streams.remove_stored(stream.id, &StoredPositions::new([1..=3])));
        assert!(!streams.remove_stored(stream.id, &StoredPositions::new([1..=3])));
        // The database was unavailable, so no heartbeat could be observed.
        assert_eq!(check(700, 2), ALIVE);
        for second in (710..1_000).step_by(10) {
            assert_eq!(check(second, 2), ALIVE);
        }
        assert_eq!(check(1_001, 2), Ownership::Exclusive);
        assert!(!streams.any_missing() && !streams.is_contested(stream.id));
    }
}
