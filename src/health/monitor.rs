//! Reads the facts for health and metrics, and keeps them fresh in the background.
//!
//! **Invariant:** no answer waits for the database, except the first ones, which wait in bounded time for the first
//! check for liveness. The checks run in the background.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::health::health_report::HealthReport;
use crate::journal::Journal;
use crate::lifecycle::{Lifecycle, Phase};
use crate::store::{Liveness, Store};
use crate::telemetry::connection_counts::ConnectionCounts;
use crate::write::Progress;

/// Interval and timeout of the checks for the database's liveness.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between checks until the first answer.
const FIRST_CHECK_PAUSE: Duration = Duration::from_millis(50);
/// Interval at which samples of histograms are folded into their buckets. Otherwise they would accumulate between
/// scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The sources of the facts for health and metrics.
#[derive(Clone)]
pub struct HealthSources {
    pub journal: Journal,
    pub store: Store,
    pub connections: ConnectionCounts,
    pub progress: Progress,
    pub lifecycle: Lifecycle,
    /// Warnings that were reported at the start; see [`crate::config::warnings`].
    pub warnings: Vec<String>,
}

/// The sources and the background work. Cheap to clone.
#[derive(Clone)]
pub struct HealthMonitor(Arc<MonitorState>);

struct MonitorState {
    sources: HealthSources,
    handle: PrometheusHandle,
    started: Instant,
    /// The result of the last check for liveness; `None` until the first one has ended or timed out.
    liveness: watch::Receiver<Option<Liveness>>,
    /// Aborted when the last clone is dropped.
    _background: JoinSet<()>,
}

impl HealthMonitor {
    /// Starts the background work (checks of the database, upkeep of histograms), which ends when the last clone is
    /// dropped. Must be called on the runtime.
    pub fn start(sources: HealthSources, handle: PrometheusHandle) -> Self {
        let (sender, liveness) = watch::channel(None);
        let mut background = JoinSet::new();
        let progress = sources.progress.clone();
        background.spawn(check_for_ever(sources.store.clone(), progress, sender));
        background.spawn(upkeep_for_ever(handle.clone()));
        Self(Arc::new(MonitorState {
            sources,
            handle,
            started: Instant::now(),
            liveness,
            _background: background,
        }))
    }

    pub(crate) fn handle(&self) -> &PrometheusHandle {
        &self.0.handle
    }

    pub(crate) fn phase(&self) -> Phase {
        let sources = &self.0.sources;
        if sources.journal.is_broken() {
            return Phase::Broken;
        }
        sources.lifecycle.phase()
    }

    /// Returns the current facts. Waits only for the first check for liveness, at most [`CHECK_TIMEOUT`].
    pub(crate) async fn report(&self) -> HealthReport {
        let mut first = self.0.liveness.clone();
        let _ = timeout(CHECK_TIMEOUT, first.wait_for(Option::is_some)).await;
        let liveness = self.0.liveness.borrow().unwrap_or_default();
        let sources = &self.0.sources;
        let journal = sources.journal.status();
        HealthReport {
            phase: self.phase(),
            journal,
            liveness,
            writing: sources.progress.connected(),
            awaits_first_contact: sources.progress.awaits_first_contact(),
            connections: sources.connections.state(),
            pools: sources.store.pools(),
            kind: sources.store.kind(),
            problems_found: sources.progress.problems(),
            notices: [sources.progress.notices(), sources.warnings.clone()].concat(),
            uptime: self.0.started.elapsed(),
            now: SystemTime::now(),
        }
    }
}

async fn check_for_ever(store: Store, progress: Progress, sender: watch::Sender<Option<Liveness>>) {
    sender.send_replace(Some(first_check(&store, &progress).await));
    loop {
        sleep(CHECK_INTERVAL).await;
        sender.send_replace(Some(store.check_liveness(CHECK_TIMEOUT).await));
    }
}

/// Repeats the check while the first contact lasts. Before that, SQLite's file does not exist or is locked by its first
/// migration.
async fn first_check(store: &Store, progress: &Progress) -> Liveness {
    let end = Instant::now() + CHECK_TIMEOUT;
    loop {
        // It is read first, so that the database is checked once more after the first contact has ended.
        let is_last = !progress.awaits_first_contact();
        let left = end.saturating_duration_since(Instant::now());
        let liveness = store.check_liveness(left).await;
        if liveness.database.is_some() || is_last || Instant::now() >= end {
            return liveness;
        }
        sleep(FIRST_CHECK_PAUSE).await;
    }
}

async fn upkeep_for_ever(handle: PrometheusHandle) {
    let mut ticks = interval(UPKEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::journal;
    use crate::journal::disk::OsDisk;
    use crate::store;

    fn sources(dir: &Path) -> HealthSources {
        let journal = journal::Options::small(dir.join("journal"));
        let store = store::Options::sqlite_file(dir.join("telemetry.db"));
        HealthSources {
            journal: Journal::open(Arc::new(OsDisk), &journal).expect("a journal"),
            store: Store::new(&store),
            connections: ConnectionCounts::new(0, Arc::new(tokio::sync::Semaphore::new(0))),
            progress: Progress::default(),
            lifecycle: Lifecycle::default(),
            warnings: Vec::new(),
        }
    }

    /// SQLite's file was checked before the writer had made it in a new directory: for two seconds `/health` reported
    /// that the database did not answer, although events were stored.
    #[tokio::test]
    async fn the_first_answer_waits_until_a_new_file_of_sqlite_is_made() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let sources = sources(dir.path());
        let store = sources.store.clone();
        let handle = PrometheusBuilder::new().build_recorder().handle();
        let monitor = HealthMonitor::start(sources, handle);
        let made = async {
            sleep(4 * FIRST_CHECK_PAUSE).await;
            store.prepare().await.expect("first contact");
        };
        let (report, ()) = tokio::join!(monitor.report(), made);
        assert!(report.liveness.database.is_some());
    }
}
