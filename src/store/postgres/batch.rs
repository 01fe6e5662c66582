//! The batch transaction: rows, dead letters, positions.
//!
//! **Invariant:** COMMIT is sent only after the database took exactly as many rows as the batch holds and the positions
//! joined the account as the last statement before it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection};

use super::connection::{Lease, end, within};
use super::error::{from_copy, is_missing_partition, retry};
use super::partitions::Day;
use super::{Postgres, uuid};
use crate::observe::own_traces::spans::{self, System};
use crate::observe::own_traces::traced;
use crate::store::copy::{self, Row, Rows, postgres_time};
use crate::store::probe::harmless;
use crate::store::window::Window;
use crate::store::{Batch, DeadLetter, StoreError};

/// The most that is handed to the connection at once.
const PIECE_BYTES: usize = 1 << 20;

/// What a COPY sends within one statement's time even over a slow link; most batches are no larger.
const TIMED_BYTES: usize = 16 << 20;

/// Signature, flags, length of the header's extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

impl Postgres {
    /// Commits a batch and its positions.
    pub(in crate::store) async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let result = self.write_batch(batch).await;
        if let Err(StoreError::Retry { .. } | StoreError::AlreadyStored | StoreError::Schema(_)) =
            &result
        {
            self.forget();
        }
        result
    }

    async fn write_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut lease = self.lease().await?;
        let (rows, days) = self.begin_with_partitions(&mut lease, &batch.rows).await?;
        let copying = spans::statement(System::Postgresql, "COPY", "telemetry_events");
        traced(copying, self.copy(&mut lease, &rows)).await?;
        self.keep_dead_letters(&mut lease, batch).await?;
        if !self.join_account(&mut lease, batch).await? {
            self.roll_back(lease).await?;
            return Err(StoreError::AlreadyStored);
        }
        let committing = spans::statement(System::Postgresql, "COMMIT", "");
        traced(committing, self.commit(lease)).await?;
        self.shared.partitions.note_written(days);
        Ok(())
    }

    /// Copies one harmless row and rolls back.
    pub(in crate::store) async fn probe(&self) -> Result<(), StoreError> {
        let mut lease = self.lease().await?;
        let begun = self.begin(&mut lease).await?;
        let mut rows = Rows::default();
        rows.push_row_received(harmless().row(0), begun.now_us);
        let today = BTreeSet::from([Day::of(begun.now_us)]);
        if !self.shared.partitions.missing(&today).is_empty() {
            end(&mut lease, "ROLLBACK", self.limit()).await?;
            self.make_partitions(&mut lease, &today).await?;
            self.begin(&mut lease).await?;
        }
        self.copy(&mut lease, &rows).await.inspect_err(|error| {
            if is_missing_partition(error) {
                self.forget();
            }
        })?;
        self.roll_back(lease).await
    }

    /// Begins the transaction with a partition in place for every row, whose times of receipt are plausible by now.
    async fn begin_with_partitions<'a>(
        &self,
        lease: &mut Lease,
        rows: &'a Rows,
    ) -> Result<(Cow<'a, Rows>, BTreeSet<Day>), StoreError> {
        // Midnight may pass between the two, hardly twice.
        for _ in 0..3 {
            let begun = self.begin(lease).await?;
            let rows = self.with_plausible_times(rows, begun.now_us);
            let days: BTreeSet<Day> = days(&rows);
            if self.shared.partitions.missing(&days).is_empty() {
                return Ok((rows, days));
            }
            end(lease, "ROLLBACK", self.limit()).await?;
            self.make_partitions(lease, &days).await?;
        }
        Err(retry(
            "schema",
            None,
            "the partitions of a batch's days disappear as soon as they are made: does something else remove them?",
        ))
    }

    /// The rows, with the transaction's time and a flag in place of times of receipt that a machine with a wrong clock
    /// gave them: older than the retention, or more than a day ahead.
    fn with_plausible_times<'a>(&self, rows: &'a Rows, now_us: i64) -> Cow<'a, Rows> {
        let window = Window::at(now_us, self.shared.retention_days);
        let is_believed = |row: &Row<'_>| window.believes(row.created_at_us());
        if rows.iter().all(|row| is_believed(&row)) {
            return Cow::Borrowed(rows);
        }
        let mut patched = Rows::default();
        for row in rows.iter() {
            if is_believed(&row) {
                patched.push_row(row);
            } else {
                patched.push_row_received(row, now_us);
            }
        }
        Cow::Owned(patched)
    }

    /// Sends the rows and compares what the database counted: a stream that ends early is accepted in silence.
    async fn copy(&self, connection: &mut PgConnection, rows: &Rows) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let limit = self.allow(connection, rows.as_bytes().len()).await?;
        let copied = match tokio::time::timeout(limit, send(connection, rows)).await {
            Ok(result) => result.map_err(|error| from_copy(&error))?,
            Err(_) => {
                return Err(retry(
                    "timeout",
                    None,
                    format!(
                        "copying rows took longer than {} s: the database is too slow or the network to it hangs",
                        limit.as_secs()
                    ),
                ));
            }
        };
        if usize::try_from(copied) == Ok(rows.len()) {
            return Ok(());
        }
        Err(retry(
            "count",
            None,
            format!(
                "the database counted {copied} rows where {} were sent: nothing of them is kept",
                rows.len()
            ),
        ))
    }

    /// The deadline of a COPY of so many bytes. A record that is a batch alone cannot be made smaller: it has the time of a
    /// statement for each [`TIMED_BYTES`], the server's time as well as ours.
    async fn allow(
        &self,
        connection: &mut PgConnection,
        bytes: usize,
    ) -> Result<Duration, StoreError> {
        let times = u32::try_from(bytes.div_ceil(TIMED_BYTES)).unwrap_or(u32::MAX);
        if times <= 1 {
            return Ok(self.limit());
        }
        let longer = self.shared.statement_timeout.saturating_mul(times);
        let milliseconds = longer.as_millis().min(i32::MAX as u128);
        within(
            self.limit(),
            "allowing time for a large record",
            sqlx::raw_sql(AssertSqlSafe(format!(
                "SET LOCAL statement_timeout = {milliseconds}"
            )))
            .execute(connection),
        )
        .await?;
        Ok(self.limit().saturating_mul(times))
    }

    async fn keep_dead_letters(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
    ) -> Result<(), StoreError> {
        let letters = &batch.dead_letters;
        if letters.is_empty() {
            return Ok(());
        }
        fn column<'a, T>(letters: &'a [DeadLetter], value: impl Fn(&'a DeadLetter) -> T) -> Vec<T> {
            letters.iter().map(value).collect()
        }
        // The only texts here that a client may have had a hand in.
        let messages = column(letters, |letter| letter.message.replace('\0', "\u{fffd}"));
        within(
            self.limit(),
            "keeping dead letters",
            sqlx::query(
                "INSERT INTO telemetry_dead_letters (stream, position, item, events, kind, content_encoding, decoder, \
                                                     received_at, reason, sqlstate, message, payload) \
                 SELECT $1::uuid, position, item, events, kind, content_encoding, decoder, \
                        timestamptz '2000-01-01 00:00:00+00' + received_us * interval '1 microsecond', \
                        reason, sqlstate, message, payload \
                 FROM unnest($2::bigint[], $3::int[], $4::int[], $5::text[], $6::text[], $7::int[], $8::bigint[], \
                             $9::text[], $10::text[], $11::text[], $12::bytea[]) \
                      AS l (position, item, events, kind, content_encoding, decoder, received_us, reason, sqlstate, \
                            message, payload)",
            )
            .bind(uuid(batch.stream))
            .bind(column(letters, |l| i64::try_from(l.position).unwrap_or(i64::MAX)))
            .bind(column(letters, |l| {
                l.item.map(|item| i32::try_from(item).unwrap_or(i32::MAX))
            }))
            .bind(column(letters, |l| i32::try_from(l.events).unwrap_or(i32::MAX)))
            .bind(column(letters, |l| l.kind))
            .bind(column(letters, |l| l.content_encoding))
            .bind(column(letters, |l| i32::from(l.decoder)))
            .bind(column(letters, |l| postgres_time(l.received_unix_nano)))
            .bind(column(letters, |l| l.reason))
            .bind(column(letters, |l| l.sqlstate.as_deref()))
            .bind(messages)
            .bind(column(letters, |l| l.payload.as_slice()))
            .persistent(false)
            .execute(connection),
        )
        .await?;
        Ok(())
    }

    /// Adds the positions; false when some are there already, or the stream has no row.
    async fn join_account(
        &self,
        connection: &mut PgConnection,
        batch: &Batch,
    ) -> Result<bool, StoreError> {
        let (first, last) = (batch.positions.start(), batch.positions.end());
        let done = within(
            self.limit(),
            "adding to the account",
            sqlx::query(
                "UPDATE ingest_streams SET done = done + int8multirange($1::int8range) \
                 WHERE stream = $2::uuid AND NOT done && $1::int8range",
            )
            .bind(format!("[{first},{})", last.saturating_add(1)))
            .bind(uuid(batch.stream))
            .persistent(false)
            .execute(connection),
        )
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// One COPY; returns the rows that the database says it took.
async fn send(connection: &mut PgConnection, rows: &Rows) -> Result<u64, sqlx::Error> {
    let statement = format!(
        "COPY telemetry_events ({}) FROM STDIN (FORMAT binary)",
        copy::COLUMNS
    );
    let mut copy = connection.copy_in_raw(&statement).await?;
    copy.send(COPY_HEADER).await?;
    for piece in rows.as_bytes().chunks(PIECE_BYTES) {
        copy.send(piece).await?;
    }
    copy.send(&COPY_TRAILER[..]).await?;
    copy.finish().await
}

fn days(rows: &Rows) -> BTreeSet<Day> {
    let mut days = BTreeSet::new();
    let mut last = None;
    for row in rows.iter() {
        let day = Day::of(row.created_at_us());
        if last != Some(day) {
            days.insert(day);
            last = Some(day);
        }
    }
    days
}
