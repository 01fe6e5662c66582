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

use super::progress::{Concern, Progress};
use crate::log::{Ranges, Stream, StreamId};
use crate::store::{Account, Holder, Store, StoreError};

/// Between two looks there are seconds; after so long the database was away, and away for others too.
const LOOKED_AWAY: Duration = Duration::from_secs(60);

/// What is known of others. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Others {
    streams: Arc<Mutex<HashMap<StreamId, Held>>>,
}

enum Held {
    /// By nobody else.
    Alone,
    Shared(Watched),
}

struct Watched {
    heartbeat_us: Option<i64>,
    /// Since when it has not moved.
    silent_since: Instant,
    looked: Instant,
    /// Whether it was seen to move.
    lives: bool,
    /// What is not written meanwhile.
    lacking: Ranges,
    /// Whether it lived when that was last said.
    told: Option<bool>,
}

/// What a look at a stream's row came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Alone,
    Shared,
}

impl Others {
    /// Looks at a stream's row, before anything of ours is written to it. Whether something changed, and what is so now.
    ///
    /// # Errors
    /// As the store's.
    pub(super) async fn look(
        &self,
        store: &Store,
        stream: &Stream,
        silence: Duration,
    ) -> Result<(Look, bool), StoreError> {
        if stream.live || matches!(self.held().get(&stream.id), Some(Held::Alone)) {
            return Ok((Look::Alone, false));
        }
        let holder = store.holder(stream.id).await?;
        Ok(self.take_in(stream, holder, silence, Instant::now()))
    }

    fn take_in(
        &self,
        stream: &Stream,
        holder: Option<Holder>,
        silence: Duration,
        now: Instant,
    ) -> (Look, bool) {
        let mut held = self.held();
        let Some(holder) = holder else {
            held.insert(stream.id, Held::Alone);
            return (Look::Alone, false);
        };
        let Some(Held::Shared(watched)) = held.get_mut(&stream.id) else {
            let silent = holder.silent_seconds.map(|s| u64::try_from(s).unwrap_or(0));
            let speaks = silent.is_some_and(|s| Duration::from_secs(s) < silence);
            if !(stream.copied || holder.other && speaks) {
                held.insert(stream.id, Held::Alone);
                return (Look::Alone, false);
            }
            let watched = Watched {
                heartbeat_us: holder.heartbeat_us,
                silent_since: now,
                looked: now,
                lives: false,
                lacking: Ranges::default(),
                told: None,
            };
            held.insert(stream.id, Held::Shared(watched));
            return (Look::Shared, false);
        };
        let looked_away = now.duration_since(watched.looked) > LOOKED_AWAY;
        watched.looked = now;
        if watched.heartbeat_us != holder.heartbeat_us {
            let news = !watched.lives;
            watched.heartbeat_us = holder.heartbeat_us;
            watched.silent_since = now;
            watched.lives = true;
            return (Look::Shared, news);
        }
        if looked_away {
            watched.silent_since = now;
        }
        if now.duration_since(watched.silent_since) < silence {
            return (Look::Shared, false);
        }
        let lacking: u64 = watched.lacking.ranges().iter().map(length).sum();
        tracing::warn!(stream = %stream.id, lacking,
            "no other collector was heard of on this stream: what cannot be read of it here is given up");
        held.insert(stream.id, Held::Alone);
        (Look::Alone, true)
    }

    pub(super) fn is_shared(&self, id: StreamId) -> bool {
        matches!(self.held().get(&id), Some(Held::Shared(_)))
    }

    /// Notes positions that have no record here.
    pub(super) fn lacks(&self, id: StreamId, positions: &Ranges) {
        if let Some(Held::Shared(watched)) = self.held().get_mut(&id) {
            for range in positions.ranges() {
                watched.lacking.insert(range.clone());
            }
        }
    }

    /// Takes in what is stored by now. Whether some of it was lacking.
    pub(super) fn stored(&self, id: StreamId, account: &Account) -> bool {
        let mut held = self.held();
        let Some(Held::Shared(watched)) = held.get_mut(&id) else {
            return false;
        };
        let ranges = watched.lacking.ranges().iter();
        let left = Ranges::new(ranges.flat_map(|range| account.missing(range)));
        let some = left != watched.lacking;
        watched.lacking = left;
        some
    }

    /// Streams that the log let go of.
    pub(super) fn forget_all_but(&self, streams: &[Stream]) {
        self.held()
            .retain(|id, _| streams.iter().any(|stream| stream.id == *id));
    }

    /// Whether something is left undecided, and another is heard of on each such stream: what to say of it.
    pub(super) fn left_to_another(&self) -> Option<String> {
        let held = self.held();
        let mut left = held.iter().filter_map(|(id, held)| match held {
            Held::Shared(watched) if !watched.lacking.ranges().is_empty() => Some((id, watched)),
            _ => None,
        });
        let (id, first) = left.next()?;
        (first.lives && left.all(|(_, watched)| watched.lives)).then(|| sentence(*id, first))
    }

    /// Whether something is left undecided.
    pub(super) fn lack_some(&self) -> bool {
        let lacks = |held: &Held| matches!(held, Held::Shared(watched) if !watched.lacking.ranges().is_empty());
        self.held().values().any(lacks)
    }

    /// Says what is left undecided, in `/health` and, once for each state of each stream, in a line.
    pub(super) fn tell(&self, progress: &Progress) {
        let mut sentences = Vec::new();
        for (id, held) in self.held().iter_mut() {
            let Held::Shared(watched) = held else {
                continue;
            };
            if watched.lacking.ranges().is_empty() {
                continue;
            }
            let text = sentence(*id, watched);
            if watched.told != Some(watched.lives) {
                watched.told = Some(watched.lives);
                tracing::warn!("{text}");
            }
            sentences.push(text);
        }
        if sentences.is_empty() {
            progress.solved(Concern::Copy);
        } else {
            sentences.sort();
            progress.problem(Concern::Copy, sentences.join("; "));
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<StreamId, Held>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sentence(id: StreamId, watched: &Watched) -> String {
    let ranges = watched.lacking.ranges();
    let positions: u64 = ranges.iter().map(length).sum();
    let (first, last) = (
        ranges.first().map_or(0, |range| *range.start()),
        ranges.last().map_or(0, |range| *range.end()),
    );
    let lacking = format!("{positions} positions of {first} to {last} cannot be read here");
    if watched.lives {
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
            copied,
        }
    }

    fn holder(other: bool, heartbeat_us: Option<i64>, silent_seconds: i64) -> Option<Holder> {
        Some(Holder {
            other,
            heartbeat_us,
            silent_seconds: heartbeat_us.map(|_| silent_seconds),
        })
    }

    #[test]
    fn a_stream_at_home_is_waited_for_only_when_another_name_speaks_on_it() {
        let now = Instant::now();
        for (copied, holder, expected) in [
            (false, None, Look::Alone),
            (true, None, Look::Alone),
            (false, holder(false, None, 0), Look::Alone),
            (false, holder(false, Some(1), 1), Look::Alone),
            (false, holder(true, Some(1), 1), Look::Shared),
            (false, holder(true, Some(1), 301), Look::Alone),
            (true, holder(false, None, 0), Look::Shared),
            (true, holder(true, Some(1), 301), Look::Shared),
        ] {
            let (look, _) = Others::default().take_in(&stream(copied), holder, SILENCE, now);
            assert_eq!(look, expected, "{copied} {holder:?}");
        }
    }

    #[test]
    fn what_is_lacking_is_given_up_after_a_silence_of_contact_and_no_sooner() {
        let (others, stream, start) = (Others::default(), stream(true), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let look = |seconds, heartbeat| {
            let holder = holder(true, Some(heartbeat), 1_000);
            others.take_in(&stream, holder, SILENCE, at(seconds))
        };
        assert_eq!(look(0, 1), (Look::Shared, false));
        others.lacks(stream.id, &Ranges::new([3..=4, 7..=7]));
        assert!(others.lack_some() && others.left_to_another().is_none());
        for second in (10..=290).step_by(10) {
            assert_eq!(look(second, 1), (Look::Shared, false));
        }
        assert_eq!(look(299, 2), (Look::Shared, true), "it moved");
        let said = others.left_to_another().unwrap();
        assert!(said.contains("3 positions of 3 to 7"), "{said}");
        assert!(others.stored(stream.id, &Account::new([1..=3])));
        assert!(!others.stored(stream.id, &Account::new([1..=3])));
        // The database was away: nobody could be heard of.
        assert_eq!(look(700, 2), (Look::Shared, false));
        for second in (710..1_000).step_by(10) {
            assert_eq!(look(second, 2), (Look::Shared, false));
        }
        assert_eq!(look(1_001, 2), (Look::Alone, true));
        assert!(!others.lack_some() && !others.is_shared(stream.id));
    }
}
