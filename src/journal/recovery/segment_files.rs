//! The segment files of a directory, identified by their first and last blocks.
//!
//! **Invariant:** nothing is changed, no file stays open, and no length in a file is trusted before its checksum. A
//! block that cannot be decoded is read again before it counts as lost.

use std::io;
use std::path::{Path, PathBuf};

use crate::journal::OpenError;
use crate::journal::disk::{Disk, DiskFile, read_full};
use crate::journal::format::scan::{READS, first_record};
use crate::journal::format::segment::{
    BLOCK, BLOCK_BYTES, FirstBlock, FreedBy, LastBlock, SegmentContents, SegmentHeader,
};
use crate::journal::recovery::{SMALLEST_SEGMENT, failed};

/// A segment file as it was found. There may be more of them than file descriptors, so each reader opens it.
pub(in crate::journal) struct SegmentFile {
    pub(in crate::journal) path: PathBuf,
    pub(in crate::journal) bytes: u64,
    pub(in crate::journal) kind: SegmentFileKind,
    /// The totals of its footer, if that is valid.
    pub(in crate::journal) sealed: Option<SegmentContents>,
}

/// The state of a file that may be a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum SegmentFileKind {
    Segment(SegmentHeader, HeaderSource),
    /// Records of one nonce, in a file that states neither their stream nor their first position.
    Unidentified {
        nonce: u64,
        /// The position of the first record found.
        first: u64,
        identity: HeaderSource,
    },
    /// Holds no record that is needed.
    Spare,
    /// Neither block states anything, and the first is zeros.
    Blank,
    /// Of a format that this version cannot read.
    Newer(u16),
    Unreadable,
}

/// The evidence for the segment that a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) enum HeaderSource {
    /// Its first block.
    FirstBlock,
    /// The last block or the records: the first block is lost.
    Restored,
    /// The last block or the records: the first block is zeros, by which older versions also freed a segment. Only the
    /// database shows which is the case.
    PerhapsFreed,
}

impl SegmentFile {
    /// Returns the totals of a segment that an older version perhaps freed. Such a file is identified by its footer
    /// alone.
    pub(in crate::journal) fn perhaps_freed(&self) -> Option<SegmentContents> {
        match self.kind {
            SegmentFileKind::Segment(_, HeaderSource::PerhapsFreed) => self.sealed,
            _ => None,
        }
    }

    pub(in crate::journal) fn is_restored(&self) -> bool {
        matches!(
            self.kind,
            SegmentFileKind::Segment(_, HeaderSource::Restored)
        )
    }
}

/// Returns the segment files of a directory, each identified by its first and last block.
pub(in crate::journal) fn segment_files(
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Vec<SegmentFile>, OpenError> {
    const ADVICE: &str = "the files of the journal must be readable and writable";
    let listed = disk.list(dir).map_err(|error| failed(dir, error, ADVICE))?;
    let mut files = Vec::new();
    for file in listed {
        if number(&file.path).is_some() {
            let file = read_ends(disk, &file.path, file.bytes)
                .map_err(|error| failed(&file.path, error, ADVICE))?;
            files.push(file);
        }
    }
    identify(&mut files);
    Ok(files)
}

pub(in crate::journal) fn read_ends(
    disk: &dyn Disk,
    path: &Path,
    bytes: u64,
) -> io::Result<SegmentFile> {
    let file = disk.open(path)?;
    // An earlier process may have written the file directly: the page cache has no say in what it holds.
    file.forget(0, bytes);
    let (mut kind, mut sealed) = from_blocks(&*file, bytes)?;
    for read in 1..READS {
        // A file that is sound but for its footer mostly has none.
        if rank(kind) == BEST && (sealed.is_some() || read > 1) {
            break;
        }
        file.forget(0, BLOCK_BYTES);
        file.forget(bytes.saturating_sub(BLOCK_BYTES), BLOCK_BYTES);
        let (again, sealed_again) = from_blocks(&*file, bytes)?;
        if rank(again) >= rank(kind) {
            kind = again;
        }
        sealed = sealed.or(sealed_again);
    }
    let kind = match kind {
        SegmentFileKind::Blank => from_records(&*file, bytes, HeaderSource::PerhapsFreed)?
            .unwrap_or(SegmentFileKind::Spare),
        SegmentFileKind::Unreadable => from_records(&*file, bytes, HeaderSource::Restored)?
            .unwrap_or(SegmentFileKind::Unreadable),
        kind => kind,
    };
    if !matches!(kind, SegmentFileKind::Segment(..)) {
        sealed = None;
    }
    Ok(SegmentFile {
        path: path.to_owned(),
        bytes,
        kind,
        sealed,
    })
}

const BEST: u8 = 4;

/// Ranks the outcomes of two reads that differ: the higher one is believed.
fn rank(kind: SegmentFileKind) -> u8 {
    match kind {
        SegmentFileKind::Newer(_) | SegmentFileKind::Segment(_, HeaderSource::FirstBlock) => BEST,
        SegmentFileKind::Spare => 3,
        SegmentFileKind::Segment(..) => 2,
        SegmentFileKind::Unidentified { .. } | SegmentFileKind::Blank => 1,
        SegmentFileKind::Unreadable => 0,
    }
}

/// Reads the state from the first and the last block.
fn from_blocks(
    file: &dyn DiskFile,
    bytes: u64,
) -> io::Result<(SegmentFileKind, Option<SegmentContents>)> {
    let first = SegmentHeader::decode(&block(file, 0)?);
    let length = match first {
        FirstBlock::Segment(header) => header.bytes,
        FirstBlock::Zeros | FirstBlock::Unreadable => bytes,
        FirstBlock::Newer(_) => 0,
    };
    let last = if length >= SMALLEST_SEGMENT.min(3 * BLOCK_BYTES) {
        LastBlock::decode(&block(file, length - BLOCK_BYTES)?)
    } else {
        LastBlock::Nothing
    };
    Ok(match (first, last) {
        (FirstBlock::Newer(found), _) => (SegmentFileKind::Newer(found), None),
        // Freed, except for the last step.
        (FirstBlock::Segment(header), LastBlock::Spare { freed }) if freed == header.nonce => {
            (SegmentFileKind::Spare, None)
        }
        (FirstBlock::Segment(header), LastBlock::Sealed(footer, _)) if footer.header == header => (
            SegmentFileKind::Segment(header, HeaderSource::FirstBlock),
            Some(footer.contents),
        ),
        (FirstBlock::Segment(header), _) => (
            SegmentFileKind::Segment(header, HeaderSource::FirstBlock),
            None,
        ),
        (_, LastBlock::Spare { .. }) => (SegmentFileKind::Spare, None),
        (FirstBlock::Zeros, LastBlock::Sealed(footer, FreedBy::Zeros)) => (
            SegmentFileKind::Segment(footer.header, HeaderSource::PerhapsFreed),
            Some(footer.contents),
        ),
        (_, LastBlock::Sealed(footer, _)) => (
            SegmentFileKind::Segment(footer.header, HeaderSource::Restored),
            Some(footer.contents),
        ),
        (_, LastBlock::Open(header)) => (
            SegmentFileKind::Segment(header, HeaderSource::Restored),
            None,
        ),
        (FirstBlock::Zeros, LastBlock::Nothing) => (SegmentFileKind::Blank, None),
        (FirstBlock::Unreadable, LastBlock::Nothing) => (SegmentFileKind::Unreadable, None),
    })
}

fn block(file: &dyn DiskFile, at: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    read_full(file, &mut block, at)?;
    Ok(block)
}

/// Looks for records in a file whose first and last block state nothing.
fn from_records(
    file: &dyn DiskFile,
    bytes: u64,
    identity: HeaderSource,
) -> io::Result<Option<SegmentFileKind>> {
    let first = first_record(file, bytes)?;
    Ok(first.map(|(nonce, record)| SegmentFileKind::Unidentified {
        nonce,
        first: record.position,
        identity,
    }))
}

/// Finds the stream of records whose file does not name it: the only stream that lacks just these, right behind one of
/// its files or before the first. A file that was perhaps freed gets no stream: its own stream holds those records in
/// another file, and the stream that they would fit may be any other.
fn identify(files: &mut [SegmentFile]) {
    let known: Vec<(SegmentHeader, Option<u64>)> = files
        .iter()
        .filter_map(|file| match file.kind {
            SegmentFileKind::Segment(header, _) => {
                Some((header, file.sealed.map(|contents| contents.last_position)))
            }
            _ => None,
        })
        .collect();
    for file in files {
        let SegmentFileKind::Unidentified {
            nonce,
            first,
            identity: identity @ (HeaderSource::FirstBlock | HeaderSource::Restored),
        } = file.kind
        else {
            continue;
        };
        let neighbours = known.iter().filter(|(header, last)| {
            let firsts = known.iter().map(|(other, _)| other);
            let mut firsts = firsts
                .filter(|other| other.stream == header.stream)
                .map(|other| other.first_position);
            let ends_before = last.is_some_and(|last| last + 1 == first);
            // The very first position of the stream, before the first of its files.
            let begins_after = first == 1
                && header.first_position > 1
                && firsts.clone().all(|other| other >= header.first_position);
            begins_after || ends_before && !firsts.any(|other| other == first)
        });
        if let [(header, _)] = neighbours.collect::<Vec<_>>()[..] {
            let header = SegmentHeader {
                nonce,
                first_position: first,
                bytes: file.bytes,
                ..*header
            };
            file.kind = SegmentFileKind::Segment(header, identity);
        }
    }
}

/// Returns the path of the segment file of this number.
pub(in crate::journal) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.seg"))
}

/// Returns the number in a segment's name.
pub(in crate::journal) fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    u64::from_str_radix(name, 16).ok()
}
