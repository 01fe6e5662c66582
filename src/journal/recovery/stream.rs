//! Recovers one stream: its sealed segments are kept, the others are written again.
//!
//! **Invariant:** no file is removed before the file that replaces it is synced, and no file that an older version
//! perhaps freed is written to.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use crate::journal::disk::is_full;
use crate::journal::format::segment::{SegmentContents, SegmentHeader};
use crate::journal::recovery::plan::UnsealedSegment;
use crate::journal::recovery::segment_files::{HeaderSource, SegmentFile, SegmentFileKind};
use crate::journal::recovery::{CHECK_DISK, READABLE, REMOVABLE, Recovery, failed, rewrite};
use crate::journal::segment_index::Segment;
use crate::journal::space::{Spare, free};
use crate::journal::streams::StreamState;
use crate::journal::{OpenError, quarantine};

/// Files of one stream that begin with the same position: one segment.
type SegmentFiles = Vec<(SegmentHeader, SegmentFile)>;

impl Recovery<'_> {
    /// Recovers one stream: keeps its sealed segments unchanged, and writes the others again.
    pub(super) fn stream(
        &mut self,
        stream: &mut StreamState,
        files: SegmentFiles,
    ) -> Result<(), OpenError> {
        let (empty, files): (SegmentFiles, SegmentFiles) = files.into_iter().partition(is_empty);
        let segments = self.without_freed_copies(files)?;
        let mut synced = 0;
        for (header, file) in empty.iter().chain(segments.values().flatten()) {
            synced = synced
                .max(header.first_position.saturating_sub(1))
                .max(file.sealed.map_or(0, |contents| contents.last_position));
        }
        let mut unsealed = BTreeMap::new();
        for (first, files) in &segments {
            if files.iter().all(|(_, file)| file.sealed.is_none()) {
                let scanned = UnsealedSegment::scan(self.disk, files)
                    .map_err(|(path, error)| failed(&path, error, READABLE))?;
                synced = synced.max(scanned.synced());
                unsealed.insert(*first, scanned);
            }
        }
        let mut following: VecDeque<u64> = segments.keys().copied().collect();
        for (first, files) in segments {
            following.pop_front();
            if let [(header, file)] = &files[..]
                && let Some(contents) = file.perhaps_freed()
            {
                // Nothing is written to it until the database was asked.
                let (path, source) = (file.path.clone(), HeaderSource::PerhapsFreed);
                stream.hold(Segment::new(path, *header, source, Some(contents)));
                continue;
            }
            let kept = match unsealed.remove(&first) {
                None => files
                    .iter()
                    .find_map(|(header, file)| Some((file.path.clone(), *header, file.sealed?))),
                Some(unsealed) => {
                    let until = following.front().map(|next| next - 1);
                    self.write_again(&unsealed, &files, synced, until)?
                }
            };
            let kept_path = kept.as_ref().map(|(path, ..)| path);
            let is_one_of_several = files.len() > 1;
            for (header, file) in &files {
                // If nothing is kept, a power cut spared the last block of a segment whose first group was never
                // synced.
                if kept.is_some() && file.is_restored() {
                    tracing::error!(
                        path = %file.path.display(),
                        "the first block of this journal segment is lost: its records are read as its last block says; check \
                         the disk"
                    );
                }
                if kept_path == Some(&file.path) && (is_one_of_several || file.is_restored()) {
                    // The process that wrote this copy may have ended before the header was durable, or the header is
                    // lost.
                    self.disk
                        .open(&file.path)
                        .and_then(|open| rewrite::begin(header, &*open))
                        .map_err(|error| failed(&file.path, error, CHECK_DISK))?;
                }
            }
            for (header, file) in &files {
                if kept_path != Some(&file.path) {
                    self.retire(file, header)?;
                }
            }
            if let Some((path, header, contents)) = kept {
                let source = HeaderSource::FirstBlock;
                stream.hold(Segment::new(path, header, source, Some(contents)));
            }
        }
        // They are retired last: their first positions prove that all positions before were synced.
        for (header, file) in &empty {
            self.retire(file, header)?;
        }
        Ok(())
    }

    /// Groups the files of a stream by their first positions. Retires copies with a footer and no header if their
    /// segment is there too. Older versions left such files: copies that were cut short, or freed segments.
    fn without_freed_copies(
        &mut self,
        files: SegmentFiles,
    ) -> Result<BTreeMap<u64, SegmentFiles>, OpenError> {
        let mut segments: BTreeMap<u64, SegmentFiles> = BTreeMap::new();
        for (header, file) in files {
            let segment = segments.entry(header.first_position).or_default();
            segment.push((header, file));
        }
        for files in segments.values_mut() {
            files.sort_by_key(|(_, file)| (file.perhaps_freed().is_some(), file.sealed.is_none()));
            let sound = files.partition_point(|(_, file)| file.perhaps_freed().is_none());
            for (header, file) in files.drain(sound.max(1)..) {
                self.retire(&file, &header)?;
            }
        }
        Ok(segments)
    }

    /// Writes the rest of an unsealed segment into a new, sealed one. Returns `None` if there is nothing to keep.
    fn write_again(
        &mut self,
        unsealed: &UnsealedSegment,
        files: &[(SegmentHeader, SegmentFile)],
        synced: u64,
        until: Option<u64>,
    ) -> Result<Option<(PathBuf, SegmentHeader, SegmentContents)>, OpenError> {
        // A header is only written into a file that has its whole length.
        let is_cut = |(header, file): &&(SegmentHeader, SegmentFile)| file.bytes < header.bytes;
        let cut: Vec<_> = files.iter().filter(is_cut).collect();
        for (header, file) in &cut {
            tracing::error!(
                path = %file.path.display(), bytes = file.bytes, of_bytes = header.bytes,
                "a file of the journal is cut short: what stood behind is lost; check the disk, and keep the copy put aside"
            );
            self.state.cut_segments += 1;
            quarantine::quarantine_copy(self.disk, self.settings, &file.path);
        }
        let plan = unsealed.plan(synced, until);
        if !cut.is_empty() {
            self.state.missing_records += plan.damaged;
        }
        if plan.damaged > 0 {
            self.state.damaged_records += plan.damaged;
            for (_, file) in files {
                tracing::error!(
                    path = %file.path.display(), records = plan.damaged,
                    "records of the journal are damaged: they become dead letters; check the disk, and keep the copy put aside"
                );
                quarantine::quarantine_copy(self.disk, self.settings, &file.path);
            }
        }
        if plan.holes > 0 {
            tracing::warn!(
                positions = plan.holes,
                "positions of the journal were never confirmed and cannot be read"
            );
        }
        let Some(needed) = plan.segment_bytes() else {
            return Ok(None);
        };
        let (spare, bytes) = self
            .room_for(needed)
            .map_err(|error| not_written(&self.settings.dir, error, needed))?;
        let (header, contents) = rewrite::write(self.disk, &plan, files, &*spare.file, bytes)
            .map_err(|error| not_written(&spare.path, error, needed))?;
        Ok(Some((spare.path, header, contents)))
    }

    /// Returns a file of at least `needed` bytes, and its length: that of a usual segment, unless there is only room
    /// for less.
    fn room_for(&mut self, needed: u64) -> io::Result<(Spare, u64)> {
        let usual = self.settings.segment_bytes;
        if needed <= usual
            && let Some(spare) = self.pool.spares.pop_front()
        {
            return Ok((spare, usual));
        }
        let mut bytes = needed.max(usual);
        let dir = &self.settings.dir;
        let mut made = self.pool.create(self.disk, dir, bytes);
        if bytes > needed && made.as_ref().is_err_and(is_full) {
            bytes = needed;
            made = self.pool.create(self.disk, dir, bytes);
        }
        Ok((made?, bytes))
    }

    /// Makes a file that is no longer needed a spare, or removes it.
    fn retire(&mut self, file: &SegmentFile, header: &SegmentHeader) -> Result<(), OpenError> {
        let usual = self.settings.segment_bytes;
        if file.bytes == usual && header.bytes == usual && self.pool.wants_spares() {
            return self.reuse(file);
        }
        self.remove_durably(file)
    }

    fn remove_durably(&mut self, file: &SegmentFile) -> Result<(), OpenError> {
        self.remove(file)?;
        let dir = &self.settings.dir;
        let synced = self.disk.sync_dir(dir);
        synced.map_err(|error| failed(dir, error, CHECK_DISK))
    }

    /// Makes a spare of a file of a segment's length, however far an earlier process got. The file then durably has a
    /// spare's mark with a new nonce, and space for all of its bytes, also if it is a copy that left its zeros out.
    pub(super) fn reuse(&mut self, file: &SegmentFile) -> Result<(), OpenError> {
        let freed = self.disk.open(&file.path).and_then(|open| {
            open.allocate(file.bytes)?;
            let nonce = match file.kind {
                SegmentFileKind::Segment(header, _) => header.nonce,
                _ => 0,
            };
            free(&*open, file.bytes, nonce)?;
            Ok(open)
        });
        match freed {
            Ok(open) => {
                let spare = Spare::new(file.path.clone(), open, 0);
                self.pool.spares.push_back(spare);
                Ok(())
            }
            Err(error) if is_full(&error) => self.remove_durably(file),
            Err(error) => Err(failed(&file.path, error, CHECK_DISK)),
        }
    }

    pub(super) fn remove(&mut self, file: &SegmentFile) -> Result<(), OpenError> {
        self.pool
            .remove(self.disk, &file.path, file.bytes)
            .map_err(|error| failed(&file.path, error, REMOVABLE))
    }
}

/// Returns the error of a segment whose rest could not be written again; the copy takes `needed` bytes.
fn not_written(path: &Path, error: io::Error, needed: u64) -> OpenError {
    if !is_full(&error) {
        let advice = "recovery could not write: check the disk and start again";
        return failed(path, error, advice);
    }
    let error = io::Error::new(error.kind(), format!("{error}: {needed} bytes are needed"));
    let advice = "recovery needs room for one further segment: free some space and start again";
    failed(path, error, advice)
}

/// Returns whether a segment was sealed without a position in it: then the next one has the same first position.
fn is_empty((header, file): &(SegmentHeader, SegmentFile)) -> bool {
    file.sealed
        .is_some_and(|contents| contents.last_position < header.first_position)
}
