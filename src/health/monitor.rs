//! What health and metrics are read from, and the background work that keeps it fresh.
//!
//! **Invariant:** no answer waits for the database, but the very first ones for its first sign of life: that is asked for in
//! the background, in bounded time.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::health::health_report::HealthReport;
use crate::journal::Journal;
use crate::lifecycle::{Phase, Readiness};
use crate::store::{Liveness, Store};
use crate::telemetry::connection_counts::ConnectionCounts;
use crate::write::Progress;

/// How often the database is asked for a sign of life, and how long that may take.
const PULSE_INTERVAL: Duration = Duration::from_secs(2);
const PULSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often samples of histograms are folded into their buckets; without it they would pile up between scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// What health and metrics are read from.
#[derive(Clone)]
pub struct HealthSources {
    pub journal: Journal,
    pub store: Store,
    pub connections: ConnectionCounts,
    pub progress: Progress,
    pub readiness: Readiness,
    /// What was said at the start; see [`super::warnings`].
    pub warnings: Vec<String>,
}

/// The sources with the background work; cheap to clone.
#[derive(Clone)]
pub struct HealthMonitor(Arc<MonitorState>);

struct MonitorState {
    sources: HealthSources,
    handle: PrometheusHandle,
    started: Instant,
    /// `None` until the first has come back or run out of time.
    pulse: watch::Receiver<Option<Liveness>>,
    /// Ends with the last clone.
    _background: JoinSet<()>,
}

impl HealthMonitor {
    /// Starts the background work (the database's pulse, the upkeep of histograms), which ends with the last clone: call it
    /// on the runtime.
    pub fn start(sources: HealthSources, handle: PrometheusHandle) -> Self {
        let (told, pulse) = watch::channel(None);
        let mut background = JoinSet::new();
        background.spawn(pulse_for_ever(sources.store.clone(), told));
        background.spawn(upkeep_for_ever(handle.clone()));
        Self(Arc::new(MonitorState {
            sources,
            handle,
            started: Instant::now(),
            pulse,
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
        sources.readiness.phase()
    }

    /// What is known now. Waits only at the very start, for the first pulse, and no longer than that may take.
    pub(crate) async fn report(&self) -> HealthReport {
        let mut first = self.0.pulse.clone();
        let _ = timeout(PULSE_TIMEOUT, first.wait_for(Option::is_some)).await;
        let pulse = self.0.pulse.borrow().unwrap_or_default();
        let sources = &self.0.sources;
        let journal = sources.journal.status();
        HealthReport {
            phase: self.phase(),
            journal,
            pulse,
            writing: sources.progress.connected(),
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

async fn pulse_for_ever(store: Store, told: watch::Sender<Option<Liveness>>) {
    let mut ticks = interval(PULSE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        told.send_replace(Some(store.check_liveness(PULSE_TIMEOUT).await));
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
