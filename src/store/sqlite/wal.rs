//! Keeps the write-ahead log of the embedded database small.
//!
//! **Invariant:** the WAL is truncated only after its contents were transferred into the file.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use crate::store::StoreError;
use crate::store::sqlite::{Sqlite, error, open_file};

/// Maximum time for which a reset of the WAL blocks the writer.
pub(super) const WAL_PAUSE: Duration = Duration::from_secs(1);

impl Sqlite {
    /// Resets a WAL that is larger than `max_bytes`. SQLite transfers the WAL into the file automatically, but resets
    /// it only at a moment without readers. With readers that overlap, the WAL would grow without limit.
    pub(super) async fn bound_wal(&self, max_bytes: u64) -> Result<(), StoreError> {
        let bytes = self.wal_bytes();
        if bytes <= max_bytes || self.empty_wal(WAL_PAUSE).await? {
            return Ok(());
        }
        tracing::warn!(
            bytes,
            "{}-wal grows while something reads the file for long; end that, if it is another process",
            self.shared.path.display()
        );
        Ok(())
    }

    /// Transfers the WAL into the file and truncates it, once the current readers have ended. Nothing is written in the
    /// meantime. Returns whether they ended within `pause`.
    pub(super) async fn empty_wal(&self, pause: Duration) -> Result<bool, StoreError> {
        if self.wal_bytes() == 0 {
            return Ok(true);
        }
        let mut connection = self.writer().await?;
        // Its busy timeout becomes `pause`, which is too short for other statements.
        connection.close_on_drop();
        let wait = format!("PRAGMA busy_timeout = {}", pause.as_millis());
        let wait = sqlx::raw_sql(AssertSqlSafe(wait)).execute(&mut *connection);
        self.within(wait).await?;
        let transfer = sqlx::query_scalar("PRAGMA wal_checkpoint(TRUNCATE)");
        let busy: i64 = self.within(transfer.fetch_one(&mut *connection)).await?;
        Ok(busy == 0)
    }

    /// Frees the space in the WAL that a transaction took before it found the volume full.
    pub(super) async fn shrink_wal_if_full(
        &self,
        done: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if done.as_ref().is_err_and(error::is_full)
            && let Err(error) = self.empty_wal(WAL_PAUSE).await
        {
            // The file itself may have to grow for that. A smaller transaction still fits into the WAL.
            tracing::debug!(%error, "the WAL cannot be emptied");
        }
        done
    }

    pub(super) fn wal_bytes(&self) -> u64 {
        open_file::file_bytes(&open_file::wal(&self.shared.path))
    }
}
