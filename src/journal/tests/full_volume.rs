//! A volume that is full for allocated space too: the files left on it, and the next opening of them.

use std::sync::Mutex;

use crate::journal::append::append_thread::AppendThread;
use crate::journal::format::record::{self, RecordClass};
use crate::journal::format::segment::{BLOCK, FirstBlock, Footer, SegmentContents, SegmentHeader};
use crate::journal::sim::Fault;
use crate::journal::tests::harm::{recovered, small, unsealed};
use crate::journal::tests::missing::{directory, remove};
use crate::journal::tests::older_versions::free_as_before;
use crate::journal::tests::*;

/// A journal whose append thread ran in this thread, so that each of its writes has its number.
struct Written {
    journal: Journal,
    stream: StreamId,
    answers: Vec<Result<u64, AppendError>>,
}

/// Appends records of these sizes, all of which wait at once, then closes the journal. Faults count from the first
/// write on.
fn write(disk: &SimDisk, options: &Options, sizes: &[usize], faults: &[Fault]) -> Written {
    let journal = still(disk, options);
    let shared = &journal.shared;
    let mut context = Context::from_waker(Waker::noop());
    let appending: Vec<_> = (1..)
        .zip(sizes)
        .map(|(seq, bytes)| {
            let mut append = Box::pin(shared.queue.append(record(seq, *bytes)));
            assert!(append.as_mut().poll(&mut context).is_pending());
            append
        })
        .collect();
    for fault in faults {
        disk.inject(*fault);
    }
    shared.queue.close();
    AppendThread::new(shared.clone()).run();
    let answers = appending
        .into_iter()
        .map(|append| runtime().block_on(append).map(|position| position.n))
        .collect();
    let stream = journal.streams().last().unwrap().id;
    Written {
        journal,
        stream,
        answers,
    }
}

/// The footer of the open segment found the volume full, and the next segment began with a sync marker. The record did
/// not fit behind that, and got a further segment with the same first position. The next start kept the first of the
/// two, and removed the acknowledged record.
#[test]
fn a_record_that_does_not_fit_behind_the_mark_of_a_full_volume_is_found_again() {
    in_both_modes(|| {
        // A separate segment, one as long as the journal ever has room for, and the shortest usual segment.
        let cases = [(options(), 100_000), (options(), 843_648), (small(), 8_000)];
        for (options, bytes) in cases {
            let disk = SimDisk::new();
            let written = write(&disk, &options, &[100, bytes], &[Fault::FullWrite(4)]);
            assert_eq!(written.answers, [Ok(1), Ok(2)], "{bytes} bytes");
            assert_eq!(
                segments(&disk).len(),
                2,
                "{bytes} bytes: one for each record"
            );
            let stream = written.stream;
            drop(written);
            let disk = disk.cut(&mut || false);
            let found = seqs(&recovered(&disk, &options, stream));
            assert_eq!(found, [(1, 1), (2, 2)], "{bytes} bytes");
        }
    });
}

#[test]
fn a_segment_that_only_bears_the_mark_of_a_full_volume_takes_no_space() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let sizes = [100, 100_000];
        let written = write(&disk, &options(), &sizes, &[Fault::FullWrite(4)]);
        written.journal.mark_stored(written.stream, 1, 2);
        written.journal.shared.recycle();
        assert_eq!(written.journal.status().segments, 0);
        assert_eq!(segments(&disk), [""; 0].map(PathBuf::from));
    });
}

#[test]
fn a_large_record_shares_its_segment_with_the_hole_before_it() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let sizes = [20_000, 100_000, 100_000];
        let written = write(&disk, &options(), &sizes, &[Fault::FullWrite(6)]);
        assert_eq!(written.answers, [Ok(1), Err(AppendError::Unknown), Ok(3)]);
        assert_eq!(segments(&disk).len(), 2);
        let stream = written.stream;
        drop(written);
        let found = seqs(&recovered(&disk, &options(), stream));
        assert_eq!(found, [(1, 1), (3, 3)]);
    });
}

/// Returns a segment that was sealed with only a sync marker in it, as earlier builds left one beside the segment of
/// the record.
fn with_mark_alone(of: &SegmentHeader) -> Vec<u8> {
    let header = SegmentHeader {
        nonce: of.nonce ^ 1,
        bytes: 5 * BLOCK as u64,
        ..*of
    };
    let synced = header.first_position - 1;
    let mark = record::RecordHeader::bare(RecordClass::SyncMarker, synced, synced, synced);
    let contents = SegmentContents {
        last_position: synced,
        end: 2 * BLOCK as u64,
        ..SegmentContents::default()
    };
    let mut content = vec![0; 5 * BLOCK];
    content[..BLOCK].copy_from_slice(&header.encode());
    content[BLOCK..BLOCK + record::HEADER_BYTES].copy_from_slice(&mark.encode(header.nonce));
    content[4 * BLOCK..].copy_from_slice(&Footer { header, contents }.encode());
    content
}

/// Later builds read directories that the incident above left.
#[test]
fn of_two_files_with_one_first_position_the_one_with_records_is_kept() {
    in_both_modes(|| {
        // The footer of the record's own segment is written, or finds the volume full.
        for faults in [&[][..], &[Fault::FullWrite(7)]] {
            let disk = SimDisk::new();
            let written = write(&disk, &options(), &[100, 100_000], faults);
            assert_eq!(written.answers, [Ok(1), Ok(2)]);
            let stream = written.stream;
            drop(written);
            let headers = segments(&disk).into_iter().map(|path| {
                let content = disk.content(&path);
                match SegmentHeader::decode(content.first_chunk().unwrap()) {
                    FirstBlock::Segment(header) => header,
                    other => panic!("{other:?}"),
                }
            });
            let header = headers.max_by_key(|header| header.first_position).unwrap();
            assert_eq!(header.first_position, 2);
            let path = Path::new(DIR).join("0000000000000000.seg");
            disk.put(&path, &with_mark_alone(&header));
            for _ in 0..2 {
                let found = seqs(&recovered(&disk, &options(), stream));
                assert_eq!(found, [(1, 1), (2, 2)], "{faults:?}");
                assert!(!segments(&disk).contains(&path));
            }
        }
    });
}

/// A group was written in part into a segment that held nothing yet, and its positions became a hole in the next one.
/// After a later crash, records that were never acknowledged became dead letters, with an alert.
#[test]
fn positions_of_a_group_that_found_the_volume_full_are_a_hole_after_a_crash() {
    in_both_modes(|| {
        for removable in [true, false] {
            let disk = SimDisk::new();
            if !removable {
                // With spares, the trial of direct I/O needs no file that it removes.
                drop(still(&disk, &options()));
                disk.keep_files();
            }
            let sizes = [28_000, 28_000, 3_000, 20_000, 20_000, 20_000];
            let faults = [
                Fault::FullWrite(4),
                Fault::ShortWrite(7),
                Fault::FullWrite(8),
                Fault::FullWrite(13),
            ];
            let written = write(&disk, &options(), &sizes, &faults);
            let unknown = Err(AppendError::Unknown);
            assert_eq!(
                written.answers,
                [Ok(1), Ok(2), unknown, unknown, unknown, Ok(6)]
            );
            let stream = written.stream;
            drop(written);
            disk.let_files_go();
            let opened = still(&disk, &options());
            assert_eq!(opened.status().damaged_records, 0, "{removable}");
            drop(opened);
            let entries = recovered(&disk, &options(), stream);
            assert_eq!(seqs(&entries), [(1, 1), (2, 2), (6, 6)], "{removable}");
            let hole =
                |entry: &JournalEntry| matches!(entry, JournalEntry::Hole { first: 3, last: 5 });
            assert!(entries.iter().any(hole), "{removable}: {entries:?}");
        }
    });
}

/// The lines of level ERROR that an opening writes.
fn errors_of_opening(disk: &SimDisk, options: &Options) -> String {
    let lines = Arc::new(Mutex::new(Vec::<u8>::new()));
    let out = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::ERROR)
        .with_writer(move || Lines(out.clone()))
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        drop(recovery::open(Arc::new(disk.clone()), options, NEVER).unwrap());
    });
    let lines = lock(&lines).clone();
    String::from_utf8(lines).unwrap()
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A power cut kept the last block of a segment and nothing of its first group. An ERROR line asked for a check of the
/// disk, although nothing was lost.
#[test]
fn a_lost_first_block_is_reported_where_there_are_records_and_nowhere_else() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        drop(write(&disk, &options(), &[100], &[]));
        let used = segments(&disk).remove(0);
        let FirstBlock::Segment(header) =
            SegmentHeader::decode(disk.content(&used).first_chunk().unwrap())
        else {
            panic!("no header");
        };
        let spare = disk
            .paths()
            .into_iter()
            .find(|path| *path != used && path.extension().is_some_and(|suffix| suffix == "seg"));
        let begun = SegmentHeader {
            nonce: header.nonce ^ 1,
            first_position: 2,
            ..header
        };
        disk.edit(&spare.unwrap(), |content| {
            let last = content.len() - BLOCK;
            content[last..].copy_from_slice(&begun.encode_last());
        });
        let reports = Journal::inspect(Arc::new(disk.clone()), &options()).unwrap();
        assert!(
            reports.iter().all(|report| report.problems.is_empty()),
            "{reports:?}"
        );
        assert_eq!(errors_of_opening(&disk, &options()), "");

        let (disk, _, path) = unsealed(&options(), &[100, 200]);
        disk.edit(&path, |content| content[..BLOCK].fill(0));
        let errors = errors_of_opening(&disk, &options());
        assert!(errors.contains("the first block"), "{errors}");
    });
}

/// An older build's spare is kept until the database was asked. So after an upgrade on a full volume there was no file
/// for the torn tail, and no start succeeded.
#[test]
fn a_torn_tail_is_written_into_as_little_as_it_needs_where_there_is_no_room_for_more() {
    in_both_modes(|| {
        let (disk, stream, files) = directory();
        let spares = disk.paths().into_iter().filter(|path| {
            path.extension().is_some_and(|suffix| suffix == "seg")
                && files.iter().all(|(file, ..)| file != path)
        });
        for spare in spares {
            remove(&disk, &spare);
        }
        free_as_before(&disk, &files[0].0);
        let options = crate::journal::tests::harm::medium();
        for k in 1..=20 {
            disk.inject(Fault::FullAllocation(k));
        }
        let refused = Journal::open(Arc::new(disk.clone()), &options)
            .err()
            .unwrap();
        let text = refused.to_string();
        assert!(text.contains("49152 bytes"), "{text}");

        let (disk, stream) = (disk.cut(&mut || true), stream);
        disk.forget_faults();
        for k in (1..=1).chain(3..=20) {
            disk.inject(Fault::FullAllocation(k));
        }
        let found = seqs(&recovered(&disk, &options, stream));
        assert_eq!(found.len(), 10, "{found:?}");
        let lengths = segments(&disk).into_iter();
        let lengths: Vec<_> = lengths.map(|path| disk.content(&path).len()).collect();
        assert!(lengths.contains(&49_152), "{lengths:?}");
    });
}

/// Every place at which a volume can be found full, twice, with a part of the write on the disk or none.
#[test]
fn wherever_a_volume_is_found_full_what_was_acknowledged_is_read_back_and_nothing_is_damaged() {
    in_both_modes(|| {
        let sizes = [
            100, 28_000, 100_000, 3_000, 20_000, 20_000, 40_000, 8_000, 100_000, 60,
        ];
        for first in 1..=24 {
            for second in 0..=7 {
                let faults = [
                    Fault::ShortWrite(first),
                    Fault::FullWrite(first + 1),
                    Fault::ShortWrite(first + 1 + second),
                    Fault::FullWrite(first + 2 + second),
                ];
                for cut in [false, true] {
                    let disk = SimDisk::new();
                    let written = write(&disk, &options(), &sizes, &faults);
                    let (stream, answers) = (written.stream, written.answers.clone());
                    drop(written);
                    let disk = if cut { disk.cut(&mut || false) } else { disk };
                    disk.forget_faults();
                    check(&disk, stream, &answers, &format!("{faults:?}, {cut}"));
                }
            }
        }
    });
}

fn check(disk: &SimDisk, stream: StreamId, answers: &[Result<u64, AppendError>], case: &str) {
    let opened = still(disk, &options());
    assert_eq!(opened.status().damaged_records, 0, "{case}");
    drop(opened);
    let entries = recovered(disk, &options(), stream);
    let found = seqs(&entries);
    for (seq, answer) in (1..).zip(answers) {
        let is_found = found.iter().any(|(_, found)| *found == seq);
        match answer {
            Ok(n) => assert!(found.contains(&(*n, seq)), "{case}: {seq} is gone"),
            Err(AppendError::Unknown) => {}
            Err(_) => assert!(!is_found, "{case}: {seq} was refused"),
        }
    }
    let mut next = 1;
    for entry in &entries {
        assert!(
            matches!(entry, JournalEntry::Record(_) | JournalEntry::Hole { .. }),
            "{case}"
        );
        assert_eq!(first_of(entry), next, "{case}");
        next = last_of(entry) + 1;
    }
}
