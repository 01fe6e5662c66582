//! Reads synced records back.
//!
//! **Invariant:** every position is returned once; no unsynced record is returned, and no record with a wrong checksum.

use std::io;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::telemetry::metrics::JOURNAL_DAMAGED_RECORDS_TOTAL;

use crate::event::{Position, StreamId};
use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::format::record::{HEADER_BYTES, RecordClass, RecordHeader};
use crate::journal::format::scan::{ScannedPayload, ScannedRecord, SegmentScan};
use crate::journal::quarantine::quarantine_copy;
use crate::journal::segment_index::{IndexedScan, Segment};
use crate::journal::streams::NextSegment;
use crate::journal::{JournalEntry, ReadError, Record, Shared, lock};

/// Bytes that are read from a segment at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Maximum number of bytes that are kept in place of a lost header and its payload.
pub(in crate::journal) const LOST_BYTES: u64 = 16 << 20;

/// Implements [`Journal::read`](crate::journal::Journal::read).
pub(in crate::journal) fn read(
    shared: &Shared,
    stream: StreamId,
    from: u64,
    max_bytes: usize,
) -> Result<Vec<JournalEntry>, ReadError> {
    let mut page = RecordPage {
        stream,
        next: from,
        entries: Vec::new(),
        bytes_left: max_bytes,
        damaged: Vec::new(),
    };
    loop {
        let next = lock(&shared.state).next_at(stream, page.next);
        let segment = match next {
            None => break,
            Some(NextSegment::Missing(range)) => {
                page.push_missing(*range.start(), *range.end());
                continue;
            }
            Some(NextSegment::Segment(segment)) => segment,
        };
        page.next = page.next.max(segment.header.first_position);
        let began = page.next;
        page.read_segment(shared, &segment)
            .map_err(|error| ReadError {
                path: segment.path.clone(),
                error,
            })?;
        report(shared, &segment, &std::mem::take(&mut page.damaged));
        if page.next > began
            && let Some(stream) = lock(&shared.state).stream(stream)
        {
            stream.read.insert(began..=page.next - 1);
        }
        if page.bytes_left == 0 {
            break;
        }
    }
    Ok(page.entries)
}

/// The entries that one call of [`read`] returns.
struct RecordPage {
    stream: StreamId,
    next: u64,
    entries: Vec<JournalEntry>,
    bytes_left: usize,
    damaged: Vec<RangeInclusive<u64>>,
}

impl RecordPage {
    /// Adds entries of the segment: those in the window, else those on the disk up to the next one in the window.
    fn read_segment(&mut self, shared: &Shared, segment: &Segment) -> io::Result<()> {
        let last = segment.last();
        // Even if memory has all of them: a process without descriptors could not look up the totals of what it then
        // stores, so nothing is handed on before it has one.
        let file = shared.disk.open(&segment.path)?;
        self.take_from_window(shared, last);
        if self.next > last || self.bytes_left == 0 {
            return Ok(());
        }
        let in_window = lock(&shared.window).next_at(self.stream, self.next);
        let last = in_window.map_or(last, |n| last.min(n - 1));
        let kept = lock(&shared.read_buffer).take();
        let buffer = kept.unwrap_or_else(|| AlignedBuffer::zeroed(BUFFER_BYTES));
        let mut walk = IndexedScan::new(segment, file, self.next, buffer);
        // Offset of the first byte that may belong to a position without a readable header.
        let mut lost_from = walk.start;
        while self.next <= last && self.bytes_left > 0 {
            let Some((found, _)) = walk.next()? else {
                let end = segment.contents().end;
                self.push_lost(&walk.scan, last, lost_from, end)?;
                break;
            };
            if found.header.position > self.next {
                let lost_last = (found.header.position - 1).min(last);
                self.push_lost(&walk.scan, lost_last, lost_from, found.offset)?;
            }
            lost_from = found.end();
            if found.header.position <= self.next
                && found.header.last_position >= self.next
                && self.bytes_left > 0
            {
                self.push(&mut walk.scan, &found, last)?;
            }
        }
        if self.bytes_left == 0 {
            *lock(&shared.read_buffer) = Some(walk.scan.into_window());
        }
        Ok(())
    }

    /// Adds the records from the next position on, up to position `last`, as far as the window has them.
    fn take_from_window(&mut self, shared: &Shared, last: u64) {
        let mut window = lock(&shared.window);
        while self.next <= last
            && self.bytes_left > 0
            && let Some(record) = window.take(self.stream, self.next)
        {
            self.next += 1;
            self.count(record.payload.len());
            self.entries.push(JournalEntry::Record(record));
        }
    }

    fn push(&mut self, scan: &mut SegmentScan, found: &ScannedRecord, last: u64) -> io::Result<()> {
        let header = &found.header;
        let entry = match header.class {
            RecordClass::SyncMarker => return Ok(()),
            RecordClass::Hole => JournalEntry::Hole {
                first: self.next,
                last: header.last_position.min(last),
            },
            RecordClass::Missing => JournalEntry::Missing {
                first: self.next,
                last: header.last_position.min(last),
            },
            RecordClass::Data => match scan.payload(found)? {
                ScannedPayload::Whole(payload) => {
                    JournalEntry::Record(record(self.stream, header, payload.into()))
                }
                ScannedPayload::Damaged(payload) => {
                    self.damaged.push(header.position..=header.position);
                    damaged(header, payload.into())
                }
            },
            RecordClass::Damaged => damaged(header, scan.payload(found)?.into_bytes().into()),
        };
        let bytes = header.payload_bytes as usize;
        self.next = header.last_position + 1;
        self.count(bytes);
        self.entries.push(entry);
        Ok(())
    }

    /// Adds entries for the positions from the next one to `last`, whose headers cannot be read. The first entry gets
    /// the bytes.
    fn push_lost(&mut self, scan: &SegmentScan, last: u64, from: u64, to: u64) -> io::Result<()> {
        let bytes = Bytes::from(scan.bytes(from, to.min(from + LOST_BYTES))?);
        self.damaged.push(self.next..=last);
        self.count(bytes.len());
        self.entries.push(JournalEntry::Damaged {
            n: self.next,
            accepted: None,
            bytes,
            reason: LOST.to_owned(),
        });
        self.next += 1;
        if self.next <= last {
            self.push_missing(self.next, last);
        }
        Ok(())
    }

    fn push_missing(&mut self, first: u64, last: u64) {
        self.count(0);
        self.entries.push(JournalEntry::Missing { first, last });
        self.next = last + 1;
    }

    fn count(&mut self, payload_bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(HEADER_BYTES + payload_bytes);
    }
}

const LOST: &str = "the record's header cannot be read";

fn record(stream: StreamId, header: &RecordHeader, payload: Bytes) -> Record {
    Record {
        position: Position {
            stream,
            n: header.position,
        },
        source: header.source,
        content_encoding: header.content_encoding,
        decoded_bytes: header.decoded_bytes,
        accepted: header.accepted,
        rejected: header.rejected,
        is_clean: header.is_clean,
        digest: header.digest,
        payload,
    }
}

fn damaged(header: &RecordHeader, bytes: Bytes) -> JournalEntry {
    JournalEntry::Damaged {
        n: header.position,
        accepted: (!header.header_lost).then_some(header.accepted),
        bytes,
        reason: if header.header_lost {
            LOST.to_owned()
        } else {
            "the record's bytes are not those that were written".to_owned()
        },
    }
}

/// Counts and logs damage that is found for the first time, and copies the segment for inspection.
fn report(shared: &Shared, segment: &Segment, damaged: &[RangeInclusive<u64>]) {
    let count = segment.note_damage(damaged);
    if count.new == 0 {
        return;
    }
    metrics::counter!(JOURNAL_DAMAGED_RECORDS_TOTAL).increment(count.new);
    lock(&shared.state).damaged_records += count.new;
    tracing::error!(
        path = %segment.path.display(), records = count.new,
        "records of the journal are damaged: they become dead letters; check the disk, and keep the copy put aside"
    );
    if count.before == 0 {
        quarantine_copy(&*shared.disk, &shared.settings, &segment.path);
    }
}
