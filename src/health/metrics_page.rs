//! Answers `GET /metrics`: the counters, and gauges that are read for each scrape.
//!
//! **Invariant:** a scrape never waits for the disk. It waits for the database only until the first check for liveness
//! has ended, in bounded time.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use metrics::gauge;

use crate::health::health_report::HealthReport;
use crate::health::monitor::HealthMonitor;
use crate::lifecycle::Phase;
use crate::telemetry::metrics::{
    BACKLOG_AT_START_EVENTS, DB_POOL_CONNECTIONS, DB_POOL_MAX_CONNECTIONS, DB_UP, JOURNAL_POSITION,
    JOURNAL_RETAINED_SECONDS, JOURNAL_SEGMENTS, JOURNAL_VOLUME_FREE_BYTES,
    JOURNAL_VOLUME_SIZE_BYTES, QUEUE_BYTES, QUEUE_CAPACITY_BYTES, QUEUE_EVENTS,
    QUEUE_OLDEST_SECONDS, READY, RECEIVE_CONNECTIONS, RECEIVE_CONNECTIONS_MAX,
};

/// Prometheus 3 refuses a page without a content type that it knows (text format 0.0.4).
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn metrics(State(monitor): State<HealthMonitor>) -> impl IntoResponse {
    let report = monitor.report().await;
    refresh(&report);
    metrics_process::Collector::default().collect();
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        monitor.handle().render(),
    )
}

/// Sets the gauges to their current values.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a double; counts past 2^53 are shown rounded"
)]
fn refresh(report: &HealthReport) {
    let (journal, connections) = (&report.journal, report.connections);
    for (name, value) in [
        (QUEUE_EVENTS, journal.queue_events),
        (QUEUE_BYTES, journal.queue_bytes),
        (QUEUE_CAPACITY_BYTES, journal.capacity_bytes),
        (JOURNAL_SEGMENTS, journal.segments),
        (JOURNAL_VOLUME_FREE_BYTES, journal.volume_free_bytes),
        (JOURNAL_VOLUME_SIZE_BYTES, journal.volume_size_bytes),
        (JOURNAL_RETAINED_SECONDS, journal.retained_seconds),
        (BACKLOG_AT_START_EVENTS, journal.backlog_at_start_events),
        (RECEIVE_CONNECTIONS, connections.open as u64),
        (RECEIVE_CONNECTIONS_MAX, connections.max as u64),
        (READY, u64::from(report.phase == Phase::Ready)),
        (DB_UP, u64::from(report.liveness.database.is_some())),
    ] {
        gauge!(name).set(value as f64);
    }
    gauge!(QUEUE_OLDEST_SECONDS).set(report.oldest_seconds());
    for (position, value) in [
        ("appended", journal.appended),
        ("synced", journal.synced),
        ("stored", journal.stored),
    ] {
        gauge!(JOURNAL_POSITION, "position" => position).set(value as f64);
    }
    for (pool, state) in ["write", "read"].into_iter().zip(report.pools) {
        let used = state.size.saturating_sub(state.idle);
        gauge!(DB_POOL_CONNECTIONS, "pool" => pool, "state" => "idle").set(state.idle);
        gauge!(DB_POOL_CONNECTIONS, "pool" => pool, "state" => "used").set(used);
        gauge!(DB_POOL_MAX_CONNECTIONS, "pool" => pool).set(state.max);
    }
}
