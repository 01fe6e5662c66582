//! The one thread that appends: takes all that waits, writes it with one call, syncs once, answers all.
//!
//! **Invariant:** nobody is told `Ok` before the sync returned, and after a failed write or sync nothing is written
//! again.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::observe::metrics::{LOG_APPEND_BYTES_TOTAL, LOG_SYNC_SECONDS};

use super::disk::{DiskFile, write_all};
use super::held::{Appended, Segment};
use super::pool::{Shortage, own_size};
use super::queue::{Taken, Waiting};
use super::record::{ALIGN, Class, HEADER_BYTES, Header};
use super::segment::{self, BLOCK, BLOCK_BYTES, Contents, Footer};
use super::{AppendError, Core, Position, StreamId, lock};

/// An idle log says what is synced so long after its last sync.
pub(super) const MARK_AFTER: Duration = Duration::from_secs(1);

/// Payloads up to this are copied beside their headers; larger ones are written from where they are.
const COPIED_BYTES: usize = 4096;

/// The segment that is appended to.
struct Active {
    segment: Arc<Segment>,
    file: Arc<dyn DiskFile>,
    /// Where the next group starts.
    end: u64,
    /// Whether the first group, and the header with it, is written.
    begun: bool,
}

impl Active {
    /// Bytes that a group may still take.
    fn room(&self) -> u64 {
        self.segment.header.bytes - BLOCK_BYTES - self.end
    }
}

/// A piece of a group, in the order of the file.
enum Piece {
    /// Of the writer's own buffer.
    Copied(Range<usize>),
    /// The payload of the group's record of this index.
    Payload(usize),
}

pub(super) struct Writer {
    core: Arc<Core>,
    stream: StreamId,
    opening: u64,
    active: Option<Active>,
    synced: u64,
    /// What the newest mark, or footer, on disk says.
    marked: u64,
    last_sync: Instant,
    buffer: Vec<u8>,
    pieces: Vec<Piece>,
    appended: Vec<Appended>,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, stream: StreamId, opening: u64) -> Self {
        Self {
            core,
            stream,
            opening,
            active: None,
            synced: 0,
            marked: 0,
            last_sync: Instant::now(),
            buffer: Vec::new(),
            pieces: Vec::new(),
            appended: Vec::new(),
        }
    }

    /// Runs until the queue is closed and empty, or the disk failed.
    pub(super) fn run(mut self) {
        let mut taken = Vec::new();
        let mut waiting = VecDeque::new();
        let ended = loop {
            let deadline =
                (self.marked < self.synced).then(|| self.last_sync + self.core.settings.mark_after);
            let step = match self.core.queue.take(&mut taken, deadline) {
                Taken::Records => {
                    waiting.extend(taken.drain(..));
                    self.write_all_waiting(&mut waiting)
                }
                Taken::Nothing => self.mark(),
                Taken::Closed => break self.seal(),
            };
            if step.is_err() {
                break step;
            }
        };
        if let Err(error) = ended
            && !self.core.is_broken()
        {
            self.core.break_down(&error);
        }
        self.core.queue.close();
        self.core.queue.take(&mut taken, None);
        for record in waiting.into_iter().chain(taken) {
            record.answer(Err(AppendError::Closed));
        }
        self.core.end();
    }

    fn write_all_waiting(&mut self, waiting: &mut VecDeque<Waiting>) -> io::Result<()> {
        while let Some(first) = waiting.front() {
            let bytes = first.total_bytes();
            if !self.fits(bytes)
                && let Err(shortage) = self.rotate(bytes)?
            {
                if let Shortage::Io(error) = shortage {
                    return Err(error);
                }
                self.refuse(waiting, shortage.answer());
                continue;
            }
            self.write_group(waiting)?;
        }
        Ok(())
    }

    fn fits(&self, bytes: u64) -> bool {
        self.active
            .as_ref()
            .is_some_and(|active| bytes <= active.room())
    }

    /// Answers those that the segment at hand has no room for.
    fn refuse(&self, waiting: &mut VecDeque<Waiting>, error: AppendError) {
        for record in std::mem::take(waiting) {
            if self.fits(record.total_bytes()) {
                waiting.push_back(record);
            } else {
                record.answer(Err(error));
            }
        }
    }

    /// Begins a segment that a record of `bytes` fits into.
    fn rotate(&mut self, bytes: u64) -> io::Result<Result<(), Shortage>> {
        let usual = self.core.settings.segment_bytes;
        let length = if bytes > usual / 2 {
            own_size(bytes)
        } else {
            usual
        };
        let spare = match self.core.take_room(length) {
            Ok(spare) => spare,
            Err(shortage) => return Ok(Err(shortage)),
        };
        self.seal()?;
        let header = segment::Header {
            nonce: getrandom::u64()?,
            stream: self.stream,
            opening: self.opening,
            bytes: length,
            base: self.synced + 1,
        };
        self.active = Some(Active {
            segment: Arc::new(Segment::new(spare.path, header, None)),
            file: spare.file,
            end: BLOCK_BYTES,
            begun: false,
        });
        self.core.wake_keeper();
        Ok(Ok(()))
    }

    /// Writes as many of the waiting records as fit the segment, the first of which does, and answers them.
    fn write_group(&mut self, waiting: &mut VecDeque<Waiting>) -> io::Result<()> {
        let active = self
            .active
            .as_ref()
            .expect("a segment was begun for the first record");
        let room = active.room();
        let mut bytes = 0;
        let mut group = Vec::new();
        while let Some(record) = waiting.pop_front_if(|record| bytes + record.total_bytes() <= room)
        {
            bytes += record.total_bytes();
            group.push(record);
        }
        let written = self
            .lay_out(&group)
            .and_then(|end| self.write_and_sync(&group, end));
        match written {
            Ok(()) => {
                let first = self.synced + 1 - group.len() as u64;
                for (n, record) in (first..).zip(group) {
                    record.answer(Ok(Position {
                        stream: self.stream,
                        n,
                    }));
                }
                let own_size = self.active.as_ref().is_some_and(|active| {
                    active.segment.header.bytes != self.core.settings.segment_bytes
                });
                if own_size { self.seal() } else { Ok(()) }
            }
            Err(error) => {
                // Nobody hears of the failure before it shows in the status.
                self.core.break_down(&error);
                for record in group {
                    record.answer(Err(AppendError::Unknown));
                }
                Err(error)
            }
        }
    }

    /// Lays a group out in `pieces`; where in the segment it will end.
    fn lay_out(&mut self, group: &[Waiting]) -> io::Result<u64> {
        let active = self.active.as_ref().expect("a group has a segment");
        self.buffer.clear();
        self.pieces.clear();
        self.appended.clear();
        let nonce = active.segment.header.nonce;
        let mut begun = 0;
        let mut offset = active.end;
        if !active.begun {
            self.buffer
                .extend_from_slice(&active.segment.header.encode());
        }
        for (index, waiting) in group.iter().enumerate() {
            let record = &waiting.record;
            let n = self.synced + 1 + index as u64;
            let header = Header {
                class: Class::Data,
                n,
                last: n,
                synced: self.synced,
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
                self.pieces.push(Piece::Copied(begun..self.buffer.len()));
                self.pieces.push(Piece::Payload(index));
                begun = self.buffer.len();
            }
            let bytes = waiting.total_bytes();
            let padding = bytes - (HEADER_BYTES + record.payload.len()) as u64;
            self.pad(padding);
            self.appended.push(Appended {
                offset,
                bytes,
                events: record.accepted,
                received: record.source.received_unix_nano,
            });
            offset += bytes;
        }
        let end = offset.next_multiple_of(BLOCK_BYTES);
        self.pad(end - offset);
        self.pieces.push(Piece::Copied(begun..self.buffer.len()));
        Ok(end)
    }

    fn pad(&mut self, bytes: u64) {
        const { assert!(ALIGN < BLOCK_BYTES) };
        let bytes = usize::try_from(bytes).expect("padding is less than a block");
        self.buffer.resize(self.buffer.len() + bytes, 0);
    }

    /// Writes what is laid out, syncs it, and lets it be read.
    fn write_and_sync(&mut self, group: &[Waiting], end: u64) -> io::Result<()> {
        let active = self.active.as_mut().expect("a group has a segment");
        let at = if active.begun { active.end } else { 0 };
        let mut slices: Vec<IoSlice<'_>> = self
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Copied(range) => IoSlice::new(&self.buffer[range.clone()]),
                Piece::Payload(index) => IoSlice::new(&group[*index].record.payload),
            })
            .collect();
        let last = self.synced + group.len() as u64;
        lock(&self.core.state).appended = last;
        write_all(&*active.file, &mut slices, at)?;
        timed_sync(&*active.file)?;
        self.last_sync = Instant::now();
        self.marked = self.marked.max(if group.is_empty() { last } else { 0 });
        self.synced = last;
        metrics::counter!(LOG_APPEND_BYTES_TOTAL).increment(end - at);
        self.core.count_appended(end - active.end);
        active.end = end;
        self.publish();
        Ok(())
    }

    fn publish(&mut self) {
        let active = self.active.as_mut().expect("a group has a segment");
        {
            let mut state = lock(&self.core.state);
            active.segment.facts().append(&self.appended, active.end);
            for record in &self.appended {
                state.queue_events += u64::from(record.events);
                state.queue_bytes += record.bytes;
                state.oldest.get_or_insert(record.received);
            }
            let live = state.live();
            live.last = self.synced;
            if !active.begun {
                live.hold(active.segment.clone());
            }
            active.begun = true;
            live.note_stored(Instant::now());
        }
        self.core
            .synced
            .send_modify(|synced| synced.n = self.synced);
    }

    /// Appends an empty group that says what is synced, so that recovery can tell damage from a torn tail.
    fn mark(&mut self) -> io::Result<()> {
        let Some(active) = self.active.as_ref() else {
            self.marked = self.synced;
            return Ok(());
        };
        if active.room() < BLOCK_BYTES {
            return self.seal();
        }
        let header = Header::bare(Class::Mark, self.synced, self.synced, self.synced);
        let end = active.end + BLOCK_BYTES;
        self.pieces.clear();
        self.appended.clear();
        self.buffer.clear();
        self.buffer
            .extend_from_slice(&header.encode(active.segment.header.nonce));
        self.buffer.resize(BLOCK, 0);
        self.pieces.push(Piece::Copied(0..BLOCK));
        self.write_and_sync(&[], end)
    }

    /// Ends the segment with a footer; one that holds nothing is left as it is.
    fn seal(&mut self) -> io::Result<()> {
        let Some(active) = self.active.take() else {
            return Ok(());
        };
        if !active.begun {
            return Ok(());
        }
        let contents: Contents = active.segment.contents();
        let footer = Footer {
            header: active.segment.header,
            contents,
        }
        .encode();
        let at = active.segment.header.bytes - BLOCK_BYTES;
        write_all(&*active.file, &mut [IoSlice::new(&footer)], at)?;
        timed_sync(&*active.file)?;
        active.segment.facts().sealed = true;
        self.marked = self.synced;
        self.core.wake_keeper();
        Ok(())
    }
}

fn timed_sync(file: &dyn DiskFile) -> io::Result<()> {
    let began = Instant::now();
    file.sync_data()?;
    metrics::histogram!(LOG_SYNC_SECONDS).record(began.elapsed().as_secs_f64());
    Ok(())
}
