//! Finds rows that are due for removal, and counts undrained streams of other collectors.
//!
//! Rows are inserted roughly in the order of their receipt, so the oldest have the lowest ids. Reading the first few
//! thousand finds the rows that are due without an index on `created_at`, which every insert would pay for. A clock
//! that was ahead leaves rows that are due much later than those after them. Therefore a second walk passes every row,
//! a few pieces in each round.
//!
//! **Invariant:** a row younger than the retention is never removed, and no row prevents the removal of those after it.

use std::time::{Duration, Instant};

use sqlx::SqliteConnection;

use crate::store::StoreError;
use crate::store::sqlite::error::ErrorContext;
use crate::store::sqlite::now_us;

/// Number of rows that one piece reads, without the write lock.
const ROWS_A_LOOK: i64 = 5_000;

/// Maximum number of pieces that one round removes, and that it reads without finding a row due.
pub(super) const PIECES_A_ROUND: usize = 500;
const LOOKS_A_ROUND: usize = 10;

/// Pause after a walk that took more than one round.
const REST: Duration = Duration::from_secs(3600);

/// Age of its last heartbeat, in microseconds, from which a stream counts as silent.
const SILENT_US: i64 = 300_000_000;

/// A piece of the rows after an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdRange {
    /// `None` if there are no rows after it.
    last_id: Option<i64>,
    oldest_us: Option<i64>,
    due: i64,
}

/// The place of one of the two walks, and the time of the oldest row that it passed.
#[derive(Clone, Copy, Debug, Default)]
struct RetentionWalk {
    after_id: i64,
    oldest_us: Option<i64>,
    rounds: usize,
}

/// Both walks of this process.
#[derive(Debug, Default)]
pub(super) struct RetentionWalks {
    /// Starts at the lowest id in each round.
    front: RetentionWalk,
    /// Passes the whole table, in as many rounds as necessary.
    whole: RetentionWalk,
    /// The time of the oldest row that the last walk over the whole table left.
    left_us: Option<i64>,
    rests_until: Option<Instant>,
    looks: usize,
    in_front: bool,
    looked: bool,
}

impl RetentionWalks {
    /// Prepares the walks for a round.
    pub(super) fn begin_round(&mut self) {
        self.front = RetentionWalk::default();
        self.in_front = true;
        self.looks = 0;
        self.whole.rounds += 1;
    }

    /// Returns the id after which to read next; `None` if the round is over.
    pub(super) fn next(&mut self, now: Instant) -> Option<i64> {
        if self.in_front {
            return Some(self.front.after_id);
        }
        if self.looks >= LOOKS_A_ROUND || self.rests_until.is_some_and(|until| now < until) {
            return None;
        }
        self.rests_until = None;
        Some(self.whole.after_id)
    }

    /// Notes that no row of a piece is due any more.
    pub(super) fn passed(&mut self, piece: IdRange, now: Instant) {
        self.looked = true;
        if self.in_front {
            self.front.pass(piece);
            // As far as the rows are in order, none after this piece is due.
            self.in_front = false;
            return;
        }
        self.looks += 1;
        if piece.last_id.is_some() {
            self.whole.pass(piece);
            return;
        }
        self.left_us = self.whole.oldest_us;
        if self.whole.rounds > 1 {
            self.rests_until = Some(now + REST);
        }
        self.whole = RetentionWalk::default();
        self.looks = LOOKS_A_ROUND;
    }

    /// Returns whether any piece was read since the start.
    pub(super) const fn have_looked(&self) -> bool {
        self.looked
    }

    /// Returns the receive time of the oldest known row, Unix microseconds.
    pub(super) fn oldest_us(&self) -> Option<i64> {
        let known = [self.front.oldest_us, self.whole.oldest_us, self.left_us];
        known.into_iter().flatten().min()
    }
}

impl RetentionWalk {
    fn pass(&mut self, piece: IdRange) {
        if let Some(last_id) = piece.last_id {
            self.after_id = last_id;
        }
        let known = [self.oldest_us, piece.oldest_us];
        self.oldest_us = known.into_iter().flatten().min();
    }
}

impl IdRange {
    pub(super) const fn is_due(&self) -> bool {
        self.due > 0
    }

    pub(super) const fn last_id(&self) -> Option<i64> {
        self.last_id
    }
}

/// Reads a piece of the rows after an id.
pub(super) async fn look(
    connection: &mut SqliteConnection,
    after_id: i64,
    before_us: i64,
    fault: ErrorContext<'_>,
) -> Result<IdRange, StoreError> {
    let query = sqlx::query_as(
        "SELECT max(id), min(created_at), coalesce(sum(created_at < ?1), 0)
         FROM (SELECT id, created_at FROM telemetry_events WHERE id > ?2 ORDER BY id LIMIT ?3)",
    )
    .bind(before_us)
    .bind(after_id)
    .bind(ROWS_A_LOOK);
    let (last_id, oldest_us, due) = fault.within(query.fetch_one(connection)).await?;
    Ok(IdRange {
        last_id,
        oldest_us,
        due,
    })
}

/// Returns the number of other collectors' streams that are silent and have unstored records.
pub(super) async fn undrained(
    connection: &mut SqliteConnection,
    collector: &str,
    fault: ErrorContext<'_>,
) -> Result<u64, StoreError> {
    let query = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM ingest_streams
         WHERE collector IS NOT ? AND released IS NULL AND oldest IS NOT NULL AND heartbeat < ?
           AND NOT (json_array_length(stored_positions) = 1
               AND json_extract(stored_positions, '$[0][0]') <= 1 AND json_extract(stored_positions, '$[0][1]') >= appended)",
    )
    .bind(collector)
    .bind(now_us() - SILENT_US);
    let streams = fault.within(query.fetch_one(connection)).await?;
    Ok(u64::try_from(streams).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{IdRange, LOOKS_A_ROUND, REST, RetentionWalks};

    const fn piece(last_id: i64, oldest_us: i64) -> IdRange {
        IdRange {
            last_id: Some(last_id),
            oldest_us: Some(oldest_us),
            due: 0,
        }
    }

    const END: IdRange = IdRange {
        last_id: None,
        oldest_us: None,
        due: 0,
    };

    #[test]
    fn a_small_table_is_walked_over_in_each_round_and_a_large_one_in_many_with_a_rest() {
        let mut walks = RetentionWalks::default();
        let now = Instant::now();
        for _ in 0..3 {
            walks.begin_round();
            for (after_id, found) in [
                (0, piece(9, 500)),
                (0, piece(9, 500)),
                (9, piece(12, 7)),
                (12, END),
            ] {
                assert_eq!(walks.next(now), Some(after_id));
                walks.passed(found, now);
            }
            assert_eq!(walks.next(now), None);
            assert_eq!(walks.oldest_us(), Some(7));
        }
        let mut after_id = 0;
        for _ in 0..2 {
            walks.begin_round();
            assert_eq!(walks.next(now), Some(0));
            walks.passed(piece(9, 500), now);
            for _ in 0..LOOKS_A_ROUND {
                assert_eq!(walks.next(now), Some(after_id));
                after_id += 5_000;
                walks.passed(piece(after_id, 300), now);
            }
            assert_eq!(walks.next(now), None);
        }
        walks.begin_round();
        walks.passed(piece(9, 500), now);
        walks.passed(END, now);
        assert_eq!(walks.oldest_us(), Some(300));
        walks.begin_round();
        walks.passed(piece(9, 500), now);
        assert_eq!(walks.next(now), None);
        assert_eq!(walks.next(now + REST), Some(0));
        assert_eq!(walks.next(now + REST + Duration::from_secs(1)), Some(0));
    }
}
