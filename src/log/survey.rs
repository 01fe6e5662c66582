//! The segment files of a directory, and what their first and last blocks say.
//!
//! **Invariant:** nothing is changed, no file stays open, and no length in a file is trusted before its checksum. A block
//! that cannot be made out is read again before it counts as lost.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;
use super::disk::{Disk, DiskFile, read_full};
use super::recovery::{SMALLEST_SEGMENT, failed};
use super::scan::{READS, first_record};
use super::segment::{BLOCK, BLOCK_BYTES, Begin, Contents, End, FreedBy, Header};

/// One segment file as it was found. There may be more of them than descriptors: whoever reads one opens it.
pub(super) struct Surveyed {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) kind: Kind,
    /// When it has a valid footer.
    pub(super) sealed: Option<Contents>,
}

/// The state of a file that may be a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Segment(Header, Identity),
    /// Records of one nonce, in a file that says neither of which stream they are nor from which position on.
    Unidentified {
        nonce: u64,
        /// The position of the first that was found.
        first: u64,
        identity: Identity,
    },
    /// Holds nothing that is needed.
    Spare,
    /// Neither block says anything, and the first is zeros.
    Blank,
    /// Of a format that this version does not know.
    Newer(u16),
    Unreadable,
}

/// The evidence for which segment a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// From its first block.
    FirstBlock,
    /// From elsewhere: the first block is lost.
    Restored,
    /// From elsewhere: the first block is zeros, as older versions also freed a segment. Only the database can tell.
    PerhapsFreed,
}

impl Surveyed {
    /// The contents of a segment that an older version perhaps freed: a footer is all that such a file is known by.
    pub(super) fn perhaps_freed(&self) -> Option<Contents> {
        match self.kind {
            Kind::Segment(_, Identity::PerhapsFreed) => self.sealed,
            _ => None,
        }
    }

    pub(super) fn is_restored(&self) -> bool {
        matches!(self.kind, Kind::Segment(_, Identity::Restored))
    }

    pub(super) fn open(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        disk.open(&self.path)
    }
}

/// The segment files of a directory, each with what its first and last block say.
pub(super) fn survey(disk: &dyn Disk, dir: &Path) -> Result<Vec<Surveyed>, OpenError> {
    const ADVICE: &str = "the files of the log must be readable and writable";
    let listed = disk.list(dir).map_err(|error| failed(dir, error, ADVICE))?;
    let mut files = Vec::new();
    for file in listed {
        if number(&file.path).is_some() {
            let surveyed = look_at(disk, &file.path, file.bytes)
                .map_err(|error| failed(&file.path, error, ADVICE))?;
            files.push(surveyed);
        }
    }
    identify(&mut files);
    Ok(files)
}

fn look_at(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Surveyed> {
    let file = disk.open(path)?;
    let (mut kind, mut sealed) = from_blocks(&*file, bytes)?;
    for read in 1..READS {
        // One that is sound but for its footer is mostly one that has none.
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
        Kind::Blank => from_records(&*file, bytes, Identity::PerhapsFreed)?.unwrap_or(Kind::Spare),
        Kind::Unreadable => {
            from_records(&*file, bytes, Identity::Restored)?.unwrap_or(Kind::Unreadable)
        }
        kind => kind,
    };
    if !matches!(kind, Kind::Segment(..)) {
        sealed = None;
    }
    Ok(Surveyed {
        path: path.to_owned(),
        bytes,
        kind,
        sealed,
    })
}

const BEST: u8 = 4;

/// Ranks the outcomes of two reads that differ: the higher one is believed.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Newer(_) | Kind::Segment(_, Identity::FirstBlock) => BEST,
        Kind::Spare => 3,
        Kind::Segment(..) => 2,
        Kind::Unidentified { .. } | Kind::Blank => 1,
        Kind::Unreadable => 0,
    }
}

/// Reads the state from the first and the last block.
fn from_blocks(file: &dyn DiskFile, bytes: u64) -> io::Result<(Kind, Option<Contents>)> {
    let begin = Header::decode(&block(file, 0)?);
    let length = match begin {
        Begin::Segment(header) => header.bytes,
        Begin::Zeros | Begin::Unreadable => bytes,
        Begin::Newer(_) => 0,
    };
    let end = if length >= SMALLEST_SEGMENT.min(3 * BLOCK_BYTES) {
        End::decode(&block(file, length - BLOCK_BYTES)?)
    } else {
        End::Nothing
    };
    Ok(match (begin, end) {
        (Begin::Newer(found), _) => (Kind::Newer(found), None),
        // Freed, but for the last step.
        (Begin::Segment(header), End::Spare { freed }) if freed == header.nonce => {
            (Kind::Spare, None)
        }
        (Begin::Segment(header), End::Sealed(footer, _)) if footer.header == header => (
            Kind::Segment(header, Identity::FirstBlock),
            Some(footer.contents),
        ),
        (Begin::Segment(header), _) => (Kind::Segment(header, Identity::FirstBlock), None),
        (_, End::Spare { .. }) => (Kind::Spare, None),
        (Begin::Zeros, End::Sealed(footer, FreedBy::Zeros)) => (
            Kind::Segment(footer.header, Identity::PerhapsFreed),
            Some(footer.contents),
        ),
        (_, End::Sealed(footer, _)) => (
            Kind::Segment(footer.header, Identity::Restored),
            Some(footer.contents),
        ),
        (_, End::Open(header)) => (Kind::Segment(header, Identity::Restored), None),
        (Begin::Zeros, End::Nothing) => (Kind::Blank, None),
        (Begin::Unreadable, End::Nothing) => (Kind::Unreadable, None),
    })
}

fn block(file: &dyn DiskFile, at: u64) -> io::Result<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    read_full(file, &mut block, at)?;
    Ok(block)
}

/// A file whose first and last block say nothing may hold records all the same.
fn from_records(file: &dyn DiskFile, bytes: u64, identity: Identity) -> io::Result<Option<Kind>> {
    let first = first_record(file, bytes)?;
    Ok(first.map(|(nonce, record)| Kind::Unidentified {
        nonce,
        first: record.n,
        identity,
    }))
}

/// Finds the stream of records whose file does not name it: the only one that lacks just these, right behind one of its files
/// or before the first. A file that was perhaps freed has none: its stream holds those records in another file, and the one
/// that they would fit may be any other.
fn identify(files: &mut [Surveyed]) {
    let known: Vec<(Header, Option<u64>)> = files
        .iter()
        .filter_map(|file| match file.kind {
            Kind::Segment(header, _) => Some((header, file.sealed.map(|contents| contents.last))),
            _ => None,
        })
        .collect();
    for file in files {
        let Kind::Unidentified {
            nonce,
            first,
            identity: identity @ (Identity::FirstBlock | Identity::Restored),
        } = file.kind
        else {
            continue;
        };
        let mut claims = behind_one(&known, nonce, first, file.bytes);
        claims.extend(before_the_first(&known, nonce, first, file.bytes));
        if let [header] = claims[..] {
            file.kind = Kind::Segment(header, identity);
        }
    }
}

/// Streams of which a file ends right before position `first`, and none begins there.
fn behind_one(known: &[(Header, Option<u64>)], nonce: u64, first: u64, bytes: u64) -> Vec<Header> {
    let ends_before = known
        .iter()
        .filter(|(_, last)| last.is_some_and(|last| last + 1 == first));
    let free = ends_before.filter(|(header, _)| {
        let of_stream = |other: &Header| other.stream == header.stream;
        !known
            .iter()
            .any(|(other, _)| of_stream(other) && other.base == first)
    });
    free.map(|(header, _)| Header {
        nonce,
        base: first,
        bytes,
        ..*header
    })
    .collect()
}

/// Streams whose first file begins behind position `first`, where that is their very first.
fn before_the_first(
    known: &[(Header, Option<u64>)],
    nonce: u64,
    first: u64,
    bytes: u64,
) -> Vec<Header> {
    let mut claims: Vec<Header> = Vec::new();
    for (header, _) in known {
        let is_first = known
            .iter()
            .all(|(other, _)| other.stream != header.stream || other.base >= header.base);
        if first == 1 && is_first && header.base > 1 {
            claims.push(Header {
                nonce,
                base: 1,
                bytes,
                ..*header
            });
        }
    }
    claims
}

/// The number in a segment's name.
pub(super) fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    u64::from_str_radix(name, 16).ok()
}
