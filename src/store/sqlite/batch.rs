//! The transaction of a batch, or of a large record: positions, rows, dead letters.
//!
//! **Invariant:** COMMIT follows only if the database has inserted exactly as many rows as were sent, and none of the
//! positions was stored before.

use sqlx::{Sqlite as Driver, SqliteConnection, Transaction};

use crate::event::Resource;
use crate::store::plausible_time::PlausibleTimes;
use crate::store::probe::probe_row;
use crate::store::row_encoding::{EncodedRows, POSTGRES_EPOCH_US};
use crate::store::sqlite::{Sqlite, now_us, run_on};
use crate::store::{
    Batch, LargeRecord, LargeRow, RecordPiece, RecordPieces, StoreError, StreamHeartbeat,
};
use crate::telemetry::own_traces::spans::{self, DatabaseSystem};
use crate::telemetry::own_traces::traced;

impl Sqlite {
    /// Commits the stream's row and the resources, to which the rows of a batch refer.
    pub(in crate::store) async fn write_resources(
        &self,
        facts: StreamHeartbeat,
        resources: &[&Resource],
    ) -> Result<(), StoreError> {
        let Some(missing) = self.shared.written.missing(facts.stream, resources) else {
            return Ok(());
        };
        self.on_writer(async |connection| {
            let inserting =
                spans::statement(DatabaseSystem::Sqlite, "INSERT", "telemetry_resources");
            traced(inserting, async {
                let mut transaction = self.begin(connection).await?;
                self.ensure_stream(&mut transaction, facts.stream).await?;
                self.insert_resources(&mut transaction, &missing).await?;
                self.within(transaction.commit()).await
            })
            .await
        })
        .await?;
        self.shared.written.add(facts.stream, &missing);
        Ok(())
    }

    /// Commits a batch and its positions.
    pub(in crate::store) async fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let done = self.on_writer(async |connection| {
            let mut transaction = self.begin(connection).await?;
            self.add_positions(&mut transaction, batch.stream, &batch.positions)
                .await?;
            self.insert_plausible(&mut transaction, &batch.rows, self.plausible_times())
                .await?;
            self.insert_dead_letters(&mut transaction, batch.stream, &batch.dead_letters)
                .await?;
            self.commit(transaction, batch.rows.as_bytes().len()).await
        });
        self.shrink_wal_if_full(done.await).await
    }

    /// Commits a record whose rows arrive in pieces, and its position.
    pub(in crate::store) async fn write_pieces(
        &self,
        record: LargeRecord,
        pieces: RecordPieces,
    ) -> Result<(), StoreError> {
        let turn = self.shared.turn.lock().await;
        let connection = self.connection().await?;
        let done = run_on(connection, async |connection| {
            self.write_record(connection, record, pieces).await
        })
        .await;
        drop(turn);
        self.shrink_wal_if_full(done).await
    }

    /// Writes a large record in one transaction. Pages that do not fit into SQLite's cache are in the WAL until the
    /// commit.
    async fn write_record(
        &self,
        connection: &mut SqliteConnection,
        record: LargeRecord,
        mut pieces: RecordPieces,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin(connection).await?;
        let positions = record.position..=record.position;
        self.add_positions(&mut transaction, record.stream, &positions)
            .await?;
        let window = self.plausible_times();
        let (mut sent, mut bytes) = (0, 0);
        while let Some(piece) = pieces.next().await? {
            match piece {
                RecordPiece::Rows(rows) => {
                    let inserted = self.insert_plausible(&mut transaction, &rows, window).await;
                    inserted.map_err(|error| error.with_row(|row| Some(row? + sent)))?;
                    sent += rows.len();
                    bytes += rows.as_bytes().len();
                }
                RecordPiece::LargeRow(LargeRow {
                    row,
                    metadata_bytes,
                }) => {
                    let mut metadata = String::with_capacity(metadata_bytes);
                    let mut missing_bytes = metadata_bytes;
                    while let Some(part) = pieces.next_metadata(&mut missing_bytes).await? {
                        metadata.push_str(&part);
                    }
                    let row = window.apply(&row);
                    self.insert_large(&mut transaction, row.row(0), metadata)
                        .await
                        // Its dead letter would hold all of its metadata.
                        .map_err(|error| error.with_row(|_| None))?;
                    sent += 1;
                    bytes += metadata_bytes;
                }
                RecordPiece::Refused(letter) => {
                    self.insert_dead_letters(&mut transaction, record.stream, &[letter])
                        .await?;
                }
                RecordPiece::Metadata(_) | RecordPiece::End => {}
            }
        }
        self.commit(transaction, bytes).await
    }

    /// Inserts one harmless row and rolls back.
    pub(in crate::store) async fn probe(&self) -> Result<(), StoreError> {
        self.on_writer(async |connection| {
            let mut transaction = self.begin(connection).await?;
            let row = probe_row();
            let row = self.plausible_times().apply(&row);
            self.insert_rows(&mut transaction, &row).await?;
            self.within(transaction.rollback()).await
        })
        .await
    }

    async fn insert_plausible(
        &self,
        connection: &mut SqliteConnection,
        rows: &EncodedRows,
        window: PlausibleTimes,
    ) -> Result<(), StoreError> {
        let rows = window.apply(rows);
        let inserting = spans::statement(DatabaseSystem::Sqlite, "INSERT", "telemetry_events");
        traced(inserting, self.insert_rows(connection, &rows)).await
    }

    fn plausible_times(&self) -> PlausibleTimes {
        PlausibleTimes::at(
            now_us() - POSTGRES_EPOCH_US,
            self.shared.options.retention_days,
        )
    }

    /// Commits rows of `bytes`, which are synced together.
    async fn commit(
        &self,
        transaction: Transaction<'_, Driver>,
        bytes: usize,
    ) -> Result<(), StoreError> {
        let committing = spans::statement(DatabaseSystem::Sqlite, "COMMIT", "");
        traced(committing, self.within_time_of(bytes, transaction.commit())).await
    }
}
