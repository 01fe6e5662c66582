//! What `log list` and `log verify` say of a directory.
//!
//! **Invariant:** nothing is written, and nothing is locked: a running log may be looked at.

use std::io;
use std::path::Path;

use super::disk::Disk;
use super::record::Class;
use super::recovery::failed;
use super::scan::Scan;
use super::segment::{BLOCK_BYTES, Begin, FORMAT, Header};
use super::survey::{Surveyed, survey};
use super::{OpenError, SegmentReport, StreamId};

/// As [`super::Log::inspect`].
pub(super) fn inspect(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentReport>, OpenError> {
    let mut reports = Vec::new();
    for file in survey(disk, dir)? {
        match file.begin {
            Begin::Spare => {}
            Begin::Segment(header) => {
                let report = report(disk, &header, &file).map_err(|error| {
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
    reports.sort_by_key(|(order, _)| *order);
    Ok(reports.into_iter().map(|(_, report)| report).collect())
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
    }
}

fn report(disk: &dyn Disk, header: &Header, file: &Surveyed) -> io::Result<SegmentReport> {
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
    let mut problems = Vec::new();
    while let Some(found) = scan.next()? {
        let record = &found.header;
        synced = synced.max(record.synced);
        if record.class == Class::Mark || record.last <= report.last {
            continue;
        }
        if record.n > report.last + 1 {
            problems.push((report.last + 1, lost(report.last + 1, record.n - 1)));
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
            Class::Hole | Class::Mark => {}
        }
    }
    if report.last < synced {
        problems.push((report.last + 1, lost(report.last + 1, synced)));
        report.last = synced;
    }
    // Above the highest mark nothing was confirmed: a torn tail is no problem.
    report.problems.extend(
        problems
            .into_iter()
            .filter(|(n, _)| *n <= synced)
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
