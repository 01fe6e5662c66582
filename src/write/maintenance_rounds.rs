//! Runs rounds of the store's maintenance beside the batches, and reports their gauges and failures.
//!
//! A round that has begun when the writer ends is completed, so that no transaction is left open.
//!
//! **Invariant:** a batch never waits for a round. Every round sets the gauges, whatever failed in it. While the store
//! cannot be read, they are derived from the last values read and the time since.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use tokio_util::sync::CancellationToken;

use crate::store::{
    FailureClass, MaintenanceGauges, MaintenanceReport, MaintenanceStep, StepFailure, StoreError,
};
use crate::telemetry::metrics as names;
use crate::write::WriteLoop;
use crate::write::heartbeat::pause;
use crate::write::problems::ProblemTopic;

/// Interval of checks for the first contact with the database.
const UNTIL_CONNECTED: Duration = Duration::from_millis(500);

/// Interval of summaries of what was written, which a round does too.
const SUMMARIES: Duration = Duration::from_secs(5);

const IMPORT: &str = "telemetry_events_v0 holds events of the original service; run the command `migrate --import-v0`";

/// Maximum number of failures that one sentence names.
const NAMED: usize = 3;

/// Runs rounds until the writer ends. Runs none before the first contact or in an unknown schema.
pub(super) async fn run_maintenance(shared: &WriteLoop, over: &CancellationToken) {
    while !shared.problems.connected() {
        if !pause(UNTIL_CONNECTED, over).await {
            return;
        }
    }
    let mut rounds = RoundOutcomes {
        gauges: MaintenanceGauges::default(),
        read: Instant::now(),
        busy: BTreeSet::new(),
        notice: None,
    };
    loop {
        if shared.problems.connected() {
            let oldest = shared.journal.status().oldest_unix_nano;
            let began = Instant::now();
            let found = shared.store.maintain(oldest).await;
            rounds.note(shared, began, found);
        }
        rounds.show(shared);
        tokio::select! {
            goes_on = await_round(shared, over) => {
                if !goes_on {
                    return;
                }
            }
            () = shared.maintenance_requested.notified() => {}
        }
    }
}

/// Waits until the next round is due, and summarises meanwhile. Returns false if `over` was cancelled first.
async fn await_round(shared: &WriteLoop, over: &CancellationToken) -> bool {
    let due = Instant::now() + shared.options.maintenance_interval;
    loop {
        let left = due.saturating_duration_since(Instant::now());
        if left <= SUMMARIES {
            return pause(left, over).await;
        }
        if !pause(SUMMARIES, over).await {
            return false;
        }
        if shared.problems.connected() {
            // The next round does it again, and reports why it fails.
            let _ = shared.store.summarise_written().await;
        }
    }
}

/// The state that is kept from one round to the next.
struct RoundOutcomes {
    gauges: MaintenanceGauges,
    read: Instant,
    /// Steps that failed because a lock or the server was busy. A step that is busy in two rounds in a row is reported
    /// as a problem.
    busy: BTreeSet<MaintenanceStep>,
    notice: Option<String>,
}

impl RoundOutcomes {
    fn note(
        &mut self,
        shared: &WriteLoop,
        began: Instant,
        found: Result<MaintenanceReport, StoreError>,
    ) {
        let found = found.unwrap_or_else(|error| MaintenanceReport {
            failures: vec![StepFailure {
                step: MaintenanceStep::Turn,
                error,
            }],
            notice: self.notice.clone(),
            ..MaintenanceReport::default()
        });
        self.gauges = found.gauges.or(self.gauges.after(self.read.elapsed()));
        self.read = Instant::now();
        if let Some(notice) = found.notice.as_ref().filter(|_| self.notice.is_none()) {
            tracing::warn!("{notice}");
        }
        self.notice = found.notice;
        let failures = found.failures;
        let failed: BTreeSet<_> = failures.iter().map(|failure| failure.step).collect();
        for step in failed {
            counter!(names::MAINTENANCE_FAILURES_TOTAL, "step" => step.as_str()).increment(1);
        }
        // The database is unavailable, or its schema is newer. The writer's next reconciliation reports it.
        if failures.iter().any(is_the_writers) {
            shared.reconcile_requested.notify_one();
        }
        let (passing, lasting): (Vec<_>, Vec<_>) = failures
            .iter()
            .filter(|failure| !is_the_writers(failure))
            .partition(|failure| failure.is_busy() && !self.busy.contains(&failure.step));
        if let Some(text) = sentence(&passing) {
            tracing::warn!("maintenance is left for the next round: {text}");
        }
        let problems = &shared.problems;
        match sentence(&lasting) {
            Some(text) => {
                let text = format!("the database's maintenance fails: {text}");
                tracing::warn!("{text}");
                problems.set_since(ProblemTopic::Maintenance, text, began);
            }
            None => problems.solve(ProblemTopic::Maintenance),
        }
        let busy = failures.iter().filter(|failure| failure.is_busy());
        self.busy = busy.map(|failure| failure.step).collect();
    }

    fn show(&self, shared: &WriteLoop) {
        let now = self.gauges.after(self.read.elapsed());
        if let Some(days) = now.partitions_ahead_days() {
            gauge!(names::PARTITIONS_AHEAD_DAYS).set(f64::from(days));
        }
        if let Some(days) = now.retention_overdue_days() {
            gauge!(names::RETENTION_OVERDUE_DAYS).set(f64::from(days));
        }
        if let Some(streams) = now.undrained_streams {
            let streams = u32::try_from(streams).unwrap_or(u32::MAX);
            gauge!(names::STREAMS_UNDRAINED).set(f64::from(streams));
        }
        let import = (now.import_v0_pending == Some(true)).then(|| IMPORT.to_owned());
        let notices = import.into_iter().chain(self.notice.clone());
        shared.problems.set_notices(notices.collect());
    }
}

fn is_the_writers(failure: &StepFailure) -> bool {
    matches!(
        failure.error,
        StoreError::Retry {
            class: FailureClass::Connection,
            ..
        } | StoreError::Schema(_)
    )
}

/// Returns the failures as one sentence, each once; `None` if there are none.
fn sentence(failures: &[&StepFailure]) -> Option<String> {
    let mut texts: Vec<String> = Vec::new();
    for failure in failures {
        let text = failure.error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let more = match texts.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    texts.truncate(NAMED);
    (!texts.is_empty()).then(|| format!("{}{more}", texts.join("; ")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::{
        FailureClass, MaintenanceStep, StepFailure, StoreError, run_maintenance, sentence,
    };
    use crate::journal::disk::OsDisk;
    use crate::journal::{self, Journal};
    use crate::store::{self, Store};
    use crate::write::failure_policy::FailurePolicy;
    use crate::write::problems::ProblemTopic;
    use crate::write::run::works_again;
    use crate::write::{self, WriteLoop};

    /// Returns a writer after its first contact, with a store whose file does not exist.
    fn writer(dir: &std::path::Path) -> WriteLoop {
        let journal = journal::Options::small(dir.join("journal"));
        let store = store::Options::sqlite_file(dir.join("telemetry.db"));
        let options = write::Options {
            maintenance_interval: Duration::from_secs(1_000_000),
            ..write::Options::default()
        };
        let journal = Journal::open(Arc::new(OsDisk), &journal).expect("a journal");
        let writer = WriteLoop::new(journal, Store::new(&store), options);
        writer.problems.set_connected();
        writer
    }

    async fn until(condition: impl Fn() -> bool) {
        let holds = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let patience = Duration::from_secs(30);
        tokio::time::timeout(patience, holds)
            .await
            .expect("in time");
    }

    /// PostgreSQL was available again and events were stored, but `/health` named the failed round of maintenance until
    /// the next one.
    #[tokio::test]
    async fn a_round_follows_at_once_when_writing_works_again() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let writer = writer(dir.path());
        let problems = &writer.problems;
        let over = CancellationToken::new();
        let outage = async {
            until(|| !problems.sentences().is_empty()).await;
            problems.set(ProblemTopic::Write, Some("it is away".to_owned()));
            writer.store.prepare().await.expect("it is back");
            works_again(&writer, &mut FailurePolicy::default());
            until(|| problems.sentences().is_empty()).await;
            over.cancel();
        };
        tokio::join!(run_maintenance(&writer, &over), outage);
    }

    fn failure(message: &str) -> StepFailure {
        StepFailure {
            step: MaintenanceStep::Retention,
            error: StoreError::retry(FailureClass::Schema, message.to_owned()),
        }
    }

    #[test]
    fn a_sentence_says_each_failure_once_and_counts_what_it_leaves_out() {
        let failures = ["a", "b", "a", "c", "d", "e"].map(failure);
        let failures: Vec<_> = failures.iter().collect();
        assert_eq!(sentence(&failures).as_deref(), Some("a; b; c; and 2 more"));
        assert_eq!(sentence(&[]), None);
    }
}
