//! The writer's progress, for `/health`, for `?wait=stored` and for `Retry-After`.
//!
//! **Invariant:** a position counts as stored only once it is among the stored positions in the database.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::event::{Position, StreamId};
use crate::store::StoredPositions;

/// The writer's progress and its current problems. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress {
    shared: Arc<SharedProgress>,
}

#[derive(Default)]
struct SharedProgress {
    state: Mutex<ProgressState>,
    /// Notified whenever positions are stored.
    stored: Notify,
}

#[derive(Default)]
struct ProgressState {
    stored: HashMap<StreamId, StoredPositions>,
    /// Streams that the journal has recycled, since all of their positions are stored.
    gone: HashSet<StreamId>,
    problems: BTreeMap<ProblemTopic, Problem>,
    /// The time at which the first failed attempt since the last success began.
    outage: Option<Instant>,
    notices: Vec<String>,
    connected: bool,
    /// The stored positions were read, and the server has answered every attempt since, even if only with a timeout.
    answers: bool,
    /// Set once the first contact has succeeded or failed.
    contacted: bool,
    written: Written,
}

/// Counts what this process has committed, and the gaps that it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub events: u64,
    pub records: u64,
    /// Number of dead letters.
    pub dead_letters: u64,
    /// Number of events in those dead letters.
    pub dead_events: u64,
    /// Number of events that were stored already, without a commit of this process.
    pub stored_before: u64,
    /// Number of ranges of positions that neither the database nor the journal holds.
    pub gaps: u64,
}

/// The subject of a problem. Each subject has at most one problem at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProblemTopic {
    Contact,
    Write,
    Journal,
    /// Missing positions of a copied directory.
    Copy,
    Maintenance,
    /// Records that the process may have died of.
    Attempts,
}

struct Problem {
    since: Instant,
    text: String,
}

impl Progress {
    /// Waits until the batch that holds `position` has been committed.
    pub async fn stored(&self, position: Position) {
        loop {
            let changed = self.shared.stored.notified();
            tokio::pin!(changed);
            // Registers before it checks, so that no notification is lost in between.
            changed.as_mut().enable();
            if self.is_stored(position) {
                return;
            }
            changed.await;
        }
    }

    fn is_stored(&self, position: Position) -> bool {
        let state = self.state();
        let account = state.stored.get(&position.stream);
        account.is_some_and(|account| account.contains(position.n))
            || state.gone.contains(&position.stream)
    }

    /// Returns the writer's current problems for `/health`, as sentences that advise the operator. Empty if there are
    /// none.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let state = self.state();
        // If two subjects have the same text, it is listed once, with the earlier time.
        let mut known: Vec<(&str, Instant)> = Vec::new();
        for problem in state.problems.values() {
            match known.iter_mut().find(|(text, _)| *text == problem.text) {
                Some((_, since)) => *since = problem.since.min(*since),
                None => known.push((&problem.text, problem.since)),
            }
        }
        known
            .iter()
            .map(|(text, since)| format!("{text} (for {} s)", since.elapsed().as_secs()))
            .collect()
    }

    /// Returns notices for the operator that are not problems, such as a table that waits to be imported.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        self.state().notices.clone()
    }

    /// Returns whether the last contact with the database succeeded.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.state().connected
    }

    /// Returns whether the first contact with the database has neither succeeded nor failed yet.
    #[must_use]
    pub fn awaits_first_contact(&self) -> bool {
        !self.state().contacted
    }

    /// Returns whether the database answers: it is connected, or the last attempts ended by timeouts of the server.
    pub(super) fn answers(&self) -> bool {
        self.state().answers
    }

    #[must_use]
    pub fn written(&self) -> Written {
        self.state().written
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut Written)) {
        add(&mut self.state().written);
    }

    /// Returns the streams that have stored positions.
    pub(super) fn streams(&self) -> Vec<StreamId> {
        self.state().stored.keys().copied().collect()
    }

    pub(super) fn stored_of(&self, stream: StreamId) -> StoredPositions {
        self.state()
            .stored
            .get(&stream)
            .cloned()
            .unwrap_or_default()
    }

    /// Replaces a stream's stored positions by those that were read from the database. Others are no longer stored.
    pub(super) fn set_stored_positions(&self, stream: StreamId, account: StoredPositions) {
        self.state().stored.insert(stream, account);
        self.shared.stored.notify_waiters();
    }

    /// Forgets a stream that neither the journal nor the database needs any longer. All of its positions count as
    /// stored.
    pub(super) fn forget(&self, stream: StreamId) {
        let mut state = self.state();
        state.stored.remove(&stream);
        state.gone.insert(stream);
        drop(state);
        self.shared.stored.notify_waiters();
    }

    /// Notes that a batch was committed.
    pub(super) fn committed(&self, stream: StreamId, positions: RangeInclusive<u64>) {
        let mut state = self.state();
        state.stored.entry(stream).or_default().insert(positions);
        (state.connected, state.answers) = (true, true);
        state.problems.remove(&ProblemTopic::Write);
        drop(state);
        self.shared.stored.notify_waiters();
    }

    pub(super) fn set_connected(&self, connected: bool) {
        let mut state = self.state();
        (state.connected, state.answers) = (connected, connected);
        state.contacted = true;
    }

    /// Notes an attempt that the server ended because of its timeout.
    pub(super) fn timed_out(&self) {
        self.state().connected = false;
    }

    /// Notes a problem that begins now. While it lasts, further calls keep the time at which it began.
    pub(super) fn problem(&self, concern: ProblemTopic, text: String) {
        self.problem_since(concern, text, Instant::now());
    }

    /// As [`Progress::problem`], for an attempt that began at `began`. An attempt may hang for long before it fails.
    pub(super) fn problem_since(&self, concern: ProblemTopic, text: String, began: Instant) {
        let mut state = self.state();
        state.contacted |= concern == ProblemTopic::Contact;
        let known = state.problems.get(&concern).map(|problem| problem.since);
        let since = match concern {
            // Both subjects report the same outage in turns, so they share its start.
            ProblemTopic::Contact | ProblemTopic::Write => *state.outage.get_or_insert(began),
            ProblemTopic::Journal
            | ProblemTopic::Copy
            | ProblemTopic::Maintenance
            | ProblemTopic::Attempts => known.unwrap_or(began),
        };
        state.problems.insert(concern, Problem { since, text });
    }

    /// Notes that the writer works. If it failed since the last call, returns the length of that outage.
    pub(super) fn works_again(&self) -> Option<Duration> {
        let mut state = self.state();
        state.problems.remove(&ProblemTopic::Contact);
        state.problems.remove(&ProblemTopic::Write);
        state.outage.take().map(|since| since.elapsed())
    }

    pub(super) fn solved(&self, concern: ProblemTopic) {
        self.state().problems.remove(&concern);
    }

    pub(super) fn set_notices(&self, notices: Vec<String>) {
        self.state().notices = notices;
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ProblemTopic, Progress};
    use crate::event::{Position, StreamId};

    const STREAM: StreamId = StreamId([1; 16]);

    #[tokio::test]
    async fn who_waits_for_a_position_is_woken_by_its_batch_and_no_other() {
        let progress = Progress::default();
        let stored = progress.stored(Position {
            stream: STREAM,
            n: 5,
        });
        tokio::pin!(stored);
        assert!(futures_util::poll!(&mut stored).is_pending());
        progress.committed(STREAM, 1..=4);
        assert!(futures_util::poll!(&mut stored).is_pending());
        progress.committed(STREAM, 5..=9);
        assert!(futures_util::poll!(&mut stored).is_ready());
        progress
            .stored(Position {
                stream: STREAM,
                n: 9,
            })
            .await;
    }

    #[test]
    fn the_first_contact_ends_with_success_or_failure() {
        let (connected, failed) = (Progress::default(), Progress::default());
        assert!(connected.awaits_first_contact() && failed.awaits_first_contact());
        connected.set_connected(true);
        assert!(!connected.awaits_first_contact());
        failed.problem(ProblemTopic::Contact, "it refuses".to_owned());
        assert!(!failed.awaits_first_contact());
    }

    // In an outage `/health` reported one sentence twice, for 21 s and for 32 s.
    #[test]
    fn what_stands_in_the_way_of_two_is_said_once() {
        let progress = Progress::default();
        let text = || "the database did not answer until now".to_owned();
        progress.problem(ProblemTopic::Contact, text());
        progress.problem(ProblemTopic::Write, text());
        progress.problem(ProblemTopic::Maintenance, "another".to_owned());
        let problems = progress.problems();
        assert_eq!(problems.len(), 2, "{problems:?}");
        progress.solved(ProblemTopic::Contact);
        assert_eq!(progress.problems().len(), 2, "the writer still waits");
    }

    /// A client may retry a request from before the start when its stream was drained long ago.
    #[tokio::test]
    async fn a_position_of_a_stream_that_is_gone_is_stored() {
        let progress = Progress::default();
        let position = Position {
            stream: STREAM,
            n: 5,
        };
        let stored = progress.stored(position);
        tokio::pin!(stored);
        assert!(futures_util::poll!(&mut stored).is_pending());
        progress.forget(STREAM);
        assert!(futures_util::poll!(&mut stored).is_ready());
        assert!(progress.streams().is_empty());
    }

    #[test]
    fn a_problem_lasts_until_it_is_solved() {
        let progress = Progress::default();
        assert!(progress.problems().is_empty());
        progress.problem(
            ProblemTopic::Write,
            "the disk is full; free space".to_owned(),
        );
        assert_eq!(
            progress.problems(),
            ["the disk is full; free space (for 0 s)"]
        );
        progress.committed(STREAM, 1..=1);
        assert!(progress.problems().is_empty() && progress.connected());
    }

    /// A database hung for 40 s before the first attempt failed, and `/health` reported "(for 0 s)".
    #[test]
    fn an_outage_counts_from_the_first_attempt_that_failed_and_ends_once() {
        let progress = Progress::default();
        let before = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        let (first, second) = (
            before(40).expect("up for long"),
            before(20).expect("up for long"),
        );
        progress.problem_since(ProblemTopic::Write, "it hangs".to_owned(), first);
        progress.problem_since(ProblemTopic::Contact, "it refuses".to_owned(), second);
        for problem in progress.problems() {
            assert!(problem.contains("(for 4"), "{problem}");
        }
        // Contact alone does not end the outage: the next batch may fail again.
        progress.solved(ProblemTopic::Contact);
        progress.problem(ProblemTopic::Write, "it hangs".to_owned());
        assert!(
            progress.problems()[0].contains("(for 4"),
            "{:?}",
            progress.problems()
        );
        assert!(
            progress
                .works_again()
                .is_some_and(|outage| outage.as_secs() >= 40)
        );
        assert!(progress.problems().is_empty());
        assert_eq!(progress.works_again(), None);
    }
}
