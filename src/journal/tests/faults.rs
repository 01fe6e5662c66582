//! Disks that fail: the answers of appends, and the records found later.

use std::collections::BTreeSet;

use crate::journal::sim::Fault;
use crate::journal::tests::*;

/// Appends one record after the other until one fails. Returns the acknowledged records and the failure.
fn append_until_failure(
    journal: &Journal,
    count: u32,
    bytes: usize,
) -> (Vec<u32>, Option<AppendError>) {
    let runtime = runtime();
    let mut answered = Vec::new();
    for seq in 1..=count {
        match runtime.block_on(append(journal, seq, bytes)) {
            Ok(_) => answered.push(seq),
            Err(error) => return (answered, Some(error)),
        }
    }
    (answered, None)
}

fn found(journal: &Journal) -> BTreeSet<u32> {
    journal
        .streams()
        .iter()
        .flat_map(|stream| seqs(&all(journal, stream.id)))
        .map(|(_, seq)| seq)
        .collect()
}

#[test]
fn a_sync_that_fails_is_never_tried_again_and_costs_nothing_that_was_answered() {
    in_both_modes(|| {
        for k in 1..=50 {
            let disk = SimDisk::new();
            let journal = open(&disk);
            disk.inject(Fault::Sync(k));
            let (answered, failure) = append_until_failure(&journal, 90, 3000);
            if let Some(failure) = failure {
                assert!(
                    matches!(failure, AppendError::Unknown | AppendError::Closed),
                    "{failure:?}"
                );
                assert!(journal.status().broken, "sync {k}");
                let next = runtime().block_on(append(&journal, 1000, 10));
                assert_eq!(next, Err(AppendError::Closed));
                runtime().block_on(journal.synced_past(1_000_000));
            }
            assert_eq!(disk.after_failure(), Vec::<String>::new(), "sync {k}");
            assert!(answered.iter().all(|seq| found(&journal).contains(seq)));
            runtime().block_on(journal.close());
            assert_eq!(disk.after_failure(), Vec::<String>::new(), "sync {k}");
            drop(journal);
            let mut kept = k % 2 == 0;
            let disk = disk.cut(&mut || {
                kept = !kept;
                kept
            });
            let found = found(&open(&disk));
            for seq in &answered {
                assert!(found.contains(seq), "sync {k}: {seq} is gone");
            }
        }
    });
}

#[test]
fn a_record_whose_sync_failed_may_be_found_later_or_not_but_never_half() {
    in_both_modes(|| {
        for kept in [false, true] {
            let disk = SimDisk::new();
            let journal = open(&disk);
            let stream = journal.streams()[0].id;
            runtime().block_on(append(&journal, 1, 3000)).unwrap();
            settle(&journal);
            disk.inject(Fault::Sync(1));
            assert_eq!(
                runtime().block_on(append(&journal, 2, 3000)),
                Err(AppendError::Unknown)
            );
            // The page cache shows it still; the journal does not.
            assert_eq!(seqs(&all(&journal, stream)), [(1, 1)]);
            drop(journal);
            let restarted = if kept {
                // No power cut: the process alone starts again, and the cache still shows the record.
                disk
            } else {
                disk.cut(&mut || false)
            };
            let journal = open(&restarted);
            let found = seqs(&all(&journal, stream));
            assert_eq!(
                found,
                if kept {
                    vec![(1, 1), (2, 2)]
                } else {
                    vec![(1, 1)]
                }
            );
            // The record that is read now was written again: it stays, whatever happens to the power.
            let cut = restarted.cut(&mut || false);
            drop(journal);
            assert_eq!(seqs(&all(&open(&cut), stream)), found);
        }
    });
}

#[test]
fn short_and_interrupted_writes_are_carried_on() {
    in_both_modes(|| {
        for k in 1..=20 {
            for fault in [Fault::ShortWrite(k), Fault::InterruptedWrite(k)] {
                let disk = SimDisk::new();
                let journal = open(&disk);
                disk.inject(fault);
                assert_eq!(
                    append_until_failure(&journal, 30, 5000).1,
                    None,
                    "{fault:?}"
                );
                let cut = disk.cut(&mut || false);
                drop(journal);
                assert_eq!(found(&open(&cut)), (1..=30).collect(), "{fault:?}");
            }
        }
    });
}

#[test]
fn a_write_that_finds_no_space_fails_its_group_and_loses_nothing_answered() {
    in_both_modes(|| {
        for k in 1..=20 {
            let disk = SimDisk::new();
            let journal = open(&disk);
            disk.inject(Fault::FullWrite(k));
            let (answered, failure) = append_until_failure(&journal, 60, 5000);
            if let Some(failure) = failure {
                assert!(matches!(
                    failure,
                    AppendError::Unknown | AppendError::DiskFull
                ));
                assert!(!journal.status().broken);
            }
            let cut = disk.cut(&mut || false);
            drop(journal);
            let found = found(&open(&cut));
            assert!(answered.iter().all(|seq| found.contains(seq)), "write {k}");
        }
    });
}

/// On a full file system that copies overwritten blocks, a write into allocated space failed: the process ended, and
/// again at each start.
#[test]
fn a_volume_that_is_full_for_allocated_space_too_refuses_and_ends_nothing() {
    in_both_modes(|| {
        for room in [0, 1000, 4096, 5000, 12_000] {
            let disk = SimDisk::new();
            let journal = open(&disk);
            let runtime = runtime();
            let stream = journal.streams()[0].id;
            let mut answered = Vec::new();
            for seq in 1..=3 {
                runtime.block_on(append(&journal, seq, 3000)).unwrap();
                answered.push(seq);
            }
            settle(&journal);
            let written = disk.content(&segments(&disk)[0]);
            disk.set_room(Some(room));
            let failed = loop {
                let seq = u32::try_from(answered.len()).unwrap() + 1;
                match runtime.block_on(append(&journal, seq, 3000)) {
                    Ok(_) => answered.push(seq),
                    Err(error) => {
                        assert_eq!(error, AppendError::Unknown);
                        break seq;
                    }
                }
            };
            disk.set_room(Some(0));
            let left = disk.content(&segments(&disk)[0]);
            for _ in 0..3 {
                let refused = runtime.block_on(append(&journal, 90, 3000));
                assert_eq!(
                    refused,
                    Err(AppendError::DiskFull),
                    "nothing of it is on the disk"
                );
                settle(&journal);
                let status = journal.status();
                assert!(status.full && status.at_floor && !status.broken);
            }
            assert_eq!(
                disk.content(&segments(&disk)[0]),
                left,
                "no byte is written again"
            );
            assert_eq!(left[..3 * 4096], written[..3 * 4096]);
            disk.set_room(None);
            let position = runtime.block_on(append(&journal, 91, 3000)).unwrap();
            assert_eq!(
                position.n,
                u64::from(failed) + 1,
                "no position is used twice"
            );
            let expected: Vec<u32> = answered.iter().copied().chain([91]).collect();
            let entries = all(&journal, stream);
            let found: Vec<u32> = seqs(&entries).into_iter().map(|(_, seq)| seq).collect();
            assert_eq!(found, expected);
            let n = u64::from(failed);
            let hole = |entry: &JournalEntry| matches!(entry, JournalEntry::Hole { first, last } if (*first, *last) == (n, n));
            assert_eq!(
                entries.iter().filter(|entry| hole(entry)).count(),
                1,
                "{entries:?}"
            );
            assert!(!journal.status().full);
            let mut kept = false;
            let cut = disk.cut(&mut || {
                kept = !kept;
                kept
            });
            drop(journal);
            let journal = open(&cut);
            let found: Vec<u32> = seqs(&all(&journal, stream))
                .into_iter()
                .map(|(_, seq)| seq)
                .collect();
            assert_eq!(found, expected, "room for {room} bytes");
            assert_eq!(journal.status().damaged_records, 0);
        }
    });
}

#[test]
fn an_allocation_that_finds_no_space_refuses_and_breaks_nothing() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        for k in 1..=20 {
            disk.inject(Fault::FullAllocation(k));
        }
        let (answered, failure) = append_until_failure(&journal, 60, 9000);
        assert_eq!(failure, Some(AppendError::DiskFull));
        let status = journal.status();
        assert!(status.full && !status.broken);
        let stream = journal.streams()[0].id;
        assert_eq!(seqs(&all(&journal, stream)).len(), answered.len());
        // A record that still fits is accepted.
        runtime().block_on(append(&journal, 100, 10)).unwrap();
    });
}

#[test]
fn a_volume_at_its_floor_refuses_until_space_is_freed() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let options = Options {
            free_floor_bytes: Some(1 << 20),
            ..options()
        };
        let journal = open_with(&disk, &options);
        disk.set_free(1 << 20);
        let (answered, failure) = append_until_failure(&journal, 60, 5000);
        assert_eq!(failure, Some(AppendError::DiskFull));
        assert!(!answered.is_empty(), "the segment at hand is used up first");
        assert!(journal.status().full);
        disk.set_free(1 << 30);
        runtime().block_on(append(&journal, 61, 5000)).unwrap();
        assert!(!journal.status().full);
    });
}

#[test]
fn a_full_disk_can_be_restarted_on() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let options = Options {
            free_floor_bytes: Some(1 << 20),
            ..options()
        };
        let journal = open_with(&disk, &options);
        disk.set_free(1000);
        let (answered, failure) = append_until_failure(&journal, 60, 5000);
        assert_eq!(failure, Some(AppendError::DiskFull));
        for k in 1..=20 {
            disk.inject(Fault::FullAllocation(k));
        }
        let cut = disk.cut(&mut || false);
        drop(journal);
        let journal = open_with(&cut, &options);
        assert_eq!(found(&journal), answered.into_iter().collect());
        assert!(journal.status().full);
    });
}

#[test]
fn two_openings_of_one_directory_exclude_each_other() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let refused = Journal::open(Arc::new(disk.clone()), &options());
        assert!(matches!(
            refused.err(),
            Some(crate::journal::OpenError::Locked(_))
        ));
        drop(journal);
        open(&disk);
    });
}

/// A thread that died left its callers, and all later ones, waiting for ever.
#[test]
fn a_writer_that_panics_leaves_nobody_waiting() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let runtime = runtime();
        runtime.block_on(append(&journal, 1, 10)).unwrap();
        settle(&journal);
        let held = disk.hold_syncs();
        let mut appending = waiting(&journal, 2..=2, 10);
        handed_over(&journal, 2);
        disk.inject(Fault::Panic(1));
        appending.append(&mut waiting(&journal, 3..=4, 10));
        drop(held);
        for append in appending {
            let outcome = runtime.block_on(append);
            assert!(
                matches!(outcome, Err(AppendError::Unknown | AppendError::Closed)),
                "{outcome:?}"
            );
        }
        runtime.block_on(journal.synced_past(1_000_000));
        assert!(journal.status().broken);
        assert_eq!(
            runtime.block_on(append(&journal, 5, 10)),
            Err(AppendError::Closed)
        );
        runtime.block_on(journal.close());
    });
}

#[test]
fn a_system_short_of_descriptors_refuses_for_a_while_and_breaks_nothing() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        disk.starve(true);
        let (answered, failure) = append_until_failure(&journal, 100, 20_000);
        assert_eq!(failure, Some(AppendError::DiskFull));
        assert!(!journal.status().broken);
        disk.starve(false);
        runtime().block_on(append(&journal, 500, 20_000)).unwrap();
        let found = found(&journal);
        assert!(answered.iter().all(|seq| found.contains(seq)) && found.contains(&500));
    });
}
