//! The window of synced records: what it saves, and what it never shows.

use crate::journal::disk::{Disk, OsDisk};
use crate::journal::sim::Fault;
use crate::journal::tests::*;

fn with_window(window_bytes: usize) -> Options {
    Options {
        window_bytes,
        ..options()
    }
}

/// Reads the entries from position `from` on, and moves `from` behind them.
fn read_on(journal: &Journal, from: &mut u64) -> Vec<JournalEntry> {
    let stream = journal.streams().last().unwrap().id;
    let page = record_reader::read(&journal.shared, stream, *from, 10_000).unwrap();
    if let Some(last) = page.last() {
        *from = last_of(last) + 1;
    }
    page
}

#[test]
fn a_writer_that_keeps_up_reads_nothing_from_the_disk() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open_with(&disk, &with_window(64 << 10));
        settle(&journal);
        let before = disk.reads();
        let (mut from, mut entries) = (1, Vec::new());
        for seq in 1..=60 {
            runtime().block_on(append(&journal, seq, 3000)).unwrap();
            entries.extend(read_on(&journal, &mut from));
        }
        assert_eq!(seqs(&entries).len(), 60);
        assert_eq!(disk.reads(), before);
    });
}

#[test]
fn a_writer_that_falls_behind_finds_the_oldest_in_memory_and_the_rest_on_the_disk() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open_with(&disk, &with_window(20_000));
        let stream = journal.streams()[0].id;
        for seq in 1..=30 {
            runtime().block_on(append(&journal, seq, 3000)).unwrap();
        }
        settle(&journal);
        let before = disk.reads();
        let (mut from, mut entries) = (1, Vec::new());
        entries.extend(read_on(&journal, &mut from));
        assert_eq!(disk.reads(), before, "the first page is in memory");
        assert!(entries.len() >= 3);
        while from <= 30 {
            entries.extend(read_on(&journal, &mut from));
        }
        assert!(disk.reads() > before);
        let expected: Vec<_> = (1..=30).map(|seq| (u64::from(seq), seq)).collect();
        assert_eq!(seqs(&entries), expected);
        // Records that the writer took once are read again from the disk, as after a failed commit.
        assert_eq!(seqs(&all(&journal, stream)), expected);
    });
}

/// A journal with a large window, in which one record is.
fn with_one_record() -> (SimDisk, Journal, tokio::runtime::Runtime) {
    let disk = SimDisk::new();
    let journal = open_with(&disk, &with_window(1 << 20));
    let runtime = runtime();
    runtime.block_on(append(&journal, 1, 3000)).unwrap();
    settle(&journal);
    (disk, journal, runtime)
}

#[test]
fn the_window_never_shows_a_record_whose_group_found_the_volume_full() {
    in_both_modes(|| {
        let (disk, journal, runtime) = with_one_record();
        let stream = journal.streams()[0].id;
        disk.set_room(Some(0));
        let failed = runtime.block_on(append(&journal, 2, 3000));
        assert_eq!(failed, Err(AppendError::Unknown));
        disk.set_room(None);
        runtime.block_on(append(&journal, 3, 3000)).unwrap();
        let entries = all(&journal, stream);
        assert_eq!(seqs(&entries), [(1, 1), (3, 3)]);
        assert!(matches!(
            entries[1],
            JournalEntry::Hole { first: 2, last: 2 }
        ));
    });
}

#[test]
fn the_window_never_shows_a_record_whose_sync_failed() {
    in_both_modes(|| {
        let (disk, journal, runtime) = with_one_record();
        let stream = journal.streams()[0].id;
        disk.inject(Fault::Sync(1));
        let failed = runtime.block_on(append(&journal, 2, 3000));
        assert_eq!(failed, Err(AppendError::Unknown));
        assert_eq!(seqs(&all(&journal, stream)), [(1, 1)]);
    });
}

/// Reads while records are appended, so that the window and the files are used in turn.
fn drained_while_appending(disk: Arc<dyn Disk>, options: &Options) {
    const RECORDS: u32 = 300;
    let journal = Journal::open(disk, options).unwrap();
    let stream = journal.streams().last().unwrap().id;
    let appended = journal.clone();
    let appending = std::thread::spawn(move || {
        let runtime = runtime();
        for group in 0..RECORDS / 3 {
            let appends = (1..=3).map(|n| {
                let seq = group * 3 + n;
                append(&appended, seq, (seq as usize * 97) % 5000)
            });
            let answers = runtime.block_on(futures_util::future::join_all(appends));
            assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        }
    });
    let (mut from, mut entries) = (1, Vec::new());
    while entries.len() < RECORDS as usize {
        let first = from;
        let page = read_on(&journal, &mut from);
        if page.is_empty() {
            runtime().block_on(journal.synced_past(from - 1));
            continue;
        }
        entries.extend(page);
        journal.mark_stored(stream, first, from - 1);
    }
    appending.join().unwrap();
    let expected: Vec<_> = (1..=RECORDS).map(|seq| (u64::from(seq), seq)).collect();
    assert_eq!(seqs(&entries), expected);
    assert_eq!(journal.status().queue_events, 0);
}

#[test]
fn a_stream_is_drained_in_order_while_it_is_appended_to_however_small_the_window_is() {
    in_both_modes(|| {
        for window_bytes in [0, 300, 5_000, 20_000, 8 << 20] {
            let options = with_window(window_bytes);
            drained_while_appending(Arc::new(SimDisk::new()), &options);
            let dir = tempfile::tempdir().unwrap();
            let options = Options {
                dir: dir.path().join("journal"),
                ..options
            };
            drained_while_appending(Arc::new(OsDisk), &options);
        }
    });
}
