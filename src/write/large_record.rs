//! Writes alone a record whose rows do not fit in memory together, and decodes it again in the meantime.
//!
//! A first walk collects its resources, which are committed in sorted chunks, as before any batch. A second walk sends
//! its rows to the store a piece at a time, within one transaction. If the database refuses a row, the next attempt
//! identifies the row by its number and makes it a dead letter. If the record cannot be decoded to its end, or needs
//! more memory than its limit, the transaction is rolled back and the whole record becomes a dead letter.
//!
//! **Invariant:** beside the record's body, at most three pieces of its rows and the store's copies of one larger row
//! are held. The compressed payload is held only until it is inflated.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::event::{Resource, Signal};
use crate::journal::{JournalEntry, Record};
use crate::store::row_encoding::EncodedRows;
use crate::store::{
    Batch, DeadLetter, DeadLetterReason, FailureClass, LargeRecord, RecordPieces, StoreError,
    StreamHeartbeat,
};
use crate::telemetry::own_traces::{links, spans, traced};
use crate::write::batch_reader::blocking;
use crate::write::batch_summary::{BatchSummary, dead};
use crate::write::commit::{
    CommitResult, Failure, REFUSALS_A_BATCH, facts, probe, with_detail, wrong_setting,
};
use crate::write::dead_letters::{self, DecodeFault};
use crate::write::large_record_walks::{
    RefusedRow, ResourceWalk, RowWalk, WalkResult, index_of, spawn,
};
use crate::write::record_memory::RecordMemory;
use crate::write::{WriteLoop, decode_record};

/// Writes one record, less the rows that the database refuses.
pub(super) async fn write(shared: WriteLoop, record: Record) -> CommitResult {
    let _turn = shared.write_permit().await;
    let began = Instant::now();
    let mark = (record.source.received_unix_nano, record.payload.len());
    let marks = || std::iter::once(mark);
    let span = spans::batch(marks(), 1, record.accepted as usize);
    let mut writing = LargeRecordWrite {
        shared: &shared,
        record: Arc::new(record),
        refused: Vec::new(),
        buried: None,
    };
    let written = traced(span, writing.attempts()).await;
    if written.is_ok() {
        links::forget(marks());
    }
    CommitResult {
        summary: writing.tally(),
        began,
        took: written.map(|()| began.elapsed()),
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

impl LargeRecordWrite<'_> {
    async fn attempts(&mut self) -> Result<(), Failure> {
        let facts = self.facts();
        self.shared.store.write_resources(facts, &[]).await?;
        let fault = match self.inflate().await {
            Ok(body) => self.write_body(body).await?,
            Err(fault) => Some(fault),
        };
        match fault {
            Some(fault) => self.bury(fault).await,
            None => Ok(()),
        }
    }

    /// Returns the body without its content encoding. Drops the payload, which can be read from the journal again.
    async fn inflate(&mut self) -> Result<Bytes, DecodeFault> {
        let record = Arc::clone(&self.record);
        let body = blocking(move || {
            decode_record::guarded(|| {
                decode_record::body(&record).map(|body| match body {
                    std::borrow::Cow::Borrowed(_) => record.payload.clone(),
                    std::borrow::Cow::Owned(body) => body.into(),
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

    /// Returns the reason why the record is to become a dead letter, if so.
    async fn write_body(&mut self, body: Bytes) -> Result<Option<DecodeFault>, Failure> {
        // A native event refers to no resource.
        if self.record.source.signal != Signal::Event
            && let Err(fault) = self.write_resources(&body).await?
        {
            return Ok(Some(fault));
        }
        let mut takes_good_rows = false;
        loop {
            let (sender, pieces) = RecordPieces::new();
            let piece_bytes = self.shared.options.piece_bytes();
            let refused = self.refused.clone();
            let record = Arc::clone(&self.record);
            let walk = RowWalk::new(record, sender, piece_bytes, refused, self.memory(&body));
            let walk = spawn(Arc::clone(&self.record), body.clone(), walk);
            let large = LargeRecord {
                stream: self.record.position.stream,
                position: self.record.position.n,
                received_unix_nano: self.record.source.received_unix_nano,
            };
            let written = self.shared.store.write_pieces(large, pieces).await;
            // The walk ends with the pieces, so two bodies are never held at the same time.
            let walked = walk.await;
            let (sqlstate, row, message, detail) = match (written, walked) {
                (Ok(()), _) => return Ok(None),
                (Err(_), WalkResult::Unreadable(fault)) => return Ok(Some(fault)),
                (
                    Err(StoreError::Refused {
                        sqlstate,
                        row,
                        message,
                        detail,
                    }),
                    _,
                ) => (sqlstate, row, message, detail),
                (Err(error), _) => return Err(error.into()),
            };
            if !takes_good_rows {
                probe(self.shared, &message).await?;
                takes_good_rows = true;
                continue;
            }
            let letter = with_detail(&message, detail);
            let refused = self.refuse(row, sqlstate, &message, letter);
            if let Some(fault) = refused.await? {
                return Ok(Some(fault));
            }
        }
    }

    /// Notes a refused row. Returns the reason why the whole record is refused if the database does not name the row,
    /// or has refused too many.
    async fn refuse(
        &mut self,
        row: Option<usize>,
        sqlstate: String,
        message: &str,
        letter: String,
    ) -> Result<Option<DecodeFault>, Failure> {
        let sent = self.record.accepted as usize - self.refused.len();
        let row = row.filter(|&row| row < sent && self.refused.len() < REFUSALS_A_BATCH);
        let Some(row) = row else {
            if sent == 0 {
                return Err(wrong_setting(message).into());
            }
            probe(self.shared, message).await?;
            return Ok(Some(DecodeFault {
                reason: DeadLetterReason::Refused,
                sqlstate: Some(sqlstate),
                message: letter,
            }));
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
        Ok(None)
    }

    async fn write_resources(&self, body: &Bytes) -> Result<Result<(), DecodeFault>, Failure> {
        let (walk, mut chunks) = ResourceWalk::new(self.memory(body));
        let walk = spawn(Arc::clone(&self.record), body.clone(), walk);
        while let Some(chunk) = chunks.recv().await {
            let chunk: Vec<&Resource> = chunk.values().collect();
            let stored = self.shared.store.write_resources(self.facts(), &chunk);
            if let Err(error) = stored.await {
                drop(chunks);
                walk.await;
                return Err(error.into());
            }
        }
        Ok(match walk.await {
            WalkResult::Unreadable(fault) => Err(fault),
            WalkResult::Whole | WalkResult::Stopped => Ok(()),
        })
    }

    /// Stores the record as a dead letter.
    async fn bury(&mut self, fault: DecodeFault) -> Result<(), Failure> {
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
        Ok(self.shared.store.write(&batch).await?)
    }

    async fn letter(&self, fault: DecodeFault) -> Result<DeadLetter, StoreError> {
        if !self.record.payload.is_empty() || self.record.decoded_bytes == 0 {
            return Ok(dead_letters::whole(&self.record, fault));
        }
        let position = self.record.position;
        let read = self
            .shared
            .journal
            .read(position.stream, position.n, 1)
            .await;
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

    fn memory(&self, body: &Bytes) -> RecordMemory {
        RecordMemory::new(self.shared, &self.record, body.len())
    }

    fn facts(&self) -> StreamHeartbeat {
        facts(
            self.shared,
            self.record.position.stream,
            self.record.position.n,
        )
    }

    fn tally(&self) -> BatchSummary {
        let n = self.record.position.n;
        let refused = self.refused.iter().map(RefusedRow::dead);
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
