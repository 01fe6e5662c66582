//! The batch transaction: rows, dead letters, positions.
//!
//! **Invariant:** COMMIT is sent only after the database has reported exactly as many rows as the batch holds. The last
//! statement before it adds the positions to the stored positions.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use sqlx::postgres::PgCopyIn;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::event::StreamId;
use crate::store::plausible_time::PlausibleTimes;
use crate::store::postgres::error::{from_copy, is_missing_partition, retry};
use crate::store::postgres::partitions::Day;
use crate::store::postgres::transaction::Transaction;
use crate::store::postgres::{Postgres, uuid};
use crate::store::probe::probe_row;
use crate::store::row_encoding::{self, EncodedRows, postgres_time};
use crate::store::{
    Batch, FailureClass, LargeRecord, LargeRow, RecordPiece, RecordPieces, StoreError,
};
use crate::telemetry::own_traces::spans::{self, DatabaseSystem};
use crate::telemetry::own_traces::traced;

/// Maximum number of bytes that are passed to the connection at a time. The connection copies them, and the copy stays in
/// the processor's cache until the kernel copies it again.
const PIECE_BYTES: usize = 64 << 10;

/// Bytes of dead letters that are collected for one COPY.
const LETTERS_BYTES: usize = 1 << 20;

/// Bytes that a COPY can send within one statement's time even over a slow link. Most batches are no larger.
const TIMED_BYTES: usize = 16 << 20;

/// The header of a COPY: signature, flags, length of the extension.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

impl Postgres {
    /// Commits a batch and its positions.
    pub(in crate::store) async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let written = self.write_batch(batch).await;
        written.inspect_err(|error| self.forget_after(error))
    }

    async fn write_batch(&self, batch: &Batch) -> Result<(), StoreError> {
        let begun = self.begin_with_partitions(|now_us| {
            let rows = self.plausible_times(now_us).apply(&batch.rows);
            let days = days(&rows);
            (rows, days)
        });
        let StartedTransaction {
            mut transaction,
            made: rows,
            days,
        } = begun.await?;
        let copying = spans::statement(DatabaseSystem::Postgresql, "COPY", "telemetry_events");
        traced(copying, transaction.copy(&rows)).await?;
        transaction
            .keep_dead_letters(batch.stream, &batch.dead_letters)
            .await?;
        transaction
            .finish(batch.stream, &batch.positions, days)
            .await
    }

    /// Commits a record whose rows arrive in pieces, and its position.
    pub(in crate::store) async fn write_pieces(
        &self,
        record: LargeRecord,
        pieces: RecordPieces,
    ) -> Result<(), StoreError> {
        let written = self.write_record(record, pieces).await;
        written.inspect_err(|error| self.forget_after(error))
    }

    /// Sends one COPY for each piece, so that a refusal arrives before the next piece is sent and each deadline bounds
    /// one piece.
    async fn write_record(
        &self,
        record: LargeRecord,
        mut pieces: RecordPieces,
    ) -> Result<(), StoreError> {
        let received_us = postgres_time(record.received_unix_nano);
        let begun = self.begin_with_partitions(|now_us| {
            let received_us = self.plausible_times(now_us).or_now(received_us);
            ((), BTreeSet::from([Day::of(received_us)]))
        });
        let StartedTransaction {
            mut transaction,
            days,
            ..
        } = begun.await?;
        let copying = spans::statement(DatabaseSystem::Postgresql, "COPY", "telemetry_events");
        traced(copying, transaction.copy_pieces(record.stream, &mut pieces)).await?;
        let positions = record.position..=record.position;
        transaction.finish(record.stream, &positions, days).await
    }

    fn forget_after(&self, error: &StoreError) {
        if !matches!(error, StoreError::Refused { .. }) {
            self.forget();
        }
    }

    /// Copies one harmless row and rolls back.
    pub(in crate::store) async fn probe(&self) -> Result<(), StoreError> {
        let begun = self.begin_with_partitions(|now_us| ((), BTreeSet::from([Day::of(now_us)])));
        let mut transaction = begun.await?.transaction;
        // A long retention may include the row's own time, whose day has no partition.
        let mut row = EncodedRows::default();
        row.push_row_received(probe_row().row(0), transaction.now_us);
        transaction.copy(&row).await.inspect_err(|error| {
            if is_missing_partition(error) {
                self.forget();
            }
        })?;
        transaction.roll_back().await
    }

    /// Begins the transaction, after creating the missing partitions of the days to be written. `make` derives those
    /// days from the transaction's time; its other result is returned with the transaction.
    async fn begin_with_partitions<T>(
        &self,
        make: impl Fn(i64) -> (T, BTreeSet<Day>),
    ) -> Result<StartedTransaction<'_, T>, StoreError> {
        let mut transaction = self.begin().await?;
        // Midnight may pass between the two transactions, but hardly twice.
        for _ in 0..3 {
            let (made, days) = make(transaction.now_us);
            if self.shared.partitions.missing(&days).is_empty() {
                return Ok(StartedTransaction {
                    transaction,
                    made,
                    days,
                });
            }
            let connection = transaction.make_partitions(&days).await?;
            transaction = self.begin_with(connection).await?;
        }
        Err(retry(
            FailureClass::Schema,
            "the partitions of a batch's days disappear as soon as they are made: does something else remove them?",
        ))
    }

    fn plausible_times(&self, now_us: i64) -> PlausibleTimes {
        PlausibleTimes::at(now_us, self.shared.options.retention_days)
    }
}

impl Transaction<'_> {
    async fn copy_pieces(
        &mut self,
        stream: StreamId,
        pieces: &mut RecordPieces,
    ) -> Result<(), StoreError> {
        let mut sent = 0;
        let (mut letters, mut letter_bytes) = (Vec::new(), 0);
        while let Some(piece) = pieces.next().await? {
            match piece {
                RecordPiece::Rows(rows) => {
                    let plausible = self.store.plausible_times(self.now_us).apply(&rows);
                    let copied = self.copy(&plausible).await;
                    copied.map_err(|error| error.with_row(|row| Some(row? + sent)))?;
                    sent += rows.len();
                }
                RecordPiece::LargeRow(large) => {
                    let copied = self.copy_large_row(&large, pieces).await;
                    // Its dead letter would hold all of its metadata.
                    copied.map_err(|error| error.with_row(|_| None))?;
                    sent += 1;
                }
                RecordPiece::Refused(letter) => {
                    letter_bytes += letter.payload.len();
                    letters.push(letter);
                    if letter_bytes > LETTERS_BYTES {
                        self.keep_dead_letters(stream, &letters).await?;
                        letters.clear();
                        letter_bytes = 0;
                    }
                }
                RecordPiece::Metadata(_) | RecordPiece::End => {}
            }
        }
        self.keep_dead_letters(stream, &letters).await
    }

    /// Sends one row, of whose metadata only one part is held at a time.
    async fn copy_large_row(
        &mut self,
        large: &LargeRow,
        pieces: &mut RecordPieces,
    ) -> Result<(), StoreError> {
        let plausible = self.store.plausible_times(self.now_us).apply(&large.row);
        let head = plausible.row(0).before_metadata(large.metadata_bytes);
        let limit = self.allow(large.metadata_bytes).await?;
        let sending = async {
            let of = |error: sqlx::Error| from_copy(&error);
            let mut copy = begin_copy(self.connection(), &EVENTS).await.map_err(of)?;
            copy.send(&head[..]).await.map_err(of)?;
            let mut missing_bytes = large.metadata_bytes;
            while let Some(part) = pieces.next_metadata(&mut missing_bytes).await? {
                copy.send(part.as_bytes()).await.map_err(of)?;
            }
            end_copy(copy).await.map_err(of)
        };
        counted(within_copy(limit, sending).await?, 1)
    }

    /// Sends rows, as a whole or not at all.
    async fn copy(&mut self, rows: &EncodedRows) -> Result<(), StoreError> {
        self.copy_into(&EVENTS, &[rows.as_bytes()], rows.len())
            .await
    }

    /// Sends tuples and checks the count that the database reports, since a stream that ends early is accepted without
    /// an error.
    pub(super) async fn copy_into(
        &mut self,
        into: &CopyTarget<'_>,
        tuples: &[&[u8]],
        rows: usize,
    ) -> Result<(), StoreError> {
        if rows == 0 {
            return Ok(());
        }
        let bytes = tuples.iter().map(|part| part.len()).sum();
        let limit = self.allow(bytes).await?;
        let sending = async {
            let sent = send(self.connection(), into, tuples).await;
            sent.map_err(|error| (into.error)(&error))
        };
        counted(within_copy(limit, sending).await?, rows)
    }

    /// Returns the deadline of a COPY of `bytes`. A record that is a batch alone cannot be made smaller. Therefore the
    /// server and this process allow it one statement's time for each [`TIMED_BYTES`].
    async fn allow(&mut self, bytes: usize) -> Result<Duration, StoreError> {
        let times = u32::try_from(bytes.div_ceil(TIMED_BYTES)).unwrap_or(u32::MAX);
        if times <= 1 {
            return Ok(self.limit);
        }
        let longer = self
            .store
            .shared
            .options
            .statement_timeout
            .saturating_mul(times);
        let milliseconds = longer.as_millis().min(i32::MAX as u128);
        let allow = format!("SET LOCAL statement_timeout = {milliseconds}");
        self.run_all("allowing time for a large record", AssertSqlSafe(allow))
            .await?;
        Ok(self.limit.saturating_mul(times))
    }

    /// Adds the positions to the stored positions, then commits.
    async fn finish(
        mut self,
        stream: StreamId,
        positions: &RangeInclusive<u64>,
        days: BTreeSet<Day>,
    ) -> Result<(), StoreError> {
        if !self.add_positions(stream, positions).await? {
            self.roll_back().await?;
            return Err(StoreError::AlreadyStored);
        }
        let partitions = &self.store.shared.partitions;
        let committing = spans::statement(DatabaseSystem::Postgresql, "COMMIT", "");
        traced(committing, self.commit()).await?;
        partitions.note_written(days);
        Ok(())
    }

    /// Adds the positions. Returns false if some of them are stored already, or if the stream has no row.
    async fn add_positions(
        &mut self,
        stream: StreamId,
        positions: &RangeInclusive<u64>,
    ) -> Result<bool, StoreError> {
        let (first, last) = (positions.start(), positions.end());
        let add = sqlx::query(
            "UPDATE ingest_streams SET stored_positions = stored_positions + int8multirange($1::int8range) \
             WHERE stream = $2::uuid AND NOT stored_positions && $1::int8range",
        );
        let add = add.bind(format!("[{first},{})", last.saturating_add(1)));
        let changed = self.run("adding to the stored positions", add.bind(uuid(stream)));
        Ok(changed.await? == 1)
    }
}

/// A transaction, the value that `make` derived from its time, and the days, all of which have partitions.
struct StartedTransaction<'a, T> {
    transaction: Transaction<'a>,
    made: T,
    days: BTreeSet<Day>,
}

/// The table that a COPY writes into, its columns, and the function that interprets its errors.
pub(super) struct CopyTarget<'a> {
    pub(super) table: &'a str,
    pub(super) columns: &'a str,
    pub(super) error: fn(&sqlx::Error) -> StoreError,
}

const EVENTS: CopyTarget<'_> = CopyTarget {
    table: "telemetry_events",
    columns: row_encoding::COLUMNS,
    error: from_copy,
};

/// Runs one COPY. Returns the number of rows that the database reports.
async fn send(
    connection: &mut PgConnection,
    into: &CopyTarget<'_>,
    tuples: &[&[u8]],
) -> Result<u64, sqlx::Error> {
    let mut copy = begin_copy(connection, into).await?;
    for part in tuples {
        for piece in part.chunks(PIECE_BYTES) {
            copy.send(piece).await?;
        }
    }
    end_copy(copy).await
}

async fn begin_copy<'c>(
    connection: &'c mut PgConnection,
    into: &CopyTarget<'_>,
) -> Result<PgCopyIn<&'c mut PgConnection>, sqlx::Error> {
    let statement = format!(
        "COPY {} ({}) FROM STDIN (FORMAT binary)",
        into.table, into.columns
    );
    let mut copy = connection.copy_in_raw(&statement).await?;
    copy.send(COPY_HEADER).await?;
    Ok(copy)
}

/// Ends a COPY. Returns the number of rows that the database reports.
async fn end_copy(mut copy: PgCopyIn<&mut PgConnection>) -> Result<u64, sqlx::Error> {
    copy.send(&COPY_TRAILER[..]).await?;
    copy.finish().await
}

async fn within_copy(
    limit: Duration,
    sending: impl Future<Output = Result<u64, StoreError>>,
) -> Result<u64, StoreError> {
    let sent = tokio::time::timeout(limit, sending).await;
    sent.unwrap_or_else(|_| {
        Err(retry(FailureClass::Timeout, format!(
                "copying rows took longer than {} s: the database is too slow or the network to it hangs",
                limit.as_secs()
            ),
        ))
    })
}

/// Compares the number of rows that the database counted with the number sent.
fn counted(copied: u64, rows: usize) -> Result<(), StoreError> {
    if usize::try_from(copied) == Ok(rows) {
        return Ok(());
    }
    Err(retry(
        FailureClass::Count,
        format!(
            "the database counted {copied} rows where {rows} were sent: nothing of them is kept"
        ),
    ))
}

fn days(rows: &EncodedRows) -> BTreeSet<Day> {
    rows.times_received_us().map(Day::of).collect()
}
