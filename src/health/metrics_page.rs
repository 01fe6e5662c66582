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
use crate::journal;
use crate::lifecycle::Phase;
use crate::store::PoolState;
use crate::telemetry::connection_counts::ConnectionState;

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
    gauge!(crate::telemetry::metrics::READY).set(f64::from(report.phase == Phase::Ready));
    gauge!(crate::telemetry::metrics::DB_UP).set(f64::from(report.pulse.database.is_some()));
    journal_gauges(&report.journal, report.oldest_seconds());
    connection_gauges(report.connections);
    let [write, read] = report.pools;
    pool_gauges("write", write);
    pool_gauges("read", read);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a double; counts past 2^53 are shown rounded"
)]
fn journal_gauges(journal: &journal::JournalStatus, oldest_seconds: f64) {
    gauge!(crate::telemetry::metrics::QUEUE_EVENTS).set(journal.queue_events as f64);
    gauge!(crate::telemetry::metrics::QUEUE_BYTES).set(journal.queue_bytes as f64);
    gauge!(crate::telemetry::metrics::QUEUE_CAPACITY_BYTES).set(journal.capacity_bytes as f64);
    gauge!(crate::telemetry::metrics::QUEUE_OLDEST_SECONDS).set(oldest_seconds);
    gauge!(crate::telemetry::metrics::JOURNAL_SEGMENTS).set(journal.segments as f64);
    gauge!(crate::telemetry::metrics::JOURNAL_POSITION, "position" => "appended")
        .set(journal.appended as f64);
    gauge!(crate::telemetry::metrics::JOURNAL_POSITION, "position" => "synced")
        .set(journal.synced as f64);
    gauge!(crate::telemetry::metrics::JOURNAL_POSITION, "position" => "stored")
        .set(journal.stored as f64);
    gauge!(crate::telemetry::metrics::JOURNAL_VOLUME_FREE_BYTES)
        .set(journal.volume_free_bytes as f64);
    gauge!(crate::telemetry::metrics::JOURNAL_VOLUME_SIZE_BYTES)
        .set(journal.volume_size_bytes as f64);
    gauge!(crate::telemetry::metrics::JOURNAL_RETAINED_SECONDS)
        .set(journal.retained_seconds as f64);
    gauge!(crate::telemetry::metrics::BACKLOG_AT_START_EVENTS)
        .set(journal.backlog_at_start_events as f64);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no machine has 2^53 connections"
)]
fn connection_gauges(state: ConnectionState) {
    gauge!(crate::telemetry::metrics::RECEIVE_CONNECTIONS).set(state.open as f64);
    gauge!(crate::telemetry::metrics::RECEIVE_CONNECTIONS_MAX).set(state.max as f64);
}

fn pool_gauges(pool: &'static str, state: PoolState) {
    let used = state.size.saturating_sub(state.idle);
    gauge!(crate::telemetry::metrics::DB_POOL_CONNECTIONS, "pool" => pool, "state" => "idle")
        .set(state.idle);
    gauge!(crate::telemetry::metrics::DB_POOL_CONNECTIONS, "pool" => pool, "state" => "used")
        .set(used);
    gauge!(crate::telemetry::metrics::DB_POOL_MAX_CONNECTIONS, "pool" => pool).set(state.max);
}
