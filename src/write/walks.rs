//! Walks over one record on a thread that may block, whose finds go through a channel a few at a time.
//!
//! **Invariant:** a walk ends soon after its receiver is gone, and says [`Piece::End`] only when the record was decoded to
//! its end and counted right.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::decoding::counted;
use super::letters::{self, Fault};
use super::source::blocking;
use crate::decode::{self, Sink};
use crate::event::{Event, Resource, ResourceId};
use crate::log::Record;
use crate::store::Piece;
use crate::store::copy::Rows;

/// Resources of one transaction; a larger one goes alone.
const CHUNK_BYTES: usize = 1 << 20;

/// The room that a resource takes beside its texts.
const RESOURCE_BYTES: usize = 128;

/// A row that the database refused: not sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The row's number in its record.
    pub(super) index: u32,
    pub(super) sqlstate: String,
    pub(super) message: String,
}

impl Refused {
    /// The reason and events of its dead letter.
    pub(super) const fn dead(&self) -> (&'static str, u64) {
        ("refused", 1)
    }
}

/// The number in its record of a row that was the `sent`th, from 0, when these were left out; they are in the order of
/// their numbers.
pub(super) fn index_of(sent: usize, refused: &[Refused]) -> u32 {
    let mut index = u32::try_from(sent).unwrap_or(u32::MAX);
    for refused in refused {
        if refused.index <= index {
            index += 1;
        }
    }
    index
}

/// The end of a walk.
pub(super) enum Walked {
    Whole,
    /// Nobody receives any more.
    Stopped,
    Unreadable(Fault),
}

/// A sink that a walk fills.
pub(super) trait Walk: Sink + Send + 'static {
    fn events(&self) -> u32;
    /// The record was decoded to its end.
    fn finish(self);
}

/// Begins a walk over all of a record.
pub(super) fn spawn(
    record: Arc<Record>,
    body: Bytes,
    mut walk: impl Walk,
) -> impl Future<Output = Walked> {
    blocking(move || {
        let decoded = counted(&record, || {
            decode::events(&body, &record.source, record.position, &mut walk)
                .map_err(|error| error.to_string())?;
            Ok(walk.events())
        });
        match decoded {
            _ if !walk.wants_more() => Walked::Stopped,
            Ok(()) => {
                walk.finish();
                Walked::Whole
            }
            Err(fault) => Walked::Unreadable(fault),
        }
    })
}

/// Collects resources, in chunks that are sorted by id.
pub(super) struct ResourceWalk {
    sender: mpsc::Sender<BTreeMap<ResourceId, Resource>>,
    chunk: BTreeMap<ResourceId, Resource>,
    chunk_bytes: usize,
    events: u32,
}

impl ResourceWalk {
    pub(super) fn new() -> (Self, mpsc::Receiver<BTreeMap<ResourceId, Resource>>) {
        let (sender, receiver) = mpsc::channel(1);
        let walk = Self {
            sender,
            chunk: BTreeMap::new(),
            chunk_bytes: 0,
            events: 0,
        };
        (walk, receiver)
    }

    fn flush(&mut self) {
        self.chunk_bytes = 0;
        // Fails once the receiver is gone, which `wants_more` then says.
        let _ = self.sender.blocking_send(std::mem::take(&mut self.chunk));
    }
}

impl Sink for ResourceWalk {
    fn resource(&mut self, resource: Resource) {
        self.chunk_bytes += resource.resource.len() + resource.scope.len() + RESOURCE_BYTES;
        self.chunk.insert(resource.id, resource);
        if self.chunk_bytes >= CHUNK_BYTES {
            self.flush();
        }
    }

    fn event(&mut self, _event: &Event<'_>) {
        self.events += 1;
    }

    fn wants_more(&self) -> bool {
        !self.sender.is_closed()
    }
}

impl Walk for ResourceWalk {
    fn events(&self) -> u32 {
        self.events
    }

    fn finish(mut self) {
        if !self.chunk.is_empty() {
            self.flush();
        }
    }
}

/// Hands on rows in pieces, and refused ones as dead letters.
pub(super) struct RowWalk {
    record: Arc<Record>,
    sender: mpsc::Sender<Piece>,
    rows: Rows,
    /// A piece is handed on once the next row would make it larger.
    piece_bytes: usize,
    refused: std::iter::Peekable<std::vec::IntoIter<Refused>>,
    events: u32,
}

impl RowWalk {
    pub(super) fn new(
        record: Arc<Record>,
        sender: mpsc::Sender<Piece>,
        piece_bytes: usize,
        refused: Vec<Refused>,
    ) -> Self {
        Self {
            record,
            sender,
            rows: Rows::default(),
            piece_bytes,
            refused: refused.into_iter().peekable(),
            events: 0,
        }
    }

    fn send(&self, piece: Piece) {
        // Fails once the receiver is gone, which `wants_more` then says.
        let _ = self.sender.blocking_send(piece);
    }

    fn flush(&mut self) {
        if !self.rows.is_empty() {
            let rows = std::mem::take(&mut self.rows);
            self.send(Piece::Rows(rows));
        }
    }

    fn send_refused(&self, event: &Event<'_>, refused: Refused) {
        let mut rows = Rows::default();
        rows.push(event, self.record.source.received_unix_nano);
        let Refused {
            index,
            sqlstate,
            message,
        } = refused;
        let letter = letters::row(&self.record, index, rows.row(0), sqlstate, message);
        self.send(Piece::Refused(letter));
    }
}

impl Sink for RowWalk {
    fn resource(&mut self, _resource: Resource) {}

    fn event(&mut self, event: &Event<'_>) {
        let index = self.events;
        self.events += 1;
        if let Some(refused) = self.refused.next_if(|refused| refused.index == index) {
            return self.send_refused(event, refused);
        }
        if self.rows.as_bytes().len() + event.metadata.len() > self.piece_bytes {
            self.flush();
        }
        self.rows.push(event, self.record.source.received_unix_nano);
    }

    fn wants_more(&self) -> bool {
        !self.sender.is_closed()
    }
}

impl Walk for RowWalk {
    fn events(&self) -> u32 {
        self.events
    }

    fn finish(mut self) {
        self.flush();
        self.send(Piece::End);
    }
}

#[cfg(test)]
mod tests {
    use super::{Refused, index_of};

    fn refused(index: u32) -> Refused {
        Refused {
            index,
            sqlstate: String::new(),
            message: String::new(),
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
