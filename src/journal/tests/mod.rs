//! The journal's promises, on a disk that forgets.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::event::{ContentEncoding, Encoding, Limits, Signal, Source};

use crate::event::{Position, StreamId};
use crate::journal::read::record_reader;
use crate::journal::sim::SimDisk;
use crate::journal::{
    AppendError, IoSetting, Journal, JournalEntry, NewRecord, Options, lock, recovery,
};

/// Appending, reading back, rotating, recycling, refusing.
mod life;

/// The journal compared with a plain vector.
mod model;

/// Cuts and flips.
mod harm;

/// Bytes that look like records.
mod false_records;

/// Files that are removed, emptied or cut, and lost blocks.
mod missing;

/// Files of versions that freed segments by zeros alone.
mod older_versions;

/// Reads that return wrong bytes.
mod misreads;

/// Scans through a small window.
mod scan;

/// Reopening.
mod reopening;

/// Spares, budget, files that are used again.
mod room;

/// Disks that fail.
mod faults;

/// Volumes that are full for allocated space too.
mod full_volume;

/// Direct I/O.
mod direct;

/// Synced records in memory.
mod window;

const DIR: &str = "/journal";

/// No sync markers of an idle journal, so that a slow machine does not change the layout of the files.
const NEVER: Duration = Duration::from_secs(1_000_000);

thread_local! {
    /// The way in which the journals of the test that runs in this thread are read and written.
    static IO: Cell<IoSetting> = const { Cell::new(IoSetting::Direct) };
}

/// Runs a test twice: with direct I/O, and through the page cache.
fn in_both_modes(test: impl Fn()) {
    for io in [IoSetting::Direct, IoSetting::Buffered] {
        IO.set(io);
        test();
    }
}

fn options() -> Options {
    Options {
        dir: PathBuf::from(DIR),
        budget_bytes: Some(16 * (64 << 10)),
        segment_bytes: Some(64 << 10),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
        io: IO.get(),
        // So that the disk is read.
        window_bytes: 0,
    }
}

fn open(disk: &SimDisk) -> Journal {
    open_with(disk, &options())
}

fn open_with(disk: &SimDisk, options: &Options) -> Journal {
    Journal::open_with_sync_marker_after(Arc::new(disk.clone()), options, NEVER).unwrap()
}

/// Opens a journal without its threads: nothing happens but the steps of the test.
fn still(disk: &SimDisk, options: &Options) -> Journal {
    let disk = Arc::new(disk.clone());
    Journal::without_threads(recovery::open(disk, options, NEVER).unwrap())
}

/// A record whose payload is computed from its number.
fn record(seq: u32, bytes: usize) -> NewRecord {
    NewRecord {
        source: Source {
            signal: Signal::Span,
            encoding: Encoding::Protobuf,
            partial: false,
            received_unix_nano: 1_700_000_000_000_000_000 + i64::from(seq),
            limits: Limits::default(),
            version: 1,
        },
        content_encoding: ContentEncoding::Identity,
        decoded_bytes: seq,
        accepted: seq % 7 + 1,
        rejected: 0,
        is_clean: seq.is_multiple_of(2),
        digest: digest(seq),
        payload: payload(seq, bytes),
    }
}

/// Each fourth record has no digest.
fn digest(seq: u32) -> [u8; 16] {
    let mut digest = [0; 16];
    if !seq.is_multiple_of(4) {
        digest[..4].copy_from_slice(&seq.to_le_bytes());
    }
    digest
}

/// Computed once: every byte of it is compared again and again.
fn payload(seq: u32, bytes: usize) -> Bytes {
    thread_local! {
        static KNOWN: RefCell<HashMap<(u32, usize), Bytes>> = RefCell::default();
    }
    let make = || {
        let seed = seq.to_le_bytes();
        (0..bytes)
            .map(|i| seed[i % 4] ^ u8::try_from(i % 251).unwrap())
            .collect()
    };
    KNOWN.with_borrow_mut(|known| known.entry((seq, bytes)).or_insert_with(make).clone())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

/// Waits until the journal has made the spares it wants, so that only records are synced from here on.
fn settle(journal: &Journal) {
    journal.shared.recycle();
}

/// Waits until the append thread has taken the record at position `n`, and all that waited with it, for one group.
fn handed_over(journal: &Journal, n: u64) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while journal.status().appended < n {
        assert!(std::time::Instant::now() < deadline, "nobody writes");
        std::thread::yield_now();
    }
}

async fn append(journal: &Journal, seq: u32, bytes: usize) -> Result<Position, AppendError> {
    journal.append(record(seq, bytes)).await
}

type Appending = std::pin::Pin<Box<dyn Future<Output = Result<Position, AppendError>>>>;

/// Appends that wait in the queue, each polled once.
fn waiting(journal: &Journal, seqs: std::ops::RangeInclusive<u32>, bytes: usize) -> Vec<Appending> {
    let mut context = Context::from_waker(Waker::noop());
    seqs.map(|seq| {
        let journal = journal.clone();
        let mut appending: Appending = Box::pin(async move { append(&journal, seq, bytes).await });
        let polled = appending.as_mut().poll(&mut context);
        assert!(polled.is_pending(), "an answer came before the sync");
        appending
    })
    .collect()
}

/// Returns all entries of a stream.
fn all(journal: &Journal, stream: StreamId) -> Vec<JournalEntry> {
    let mut entries = Vec::new();
    let mut from = 1;
    loop {
        let page = record_reader::read(&journal.shared, stream, from, 10_000).unwrap();
        let Some(last) = page.last() else {
            return entries;
        };
        from = last_of(last) + 1;
        entries.extend(page);
    }
}

fn last_of(entry: &JournalEntry) -> u64 {
    match entry {
        JournalEntry::Record(record) => record.position.n,
        JournalEntry::Hole { last, .. } | JournalEntry::Missing { last, .. } => *last,
        JournalEntry::Damaged { n, .. } => *n,
    }
}

fn first_of(entry: &JournalEntry) -> u64 {
    match entry {
        JournalEntry::Hole { first, .. } | JournalEntry::Missing { first, .. } => *first,
        JournalEntry::Record(_) | JournalEntry::Damaged { .. } => last_of(entry),
    }
}

/// Returns the records of a stream: position and number, with the payload checked.
fn seqs(entries: &[JournalEntry]) -> Vec<(u64, u32)> {
    entries
        .iter()
        .filter_map(|entry| match entry {
            JournalEntry::Record(record) => {
                let seq = record.decoded_bytes;
                assert_eq!(record.payload, payload(seq, record.payload.len()));
                assert_eq!(record.is_clean, seq.is_multiple_of(2));
                assert_eq!(record.accepted, seq % 7 + 1);
                Some((record.position.n, seq))
            }
            JournalEntry::Hole { .. }
            | JournalEntry::Missing { .. }
            | JournalEntry::Damaged { .. } => None,
        })
        .collect()
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.paths()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|suffix| suffix == "seg"))
        .filter(|path| {
            disk.content(Path::new(path))
                .iter()
                .take(4096)
                .any(|byte| *byte != 0)
        })
        .collect()
}
