//! Room for new records: spares, the budget, and files that are used again.

use crate::journal::disk::{Disk, Space};
use crate::journal::sim::Fault;
use crate::journal::tests::harm::{medium, recovered, unsealed};
use crate::journal::tests::*;

fn holds(journal: &Journal, stream: StreamId) -> bool {
    journal.streams().iter().any(|held| held.id == stream)
}

/// Returns a disk with one sealed segment, and its stream.
fn sealed() -> (SimDisk, StreamId) {
    let disk = SimDisk::new();
    let journal = open(&disk);
    let position = runtime().block_on(append(&journal, 1, 100)).unwrap();
    (disk, position.stream)
}

/// Takes a spare out of the pool, so that the next recycled segment becomes one instead of being removed.
fn take_spare(journal: &Journal) {
    let shared = &journal.shared;
    drop(shared.take_room(shared.settings.segment_bytes).unwrap());
}

/// The stream is removed once the file is free: if the stream were found again later, it would be read a second time.
#[test]
fn a_freed_segment_never_comes_back() {
    in_both_modes(|| {
        let (disk, stream) = sealed();
        let journal = still(&disk, &options());
        take_spare(&journal);
        journal.mark_stored(stream, 1, 1);
        journal.shared.recycle();
        assert!(!holds(&journal, stream));
        let disk = disk.cut(&mut || false);
        assert!(!holds(&still(&disk, &options()), stream));
    });
}

#[test]
fn a_file_that_recovery_freed_never_comes_back() {
    in_both_modes(|| {
        let (disk, stream, _) = unsealed(&medium(), &[300, 700]);
        let journal = still(&disk, &medium());
        journal.mark_stored(stream, 1, 2);
        journal.shared.recycle();
        assert!(!holds(&journal, stream));
        let disk = disk.cut(&mut || false);
        assert!(!holds(&still(&disk, &medium()), stream));
    });
}

/// A process died while it freed a segment, and the next one saw zeros that were not on the disk.
#[test]
fn a_spare_that_is_found_is_a_spare_after_a_power_cut_too() {
    in_both_modes(|| {
        let (disk, stream) = sealed();
        let journal = still(&disk, &options());
        take_spare(&journal);
        journal.mark_stored(stream, 1, 1);
        // Everything noted is durable, and one step of the freeing is done: the spare mark, which is not synced.
        journal.shared.note_positions();
        disk.die_after(4);
        journal.shared.recycle();
        drop(journal);
        disk.revive();
        let journal = still(&disk, &options());
        assert!(!holds(&journal, stream));
        let disk = disk.cut(&mut || false);
        assert!(!holds(&still(&disk, &options()), stream));
    });
}

/// Only a complete freeing was ever tested: a process may die, or the power fail, between any two of its writes.
#[test]
fn a_freeing_that_is_cut_short_anywhere_leaves_a_spare_or_the_whole_segment() {
    in_both_modes(|| {
        for changes in 0..12 {
            for kept in [false, true] {
                let (disk, stream) = sealed();
                let journal = still(&disk, &options());
                take_spare(&journal);
                journal.mark_stored(stream, 1, 1);
                disk.die_after(changes);
                journal.shared.recycle();
                drop(journal);
                let disk = disk.cut(&mut || kept);
                let journal = still(&disk, &options());
                let found = record_reader::read(&journal.shared, stream, 1, 1 << 20).unwrap();
                let whole = seqs(&found) == [(1, 1)] && found.len() == 1;
                assert!(
                    whole || found.is_empty(),
                    "after {changes} changes: {found:?}"
                );
                assert_eq!(whole, holds(&journal, stream));
            }
        }
    });
}

#[test]
fn a_stream_whose_file_could_not_be_freed_is_still_listed() {
    in_both_modes(|| {
        let (disk, stream) = sealed();
        let journal = still(&disk, &options());
        journal.mark_stored(stream, 1, 1);
        disk.keep_files();
        journal.shared.recycle();
        assert!(
            holds(&journal, stream),
            "its file is there at the next start"
        );
    });
}

/// A copy that was cut short had used the only spare: no later start found room.
#[test]
fn recovery_on_a_full_disk_may_be_cut_short_again_and_again() {
    in_both_modes(|| {
        for kept in [false, true] {
            let (disk, stream, path) = unsealed(&medium(), &[300, 700, 500]);
            let mut disk = disk;
            let spares = disk.paths().into_iter().filter(|file| {
                *file != path && file.extension().is_some_and(|suffix| suffix == "seg")
            });
            for spare in spares.skip(1).collect::<Vec<_>>() {
                disk.remove(&spare).unwrap();
            }
            disk.sync_dir(Path::new(DIR)).unwrap();
            disk.set_free(0);
            for k in 1..=1000 {
                disk.inject(Fault::FullAllocation(k));
            }
            for changes in 0..30 {
                disk.die_after(changes);
                drop(recovery::open(Arc::new(disk.clone()), &medium(), NEVER));
                disk = disk.cut(&mut || kept);
            }
            let found = seqs(&recovered(&disk, &medium(), stream));
            assert_eq!(found, [(1, 1), (2, 2), (3, 3)]);
        }
    });
}

#[test]
fn a_spare_is_filled_in_synced_pieces_at_no_more_than_twice_the_pace_of_what_is_appended() {
    in_both_modes(|| {
        let piece: u64 = match IO.get() {
            IoSetting::Buffered => 256 << 10,
            IoSetting::Auto | IoSetting::Direct => 1 << 20,
        };
        let disk = SimDisk::new();
        let options = Options {
            segment_bytes: Some(4 * piece),
            budget_bytes: Some(64 * piece),
            ..options()
        };
        let journal = still(&disk, &options);
        let begun = disk.syncs();
        let filled = || {
            while journal.shared.fill() {}
            assert_eq!(disk.unsynced_bytes(), 0);
            disk.syncs() - begun
        };
        assert_eq!(filled(), 0, "nothing is filled while nothing is appended");
        journal.shared.count_appended(piece / 2 - 1);
        assert_eq!(filled(), 0);
        journal.shared.count_appended(1);
        assert_eq!(filled(), 1);
        journal.shared.count_appended(piece);
        assert_eq!(filled(), 3);
        assert_eq!(disk.largest_write() as u64, piece);
        journal.shared.count_appended(100 * piece);
        assert_eq!(filled(), 4, "the one that is taken next, and no other");
    });
}

/// The client was asked to retry, for ever.
#[test]
fn what_would_not_fit_an_empty_journal_is_too_large() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        runtime().block_on(async {
            append(&journal, 1, 10).await.unwrap();
            assert_eq!(
                append(&journal, 2, 850_000).await,
                Err(AppendError::TooLarge)
            );
            append(&journal, 3, 840_000).await.unwrap();
        });
    });
}

/// A volume with less than 270 MiB free never accepted an event under the default settings, and the advice named the
/// budget.
#[test]
fn a_small_volume_takes_events_under_the_default_settings() {
    in_both_modes(|| {
        const MIB: u64 = 1 << 20;
        let sizes = [4, 30, 128, 260].map(|size_mib| (size_mib, None));
        // A budget for a larger volume does not determine this one's segments.
        let budgeted = [128, 260].map(|size_mib| (size_mib, Some(4096 * MIB)));
        for (size_mib, budget_bytes) in sizes.into_iter().chain(budgeted) {
            let disk = SimDisk::new();
            disk.set_space(Space {
                size_bytes: size_mib * MIB,
                free_bytes: size_mib * MIB * 9 / 10,
            });
            let options = Options {
                budget_bytes,
                segment_bytes: None,
                free_floor_bytes: None,
                ..options()
            };
            let journal = open_with(&disk, &options);
            runtime().block_on(append(&journal, 1, 100)).unwrap();
            let status = journal.status();
            assert!(
                !status.full && !status.at_floor,
                "{size_mib} MiB: {status:?}"
            );
            assert!(status.volume_needed_bytes < size_mib * MIB / 4);
            drop(journal);
            // A floor that is set stays, and is named.
            let set = Options {
                free_floor_bytes: Some(256 * MIB),
                ..options
            };
            let disk = SimDisk::new();
            disk.set_space(Space {
                size_bytes: size_mib * MIB,
                free_bytes: size_mib * MIB * 9 / 10,
            });
            let journal = open_with(&disk, &set);
            let refused = runtime().block_on(append(&journal, 1, 100));
            assert_eq!(refused, Err(AppendError::DiskFull));
            let status = journal.status();
            assert!(status.full && status.at_floor);
            assert!(status.volume_needed_bytes > status.volume_free_bytes);
        }
    });
}

/// Little arrived, and a deleted person's record stayed in the open segment, then in a spare, for as long as that.
/// After a crash the file that recovery had replaced was such a spare too.
#[test]
fn old_records_are_sealed_freed_and_overwritten_while_little_arrives() {
    in_both_modes(|| {
        let options = Options {
            keep_stored: Duration::from_millis(300),
            ..options()
        };
        let opened = |disk: &SimDisk| {
            let disk = Arc::new(disk.clone());
            Journal::open_with_sync_marker_after(disk, &options, Duration::from_millis(50)).unwrap()
        };
        let marker = payload(7, 2000);
        let is_there = |disk: &SimDisk| {
            let files = disk.paths().into_iter();
            let mut contents = files.map(|path| disk.content(&path));
            contents.any(|content| {
                // Records begin at multiples of eight bytes, and so do their payloads.
                let mut starts = (0..content.len()).step_by(8);
                starts.any(|at| content[at..].starts_with(&marker))
            })
        };
        for crashes in [0, 1] {
            let mut disk = SimDisk::new();
            let mut journal = opened(&disk);
            let position = runtime().block_on(append(&journal, 7, 2000)).unwrap();
            for _ in 0..crashes {
                disk = disk.cut(&mut || false);
                journal = opened(&disk);
            }
            assert!(is_there(&disk));
            journal.mark_stored(position.stream, 1, 1);
            let deadline = std::time::Instant::now() + Duration::from_secs(60);
            while is_there(&disk) {
                assert!(
                    std::time::Instant::now() < deadline,
                    "it is never overwritten after {crashes} crashes"
                );
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn a_large_record_that_finds_no_room_takes_none_from_smaller_ones() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let runtime = runtime();
        for seq in 1..=12 {
            runtime.block_on(append(&journal, seq, 30_000)).unwrap();
        }
        settle(&journal);
        let held = disk.hold_syncs();
        let mut appending = waiting(&journal, 13..=13, 100);
        handed_over(&journal, 13);
        appending.append(&mut waiting(&journal, 14..=14, 600_000));
        appending.append(&mut waiting(&journal, 15..=16, 30_000));
        drop(held);
        let outcomes: Vec<_> = appending
            .into_iter()
            .map(|append| runtime.block_on(append).map(|position| position.n))
            .collect();
        assert_eq!(outcomes, [Ok(13), Err(AppendError::Full), Ok(14), Ok(15)]);
        assert!(!journal.status().full);
    });
}

#[test]
fn a_spare_whose_directory_was_never_synced_takes_no_record_with_it() {
    in_both_modes(|| {
        for changes in 0..12 {
            let disk = SimDisk::new();
            disk.die_after(changes);
            drop(recovery::open(Arc::new(disk.clone()), &options(), NEVER));
            disk.revive();
            let journal = open(&disk);
            let position = runtime().block_on(append(&journal, 1, 100)).unwrap();
            let disk = disk.cut(&mut || false);
            drop(journal);
            let found = seqs(&recovered(&disk, &options(), position.stream));
            assert_eq!(found, [(1, 1)], "after {changes} changes");
        }
    });
}
