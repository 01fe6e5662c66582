//! Appending, reading back, rotating, recycling, refusing.

use super::*;

#[test]
fn what_is_appended_is_read_back_in_order_also_after_reopening() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let log = open(&disk);
        let stream = log.streams()[0].id;
        for seq in 1..=50 {
            let position = append(&log, seq, 100 * seq as usize).await.unwrap();
            assert_eq!(
                position,
                Position {
                    stream,
                    n: u64::from(seq)
                }
            );
        }
        let expected: Vec<_> = (1..=50).map(|seq| (u64::from(seq), seq)).collect();
        assert_eq!(seqs(&all(&log, stream)), expected);
        let events: u64 = (1..=50u32).map(|seq| u64::from(seq % 7 + 1)).sum();
        assert_eq!(log.status().queue_events, events);
        drop(log);
        let log = open(&disk);
        assert_eq!(seqs(&all(&log, stream)), expected);
        assert_eq!(log.status().queue_events, events);
        assert_eq!(log.status().backlog_at_start_events, events);
    });
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_own() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let log = open(&disk);
        let stream = log.streams()[0].id;
        for (seq, bytes) in [(1, 10), (2, 300_000), (3, 40_000), (4, 10)] {
            append(&log, seq, bytes).await.unwrap();
        }
        assert_eq!(append(&log, 5, 2 << 20).await, Err(AppendError::TooLarge));
        let expected = [(1, 1), (2, 2), (3, 3), (4, 4)];
        assert_eq!(seqs(&all(&log, stream)), expected);
        drop(log);
        assert_eq!(seqs(&all(&open(&disk), stream)), expected);
    });
}

#[test]
fn a_power_cut_loses_nothing_that_was_answered() {
    runtime().block_on(async {
        let disk = SimDisk::new();
        let log = open(&disk);
        let stream = log.streams()[0].id;
        for seq in 1..=20 {
            append(&log, seq, 1000).await.unwrap();
        }
        let disk = disk.cut(&mut || false);
        let log = open(&disk);
        let expected: Vec<_> = (1..=20).map(|seq| (u64::from(seq), seq)).collect();
        assert_eq!(seqs(&all(&log, stream)), expected);
    });
}
