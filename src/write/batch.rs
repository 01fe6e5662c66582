//! Entries of the log to one batch: whole records, decoded again under the header's own limits.
//!
//! **Invariant:** the events of each record are all in the batch, as rows or as dead letters, and the batch's positions are
//! one range without a gap.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Options;
use crate::decode;
use crate::decode::inflate::{ContentEncoding, inflate};
use crate::event::{Encoding, Event, Resource, ResourceId, Signal};
use crate::log::{Entry, Record, StreamId};
use crate::observe::own_traces::links::Mark;
use crate::store::copy::Rows;
use crate::store::{Batch, DeadLetter};

/// A batch with what is needed to explain it.
pub(super) struct Built {
    pub(super) batch: Batch,
    /// Sorted by id, each once.
    pub(super) resources: BTreeMap<ResourceId, Resource>,
    /// Which item of which record each row is.
    items: Vec<Item>,
    records: Vec<Record>,
    /// Records, holes and damage.
    pub(super) entries: usize,
    decoded_bytes: usize,
}

#[derive(Clone, Copy)]
struct Item {
    position: u64,
    index: u32,
}

/// The positions that an entry stands for.
pub(super) fn positions(entry: &Entry) -> RangeInclusive<u64> {
    match entry {
        Entry::Record(record) => record.position.n..=record.position.n,
        Entry::Hole { first, last } | Entry::Missing { first, last } => *first..=*last,
        Entry::Damaged { n, .. } => *n..=*n,
    }
}

/// How much entries make of a batch, before they are decoded.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) entries: usize,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// The last position; 0 = none yet.
    pub(super) last: u64,
}

impl Size {
    /// Whether the entry may join what is there already. Anything joins an empty batch: a large record is one alone.
    pub(super) fn takes(&self, entry: &Entry, options: &Options, most_entries: usize) -> bool {
        let (rows, bytes) = weight(entry);
        self.entries == 0
            || self.last + 1 == *positions(entry).start()
                && self.entries < most_entries
                && self.rows + rows <= options.batch_rows
                && self.bytes + bytes <= options.batch_bytes
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        let (rows, bytes) = weight(entry);
        self.entries += 1;
        self.rows += rows;
        self.bytes += bytes;
        self.last = *positions(entry).end();
    }
}

fn weight(entry: &Entry) -> (usize, usize) {
    match entry {
        Entry::Record(record) => (record.accepted as usize, record.decoded_bytes as usize),
        Entry::Hole { .. } | Entry::Missing { .. } => (0, 0),
        Entry::Damaged { bytes, .. } => (0, bytes.len()),
    }
}

impl Built {
    pub(super) fn new(stream: StreamId, first: u64) -> Self {
        Self {
            batch: Batch {
                stream,
                positions: first..=first,
                rows: Rows::default(),
                dead_letters: Vec::new(),
            },
            resources: BTreeMap::new(),
            items: Vec::new(),
            records: Vec::new(),
            entries: 0,
            decoded_bytes: 0,
        }
    }

    /// What its records were known by before they had positions.
    pub(super) fn marks(&self) -> impl Iterator<Item = Mark> {
        let mark = |record: &Record| (record.source.received_unix_nano, record.payload.len());
        self.records.iter().map(mark)
    }

    pub(super) fn records(&self) -> usize {
        self.records.len()
    }

    pub(super) fn size(&self) -> Size {
        Size {
            entries: self.entries,
            rows: self.batch.rows.len(),
            bytes: self.decoded_bytes.max(self.batch.rows.as_bytes().len()),
            last: if self.entries == 0 {
                0
            } else {
                *self.batch.positions.end()
            },
        }
    }

    /// Adds the next entry. Decodes: not for a runtime's thread.
    pub(super) fn add(&mut self, entry: Entry) {
        let range = positions(&entry);
        self.batch.positions = *self.batch.positions.start()..=*range.end();
        self.entries += 1;
        self.decoded_bytes += weight(&entry).1;
        match entry {
            Entry::Record(record) => self.add_record(record),
            Entry::Hole { first, last } => {
                tracing::warn!(stream = %self.batch.stream, first, last, "positions that were never confirmed join the account");
            }
            Entry::Missing { first, last } => self.batch.dead_letters.push(missing(first, last)),
            Entry::Damaged {
                n,
                accepted,
                bytes,
                reason,
            } => self.batch.dead_letters.push(DeadLetter {
                position: n,
                item: None,
                events: accepted.unwrap_or(0),
                kind: "unknown",
                content_encoding: "identity",
                decoder: 0,
                received_unix_nano: 0,
                reason: "damaged",
                sqlstate: None,
                message: reason,
                payload: bytes.to_vec(),
            }),
        }
    }

    fn add_record(&mut self, record: Record) {
        let rows_before = self.batch.rows.len();
        let decoded = catch_unwind(AssertUnwindSafe(|| decode_into(self, &record)));
        let failure = match decoded {
            Ok(Ok(events)) if events == record.accepted => None,
            Ok(Ok(events)) => Some((
                "miscounted",
                format!("{events} events decoded, {} were accepted", record.accepted),
            )),
            Ok(Err(message)) => Some(("undecodable", message)),
            Err(panic) => Some((
                "undecodable",
                format!("the decoder failed: {}", panic_text(&*panic)),
            )),
        };
        if let Some((reason, message)) = failure {
            self.batch.rows.truncate(rows_before);
            self.items.truncate(rows_before);
            self.batch
                .dead_letters
                .push(whole(&record, reason, None, message));
        }
        self.records.push(record);
    }

    /// Moves a row that the database refused to the dead letters.
    pub(super) fn refuse_row(&mut self, row: usize, sqlstate: String, message: String) {
        let item = self.items.remove(row);
        let payload = self.batch.rows.row(row).to_json().into_bytes();
        self.batch.rows.remove(row);
        let received = self.record(item.position);
        self.batch.dead_letters.push(DeadLetter {
            position: item.position,
            item: Some(item.index),
            events: 1,
            kind: "row",
            content_encoding: "identity",
            decoder: received.map_or(0, |record| record.source.version),
            received_unix_nano: received.map_or(0, |record| record.source.received_unix_nano),
            reason: "refused",
            sqlstate: Some(sqlstate),
            message,
            payload,
        });
    }

    /// Moves every record that has rows to the dead letters, when the database does not say which row it refuses.
    pub(super) fn refuse_all(&mut self, sqlstate: &str, message: &str) {
        let mut letters = std::mem::take(&mut self.batch.dead_letters);
        for record in &self.records {
            if self
                .items
                .iter()
                .any(|item| item.position == record.position.n)
            {
                letters.retain(|letter| letter.position != record.position.n);
                letters.push(whole(
                    record,
                    "refused",
                    Some(sqlstate.to_owned()),
                    message.to_owned(),
                ));
            }
        }
        self.batch.dead_letters = letters;
        self.batch.rows.clear();
        self.items.clear();
    }

    fn record(&self, position: u64) -> Option<&Record> {
        let found = self
            .records
            .binary_search_by_key(&position, |record| record.position.n);
        found.ok().map(|index| &self.records[index])
    }
}

/// The record's events into rows; how many there were.
fn decode_into(built: &mut Built, record: &Record) -> Result<u32, String> {
    let limit = record.decoded_bytes as usize;
    let body = inflate(record.content_encoding, &record.payload, limit, &mut |_| {
        true
    })
    .map_err(|error| error.to_string())?;
    let mut taker = Taker {
        built,
        record,
        events: 0,
    };
    decode::events(&body, &record.source, record.position, &mut taker)
        .map_err(|error| error.to_string())?;
    Ok(taker.events)
}

struct Taker<'a> {
    built: &'a mut Built,
    record: &'a Record,
    events: u32,
}

impl decode::Sink for Taker<'_> {
    fn resource(&mut self, resource: Resource) {
        self.built.resources.entry(resource.id).or_insert(resource);
    }

    fn event(&mut self, event: &Event<'_>) {
        self.built.items.push(Item {
            position: self.record.position.n,
            index: self.events,
        });
        self.built
            .batch
            .rows
            .push(event, self.record.source.received_unix_nano);
        self.events += 1;
    }
}

/// One dead letter for all records of a range of which nothing is left, however many there were.
fn missing(first: u64, last: u64) -> DeadLetter {
    let records = last - first + 1;
    DeadLetter {
        position: first,
        item: None,
        events: 0,
        kind: "unknown",
        content_encoding: "identity",
        decoder: 0,
        received_unix_nano: 0,
        reason: "damaged",
        sqlstate: None,
        message: format!(
            "{records} acknowledged records, positions {first} to {last}, are lost: no file of the log holds anything of them"
        ),
        payload: Vec::new(),
    }
}

/// A record-level dead letter: the client's own bytes.
fn whole(
    record: &Record,
    reason: &'static str,
    sqlstate: Option<String>,
    message: String,
) -> DeadLetter {
    DeadLetter {
        position: record.position.n,
        item: None,
        events: record.accepted,
        kind: kind(record.source.signal, record.source.encoding),
        content_encoding: content_encoding(record.content_encoding),
        decoder: record.source.version,
        received_unix_nano: record.source.received_unix_nano,
        reason,
        sqlstate,
        message,
        payload: record.payload.to_vec(),
    }
}

const fn kind(signal: Signal, encoding: Encoding) -> &'static str {
    match (signal, encoding) {
        (Signal::Event, Encoding::Json) => "event/json",
        (Signal::Event, Encoding::NdJson) => "event/ndjson",
        (Signal::Event, Encoding::Protobuf) => "event/protobuf",
        (Signal::Span, Encoding::Json) => "span/json",
        (Signal::Span, Encoding::NdJson) => "span/ndjson",
        (Signal::Span, Encoding::Protobuf) => "span/protobuf",
        (Signal::Log, Encoding::Json) => "log/json",
        (Signal::Log, Encoding::NdJson) => "log/ndjson",
        (Signal::Log, Encoding::Protobuf) => "log/protobuf",
        (Signal::Metric, Encoding::Json) => "metric/json",
        (Signal::Metric, Encoding::NdJson) => "metric/ndjson",
        (Signal::Metric, Encoding::Protobuf) => "metric/protobuf",
    }
}

const fn content_encoding(encoding: ContentEncoding) -> &'static str {
    match encoding {
        ContentEncoding::Identity => "identity",
        ContentEncoding::Gzip => "gzip",
        ContentEncoding::Zstd => "zstd",
        ContentEncoding::Deflate => "deflate",
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
