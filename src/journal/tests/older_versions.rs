//! Files that versions of the journal left that freed a segment by zeros alone: such a file may be freed or damaged.

use crate::journal::format::segment::{BLOCK, FirstBlock, LastBlock, SegmentHeader};
use crate::journal::tests::harm::medium;
use crate::journal::tests::missing::{RECORDS, directory, found, remove};
use crate::journal::tests::*;
use crate::position_set::PositionSet;

/// Removes today's spare mark from a sealed segment, and its header, as a version did that freed by zeros alone.
pub(super) fn free_as_before(disk: &SimDisk, path: &Path) {
    disk.edit(path, |content| {
        let end = content.len() - BLOCK;
        let LastBlock::Sealed(..) = LastBlock::decode(content[end..].first_chunk().unwrap()) else {
            panic!("not sealed");
        };
        let footer = &mut content[end..end + 512];
        footer[10] = 0;
        footer[12..16].fill(0);
        let checksum = crc32c::crc32c(footer);
        footer[12..16].copy_from_slice(&checksum.to_le_bytes());
        content[end + 512..].fill(0);
        content[..BLOCK].fill(0);
    });
}

/// An older version had made a spare of the first segment and left no note of what it had freed: everything up to the
/// first live segment was reported as missing.
#[test]
fn a_spare_of_an_older_version_makes_no_neighbour_of_it_missing() {
    in_both_modes(|| {
        let (disk, stream, files) = directory();
        remove(&disk, &files[1].0);
        remove(&disk, &Path::new(DIR).join("positions"));
        free_as_before(&disk, &files[0].0);
        let verified = Journal::inspect(Arc::new(disk.clone()), &medium()).unwrap();
        assert!(verified.iter().all(|report| report.problems.is_empty()));
        let journal = open_with(&disk, &medium());
        assert!(journal.may_have_freed(stream));
        assert_eq!(journal.missing_positions(stream), PositionSet::default());
    });
}

/// A version that freed by zeros alone wrote a torn tail again and freed the original. The next stream's records
/// overwrote the start of it, and that stream was then read on from the rest of the other. Its positions between became
/// dead letters, and the other's records were stored twice.
#[test]
fn what_is_left_of_a_freed_tail_is_read_under_no_stream() {
    in_both_modes(|| {
        for (first_block, records) in [(0, 2), (0, 9), (0xa5, 2)] {
            let (disk, older, files) = directory();
            let tail = disk.content(&files[4].0);
            assert_eq!((files[4].1, files[4].2), (9, 10));
            let journal = open_with(&disk, &medium());
            let newer = journal.streams().last().unwrap().id;
            for seq in 1..=records {
                runtime().block_on(append(&journal, seq, 100)).unwrap();
            }
            drop(journal);
            remove(&disk, &Path::new(DIR).join("positions"));
            let freed = Path::new(DIR).join("00000000000000ff.seg");
            disk.put(&freed, &tail);
            disk.edit(&freed, |content| {
                let end = content.len() - BLOCK;
                content[..BLOCK].fill(first_block);
                content[BLOCK..6 * BLOCK].fill(0);
                content[end..].fill(0);
            });
            let before = disk.content(&freed);
            for _ in 0..2 {
                let journal = open_with(&disk, &medium());
                for (stream, count) in [(older, u64::from(RECORDS)), (newer, u64::from(records))] {
                    let (found, lost) = found(&journal, stream);
                    assert_eq!(found, (1..=count).collect::<Vec<_>>(), "{records} records");
                    assert_eq!(lost, PositionSet::default(), "{records} records");
                }
                settle(&journal);
                assert_eq!(journal.status().damaged_records, 0);
                assert_eq!(disk.content(&freed), before, "it is left alone");
            }
        }
    });
}

fn holds(journal: &Journal, stream: StreamId) -> bool {
    journal.streams().iter().any(|held| held.id == stream)
}

#[test]
fn a_file_that_an_older_version_freed_is_kept_until_the_database_was_asked() {
    in_both_modes(|| {
        let (disk, stream, files) = directory();
        let (path, first, last) = files[0].clone();
        for (other, ..) in &files[1..] {
            remove(&disk, other);
        }
        remove(&disk, &Path::new(DIR).join("positions"));
        free_as_before(&disk, &path);
        let before = disk.content(&path);
        let opened = || {
            let journal = open_with(&disk, &medium());
            settle(&journal);
            assert_eq!(disk.content(&path), before);
            journal
        };
        // The database holds none of it: it was lost, not freed.
        let journal = opened();
        assert!(journal.may_have_freed(stream));
        assert_eq!(
            found(&journal, stream).0,
            (first..=last).collect::<Vec<_>>()
        );
        drop(journal);
        // The database does not know the stream: if the records are as old as the rows of streams get, they may be stored.
        let received = 1_700_000_000_000_000_000 + i64::try_from(last).unwrap();
        for (doubtless, left) in [
            (received..=i64::MAX, false),
            (received + 1..=i64::MAX, true),
        ] {
            let journal = opened();
            assert_eq!(
                runtime().block_on(journal.leave_freed(stream, doubtless)),
                left
            );
            assert_eq!(holds(&journal, stream), !left);
            assert_eq!(journal.status().queue_events == 0, left);
            assert_eq!(journal.status().backlog_at_start_events == 0, left);
            settle(&journal);
            drop(journal);
            assert_eq!(disk.content(&path), before);
        }
        assert!(holds(&opened(), stream), "it is asked about again");
        // The database holds all of it: it is a spare.
        let kept = Options {
            keep_stored: NEVER,
            ..medium()
        };
        let journal = open_with(&disk, &kept);
        journal.mark_stored(stream, first, last);
        settle(&journal);
        assert!(!holds(&journal, stream));
    });
}

#[test]
fn older_versions_distinguish_a_spare_from_a_segment() {
    in_both_modes(|| {
        let (disk, stream, files) = directory();
        let journal = open_with(&disk, &medium());
        journal.mark_stored(stream, 1, u64::from(RECORDS));
        settle(&journal);
        drop(journal);
        let spares: Vec<_> = disk
            .paths()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"))
            .map(|path| disk.content(&path))
            .collect();
        assert!(spares.len() >= 2 && files.len() == 5);
        for content in spares {
            // Older versions take a first block of zeros for a spare, and have no other sign.
            assert_eq!(
                SegmentHeader::decode(content.first_chunk().unwrap()),
                FirstBlock::Zeros
            );
            let end = content[content.len() - BLOCK..].first_chunk().unwrap();
            assert!(matches!(LastBlock::decode(end), LastBlock::Spare { .. }));
        }
    });
}
