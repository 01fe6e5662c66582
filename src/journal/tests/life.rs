//! Appending, reading back, rotating, recycling, refusing.

use crate::journal::tests::*;

#[test]
fn what_is_appended_is_read_back_in_order_also_after_reopening() {
    in_both_modes(|| {
        runtime().block_on(async {
            let disk = SimDisk::new();
            let journal = open(&disk);
            let stream = journal.streams()[0].id;
            for seq in 1..=50 {
                let position = append(&journal, seq, 100 * seq as usize).await.unwrap();
                assert_eq!(
                    position,
                    Position {
                        stream,
                        n: u64::from(seq)
                    }
                );
            }
            let expected: Vec<_> = (1..=50).map(|seq| (u64::from(seq), seq)).collect();
            assert_eq!(seqs(&all(&journal, stream)), expected);
            let events: u64 = (1..=50u32).map(|seq| u64::from(seq % 7 + 1)).sum();
            assert_eq!(journal.status().queue_events, events);
            drop(journal);
            let journal = open(&disk);
            assert_eq!(seqs(&all(&journal, stream)), expected);
            assert_eq!(journal.status().queue_events, events);
            assert_eq!(journal.status().backlog_at_start_events, events);
        });
    });
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    in_both_modes(|| {
        runtime().block_on(async {
            let disk = SimDisk::new();
            let journal = open(&disk);
            let stream = journal.streams()[0].id;
            for (seq, bytes) in [(1, 10), (2, 300_000), (3, 40_000), (4, 10)] {
                append(&journal, seq, bytes).await.unwrap();
            }
            assert_eq!(
                append(&journal, 5, 2 << 20).await,
                Err(AppendError::TooLarge)
            );
            let expected = [(1, 1), (2, 2), (3, 3), (4, 4)];
            assert_eq!(seqs(&all(&journal, stream)), expected);
            drop(journal);
            assert_eq!(seqs(&all(&open(&disk), stream)), expected);
        });
    });
}

#[test]
fn a_power_cut_loses_nothing_that_was_answered() {
    in_both_modes(|| {
        runtime().block_on(async {
            let disk = SimDisk::new();
            let journal = open(&disk);
            let stream = journal.streams()[0].id;
            for seq in 1..=20 {
                append(&journal, seq, 1000).await.unwrap();
            }
            let disk = disk.cut(&mut || false);
            let journal = open(&disk);
            let expected: Vec<_> = (1..=20).map(|seq| (u64::from(seq), seq)).collect();
            assert_eq!(seqs(&all(&journal, stream)), expected);
        });
    });
}

#[test]
fn nobody_is_answered_and_nothing_is_read_before_the_sync() {
    in_both_modes(|| {
        runtime().block_on(async {
            let disk = SimDisk::new();
            let journal = open(&disk);
            let stream = journal.streams()[0].id;
            append(&journal, 1, 100).await.unwrap();
            settle(&journal);
            let held = disk.hold_syncs();
            let appending = tokio::spawn({
                let journal = journal.clone();
                async move { append(&journal, 2, 100).await }
            });
            tokio::task::yield_now().await;
            disk.sync_waits();
            assert!(!appending.is_finished());
            assert_eq!(seqs(&all(&journal, stream)), [(1, 1)]);
            let status = journal.status();
            assert_eq!((status.appended, status.synced), (2, 1));
            assert_eq!(
                status.queue_events, 2,
                "what is accepted counts at its sync"
            );
            drop(held);
            appending.await.unwrap().unwrap();
            assert_eq!(seqs(&all(&journal, stream)), [(1, 1), (2, 2)]);
            assert_eq!(journal.status().synced, 2);
        });
    });
}

#[test]
fn all_that_waits_shares_one_sync() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let runtime = runtime();
        runtime.block_on(append(&journal, 1, 10)).unwrap();
        settle(&journal);
        let held = disk.hold_syncs();
        let mut first = waiting(&journal, 2..=2, 10);
        handed_over(&journal, 2);
        let before = disk.syncs();
        first.append(&mut waiting(&journal, 3..=50, 10));
        drop(held);
        for append in first {
            runtime.block_on(append).unwrap();
        }
        assert_eq!(
            disk.syncs() - before,
            2,
            "the one that waited, and one for all others"
        );
    });
}

#[test]
fn the_status_says_what_the_open_segment_still_takes() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        assert_eq!(journal.status().open_room_bytes, 0);
        runtime().block_on(append(&journal, 1, 100)).unwrap();
        // Of 16 blocks the first, the last and the group's are in use.
        assert_eq!(journal.status().open_room_bytes, 13 * 4096);
        runtime().block_on(append(&journal, 2, 4096)).unwrap();
        assert_eq!(journal.status().open_room_bytes, 11 * 4096);
        runtime().block_on(journal.close());
        assert_eq!(journal.status().open_room_bytes, 0);
    });
}

#[test]
fn a_full_budget_refuses_until_the_database_has_some_of_it() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let runtime = runtime();
        let stream = journal.streams()[0].id;
        let mut last = 0;
        let refusal = loop {
            match runtime.block_on(append(&journal, last + 1, 20_000)) {
                Ok(_) if last == 100 => panic!("the budget has no end"),
                Ok(_) => last += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refusal, AppendError::Full);
        let status = journal.status();
        assert!(status.full && !status.broken);
        assert_eq!(seqs(&all(&journal, stream)).len(), last as usize);
        // A part of a segment frees nothing; all of it does, however young it is.
        journal.mark_stored(stream, 1, 1);
        assert_eq!(
            runtime.block_on(append(&journal, 500, 20_000)),
            Err(AppendError::Full)
        );
        journal.mark_stored(stream, 2, 6);
        for seq in last + 1..=last + 2 {
            runtime.block_on(append(&journal, seq, 20_000)).unwrap();
        }
        assert!(!journal.status().full);
        let kept = seqs(&all(&journal, stream));
        assert_eq!(kept.last(), Some(&(u64::from(last) + 2, last + 2)));
        assert!(
            kept.iter().any(|(n, _)| *n == 7),
            "what is not stored stays"
        );
    });
}

#[test]
fn a_stored_segment_is_kept_for_its_time_and_then_its_stream_is_released() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let runtime = runtime();
        let journal = open(&disk);
        let old = journal.streams()[0].id;
        for seq in 1..=3 {
            runtime.block_on(append(&journal, seq, 100)).unwrap();
        }
        drop(journal);
        let kept = Options {
            keep_stored: Duration::from_secs(3600),
            ..options()
        };
        let journal = open_with(&disk, &kept);
        journal.mark_stored(old, 1, 3);
        journal.shared.recycle();
        assert_eq!(seqs(&all(&journal, old)).len(), 3);
        drop(journal);

        let journal = open(&disk);
        journal.shared.recycle();
        assert_eq!(
            seqs(&all(&journal, old)).len(),
            3,
            "nothing goes that is not marked"
        );
        journal.mark_stored(old, 1, 2);
        journal.shared.recycle();
        assert_eq!(
            seqs(&all(&journal, old)).len(),
            3,
            "nor what is stored in part"
        );
        journal.mark_stored(old, 3, 3);
        journal.shared.recycle();
        assert!(journal.streams().iter().all(|stream| stream.id != old));
        let disk = disk.cut(&mut || false);
        drop(journal);
        assert!(
            open(&disk).streams().iter().all(|stream| stream.id != old),
            "and is gone for good"
        );
    });
}

#[test]
fn a_drained_backlog_of_an_earlier_life_is_no_backlog_of_this_one() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let runtime = runtime();
        let journal = open(&disk);
        let stream = journal.streams()[0].id;
        let events = |seqs: std::ops::RangeInclusive<u32>| {
            seqs.map(|seq| u64::from(seq % 7 + 1)).sum::<u64>()
        };
        for seq in 1..=30 {
            runtime.block_on(append(&journal, seq, 3000)).unwrap();
        }
        drop(journal);
        let kept = Options {
            keep_stored: Duration::from_secs(3600),
            ..options()
        };
        let journal = open_with(&disk, &kept);
        assert_eq!(journal.status().undrained_streams, 1);
        // The stored positions, read at the start, are the first ten.
        journal.mark_stored(stream, 1, 10);
        let status = journal.status();
        assert_eq!(status.backlog_at_start_events, events(11..=30));
        assert_eq!(status.queue_events, events(11..=30));
        assert_eq!(status.oldest_unix_nano, Some(1_700_000_000_000_000_011));
        // The rest is drained now.
        all(&journal, stream);
        journal.mark_stored(stream, 11, 30);
        journal.mark_stored(stream, 11, 30);
        let status = journal.status();
        assert_eq!(status.backlog_at_start_events, events(11..=30));
        assert_eq!((status.queue_events, status.queue_bytes), (0, 0));
        assert_eq!(status.oldest_unix_nano, None);
        assert_eq!(status.undrained_streams, 0);
        // The database loses stored positions.
        journal.mark_unstored(stream, 21, 30);
        let status = journal.status();
        assert_eq!(status.queue_events, events(21..=30));
        assert_eq!(
            status.backlog_at_start_events,
            events(11..=30) + events(21..=30)
        );
        assert_eq!(status.undrained_streams, 1);
    });
}

#[test]
fn a_closed_journal_takes_nothing_and_is_sealed() {
    in_both_modes(|| {
        runtime().block_on(async {
            let disk = SimDisk::new();
            let journal = open(&disk);
            let stream = journal.streams()[0].id;
            append(&journal, 1, 100).await.unwrap();
            journal.close().await;
            assert_eq!(append(&journal, 2, 100).await, Err(AppendError::Closed));
            journal.synced_past(1).await;
            assert_eq!(journal.read(stream, 1, 100).await.unwrap().len(), 1);
            let reports = Journal::inspect(Arc::new(disk.clone()), &options()).unwrap();
            assert!(
                reports
                    .iter()
                    .all(|report| report.sealed && report.problems.is_empty())
            );
        });
    });
}

#[test]
fn a_reader_is_woken_by_the_next_sync() {
    in_both_modes(|| {
        runtime().block_on(async {
            let disk = SimDisk::new();
            let journal = open(&disk);
            let (_, position) =
                futures_util::future::join(journal.synced_past(0), append(&journal, 1, 10)).await;
            assert_eq!(position.unwrap().n, 1);
        });
    });
}

#[test]
fn no_two_segments_have_the_same_nonce() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let mut nonces = std::collections::BTreeSet::new();
        for _ in 0..2 {
            let journal = open(&disk);
            for seq in 1..=8 {
                runtime().block_on(append(&journal, seq, 20_000)).unwrap();
            }
        }
        let files = segments(&disk);
        for path in &files {
            nonces.insert(disk.content(path)[16..24].to_vec());
        }
        assert!(files.len() >= 6);
        assert_eq!(nonces.len(), files.len());
    });
}

/// Descriptors ran out while the database's answers arrived: the totals were wrong until the next start.
#[test]
fn sums_that_could_not_be_read_are_put_right_by_the_next_mark() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let stream = journal.streams()[0].id;
        let runtime = runtime();
        for seq in 1..=30 {
            runtime.block_on(append(&journal, seq, 1000)).unwrap();
        }
        let events = |first: u32| (first..=30).map(|seq| u64::from(seq % 7 + 1)).sum::<u64>();
        disk.starve(true);
        journal.mark_stored(stream, 1, 5);
        disk.starve(false);
        journal.mark_stored(stream, 6, 7);
        let status = journal.status();
        assert_eq!(status.queue_events, events(8));
        assert_eq!(status.oldest_unix_nano, Some(1_700_000_000_000_000_008));
        disk.starve(true);
        journal.mark_stored(stream, 8, 12);
        journal.mark_stored(stream, 13, 30);
        let status = journal.status();
        assert_eq!((status.queue_events, status.queue_bytes), (0, 0));
        disk.starve(false);
        journal.mark_unstored(stream, 3, 30);
        assert_eq!(journal.status().queue_events, events(3));
    });
}
