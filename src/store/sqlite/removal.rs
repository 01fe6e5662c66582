//! Removal of the rows that are due, in pieces that the volume has room for.
//!
//! The pages of a removed row are overwritten, so a piece takes about as much of the WAL as its rows have bytes.
//!
//! **Invariant:** a piece is committed before the next begins, and the WAL is emptied between pieces once it is large, and
//! after the last: a round takes no more of the volume than some pieces do, however much is due, and gives it back.

use std::time::Instant;

use sqlx::SqliteConnection;

use crate::store::StoreError;
use crate::store::sqlite::error::{ErrorContext, is_full};
use crate::store::sqlite::maintenance::{self, IdRange};
use crate::store::sqlite::{Sqlite, WAL_PAUSE, schema, settle};

/// Rows and bytes of rows that one piece removes at most; it holds the write lock for some milliseconds.
const ROWS_A_PIECE: usize = 2_000;
const BYTES_A_PIECE: i64 = 8 << 20;

/// Size of the WAL from which it is emptied before the next piece.
const WAL_BYTES_OF_A_ROUND: u64 = 2 * BYTES_A_PIECE.unsigned_abs();

/// The limits of one round.
struct RoundLimits {
    /// Rows of a piece; fewer once a piece found the volume full.
    rows: usize,
    /// Size of the WAL from which it is emptied.
    wal_bytes: u64,
}

/// Rows that one piece removes: those that are due up to an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DueRows {
    last_id: i64,
    rows: usize,
}

impl Sqlite {
    /// Gives the connection back after each piece, so that a batch never waits for all of them.
    pub(super) async fn remove_expired(&self, before_us: i64) -> Result<(), StoreError> {
        self.walks().begin_round();
        let mut limits = RoundLimits {
            rows: ROWS_A_PIECE,
            wal_bytes: WAL_BYTES_OF_A_ROUND,
        };
        let mut has_removed = false;
        for _ in 0..maintenance::PIECES_A_ROUND {
            let Some(after_id) = self.walks().next(Instant::now()) else {
                break;
            };
            let mut connection = self.writer().await?;
            let looked =
                maintenance::look(&mut connection, after_id, before_us, self.fault()).await;
            let looked = settle(connection, looked)?;
            if looked.is_due() {
                has_removed = true;
                self.remove_piece(after_id, looked, before_us, &mut limits)
                    .await?;
                self.bound_wal_of_round(&mut limits).await?;
            } else {
                self.walks().passed(looked, Instant::now());
            }
        }
        if has_removed && self.wal_bytes() > BYTES_A_PIECE.unsigned_abs() {
            self.empty_wal(WAL_PAUSE).await?;
        }
        Ok(())
    }

    /// Removes rows that are due of those looked at: fewer and fewer while the volume has no room for their removal.
    ///
    /// # Errors
    /// [`StoreError::Retry`] of class `resources` if it has none for one row.
    async fn remove_piece(
        &self,
        after_id: i64,
        looked: IdRange,
        before_us: i64,
        limits: &mut RoundLimits,
    ) -> Result<(), StoreError> {
        loop {
            let mut connection = self.writer().await?;
            let fault = self.fault();
            let chosen = choose(
                &mut connection,
                (after_id, looked),
                before_us,
                limits.rows,
                fault,
            )
            .await;
            let Some(due) = settle(connection, chosen)? else {
                return Ok(());
            };
            let mut connection = self.writer().await?;
            let removed = remove(
                &mut connection,
                after_id,
                due.last_id,
                before_us,
                self.fault(),
            )
            .await;
            match self.shrink_wal_if_full(settle(connection, removed)).await {
                Err(error) if is_full(&error) && due.rows > 1 => limits.rows = due.rows / 2,
                Err(error) if is_full(&error) => return Err(self.fault().no_room_to_remove()),
                removed => return removed,
            }
        }
    }

    /// Empties a WAL that is large. While somebody reads the file for long it grows on, and is tried again later.
    async fn bound_wal_of_round(&self, limits: &mut RoundLimits) -> Result<(), StoreError> {
        if self.wal_bytes() > limits.wal_bytes && !self.empty_wal(WAL_PAUSE).await? {
            limits.wal_bytes = self.wal_bytes() + WAL_BYTES_OF_A_ROUND;
        }
        Ok(())
    }
}

/// Chooses rows that are due among those looked at: as many as a piece may have, and one at least; `None` if there is none.
async fn choose(
    connection: &mut SqliteConnection,
    (after_id, looked): (i64, IdRange),
    before_us: i64,
    most_rows: usize,
    fault: ErrorContext<'_>,
) -> Result<Option<DueRows>, StoreError> {
    // Lengths in bytes are read from a row's header, without the pages that a long text takes.
    let query = sqlx::query_as(
        "SELECT id, octet_length(metadata) + octet_length(correlation_id) + octet_length(integration)
             + octet_length(event_type) + ifnull(octet_length(provider), 0) + ifnull(octet_length(name), 0)
             + ifnull(octet_length(status), 0)
         FROM telemetry_events WHERE id > ?1 AND id <= ?2 AND created_at < ?3 ORDER BY id LIMIT ?4",
    )
    .bind(after_id)
    .bind(looked.last_id())
    .bind(before_us)
    .bind(i64::try_from(most_rows).unwrap_or(i64::MAX));
    let rows: Vec<(i64, i64)> = fault.within(query.fetch_all(connection)).await?;
    Ok(piece_of(&rows))
}

/// `rows` are ids with the rows' bytes.
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

async fn remove(
    connection: &mut SqliteConnection,
    after_id: i64,
    last_id: i64,
    before_us: i64,
    fault: ErrorContext<'_>,
) -> Result<(), StoreError> {
    let query =
        sqlx::query("DELETE FROM telemetry_events WHERE id > ?1 AND id <= ?2 AND created_at < ?3")
            .bind(after_id)
            .bind(last_id)
            .bind(before_us);
    let mut transaction = schema::begin(connection, &fault).await?;
    fault.within(query.execute(&mut *transaction)).await?;
    fault.within(transaction.commit()).await
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
