//! Writes alone a record whose rows do not fit in memory together, and decodes it again in the meantime.
//!
//! A first walk collects its resources, which are committed in sorted chunks, as before any batch. A second walk sends
//! its rows to the store a piece at a time, within one transaction. If the database refuses a row, the next attempt
//! identifies the row by its number and makes it a dead letter. If the record cannot be decoded to its end, or needs
//! more memory than its limit, the transaction is rolled back and the whole record becomes a dead letter.
//!
//! **Invariant:** beside the record's body, at most three pieces of its rows and the store's copies of one larger row
//! are held. The compressed payload is held only until it is inflated.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::event::{Position, Resource, Signal};
use crate::journal::{JournalEntry, Record};
use crate::store::row_encoding::EncodedRows;
use crate::store::{
    Batch, DeadLetter, DeadLetterReason, FailureClass, LargeRecord, StoreError, StreamHeartbeat,
};
use crate::telemetry::own_traces::{links, spans, traced};
use crate::write::batch_reader::blocking;
use crate::write::batch_summary::{BatchSummary, dead};
use crate::write::commit::{
    CommitResult, Failure, REFUSALS_A_BATCH, facts, probe, with_detail, wrong_setting,
};
use crate::write::dead_letters::RefusedRow;
use crate::write::dead_letters::{self, DecodeFault};
use crate::write::large_record_walks::{ResourceWalk, RowWalk, index_of, spawn};
use crate::write::record_memory::RecordMemory;
use crate::write::{WriteLoop, decode_record};

/// Writes one record, less the rows that the database refuses.
pub(super) async fn write(shared: &WriteLoop, record: Record) -> CommitResult {
    let _permit = shared.write_permit().await;
    let began = Instant::now();
    let tag = (record.source.received_unix_nano, record.payload.len());
    let tags = || std::iter::once(tag);
    let span = spans::batch(tags(), 1, record.accepted as usize);
    let mut writing = LargeRecordWrite {
        shared,
        record: Arc::new(record),
        refused: Vec::new(),
        buried: None,
    };
    let written = traced(span, writing.write()).await;
    if written.is_ok() {
        links::forget(tags());
    }
    CommitResult {
        summary: writing.summary(),
        began,
        outcome: written.map(|()| began.elapsed()).map_err(Failure::from),
    }
}

struct LargeRecordWrite<'a> {
    shared: &'a WriteLoop,
    /// Its payload is empty once it is inflated.
    record: Arc<Record>,
    /// Sorted by the row's number.
    refused: Vec<RefusedRow>,
    /// The reason and events of the whole record's dead letter, if it becomes one.
    buried: Option<(DeadLetterReason, u64)>,
}

/// The reason why the rows of a record are not stored.
enum Unwritten {
    /// The whole record is to become a dead letter.
    Record(DecodeFault),
    /// The attempt failed.
    Attempt(StoreError),
}

impl From<DecodeFault> for Unwritten {
    fn from(fault: DecodeFault) -> Self {
        Self::Record(fault)
    }
}

impl From<StoreError> for Unwritten {
    fn from(error: StoreError) -> Self {
        Self::Attempt(error)
    }
}

impl LargeRecordWrite<'_> {
    async fn write(&mut self) -> Result<(), StoreError> {
        let facts = self.facts();
        self.shared.store.write_resources(facts, &[]).await?;
        match self.write_events().await {
            Ok(()) => Ok(()),
            Err(Unwritten::Record(fault)) => self.bury(fault).await,
            Err(Unwritten::Attempt(error)) => Err(error),
        }
    }

    async fn write_events(&mut self) -> Result<(), Unwritten> {
        let body = self.inflate().await?;
        let memory = RecordMemory::new(self.shared, &self.record, body.len());
        // A native event refers to no resource.
        if self.record.source.signal != Signal::Event {
            self.write_resources(&body, memory).await?;
        }
        let large = LargeRecord {
            stream: self.record.position.stream,
            position: self.record.position.n,
            received_unix_nano: self.record.source.received_unix_nano,
        };
        let piece_bytes = self.shared.options.piece_bytes();
        let mut takes_good_rows = false;
        loop {
            let record = Arc::clone(&self.record);
            let (walk, pieces) = RowWalk::new(record, piece_bytes, self.refused.clone(), memory);
            let walk = spawn(Arc::clone(&self.record), body.clone(), walk);
            let written = self.shared.store.write_pieces(large, pieces).await;
            // The walk ends with the pieces, so two bodies are never held at the same time.
            let walked = walk.await;
            let (sqlstate, row, message, detail) = match written {
                Ok(()) => return Ok(()),
                Err(_) if let Err(fault) = walked => return Err(fault.into()),
                Err(StoreError::Refused {
                    sqlstate,
                    row,
                    message,
                    detail,
                }) => (sqlstate, row, message, detail),
                Err(error) => return Err(error.into()),
            };
            if takes_good_rows {
                let letter = with_detail(&message, detail);
                self.refuse(row, sqlstate, &message, letter).await?;
            } else {
                probe(self.shared, &message).await?;
                takes_good_rows = true;
            }
        }
    }

    /// Returns the body without its content encoding. Drops the payload, which can be read from the journal again.
    async fn inflate(&mut self) -> Result<Bytes, DecodeFault> {
        let record = Arc::clone(&self.record);
        let body = blocking(move || {
            decode_record::guarded(|| {
                decode_record::body(&record).map(|body| match body {
                    Cow::Borrowed(_) => record.payload.clone(),
                    Cow::Owned(body) => body.into(),
                })
            })
        })
        .await?;
        self.record = Arc::new(Record {
            payload: Bytes::new(),
            ..Record::clone(&self.record)
        });
        Ok(body)
    }

    /// Notes a refused row. Fails if the database does not name the row, or has refused too many.
    async fn refuse(
        &mut self,
        row: Option<usize>,
        sqlstate: String,
        message: &str,
        letter: String,
    ) -> Result<(), Unwritten> {
        let sent = self.record.accepted as usize - self.refused.len();
        let row = row.filter(|&row| row < sent && self.refused.len() < REFUSALS_A_BATCH);
        let Some(row) = row else {
            if sent == 0 {
                return Err(wrong_setting(message).into());
            }
            probe(self.shared, message).await?;
            return Err(DecodeFault::refused(sqlstate, letter).into());
        };
        // This many refusals indicate a wrong setting long before the last row is refused.
        if self.refused.len() + 1 == REFUSALS_A_BATCH || sent == 1 {
            probe(self.shared, message).await?;
        }
        let index = index_of(row, &self.refused);
        let place = self.refused.partition_point(|other| other.index < index);
        let refused = RefusedRow {
            index,
            sqlstate,
            message: letter,
        };
        self.refused.insert(place, refused);
        Ok(())
    }

    async fn write_resources(&self, body: &Bytes, memory: RecordMemory) -> Result<(), Unwritten> {
        let (walk, mut chunks) = ResourceWalk::new(memory);
        let walk = spawn(Arc::clone(&self.record), body.clone(), walk);
        let mut stored = Ok(());
        while stored.is_ok()
            && let Some(chunk) = chunks.recv().await
        {
            let chunk: Vec<&Resource> = chunk.values().collect();
            let store = &self.shared.store;
            stored = store.write_resources(self.facts(), &chunk).await;
        }
        // This ends a walk whose chunks cannot be stored.
        drop(chunks);
        let walked = walk.await;
        stored?;
        Ok(walked?)
    }

    /// Stores the record as a dead letter.
    async fn bury(&mut self, fault: DecodeFault) -> Result<(), StoreError> {
        self.refused.clear();
        let letter = self.letter(fault).await?;
        self.buried = Some(dead(&letter));
        let n = self.record.position.n;
        let batch = Batch {
            stream: self.record.position.stream,
            positions: n..=n,
            rows: EncodedRows::default(),
            dead_letters: vec![letter],
        };
        self.shared.store.write(&batch).await
    }

    async fn letter(&self, fault: DecodeFault) -> Result<DeadLetter, StoreError> {
        if !self.record.payload.is_empty() || self.record.decoded_bytes == 0 {
            return Ok(dead_letters::whole(&self.record, fault));
        }
        let position = self.record.position;
        let journal = &self.shared.journal;
        let read = journal.read(position.stream, position.n, 1).await;
        let why = match read.map(|entries| entries.into_iter().next()) {
            Ok(Some(JournalEntry::Record(record))) if record.position == position => {
                return Ok(dead_letters::whole(&record, fault));
            }
            Ok(Some(JournalEntry::Damaged {
                n,
                accepted,
                bytes,
                reason,
            })) if n == position.n => return Ok(dead_letters::damaged(n, accepted, bytes, reason)),
            Ok(_) => "it is no longer there".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("record {} cannot be read again: {why}", position.n);
        Err(StoreError::retry(FailureClass::Other, message))
    }

    fn facts(&self) -> StreamHeartbeat {
        let Position { stream, n } = self.record.position;
        facts(self.shared, stream, n)
    }

    fn summary(&self) -> BatchSummary {
        let n = self.record.position.n;
        let refused = self.refused.iter().map(|_| (DeadLetterReason::Refused, 1));
        let dead: Vec<_> = self.buried.into_iter().chain(refused).collect();
        let dead_events: u64 = dead.iter().map(|(_, events)| events).sum();
        BatchSummary {
            stream: self.record.position.stream,
            positions: n..=n,
            entries: 1,
            rows: u64::from(self.record.accepted).saturating_sub(dead_events),
            records: 1,
            dead,
        }
    }
}
