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
use crate::journal::JournalStatus;
use crate::lifecycle::Phase;
use crate::store::PoolState;
use crate::telemetry::connection_counts::ConnectionState;
use crate::telemetry::metrics as names;

/// Prometheus 3 refuses a page without a content type that it knows (text format 0.0.4).
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) async fn metrics(State(watch): State<HealthMonitor>) -> impl IntoResponse {
    let report = watch.report().await;
    refresh(&report);
    metrics_process::Collector::default().collect();
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        watch.handle().render(),
    )
}

/// Sets the gauges to their current values.
fn refresh(report: &HealthReport) {
    gauge!(names::READY).set(f64::from(report.phase == Phase::Ready));
    gauge!(names::DB_UP).set(f64::from(report.pulse.database.is_some()));
    gauge!(names::QUEUE_OLDEST_SECONDS).set(report.oldest_seconds());
    count_gauges(&report.journal, report.connections);
    let [write, read] = report.pools;
    pool_gauges("write", write);
    pool_gauges("read", read);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a double; counts past 2^53 are shown rounded"
)]
fn count_gauges(journal: &JournalStatus, connections: ConnectionState) {
    for (name, value) in [
        (names::QUEUE_EVENTS, journal.queue_events),
        (names::QUEUE_BYTES, journal.queue_bytes),
        (names::QUEUE_CAPACITY_BYTES, journal.capacity_bytes),
        (names::JOURNAL_SEGMENTS, journal.segments),
        (names::JOURNAL_VOLUME_FREE_BYTES, journal.volume_free_bytes),
        (names::JOURNAL_VOLUME_SIZE_BYTES, journal.volume_size_bytes),
        (names::JOURNAL_RETAINED_SECONDS, journal.retained_seconds),
        (
            names::BACKLOG_AT_START_EVENTS,
            journal.backlog_at_start_events,
        ),
        (names::RECEIVE_CONNECTIONS, connections.open as u64),
        (names::RECEIVE_CONNECTIONS_MAX, connections.max as u64),
    ] {
        gauge!(name).set(value as f64);
    }
    for (position, value) in [
        ("appended", journal.appended),
        ("synced", journal.synced),
        ("stored", journal.stored),
    ] {
        gauge!(names::JOURNAL_POSITION, "position" => position).set(value as f64);
    }
}

fn pool_gauges(pool: &'static str, state: PoolState) {
    let used = state.size.saturating_sub(state.idle);
    gauge!(names::DB_POOL_CONNECTIONS, "pool" => pool, "state" => "idle").set(state.idle);
    gauge!(names::DB_POOL_CONNECTIONS, "pool" => pool, "state" => "used").set(used);
    gauge!(names::DB_POOL_MAX_CONNECTIONS, "pool" => pool).set(state.max);
}
