//! The current problems of the writer, for `/health`.
//!
//! **Invariant:** each problem is a sentence that advises the operator, and lasts from the first failed attempt until
//! it is solved. An outage is reported once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::counter;

use crate::store::{FailureClass, StoreError};
use crate::telemetry::metrics as names;

/// The writer's current problems, and its contact with the database. Cheap to clone.
#[derive(Clone, Default)]
pub struct Problems {
    state: Arc<Mutex<ProblemsState>>,
}

#[derive(Default)]
struct ProblemsState {
    by_topic: BTreeMap<ProblemTopic, Problem>,
    /// The time at which the first failed attempt since the last success began.
    outage: Option<Instant>,
    notices: Vec<String>,
    contact: DatabaseContact,
}

/// The outcome of the last attempt to reach the database.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum DatabaseContact {
    /// The first attempt has neither succeeded nor failed.
    #[default]
    Awaited,
    Connected,
    /// The database was connected, and the server has ended every attempt since because of its timeout.
    Slow,
    Lost,
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

impl Problems {
    /// Returns the current problems as sentences that advise the operator. Empty if there are none.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let state = self.state();
        // If two subjects have the same text, it is listed once, with the earlier time.
        let mut known: Vec<(&str, Instant)> = Vec::new();
        for problem in state.by_topic.values() {
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
        self.state().contact == DatabaseContact::Connected
    }

    /// Returns whether the first contact with the database has neither succeeded nor failed yet.
    #[must_use]
    pub fn awaits_first_contact(&self) -> bool {
        self.state().contact == DatabaseContact::Awaited
    }

    /// Returns whether the database answers: it is connected, or the last attempts ended by timeouts of the server.
    pub(super) fn database_answers(&self) -> bool {
        matches!(
            self.state().contact,
            DatabaseContact::Connected | DatabaseContact::Slow
        )
    }

    pub(super) fn set_connected(&self) {
        self.state().contact = DatabaseContact::Connected;
    }

    /// Counts a failed attempt that began at `began`, and reports it as a problem. `named` follows the words "nothing
    /// is written".
    pub(super) fn failed(
        &self,
        topic: ProblemTopic,
        error: &StoreError,
        named: &str,
        began: Instant,
    ) {
        let class = error.class();
        counter!(names::WRITE_FAILURES_TOTAL, "class" => class.as_str()).increment(1);
        // Nothing else is done in an unknown schema, either.
        let is_lost = matches!(class, FailureClass::Connection | FailureClass::Timeout)
            || matches!(error, StoreError::Schema(_));
        let by_server = matches!(
            error,
            StoreError::Retry {
                class: FailureClass::Timeout,
                sqlstate: Some(_),
                ..
            }
        );
        let mut state = self.state();
        state.contact = match state.contact {
            DatabaseContact::Connected | DatabaseContact::Slow if by_server => {
                DatabaseContact::Slow
            }
            DatabaseContact::Awaited => DatabaseContact::Lost,
            _ if is_lost => DatabaseContact::Lost,
            same => same,
        };
        drop(state);
        let text = format!(
            "nothing is written{named}, and the journal keeps what is acknowledged: {error}"
        );
        tracing::warn!(class = class.as_str(), "{text}");
        self.set_since(topic, text, began);
    }

    /// Sets or removes the problem of a topic. While it lasts, further calls keep the time at which it began.
    pub(super) fn set(&self, topic: ProblemTopic, text: Option<String>) {
        match text {
            Some(text) => self.set_since(topic, text, Instant::now()),
            None => self.solve(topic),
        }
    }

    /// Sets the problem of a topic, for an attempt that began at `began`. An attempt may hang for long before it fails.
    pub(super) fn set_since(&self, topic: ProblemTopic, text: String, began: Instant) {
        let mut state = self.state();
        let since = match topic {
            // Both subjects report the same outage in turns, so they share its start.
            ProblemTopic::Contact | ProblemTopic::Write => *state.outage.get_or_insert(began),
            ProblemTopic::Journal
            | ProblemTopic::Copy
            | ProblemTopic::Maintenance
            | ProblemTopic::Attempts => {
                let known = state.by_topic.get(&topic);
                known.map_or(began, |problem| problem.since)
            }
        };
        state.by_topic.insert(topic, Problem { since, text });
    }

    pub(super) fn solve(&self, topic: ProblemTopic) {
        self.state().by_topic.remove(&topic);
    }

    /// Notes that the writer works. If it failed since the last call, returns the length of that outage.
    pub(super) fn works_again(&self) -> Option<Duration> {
        let mut state = self.state();
        state.by_topic.remove(&ProblemTopic::Contact);
        state.by_topic.remove(&ProblemTopic::Write);
        state.outage.take().map(|since| since.elapsed())
    }

    pub(super) fn set_notices(&self, notices: Vec<String>) {
        self.state().notices = notices;
    }

    fn state(&self) -> MutexGuard<'_, ProblemsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{ProblemTopic, Problems};
    use crate::store::{FailureClass, StoreError};

    fn fail(problems: &Problems, topic: ProblemTopic, class: FailureClass, seconds_ago: u64) {
        let began = Instant::now().checked_sub(Duration::from_secs(seconds_ago));
        let error = StoreError::Retry {
            class,
            sqlstate: (class == FailureClass::Timeout).then(|| "57014".to_owned()),
            message: "it hangs".to_owned(),
        };
        problems.failed(topic, &error, "", began.expect("up for long"));
    }

    #[test]
    fn the_first_contact_ends_with_success_or_failure() {
        let (connected, failed) = (Problems::default(), Problems::default());
        assert!(connected.awaits_first_contact() && failed.awaits_first_contact());
        connected.set_connected();
        assert!(!connected.awaits_first_contact());
        fail(&failed, ProblemTopic::Contact, FailureClass::Permission, 0);
        assert!(!failed.awaits_first_contact());
    }

    #[test]
    fn a_server_that_ends_statements_by_its_timeout_answers_and_is_not_connected() {
        // The classes of failures after a contact, and if the database is connected and answers.
        for (classes, connected, answers) in [
            (&[FailureClass::Resources][..], true, true),
            (&[FailureClass::Timeout], false, true),
            (
                &[FailureClass::Timeout, FailureClass::Resources],
                false,
                true,
            ),
            (&[FailureClass::Connection], false, false),
            (
                &[FailureClass::Connection, FailureClass::Timeout],
                false,
                false,
            ),
        ] {
            let problems = Problems::default();
            problems.set_connected();
            for &class in classes {
                fail(&problems, ProblemTopic::Write, class, 0);
            }
            assert_eq!(problems.connected(), connected, "{classes:?}");
            assert_eq!(problems.database_answers(), answers, "{classes:?}");
        }
    }

    // In an outage `/health` reported one sentence twice, for 21 s and for 32 s.
    #[test]
    fn a_problem_that_stops_two_tasks_is_reported_once() {
        let problems = Problems::default();
        let text = || Some("the database did not answer until now".to_owned());
        problems.set(ProblemTopic::Contact, text());
        problems.set(ProblemTopic::Write, text());
        problems.set(ProblemTopic::Maintenance, Some("another".to_owned()));
        let sentences = problems.sentences();
        assert_eq!(sentences.len(), 2, "{sentences:?}");
        problems.solve(ProblemTopic::Contact);
        assert_eq!(problems.sentences().len(), 2, "the writer still waits");
    }

    #[test]
    fn a_problem_lasts_until_it_is_solved() {
        let problems = Problems::default();
        assert!(problems.sentences().is_empty());
        let text = "the disk is full; free space".to_owned();
        problems.set(ProblemTopic::Write, Some(text));
        assert_eq!(
            problems.sentences(),
            ["the disk is full; free space (for 0 s)"]
        );
        problems.works_again();
        assert!(problems.sentences().is_empty());
    }

    /// A database hung for 40 s before the first attempt failed, and `/health` reported "(for 0 s)".
    #[test]
    fn an_outage_counts_from_the_first_attempt_that_failed_and_ends_once() {
        let problems = Problems::default();
        fail(&problems, ProblemTopic::Write, FailureClass::Timeout, 40);
        fail(
            &problems,
            ProblemTopic::Contact,
            FailureClass::Connection,
            20,
        );
        for problem in problems.sentences() {
            assert!(problem.contains("(for 4"), "{problem}");
        }
        // Contact alone does not end the outage: the next batch may fail again.
        problems.solve(ProblemTopic::Contact);
        problems.set(ProblemTopic::Write, Some("it hangs".to_owned()));
        let sentences = problems.sentences();
        assert!(sentences[0].contains("(for 4"), "{sentences:?}");
        let outage = problems.works_again();
        assert!(outage.is_some_and(|outage| outage.as_secs() >= 40));
        assert!(problems.sentences().is_empty());
        assert_eq!(problems.works_again(), None);
    }
}
