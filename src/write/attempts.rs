//! Notes the records that were being written when the process died.
//!
//! A record that ends the process each time it is written would end it for ever. Therefore a file, the note, names the
//! records that are decoded and written first after a start, and every record that is written alone. The note is
//! removed once their attempt has ended, with any outcome, and at every orderly end of the process. A record that was
//! named in three deaths in a row is written alone. A record that was named in three more becomes a dead letter without
//! being decoded. If the store reports a lack of memory for one record, that counts as a death, since another
//! allocation would have ended the process.
//!
//! The note is advice. It is never synced, as it has to survive the process and not the machine. A note that cannot be
//! read or written is ignored.
//!
//! **Invariant:** a death counts only for records that were being written at that moment, and only in a row; a lack of
//! memory counts only for a batch of one record.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::StreamId;
use crate::position_set::PositionSet;
use crate::store::StoredPositions;

/// The file's name in the data directory.
const FILE: &str = "attempts";

/// Deaths in a row after which a record is written alone (`ALONE`), and after which it becomes a dead letter (`FATAL`).
const ALONE: u32 = 3;
pub(super) const FATAL: u32 = 6;

/// Maximum number of lines that are read or written.
const LINES: usize = 1000;

/// Positions by their stream, and by the number of deaths in a row that named them.
#[derive(Default)]
struct SuspectRecords(BTreeMap<(StreamId, u32), PositionSet>);

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

/// The note of this process.
#[derive(Default)]
pub(super) struct Attempts {
    state: Mutex<AttemptsState>,
}

#[derive(Default)]
struct AttemptsState {
    /// `None` if no note is kept.
    path: Option<PathBuf>,
    /// Positions that earlier deaths named and whose attempt has not ended since.
    suspects: SuspectRecords,
    /// Positions that are being written now, with the number of deaths before.
    current: SuspectRecords,
    /// Set once an attempt has ended in this process. From then on only records that are written alone are noted.
    has_ended: bool,
    is_written: bool,
}

impl Attempts {
    /// Reads the note that the previous process left, and removes it.
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut state = AttemptsState {
            suspects: SuspectRecords::parse(&text),
            is_written: true,
            path: Some(path),
            ..AttemptsState::default()
        };
        state.write();
        Self {
            state: Mutex::new(state),
        }
    }

    /// Returns the care that the record at this position needs.
    pub(super) fn care(&self, stream: StreamId, n: u64) -> WriteCare {
        match self.state().suspects.deaths(stream, n) {
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
        let mut unknown = PositionSet::new([positions.clone()]);
        let mut named = Vec::new();
        for (&(_, deaths), known) in state.suspects.0.iter().filter(|((id, _), _)| *id == stream) {
            named.extend(
                known
                    .within(positions)
                    .into_iter()
                    .map(|range| (deaths, range)),
            );
            unknown = unknown.without(known);
        }
        named.extend(unknown.ranges().iter().map(|range| (0, range.clone())));
        for (deaths, range) in named {
            state.current.insert(stream, deaths, range);
        }
        state.write();
    }

    /// Notes that these positions are stored: they are no longer suspect.
    pub(super) fn passed(&self, stream: StreamId, positions: &RangeInclusive<u64>) {
        let mut state = self.state();
        state.suspects.remove(stream, positions);
        state.ended(stream, positions);
    }

    /// Notes that the attempt to store these positions failed without a death: suspect positions stay suspect.
    pub(super) fn failed(&self, stream: StreamId, positions: &RangeInclusive<u64>) {
        self.state().ended(stream, positions);
    }

    /// Notes that the store lacked memory for this one record.
    pub(super) fn ran_out_of_memory(&self, stream: StreamId, n: u64) {
        let mut state = self.state();
        let suspects = &mut state.suspects;
        let deaths = suspects.deaths(stream, n).saturating_add(1);
        suspects.remove(stream, &(n..=n));
        suspects.insert(stream, deaths, n..=n);
    }

    /// Notes that no write is in progress.
    pub(super) fn rest(&self) {
        let mut state = self.state();
        state.current.0.clear();
        state.write();
    }

    /// Forgets stored positions, and streams that the journal no longer holds, for which `stored` returns `None`.
    pub(super) fn keep_unstored(&self, stored: impl Fn(StreamId) -> Option<StoredPositions>) {
        self.state().suspects.0.retain(|(stream, _), positions| {
            let left = stored(*stream).map(|stored| positions.without(&stored));
            *positions = left.unwrap_or_default();
            !positions.ranges().is_empty()
        });
    }

    /// Returns whether a record is still to be written alone.
    pub(super) fn is_careful(&self) -> bool {
        let state = self.state();
        state.suspects.0.keys().any(|(_, deaths)| *deaths >= ALONE)
    }

    /// Returns a sentence for `/health` that names the records that are written alone; `None` if there are none.
    pub(super) fn problem(&self) -> Option<String> {
        let state = self.state();
        let mut suspects = state.suspects.lines();
        let (stream, deaths, range) = suspects.find(|(_, deaths, _)| *deaths >= ALONE)?;
        let (first, last) = (range.start(), range.end());
        let what = if first == last {
            format!("record {first} of stream {stream} was")
        } else {
            format!("records {first} to {last} of stream {stream} were")
        };
        Some(format!(
            "{what} being written when the process died or SQLite ran out of memory, {deaths} times in a row, and is written alone; \
             after {FATAL} times it becomes a dead letter: look for the reason in the kernel's log (out of memory) and raise the \
             memory limit"
        ))
    }

    fn state(&self) -> MutexGuard<'_, AttemptsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the note as the writer ends, unless a panic ends it.
pub(super) struct RemoveNoteOnDrop<'a>(pub(super) &'a Attempts);

impl Drop for RemoveNoteOnDrop<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.rest();
        }
    }
}

impl AttemptsState {
    fn ended(&mut self, stream: StreamId, positions: &RangeInclusive<u64>) {
        self.has_ended = true;
        self.current.remove(stream, positions);
        self.write();
    }

    /// Writes the current positions to the file: one line for each range, with the stream, the first and last position,
    /// and the deaths.
    fn write(&mut self) {
        let Some(path) = &self.path else { return };
        let lines = self
            .current
            .lines()
            .take(LINES)
            .map(|(stream, deaths, range)| {
                format!("{stream} {} {} {deaths}\n", range.start(), range.end())
            });
        let text: String = lines.collect();
        let done = if !text.is_empty() {
            let new = path.with_extension("new");
            std::fs::write(&new, &text).and_then(|()| std::fs::rename(&new, path))
        } else if self.is_written {
            std::fs::remove_file(path)
        } else {
            Ok(())
        };
        self.is_written = !text.is_empty();
        if let Err(error) = done
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!(path = %path.display(), %error, "the note of attempts was not written");
        }
    }
}

impl SuspectRecords {
    /// Parses the note of a process that died of one of these records. Ignores malformed lines.
    fn parse(text: &str) -> Self {
        let mut suspects = Self::default();
        for line in text.lines().take(LINES) {
            if let Some((stream, deaths, range)) = parse_line(line) {
                suspects.insert(stream, deaths.saturating_add(1), range);
            }
        }
        suspects
    }

    /// Returns the stream, the deaths and the positions of each range.
    fn lines(&self) -> impl Iterator<Item = (StreamId, u32, &RangeInclusive<u64>)> {
        self.0.iter().flat_map(|(&(stream, deaths), positions)| {
            let ranges = positions.ranges().iter();
            ranges.map(move |range| (stream, deaths, range))
        })
    }

    fn deaths(&self, stream: StreamId, n: u64) -> u32 {
        let mut of_stream = self.0.range((stream, 0)..=(stream, u32::MAX));
        let known = of_stream.find(|(_, positions)| positions.contains(n));
        known.map_or(0, |((_, deaths), _)| *deaths)
    }

    fn insert(&mut self, stream: StreamId, deaths: u32, range: RangeInclusive<u64>) {
        self.0.entry((stream, deaths)).or_default().insert(range);
    }

    fn remove(&mut self, stream: StreamId, range: &RangeInclusive<u64>) {
        self.0.retain(|(id, _), positions| {
            if *id == stream {
                positions.remove(range);
            }
            !positions.ranges().is_empty()
        });
    }
}

fn parse_line(line: &str) -> Option<(StreamId, u32, RangeInclusive<u64>)> {
    let mut words = line.split(' ');
    let stream = u128::from_str_radix(words.next()?, 16).ok()?;
    let (first, last) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let deaths = words.next()?.parse().ok()?;
    (words.next().is_none() && first <= last).then_some((
        StreamId(stream.to_be_bytes()),
        deaths,
        first..=last,
    ))
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
            let _closing = RemoveNoteOnDrop(&attempts);
            attempts.begin(STREAM, &(1..=1), WriteCare::Usual);
        }
        assert_eq!(care(dir.path(), 1), WriteCare::Usual);
        for _ in 0..3 {
            let died = std::panic::catch_unwind(|| {
                let attempts = Attempts::open(dir.path());
                let _closing = RemoveNoteOnDrop(&attempts);
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
        attempts.keep_unstored(|stream| {
            let stored = [(OTHER, vec![]), (STREAM, vec![1..=2])].into_iter();
            let mut stored = stored.filter(|(id, _)| *id == stream);
            stored.next().map(|(_, ranges)| PositionSet::new(ranges))
        });
        assert_eq!(attempts.care(STREAM, 2), WriteCare::Usual);
        assert_eq!(attempts.care(STREAM, 3), WriteCare::Alone);
        attempts.keep_unstored(|stream| (stream == OTHER).then(PositionSet::default));
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
            assert!(attempts.state().suspects.0.is_empty(), "{text:?}");
        }
        std::fs::write(dir.path().join(FILE), [0xff, 0xfe, b'\n']).unwrap();
        assert!(Attempts::open(dir.path()).state().suspects.0.is_empty());
        let nowhere = Attempts::open(Path::new("/nowhere/at/all"));
        nowhere.begin(STREAM, &(1..=1), WriteCare::Usual);
        nowhere.failed(STREAM, &(1..=1));
    }
}
