//! Removes the rows that are due, in pieces that fit on the volume.
//!
//! The pages of a removed row are overwritten, so a piece adds about as many bytes to the WAL as its rows have.
//!
//! **Invariant:** a piece is committed before the next begins. The WAL is emptied between pieces once it is large, and
//! after the last. Therefore a round takes only the space of a few pieces on the volume, however many rows are due, and
//! frees it.

use std::time::Instant;

use sqlx::SqliteConnection;

use crate::store::StoreError;
use crate::store::sqlite::error::{ErrorContext, is_full};
use crate::store::sqlite::maintenance::{self, IdRange};
use crate::store::sqlite::wal::WAL_PAUSE;
use crate::store::sqlite::{Sqlite, schema, settle};

/// Maximum number of rows, and of their bytes, that one piece removes. It holds the write lock for some milliseconds.
const ROWS_A_PIECE: usize = 2_000;
const BYTES_A_PIECE: i64 = 8 << 20;

/// Size of the WAL from which it is emptied before the next piece.
const WAL_BYTES_OF_A_ROUND: u64 = 2 * BYTES_A_PIECE.unsigned_abs();

/// The limits of one round.
struct RoundLimits {
    /// Maximum number of rows of a piece. It is halved whenever the volume is full.
    rows: usize,
    /// Size of the WAL from which it is emptied.
    wal_bytes: u64,
}

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

    /// Removes due rows of the piece that was read, fewer and fewer while the volume lacks room for their removal.
    ///
    /// # Errors
    /// [`StoreError::Retry`] of class `resources` if it lacks room for the removal of one row.
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

    /// Empties a large WAL. If a reader prevents that, the limit is raised, and the next attempt comes once the WAL has
    /// grown past it.
    async fn bound_wal_of_round(&self, limits: &mut RoundLimits) -> Result<(), StoreError> {
        if self.wal_bytes() > limits.wal_bytes && !self.empty_wal(WAL_PAUSE).await? {
            limits.wal_bytes = self.wal_bytes() + WAL_BYTES_OF_A_ROUND;
        }
        Ok(())
    }
}

/// Chooses due rows of the piece that was read: at most as many as a piece may have, and at least one; `None` if none
/// is due.
async fn choose(
    connection: &mut SqliteConnection,
    (after_id, looked): (i64, IdRange),
    before_us: i64,
    most_rows: usize,
    fault: ErrorContext<'_>,
) -> Result<Option<DueRows>, StoreError> {
    // The lengths in bytes are read from a row's header, without the pages of a long text.
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
