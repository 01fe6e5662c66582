//! What `log list` and `log verify` say of a directory.
//!
//! **Invariant:** nothing is written, and nothing is locked: a running log may be looked at.

use std::collections::HashMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use super::disk::Disk;
use super::record::Class;
use super::recovery::failed;
use super::scan::Scan;
use super::segment::{BLOCK_BYTES, Begin, FORMAT, Header};
use super::survey::{Surveyed, survey};
use super::{OpenError, Ranges, SegmentReport, StreamId};

/// As [`super::Log::inspect`].
pub(super) fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentReport>, OpenError> {
    let mut reports = Vec::new();
    let files = survey(disk, dir)?;
    let mut confirmed: HashMap<StreamId, u64> = HashMap::new();
    for file in &files {
        if let Begin::Segment(header) = file.begin {
            let sealed = file.sealed.map_or(0, |contents| contents.last);
            let known = confirmed.entry(header.stream).or_default();
            *known = (*known).max(header.base - 1).max(sealed);
        }
    }
    for file in files {
        match file.begin {
            Begin::Spare => {}
            Begin::Segment(header) => {
                let confirmed = confirmed[&header.stream];
                let report = report(disk, &header, &file, confirmed).map_err(|error| {
                    failed(&file.path, error, "the files of the log must be readable")
                })?;
                reports.push(((header.opening, header.base), report));
            }
            Begin::Newer(found) => {
                return Err(OpenError::Newer {
                    path: file.path,
                    found,
                    known: FORMAT,
                });
            }
            Begin::Unreadable => reports.push((
                (0, 0),
                SegmentReport {
                    problems: vec!["neither header nor footer can be read".to_owned()],
                    ..empty(&file)
                },
            )),
        }
    }
    reports.sort_by_key(|((opening, base), report)| (*opening, report.stream, *base));
    let mut reports: Vec<_> = reports.into_iter().map(|(_, report)| report).collect();
    name_gaps(&mut reports);
    Ok(reports)
}

/// Names positions between files of a stream, at the file after them: all before its base were synced once. Those before
/// the first file are no problem: the oldest files are stored, and go, first.
fn name_gaps(reports: &mut [SegmentReport]) {
    let mut before: Option<(StreamId, u64)> = None;
    for report in reports.iter_mut().filter(|report| report.first > 0) {
        let known = before.filter(|(stream, _)| *stream == report.stream);
        if let Some((_, last)) = known
            && report.first > last + 1
        {
            let (first, last) = (last + 1, report.first - 1);
            let missing = if first == last {
                format!("position {first} of the stream is")
            } else {
                format!("positions {first} to {last} of the stream are")
            };
            report.problems.push(format!(
                "{missing} in no file: this is a part of a log, unless the database has them"
            ));
        }
        let last = known.map_or(report.last, |(_, last)| last.max(report.last));
        before = Some((report.stream, last));
    }
}

fn empty(file: &Surveyed) -> SegmentReport {
    SegmentReport {
        path: file.path.clone(),
        stream: StreamId([0; 16]),
        bytes: file.bytes,
        first: 0,
        last: 0,
        records: 0,
        events: 0,
        sealed: false,
        problems: Vec::new(),
        unconfirmed: Ranges::default(),
    }
}

/// `confirmed` is the highest position of the stream of which other files say that it was synced.
fn report(
    disk: &dyn Disk,
    header: &Header,
    file: &Surveyed,
    confirmed: u64,
) -> io::Result<SegmentReport> {
    let mut report = SegmentReport {
        stream: header.stream,
        first: header.base,
        last: header.base - 1,
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
    let mut scan = Scan::new(file.open(disk)?, header.nonce, BLOCK_BYTES, end, 256 << 10);
    let mut synced = file.sealed.map_or(0, |contents| contents.last);
    let mut problems: Vec<(u64, String)> = Vec::new();
    let mut gaps: Vec<RangeInclusive<u64>> = Vec::new();
    while let Some(found) = scan.next()? {
        let record = &found.header;
        synced = synced.max(record.synced);
        if record.class == Class::Mark || record.last <= report.last {
            continue;
        }
        if record.n > report.last + 1 {
            gaps.push(report.last + 1..=record.n - 1);
        }
        report.last = record.last;
        report.events += u64::from(record.accepted);
        match record.class {
            Class::Data if scan.verifies(&found)? => report.records += 1,
            Class::Data => problems.push((
                record.n,
                format!("the bytes of record {} are damaged", record.n),
            )),
            Class::Damaged => problems.push((
                record.n,
                format!("record {} was found damaged earlier", record.n),
            )),
            Class::Hole => report.unconfirmed.insert(record.n..=record.last),
            Class::Mark => {}
        }
    }
    if report.last < synced {
        gaps.push(report.last + 1..=synced);
        report.last = synced;
    }
    // Above the highest mark nothing was confirmed: a torn tail is no problem.
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
