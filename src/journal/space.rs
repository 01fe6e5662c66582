//! Room for new records: spare segments, the budget, the volume's floor.
//!
//! **Invariant:** the append thread never uses the last spare: a restart on a full disk recovers the unsealed segment
//! into it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::disk::{Disk, DiskFile, is_full, is_passing, read_full, write_all};
use crate::journal::format::segment::{BLOCK, BLOCK_BYTES, spare_mark};
use crate::journal::io_mode::IoMode;
use crate::journal::recovery::segment_files::segment_path;
use crate::journal::segment_index::Segment;
use crate::journal::{AppendError, Journal, Shared, lock};

/// One for the append thread, one in reserve.
const SPARES: usize = 2;

/// Returns the bytes of the pieces in which zeros are written and synced: few, so that the journal's own sync never
/// waits for many. Direct I/O costs CPU for each write and sync more than for each byte, and leaves no dirty pages.
const fn fill_bytes(io: IoMode) -> usize {
    match io {
        IoMode::Direct => 1 << 20,
        IoMode::Buffered => 256 << 10,
    }
}

/// A segment file that holds nothing.
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// Bytes from its start that are known to be written, not only allocated.
    filled: u64,
    /// Bytes from its start that are known to be zeros.
    cleared: u64,
    since: Instant,
}

impl Spare {
    /// A file that was in use; `filled` bytes of it are written, not only allocated.
    pub(super) fn new(path: PathBuf, file: Arc<dyn DiskFile>, filled: u64) -> Self {
        Self {
            path,
            file,
            filled,
            cleared: 0,
            since: Instant::now(),
        }
    }
}

/// The spares, and the bytes that all segment files take.
pub(super) struct SegmentPool {
    /// Files of a segment's length that durably bear a spare's mark.
    pub(super) spares: VecDeque<Spare>,
    /// Number of spares that there should be.
    wanted: usize,
    /// Bytes of all segment files together.
    used_bytes: u64,
    next_file: u64,
    /// Bytes that had been appended when the filling of the first spare began.
    fill_began_at: u64,
    /// The piece that is written over the bytes of a spare: aligned, so that no write copies it.
    zeros: AlignedBuffer,
}

/// A reason for which there is no room for a further segment.
///
/// An [`io::Error`] that `?` converts is a failure of the disk: only the errors of measuring the volume and of creating
/// a file on it are examined further, by [`RoomError::of_new_file`].
#[derive(Debug, thiserror::Error)]
pub(super) enum RoomError {
    #[error("the budget is used up")]
    Budget,
    #[error("the volume is at its floor")]
    Volume,
    /// The system has no descriptor or no memory now.
    #[error("the system gives nothing: {0}")]
    System(io::Error),
    #[error("the disk failed: {0}")]
    Disk(#[from] io::Error),
}

impl RoomError {
    fn of_new_file(error: io::Error) -> Self {
        if is_full(&error) {
            Self::Volume
        } else if is_passing(&error) {
            Self::System(error)
        } else {
            Self::Disk(error)
        }
    }

    /// Returns the answer to the callers whose records have no room.
    ///
    /// # Errors
    /// The error of a disk that failed: it breaks the journal.
    pub(super) fn answer(self) -> io::Result<AppendError> {
        match self {
            Self::Budget => Ok(AppendError::Full),
            Self::Volume | Self::System(_) => Ok(AppendError::DiskFull),
            Self::Disk(error) => Err(error),
        }
    }
}

impl SegmentPool {
    pub(super) fn new(next_file: u64, used_bytes: u64, io: IoMode) -> Self {
        Self {
            spares: VecDeque::new(),
            wanted: SPARES,
            used_bytes,
            next_file,
            fill_began_at: 0,
            zeros: AlignedBuffer::zeroed(fill_bytes(io)),
        }
    }

    /// Removes the spares, and makes none from now on: nothing more will be appended.
    pub(super) fn remove_spares(&mut self, disk: &dyn Disk) -> Result<(), (PathBuf, io::Error)> {
        self.wanted = 0;
        for spare in self.spares.drain(..) {
            disk.remove(&spare.path)
                .map_err(|error| (spare.path, error))?;
        }
        Ok(())
    }

    pub(super) fn wants_spares(&self) -> bool {
        self.spares.len() < self.wanted
    }

    /// Removes a file of `bytes`; the removal is not durable yet.
    pub(super) fn remove(&mut self, disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<()> {
        disk.remove(path)?;
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Creates a spare of `bytes` zeros, durably.
    pub(super) fn create(&mut self, disk: &dyn Disk, dir: &Path, bytes: u64) -> io::Result<Spare> {
        let path = segment_path(dir, self.next_file);
        self.next_file += 1;
        let file = disk.create(&path)?;
        let made = file
            .allocate(bytes)
            .and_then(|()| mark_spare(&*file, bytes, 0))
            .and_then(|()| disk.sync_dir(dir));
        if let Err(error) = made {
            if let Err(error) = disk.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "a spare journal segment cannot be removed");
            }
            return Err(error);
        }
        self.used_bytes += bytes;
        Ok(Spare {
            cleared: bytes,
            ..Spare::new(path, file, 0)
        })
    }
}

impl Shared {
    /// Returns the length of the largest segment for which there is ever room, beside the spares and the current
    /// segment.
    pub(super) fn largest_segment(&self) -> u64 {
        let others = (SPARES as u64 + 1) * self.settings.segment_bytes;
        self.settings.budget_bytes.saturating_sub(others)
    }

    /// Returns a file for the next segment: a spare, or a new file of `bytes` if a record needs a segment of another
    /// size.
    pub(super) fn take_room(&self, bytes: u64) -> Result<Spare, RoomError> {
        let mut pool = lock(&self.pool);
        let taken = if bytes == self.settings.segment_bytes {
            let room = self.replenish(&mut pool);
            self.note_room(room.as_ref().err());
            room.map(|()| pool.spares.pop_front().expect("the pool was replenished"))
        } else {
            self.make_room(&mut pool, bytes)
                .and_then(|()| self.create_spare(&mut pool, bytes))
        };
        pool.fill_began_at = self.appended_bytes.load(Ordering::Relaxed);
        taken
    }

    /// Makes spares until there are as many as wanted. If nothing else gives room, the oldest stored segments are
    /// recycled, however young.
    pub(super) fn replenish(&self, pool: &mut SegmentPool) -> Result<(), RoomError> {
        let bytes = self.settings.segment_bytes;
        while pool.wants_spares() {
            self.make_room(pool, bytes)?;
            // A recycled segment may have become a spare.
            if pool.wants_spares() {
                let spare = self.create_spare(pool, bytes)?;
                pool.spares.push_back(spare);
            }
        }
        Ok(())
    }

    fn create_spare(&self, pool: &mut SegmentPool, bytes: u64) -> Result<Spare, RoomError> {
        pool.create(&*self.disk, &self.settings.dir, bytes)
            .map_err(RoomError::of_new_file)
    }

    /// Recycles segments until a file of `bytes` fits the budget and the volume.
    fn make_room(&self, pool: &mut SegmentPool, bytes: u64) -> Result<(), RoomError> {
        loop {
            let free_bytes = self.measure_free().map_err(RoomError::of_new_file)?;
            let shortage = if free_bytes < self.settings.free_floor_bytes.saturating_add(bytes) {
                RoomError::Volume
            } else if pool.used_bytes + bytes > self.settings.budget_bytes {
                RoomError::Budget
            } else {
                return Ok(());
            };
            if !self.recycle_next(pool, Duration::ZERO) {
                return Err(shortage);
            }
            if bytes == self.settings.segment_bytes && !pool.wants_spares() {
                return Ok(());
            }
        }
    }

    /// Removes the file of a segment of which no record was acknowledged.
    pub(super) fn discard(&self, segment: &Segment) {
        let removed = lock(&self.pool)
            .remove(&*self.disk, &segment.path, segment.header.bytes)
            .and_then(|()| self.disk.sync_dir(&self.settings.dir));
        if let Err(error) = removed {
            // The next opening finds it again, without a record that counts.
            tracing::warn!(path = %segment.path.display(), %error, "an unused journal segment cannot be removed");
        }
    }

    /// Makes a spare of the oldest segment that has been wholly stored for at least `kept` and that nobody reads, or
    /// removes its file. Returns whether there was one.
    fn recycle_next(&self, pool: &mut SegmentPool, kept: Duration) -> bool {
        let recyclable = lock(&self.state).take_recyclable(kept);
        let Some(segment) = recyclable else {
            return false;
        };
        self.note_positions();
        let bytes = segment.header.bytes;
        let is_reused = bytes == self.settings.segment_bytes
            && pool.wants_spares()
            && self.reuse(pool, &segment).is_ok();
        let freed = if is_reused {
            Ok(())
        } else {
            pool.remove(&*self.disk, &segment.path, bytes)
                .and_then(|()| self.disk.sync_dir(&self.settings.dir))
        };
        let mut state = lock(&self.state);
        if let Err(error) = freed {
            // The next opening finds it again, and it is stored: nothing but its space is lost.
            tracing::warn!(path = %segment.path.display(), %error, "a stored journal segment cannot be freed");
            if let Some(stream) = state.stream(segment.header.stream) {
                stream.keeps_note = true;
            }
        }
        state.remove_empty_streams();
        true
    }

    fn reuse(&self, pool: &mut SegmentPool, segment: &Segment) -> io::Result<()> {
        let file = self.disk.open(&segment.path)?;
        let bytes = segment.header.bytes;
        free(&*file, bytes, segment.header.nonce)?;
        pool.spares
            .push_back(Spare::new(segment.path.clone(), file, bytes));
        Ok(())
    }

    /// Recycles segments that have been stored long enough, and younger ones if the volume is at its floor or the
    /// budget was cut. Then makes the spares that are wanting.
    pub(super) fn recycle(&self) {
        loop {
            // The lock is released after each segment, so that the append thread never waits for many.
            let mut pool = lock(&self.pool);
            let is_at_floor = self
                .measure_free()
                .is_ok_and(|free_bytes| free_bytes < self.settings.free_floor_bytes);
            let kept = if is_at_floor || pool.used_bytes > self.settings.budget_bytes {
                Duration::ZERO
            } else {
                self.settings.keep_stored
            };
            if !self.recycle_next(&mut pool, kept) {
                break;
            }
        }
        let mut pool = lock(&self.pool);
        let made = self.replenish(&mut pool);
        self.note_room(made.as_ref().err());
        // While `pool` is locked, no file is being freed.
        lock(&self.state).remove_empty_streams();
    }

    /// Writes zeros over the next piece of the spare that the append thread uses next, at no more than twice the pace
    /// of the appends. Returns whether more can be done now.
    pub(super) fn fill(&self) -> bool {
        let mut pool = lock(&self.pool);
        let allowed =
            (self.appended_bytes.load(Ordering::Relaxed) - pool.fill_began_at).saturating_mul(2);
        let SegmentPool { spares, zeros, .. } = &mut *pool;
        let Some(spare) = spares.front_mut() else {
            return false;
        };
        let zeros = self.next_piece(zeros, spare.filled);
        let filled_after = spare.filled + zeros.len() as u64;
        if zeros.is_empty() || filled_after > allowed {
            return false;
        }
        let filled = write_all(&*spare.file, &mut [IoSlice::new(zeros)], spare.filled)
            .and_then(|()| spare.file.sync_data());
        match filled {
            Ok(()) => {
                spare.filled = filled_after;
                true
            }
            Err(error) => {
                self.drop_spare(&mut pool, 0, &error);
                false
            }
        }
    }

    /// Returns the zeros for the piece of a spare at `done`; none at its end. The last block bears the spare's mark.
    fn next_piece<'a>(&self, zeros: &'a [u8], done: u64) -> &'a [u8] {
        let end = self.settings.segment_bytes - BLOCK_BYTES;
        let left = usize::try_from(end.saturating_sub(done)).unwrap_or(usize::MAX);
        &zeros[..left.min(zeros.len())]
    }

    /// Removes a spare after a failed sync: the contents of its file are unknown.
    fn drop_spare(&self, pool: &mut SegmentPool, index: usize, error: &io::Error) {
        let Some(spare) = pool.spares.remove(index) else {
            return;
        };
        tracing::warn!(path = %spare.path.display(), %error, "a spare journal segment cannot be filled");
        // If it stays, its bytes stay counted, and the next opening finds it.
        let _ = pool.remove(&*self.disk, &spare.path, self.settings.segment_bytes);
    }

    /// Writes zeros over the next piece of a spare that still holds records of its earlier life, so that all of it is
    /// overwritten within the time that stored records are kept, however little arrives. Returns whether it did.
    pub(super) fn clear(&self) -> bool {
        let mut pool = lock(&self.pool);
        let end = self.settings.segment_bytes - BLOCK_BYTES;
        let aging = self.settings.unstored_age_limit();
        for index in 0..pool.spares.len() {
            let spare = &pool.spares[index];
            let zeros = self.next_piece(&pool.zeros, spare.cleared);
            let cleared_after = spare.cleared + zeros.len() as u64;
            if zeros.is_empty() || spare.since.elapsed() < time_to_clear(cleared_after, end, aging)
            {
                continue;
            }
            match zero(&*spare.file, spare.cleared, zeros) {
                Ok(()) => pool.spares[index].cleared = cleared_after,
                Err(error) => self.drop_spare(&mut pool, index, &error),
            }
            return true;
        }
        false
    }

    /// Reads the free bytes of the volume, and keeps its space for the status.
    fn measure_free(&self) -> io::Result<u64> {
        let space = self.disk.space(&self.settings.dir)?;
        lock(&self.state).volume = space;
        Ok(space.free_bytes)
    }
}

impl Journal {
    /// Recycles all segments that are wholly stored, however young. Blocks.
    pub fn recycle_all_stored(&self) {
        let mut pool = lock(&self.shared.pool);
        while self.shared.recycle_next(&mut pool, Duration::ZERO) {}
        lock(&self.shared.state).remove_empty_streams();
        self.shared.note_positions();
    }
}

/// Returns the age at which the first `cleared` of a spare's `end` bytes should be zeros; at `aging` all of them should
/// be.
fn time_to_clear(cleared: u64, end: u64, aging: Duration) -> Duration {
    let share = u128::from(cleared) * aging.as_nanos() / u128::from(end.max(1));
    Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
}

/// Writes `zeros` at this offset, durably, unless zeros are there.
fn zero(file: &dyn DiskFile, at: u64, zeros: &[u8]) -> io::Result<()> {
    let mut present = vec![0; zeros.len()];
    read_full(file, &mut present, at)?;
    if present == zeros {
        return Ok(());
    }
    write_all(file, &mut [IoSlice::new(zeros)], at)?;
    file.sync_data()
}

/// Makes a file of `bytes` a spare; `nonce` is that of the segment that it was (0: unknown). First marks it durably as
/// a spare in its last block, where the footer was, then zeros its first block. Older versions see only the zeros.
pub(super) fn free(file: &dyn DiskFile, bytes: u64, nonce: u64) -> io::Result<()> {
    mark_spare(file, bytes, nonce)?;
    write_all(file, &mut [IoSlice::new(&[0; BLOCK])], 0)?;
    file.sync_data()
}

fn mark_spare(file: &dyn DiskFile, bytes: u64, freed: u64) -> io::Result<()> {
    let mark = spare_mark(getrandom::u64()?, freed);
    write_all(file, &mut [IoSlice::new(&mark)], bytes - BLOCK_BYTES)?;
    file.sync_data()
}

/// Returns the length of a segment that holds one record of `record_bytes`.
pub(super) const fn own_size(record_bytes: u64) -> u64 {
    record_bytes.next_multiple_of(BLOCK_BYTES) + 2 * BLOCK_BYTES
}
