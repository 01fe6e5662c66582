//! Two walks over the rows, which find those that are due for removal.
//!
//! Rows are inserted roughly in the order of their receipt, so the oldest have the lowest ids. Reading the first few
//! thousand finds the rows that are due without an index on `created_at`, which every insert would pay for. A clock
//! that was ahead leaves rows that are due much later than those after them. Therefore a second walk passes every row,
//! a few pieces in each round.
//!
//! **Invariant:** no row prevents the removal of those after it.

use std::time::{Duration, Instant};

use crate::store::Overdue;

/// Maximum number of pieces that one round reads without finding a row due.
const PIECES_READ_A_ROUND: usize = 10;

/// Pause after a walk that took more than one round.
const REST: Duration = Duration::from_secs(3600);

/// A piece of the rows after an id.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct RowsAfterId {
    /// `None` if there are no rows after the id.
    pub(super) last_id: Option<i64>,
    pub(super) oldest_us: Option<i64>,
    /// Number of rows that are due for removal.
    pub(super) due: i64,
}

/// Both walks of this process, and the receive times of the oldest rows that they passed, in Unix microseconds.
#[derive(Debug, Default)]
pub(super) struct RetentionWalks {
    /// True until the round has passed the rows with the lowest ids.
    in_front: bool,
    front_us: Option<i64>,
    /// The id up to which the walk over the whole table has come, and the number of rounds that it took so far.
    after_id: i64,
    rounds: usize,
    whole_us: Option<i64>,
    /// The time of the last walk that passed the whole table.
    left_us: Option<i64>,
    rests_until: Option<Instant>,
    /// Pieces of the whole table that this round has read.
    pieces: usize,
    /// True once any piece was read since the start.
    has_read: bool,
}

impl RetentionWalks {
    /// Prepares the walks for a round.
    pub(super) fn begin_round(&mut self) {
        self.in_front = true;
        self.front_us = None;
        self.pieces = 0;
        self.rounds += 1;
    }

    /// Returns the id after which to read next; `None` if the round is over.
    pub(super) fn next(&mut self, now: Instant) -> Option<i64> {
        if self.in_front {
            return Some(0);
        }
        if self.pieces >= PIECES_READ_A_ROUND || self.rests_until.is_some_and(|until| now < until) {
            return None;
        }
        self.rests_until = None;
        Some(self.after_id)
    }

    /// Notes that no row of a piece is due any more.
    pub(super) fn passed(&mut self, piece: RowsAfterId, now: Instant) {
        self.has_read = true;
        if self.in_front {
            // As far as the rows are in order, none after this piece is due.
            self.in_front = false;
            self.front_us = piece.oldest_us;
            return;
        }
        self.pieces += 1;
        if let Some(last_id) = piece.last_id {
            self.after_id = last_id;
            self.whole_us = earliest([self.whole_us, piece.oldest_us]);
            return;
        }
        if self.rounds > 1 {
            self.rests_until = Some(now + REST);
        }
        self.left_us = self.whole_us.take();
        self.after_id = 0;
        self.rounds = 0;
        self.pieces = PIECES_READ_A_ROUND;
    }

    /// Returns the age of the oldest row that the walks passed, relative to the retention; `None` before any piece was
    /// read.
    pub(super) fn overdue(&self, cutoff_us: i64) -> Option<Overdue> {
        match self.oldest_us() {
            Some(oldest_us) => Some(Overdue::By(cutoff_us - oldest_us)),
            None => self.has_read.then_some(Overdue::Never),
        }
    }

    /// Returns the receive time of the oldest known row, Unix microseconds.
    pub(super) fn oldest_us(&self) -> Option<i64> {
        earliest([self.front_us, self.whole_us, self.left_us])
    }
}

fn earliest<const N: usize>(times_us: [Option<i64>; N]) -> Option<i64> {
    times_us.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{PIECES_READ_A_ROUND, REST, RetentionWalks, RowsAfterId};

    const fn piece(last_id: i64, oldest_us: i64) -> RowsAfterId {
        RowsAfterId {
            last_id: Some(last_id),
            oldest_us: Some(oldest_us),
            due: 0,
        }
    }

    const END: RowsAfterId = RowsAfterId {
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
            for _ in 0..PIECES_READ_A_ROUND {
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
