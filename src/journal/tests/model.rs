//! The journal compared with a plain vector, through power cuts and reopenings.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::journal::tests::*;

/// One thing that happens to a journal.
#[derive(Clone, Debug)]
enum Step {
    Append {
        bytes: usize,
    },
    /// Several records at once.
    Burst {
        count: u32,
        bytes: usize,
    },
    /// Larger than half a segment.
    Rotate,
    /// The power is cut while some records wait for their sync.
    CutUnanswered {
        count: u32,
        bytes: usize,
        chance: u64,
    },
    Cut {
        chance: u64,
    },
    /// The power is cut again while the journal recovers.
    CutTwice {
        chance: u64,
        changes: u64,
    },
    Reopen,
    /// The database commits a part of a stream.
    Store {
        stream: usize,
        from: u64,
        count: u64,
    },
    /// The database forgets a part of a stream.
    Unstore {
        stream: usize,
        from: u64,
        count: u64,
    },
    Recycle,
    /// The power is cut while segments are freed.
    CutRecycling {
        chance: u64,
        changes: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![0usize..200, 3000usize..5000];
    let part = || (0usize..4, 1u64..30, 1u64..40);
    prop_oneof![
        6 => bytes.clone().prop_map(|bytes| Step::Append { bytes }),
        3 => (2u32..12, bytes.clone()).prop_map(|(count, bytes)| Step::Burst { count, bytes }),
        1 => Just(Step::Rotate),
        2 => (1u32..6, bytes, any::<u64>())
            .prop_map(|(count, bytes, chance)| Step::CutUnanswered { count, bytes, chance }),
        1 => any::<u64>().prop_map(|chance| Step::Cut { chance }),
        1 => (any::<u64>(), 0u64..12).prop_map(|(chance, changes)| Step::CutTwice { chance, changes }),
        1 => Just(Step::Reopen),
        3 => part().prop_map(|(stream, from, count)| Step::Store { stream, from, count }),
        1 => part().prop_map(|(stream, from, count)| Step::Unstore { stream, from, count }),
        2 => Just(Step::Recycle),
        2 => (any::<u64>(), 0u64..16).prop_map(|(chance, changes)| Step::CutRecycling { chance, changes }),
    ]
}

/// A coin that repeats itself for the same seed.
fn coin(seed: u64) -> impl FnMut() -> bool {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state & 4 != 0
    }
}

struct Model {
    runtime: tokio::runtime::Runtime,
    disk: SimDisk,
    journal: Option<Journal>,
    next_seq: u32,
    /// Records that must be read back: those acknowledged, and those once read after an opening.
    known: BTreeMap<(StreamId, u64), u32>,
    /// Stored in this life of the journal.
    stored: BTreeSet<(StreamId, u64)>,
    /// Stored once: may be recycled.
    ever_stored: BTreeSet<(StreamId, u64)>,
    /// Appended without an answer: may be there.
    unanswered: BTreeSet<u32>,
    /// Decides for each opening, by its lowest bits, on direct I/O and on the size of the window.
    modes: u64,
}

impl Model {
    fn new(modes: u64) -> Self {
        let disk = SimDisk::new();
        Self {
            runtime: runtime(),
            journal: Some(open_with(&disk, &Self::options(modes))),
            modes,
            disk,
            next_seq: 1,
            known: BTreeMap::new(),
            stored: BTreeSet::new(),
            ever_stored: BTreeSet::new(),
            unanswered: BTreeSet::new(),
        }
    }

    fn options(modes: u64) -> Options {
        Options {
            io: if modes.is_multiple_of(2) {
                IoSetting::Direct
            } else {
                IoSetting::Buffered
            },
            window_bytes: [0, 0, 8_000, 1 << 20][usize::from(modes.to_le_bytes()[0] / 2 % 4)],
            segment_bytes: Some(16 << 10),
            budget_bytes: Some(24 * (16 << 10)),
            ..options()
        }
    }

    fn journal(&self) -> Journal {
        self.journal.clone().unwrap()
    }

    fn append(&mut self, count: u32, bytes: usize) {
        let journal = self.journal();
        let first = self.next_seq;
        self.next_seq += count;
        let outcomes = self.runtime.block_on(futures_util::future::join_all(
            (first..first + count).map(|seq| append(&journal, seq, bytes)),
        ));
        for (seq, outcome) in (first..).zip(outcomes) {
            match outcome {
                Ok(position) => {
                    let known = self.known.insert((position.stream, position.n), seq);
                    assert_eq!(known, None, "a position was given twice");
                }
                Err(error) => assert_eq!(error, AppendError::Full),
            }
        }
    }

    fn cut(&mut self, chance: u64) {
        let after = self.disk.cut(&mut coin(chance));
        self.journal = None;
        self.disk = after;
        self.modes = self.modes.rotate_right(3);
    }

    fn reopen(&mut self) {
        self.journal = None;
        self.modes = self.modes.rotate_right(3);
        self.journal = Some(open_with(&self.disk, &Self::options(self.modes)));
        self.stored.clear();
        self.check();
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append { bytes } => self.append(1, bytes),
            Step::Burst { count, bytes } => self.append(count, bytes),
            Step::Rotate => self.append(1, 9000),
            Step::Cut { chance } => {
                self.cut(chance);
                self.reopen();
            }
            Step::CutUnanswered {
                count,
                bytes,
                chance,
            } => {
                let journal = self.journal();
                // After this there are spares, or the status shows that there are none.
                settle(&journal);
                if journal.status().full {
                    return;
                }
                let _held = self.disk.hold_syncs();
                let first = self.next_seq;
                self.next_seq += count;
                let waiting = waiting(&journal, first..=first + count - 1, bytes);
                self.disk.sync_waits();
                self.unanswered.extend(first..first + count);
                for stream in journal.streams() {
                    for (n, seq) in seqs(&all(&journal, stream.id)) {
                        assert!(
                            !(first..first + count).contains(&seq),
                            "record {n} was read unsynced"
                        );
                    }
                }
                self.cut(chance);
                for append in waiting {
                    assert!(self.runtime.block_on(append).is_err());
                }
                drop(journal);
                self.reopen();
            }
            Step::CutTwice { chance, changes } => {
                self.cut(chance);
                self.disk.die_after(changes);
                drop(Journal::open(
                    Arc::new(self.disk.clone()),
                    &Self::options(self.modes),
                ));
                self.cut(chance.rotate_left(21));
                self.reopen();
            }
            Step::Reopen => self.reopen(),
            Step::Store {
                stream,
                from,
                count,
            } => {
                let journal = self.journal();
                let streams = journal.streams();
                let stream = streams[stream % streams.len()];
                let entries = all(&journal, stream.id);
                let last = (from + count - 1).min(stream.last);
                for (n, _) in seqs(&entries) {
                    if (from..=last).contains(&n) {
                        self.stored.insert((stream.id, n));
                        self.ever_stored.insert((stream.id, n));
                    }
                }
                journal.mark_stored(stream.id, from, last);
            }
            Step::Unstore {
                stream,
                from,
                count,
            } => {
                let journal = self.journal();
                let streams = journal.streams();
                let id = streams[stream % streams.len()].id;
                journal.mark_unstored(id, from, from + count - 1);
                self.stored
                    .retain(|(stream, n)| *stream != id || !(from..from + count).contains(n));
            }
            Step::Recycle => self.journal().shared.recycle(),
            Step::CutRecycling { chance, changes } => {
                self.disk.die_after(changes);
                self.journal().shared.recycle();
                self.cut(chance);
                self.reopen();
            }
        }
    }

    /// Reads everything and compares.
    fn check(&mut self) {
        let journal = self.journal();
        let mut found = BTreeMap::new();
        let mut with_digest = Vec::new();
        for stream in journal.streams() {
            let mut next = 0;
            let entries = all(&journal, stream.id);
            for entry in &entries {
                assert!(first_of(entry) >= next, "out of order, or twice");
                assert!(last_of(entry) <= stream.last);
                next = last_of(entry) + 1;
                match entry {
                    JournalEntry::Record(_) => {}
                    JournalEntry::Hole { first, last } => {
                        for n in *first..=*last {
                            assert!(
                                !self.known.contains_key(&(stream.id, n)),
                                "an answered record became a hole"
                            );
                        }
                    }
                    JournalEntry::Missing { first, last } => {
                        panic!("{first} to {last} are called missing")
                    }
                    JournalEntry::Damaged { n, reason, .. } => {
                        panic!("record {n} is called damaged: {reason}")
                    }
                }
            }
            for (n, seq) in seqs(&entries) {
                let known = self.known.get(&(stream.id, n));
                assert!(known == Some(&seq) || known.is_none() && self.unanswered.contains(&seq));
                found.insert((stream.id, n), seq);
                if digest(seq) != [0; 16] {
                    with_digest.push((stream.id, n, digest(seq)));
                }
            }
        }
        let digested: Vec<_> = journal
            .request_digests(0, usize::MAX, NEVER)
            .into_iter()
            .map(|one| (one.position.stream, one.position.n, one.digest))
            .collect();
        assert!(
            digested.iter().all(|one| with_digest.contains(one)),
            "retries are known by others"
        );
        // Stored records may have been recycled since they were read.
        let waiting = |all: &[(StreamId, u64, [u8; 16])]| {
            let mut waiting = all.to_vec();
            waiting.retain(|&(stream, n, _)| !self.ever_stored.contains(&(stream, n)));
            waiting
        };
        assert_eq!(waiting(&digested), waiting(&with_digest));
        for (position, seq) in &self.known {
            if !self.ever_stored.contains(position) {
                assert_eq!(found.get(position), Some(seq), "an answered record is gone");
            }
        }
        let waiting: u64 = found
            .iter()
            .filter(|(position, _)| !self.stored.contains(position))
            .map(|(_, seq)| u64::from(seq % 7 + 1))
            .sum();
        let status = journal.status();
        assert_eq!(status.queue_events, waiting);
        assert_eq!(status.queue_bytes == 0, status.oldest_unix_nano.is_none());
        assert!(!status.broken);
        self.known.extend(found);
    }
}

#[test]
fn whatever_happens_what_was_answered_is_read_back_once_and_in_order() {
    let cases = std::env::var("RUVVECTOR_TEST_LOG_CASES").ok();
    let config = Config {
        cases: cases.map_or(10_000, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        ..Config::default()
    };
    proptest!(config, |(steps in proptest::collection::vec(step(), 1..16), modes in any::<u64>())| {
        let mut model = Model::new(modes);
        for step in &steps {
            model.take(step);
        }
        model.check();
        model.reopen();
    });
}
