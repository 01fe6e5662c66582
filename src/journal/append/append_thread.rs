//! The append thread: takes all waiting records, writes them with one call, syncs once, and answers their callers.
//!
//! **Invariant:** no caller gets `Ok` before the sync has returned, and no byte of a group whose write or sync failed
//! is written again. After a failed sync, or a failed write for any reason but a full volume, nothing more is written.
//!
//! A volume may be full although the file has its space, as on a file system that copies overwritten blocks. After a
//! write that finds it so, the file is left unchanged or removed, and no record is written before a group without
//! records was synced in another file. A file is sealed, or known to the rest of the journal, only if it has a
//! position.

use std::collections::VecDeque;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::telemetry::metrics::JOURNAL_APPEND_BYTES_TOTAL;

use crate::event::{Position, StreamId};
use crate::journal::append::active_segment::{ActiveSegment, WriteOutcome};
use crate::journal::append::group::Group;
use crate::journal::append::queue::{QueuedRecord, Wakeup};
use crate::journal::format::record::{RecordClass, RecordHeader};
use crate::journal::format::segment::{BLOCK_BYTES, SegmentHeader};
use crate::journal::recovery::segment_files::HeaderSource;
use crate::journal::segment_index::Segment;
use crate::journal::space::{RoomError, own_size};
use crate::journal::{AppendError, Shared, lock, now_unix_nano};

/// An idle journal writes a sync marker this long after its last sync.
pub(in crate::journal) const SYNC_MARKER_AFTER: Duration = Duration::from_secs(1);

pub(in crate::journal) struct AppendThread {
    shared: Arc<Shared>,
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
    group: Group,
}

impl AppendThread {
    /// Appends to the live stream of a journal that was just opened.
    pub(in crate::journal) fn new(shared: Arc<Shared>) -> Self {
        let (stream, epoch) = {
            let mut state = lock(&shared.state);
            let live = state.live();
            (live.id, live.epoch)
        };
        Self {
            shared,
            stream,
            epoch,
            active: None,
            synced: 0,
            marker_at: 0,
            unwritten: None,
            last_sync: Instant::now(),
            waiting: VecDeque::new(),
            group: Group::default(),
        }
    }

    /// Runs until the queue is closed and empty, or the disk failed. However it ends, every caller is answered.
    pub(in crate::journal) fn run(mut self) {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.serve())) {
            Ok(Ok(())) => {}
            // The records that wait were never written.
            Ok(Err(error)) => self.shared.break_down(&error),
            Err(_) => {
                let error = io::Error::other("the thread that appends panicked");
                self.shared.break_down(&error);
                // The records that it had taken may be written or not: their callers get [`AppendError::Unknown`].
                self.waiting.clear();
            }
        }
        self.shared.queue.close();
        loop {
            for record in self.waiting.drain(..) {
                record.answer(Err(AppendError::Closed));
            }
            if self.shared.queue.take(&mut self.waiting, None) == Wakeup::Closed {
                break;
            }
        }
        self.shared.end();
    }

    fn serve(&mut self) -> io::Result<()> {
        let is_due = |due: Option<Instant>| due.is_some_and(|at| Instant::now() >= at);
        loop {
            let due = self.marker_due().into_iter().chain(self.seal_due()).min();
            match self.shared.queue.take(&mut self.waiting, due) {
                Wakeup::Records => self.write_all_waiting()?,
                Wakeup::Nothing => {}
                Wakeup::Closed => return self.seal(),
            }
            if is_due(self.seal_due()) {
                self.seal_if_stored()?;
            }
            if is_due(self.marker_due()) {
                self.append_sync_marker()?;
            }
        }
    }

    /// Returns the time at which a sync marker is due; `None` if the newest one states the synced position.
    fn marker_due(&self) -> Option<Instant> {
        let after = self.shared.settings.sync_marker_after;
        (self.marker_at < self.synced).then(|| self.last_sync + after)
    }

    fn seal_due(&self) -> Option<Instant> {
        self.active.as_ref()?.seal_at
    }

    /// Seals a segment that has reached its age limit once its first record is stored. An open segment is never
    /// recycled: while little arrives it would keep records that were long deleted elsewhere.
    fn seal_if_stored(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let first = active.segment.header.first_position;
        if lock(&self.shared.state).live().stored.contains(first) {
            return self.seal();
        }
        active.seal_at = Instant::now().checked_add(self.shared.settings.unstored_age_limit() / 8);
        Ok(())
    }

    fn write_all_waiting(&mut self) -> io::Result<()> {
        while let Some(first) = self.waiting.front() {
            let bytes = first.total_bytes();
            if self.fits(bytes) {
                self.write_group()?;
            } else if let Err(error) = self.rotate(bytes) {
                let answer = error.answer()?;
                self.refuse(self.segment_bytes(bytes), answer);
            }
        }
        Ok(())
    }

    fn fits(&self, bytes: u64) -> bool {
        let active = self.active.as_ref();
        active.is_some_and(|active| bytes <= active.room())
    }

    /// Returns the length of the segment that a record gets if the current one has no room.
    fn segment_bytes(&self, record_bytes: u64) -> u64 {
        let usual = self.shared.settings.segment_bytes;
        if record_bytes > usual / 2 {
            // The group without a record, with which it begins, takes a block.
            let before = self.unwritten.map_or(0, |_| BLOCK_BYTES);
            (own_size(record_bytes) + before).min(self.shared.largest_segment())
        } else {
            usual
        }
    }

    /// Answers the records for which there is no room: those that need a usual segment, or those that need a separate
    /// one of `segment_bytes` or more.
    fn refuse(&mut self, segment_bytes: u64, error: AppendError) {
        let usual = self.shared.settings.segment_bytes;
        for record in std::mem::take(&mut self.waiting) {
            let bytes = record.total_bytes();
            let needed = self.segment_bytes(bytes);
            let has_no_room = if segment_bytes == usual {
                needed == usual
            } else {
                needed != usual && needed >= segment_bytes
            };
            if has_no_room && !self.fits(bytes) {
                record.answer(Err(error));
            } else {
                self.waiting.push_back(record);
            }
        }
    }

    /// Begins a segment that has room for a record of `bytes`. If the segment had to begin with a group without a
    /// record, the record may need a further one.
    fn rotate(&mut self, bytes: u64) -> Result<(), RoomError> {
        if let Some(empty) = self.active.take_if(|active| active.segment.is_empty()) {
            self.shared.discard(&empty.segment);
        }
        let bytes = self.segment_bytes(bytes);
        let spare = self.shared.take_room(bytes)?;
        self.seal()?;
        let header = SegmentHeader {
            nonce: getrandom::u64().map_err(io::Error::from)?,
            stream: self.stream,
            epoch: self.epoch,
            bytes,
            first_position: self.synced + 1,
        };
        let segment = Segment::new(spare.path, header, HeaderSource::FirstBlock, None);
        self.active = Some(ActiveSegment {
            segment: Arc::new(segment),
            file: spare.file,
            end: BLOCK_BYTES,
            is_noted: false,
            seal_at: Instant::now().checked_add(self.shared.settings.unstored_age_limit()),
        });
        self.shared.wake_recycler();
        if let Some(positions) = self.unwritten {
            return self.begin_with_hole(positions);
        }
        Ok(())
    }

    /// Begins the segment with a group without a record: the positions of the group that found the volume full, as a
    /// hole.
    fn begin_with_hole(&mut self, positions: u64) -> Result<(), RoomError> {
        let (synced, last) = (self.synced, self.synced + positions);
        let mut header = if positions > 0 {
            RecordHeader::bare(RecordClass::Hole, synced + 1, last, synced)
        } else {
            RecordHeader::bare(RecordClass::SyncMarker, synced, synced, synced)
        };
        header.source.received_unix_nano = now_unix_nano();
        match self.write_without_payload(&header)? {
            WriteOutcome::Synced => {
                self.unwritten = None;
                self.shared.note_writable();
                Ok(())
            }
            WriteOutcome::VolumeFull => Err(RoomError::Volume),
        }
    }

    /// Writes as many of the waiting records as fit the segment, at least the first, and answers them.
    fn write_group(&mut self) -> io::Result<()> {
        let active = self.active.as_ref();
        let active = active.expect("a segment was begun for the first record");
        let is_separate = active.segment.header.bytes != self.shared.settings.segment_bytes;
        let mut room = active.room();
        self.group.begin(&active.segment.header, active.end);
        let first = self.synced + 1;
        for (index, (n, waiting)) in (first..).zip(&self.waiting).enumerate() {
            let Some(left) = room.checked_sub(waiting.total_bytes()) else {
                break;
            };
            room = left;
            let header = waiting.header(n, self.synced);
            self.group
                .push_waiting(&header, &waiting.record.payload, index);
        }
        let count = self.group.requests;
        let written = self.write_and_sync(self.synced + count as u64);
        let is_synced = matches!(written, Ok(WriteOutcome::Synced));
        if is_synced {
            self.note_segment();
        }
        for (n, record) in (first..).zip(self.waiting.drain(..count)) {
            let stream = self.stream;
            record.answer(if is_synced {
                Ok(Position { stream, n })
            } else {
                Err(AppendError::Unknown)
            });
        }
        match written? {
            WriteOutcome::Synced if is_separate => self.seal(),
            WriteOutcome::Synced | WriteOutcome::VolumeFull => Ok(()),
        }
    }

    /// Writes a group of one hole or sync marker, and syncs it.
    fn write_without_payload(&mut self, header: &RecordHeader) -> io::Result<WriteOutcome> {
        let active = self.active.as_ref().expect("a group has a segment");
        self.group.begin(&active.segment.header, active.end);
        self.group.push_header(header);
        self.write_and_sync(header.last_position)
    }

    /// Writes the group and syncs it: then readers see its records, up to position `last`. If that fails, the status
    /// shows it, and nothing more is written to the segment.
    fn write_and_sync(&mut self, last: u64) -> io::Result<WriteOutcome> {
        self.group.finish();
        lock(&self.shared.state).appended = last;
        let active = self.active.as_mut().expect("a group has a segment");
        let (start, end) = (self.group.start, self.group.end);
        let mut slices = self.group.slices(&self.waiting);
        let written = active.write_group(&mut slices, start);
        match written {
            Ok(WriteOutcome::Synced) => {}
            Ok(WriteOutcome::VolumeFull) => {
                self.leave(last - self.synced);
                return written;
            }
            Err(error) => {
                self.shared.break_down(&error);
                return Err(error);
            }
        }
        self.last_sync = Instant::now();
        {
            // Before the writer learns of them.
            let synced = self.waiting.iter().take(self.group.requests);
            let mut window = lock(&self.shared.window);
            for (n, waiting) in (self.synced + 1..).zip(synced) {
                let stream = self.stream;
                window.push(Position { stream, n }, &waiting.record);
            }
        }
        self.synced = last;
        metrics::counter!(JOURNAL_APPEND_BYTES_TOTAL).increment(end - start);
        self.shared.count_appended(end - active.end);
        active.end = end;
        if last >= active.segment.header.first_position {
            let appended = &self.group.appended;
            lock(&self.shared.state)
                .live()
                .append(&active.segment, appended, end);
            self.shared.synced.send_replace(last);
        }
        self.show_room();
        written
    }

    /// Writes the positions of a segment's first records to the file `positions` before they are acknowledged. So the
    /// segment is missed if it is lost, however soon after that the process ends.
    fn note_segment(&mut self) {
        if let Some(active) = self.active.as_mut().filter(|active| !active.is_noted) {
            active.is_noted = true;
            self.shared.note_positions();
        }
    }

    /// Shows in the status the room that the open segment has left, before any caller is answered.
    fn show_room(&self) {
        let room = self.active.as_ref().map_or(0, ActiveSegment::room);
        self.shared.open_room_bytes.store(room, Ordering::Relaxed);
    }

    /// Appends a sync marker, a group without records that states the synced position: recovery can then tell damage
    /// from a torn tail.
    fn append_sync_marker(&mut self) -> io::Result<()> {
        if let Some(active) = &self.active {
            if active.room() < BLOCK_BYTES {
                return self.seal();
            }
            let synced = self.synced;
            let marker = RecordHeader::bare(RecordClass::SyncMarker, synced, synced, synced);
            self.write_without_payload(&marker)?;
        }
        self.marker_at = self.synced;
        Ok(())
    }

    /// Seals the segment with a footer; one without a position is left unchanged.
    fn seal(&mut self) -> io::Result<()> {
        let Some(active) = &self.active else {
            return Ok(());
        };
        if !active.segment.is_empty() {
            if active.write_footer()? == WriteOutcome::VolumeFull {
                self.leave(0);
                return Ok(());
            }
            active.segment.seal();
            self.marker_at = self.synced;
        }
        self.active = None;
        self.show_room();
        self.shared.wake_recycler();
        Ok(())
    }

    /// Leaves the segment unchanged, without a footer, after a write that found the volume full: the next opening
    /// writes it again. Removes it if no position in it was synced. `positions` is the number of those in the group
    /// that was not written.
    fn leave(&mut self, positions: u64) {
        self.shared.note_unwritable();
        self.unwritten = Some(positions);
        self.marker_at = self.synced;
        if let Some(active) = self.active.take() {
            if active.segment.is_empty() {
                self.shared.discard(&active.segment);
            } else {
                active.segment.seal();
            }
        }
        self.show_room();
    }
}
