//! Bytes that look like records and are none: left in a file that is used again, or inside of a payload.

use crate::journal::format::record::{HEADER_BYTES, RecordClass, RecordHeader};
use crate::journal::format::segment;
use crate::journal::tests::harm::{disk_with, recovered, small, unsealed};
use crate::journal::tests::*;

#[test]
fn a_recycled_segments_old_records_never_come_back() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let old = journal.streams()[0].id;
        let runtime = runtime();
        for seq in 1..=60 {
            runtime.block_on(append(&journal, seq, 3000)).unwrap();
        }
        let first = segments(&disk).remove(0);
        drop(journal);
        let journal = open(&disk);
        // Everything is recycled; the file that was full of records is now a spare, with the bytes of its first life.
        journal.mark_stored(old, 1, 60);
        journal.shared.recycle();
        let stream = journal.streams().last().unwrap().id;
        for seq in 101..=102 {
            runtime.block_on(append(&journal, seq, 3000)).unwrap();
        }
        let reused = segments(&disk);
        let disk = disk.cut(&mut || true);
        drop(journal);
        for path in &reused {
            assert!(disk.content(path).len() == 64 << 10 && path >= &first);
        }
        let journal = open(&disk);
        assert_eq!(seqs(&all(&journal, stream)), [(1, 101), (2, 102)]);
        assert!(
            journal
                .streams()
                .iter()
                .all(|found| found.id == stream || found.live)
        );
    });
}

#[test]
fn old_bytes_behind_new_records_of_a_reused_file_are_not_records() {
    in_both_modes(|| {
        let (disk, stream, path) = unsealed(&small(), &[300, 700]);
        // The same file in a second life: another nonce in the header, the first group new, the second of the first life.
        let mut content = disk.content(&path);
        let segment::FirstBlock::Segment(header) =
            segment::SegmentHeader::decode(content.first_chunk().unwrap())
        else {
            panic!("no header");
        };
        let header = segment::SegmentHeader {
            nonce: header.nonce ^ 1,
            ..header
        };
        content[..4096].copy_from_slice(&header.encode());
        let first = RecordHeader::bare(RecordClass::Hole, 1, 1, 0).encode(header.nonce);
        content[4096..4096 + HEADER_BYTES].copy_from_slice(&first);
        let entries = recovered(&disk_with(&path, &content), &small(), stream);
        assert_eq!(seqs(&entries), []);
    });
}

#[test]
fn a_record_forged_inside_a_payload_is_no_record() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        let stream = journal.streams()[0].id;
        let runtime = runtime();
        runtime.block_on(append(&journal, 1, 100)).unwrap();
        let path = segments(&disk).remove(0);
        let content = disk.content(&path);
        // A client that knows everything but the nonce: whole groups of a segment as its payload.
        let mut forged = content[4096..4 * 4096].to_vec();
        for (n, place) in [(2u64, 0), (3, 4096)] {
            let mut header = RecordHeader::decode(
                &content[4096..],
                crate::journal::format::le_bytes::u64_at(&content, 16),
            )
            .unwrap();
            header.position = n;
            header.last_position = n;
            forged[place..place + HEADER_BYTES].copy_from_slice(&header.encode(0x1234_5678));
        }
        let mut evil = record(2, 0);
        evil.payload = Bytes::from(forged);
        evil.accepted = 1;
        runtime.block_on(journal.append(evil)).unwrap();
        runtime.block_on(append(&journal, 3, 100)).unwrap();
        let disk = disk.cut(&mut || false);
        drop(journal);
        // Its own header is lost, so that the search runs through the payload.
        disk.edit(&path, |content| content[2 * 4096 + 20] ^= 1);
        let entries = recovered(&disk, &options(), stream);
        assert_eq!(seqs(&entries), [(1, 1), (3, 3)]);
        assert!(
            matches!(
                entries[1],
                JournalEntry::Damaged {
                    n: 2,
                    accepted: None,
                    ..
                }
            ),
            "{entries:?}"
        );
    });
}
