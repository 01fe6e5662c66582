//! Cuts and flips: the records that each of them may cost.

use crate::journal::tests::*;

/// Makes a directory with one segment that was never sealed, as a power cut leaves it. Returns the stream and the
/// segment's path.
pub(super) fn unsealed(options: &Options, sizes: &[usize]) -> (SimDisk, StreamId, PathBuf) {
    let disk = SimDisk::new();
    let journal = open_with(&disk, options);
    let stream = journal.streams()[0].id;
    runtime().block_on(async {
        for (seq, bytes) in (1..).zip(sizes) {
            append(&journal, seq, *bytes).await.unwrap();
        }
    });
    let cut = disk.cut(&mut || false);
    drop(journal);
    let path = segments(&cut).remove(0);
    (cut, stream, path)
}

/// As [`unsealed`]: the first record in a group of its own, the others in a second one.
pub(super) fn two_groups(
    options: &Options,
    first: usize,
    rest: &[usize],
) -> (SimDisk, StreamId, PathBuf) {
    let disk = SimDisk::new();
    let journal = open_with(&disk, options);
    let stream = journal.streams()[0].id;
    runtime().block_on(async {
        let held = disk.hold_syncs();
        let appending = tokio::spawn({
            let journal = journal.clone();
            async move { append(&journal, 1, first).await.unwrap() }
        });
        tokio::task::yield_now().await;
        handed_over(&journal, 1);
        let rest = (2..)
            .zip(rest)
            .map(|(seq, bytes)| append(&journal, seq, *bytes));
        let release = async { drop(held) };
        let (answers, ()) =
            futures_util::future::join(futures_util::future::join_all(rest), release).await;
        assert!(answers.iter().all(Result::is_ok));
        appending.await.unwrap();
    });
    let cut = disk.cut(&mut || false);
    drop(journal);
    let path = segments(&cut).remove(0);
    (cut, stream, path)
}

/// Returns the entries of a stream that an opening finds, without the journal's threads.
pub(super) fn recovered(disk: &SimDisk, options: &Options, stream: StreamId) -> Vec<JournalEntry> {
    let journal = still(disk, options);
    let mut entries = Vec::new();
    let mut from = 1;
    loop {
        let page = record_reader::read(&journal.shared, stream, from, 1 << 20).unwrap();
        let Some(last) = page.last() else {
            return entries;
        };
        from = last_of(last) + 1;
        entries.extend(page);
    }
}

pub(super) fn small() -> Options {
    Options {
        segment_bytes: Some(16 << 10),
        budget_bytes: Some(64 * (16 << 10)),
        ..options()
    }
}

/// Room for a dozen groups.
pub(super) fn medium() -> Options {
    Options {
        segment_bytes: Some(64 << 10),
        ..small()
    }
}

/// Returns a disk that holds just this file.
pub(super) fn disk_with(path: &Path, content: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    disk.put(path, content);
    disk
}

#[test]
fn a_tail_that_is_cut_anywhere_costs_only_what_it_held() {
    in_both_modes(|| {
        // Groups of 4 KiB and of 8: 64 KiB and a little.
        let sizes = [100, 5000, 3900, 6000, 10, 7000, 2500, 8000, 4000, 3000, 600];
        let (disk, stream, path) = unsealed(
            &Options {
                segment_bytes: Some(80 << 10),
                budget_bytes: Some(2 << 20),
                ..options()
            },
            &sizes,
        );
        let content = disk.content(&path);
        let options = Options {
            segment_bytes: Some(80 << 10),
            budget_bytes: Some(2 << 20),
            ..options()
        };
        let scan = |length: usize| {
            let disk = disk_with(&path, &content[..length]);
            seqs(&recovered(&disk, &options, stream))
        };
        let mut ends = Vec::new();
        let mut known = scan(content.len()).len();
        assert_eq!(known, sizes.len());
        for length in (content.len() - (64 << 10)..=content.len()).rev() {
            let found = scan(length);
            let expected: Vec<_> = (1..)
                .take(found.len())
                .map(|seq| (u64::from(seq), seq))
                .collect();
            assert_eq!(found, expected, "cut at {length}");
            assert!(
                found.len() >= known.saturating_sub(1),
                "cut at {length}: one byte costs one record"
            );
            if found.len() < known {
                ends.push(length);
                known = found.len();
            }
        }
        assert!(ends.len() >= 8, "the cuts pass through the records");
    });
}

#[test]
fn one_flipped_bit_never_costs_more_than_the_record_it_hits() {
    in_both_modes(|| {
        let (disk, stream, path) = two_groups(&small(), 300, &[700, 500]);
        let content = disk.content(&path);
        assert_eq!(content.len(), 16 << 10);
        // Offsets of the records: header, payload, padding to eight.
        let places = [(1, 4096, 428), (2, 8192, 828), (3, 8192 + 832, 628)];
        for bit in 0..content.len() * 8 {
            let mut flipped = content.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let entries = recovered(&disk_with(&path, &flipped), &small(), stream);
            let hit = places
                .iter()
                .find(|(_, start, bytes)| (*start..start + bytes).contains(&(bit / 8)))
                .map(|(seq, ..)| *seq);
            let expected: Vec<_> = (1..=3)
                .filter(|seq| Some(*seq) != hit)
                .map(|seq| (u64::from(seq), seq))
                .collect();
            assert_eq!(seqs(&entries), expected, "bit {bit}");
            match hit {
                None => assert_eq!(entries.len(), 3, "bit {bit}"),
                // The second group proves that the first record was synced.
                Some(1) => assert!(
                    matches!(entries[0], JournalEntry::Damaged { n: 1, .. }),
                    "bit {bit}"
                ),
                // Nothing proves it of the second, and whatever follows the last whole record never was synced.
                Some(2) => {
                    assert!(
                        matches!(entries[1], JournalEntry::Hole { first: 2, last: 2 }),
                        "bit {bit}"
                    );
                }
                Some(_) => assert_eq!(entries.len(), 2, "bit {bit}"),
            }
        }
    });
}

#[test]
fn damage_below_a_synced_mark_is_named_and_above_it_the_tail_ends() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&medium(), &[300, 700, 500]);
        for (seq, offset) in [(1u64, 4096 + 20), (2, 2 * 4096 + 200)] {
            disk.edit(&path, |content| content[offset] ^= 1);
            let entries = recovered(&disk_with(&path, &disk.content(&path)), &medium(), stream);
            disk.edit(&path, |content| content[offset] ^= 1);
            let index = usize::try_from(seq).unwrap() - 1;
            // The third record proves that the first two were synced.
            let JournalEntry::Damaged {
                n, accepted, bytes, ..
            } = &entries[index]
            else {
                panic!("{entries:?}");
            };
            assert_eq!(*n, seq);
            assert_eq!(
                *accepted,
                (seq == 2).then_some(3),
                "known where the header survived"
            );
            assert!(bytes.len() >= 300, "what is left of it is kept");
        }
        // Without the third, nothing proves that the second was synced.
        disk.edit(&path, |content| {
            content[2 * 4096 + 200] ^= 1;
            content[3 * 4096] ^= 1;
        });
        let entries = recovered(&disk, &medium(), stream);
        assert_eq!(seqs(&entries), [(1, 1)]);
        assert_eq!(entries.len(), 1, "{entries:?}");
    });
}

#[test]
fn an_unconfirmed_position_between_records_is_a_hole() {
    in_both_modes(|| {
        // The two of the second group were written in one sync: nothing on disk confirms the first of them.
        let (disk, stream, path) = two_groups(&medium(), 100, &[100, 100]);
        disk.edit(&path, |content| content[2 * 4096] ^= 1);
        let entries = recovered(&disk, &medium(), stream);
        assert_eq!(seqs(&entries), [(1, 1), (3, 3)]);
        assert!(
            matches!(entries[1], JournalEntry::Hole { first: 2, last: 2 }),
            "{entries:?}"
        );
    });
}

#[test]
fn an_idle_journal_confirms_its_last_record_within_a_second() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = Journal::open(Arc::new(disk.clone()), &options()).unwrap();
        let stream = journal.streams()[0].id;
        runtime().block_on(append(&journal, 1, 100)).unwrap();
        let path = segments(&disk).remove(0);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        let marked = |content: &[u8]| {
            content[2 * 4096..2 * 4096 + 8]
                .iter()
                .any(|byte| *byte != 0)
        };
        while !marked(&disk.content(&path)) {
            assert!(std::time::Instant::now() < deadline, "no mark came");
            std::thread::yield_now();
        }
        // The mark is written; its sync is over when the next append's is.
        runtime().block_on(append(&journal, 2, 100)).unwrap();
        let disk = disk.cut(&mut || false);
        drop(journal);
        disk.edit(&path, |content| {
            content[4096] ^= 1;
            content[3 * 4096..].fill(0);
        });
        let entries = recovered(&disk, &options(), stream);
        // On a slow machine the recycler thread has noted the second record's position: then that one is missing.
        assert!(
            matches!(entries.first(), Some(JournalEntry::Damaged { n: 1, .. })),
            "{entries:?}"
        );
    });
}

#[test]
fn a_damaged_record_of_a_running_journal_is_named_counted_and_put_aside_once() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let stream = journal.streams()[0].id;
        runtime().block_on(async {
            for seq in 1..=3 {
                append(&journal, seq, 200).await.unwrap();
            }
        });
        let path = segments(&disk).remove(0);
        disk.edit(&path, |content| content[2 * 4096 + 200] ^= 1);
        for _ in 0..2 {
            let entries = all(&journal, stream);
            assert_eq!(seqs(&entries), [(1, 1), (3, 3)]);
            assert!(matches!(
                entries[1],
                JournalEntry::Damaged {
                    n: 2,
                    accepted: Some(3),
                    ..
                }
            ));
        }
        assert_eq!(journal.status().damaged_records, 1);
        let aside = path.with_extension("damaged");
        assert_eq!(disk.content(&aside), disk.content(&path));
        // The position is stored as a dead letter: then nothing waits.
        journal.mark_stored(stream, 1, 3);
        assert_eq!(journal.status().queue_events, 0);
        assert_eq!(journal.status().queue_bytes, 0);
    });
}

#[test]
fn both_headers_may_go_when_the_segment_was_sealed() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let stream = journal.streams()[0].id;
        runtime().block_on(append(&journal, 1, 100)).unwrap();
        drop(journal);
        let path = segments(&disk).remove(0);
        disk.edit(&path, |content| content[..4096].fill(0xff));
        assert_eq!(seqs(&recovered(&disk, &options(), stream)), [(1, 1)]);
    });
}

#[test]
fn a_lost_footer_accuses_only_positions_that_its_segment_had_room_for() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let options = Options {
            budget_bytes: Some(64 * (64 << 10)),
            ..options()
        };
        let journal = open_with(&disk, &options);
        let stream = journal.streams()[0].id;
        for seq in 1..=400 {
            runtime().block_on(append(&journal, seq, 3000)).unwrap();
        }
        drop(journal);
        // All but the first and the last segment are stored, and are recycled.
        let journal = open_with(&disk, &options);
        journal.mark_stored(stream, 30, 380);
        settle(&journal);
        drop(journal);
        let first = segments(&disk).remove(0);
        disk.edit(&first, |content| content[(60 << 10) + 20] ^= 1);
        let journal = still(&disk, &options);
        let damaged = journal.status().damaged_records;
        assert!(damaged <= 4096 / 128, "{damaged} are called damaged");
        assert!(journal.status().queue_events > 0);
    });
}

#[test]
fn what_is_left_of_a_lost_record_is_as_old_as_what_stood_beside_it() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&medium(), &[300, 300]);
        disk.edit(&path, |content| {
            content[4096 + 20] ^= 1;
            content[2 * 4096 + 200] ^= 1;
        });
        let journal = still(&disk, &medium());
        let entries = record_reader::read(&journal.shared, stream, 1, 1 << 20).unwrap();
        assert!(
            matches!(entries[..], [JournalEntry::Damaged { n: 1, .. }]),
            "{entries:?}"
        );
        let oldest = journal.status().oldest_unix_nano;
        assert_eq!(oldest, Some(1_700_000_000_000_000_002));
    });
}
