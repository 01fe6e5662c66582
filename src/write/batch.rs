//! Builds a batch from entries of the journal: whole records, decoded again under the limits in their headers.
//!
//! **Invariant:** every event of a record is in the batch, as a row or in a dead letter, and the batch's positions are
//! one range without a gap.

use std::collections::{BTreeMap, btree_map};
use std::ops::RangeInclusive;

use crate::decode::{self, DecodeError, DecodeReport, EventMetadata, Sink};
use crate::event::{Event, Position, Resource, ResourceId, Source, StreamId};
use crate::journal::{JournalEntry, Record};
use crate::store::Batch;
use crate::store::row_encoding::EncodedRows;
use crate::telemetry::own_traces::links::RequestTag;
use crate::write::Options;
use crate::write::dead_letters::{self, DecodeFault, RefusedRow, damaged, missing, whole};
use crate::write::decode_record::{body, counted};

/// A batch before its commit, with the origin of each row.
pub(super) struct PendingBatch {
    pub(super) batch: Batch,
    /// Sorted by id, each id once.
    pub(super) resources: BTreeMap<ResourceId, Resource>,
    /// The record, and the item within it, that each row was decoded from.
    items: Vec<RowOrigin>,
    pub(super) records: Vec<Record>,
    /// Number of records, holes and damaged records.
    pub(super) entries: usize,
    decoded_bytes: usize,
    resource_bytes: usize,
}

/// [`decode::events`] or [`decode::clean_events`].
type DecodeEvents =
    fn(&[u8], &Source, Position, &mut dyn Sink) -> Result<DecodeReport, DecodeError>;

/// The reason why none of a record's rows is in the batch.
enum RecordFault {
    /// Its rows and resources exceed the limit.
    TooLarge,
    Decode(DecodeFault),
}

#[derive(Clone, Copy)]
struct RowOrigin {
    position: u64,
    index: u32,
}

/// Returns the positions that an entry covers.
pub(super) fn positions(entry: &JournalEntry) -> RangeInclusive<u64> {
    match entry {
        JournalEntry::Record(record) => record.position.n..=record.position.n,
        JournalEntry::Hole { first, last } | JournalEntry::Missing { first, last } => {
            *first..=*last
        }
        JournalEntry::Damaged { n, .. } => *n..=*n,
    }
}

/// The size of a batch, measured before its entries are decoded.
#[derive(Clone, Copy, Default)]
pub(super) struct BatchSize {
    pub(super) entries: usize,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// The last position, unless the batch is empty.
    pub(super) last: u64,
}

impl BatchSize {
    /// Returns whether the entry may join the batch. An empty batch accepts any entry, so a large record is a batch
    /// alone.
    pub(super) fn takes(
        &self,
        entry: &JournalEntry,
        options: &Options,
        max_entries: usize,
    ) -> bool {
        let (rows, bytes) = weight(entry);
        self.entries == 0
            || self.last + 1 == *positions(entry).start()
                && self.entries < max_entries
                && self.rows + rows <= options.batch_rows
                && self.bytes + bytes <= options.batch_bytes
    }

    pub(super) fn add(&mut self, entry: &JournalEntry) {
        let (rows, bytes) = weight(entry);
        self.entries += 1;
        self.rows += rows;
        self.bytes += bytes;
        self.last = *positions(entry).end();
    }
}

fn weight(entry: &JournalEntry) -> (usize, usize) {
    match entry {
        JournalEntry::Record(record) => (record.accepted as usize, record.decoded_bytes as usize),
        JournalEntry::Hole { .. } | JournalEntry::Missing { .. } => (0, 0),
        JournalEntry::Damaged { bytes, .. } => (0, bytes.len()),
    }
}

impl PendingBatch {
    /// Begins a batch at position `first`. `rows` is an empty buffer.
    pub(super) fn new(stream: StreamId, first: u64, rows: EncodedRows) -> Self {
        Self {
            batch: Batch {
                stream,
                positions: first..=first,
                rows,
                dead_letters: Vec::new(),
            },
            resources: BTreeMap::new(),
            items: Vec::new(),
            records: Vec::new(),
            entries: 0,
            decoded_bytes: 0,
            resource_bytes: 0,
        }
    }

    /// Returns the tags that identified the batch's records before they had positions.
    pub(super) fn request_tags(&self) -> impl Iterator<Item = RequestTag> {
        let tag = |record: &Record| (record.source.received_unix_nano, record.payload.len());
        self.records.iter().map(tag)
    }

    pub(super) fn size(&self) -> BatchSize {
        BatchSize {
            entries: self.entries,
            rows: self.batch.rows.len(),
            bytes: self.decoded_bytes.max(self.bytes()),
            last: *self.batch.positions.end(),
        }
    }

    /// Adds the next entry. Returns its record, and adds nothing of it, if its rows and resources take more than
    /// `max_bytes`. Decodes, so it must not run on a thread of the runtime.
    #[must_use]
    pub(super) fn add(&mut self, entry: JournalEntry, max_bytes: usize) -> Option<Record> {
        let (range, (_, weight)) = (positions(&entry), weight(&entry));
        match entry {
            JournalEntry::Record(record) => {
                if let Some(too_large) = self.add_record(record, max_bytes) {
                    return Some(too_large);
                }
            }
            JournalEntry::Hole { first, last } => {
                tracing::warn!(stream = %self.batch.stream, first, last, "positions that were never confirmed join the stored positions");
            }
            JournalEntry::Missing { first, last } => {
                self.batch.dead_letters.push(missing(first, last));
            }
            JournalEntry::Damaged {
                n,
                accepted,
                bytes,
                reason,
            } => self
                .batch
                .dead_letters
                .push(damaged(n, accepted, bytes, reason)),
        }
        self.batch.positions = *self.batch.positions.start()..=*range.end();
        self.entries += 1;
        self.decoded_bytes += weight;
        None
    }

    /// Adds a record as a dead letter, without decoding it.
    pub(super) fn add_as_dead_letter(&mut self, record: Record, fault: DecodeFault) {
        let n = record.position.n;
        self.batch.positions = *self.batch.positions.start()..=n;
        self.batch.dead_letters.push(whole(&record, fault));
        self.records.push(record);
        self.entries += 1;
    }

    /// Returns the number of bytes of all rows and resources.
    pub(super) fn bytes(&self) -> usize {
        self.batch.rows.as_bytes().len() + self.resource_bytes
    }

    fn add_record(&mut self, record: Record, max_bytes: usize) -> Option<Record> {
        let is_clean = record.is_clean && record.source.version == decode::VERSION;
        let without_validation =
            is_clean.then(|| self.add_rows(&record, max_bytes, decode::clean_events));
        let added = match without_validation {
            Some(added @ (Ok(()) | Err(RecordFault::TooLarge))) => added,
            // If a header wrongly says that its record is clean, validation decides.
            None | Some(Err(RecordFault::Decode(_))) => {
                self.add_rows(&record, max_bytes, decode::events)
            }
        };
        match added {
            Ok(()) => {}
            Err(RecordFault::TooLarge) => return Some(record),
            Err(RecordFault::Decode(fault)) => {
                self.batch.dead_letters.push(whole(&record, fault));
            }
        }
        self.records.push(record);
        None
    }

    /// Adds the rows that `decode` makes of a record: all of them or, if there is a fault, none.
    fn add_rows(
        &mut self,
        record: &Record,
        max_bytes: usize,
        decode: DecodeEvents,
    ) -> Result<(), RecordFault> {
        let rows_before = self.batch.rows.len();
        let mut sink = RowSink {
            max_bytes: self.bytes() + max_bytes,
            pending: self,
            record,
            events: 0,
            is_full: false,
        };
        let decoded = counted(record, || {
            let body = body(record)?;
            decode(&body, &record.source, record.position, &mut sink)
                .map_err(|error| error.to_string())?;
            Ok(sink.events)
        });
        let added = if sink.is_full {
            Err(RecordFault::TooLarge)
        } else {
            decoded.map_err(RecordFault::Decode)
        };
        if added.is_err() {
            self.batch.rows.truncate(rows_before);
            self.items.truncate(rows_before);
        }
        added
    }

    /// Removes a row that the database refused, and adds it as a dead letter.
    pub(super) fn refuse_row(&mut self, row: usize, sqlstate: String, message: String) {
        let item = self.items.remove(row);
        let record = self
            .records
            .binary_search_by_key(&item.position, |record| record.position.n)
            .map(|index| &self.records[index])
            .expect("a row's record is in its batch");
        let refused = RefusedRow {
            index: item.index,
            sqlstate,
            message,
        };
        let letter = dead_letters::row(record, refused, self.batch.rows.row(row));
        self.batch.rows.remove(row);
        self.batch.dead_letters.push(letter);
    }

    /// Turns the only record of the batch into a dead letter. Used if the database does not report which row it
    /// refuses.
    pub(super) fn refuse_record(&mut self, sqlstate: String, message: String) {
        let fault = DecodeFault::refused(sqlstate, message);
        self.batch.dead_letters = vec![whole(&self.records[0], fault)];
        self.batch.rows.clear();
        self.items.clear();
    }
}

/// Adds the rows of one record to the batch.
struct RowSink<'a> {
    pending: &'a mut PendingBatch,
    record: &'a Record,
    events: u32,
    /// Maximum number of bytes of the batch's rows and resources.
    max_bytes: usize,
    is_full: bool,
}

impl Sink for RowSink<'_> {
    fn wants_resource(&mut self, about_bytes: usize) -> bool {
        self.is_full |= self.pending.bytes() + about_bytes > self.max_bytes;
        !self.is_full
    }

    fn resource(&mut self, resource: Resource) {
        let pending = &mut *self.pending;
        if let btree_map::Entry::Vacant(entry) = pending.resources.entry(resource.id) {
            pending.resource_bytes += resource.resource.len() + resource.scope.len();
            entry.insert(resource);
        }
    }

    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        let pending = &mut *self.pending;
        let bytes = pending.bytes();
        self.is_full |= metadata.exceeds(self.max_bytes.saturating_sub(bytes));
        if self.is_full {
            return;
        }
        pending.items.push(RowOrigin {
            position: self.record.position.n,
            index: self.events,
        });
        let received_unix_nano = self.record.source.received_unix_nano;
        let rows = &mut pending.batch.rows;
        rows.push_with(event, received_unix_nano, |row| metadata.append_to(row));
        self.events += 1;
    }

    fn wants_more(&self) -> bool {
        !self.is_full
    }
}

#[cfg(test)]
mod tests;
