//! The file `positions`, beside the segments: the last position of each stream, and the positions that were freed.
//!
//! The file has two places, written in turn, each with its own checksum, so that a power cut spares one. It is written
//! before the first records of a segment are acknowledged, about once a second while records arrive, and before a
//! segment is freed.
//!
//! **Invariant:** only the search for missing files depends on it: without it no record is lost or written twice. It
//! has a segment's first records before they are acknowledged, and its positions as freed before its file is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::event::StreamId;
use crate::journal::disk::{Disk, read_full, write_all};
use crate::journal::recovery::segment_files::HeaderSource;
use crate::journal::streams::{StreamState, StreamTable};
use crate::journal::{Shared, lock};
use crate::position_set::PositionSet;

/// Name of the file.
const FILE: &str = "positions";

/// Bytes of each of the two places.
const COPY_BYTES: usize = 32 << 10;

const MAGIC: &str = "ruvvpos 1";

/// The entry of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NotedPositions {
    pub(super) epoch: u64,
    /// A position that was synced: the highest when the file was written.
    pub(super) last: u64,
    /// Positions whose segments were freed, as all of their positions were stored.
    pub(super) released: PositionSet,
}

/// The entries of all streams.
pub(super) type NotedStreams = BTreeMap<StreamId, NotedPositions>;

/// The file as this process last wrote it.
#[derive(Default)]
pub(super) struct PositionsFile {
    generation: u64,
    /// The entries as text; `None` before the first write.
    written: Option<String>,
    failed: bool,
}

/// The positions that the files of a stream hold.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundPositions {
    /// In files that are certainly segments.
    pub(super) sound: PositionSet,
    /// In files that an older version perhaps freed.
    pub(super) perhaps_freed: PositionSet,
}

impl FoundPositions {
    /// Adds the positions that a file holds.
    pub(super) fn insert(&mut self, source: HeaderSource, positions: RangeInclusive<u64>) {
        match source {
            HeaderSource::FirstBlock | HeaderSource::Restored => self.sound.insert(positions),
            HeaderSource::PerhapsFreed => self.perhaps_freed.insert(positions),
        }
    }
}

/// Returns the positions of a stream that should be in a file and are in none: all up to the highest known, without
/// those that files hold and those that were freed. If the stream has no entry, positions before the first sound file
/// count as freed: the oldest segments are freed first, and a file that perhaps was freed proves nothing about later
/// positions.
pub(super) fn missing_positions(
    found: FoundPositions,
    noted: Option<&NotedPositions>,
) -> PositionSet {
    let end = |positions: &PositionSet| positions.ranges().last().map_or(0, |range| *range.end());
    let FoundPositions {
        sound,
        perhaps_freed,
    } = found;
    let mut known = perhaps_freed;
    let last = match noted {
        Some(noted) => {
            let last = noted.last.max(end(&sound)).max(end(&known));
            known.extend(noted.released.ranges());
            last
        }
        None => {
            let first = sound.ranges().first().map_or(1, |range| *range.start());
            known.insert(1..=first.saturating_sub(1));
            end(&sound)
        }
    };
    known.extend(sound.ranges());
    PositionSet::new([1..=last]).without(&known)
}

/// Reads the file; returns no entries if it cannot be read.
pub(super) fn read(disk: &dyn Disk, dir: &Path) -> (NotedStreams, PositionsFile) {
    let copies = copies(disk, &path(dir));
    let newest = copies.iter().filter_map(|copy| parse(copy));
    let newest = newest.max_by_key(|(generation, _)| *generation);
    let (generation, streams) = newest.unwrap_or_default();
    let file = PositionsFile {
        generation,
        ..PositionsFile::default()
    };
    (streams, file)
}

/// Returns the path of the file, for messages.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// Returns the bytes of each of the two places that can be read.
fn copies(disk: &dyn Disk, path: &Path) -> Vec<Vec<u8>> {
    let Ok(file) = disk.open(path) else {
        return Vec::new();
    };
    let mut copies = Vec::new();
    for index in 0..2 {
        let mut copy = vec![0; COPY_BYTES];
        match read_full(&*file, &mut copy, index * COPY_BYTES as u64) {
            Ok(read) => {
                copy.truncate(read);
                copies.push(copy);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "this file of the journal cannot be read: missing segments may go unnoticed");
            }
        }
    }
    copies
}

fn parse(copy: &[u8]) -> Option<(u64, NotedStreams)> {
    let end_of_line = copy.iter().position(|byte| *byte == b'\n')?;
    let line = std::str::from_utf8(&copy[..end_of_line]).ok()?;
    let mut words = line.strip_prefix(MAGIC)?.split_ascii_whitespace();
    let generation: u64 = words.next()?.parse().ok()?;
    let length: usize = words.next()?.parse().ok()?;
    let checksum = u32::from_str_radix(words.next()?, 16).ok()?;
    let body = copy.get(end_of_line + 1..)?.get(..length)?;
    if checksum != sum(generation, body) {
        return None;
    }
    let mut streams = NotedStreams::new();
    for line in std::str::from_utf8(body).ok()?.lines() {
        let mut words = line.split_ascii_whitespace();
        let id = u128::from_str_radix(words.next()?, 16).ok()?;
        let noted = NotedPositions {
            epoch: words.next()?.parse().ok()?,
            last: words.next()?.parse().ok()?,
            released: PositionSet::new(words.map_while(range)),
        };
        streams.insert(StreamId(id.to_be_bytes()), noted);
    }
    Some((generation, streams))
}

fn range(word: &str) -> Option<RangeInclusive<u64>> {
    let (first, last) = word.split_once('-')?;
    Some(first.parse().ok()?..=last.parse().ok()?)
}

fn sum(generation: u64, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&generation.to_le_bytes()), body)
}

/// Formats the entries, newest stream first; streams for which there is no room are left out.
fn body(state: &StreamTable) -> String {
    let mut body = String::new();
    for stream in state.streams.iter().rev().filter(|stream| stream.last > 0) {
        let mut line = format!("{} {} {}", stream.id, stream.epoch, stream.last);
        for range in released(stream).ranges() {
            let _ = write!(line, " {}-{}", range.start(), range.end());
        }
        line.push('\n');
        if body.len() + line.len() > COPY_BYTES - 128 {
            break;
        }
        body.push_str(&line);
    }
    body
}

/// Returns the positions that were freed: those that no segment holds and that are not known to be missing.
fn released(stream: &StreamState) -> PositionSet {
    PositionSet::new([1..=stream.last])
        .without(&stream.held())
        .without(&stream.undecided())
}

impl Shared {
    /// Makes the file durably, so that the first note of this life, which an append waits for, costs one sync and no
    /// more.
    pub(super) fn create_positions_file(&self) {
        let (dir, path) = (&self.settings.dir, path(&self.settings.dir));
        let created = match self.disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return,
            created => created.and_then(|_| self.disk.sync_dir(dir)),
        };
        if let Err(error) = created {
            tracing::debug!(path = %path.display(), %error, "this file of the journal cannot be made now");
        }
    }

    /// Writes what the journal holds, durably, if that differs from what was written last. Of an empty journal the file
    /// is removed.
    pub(super) fn note_positions(&self) {
        let mut file = lock(&self.positions_file);
        let body = body(&lock(&self.state));
        if file.written.as_ref() == Some(&body) || body.is_empty() && file.generation == 0 {
            return;
        }
        let (dir, path) = (&self.settings.dir, path(&self.settings.dir));
        let (generation, noted) = if body.is_empty() {
            let removed = self.disk.remove(&path);
            (0, removed.and_then(|()| self.disk.sync_dir(dir)))
        } else {
            let generation = file.generation + 1;
            (generation, write(&*self.disk, dir, generation, &body))
        };
        match noted {
            Ok(()) => {
                *file = PositionsFile {
                    generation,
                    written: Some(body),
                    failed: false,
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut file.failed, true) {
                    tracing::warn!(path = %path.display(), %error, "this file of the journal cannot be written: if segments go missing, nothing may say so");
                }
            }
        }
    }
}

fn write(disk: &dyn Disk, dir: &Path, generation: u64, body: &str) -> io::Result<()> {
    let path = path(dir);
    let (file, new) = match disk.open(&path) {
        Ok(file) => (file, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (disk.create(&path)?, true),
        Err(error) => return Err(error),
    };
    let checksum = sum(generation, body.as_bytes());
    let text = format!("{MAGIC} {generation} {} {checksum:08x}\n{body}", body.len());
    let at = (generation % 2) * COPY_BYTES as u64;
    write_all(&*file, &mut [IoSlice::new(text.as_bytes())], at)?;
    file.sync_data()?;
    if new { disk.sync_dir(dir) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_torn_place_leaves_the_other() {
        use crate::journal::sim::SimDisk;
        let (disk, dir) = (SimDisk::new(), Path::new("/journal"));
        let id = StreamId([7; 16]);
        for generation in 1..=3 {
            let line = format!("{id} 4 {} 1-5 9-9\n", 10 * generation);
            write(&disk, dir, generation, &line).unwrap();
        }
        let last = || read(&disk, dir).0.get(&id).map(|noted| noted.last);
        let (streams, file) = read(&disk, dir);
        let expected = NotedPositions {
            epoch: 4,
            last: 30,
            released: PositionSet::new([1..=5, 9..=9]),
        };
        assert_eq!((streams.get(&id), file.generation), (Some(&expected), 3));
        disk.edit(&path(dir), |content| content[COPY_BYTES + 40] ^= 1);
        assert_eq!(last(), Some(20));
        disk.edit(&path(dir), |content| content[3] ^= 1);
        assert_eq!(last(), None);
    }

    #[test]
    fn what_should_be_there_is_all_that_was_neither_found_nor_let_go_of() {
        let sound = |ranges: &[RangeInclusive<u64>]| FoundPositions {
            sound: PositionSet::new(ranges.iter().cloned()),
            ..FoundPositions::default()
        };
        let held = sound(&[11..=20, 31..=40]);
        assert_eq!(missing_positions(held.clone(), None).ranges(), [21..=30]);
        let noted = |last, released: &[RangeInclusive<u64>]| NotedPositions {
            epoch: 1,
            last,
            released: PositionSet::new(released.iter().cloned()),
        };
        assert_eq!(
            missing_positions(held.clone(), Some(&noted(50, &[1..=4]))).ranges(),
            [5..=10, 21..=30, 41..=50]
        );
        assert_eq!(
            missing_positions(held.clone(), Some(&noted(7, &[1..=10, 21..=30]))).ranges(),
            []
        );
        let nothing = FoundPositions::default();
        assert_eq!(
            missing_positions(nothing.clone(), Some(&noted(3, &[]))).ranges(),
            [1..=3]
        );
        assert_eq!(missing_positions(nothing.clone(), None).ranges(), []);
        let beside_spares = FoundPositions {
            perhaps_freed: PositionSet::new([1..=4, 24..=26, 90..=99]),
            ..held
        };
        assert_eq!(
            missing_positions(beside_spares.clone(), None).ranges(),
            [21..=23, 27..=30],
            "what a spare was says nothing of its neighbours"
        );
        assert_eq!(
            missing_positions(beside_spares.clone(), Some(&noted(50, &[]))).ranges(),
            [5..=10, 21..=23, 27..=30, 41..=89]
        );
    }
}
