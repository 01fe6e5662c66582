//! Segments that are lost, in whole or by their first block: all that was synced is accounted for.

use crate::journal::format::segment::BLOCK;
use crate::journal::tests::harm::medium;
use crate::journal::tests::*;
use crate::position_set::PositionSet;

pub(super) const RECORDS: u32 = 10;

/// Makes a directory as a power cut leaves it: sealed segments and, last, one that was never sealed. Returns the
/// stream, and each file with its positions.
pub(super) fn directory() -> (SimDisk, StreamId, Vec<(PathBuf, u64, u64)>) {
    // As the recycler thread does about once a second.
    directory_after(|journal| journal.shared.note_positions())
}

fn directory_after(
    before_the_cut: impl FnOnce(&Journal),
) -> (SimDisk, StreamId, Vec<(PathBuf, u64, u64)>) {
    let disk = SimDisk::new();
    let journal = open_with(&disk, &medium());
    let stream = journal.streams()[0].id;
    for seq in 1..=RECORDS {
        runtime().block_on(append(&journal, seq, 20_000)).unwrap();
    }
    before_the_cut(&journal);
    let disk = disk.cut(&mut || false);
    drop(journal);
    let reports = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
    assert!(reports.iter().all(|report| report.problems.is_empty()));
    let open = reports.iter().filter(|report| !report.sealed).count();
    assert_eq!((reports.len(), open), (5, 1), "{reports:?}");
    let files = reports.into_iter();
    let files = files.map(|report| (report.path, report.first, report.last));
    (disk, stream, files.collect())
}

/// Reads the stream: returns the positions of its records, and the positions that are lost.
pub(super) fn found(journal: &Journal, stream: StreamId) -> (Vec<u64>, PositionSet) {
    let (mut records, mut lost) = (Vec::new(), PositionSet::default());
    let entries = all(journal, stream);
    seqs(&entries);
    for entry in entries {
        match entry {
            JournalEntry::Record(record) => records.push(record.position.n),
            JournalEntry::Missing { first, last } => lost.insert(first..=last),
            JournalEntry::Damaged { n, .. } => lost.insert(n..=n),
            JournalEntry::Hole { first, last } => panic!("{first} to {last} were confirmed"),
        }
    }
    (records, lost)
}

type Harm = fn(&SimDisk, &Path);

pub(super) fn remove(disk: &SimDisk, path: &Path) {
    use crate::journal::disk::Disk;
    disk.remove(path).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
}

fn truncate(disk: &SimDisk, path: &Path, bytes: usize) {
    disk.edit(path, |content| content.truncate(bytes));
}

/// A middle segment was deleted, emptied or had zeros in its first block: there was no log line, no metric and no dead
/// letter, and the service wiped the whole segments.
#[test]
fn whichever_segment_is_lost_its_positions_are_accounted_for_and_no_others() {
    in_both_modes(|| {
        let gone: [(&str, Harm); 3] = [
            ("removed", remove),
            ("emptied", |disk, path| truncate(disk, path, 0)),
            ("cut to a block", |disk, path| truncate(disk, path, BLOCK)),
        ];
        let whole: [(&str, Harm); 4] = [
            ("zeros first", |disk, path| {
                disk.edit(path, |content| content[..BLOCK].fill(0));
            }),
            ("garbage first", |disk, path| {
                disk.edit(path, |content| content[..BLOCK].fill(0xa5));
            }),
            ("no header", |disk, path| {
                disk.edit(path, |content| {
                    content[16] ^= 1;
                    content[2048 + 16] ^= 1;
                });
            }),
            ("garbage first, nothing last", |disk, path| {
                disk.edit(path, |content| {
                    let end = content.len() - BLOCK;
                    content[..BLOCK].fill(0xa5);
                    content[end..].fill(0);
                });
            }),
        ];
        let chosen: [&[usize]; 7] = [&[0], &[2], &[3], &[4], &[1, 2], &[0, 4], &[0, 1, 2, 3, 4]];
        for harmed in chosen {
            for (name, harm) in gone {
                let (disk, stream, files) = directory();
                let mut expected = PositionSet::default();
                for index in harmed {
                    let (path, first, last) = &files[*index];
                    harm(&disk, path);
                    expected.insert(*first..=*last);
                }
                let verified = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
                let problems: usize = verified.iter().map(|report| report.problems.len()).sum();
                assert!(problems > 0, "{name} {harmed:?}: verify finds nothing");
                // Twice: what is found once is found again.
                for _ in 0..2 {
                    let journal = open_with(&disk, &medium());
                    let (records, lost) = found(&journal, stream);
                    assert_eq!(lost, expected, "{name} {harmed:?}");
                    let all: Vec<u64> = (1..=u64::from(RECORDS)).collect();
                    let left: Vec<u64> =
                        all.into_iter().filter(|n| !expected.contains(*n)).collect();
                    assert_eq!(records, left, "{name} {harmed:?}");
                }
            }
            for (name, harm) in whole {
                if name == "garbage first, nothing last" && harmed.len() > 1 {
                    continue;
                }
                let (disk, stream, files) = directory();
                for index in harmed {
                    harm(&disk, &files[*index].0);
                }
                let journal = open_with(&disk, &medium());
                let (records, lost) = found(&journal, stream);
                assert_eq!(lost, PositionSet::default(), "{name} {harmed:?}");
                assert_eq!(records.len(), RECORDS as usize, "{name} {harmed:?}");
            }
        }
    });
}

/// A process was killed two seconds after its start, before it had first written its positions. A file was then lost:
/// 100 acknowledged events were missing, and nothing but a false log line about the database reported it.
#[test]
fn a_file_lost_after_a_crash_in_the_first_second_is_missed() {
    in_both_modes(|| {
        let lost_files: [(&str, Harm); 3] = [
            ("removed", remove),
            ("emptied", |disk, path| truncate(disk, path, 0)),
            ("zeroed", |disk, path| {
                disk.edit(path, |content| content.fill(0));
            }),
        ];
        for index in 0..5 {
            for (name, harm) in lost_files {
                let (disk, stream, files) = directory_after(|_| {});
                let (path, first, last) = &files[index];
                harm(&disk, path);
                let verified = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
                let problems: usize = verified.iter().map(|report| report.problems.len()).sum();
                assert!(problems > 0, "{name} {index}: verify finds nothing");
                // Of the newest file only the first group was noted in `positions`, before it was acknowledged.
                let known_last = if index == 4 { *first } else { *last };
                for _ in 0..2 {
                    let journal = open_with(&disk, &medium());
                    let (records, lost) = found(&journal, stream);
                    assert_eq!(lost.ranges(), [*first..=known_last], "{name} {index}");
                    assert_eq!(
                        records.len() as u64,
                        10 - (last - first + 1),
                        "{name} {index}"
                    );
                    assert_eq!(journal.missing_positions(stream), lost, "{name} {index}");
                }
            }
        }
    });
}

#[test]
fn a_note_that_cannot_be_written_refuses_no_record() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open_with(&disk, &medium());
        settle(&journal);
        let note = || disk.content(&Path::new(DIR).join("positions"));
        // No further file can be opened or created; the segment's is open.
        disk.starve(true);
        assert!(runtime().block_on(append(&journal, 1, 100)).is_ok());
        assert!(note().is_empty());
        disk.starve(false);
        journal.shared.note_positions();
        assert!(!note().is_empty());
    });
}

/// One small write for each segment is what the note costs: the groups that follow the first are synced once each.
#[test]
fn the_note_costs_one_sync_for_each_segment_and_none_for_a_group() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open_with(&disk, &medium());
        runtime().block_on(append(&journal, 1, 100)).unwrap();
        settle(&journal);
        let before = disk.syncs();
        for seq in 2..=4 {
            runtime().block_on(append(&journal, seq, 100)).unwrap();
        }
        assert_eq!(disk.syncs() - before, 3);
    });
}

/// The open segment was cut at half after a crash: nothing was counted, and no dead letter was written.
#[test]
fn what_a_cut_open_segment_held_up_to_the_noted_position_is_missed() {
    in_both_modes(|| {
        let cut = |disk: &SimDisk, path: &Path| truncate(disk, path, BLOCK + 6 * BLOCK);
        let (disk, stream, files) = directory();
        cut(&disk, &files[4].0);
        let journal = open_with(&disk, &medium());
        assert_eq!(found(&journal, stream).1.ranges(), [10..=10]);
        assert_eq!(journal.status().cut_segments, 1);

        // Without the file `positions` nothing shows that the last record was there; the record before it is kept.
        let (disk, stream, files) = directory_after(|_| {});
        cut(&disk, &files[4].0);
        let journal = open_with(&disk, &medium());
        let (records, lost) = found(&journal, stream);
        assert_eq!((records.len(), lost), (9, PositionSet::default()));
        assert_eq!(journal.status().cut_segments, 1);
    });
}

#[test]
fn what_is_missing_waits_until_it_is_decided_and_is_gone_after_that() {
    in_both_modes(|| {
        let (disk, stream, files) = directory();
        for (path, ..) in &files {
            remove(&disk, path);
        }
        let journal = open_with(&disk, &medium());
        let last = u64::from(RECORDS);
        assert_eq!(journal.missing_positions(stream).ranges(), [1..=last]);
        assert_eq!(journal.status().undrained_streams, 1);
        assert_eq!(journal.status().undecided_records, last);
        journal.report_missing(stream, &PositionSet::new([1..=4]));
        assert_eq!(journal.status().undecided_records, last - 4);
        journal.report_missing(stream, &PositionSet::new([1..=last]));
        let status = journal.status();
        assert_eq!(
            (status.missing_records, status.damaged_records),
            (last, last)
        );
        // The database holds some of it; the rest becomes a dead letter.
        journal.mark_stored(stream, 1, 4);
        assert_eq!(journal.status().undrained_streams, 1);
        journal.mark_stored(stream, 5, last);
        let status = journal.status();
        assert_eq!((status.undrained_streams, status.undecided_records), (0, 0));
        settle(&journal);
        assert!(journal.streams().iter().all(|held| held.id != stream));
        drop(journal);
        let journal = open_with(&disk, &medium());
        assert!(journal.streams().iter().all(|held| held.id != stream));
    });
}

/// The database's answers waited for syncs of the recycler thread, on every stream that had ever missed a file.
#[test]
fn an_answer_about_missing_positions_waits_for_no_file() {
    in_both_modes(|| {
        let (disk, stream, files) = directory();
        remove(&disk, &files[0].0);
        let journal = open_with(&disk, &medium());
        settle(&journal);
        let last = files[0].2;
        let pool = lock(&journal.shared.pool);
        let (answered, answers) = std::sync::mpsc::channel();
        let told = journal.clone();
        let telling = std::thread::spawn(move || {
            told.mark_stored(stream, 1, last);
            told.mark_stored(stream, last + 1, last + 1);
            answered.send(()).unwrap();
        });
        let waited = answers.recv_timeout(Duration::from_secs(20));
        drop(pool);
        telling.join().unwrap();
        assert_eq!(waited, Ok(()));
    });
}

#[test]
fn what_was_stored_and_let_go_of_is_not_missing() {
    in_both_modes(|| {
        let (disk, stream, _) = directory();
        let journal = open_with(&disk, &medium());
        journal.mark_stored(stream, 4, 9);
        settle(&journal);
        assert!(journal.missing_positions(stream).ranges().is_empty());
        drop(journal);
        let journal = open_with(&disk, &medium());
        assert!(
            journal.missing_positions(stream).ranges().is_empty(),
            "it is noted"
        );
        assert!(found(&journal, stream).1.ranges().is_empty());
        drop(journal);
        // Without the file `positions` only the database shows it.
        remove(&disk, &Path::new(DIR).join("positions"));
        let journal = open_with(&disk, &medium());
        assert_eq!(journal.missing_positions(stream).ranges(), [5..=8]);
    });
}

/// A copy of a running directory had the segments first and the file `positions` a second later. The copy added the
/// records that its original had written in between to the stored positions as lost, and the original ignored these
/// records.
#[test]
fn a_copy_does_not_miss_what_its_origin_wrote_after_the_files_were_copied() {
    in_both_modes(|| {
        use crate::journal::disk::OsDisk;
        let root = tempfile::tempdir().unwrap();
        let in_dir = |dir: &str| Options {
            dir: root.path().join(dir),
            ..medium()
        };
        let opened = |dir| {
            Journal::open_with_sync_marker_after(Arc::new(OsDisk), &in_dir(dir), NEVER).unwrap()
        };
        let origin = opened("origin");
        let stream = origin.streams()[0].id;
        let write = |seqs: std::ops::RangeInclusive<u32>| {
            for seq in seqs {
                runtime().block_on(append(&origin, seq, 100)).unwrap();
            }
            origin.shared.note_positions();
        };
        let copy = |what: fn(&Path) -> bool| {
            std::fs::create_dir_all(root.path().join("copy")).unwrap();
            for file in std::fs::read_dir(root.path().join("origin")).unwrap() {
                let path = file.unwrap().path();
                if what(&path) {
                    let to = root.path().join("copy").join(path.file_name().unwrap());
                    std::fs::copy(&path, to).unwrap();
                }
            }
        };
        write(1..=3);
        copy(|path| !path.ends_with("positions"));
        write(4..=6);
        copy(|path| path.ends_with("positions"));
        drop(origin);
        for _ in 0..2 {
            let journal = opened("copy");
            let held = journal.streams().into_iter().find(|held| held.id == stream);
            let held = held.unwrap();
            assert!(held.from_copy);
            assert_eq!((held.first, held.last), (1, 3));
            assert_eq!(journal.missing_positions(stream), PositionSet::default());
            assert_eq!(
                found(&journal, stream),
                (vec![1, 2, 3], PositionSet::default())
            );
        }
        // In the original directory the file `positions` is as old as the segments.
        let journal = opened("origin");
        assert_eq!(found(&journal, stream).0, [1, 2, 3, 4, 5, 6]);
    });
}
