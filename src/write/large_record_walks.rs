//! Decodes one record on a thread that may block, and sends the results through a channel a few at a time.
//!
//! **Invariant:** a walk ends soon after its receiver is dropped. It sends [`RecordPiece::End`] only if the record was
//! decoded to its end and its events were counted as its header states.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::decode::{self, EventMetadata, Sink};
use crate::event::{Event, Resource, ResourceId};
use crate::journal::Record;
use crate::store::row_encoding::EncodedRows;
use crate::store::{LargeRow, RecordPiece, RecordPieces};
use crate::write::batch_reader::blocking;
use crate::write::dead_letters::{self, DecodeFault, RefusedRow};
use crate::write::decode_record::counted;
use crate::write::record_memory::RecordMemory;

/// Maximum number of bytes of resources in one transaction. A larger resource is written alone.
const CHUNK_BYTES: usize = 1 << 20;

/// Bytes that a resource takes in addition to its texts.
const RESOURCE_BYTES: usize = 128;

/// Returns a row's number in its record, from 0, given its number `sent` among the rows that were not refused.
/// `refused` is sorted by those rows' numbers.
pub(super) fn index_of(sent: usize, refused: &[RefusedRow]) -> u32 {
    let mut index = u32::try_from(sent).unwrap_or(u32::MAX);
    for refused in refused {
        if refused.index <= index {
            index += 1;
        }
    }
    index
}

/// The count, the limit and the fault of a walk.
pub(super) struct WalkState {
    events: u32,
    memory: RecordMemory,
    /// The reason why the record cannot be written, if that ended the walk.
    fault: Option<DecodeFault>,
}

impl WalkState {
    const fn new(memory: RecordMemory) -> Self {
        Self {
            events: 0,
            memory,
            fault: None,
        }
    }
}

/// A sink that a walk fills.
pub(super) trait RecordWalk: Sink + Send + 'static {
    fn state(&mut self) -> &mut WalkState;
    /// Sends the rest, once the record was decoded to its end.
    fn finish(self);
}

/// Starts a walk over a whole record. It is `Ok` if the record was decoded to its end, and if the receiver was dropped.
///
/// # Errors
/// The reason why the record cannot be written.
pub(super) fn spawn(
    record: Arc<Record>,
    body: Bytes,
    mut walk: impl RecordWalk,
) -> impl Future<Output = Result<(), DecodeFault>> {
    blocking(move || {
        let decoded = counted(&record, || {
            decode::events(&body, &record.source, record.position, &mut walk)
                .map_err(|error| error.to_string())?;
            Ok(walk.state().events)
        });
        if let Some(fault) = walk.state().fault.take() {
            return Err(fault);
        }
        if walk.wants_more() {
            decoded?;
            walk.finish();
        }
        Ok(())
    })
}

/// Collects resources in chunks that are sorted by id.
pub(super) struct ResourceWalk {
    sender: mpsc::Sender<BTreeMap<ResourceId, Resource>>,
    chunk: BTreeMap<ResourceId, Resource>,
    chunk_bytes: usize,
    state: WalkState,
}

impl ResourceWalk {
    pub(super) fn new(
        memory: RecordMemory,
    ) -> (Self, mpsc::Receiver<BTreeMap<ResourceId, Resource>>) {
        let (sender, receiver) = mpsc::channel(1);
        let walk = Self {
            sender,
            chunk: BTreeMap::new(),
            chunk_bytes: 0,
            state: WalkState::new(memory),
        };
        (walk, receiver)
    }

    fn flush(&mut self) {
        self.chunk_bytes = 0;
        // The send fails once the receiver is dropped; `wants_more` then returns false.
        let _ = self.sender.blocking_send(std::mem::take(&mut self.chunk));
    }
}

impl Sink for ResourceWalk {
    fn wants_resource(&mut self, about_bytes: usize) -> bool {
        self.state.fault = self.state.memory.resource_fault(about_bytes);
        self.state.fault.is_none()
    }

    fn resource(&mut self, resource: Resource) {
        self.chunk_bytes += resource.resource.len() + resource.scope.len() + RESOURCE_BYTES;
        self.chunk.insert(resource.id, resource);
        if self.chunk_bytes >= CHUNK_BYTES {
            self.flush();
        }
    }

    fn event(&mut self, _event: &Event<'_>, _metadata: &EventMetadata<'_>) {
        self.state.events += 1;
    }

    fn wants_more(&self) -> bool {
        self.state.fault.is_none() && !self.sender.is_closed()
    }
}

impl RecordWalk for ResourceWalk {
    fn state(&mut self) -> &mut WalkState {
        &mut self.state
    }

    fn finish(mut self) {
        if !self.chunk.is_empty() {
            self.flush();
        }
    }
}

/// Sends rows in pieces, and refused rows as dead letters.
pub(super) struct RowWalk {
    record: Arc<Record>,
    sender: mpsc::Sender<RecordPiece>,
    rows: EncodedRows,
    /// A piece is sent once the next row would exceed this size.
    piece_bytes: usize,
    refused: std::iter::Peekable<std::vec::IntoIter<RefusedRow>>,
    state: WalkState,
}

impl RowWalk {
    pub(super) fn new(
        record: Arc<Record>,
        piece_bytes: usize,
        refused: Vec<RefusedRow>,
        memory: RecordMemory,
    ) -> (Self, RecordPieces) {
        let (sender, pieces) = RecordPieces::new();
        let walk = Self {
            record,
            sender,
            rows: EncodedRows::default(),
            piece_bytes,
            refused: refused.into_iter().peekable(),
            state: WalkState::new(memory),
        };
        (walk, pieces)
    }

    fn send(&self, piece: RecordPiece) {
        // The send fails once the receiver is dropped; `wants_more` then returns false.
        let _ = self.sender.blocking_send(piece);
    }

    fn flush(&mut self) {
        if !self.rows.is_empty() {
            let rows = std::mem::take(&mut self.rows);
            self.send(RecordPiece::Rows(rows));
        }
    }

    fn send_refused(&self, event: &Event<'_>, metadata: &EventMetadata<'_>, refused: RefusedRow) {
        let mut rows = EncodedRows::default();
        let received_unix_nano = self.record.source.received_unix_nano;
        rows.push_with(event, received_unix_nano, |row| metadata.append_to(row));
        let letter = dead_letters::row(&self.record, refused, rows.row(0));
        self.send(RecordPiece::Refused(letter));
    }
}

impl Sink for RowWalk {
    /// Returns false, since the resources are stored already.
    fn wants_resource(&mut self, _about_bytes: usize) -> bool {
        false
    }

    fn resource(&mut self, _resource: Resource) {}

    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        if metadata.exceeds(self.piece_bytes) {
            return self.large_event(event, metadata);
        }
        let index = self.state.events;
        self.state.events += 1;
        if let Some(refused) = self.refused.next_if(|refused| refused.index == index) {
            return self.send_refused(event, metadata, refused);
        }
        let room_bytes = self.piece_bytes.saturating_sub(self.rows.as_bytes().len());
        if metadata.exceeds(room_bytes) {
            self.flush();
        }
        let received_unix_nano = self.record.source.received_unix_nano;
        self.rows
            .push_with(event, received_unix_nano, |row| metadata.append_to(row));
    }

    fn wants_more(&self) -> bool {
        self.state.fault.is_none() && !self.sender.is_closed()
    }
}

impl RowWalk {
    fn large_event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        self.state.events += 1;
        self.state.fault = self.state.memory.row_fault(metadata.bytes());
        if self.state.fault.is_some() {
            return;
        }
        self.flush();
        let mut row = EncodedRows::default();
        row.push(event, self.record.source.received_unix_nano);
        self.send(RecordPiece::LargeRow(LargeRow {
            row,
            metadata_bytes: metadata.bytes(),
        }));
        metadata.write(&mut |part| {
            if self.wants_more() {
                self.send(RecordPiece::Metadata(part.to_owned()));
            }
        });
    }
}

impl RecordWalk for RowWalk {
    fn state(&mut self) -> &mut WalkState {
        &mut self.state
    }

    fn finish(mut self) {
        self.flush();
        self.send(RecordPiece::End);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::{ResourceWalk, RowWalk, index_of};
    use crate::decode::{self, Sink, VERSION};
    use crate::event::{ContentEncoding, Encoding, Limits, Position, Signal, Source, StreamId};
    use crate::journal::Record;
    use crate::write::dead_letters::RefusedRow;
    use crate::write::record_memory::RecordMemory;

    fn refused(index: u32) -> RefusedRow {
        RefusedRow {
            index,
            sqlstate: String::new(),
            message: String::new(),
        }
    }

    fn record(signal: Signal, encoding: Encoding) -> Record {
        Record {
            position: Position {
                stream: StreamId([1; 16]),
                n: 1,
            },
            source: Source {
                signal,
                encoding,
                partial: false,
                received_unix_nano: 0,
                limits: Limits::default(),
                version: VERSION,
            },
            content_encoding: ContentEncoding::Identity,
            decoded_bytes: 0,
            accepted: 3,
            rejected: 0,
            digest: [0; 16],
            payload: Bytes::new(),
        }
    }

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 0x80);
        [&[number << 3 | 2, length], content].concat()
    }

    // A walk over hundreds of MiB of rows went on to its end after its transaction had failed.
    #[test]
    fn a_walk_that_nobody_receives_ends_after_one_event() {
        let json = |outer: &str, scopes: &str, items: &str, item: &str| {
            let items = format!(r#"{{"{items}":[{item},{item},{item}]}}"#);
            format!(r#"{{"{outer}":[{{"{scopes}":[{items}]}}]}}"#).into_bytes()
        };
        let event = r#"{"correlationId":"c","integration":"i","eventType":"e"}"#;
        let span = r#"{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708"}"#;
        let point = r#"{"timeUnixNano":"1","asInt":"1"}"#;
        let metric =
            format!(r#"{{"name":"m","gauge":{{"dataPoints":[{point},{point},{point}]}}}}"#);
        let ids = [field(1, &[1; 16]), field(2, &[2; 8])].concat();
        let wire_point = [&[0x19][..], &1_u64.to_le_bytes()].concat();
        let points = field(1, &wire_point).repeat(3);
        let wire = |items: &[u8]| field(1, &field(2, items));
        for (signal, encoding, body) in [
            (
                Signal::Event,
                Encoding::Json,
                format!("[{event},{event},{event}]").into_bytes(),
            ),
            (
                Signal::Event,
                Encoding::NdJson,
                format!("{event}\n{event}\n{event}").into_bytes(),
            ),
            (
                Signal::Span,
                Encoding::Json,
                json("resourceSpans", "scopeSpans", "spans", span),
            ),
            (
                Signal::Log,
                Encoding::Json,
                json("resourceLogs", "scopeLogs", "logRecords", "{}"),
            ),
            (
                Signal::Metric,
                Encoding::Json,
                json("resourceMetrics", "scopeMetrics", "metrics", &metric),
            ),
            (
                Signal::Span,
                Encoding::Protobuf,
                wire(&field(2, &ids).repeat(3)),
            ),
            (
                Signal::Log,
                Encoding::Protobuf,
                wire(&field(2, &[]).repeat(3)),
            ),
            (
                Signal::Metric,
                Encoding::Protobuf,
                wire(&field(2, &field(5, &points))),
            ),
        ] {
            let record = Arc::new(record(signal, encoding));
            let memory = RecordMemory {
                limit_bytes: usize::MAX,
                held_bytes: 0,
                row_copies: 3,
                resource_copies: 4,
                store: "sqlite",
                position: record.position,
            };
            let (mut rows, pieces) = RowWalk::new(Arc::clone(&record), 1 << 20, Vec::new(), memory);
            let (mut resources, chunks) = ResourceWalk::new(memory);
            drop((pieces, chunks));
            let walk = |sink: &mut dyn Sink| {
                let ended = decode::events(&body, &record.source, record.position, sink);
                assert!(ended.is_err(), "{signal:?} {encoding:?}");
            };
            walk(&mut rows);
            walk(&mut resources);
            let events = (rows.state.events, resources.state.events);
            assert_eq!(events, (1, 1), "{signal:?} {encoding:?}");
        }
    }

    #[test]
    fn a_row_is_found_again_whatever_rows_before_it_were_left_out() {
        let gone = [2, 3, 7].map(refused);
        let found: Vec<u32> = (0..6).map(|sent| index_of(sent, &gone)).collect();
        assert_eq!(found, [0, 1, 4, 5, 6, 8]);
        assert_eq!(index_of(5, &[]), 5);
    }
}
