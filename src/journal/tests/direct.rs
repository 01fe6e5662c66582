//! Direct I/O: the decision for it, and what it never does.

use crate::journal::append::append_thread::AppendThread;
use crate::journal::sim::{DirectRefusal, Fault};
use crate::journal::tests::harm::{medium, recovered, small, unsealed};
use crate::journal::tests::*;
use crate::journal::{IoMode, OpenError};

const REFUSALS: [DirectRefusal; 3] = [
    DirectRefusal::Open,
    DirectRefusal::FirstRead,
    DirectRefusal::FirstWrite,
];

fn with(io: IoSetting) -> Options {
    Options { io, ..small() }
}

/// Appends and reads back a few records, the last of which gets a separate segment.
fn write_and_read(journal: &Journal) {
    let stream = journal.streams().last().unwrap().id;
    for (seq, bytes) in [(1, 100), (2, 5000), (3, 100_000)] {
        runtime().block_on(append(journal, seq, bytes)).unwrap();
    }
    assert_eq!(seqs(&all(journal, stream)), [(1, 1), (2, 2), (3, 3)]);
}

#[test]
fn direct_io_is_used_where_it_works_and_for_every_write_of_a_segment() {
    for io in [IoSetting::Auto, IoSetting::Direct] {
        let disk = SimDisk::new();
        let journal = open_with(&disk, &with(io));
        assert_eq!(journal.status().io, IoMode::Direct);
        write_and_read(&journal);
        settle(&journal);
        assert!(disk.direct_writes() > 0);
    }
    let disk = SimDisk::new();
    let journal = open_with(&disk, &with(IoSetting::Buffered));
    assert_eq!(journal.status().io, IoMode::Buffered);
    write_and_read(&journal);
    assert_eq!(disk.direct_writes(), 0);
}

#[test]
fn where_direct_io_is_refused_the_journal_is_buffered_or_does_not_open() {
    for refusal in REFUSALS {
        // In a new directory, and in one with spares and a torn tail.
        let (used, stream, _) = unsealed(&with(IoSetting::Direct), &[300, 700]);
        for disk in [SimDisk::new(), used] {
            disk.refuse_direct(refusal);
            let files = disk.paths();
            let refused = Journal::open(Arc::new(disk.clone()), &with(IoSetting::Direct));
            let error = refused.err().expect("direct I/O is demanded");
            assert!(matches!(error, OpenError::NoDirectIo { .. }), "{error}");
            assert!(error.to_string().contains("RUVVECTOR_JOURNAL_IO"));
            let left = disk.paths().into_iter();
            let left: Vec<_> = left.filter(|path| !path.ends_with("lock")).collect();
            assert_eq!(
                left.len(),
                files.iter().filter(|path| !path.ends_with("lock")).count(),
                "{refusal:?}: no file is left"
            );
            let journal = open_with(&disk, &with(IoSetting::Auto));
            assert_eq!(journal.status().io, IoMode::Buffered, "{refusal:?}");
            write_and_read(&journal);
            let of_before = all(&journal, stream);
            assert_eq!(of_before.is_empty(), files.is_empty(), "{refusal:?}");
        }
    }
}

/// The trial is over before the first append: what fails later breaks the journal, as any failed write does.
#[test]
fn a_direct_append_that_is_refused_breaks_the_journal_and_is_not_tried_through_the_page_cache() {
    let disk = SimDisk::new();
    let journal = open_with(&disk, &with(IoSetting::Auto));
    let runtime = runtime();
    runtime.block_on(append(&journal, 1, 100)).unwrap();
    settle(&journal);
    let written = segments(&disk)
        .iter()
        .map(|path| disk.content(path))
        .collect::<Vec<_>>();
    disk.refuse_direct(DirectRefusal::FirstWrite);
    assert_eq!(
        runtime.block_on(append(&journal, 2, 100)),
        Err(AppendError::Unknown)
    );
    assert!(journal.is_broken());
    assert_eq!(
        runtime.block_on(append(&journal, 3, 100)),
        Err(AppendError::Closed)
    );
    let found = segments(&disk)
        .iter()
        .map(|path| disk.content(path))
        .collect::<Vec<_>>();
    assert_eq!(found, written);
}

#[test]
fn the_trial_changes_nothing_that_counts_wherever_it_is_cut_short() {
    let auto = Options {
        io: IoSetting::Auto,
        ..medium()
    };
    let (disk, stream, path) = unsealed(&auto, &[300, 700, 500]);
    let content = disk.content(&path);
    for changes in 0..12 {
        for kept in [false, true] {
            let disk = SimDisk::new();
            disk.put(&path, &content);
            if changes % 2 == 0 {
                disk.put(&path.with_file_name("00000000000000ee.seg"), &[0; 64 << 10]);
            }
            disk.die_after(changes);
            drop(recovery::open(Arc::new(disk.clone()), &auto, NEVER));
            let disk = disk.cut(&mut || kept);
            let found = seqs(&recovered(&disk, &auto, stream));
            assert_eq!(found, [(1, 1), (2, 2), (3, 3)], "after {changes} changes");
        }
    }
}

#[test]
fn a_group_larger_than_the_buffer_is_written_in_pieces_and_synced_once() {
    let options = Options {
        segment_bytes: Some(16 << 20),
        budget_bytes: Some(256 << 20),
        io: IoSetting::Direct,
        ..options()
    };
    // Returns the number of syncs and writes for one group of ten records and the footer.
    let appended = |bytes: usize| {
        let disk = SimDisk::new();
        let journal = still(&disk, &options);
        let queue = &journal.shared.queue;
        let mut context = Context::from_waker(Waker::noop());
        let mut appending: Vec<_> = (1..=10)
            .map(|seq| Box::pin(queue.append(record(seq, bytes))))
            .collect();
        for append in &mut appending {
            assert!(append.as_mut().poll(&mut context).is_pending());
        }
        let before = (disk.syncs(), disk.direct_writes());
        queue.close();
        AppendThread::new(journal.shared.clone()).run();
        let after = (disk.syncs(), disk.direct_writes());
        for append in appending {
            runtime().block_on(append).unwrap();
        }
        assert!(disk.largest_write() <= 1 << 20);
        let stream = journal.streams().last().unwrap().id;
        drop(journal);
        let disk = disk.cut(&mut || false);
        assert_eq!(seqs(&recovered(&disk, &options, stream)).len(), 10);
        (after.0 - before.0, after.1 - before.1)
    };
    let (small, large) = (appended(10), appended(300_000));
    assert_eq!(small.0, large.0, "syncs");
    assert_eq!(
        small.1 + 2,
        large.1,
        "3 MB are three pieces of at most 1 MiB"
    );
}

/// A direct write that ends within a block is carried on at the block's start: the rest alone is not aligned.
#[test]
fn a_direct_write_that_is_cut_short_anywhere_is_carried_on() {
    for bytes in [100, 5000, 20_000, 200_000] {
        for k in 1..=6 {
            let disk = SimDisk::new();
            let options = Options {
                io: IoSetting::Direct,
                ..options()
            };
            let journal = open_with(&disk, &options);
            let stream = journal.streams()[0].id;
            disk.inject(Fault::ShortWrite(k));
            for seq in 1..=3 {
                runtime().block_on(append(&journal, seq, bytes)).unwrap();
            }
            let cut = disk.cut(&mut || false);
            drop(journal);
            let found = seqs(&recovered(&cut, &options, stream));
            assert_eq!(found, [(1, 1), (2, 2), (3, 3)], "{bytes} bytes, write {k}");
        }
    }
}
