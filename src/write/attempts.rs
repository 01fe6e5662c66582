//! Notes the records that were being written when the process died.
//!
//! A record that ends the process each time it is written would end it for ever. Therefore a file, the note, names the
//! records that are decoded and written first after a start, and every record that is written alone. The note is
//! removed once their attempt has ended, with any outcome, and whenever the process ends without dying. A record that
//! was named in three deaths in a row is written alone. A record that was named in three more becomes a dead letter
//! without being decoded. If the store reports a lack of memory for one record, that counts as a death, since another
//! allocation would have ended the process.
//!
//! The note is advice. It is never synced, as it has to survive the process and not the machine. A note that cannot be
//! read or written is ignored.
//!
//! **Invariant:** a death counts only for records that were being written at that moment, and only in a row; a lack of
//! memory counts only for a record that was written alone.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::StreamId;
use crate::position_set::PositionSet;

/// The file's name in the data directory.
const FILE: &str = "attempts";

/// Deaths in a row after which a record is written alone (`ALONE`), and after which it becomes a dead letter (`FATAL`).
const ALONE: u32 = 3;
pub(super) const FATAL: u32 = 6;

/// Maximum number of lines that are read or written.
const LINES: usize = 1000;

/// Positions of a stream, and the deaths in a row that named them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SuspectRecords {
    stream: StreamId,
    positions: RangeInclusive<u64>,
    deaths: u32,
}

/// The care that a record needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteCare {
    /// The record may be part of a batch.
    Usual,
    /// The record is written alone.
    Alone,
    /// The record becomes a dead letter without being decoded.
    Fatal,
}

/// The note of this process. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Attempts {
    state: Arc<Mutex<AttemptsState>>,
}

#[derive(Default)]
struct AttemptsState {
    /// `None` if no note is kept.
    path: Option<PathBuf>,
    /// Positions that earlier deaths named and whose attempt has not ended since.
    suspects: Vec<SuspectRecords>,
    /// Positions that are being written now, with the number of deaths before.
    current: Vec<SuspectRecords>,
    /// Set once an attempt has ended in this process. From then on only records that are written alone are noted.
    has_ended: bool,
    is_written: bool,
}

impl Attempts {
    /// Reads the note that the previous process left, and removes it.
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let suspects =
            std::fs::read_to_string(&path).map_or_else(|_| Vec::new(), |text| parse(&text));
        let suspects = suspects.into_iter().map(|one| SuspectRecords {
            deaths: one.deaths.saturating_add(1),
            ..one
        });
        let state = AttemptsState {
            suspects: suspects.collect(),
            is_written: true,
            path: Some(path),
            ..AttemptsState::default()
        };
        let attempts = Self {
            state: Arc::new(Mutex::new(state)),
        };
        attempts.state().write();
        attempts
    }

    /// Returns the care that the record at this position needs.
    pub(super) fn care(&self, stream: StreamId, n: u64) -> WriteCare {
        match self.state().deaths(stream, n) {
            FATAL.. => WriteCare::Fatal,
            ALONE.. => WriteCare::Alone,
            _ => WriteCare::Usual,
        }
    }

    /// Notes that these positions are about to be decoded and written. Positions whose `care` is usual are noted only
    /// until an attempt has ended in this process.
    pub(super) fn begin(&self, stream: StreamId, positions: &RangeInclusive<u64>, care: WriteCare) {
        let mut state = self.state();
        if state.has_ended && care == WriteCare::Usual {
            return;
        }
        let named = state.named(stream, positions);
        state.current.extend(named);
        state.write();
    }

    /// Notes that these positions are stored: they are no longer suspect.
    pub(super) fn passed(&self, stream: StreamId, positions: &RangeInclusive<u64>) {
        let mut state = self.state();
        state.suspects = less(std::mem::take(&mut state.suspects), stream, positions);
        state.ended(stream, positions);
    }

    /// Notes that the attempt to store these positions failed without a death: suspect positions stay suspect.
    pub(super) fn failed(&self, stream: StreamId, positions: &RangeInclusive<u64>) {
        self.state().ended(stream, positions);
    }

    /// Notes that the store lacked memory for this one record.
    pub(super) fn ran_out_of_memory(&self, stream: StreamId, n: u64) {
        let mut state = self.state();
        let deaths = state.deaths(stream, n).saturating_add(1);
        let positions = n..=n;
        state.suspects = less(std::mem::take(&mut state.suspects), stream, &positions);
        state.suspects.push(SuspectRecords {
            stream,
            positions,
            deaths,
        });
    }

    /// Notes that no write is in progress.
    pub(super) fn rest(&self) {
        let mut state = self.state();
        state.current.clear();
        state.write();
    }

    /// Forgets stored positions, and streams that the journal no longer holds.
    pub(super) fn keep_unstored(&self, held: &[(StreamId, &PositionSet)]) {
        let mut state = self.state();
        if state.suspects.is_empty() {
            return;
        }
        let suspects = std::mem::take(&mut state.suspects);
        for one in suspects {
            let Some((_, stored)) = held.iter().find(|(stream, _)| *stream == one.stream) else {
                continue;
            };
            let left = stored.missing(&one.positions);
            state
                .suspects
                .extend(left.into_iter().map(|positions| SuspectRecords {
                    positions,
                    ..one.clone()
                }));
        }
    }

    /// Returns whether a record is still to be written alone.
    pub(super) fn is_careful(&self) -> bool {
        let state = self.state();
        state.suspects.iter().any(|one| one.deaths >= ALONE)
    }

    /// Returns a sentence for `/health` that names the records that are written alone; `None` if there are none.
    pub(super) fn problem(&self) -> Option<String> {
        let state = self.state();
        let one = state.suspects.iter().find(|one| one.deaths >= ALONE)?;
        let (first, last) = (one.positions.start(), one.positions.end());
        let what = if first == last {
            format!("record {first} of stream {} was", one.stream)
        } else {
            format!("records {first} to {last} of stream {} were", one.stream)
        };
        Some(format!(
            "{what} being written when the process died or SQLite ran out of memory, {} times in a row, and is written alone; \
             after {FATAL} times it becomes a dead letter: look for the reason in the kernel's log (out of memory) and raise the \
             memory limit",
            one.deaths
        ))
    }

    fn state(&self) -> MutexGuard<'_, AttemptsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the note as the writer ends, unless a panic ends it.
pub(super) struct RemoveNoteOnDrop(pub(super) Attempts);

impl Drop for RemoveNoteOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.rest();
        }
    }
}

impl AttemptsState {
    fn deaths(&self, stream: StreamId, n: u64) -> u32 {
        let of = |one: &&SuspectRecords| one.stream == stream && one.positions.contains(&n);
        self.suspects.iter().find(of).map_or(0, |one| one.deaths)
    }

    /// Returns these positions, each with the deaths in a row that named it.
    fn named(&self, stream: StreamId, positions: &RangeInclusive<u64>) -> Vec<SuspectRecords> {
        let mut unknown = PositionSet::new([positions.clone()]);
        let mut named = Vec::new();
        for one in self.suspects.iter().filter(|one| one.stream == stream) {
            for positions in unknown.within(&one.positions) {
                named.push(SuspectRecords {
                    positions,
                    ..one.clone()
                });
            }
            unknown = without(&unknown, &one.positions);
        }
        named.extend(unknown.ranges().iter().map(|positions| SuspectRecords {
            stream,
            positions: positions.clone(),
            deaths: 0,
        }));
        named
    }

    fn ended(&mut self, stream: StreamId, positions: &RangeInclusive<u64>) {
        self.has_ended = true;
        self.current = less(std::mem::take(&mut self.current), stream, positions);
        self.write();
    }

    /// Writes the current positions to the file.
    fn write(&mut self) {
        let Some(path) = &self.path else { return };
        let done = if self.current.is_empty() {
            if !self.is_written {
                return;
            }
            std::fs::remove_file(path)
        } else {
            let new = path.with_extension("new");
            std::fs::write(&new, print(&self.current)).and_then(|()| std::fs::rename(&new, path))
        };
        self.is_written = !self.current.is_empty();
        if let Err(error) = done
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(path = %path.display(), %error, "the note of attempts was not written");
        }
    }
}

/// Returns the list without these positions.
fn less(
    list: Vec<SuspectRecords>,
    stream: StreamId,
    gone: &RangeInclusive<u64>,
) -> Vec<SuspectRecords> {
    let mut left = Vec::new();
    for one in list {
        if one.stream != stream {
            left.push(one);
            continue;
        }
        let kept = without(&PositionSet::new([one.positions.clone()]), gone);
        left.extend(kept.ranges().iter().map(|positions| SuspectRecords {
            positions: positions.clone(),
            ..one.clone()
        }));
    }
    left
}

/// Returns the positions of the set that are not in the range.
fn without(set: &PositionSet, range: &RangeInclusive<u64>) -> PositionSet {
    let gone = PositionSet::new([range.clone()]);
    PositionSet::new(set.ranges().iter().flat_map(|one| gone.missing(one)))
}

/// Formats one line for each range: stream, first and last position, deaths.
fn print(named: &[SuspectRecords]) -> String {
    let lines = named.iter().take(LINES).map(|one| {
        let (first, last) = (one.positions.start(), one.positions.end());
        format!("{} {first} {last} {}\n", one.stream, one.deaths)
    });
    lines.collect()
}

fn parse(text: &str) -> Vec<SuspectRecords> {
    text.lines().take(LINES).filter_map(line).collect()
}

/// Parses such a line; `None` if it is malformed.
fn line(line: &str) -> Option<SuspectRecords> {
    let mut words = line.split(' ');
    let stream = u128::from_str_radix(words.next()?, 16).ok()?;
    let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let deaths = words.next()?.parse().ok()?;
    (words.next().is_none() && first <= last).then_some(SuspectRecords {
        stream: StreamId(stream.to_be_bytes()),
        positions: first..=last,
        deaths,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId([7; 16]);
    const OTHER: StreamId = StreamId([8; 16]);

    /// Simulates a process that dies while these positions are being written.
    fn die(dir: &Path, positions: RangeInclusive<u64>) {
        let attempts = Attempts::open(dir);
        let care = attempts.care(STREAM, *positions.start());
        attempts.begin(STREAM, &positions, care);
    }

    fn care(dir: &Path, n: u64) -> WriteCare {
        let text = std::fs::read_to_string(dir.join(FILE)).unwrap_or_default();
        let care = Attempts::open(dir).care(STREAM, n);
        std::fs::write(dir.join(FILE), text).unwrap();
        care
    }

    #[test]
    fn a_record_is_alone_after_three_deaths_in_a_row_and_fatal_after_three_more() {
        let dir = tempfile::tempdir().unwrap();
        for positions in [1..=9, 4..=12, 2..=6] {
            assert_eq!(care(dir.path(), 5), WriteCare::Usual);
            die(dir.path(), positions);
        }
        for (n, expected) in [
            (3, WriteCare::Usual),
            (4, WriteCare::Alone),
            (6, WriteCare::Alone),
            (7, WriteCare::Usual),
        ] {
            assert_eq!(care(dir.path(), n), expected, "{n}");
        }
        for _ in 0..3 {
            assert_eq!(care(dir.path(), 5), WriteCare::Alone);
            die(dir.path(), 5..=5);
        }
        assert_eq!(care(dir.path(), 5), WriteCare::Fatal);
        // The record was not named together with the others.
        assert_eq!(care(dir.path(), 4), WriteCare::Usual);
    }

    #[test]
    fn a_death_while_nothing_is_written_breaks_the_row() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            die(dir.path(), 1..=1);
        }
        drop(Attempts::open(dir.path()));
        assert_eq!(care(dir.path(), 1), WriteCare::Usual);
    }

    #[test]
    fn what_has_ended_is_not_named_and_neither_is_what_follows_it() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            die(dir.path(), 1..=4);
        }
        let attempts = Attempts::open(dir.path());
        assert!(attempts.is_careful() && attempts.problem().unwrap().contains("records 1 to 4"));
        attempts.begin(STREAM, &(1..=1), WriteCare::Alone);
        attempts.passed(STREAM, &(1..=1));
        assert_eq!(attempts.care(STREAM, 1), WriteCare::Usual);
        assert!(!dir.path().join(FILE).exists());
        attempts.begin(STREAM, &(9..=20), WriteCare::Usual);
        assert!(!dir.path().join(FILE).exists());
        attempts.failed(STREAM, &(3..=3));
        assert_eq!(attempts.care(STREAM, 3), WriteCare::Alone);
        attempts.begin(STREAM, &(2..=2), WriteCare::Alone);
        assert!(dir.path().join(FILE).exists());
        assert_eq!(care(dir.path(), 2), WriteCare::Alone);
        assert_eq!(care(dir.path(), 3), WriteCare::Usual);
    }

    #[test]
    fn an_end_that_is_no_death_leaves_no_note_and_a_panic_does() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..9 {
            let attempts = Attempts::open(dir.path());
            let _closing = RemoveNoteOnDrop(attempts.clone());
            attempts.begin(STREAM, &(1..=1), WriteCare::Usual);
        }
        assert_eq!(care(dir.path(), 1), WriteCare::Usual);
        for _ in 0..3 {
            let died = std::panic::catch_unwind(|| {
                let attempts = Attempts::open(dir.path());
                let _closing = RemoveNoteOnDrop(attempts.clone());
                attempts.begin(STREAM, &(1..=1), WriteCare::Usual);
                panic!("a fault of the writer");
            });
            assert!(died.is_err());
        }
        assert_eq!(care(dir.path(), 1), WriteCare::Alone);
    }

    #[test]
    fn what_is_stored_meanwhile_and_what_is_held_no_longer_is_no_suspect() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            die(dir.path(), 1..=4);
        }
        let attempts = Attempts::open(dir.path());
        attempts.keep_unstored(&[
            (OTHER, &PositionSet::default()),
            (STREAM, &PositionSet::new([1..=2])),
        ]);
        assert_eq!(attempts.care(STREAM, 2), WriteCare::Usual);
        assert_eq!(attempts.care(STREAM, 3), WriteCare::Alone);
        attempts.keep_unstored(&[(OTHER, &PositionSet::default())]);
        assert!(!attempts.is_careful() && attempts.problem().is_none());
    }

    // A record that needed more memory than SQLite got was tried again for ever, as the process did not die of it.
    #[test]
    fn a_record_for_which_the_store_has_no_memory_is_fatal_after_six_attempts() {
        let dir = tempfile::tempdir().unwrap();
        die(dir.path(), 1..=4);
        let attempts = Attempts::open(dir.path());
        for times in 2..=FATAL {
            attempts.ran_out_of_memory(STREAM, 3);
            let expected = match times {
                FATAL => WriteCare::Fatal,
                ALONE.. => WriteCare::Alone,
                _ => WriteCare::Usual,
            };
            assert_eq!(attempts.care(STREAM, 3), expected, "{times}");
        }
        assert!(attempts.problem().unwrap().contains("record 3 of"));
        assert_eq!(attempts.care(STREAM, 2), WriteCare::Usual);
        attempts.passed(STREAM, &(3..=3));
        assert_eq!(attempts.care(STREAM, 3), WriteCare::Usual);
    }

    #[test]
    fn a_note_that_cannot_be_read_is_ignored() {
        let dir = tempfile::tempdir().unwrap();
        for text in [
            "",
            "\0\0\0\0",
            "7 1",
            "x 1 2 3\n",
            "7 5 2 9\n",
            "7 1 2 3 4\n",
            "7 1 2 99999999999\n",
        ] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            let attempts = Attempts::open(dir.path());
            assert!(attempts.state().suspects.is_empty(), "{text:?}");
        }
        std::fs::write(dir.path().join(FILE), [0xff, 0xfe, b'\n']).unwrap();
        assert!(Attempts::open(dir.path()).state().suspects.is_empty());
        let nowhere = Attempts::open(Path::new("/nowhere/at/all"));
        nowhere.begin(STREAM, &(1..=1), WriteCare::Usual);
        nowhere.failed(STREAM, &(1..=1));
    }
}
