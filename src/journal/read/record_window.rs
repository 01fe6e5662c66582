//! Synced records in memory, on their way to the writer.
//!
//! The append thread adds each record after its sync, and the writer takes it soon after that. So while the writer
//! keeps up, it reads nothing from the disk. If the writer falls behind, the window keeps the oldest records, which the
//! writer needs next, and the later ones are read from the disk.
//!
//! **Invariant:** the window has only synced records of the live stream, each at most once, in the order of their
//! positions. Their bytes are copies, so that the window bounds what they hold.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::event::{Position, StreamId};
use crate::journal::{NewRecord, Record};

/// Bytes that a record takes beside its payload, about.
const RECORD_BYTES: usize = size_of::<Record>() + 64;

/// The records.
pub(in crate::journal) struct RecordWindow {
    limit_bytes: usize,
    held_bytes: usize,
    records: VecDeque<Record>,
}

impl RecordWindow {
    pub(in crate::journal) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            held_bytes: 0,
            records: VecDeque::new(),
        }
    }

    /// Adds a synced record behind the others, if there is room for it.
    pub(in crate::journal) fn push(&mut self, position: Position, record: &NewRecord) {
        let bytes = RECORD_BYTES + record.payload.len();
        if bytes > self.limit_bytes - self.held_bytes {
            return;
        }
        self.held_bytes += bytes;
        self.records.push_back(Record {
            position,
            source: record.source,
            content_encoding: record.content_encoding,
            decoded_bytes: record.decoded_bytes,
            accepted: record.accepted,
            rejected: record.rejected,
            digest: record.digest,
            // The request's own bytes may be a part of a much larger buffer.
            payload: Bytes::copy_from_slice(&record.payload),
        });
    }

    /// Removes and returns the record at position `n` of the stream, if it is in the window. Records before it are
    /// dropped: the writer has passed them.
    pub(in crate::journal) fn take(&mut self, stream: StreamId, n: u64) -> Option<Record> {
        if self.records.front()?.position.stream != stream {
            return None;
        }
        while self.records.front()?.position.n < n {
            self.pop();
        }
        if self.records.front()?.position.n > n {
            return None;
        }
        self.pop()
    }

    fn pop(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.held_bytes -= RECORD_BYTES + record.payload.len();
        Some(record)
    }

    /// Returns the first position at or after `n` whose record is in the window.
    pub(in crate::journal) fn next_at(&self, stream: StreamId, n: u64) -> Option<u64> {
        let at = self.records.partition_point(|record| record.position.n < n);
        let next = self.records.get(at)?.position;
        (next.stream == stream).then_some(next.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ContentEncoding, Encoding, Limits, Signal, Source};

    const STREAM: StreamId = StreamId([1; 16]);

    fn push(window: &mut RecordWindow, n: u64, payload: Bytes) {
        let record = NewRecord {
            source: Source {
                signal: Signal::Event,
                encoding: Encoding::Json,
                partial: false,
                received_unix_nano: 0,
                limits: Limits::default(),
                version: 1,
            },
            content_encoding: ContentEncoding::Identity,
            decoded_bytes: 0,
            accepted: 1,
            rejected: 0,
            digest: [0; 16],
            payload,
        };
        window.push(Position { stream: STREAM, n }, &record);
    }

    #[test]
    fn a_full_window_keeps_the_oldest_and_has_room_again_for_what_was_taken() {
        let mut window = RecordWindow::new(2 * (RECORD_BYTES + 100));
        for n in 1..=3 {
            push(&mut window, n, Bytes::from(vec![1; 100]));
        }
        assert_eq!(window.next_at(STREAM, 1), Some(1));
        assert_eq!(window.next_at(STREAM, 3), None);
        assert_eq!(
            window.take(STREAM, 1).map(|record| record.position.n),
            Some(1)
        );
        push(&mut window, 4, Bytes::from(vec![1; 100]));
        assert_eq!(window.next_at(STREAM, 3), Some(4));
        // The writer has passed the second record.
        assert!(window.take(STREAM, 3).is_none());
        assert_eq!(window.records.len(), 1);
        assert!(window.take(STREAM, 4).is_some());
        assert_eq!(window.held_bytes, 0);
    }

    #[test]
    fn another_streams_reader_takes_nothing() {
        let mut window = RecordWindow::new(1 << 20);
        push(&mut window, 5, Bytes::new());
        let other = StreamId([2; 16]);
        assert!(window.take(other, 5).is_none());
        assert!(window.take(other, 9).is_none());
        assert_eq!(window.next_at(other, 1), None);
        assert_eq!(window.next_at(STREAM, 1), Some(5));
    }

    /// A body may be a few bytes of a connection's whole buffer, which it would keep in memory.
    #[test]
    fn the_window_keeps_nothing_of_a_buffer_that_a_payload_is_a_part_of() {
        let mut window = RecordWindow::new(1 << 20);
        let buffer = Bytes::from(vec![1; 100_000]);
        push(&mut window, 1, buffer.slice(500..600));
        assert!(buffer.is_unique());
    }
}
