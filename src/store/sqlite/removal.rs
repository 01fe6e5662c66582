//! Removes the rows that are due, in pieces that fit on the volume.
//!
//! The pages of a removed row are overwritten, so a piece adds about as many bytes to the WAL as its rows have.
//!
//! **Invariant:** a row younger than the retention is never removed. A piece is committed before the next begins. The
//! WAL is emptied between pieces once it is large, and after the last. Therefore a round takes only the space of a few
//! pieces on the volume, however many rows are due, and frees it.

use std::time::Instant;

use crate::store::sqlite::Sqlite;
use crate::store::sqlite::error::is_full;
use crate::store::sqlite::retention_walks::RowsAfterId;
use crate::store::sqlite::wal::WAL_PAUSE;
use crate::store::{FailureClass, StoreError, lock};

/// Number of rows that are read in search of due ones, without the write lock.
const ROWS_READ: i64 = 5_000;

/// Maximum number of pieces of a round.
const PIECES_A_ROUND: usize = 500;

/// Maximum number of rows, and of their bytes, that one piece removes. It holds the write lock for some milliseconds.
const ROWS_A_PIECE: usize = 2_000;
const BYTES_A_PIECE: i64 = 8 << 20;

/// Size of the WAL from which it is emptied before the next piece.
const WAL_BYTES_OF_A_ROUND: u64 = 2 * BYTES_A_PIECE.unsigned_abs();

const NO_ROOM: &str = "the disk is so full that not one row past its retention can be removed; free space on its volume";

/// The rows that one piece removes: those that are due up to an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DueRows {
    last_id: i64,
    rows: usize,
}

impl Sqlite {
    /// Removes the rows that were received before `before_us`. Releases the connection after each piece, so that a
    /// batch never waits for all of them.
    pub(super) async fn remove_expired(&self, before_us: i64) -> Result<(), StoreError> {
        let walks = || lock(&self.shared.walks);
        walks().begin_round();
        let mut max_rows = ROWS_A_PIECE;
        let mut max_wal_bytes = WAL_BYTES_OF_A_ROUND;
        let mut has_removed = false;
        for _ in 0..PIECES_A_ROUND {
            let Some(after_id) = walks().next(Instant::now()) else {
                break;
            };
            let found = self.rows_after(after_id, before_us).await?;
            if found.due == 0 {
                walks().passed(found, Instant::now());
                continue;
            }
            has_removed = true;
            max_rows = self
                .remove_piece(after_id, found.last_id, before_us, max_rows)
                .await?;
            // If a reader prevents that, the next attempt comes once the WAL has grown past the new limit.
            if self.wal_bytes() > max_wal_bytes && !self.empty_wal(WAL_PAUSE).await? {
                max_wal_bytes = self.wal_bytes() + WAL_BYTES_OF_A_ROUND;
            }
        }
        if has_removed && self.wal_bytes() > BYTES_A_PIECE.unsigned_abs() {
            self.empty_wal(WAL_PAUSE).await?;
        }
        Ok(())
    }

    /// Reads the rows after an id.
    async fn rows_after(&self, after_id: i64, before_us: i64) -> Result<RowsAfterId, StoreError> {
        let query = sqlx::query_as(
            "SELECT max(id) AS last_id, min(created_at) AS oldest_us, coalesce(sum(created_at < ?1), 0) AS due
             FROM (SELECT id, created_at FROM telemetry_events WHERE id > ?2 ORDER BY id LIMIT ?3)",
        )
        .bind(before_us)
        .bind(after_id)
        .bind(ROWS_READ);
        self.on_writer(async |connection| self.within(query.fetch_one(connection)).await)
            .await
    }

    /// Removes due rows between two ids, at most `max_rows`, and fewer and fewer while the volume lacks room for their
    /// removal. Returns the number of rows for which it had room.
    ///
    /// # Errors
    /// [`StoreError::Retry`] of class `resources` if it lacks room for the removal of one row.
    async fn remove_piece(
        &self,
        after_id: i64,
        last_id: Option<i64>,
        before_us: i64,
        mut max_rows: usize,
    ) -> Result<usize, StoreError> {
        loop {
            // The lengths in bytes are read from a row's header, without the pages of a long text.
            let query = sqlx::query_as(
                "SELECT id, octet_length(metadata) + octet_length(correlation_id) + octet_length(integration)
                     + octet_length(event_type) + ifnull(octet_length(provider), 0) + ifnull(octet_length(name), 0)
                     + ifnull(octet_length(status), 0)
                 FROM telemetry_events WHERE id > ?1 AND id <= ?2 AND created_at < ?3 ORDER BY id LIMIT ?4",
            )
            .bind(after_id)
            .bind(last_id)
            .bind(before_us)
            .bind(i64::try_from(max_rows).unwrap_or(i64::MAX));
            let rows: Vec<(i64, i64)> = self
                .on_writer(async |connection| self.within(query.fetch_all(connection)).await)
                .await?;
            let Some(due) = piece_of(&rows) else {
                return Ok(max_rows);
            };
            let query = sqlx::query(
                "DELETE FROM telemetry_events WHERE id > ?1 AND id <= ?2 AND created_at < ?3",
            )
            .bind(after_id)
            .bind(due.last_id)
            .bind(before_us);
            let removed = self.in_transaction(async |transaction| {
                self.within(query.execute(transaction)).await.map(drop)
            });
            match self.shrink_wal_if_full(removed.await).await {
                Err(error) if is_full(&error) && due.rows > 1 => max_rows = due.rows / 2,
                Err(error) if is_full(&error) => {
                    return Err(self.retry(FailureClass::Resources, NO_ROOM));
                }
                removed => return removed.map(|()| max_rows),
            }
        }
    }
}

/// Returns the rows of one piece. `rows` are ids with the rows' bytes.
fn piece_of(rows: &[(i64, i64)]) -> Option<DueRows> {
    let mut bytes = 0;
    let fitting = rows.iter().take_while(|(_, row_bytes)| {
        bytes += row_bytes;
        bytes <= BYTES_A_PIECE
    });
    let count = fitting.count().max(1);
    let (last_id, _) = rows.get(count - 1)?;
    Some(DueRows {
        last_id: *last_id,
        rows: count,
    })
}

#[cfg(test)]
mod tests {
    use super::{BYTES_A_PIECE, DueRows, piece_of};

    #[test]
    fn a_piece_is_small_in_bytes_and_has_one_row_at_least() {
        assert_eq!(piece_of(&[]), None);
        let (large, half) = (BYTES_A_PIECE + 1, BYTES_A_PIECE / 2);
        for (rows, last_id, count) in [
            (vec![(3, large), (5, 1)], 3, 1),
            (vec![(3, half), (5, half), (8, 1)], 5, 2),
            (vec![(3, 1), (5, large)], 3, 1),
            (vec![(3, 1), (5, 1)], 5, 2),
        ] {
            let expected = DueRows {
                last_id,
                rows: count,
            };
            assert_eq!(piece_of(&rows), Some(expected), "{rows:?}");
        }
    }
}
