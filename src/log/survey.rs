//! The segment files of a directory, and what their first and last blocks say.
//!
//! **Invariant:** nothing is changed, no file stays open, and no length in a file is trusted before its checksum.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;
use super::disk::{Disk, DiskFile, read_full};
use super::recovery::{SMALLEST_SEGMENT, failed};
use super::segment::{BLOCK, BLOCK_BYTES, Begin, Contents, Footer, Header};

/// One segment file as it was found. There may be more of them than descriptors: whoever reads one opens it.
pub(super) struct Surveyed {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) begin: Begin,
    /// When it has a valid footer.
    pub(super) sealed: Option<Contents>,
}

impl Surveyed {
    pub(super) fn open(&self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        disk.open(&self.path)
    }
}

/// The segment files of a directory, each with what its first and last block say.
pub(super) fn survey(disk: &dyn Disk, dir: &Path) -> Result<Vec<Surveyed>, OpenError> {
    const ADVICE: &str = "the files of the log must be readable and writable";
    let listed = disk.list(dir).map_err(|error| failed(dir, error, ADVICE))?;
    listed
        .into_iter()
        .filter(|file| number(&file.path).is_some())
        .map(|file| {
            look_at(disk, &file.path, file.bytes).map_err(|error| failed(&file.path, error, ADVICE))
        })
        .collect()
}

fn look_at(disk: &dyn Disk, path: &Path, bytes: u64) -> io::Result<Surveyed> {
    let file = disk.open(path)?;
    let mut block = [0; BLOCK];
    read_full(&*file, &mut block, 0)?;
    let mut begin = Header::decode(&block);
    let length = match begin {
        Begin::Segment(header) => header.bytes,
        Begin::Unreadable => bytes,
        Begin::Spare | Begin::Newer(_) => 0,
    };
    let mut sealed = None;
    if length >= SMALLEST_SEGMENT.min(3 * BLOCK_BYTES) {
        let mut block = [0; BLOCK];
        read_full(&*file, &mut block, length - BLOCK_BYTES)?;
        let footer = Footer::decode(&block);
        if let (Begin::Unreadable, Some(footer)) = (&begin, footer) {
            begin = Begin::Segment(footer.header);
        }
        if let (Begin::Segment(header), Some(footer)) = (&begin, footer)
            && footer.header == *header
        {
            sealed = Some(footer.contents);
        }
    }
    Ok(Surveyed {
        path: path.to_owned(),
        bytes,
        begin,
        sealed,
    })
}

/// The number in a segment's name.
pub(super) fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    u64::from_str_radix(name, 16).ok()
}
