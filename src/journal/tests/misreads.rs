//! Reads that return wrong bytes: the next read may return them right.

use crate::journal::format::segment::BLOCK;
use crate::journal::tests::harm::medium;
use crate::journal::tests::missing::{RECORDS, directory, found};
use crate::journal::tests::*;
use crate::position_set::PositionSet;

/// One read in five returned a wrong byte, and 394 sound records became dead letters.
#[test]
fn a_wrong_read_is_repeated_before_a_record_counts_as_damaged() {
    in_both_modes(|| {
        for every in [5, 7, 11] {
            let (disk, stream, _) = directory();
            disk.misread_every(every);
            let reports = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
            for report in &reports {
                assert_eq!(report.problems, [""; 0], "one in {every}");
            }
            let journal = open_with(&disk, &medium());
            let (records, lost) = found(&journal, stream);
            assert_eq!(
                (records.len(), lost),
                (RECORDS as usize, PositionSet::default()),
                "one in {every}"
            );
            drop(journal);
            disk.misread_every(0);
            let journal = open_with(&disk, &medium());
            assert_eq!(
                found(&journal, stream).0.len(),
                RECORDS as usize,
                "copied as it was"
            );
            assert_eq!(journal.status().damaged_records, 0);
        }
    });
}

/// A wrong byte in a header hid a sound record of an open segment, and recovery dropped it for good.
#[test]
fn a_header_that_is_misread_a_few_times_hides_no_record() {
    in_both_modes(|| {
        // Behind the last record a torn tail looks alike: it is read twice.
        for (n, times) in [(1, 7), (2, 3), (3, 1)] {
            let disk = SimDisk::new();
            let journal = open_with(&disk, &medium());
            let stream = journal.streams()[0].id;
            for seq in 1..=3 {
                runtime().block_on(append(&journal, seq, 100)).unwrap();
            }
            journal.shared.note_positions();
            let disk = disk.cut(&mut || false);
            drop(journal);
            let reports = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
            let [report] = &reports[..] else {
                panic!("{reports:?}");
            };
            // Each group has one record, at its start.
            disk.misread_next(&report.path, n * BLOCK, times);
            let reports = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
            assert_eq!(reports[0].problems, [""; 0], "{times} reads of record {n}");
            disk.misread_next(&reports[0].path, n * BLOCK, times);
            let journal = open_with(&disk, &medium());
            let (records, lost) = found(&journal, stream);
            assert_eq!(
                (records, lost),
                (vec![1, 2, 3], PositionSet::default()),
                "{times} reads of record {n}"
            );
        }
    });
}
