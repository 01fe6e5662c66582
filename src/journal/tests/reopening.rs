//! Reopening: twice, cut short, elsewhere, by an older version.

use crate::journal::disk::Disk;
use crate::journal::tests::harm::{disk_with, medium, recovered, small, two_groups, unsealed};
use crate::journal::tests::*;
use crate::journal::{OpenError, recovery};

#[test]
fn recovery_done_twice_finds_what_it_found_once() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&medium(), &[300, 700, 500, 10]);
        disk.edit(&path, |content| content[2 * 4096 + 200] ^= 1);
        let once = format!("{:?}", recovered(&disk, &medium(), stream));
        let cut = disk.cut(&mut || false);
        assert_eq!(format!("{:?}", recovered(&cut, &medium(), stream)), once);
        assert!(once.contains("Damaged"));
    });
}

#[test]
fn recovery_cut_short_at_every_step_finds_the_same() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&medium(), &[300, 700, 500, 10]);
        disk.edit(&path, |content| content[2 * 4096 + 200] ^= 1);
        let content = disk.content(&path);
        let whole = format!(
            "{:?}",
            recovered(&disk_with(&path, &content), &medium(), stream)
        );
        for changes in 0..40 {
            for kept in [false, true] {
                let disk = disk_with(&path, &content);
                disk.die_after(changes);
                drop(recovery::open(Arc::new(disk.clone()), &medium(), NEVER));
                let disk = disk.cut(&mut || kept);
                assert_eq!(
                    format!("{:?}", recovered(&disk, &medium(), stream)),
                    whole,
                    "after {changes} changes"
                );
            }
        }
    });
}

#[test]
fn a_copied_directory_makes_a_stream_of_its_own() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&small(), &[300]);
        let copy = disk_with(&path, &disk.content(&path));
        let (one, other) = (open(&disk), open(&copy));
        assert_eq!(one.streams()[0].id, stream);
        assert_eq!(other.streams()[0].id, stream);
        assert_ne!(one.streams()[1].id, other.streams()[1].id);
    });
}

#[test]
fn an_older_streams_files_are_never_appended_to() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&small(), &[300]);
        let journal = open(&disk);
        let kept: Vec<_> = segments(&disk)
            .into_iter()
            .map(|path| (disk.content(&path), path))
            .collect();
        let position = runtime().block_on(append(&journal, 2, 10)).unwrap();
        assert_ne!(position.stream, stream);
        assert_eq!(position.n, 1);
        for (content, path) in kept {
            assert_eq!(disk.content(&path), content);
        }
        assert!(
            !segments(&disk).contains(&path),
            "the torn segment went once it was written again"
        );
    });
}

#[test]
fn a_segment_of_a_newer_format_is_refused_and_left_alone() {
    in_both_modes(|| {
        let (disk, _, path) = unsealed(&small(), &[300]);
        disk.edit(&path, |content| {
            for sector in [0, 2048] {
                content[sector + 8] = 2;
                content[sector + 12..sector + 16].fill(0);
                let checksum = crc32c::crc32c(&content[sector..sector + 512]);
                content[sector + 12..sector + 16].copy_from_slice(&checksum.to_le_bytes());
            }
        });
        let before = disk.content(&path);
        let refused = Journal::open(Arc::new(disk.clone()), &small());
        assert!(matches!(
            refused.err(),
            Some(crate::journal::OpenError::Newer {
                found: 2,
                known: 1,
                ..
            })
        ));
        assert_eq!(disk.content(&path), before);
    });
}

#[test]
fn inspection_names_what_is_wrong_and_changes_nothing() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&medium(), &[300, 700, 500]);
        disk.edit(&path, |content| content[2 * 4096 + 200] ^= 1);
        let before = disk.content(&path);
        let reports = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
        let [report] = &reports[..] else {
            panic!("{reports:?}");
        };
        assert_eq!((report.stream, report.first, report.last), (stream, 1, 3));
        assert_eq!(
            (report.records, report.events, report.sealed),
            (2, 2 + 3 + 4, false)
        );
        assert_eq!(report.problems, ["the bytes of record 2 are damaged"]);
        assert_eq!(disk.content(&path), before);
    });
}

/// `journal verify` found nothing wrong with a copy that `cp` had made of a running directory, with records 1 to 16 and
/// 51 to 77 only.
#[test]
fn inspection_names_positions_that_are_in_no_file_but_not_what_was_let_go_of() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open_with(&disk, &medium());
        let stream = journal.streams()[0].id;
        for seq in 1..=9 {
            runtime().block_on(append(&journal, seq, 20_000)).unwrap();
        }
        journal.mark_stored(stream, 1, 2);
        settle(&journal);
        runtime().block_on(journal.close());
        drop(journal);
        let inspect = || Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
        let whole = inspect();
        assert!(whole.len() >= 3, "{whole:?}");
        assert!(whole.iter().all(|report| report.problems.is_empty()));

        disk.remove(&whole[1].path).unwrap();
        let torn = inspect();
        let (first, last) = (whole[1].first, whole[1].last);
        let expected = format!(
            "positions {first} to {last} of the stream are in no file: this is a part of a journal, unless the database has them"
        );
        assert_eq!(torn[1].problems, [expected]);
        assert!(torn[0].problems.is_empty());

        disk.remove(&whole[0].path).unwrap();
        let rest = inspect();
        let (first, last) = (whole[0].first, whole[1].last);
        assert!(first > 1, "the first segment is let go of");
        let expected = format!(
            "positions {first} to {last} of the stream are in no file: this is a part of a journal, unless the database has them"
        );
        assert_eq!(rest[0].problems, [expected]);
        for report in &whole[2..] {
            disk.remove(&report.path).unwrap();
        }
        let none = inspect();
        assert_eq!((none.len(), none[0].stream), (1, stream));
        assert!(none[0].problems[0].starts_with(&format!("positions {first} to 9 ")));
    });
}

#[test]
fn inspection_tells_what_was_never_confirmed_from_what_is_damaged() {
    in_both_modes(|| {
        // The header of the first record of the last group, the only one whose sync no other record proves.
        let (disk, stream, path) = two_groups(&medium(), 300, &[700, 500]);
        disk.edit(&path, |content| content[2 * 4096..2 * 4096 + 128].fill(0));
        let before = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
        drop(recovered(&disk, &medium(), stream));
        let after = Journal::inspect(Arc::new(disk), &medium()).unwrap();
        for reports in [before, after] {
            assert!(reports[0].problems.is_empty(), "{reports:?}");
            assert_eq!(reports[0].unconfirmed.ranges(), [2..=2], "{reports:?}");
            assert_eq!((reports[0].last, reports[0].records), (3, 2));
        }
    });
}

/// A process died in the middle of recovery; the next one saw bytes that were written and not synced, and took them for
/// safe.
#[test]
fn recovery_that_dies_with_its_process_is_carried_on_from_what_is_durable() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&medium(), &[300, 700, 500, 10]);
        let content = disk.content(&path);
        for changes in 0..40 {
            let mut disk = disk_with(&path, &content);
            for more in 0..3 {
                disk.die_after(changes + more);
                drop(recovery::open(Arc::new(disk.clone()), &medium(), NEVER));
                disk.revive();
            }
            drop(recovery::open(Arc::new(disk.clone()), &medium(), NEVER));
            disk = disk.cut(&mut || false);
            let found = seqs(&recovered(&disk, &medium(), stream));
            assert_eq!(found, [(1, 1), (2, 2), (3, 3), (4, 4)], "after {changes}");
        }
    });
}

#[test]
fn a_journal_that_is_opened_to_be_emptied_takes_nothing_and_goes_once_it_is_stored() {
    in_both_modes(|| {
        let (disk, stream, _) = unsealed(&medium(), &[300, 700, 500]);
        let journal = Journal::open_to_empty(Arc::new(disk.clone()), &small()).unwrap();
        assert_eq!(seqs(&all(&journal, stream)), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(
            runtime().block_on(append(&journal, 9, 10)),
            Err(AppendError::Closed)
        );
        let files = || {
            let paths = disk.paths().into_iter();
            paths
                .filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"))
                .count()
        };
        assert_eq!(files(), 1, "no spares");
        journal.mark_stored(stream, 1, 2);
        journal.recycle_all_stored();
        assert_eq!(seqs(&all(&journal, stream)).len(), 3);
        journal.mark_stored(stream, 3, 3);
        assert_eq!(files(), 1, "nothing goes by itself");
        journal.recycle_all_stored();
        assert_eq!(files(), 0);
        assert_eq!(journal.streams().len(), 1, "its own, which is empty");
    });
}

#[test]
fn where_there_is_no_journal_none_is_made_to_be_emptied() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        disk.put(Path::new("/journal/messages"), b"another's");
        let opened = Journal::open_to_empty(Arc::new(disk.clone()), &small());
        assert!(matches!(opened.err(), Some(OpenError::NoJournal(dir)) if dir == Path::new(DIR)));
        assert_eq!(disk.paths(), [Path::new("/journal/messages")]);
    });
}

#[test]
fn an_opening_to_empty_it_that_is_cut_short_loses_nothing() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&medium(), &[300, 700, 500, 10]);
        let content = disk.content(&path);
        let whole = format!(
            "{:?}",
            recovered(&disk_with(&path, &content), &medium(), stream)
        );
        for changes in 0..40 {
            for kept in [false, true] {
                let disk = disk_with(&path, &content);
                disk.put(Path::new("/journal/00000000000000f0.seg"), &[0; 64 << 10]);
                disk.die_after(changes);
                drop(Journal::open_to_empty(Arc::new(disk.clone()), &medium()));
                let disk = disk.cut(&mut || kept);
                assert_eq!(
                    format!("{:?}", recovered(&disk, &medium(), stream)),
                    whole,
                    "after {changes} changes"
                );
            }
        }
    });
}
