//! Recovers one stream: its sealed segments are kept, the others are written again.
//!
//! **Invariant:** no file is removed before the file that replaces it is synced, and no file that an older version
//! perhaps freed is written to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::disk::is_full;
use crate::journal::format::segment::{SegmentContents, SegmentHeader};
use crate::journal::recovery::plan::UnsealedSegment;
use crate::journal::recovery::segment_files::{HeaderSource, SegmentFile, SegmentFileKind};
use crate::journal::recovery::{Recovery, failed, rewrite};
use crate::journal::segment_index::Segment;
use crate::journal::space::{Spare, free};
use crate::journal::streams::StreamState;
use crate::journal::{OpenError, quarantine};

impl Recovery<'_> {
    /// Recovers one stream: keeps its sealed segments unchanged, and writes the others again.
    pub(super) fn stream(
        &mut self,
        stream: &mut StreamState,
        files: Vec<(SegmentHeader, SegmentFile)>,
    ) -> Result<(), OpenError> {
        let mut synced = 0;
        let (empty, files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_empty);
        for (header, _) in &empty {
            synced = synced.max(header.first_position.saturating_sub(1));
        }
        let files = self.without_freed_copies(files)?;
        let mut bases: BTreeMap<u64, Vec<(SegmentHeader, SegmentFile)>> = BTreeMap::new();
        for (header, file) in files {
            synced = synced
                .max(header.first_position.saturating_sub(1))
                .max(file.sealed.map_or(0, |contents| contents.last_position));
            bases
                .entry(header.first_position)
                .or_default()
                .push((header, file));
        }
        let mut torn = BTreeMap::new();
        for (base, files) in &bases {
            if files.iter().all(|(_, file)| file.sealed.is_none()) {
                let scanned =
                    UnsealedSegment::scan(self.disk, files).map_err(|(path, error)| {
                        failed(&path, error, "the files of the journal must be readable")
                    })?;
                synced = synced.max(scanned.synced());
                torn.insert(*base, scanned);
            }
        }
        let following: Vec<u64> = bases.keys().skip(1).copied().collect();
        for (index, (base, files)) in bases.into_iter().enumerate() {
            if let Some(segment) = perhaps_freed(&files) {
                stream.hold(Arc::new(segment));
                continue;
            }
            let kept = match torn.remove(&base) {
                None => files
                    .iter()
                    .find_map(|(header, file)| Some((file.path.clone(), *header, file.sealed?))),
                Some(torn) => {
                    let until = following.get(index).map(|next| next - 1);
                    self.write_again(&torn, &files, synced, until)?
                }
            };
            if let Some((path, header, _)) = &kept
                && let Some((_, file)) = files.iter().find(|(_, file)| file.path == *path)
                && (files.len() > 1 || file.is_restored())
            {
                // The process that wrote this copy may have ended before the header was durable, or the header is lost.
                file.open(self.disk)
                    .and_then(|file| rewrite::begin(header, &*file))
                    .map_err(|error| failed(path, error, "check the disk and start again"))?;
            }
            for (header, file) in files {
                // If nothing is kept, a power cut spared the last block of a segment whose first group was never
                // synced.
                if kept.is_some() && file.is_restored() {
                    tracing::error!(
                        path = %file.path.display(),
                        "the first block of this journal segment is lost: its records are read as its last block says; check \
                         the disk"
                    );
                }
                if kept.as_ref().is_none_or(|(path, ..)| *path != file.path) {
                    self.retire(&file, &header)?;
                }
            }
            if let Some((path, header, contents)) = kept {
                stream.hold(Arc::new(Segment::new(path, header, Some(contents))));
            }
        }
        // They are retired last: their first positions prove that all positions before were synced.
        for (header, file) in &empty {
            self.retire(file, header)?;
        }
        Ok(())
    }

    /// Retires copies with a footer and no header if their segment is there too. Older versions left such files: copies
    /// that were cut short, or freed segments.
    fn without_freed_copies(
        &mut self,
        files: Vec<(SegmentHeader, SegmentFile)>,
    ) -> Result<Vec<(SegmentHeader, SegmentFile)>, OpenError> {
        let mut bases: BTreeMap<u64, Vec<(SegmentHeader, SegmentFile)>> = BTreeMap::new();
        for (header, file) in files {
            bases
                .entry(header.first_position)
                .or_default()
                .push((header, file));
        }
        let mut kept = Vec::new();
        for mut files in bases.into_values() {
            files.sort_by_key(|(_, file)| (file.perhaps_freed().is_some(), file.sealed.is_none()));
            let sound = files
                .iter()
                .filter(|(_, file)| file.perhaps_freed().is_none())
                .count();
            for (header, file) in files.drain(sound.max(1)..) {
                self.retire(&file, &header)?;
            }
            kept.append(&mut files);
        }
        Ok(kept)
    }

    /// Writes the rest of an unsealed segment into a new, sealed one. Returns `None` if there is nothing to keep.
    fn write_again(
        &mut self,
        torn: &UnsealedSegment,
        files: &[(SegmentHeader, SegmentFile)],
        synced: u64,
        until: Option<u64>,
    ) -> Result<Option<(PathBuf, SegmentHeader, SegmentContents)>, OpenError> {
        // A header is only written into a file that has its whole length.
        for (header, file) in files
            .iter()
            .filter(|(header, file)| file.bytes < header.bytes)
        {
            tracing::error!(
                path = %file.path.display(), bytes = file.bytes, of_bytes = header.bytes,
                "a file of the journal is cut short: what stood behind is lost; check the disk, and keep the copy put aside"
            );
            self.state.cut_segments += 1;
            quarantine::quarantine_copy(self.disk, self.settings, &file.path);
        }
        let plan = torn.plan(synced, until);
        if files.iter().any(|(header, file)| file.bytes < header.bytes) {
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
            && let Some(spare) = self.pool.take_spare()
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
        self.remove(&file.path, file.bytes)?;
        self.disk
            .sync_dir(&self.settings.dir)
            .map_err(|error| failed(&self.settings.dir, error, "check the disk and start again"))
    }

    /// Makes a spare of a file of a segment's length, however far an earlier process got. The file then durably has a
    /// spare's mark with a new nonce, and space for all of its bytes, also if it is a copy that left its zeros out.
    pub(super) fn reuse(&mut self, file: &SegmentFile) -> Result<(), OpenError> {
        let freed = file.open(self.disk).and_then(|open| {
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
                self.pool.add_spare(Spare::new(file.path.clone(), open, 0));
                Ok(())
            }
            Err(error) if is_full(&error) => self.remove_durably(file),
            Err(error) => Err(failed(&file.path, error, "check the disk and start again")),
        }
    }

    pub(super) fn remove(&mut self, path: &Path, bytes: u64) -> Result<(), OpenError> {
        self.disk
            .remove(path)
            .map_err(|error| failed(path, error, "the files of the journal must be removable"))?;
        self.pool.forget(bytes);
        Ok(())
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

/// Returns the segment that an older version perhaps freed, if the files are just this one. Nothing is written to it
/// until the database was asked.
fn perhaps_freed(files: &[(SegmentHeader, SegmentFile)]) -> Option<Segment> {
    let [(header, file)] = files else {
        return None;
    };
    let (path, contents) = (file.path.clone(), file.perhaps_freed()?);
    Some(Segment::found(
        path,
        *header,
        HeaderSource::PerhapsFreed,
        contents,
    ))
}
