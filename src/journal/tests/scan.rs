//! Scans whose window is smaller than the segment, and has held another segment before.

use crate::journal::aligned_buffer::AlignedBuffer;
use crate::journal::format::scan::ScannedPayload;
use crate::journal::format::segment::BLOCK;
use crate::journal::segment_index::IndexedScan;
use crate::journal::tests::*;

/// Lengths of payloads that fit into a window of two blocks, end at its end, reach beyond it, and are longer than it.
const LENGTHS: [usize; 9] = [100, 3000, 3968, 0, 7000, 8064, 12_000, 1, 4096];

#[test]
fn each_payload_is_read_whole_wherever_the_window_ends() {
    in_both_modes(|| {
        let disk = SimDisk::new();
        let journal = open(&disk);
        for (seq, bytes) in (1..).zip(LENGTHS) {
            runtime().block_on(append(&journal, seq, bytes)).unwrap();
        }
        let segments: Vec<_> = lock(&journal.shared.state).segments().cloned().collect();
        let [segment] = &segments[..] else {
            panic!("all records fit into one segment");
        };
        let mut window = AlignedBuffer::zeroed(2 * BLOCK);
        window.fill(0xff);
        // The second scan begins with the bytes of the first one's end in its window.
        for first in [1, 5] {
            let file = journal.shared.disk.open(&segment.path).unwrap();
            let mut walk = IndexedScan::new(segment, file, first, window);
            let mut read = Vec::new();
            while let Some((found, _)) = walk.next().unwrap() {
                let ScannedPayload::Whole(payload) = walk.scan.payload(&found).unwrap() else {
                    panic!("record {} is as it was written", found.header.position);
                };
                read.push((found.header.position, payload));
            }
            let written = (1_u32..)
                .zip(LENGTHS)
                .map(|(seq, bytes)| (u64::from(seq), payload(seq, bytes).to_vec()));
            let expected: Vec<_> = written.skip_while(|(n, _)| *n < read[0].0).collect();
            assert!(read[0].0 <= first);
            assert_eq!(read, expected);
            window = walk.scan.into_window();
        }
    });
}
