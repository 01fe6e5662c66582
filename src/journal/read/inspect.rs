//! Builds the reports of `journal list` and `journal verify` on a directory.
//!
//! **Invariant:** nothing is written, and nothing is locked: the journal may be in use.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::event::StreamId;
use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::disk::Disk;
use crate::journal::format::record::RecordClass;
use crate::journal::format::scan::SegmentScan;
use crate::journal::format::segment::{BLOCK_BYTES, FORMAT, SegmentHeader};
use crate::journal::positions_file::{self, FoundPositions, NotedStreams};
use crate::journal::recovery::segment_files::{
    HeaderSource, SegmentFile, SegmentFileKind, segment_files,
};
use crate::journal::recovery::{READABLE, failed, refuse_earlier_name};
use crate::journal::{Journal, OpenError, Options, io_mode};
use crate::position_set::PositionSet;

/// One segment, as `journal list` and `journal verify` print it.
#[derive(Clone, Debug, Default)]
pub struct SegmentReport {
    pub path: PathBuf,
    pub stream: StreamId,
    /// Length of the file.
    pub bytes: u64,
    /// The first position; 0 if the segment cannot be read.
    pub first: u64,
    /// The last position; `first` less one if there is none.
    pub last: u64,
    /// Number of requests whose payloads verify.
    pub records: u64,
    /// Number of accepted events of all records.
    pub events: u64,
    /// The segment has a valid footer.
    pub sealed: bool,
    /// Problems of the segment, and positions missing before it, one line each; empty if all verifies.
    pub problems: Vec<String>,
    /// Positions that cannot be read and were never confirmed to anybody: not a problem.
    pub unconfirmed: PositionSet,
}

impl Journal {
    /// Returns reports of the directory's segments, oldest first, for `journal list` and `journal verify`. Opens the
    /// files without starting a stream, and reads only.
    ///
    /// # Errors
    /// [`OpenError::EarlierName`] if the directory still has its earlier name, [`OpenError::Newer`] if a file is of a
    /// newer format, and [`OpenError::Io`] if a file cannot be read.
    pub fn inspect(
        disk: Arc<dyn Disk>,
        options: &Options,
    ) -> Result<Vec<SegmentReport>, OpenError> {
        refuse_earlier_name(&*disk, &options.dir)?;
        let disk = io_mode::choose_to_read(disk, &options.dir, options.io);
        inspect(&*disk, &options.dir)
    }
}

fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentReport>, OpenError> {
    let mut reports = Vec::new();
    let (before, _) = positions_file::read(disk, dir);
    let files = segment_files(disk, dir)?;
    let (after, _) = positions_file::read(disk, dir);
    let mut confirmed: HashMap<StreamId, u64> = HashMap::new();
    let mut found: HashMap<StreamId, FoundPositions> = HashMap::new();
    for file in &files {
        if let SegmentFileKind::Segment(header, _) = file.kind {
            if let Some(contents) = file.perhaps_freed() {
                let found = found.entry(header.stream).or_default();
                let positions = header.first_position..=contents.last_position;
                found.insert(HeaderSource::PerhapsFreed, positions);
            }
            let sealed = file.sealed.map_or(0, |contents| contents.last_position);
            let known = confirmed.entry(header.stream).or_default();
            *known = (*known).max(header.first_position - 1).max(sealed);
        }
    }
    for file in files {
        match file.kind {
            // Only the database shows whether a file that an older version perhaps freed is missing.
            SegmentFileKind::Spare
            | SegmentFileKind::Blank
            | SegmentFileKind::Segment(_, HeaderSource::PerhapsFreed) => {}
            SegmentFileKind::Segment(header, identity) => {
                let confirmed = confirmed[&header.stream];
                let mut report = report(disk, &header, &file, confirmed)
                    .map_err(|error| failed(&file.path, error, READABLE))?;
                if identity == HeaderSource::Restored && report.last >= header.first_position {
                    let lost =
                        "the first block is lost, and what it said is read from the last one";
                    report.problems.insert(0, lost.to_owned());
                }
                reports.push(((header.epoch, header.first_position), report));
            }
            SegmentFileKind::Newer(found) => {
                return Err(OpenError::Newer {
                    path: file.path,
                    found,
                    known: FORMAT,
                });
            }
            SegmentFileKind::Unidentified { .. } | SegmentFileKind::Unreadable => {
                let mut problem = "neither header nor footer can be read".to_owned();
                if let SegmentFileKind::Unidentified { first, .. } = file.kind {
                    problem += &format!("; there are records from {first} on");
                }
                let mut report = empty(&file);
                report.problems.push(problem);
                reports.push(((0, 0), report));
            }
        }
    }
    reports.sort_by_key(|((epoch, first), report)| (*epoch, report.stream, *first));
    let mut reports: Vec<_> = reports.into_iter().map(|(_, report)| report).collect();
    name_missing(&mut reports, found, dir, before, &after);
    Ok(reports)
}

/// Reports positions that should be in a file and are in none, at the file after them, else at the last of the stream.
/// A running journal frees segments meanwhile, so the file `positions` as read `after` the segments counts too.
fn name_missing(
    reports: &mut Vec<SegmentReport>,
    mut found: HashMap<StreamId, FoundPositions>,
    dir: &Path,
    before: NotedStreams,
    after: &NotedStreams,
) {
    let mut noted = before;
    for (id, later) in after {
        if let Some(known) = noted.get_mut(id) {
            known.released.extend(later.released.ranges());
        }
    }
    noted.retain(|id, _| after.contains_key(id));
    for report in reports.iter().filter(|report| report.first > 0) {
        let found = found.entry(report.stream).or_default();
        found.sound.insert(report.first..=report.last);
    }
    for id in noted.keys() {
        found.entry(*id).or_default();
    }
    for (id, found) in found {
        for range in positions_file::missing_positions(found, noted.get(&id)).ranges() {
            let (first, last) = (*range.start(), *range.end());
            let problem = missing(first, last);
            let after = |report: &SegmentReport| report.stream == id && report.first > last;
            let at = reports
                .iter()
                .position(after)
                .or_else(|| reports.iter().rposition(|report| report.stream == id));
            match at {
                Some(at) => reports[at].problems.push(problem),
                None => reports.push(SegmentReport {
                    path: positions_file::path(dir),
                    stream: id,
                    problems: vec![problem],
                    ..SegmentReport::default()
                }),
            }
        }
    }
}

fn missing(first: u64, last: u64) -> String {
    let missing = if first == last {
        format!("position {first} of the stream is")
    } else {
        format!("positions {first} to {last} of the stream are")
    };
    format!("{missing} in no file: this is a part of a journal, unless the database has them")
}

fn empty(file: &SegmentFile) -> SegmentReport {
    SegmentReport {
        path: file.path.clone(),
        bytes: file.bytes,
        ..SegmentReport::default()
    }
}

/// Reads one segment. `confirmed` is the highest position of the stream that other files prove to be synced.
fn report(
    disk: &dyn Disk,
    header: &SegmentHeader,
    file: &SegmentFile,
    confirmed: u64,
) -> io::Result<SegmentReport> {
    let mut report = SegmentReport {
        stream: header.stream,
        first: header.first_position,
        last: header.first_position - 1,
        sealed: file.sealed.is_some(),
        ..empty(file)
    };
    if file.bytes < header.bytes {
        report.problems.push(format!(
            "the file has {} of its {} bytes",
            file.bytes, header.bytes
        ));
    }
    let end = file.sealed.map_or_else(
        || file.bytes.min(header.bytes.saturating_sub(BLOCK_BYTES)),
        |contents| contents.end,
    );
    let start = (header.first_position, BLOCK_BYTES);
    let open = disk.open(&file.path)?;
    let window = AlignedBuffer::zeroed(256 << 10);
    let mut scan = SegmentScan::new(open, header.nonce, start, end, window);
    let mut synced = file.sealed.map_or(0, |contents| contents.last_position);
    let mut problems: Vec<(u64, String)> = Vec::new();
    let mut gaps: Vec<RangeInclusive<u64>> = Vec::new();
    while let Some(found) = scan.next()? {
        let record = &found.header;
        synced = synced.max(record.synced_position);
        if record.class == RecordClass::SyncMarker || record.last_position <= report.last {
            continue;
        }
        if record.position > report.last + 1 {
            gaps.push(report.last + 1..=record.position - 1);
        }
        report.last = record.last_position;
        report.events += u64::from(record.accepted);
        match record.class {
            RecordClass::Data if scan.verifies(&found)? => report.records += 1,
            RecordClass::Data => problems.push((
                record.position,
                format!("the bytes of record {} are damaged", record.position),
            )),
            RecordClass::Damaged => problems.push((
                record.position,
                format!("record {} was found damaged earlier", record.position),
            )),
            RecordClass::Missing => problems.push((
                record.position,
                format!(
                    "records {} to {} were found lost earlier",
                    record.position, record.last_position
                ),
            )),
            RecordClass::Hole => report
                .unconfirmed
                .insert(record.position..=record.last_position),
            RecordClass::SyncMarker => {}
        }
    }
    if report.last < synced {
        gaps.push(report.last + 1..=synced);
        report.last = synced;
    }
    // Nothing above the highest synced position was confirmed: a torn tail is not a problem.
    let known = synced.max(confirmed);
    for gap in gaps {
        let (first, last) = gap.into_inner();
        if first <= known {
            problems.push((first, lost(first, last.min(known))));
        }
        report.unconfirmed.insert(first.max(known + 1)..=last);
    }
    problems.sort_by_key(|(n, _)| *n);
    report.problems.extend(
        problems
            .into_iter()
            .filter(|(n, _)| *n <= known)
            .map(|(_, problem)| problem),
    );
    Ok(report)
}

fn lost(first: u64, last: u64) -> String {
    if first == last {
        format!("the header of record {first} cannot be read")
    } else {
        format!("the headers of records {first} to {last} cannot be read")
    }
}
