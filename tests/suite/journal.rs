//! The journal on the operating system's own files, and against other processes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ruvvector_service::decode::VERSION;
use ruvvector_service::event::{ContentEncoding, Encoding, Limits, Signal, Source};
use ruvvector_service::journal::disk::OsDisk;
use ruvvector_service::journal::{
    IoMode, IoSetting, Journal, JournalEntry, NewRecord, OpenError, Options,
};

use crate::support::service::Launch;

/// Names a directory to the test below that plays another process.
const OTHER: &str = "RUVVECTOR_TEST_LOG_DIR";

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        budget_bytes: Some(64 << 20),
        segment_bytes: Some(1 << 20),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Result<Journal, OpenError> {
    Journal::open(Arc::new(OsDisk), &options(dir))
}

/// Each opening reads what the other way has written.
#[tokio::test]
async fn direct_and_buffered_openings_read_each_others_files() {
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = parent.path().join("journal");
    let mut written = Vec::new();
    for round in 0..6_u8 {
        let io = [IoSetting::Direct, IoSetting::Buffered][usize::from(round % 2)];
        let options = Options {
            io,
            ..options(&dir)
        };
        let journal = Journal::open(Arc::new(OsDisk), &options).expect("this file system has it");
        let io_in_use = [IoMode::Direct, IoMode::Buffered][usize::from(round % 2)];
        assert_eq!(journal.status().io, io_in_use);
        for (n, bytes) in (1..).zip([10, 5_000, 600_000, 2_000_000]) {
            let payload = vec![round + n; bytes];
            written.push(payload.clone());
            journal.append(record(payload)).await.unwrap();
        }
        let mut found = Vec::new();
        for stream in journal.streams() {
            for entry in journal.read(stream.id, 1, 64 << 20).await.unwrap() {
                let JournalEntry::Record(record) = entry else {
                    panic!("{entry:?}");
                };
                found.push(record.payload.to_vec());
            }
        }
        assert!(found == written, "round {round}");
        if round % 3 == 0 {
            journal.close().await;
        }
        let reports = Journal::inspect(Arc::new(OsDisk), &options).unwrap();
        assert!(reports.iter().all(|report| report.problems.is_empty()));
    }
}

fn record(payload: impl Into<Bytes>) -> NewRecord {
    NewRecord {
        source: Source {
            signal: Signal::Event,
            encoding: Encoding::Json,
            partial: false,
            received_unix_nano: 1_700_000_000_000_000_000,
            limits: Limits::default(),
            version: VERSION,
        },
        content_encoding: ContentEncoding::Identity,
        decoded_bytes: 2,
        accepted: 1,
        rejected: 0,
        digest: [7; 16],
        payload: payload.into(),
    }
}

/// Not an independent test: holds the journal of the named directory until its input ends.
#[test]
fn another_process_holds_the_log() {
    let Some(dir) = std::env::var_os(OTHER) else {
        return;
    };
    let journal = open(Path::new(&dir)).unwrap();
    std::io::stderr().write_all(b"open\n").unwrap();
    std::io::stdin().lines().for_each(drop);
    drop(journal);
}

#[test]
fn a_second_process_is_refused_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "journal::another_process_holds_the_log",
            "--nocapture",
        ])
        .env(OTHER, dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(other.stderr.take().unwrap());
    assert!(
        said.lines()
            .map_while(Result::ok)
            .any(|line| line == "open")
    );
    assert!(matches!(open(dir.path()), Err(OpenError::Locked(path)) if path == dir.path()));
    drop(other.stdin.take());
    assert!(other.wait().unwrap().success());
    open(dir.path()).unwrap();
}

#[tokio::test]
async fn what_is_appended_to_real_files_is_read_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data").join("journal");
    let journal = open(&dir).unwrap();
    let stream = journal.streams()[0].id;
    let payloads: Vec<Vec<u8>> = [0, 1, 127, 4096, 4097, 100_000, 700_000, 3_000_000, 5]
        .iter()
        .map(|bytes| (0..*bytes).map(|i: usize| i.to_le_bytes()[0]).collect())
        .collect();
    let appends = payloads
        .iter()
        .map(|payload| journal.append(record(payload.clone())));
    for appended in futures_util::future::join_all(appends).await {
        appended.unwrap();
    }
    for _ in 0..2 {
        let journal = if journal.status().synced == 0 {
            open(&dir).unwrap()
        } else {
            journal.clone()
        };
        let mut from = 1;
        while from <= payloads.len() as u64 {
            for entry in journal.read(stream, from, 1 << 20).await.unwrap() {
                let JournalEntry::Record(record) = entry else {
                    panic!("{entry:?}");
                };
                assert_eq!(record.position.n, from);
                assert_eq!(record.payload, payloads[usize::try_from(from).unwrap() - 1]);
                assert_eq!((record.accepted, record.digest), (1, [7; 16]));
                from += 1;
            }
        }
        journal.close().await;
    }
    drop(journal);
    let journal = open(&dir).unwrap();
    assert_eq!(
        journal.read(stream, 1, 64 << 20).await.unwrap().len(),
        payloads.len()
    );
}

#[tokio::test]
async fn the_directory_and_its_files_are_for_the_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("journal");
    let journal = open(&dir).unwrap();
    journal.append(record("{}")).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    assert!(files.len() >= 3, "a lock, a segment, a spare: {files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600));
}

#[tokio::test]
async fn a_copied_directory_is_drained_under_its_own_streams() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, copy) = (parent.path().join("journal"), parent.path().join("copy"));
    let journal = open(&dir).unwrap();
    let first = journal.append(record("{}")).await.unwrap();
    std::fs::create_dir(&copy).unwrap();
    for file in std::fs::read_dir(&dir).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    let other = open(&copy).unwrap();
    assert_eq!(other.streams()[0].id, first.stream);
    assert_eq!(other.read(first.stream, 1, 1024).await.unwrap().len(), 1);
    let (a, b) = (
        journal.append(record("1")).await.unwrap(),
        other.append(record("2")).await.unwrap(),
    );
    assert_eq!((a.stream, a.n, b.n), (first.stream, 2, 1));
    assert_ne!(a.stream, b.stream);
}

/// Once each segment stayed open from its first read on.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_more_segments_than_descriptors_is_recovered_and_drained() {
    const SEGMENTS: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let launch = Launch::sqlite(dir.path());
    let options = Options {
        segment_bytes: Some(64 << 10),
        ..options(&launch.data_dir().join("journal"))
    };
    let journal = Journal::open(Arc::new(OsDisk), &options).unwrap();
    for n in 0..SEGMENTS {
        // Larger than half a segment: it gets a separate one.
        let filler = "x".repeat(40 << 10);
        let event = format!(
            r#"{{"correlationId":"e{n}","integration":"shop","eventType":"many","metadata":{{"filler":"{filler}"}}}}"#
        );
        let length = u32::try_from(event.len()).unwrap();
        let record = NewRecord {
            decoded_bytes: length,
            digest: [0; 16],
            ..record(event)
        };
        journal.append(record).await.unwrap();
    }
    journal.close().await;
    drop(journal);
    let files = std::fs::read_dir(&options.dir).unwrap().count();
    assert!(files > SEGMENTS, "{files} files");

    let few = launch
        .with("RUVVECTOR_JOURNAL_SEGMENT_BYTES", "64KiB")
        .under(&["prlimit", "--nofile=128:128"]);
    let service = few.start().await;
    service.until_drained().await;
    let stored = service.metrics().await.sum("ruvvector_write_events_total");
    assert!((stored - 300.0).abs() < 0.5, "{stored}");
}
