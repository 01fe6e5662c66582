//! The append thread: takes all waiting records, writes them with one call, syncs once, and answers their callers.
//!
//! **Invariant:** no caller gets `Ok` before the sync has returned, and no byte of a group whose write or sync failed
//! is written again. After a failed sync, or a failed write for any reason but a full volume, nothing more is written.
//! After a write that found the volume full, the next write is to another file, and contains no record.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::telemetry::metrics::{JOURNAL_APPEND_BYTES_TOTAL, JOURNAL_SYNC_SECONDS};

use crate::event::{Position, StreamId};
use crate::journal::append::queue::{QueuedRecord, Wakeup};
use crate::journal::disk::{DiskFile, is_full, write_all};
use crate::journal::format::record::{HEADER_BYTES, RecordClass, RecordHeader};
use crate::journal::format::segment::{self, BLOCK, BLOCK_BYTES, Footer, SegmentContents};
use crate::journal::segment_index::{AppendedRecord, Segment};
use crate::journal::space::{Shortage, own_size};
use crate::journal::{AppendError, Shared, lock};

use full_volume::{GroupError, write_group_at};

/// A volume that is full for allocated space too.
mod full_volume;

/// An idle journal writes a sync marker this long after its last sync.
pub(in crate::journal) const SYNC_MARKER_AFTER: Duration = Duration::from_secs(1);

/// Payloads up to this length are copied beside their headers; larger ones are written from the record's payload.
const COPIED_BYTES: usize = 4096;

/// Bytes of the buffer that are kept from group to group.
const KEPT_BYTES: usize = 1 << 20;

/// The segment that is appended to.
struct ActiveSegment {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Offset at which the next group starts.
    end: u64,
    /// The first group, and the header with it, is written.
    has_group: bool,
    /// The file `positions` has a position of it.
    is_noted: bool,
    /// The time of the next check of its age, after which it may be sealed; `None` = never.
    seal_at: Option<Instant>,
}

impl ActiveSegment {
    /// Returns the bytes that are left for groups.
    fn room(&self) -> u64 {
        self.segment.header.bytes - BLOCK_BYTES - self.end
    }

    /// Returns whether no position in it is synced: the next segment begins with the same position.
    fn is_empty(&self) -> bool {
        self.segment.last() < self.segment.header.first_position
    }
}

/// A piece of a group, in the order of the file.
enum GroupPiece {
    /// A part of [`AppendThread::buffer`].
    Copied(Range<usize>),
    /// The payload of the waiting record of this index.
    Payload(usize),
}

pub(in crate::journal) struct AppendThread {
    core: Arc<Shared>,
    stream: StreamId,
    epoch: u64,
    active: Option<ActiveSegment>,
    synced: u64,
    /// The synced position that the newest sync marker or footer on disk states.
    marker_at: u64,
    /// Set after a write that found the volume full: the number of positions in its group. The next segment begins with
    /// them as a hole, and holds records once that is synced.
    unwritten: Option<u64>,
    last_sync: Instant,
    /// Records taken from the queue and not yet answered.
    waiting: VecDeque<QueuedRecord>,
    /// Headers, small payloads and padding of a group.
    buffer: Vec<u8>,
    pieces: Vec<GroupPiece>,
    appended: Vec<AppendedRecord>,
}

impl AppendThread {
    pub(in crate::journal) fn new(core: Arc<Shared>, stream: StreamId, opening: u64) -> Self {
        Self {
            core,
            stream,
            epoch: opening,
            active: None,
            synced: 0,
            marker_at: 0,
            unwritten: None,
            last_sync: Instant::now(),
            waiting: VecDeque::new(),
            buffer: Vec::new(),
            pieces: Vec::new(),
            appended: Vec::new(),
        }
    }

    /// Runs until the queue is closed and empty, or the disk failed. However it ends, every caller is answered.
    pub(in crate::journal) fn run(mut self) {
        let core = self.core.clone();
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| self.serve()));
        let mut never_written = match served {
            Ok(Ok(())) => VecDeque::new(),
            Ok(Err(error)) => {
                core.break_down(&error);
                std::mem::take(&mut self.waiting)
            }
            Err(_) => {
                core.break_down(&io::Error::other("the thread that appends panicked"));
                // The records that it had taken may be written or not: their callers get [`AppendError::Unknown`].
                self.waiting.clear();
                VecDeque::new()
            }
        };
        core.queue.close();
        loop {
            for record in never_written.drain(..) {
                record.answer(Err(AppendError::Closed));
            }
            if core.queue.take(&mut never_written, None) == Wakeup::Closed {
                break;
            }
        }
        core.end();
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mark = (self.marker_at < self.synced)
                .then(|| self.last_sync + self.core.settings.sync_marker_after);
            let ages = self.active.as_ref().and_then(|active| active.seal_at);
            let deadline = mark.into_iter().chain(ages).min();
            match self.core.queue.take(&mut self.waiting, deadline) {
                Wakeup::Records => self.write_all_waiting()?,
                Wakeup::Nothing => {}
                Wakeup::Closed => return self.seal(),
            }
            let now = Instant::now();
            if ages.is_some_and(|at| now >= at) {
                self.seal_if_aged(now)?;
            }
            if self.marker_at < self.synced
                && now >= self.last_sync + self.core.settings.sync_marker_after
            {
                self.append_sync_marker()?;
            }
        }
    }

    /// Seals the segment once its first record is stored and the segment has reached its age limit. An open segment is
    /// never recycled: while little arrives it would keep records that were long deleted elsewhere.
    fn seal_if_aged(&mut self, now: Instant) -> io::Result<()> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let base = active.segment.header.first_position;
        if lock(&self.core.state).live().stored.contains(base) {
            return self.seal();
        }
        active.seal_at = now.checked_add(self.core.settings.unstored_age_limit() / 8);
        Ok(())
    }

    fn write_all_waiting(&mut self) -> io::Result<()> {
        while let Some(first) = self.waiting.front() {
            let bytes = first.total_bytes();
            if self.fits(bytes) {
                self.write_group()?;
            } else if let Err(shortage) = self.rotate(bytes)? {
                if let Shortage::Io(error) = shortage {
                    return Err(error);
                }
                self.refuse(self.segment_bytes(bytes), shortage.answer());
            }
        }
        Ok(())
    }

    fn fits(&self, bytes: u64) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| bytes <= active.room())
    }

    /// Returns the length of the segment that a record gets if the current one has no room.
    fn segment_bytes(&self, record_bytes: u64) -> u64 {
        let usual = self.core.settings.segment_bytes;
        if record_bytes > usual / 2 {
            // The group without a record, with which it begins, takes a block.
            let before = self.unwritten.map_or(0, |_| BLOCK_BYTES);
            let largest = self.core.largest_segment();
            (own_size(record_bytes) + before).min(largest)
        } else {
            usual
        }
    }

    /// Answers the records for which there is no room: those that need a usual segment, or those that need a separate
    /// one of `segment_bytes` or more.
    fn refuse(&mut self, segment_bytes: u64, error: AppendError) {
        let usual = self.core.settings.segment_bytes;
        for record in std::mem::take(&mut self.waiting) {
            let bytes = record.total_bytes();
            let needed = self.segment_bytes(bytes);
            let alike = needed >= segment_bytes && (needed == usual) == (segment_bytes == usual);
            if alike && !self.fits(bytes) {
                record.answer(Err(error));
            } else {
                self.waiting.push_back(record);
            }
        }
    }

    /// Begins a segment that has room for a record of `bytes`. If the segment had to begin with a group without a
    /// record, the record may need a further one.
    fn rotate(&mut self, bytes: u64) -> io::Result<Result<(), Shortage>> {
        if let Some(empty) = self.active.take_if(|active| active.is_empty()) {
            self.core.discard(&empty.segment);
        }
        let length = self.segment_bytes(bytes);
        let spare = match self.core.take_room(length) {
            Ok(spare) => spare,
            Err(shortage) => return Ok(Err(shortage)),
        };
        self.seal()?;
        let header = segment::SegmentHeader {
            nonce: getrandom::u64()?,
            stream: self.stream,
            epoch: self.epoch,
            bytes: length,
            first_position: self.synced + 1,
        };
        self.active = Some(ActiveSegment {
            segment: Arc::new(Segment::new(spare.path, header, None)),
            file: spare.file,
            end: BLOCK_BYTES,
            has_group: false,
            is_noted: false,
            seal_at: Instant::now().checked_add(self.core.settings.unstored_age_limit()),
        });
        self.core.wake_recycler();
        if let Some(positions) = self.unwritten {
            match self.begin_with_hole(positions) {
                Ok(()) => self.core.note_writable(true),
                Err(GroupError::Disk(error)) => return Err(error),
                Err(GroupError::Full) => {
                    if let Some(active) = self.active.take() {
                        self.core.discard(&active.segment);
                    }
                    return Ok(Err(Shortage::Volume));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Writes as many of the waiting records as fit the segment, at least the first, and answers them.
    fn write_group(&mut self) -> io::Result<()> {
        let active = self
            .active
            .as_ref()
            .expect("a segment was begun for the first record");
        let mut room = active.room();
        let fitting = self.waiting.iter().take_while(|record| {
            let left = room.checked_sub(record.total_bytes());
            room = left.unwrap_or(0);
            left.is_some()
        });
        let count = fitting.count();
        let own_size = active.segment.header.bytes != self.core.settings.segment_bytes;
        let first = self.synced + 1;
        let laid_out = self.lay_out(count).map_err(GroupError::from);
        let written = laid_out.and_then(|end| self.write_and_sync(count, end));
        if written.is_ok() {
            self.note_segment();
        }
        // The status shows the failure before any caller gets its answer.
        match &written {
            Ok(()) => {}
            Err(GroupError::Full) => self.leave(count as u64),
            Err(GroupError::Disk(error)) => self.core.break_down(error),
        }
        for (n, record) in (first..).zip(self.waiting.drain(..count)) {
            record.answer(match written {
                Ok(()) => Ok(Position {
                    stream: self.stream,
                    n,
                }),
                Err(_) => Err(AppendError::Unknown),
            });
        }
        match written {
            Ok(()) if own_size => self.seal(),
            Ok(()) | Err(GroupError::Full) => Ok(()),
            Err(GroupError::Disk(error)) => Err(error),
        }
    }

    /// Arranges the first `count` waiting records in `pieces`. Returns the offset at which their group will end.
    fn lay_out(&mut self, count: usize) -> io::Result<u64> {
        let active = self.active.as_ref().expect("a group has a segment");
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES);
        self.pieces.clear();
        self.appended.clear();
        let nonce = active.segment.header.nonce;
        let mut begun = 0;
        let mut offset = active.end;
        if !active.has_group {
            self.buffer
                .extend_from_slice(&active.segment.header.encode());
        }
        for (index, waiting) in self.waiting.iter().take(count).enumerate() {
            let record = &waiting.record;
            let n = self.synced + 1 + index as u64;
            let header = RecordHeader {
                class: RecordClass::Data,
                position: n,
                last_position: n,
                synced_position: self.synced,
                payload_bytes: u32::try_from(record.payload.len())
                    .map_err(|_| io::ErrorKind::FileTooLarge)?,
                payload_checksum: waiting.payload_checksum,
                decoded_bytes: record.decoded_bytes,
                accepted: record.accepted,
                rejected: record.rejected,
                content_encoding: record.content_encoding,
                source: record.source,
                digest: record.digest,
                header_lost: false,
            };
            self.buffer.extend_from_slice(&header.encode(nonce));
            if record.payload.len() <= COPIED_BYTES {
                self.buffer.extend_from_slice(&record.payload);
            } else {
                self.pieces
                    .push(GroupPiece::Copied(begun..self.buffer.len()));
                self.pieces.push(GroupPiece::Payload(index));
                begun = self.buffer.len();
            }
            let bytes = waiting.total_bytes();
            let padding = bytes - (HEADER_BYTES + record.payload.len()) as u64;
            pad(&mut self.buffer, padding);
            self.appended.push(AppendedRecord {
                offset,
                bytes,
                events: record.accepted,
                received_unix_nano: record.source.received_unix_nano,
            });
            offset += bytes;
        }
        let end = offset.next_multiple_of(BLOCK_BYTES);
        pad(&mut self.buffer, end - offset);
        self.pieces
            .push(GroupPiece::Copied(begun..self.buffer.len()));
        Ok(end)
    }

    /// Writes the pieces at the end of the segment, syncs them, and lets readers see them.
    fn write_and_sync(&mut self, count: usize, end: u64) -> Result<(), GroupError> {
        let active = self.active.as_mut().expect("a group has a segment");
        let at = if active.has_group { active.end } else { 0 };
        let mut slices: Vec<IoSlice<'_>> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                GroupPiece::Copied(range) => IoSlice::new(&self.buffer[range.clone()]),
                GroupPiece::Payload(index) => IoSlice::new(&self.waiting[*index].record.payload),
            })
            .collect();
        let last = self.synced + count as u64;
        lock(&self.core.state).appended = last;
        write_group_at(active, &mut slices, at)?;
        timed_sync(&*active.file)?;
        self.last_sync = Instant::now();
        self.synced = last;
        metrics::counter!(JOURNAL_APPEND_BYTES_TOTAL).increment(end - at);
        self.core.count_appended(end - active.end);
        active.end = end;
        self.publish();
        Ok(())
    }

    /// Writes the positions of a segment's first records to the file `positions` before they are acknowledged. So the
    /// segment is missed if it is lost, however soon after that the process ends.
    fn note_segment(&mut self) {
        if let Some(active) = self.active.as_mut().filter(|active| !active.is_noted) {
            active.is_noted = true;
            self.core.note_positions();
        }
    }

    fn publish(&mut self) {
        let active = self.active.as_mut().expect("a group has a segment");
        active.has_group = true;
        lock(&self.core.state)
            .live()
            .append(&active.segment, &self.appended, active.end);
        self.core
            .synced
            .send_modify(|synced| synced.n = self.synced);
        self.show_room();
    }

    /// Shows in the status the room that the open segment has left, before any caller is answered.
    fn show_room(&self) {
        let room = self.active.as_ref().map_or(0, ActiveSegment::room);
        self.core.open_room_bytes.store(room, Ordering::Relaxed);
    }

    /// Appends a sync marker, a group without records that states the synced position: recovery can then tell damage
    /// from a torn tail.
    fn append_sync_marker(&mut self) -> io::Result<()> {
        let Some(active) = self.active.as_ref() else {
            self.marker_at = self.synced;
            return Ok(());
        };
        if active.room() < BLOCK_BYTES {
            return self.seal();
        }
        let header = RecordHeader::bare(
            RecordClass::SyncMarker,
            self.synced,
            self.synced,
            self.synced,
        );
        let end = active.end + BLOCK_BYTES;
        self.pieces.clear();
        self.appended.clear();
        self.buffer.clear();
        self.buffer
            .extend_from_slice(&header.encode(active.segment.header.nonce));
        self.buffer.resize(BLOCK, 0);
        self.pieces.push(GroupPiece::Copied(0..BLOCK));
        match self.write_and_sync(0, end) {
            Ok(()) => self.marker_at = self.synced,
            Err(GroupError::Full) => self.leave(0),
            Err(GroupError::Disk(error)) => return Err(error),
        }
        Ok(())
    }

    /// Seals the segment with a footer; one without a position is left unchanged.
    fn seal(&mut self) -> io::Result<()> {
        let Some(active) = self.active.take() else {
            return Ok(());
        };
        if active.is_empty() {
            return Ok(());
        }
        let contents: SegmentContents = active.segment.contents();
        let footer = Footer {
            header: active.segment.header,
            contents,
        }
        .encode();
        let at = active.segment.header.bytes - BLOCK_BYTES;
        match write_all(&*active.file, &mut [IoSlice::new(&footer)], at) {
            Ok(()) => timed_sync(&*active.file)?,
            Err(error) if is_full(&error) => {
                self.active = Some(active);
                self.leave(0);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        active.segment.state().sealed = true;
        self.marker_at = self.synced;
        self.show_room();
        self.core.wake_recycler();
        Ok(())
    }
}

fn pad(buffer: &mut Vec<u8>, bytes: u64) {
    let bytes = usize::try_from(bytes).expect("padding is less than a block");
    buffer.resize(buffer.len() + bytes, 0);
}

fn timed_sync(file: &dyn DiskFile) -> io::Result<()> {
    let began = Instant::now();
    file.sync_data()?;
    metrics::histogram!(JOURNAL_SYNC_SECONDS).record(began.elapsed().as_secs_f64());
    Ok(())
}
