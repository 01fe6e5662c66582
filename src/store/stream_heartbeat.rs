//! The facts about a stream that its row in `ingest_streams` holds for other collectors.
//!
//! **Invariant:** these facts never decide which positions are stored.

use std::time::Duration;

use crate::event::StreamId;

/// Facts about a stream that its row in `ingest_streams` holds for other collectors.
#[derive(Clone, Copy, Debug)]
pub struct StreamHeartbeat {
    pub stream: StreamId,
    /// The highest synced position.
    pub appended: u64,
    /// Receive time of the oldest record that the journal holds unstored, Unix nanoseconds; `None` if all are stored. A
    /// position that is neither stored nor in the journal is a gap, which nothing waits for.
    pub oldest_unix_nano: Option<i64>,
    /// True if another collector may use the stream. Then only that collector updates the row.
    pub contested: bool,
}

/// Time for which a stream's row is kept after its collector has released the stream.
pub const KEEP_RELEASED: Duration = Duration::from_secs(30 * 86_400);

/// The owner of a stream according to its row in `ingest_streams`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct StreamOwner {
    /// True if the row names another collector. A name alone is no proof.
    pub other: bool,
    /// Time of the last heartbeat by the database's clock, in microseconds since 1970.
    pub heartbeat_us: Option<i64>,
    pub silent_seconds: Option<i64>,
}
