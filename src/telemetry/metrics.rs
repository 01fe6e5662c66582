//! Every metric of the service, with its name, kind, unit and help; no other file declares one.
//!
//! **Invariant:** every name is in [`ALL`], and every label's values are a closed set.

use metrics::Unit;

/// The recorder: descriptions, buckets, and the series that exist from the start.
pub mod recorder;

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    Counter,
    Gauge,
    /// A histogram with these upper bounds of buckets, ascending; `+Inf` is added.
    Histogram(&'static [f64]),
}

use MetricKind::{Counter, Gauge, Histogram};

/// A metric as `/metrics` describes it.
#[derive(Clone, Copy, Debug)]
pub struct MetricDefinition {
    pub name: &'static str,
    pub kind: MetricKind,
    pub unit: Unit,
    pub help: &'static str,
}

/// Buckets from 0.25 ms, as an answer after the journal's sync takes about 1 ms, to 30 s.
const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];
/// Buckets from one small event to the largest request.
const BYTES: &[f64] = &[
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Buckets from one event to the largest batch; a larger batch is a single record.
const EVENTS: &[f64] = &[
    1.0, 10.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 50_000.0,
];
/// Buckets from the precision of NTP to a clock that is wrong by days.
const SKEW: &[f64] = &[0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, 86_400.0];

/// Declares, for each metric, a constant with its name, and the table [`ALL`].
macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:expr, $unit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// All metrics that this service defines; the crate for `process_*` describes its own.
        pub const ALL: &[MetricDefinition] = &[$(MetricDefinition {
            name: $name,
            kind: $kind,
            unit: Unit::$unit,
            help: $help,
        }),*];
    };
}

metrics! {
    RECEIVE_EVENTS_TOTAL = "ruvvector_receive_events_total", Counter, Count, "Events that were received, by outcome: accepted ones are durable in the journal, rejected ones are invalid.";
    RECEIVE_REQUESTS_TOTAL = "ruvvector_receive_requests_total", Counter, Count, "Requests to an endpoint that accepts events, by outcome. 404, 414, 431, 501 and a wrong Host count in http_server_request_duration_seconds alone.";
    RECEIVE_UNKNOWN_FIELDS_TOTAL = "ruvvector_receive_unknown_fields_total", Counter, Count, "Members of events of /ingest that are not fields of an event: kept in the metadata, or left out because the metadata has that key or would exceed its limits.";
    RECEIVE_BYTES_TOTAL = "ruvvector_receive_bytes_total", Counter, Bytes, "Bytes of request bodies as sent, before any content encoding is undone.";
    RECEIVE_REQUEST_BYTES = "ruvvector_receive_request_bytes", Histogram(BYTES), Bytes, "Size of a request body as sent, before any content encoding is undone.";
    RECEIVE_INFLIGHT_REQUESTS = "ruvvector_receive_inflight_requests", Gauge, Count, "Requests in flight at the endpoints that accept events.";
    RECEIVE_INFLIGHT_BYTES = "ruvvector_receive_inflight_bytes", Gauge, Bytes, "Memory reserved for the bodies of requests in flight.";
    RECEIVE_CONNECTIONS_FAILED_TOTAL = "ruvvector_receive_connections_failed_total", Counter, Count, "Connections that sent no valid HTTP, broke off within a request, or were closed by this process because they were too slow.";
    RECEIVE_CONNECTIONS = "ruvvector_receive_connections", Gauge, Count, "Open connections, on all ports together.";
    RECEIVE_CONNECTIONS_MAX = "ruvvector_receive_connections_max", Gauge, Count, "Maximum number of open connections; beyond it the main port serves health and metrics alone.";
    RECEIVE_CONNECTIONS_DISPLACED_TOTAL = "ruvvector_receive_connections_displaced_total", Counter, Count, "Idle connections that were closed to make room for others.";
    HTTP_SERVER_REQUEST_DURATION_SECONDS = "http_server_request_duration_seconds", Histogram(SECONDS), Seconds, "Time from a request's head to its answer.";
    RPC_SERVER_CALL_DURATION_SECONDS = "rpc_server_call_duration_seconds", Histogram(SECONDS), Seconds, "Time from a gRPC call's head to its answer, or to the first of its answers.";
    READY = "ruvvector_ready", Gauge, Count, "1 while the service accepts events: recovered, listening, its journal sound, not stopping.";
    QUEUE_EVENTS = "ruvvector_queue_events", Gauge, Count, "Events in the journal that are not stored in the database yet.";
    QUEUE_BYTES = "ruvvector_queue_bytes", Gauge, Bytes, "Bytes of the journal that are not stored in the database yet.";
    QUEUE_CAPACITY_BYTES = "ruvvector_queue_capacity_bytes", Gauge, Bytes, "Maximum size of the journal.";
    QUEUE_OLDEST_SECONDS = "ruvvector_queue_oldest_seconds", Gauge, Seconds, "Age of the oldest event that is not stored in the database; 0 if all are stored.";
    JOURNAL_SYNC_SECONDS = "ruvvector_journal_sync_seconds", Histogram(SECONDS), Seconds, "Duration of one sync of the journal to disk.";
    JOURNAL_APPEND_BYTES_TOTAL = "ruvvector_journal_append_bytes_total", Counter, Bytes, "Bytes written to the journal, including padding.";
    JOURNAL_SEGMENTS = "ruvvector_journal_segments", Gauge, Count, "Segment files of the journal on disk.";
    JOURNAL_POSITION = "ruvvector_journal_position", Gauge, Count, "Position of the newest record of the live stream that is appended, synced, or stored together with all before it.";
    JOURNAL_VOLUME_FREE_BYTES = "ruvvector_journal_volume_free_bytes", Gauge, Bytes, "Free space of the journal's volume.";
    JOURNAL_VOLUME_SIZE_BYTES = "ruvvector_journal_volume_size_bytes", Gauge, Bytes, "Size of the journal's volume.";
    JOURNAL_DAMAGED_RECORDS_TOTAL = "ruvvector_journal_damaged_records_total", Counter, Count, "Records of the journal that were damaged on disk or are missing from every file; they become dead letters.";
    JOURNAL_RETAINED_SECONDS = "ruvvector_journal_retained_seconds", Gauge, Seconds, "Age of the oldest stored record that the journal still keeps.";
    WRITE_EVENTS_TOTAL = "ruvvector_write_events_total", Counter, Count, "Events committed to the database.";
    WRITE_BATCH_SECONDS = "ruvvector_write_batch_seconds", Histogram(SECONDS), Seconds, "Duration of one batch, from its first statement to its commit.";
    WRITE_BATCH_EVENTS = "ruvvector_write_batch_events", Histogram(EVENTS), Count, "Events in one committed batch.";
    WRITE_FAILURES_TOTAL = "ruvvector_write_failures_total", Counter, Count, "Batches that failed and were retried, by class of failure.";
    WRITE_LAST_SUCCESS_TIMESTAMP_SECONDS = "ruvvector_write_last_success_timestamp_seconds", Gauge, Seconds, "Unix time of the last commit.";
    BACKLOG_AT_START_EVENTS = "ruvvector_backlog_at_start_events", Gauge, Count, "Events that were in the journal and not stored when the process started.";
    STREAMS_UNDRAINED = "ruvvector_streams_undrained", Gauge, Count, "Streams of collectors that stopped with events that are not stored; `journal drain` empties their directories.";
    STORED_GAPS_TOTAL = "ruvvector_stored_gaps_total", Counter, Count, "Ranges of positions that the database lost and the journal no longer holds.";
    RETENTION_OVERDUE_DAYS = "ruvvector_retention_overdue_days", Gauge, Count, "Days that are past their retention and not removed yet.";
    MAINTENANCE_FAILURES_TOTAL = "ruvvector_maintenance_failures_total", Counter, Count, "Rounds of maintenance in which a step failed, by step; the next round retries it.";
    DEAD_LETTERS_TOTAL = "ruvvector_dead_letters_total", Counter, Count, "Events that became dead letters in telemetry_dead_letters, by reason.";
    SANITIZED_TOTAL = "ruvvector_sanitized_total", Counter, Count, "Changes made to events so that they can be stored, by reason.";
    DUPLICATES_TOTAL = "ruvvector_duplicates_total", Counter, Count, "Events of repeated requests, which were in the journal already.";
    CLIENT_CLOCK_SKEW_SECONDS = "ruvvector_client_clock_skew_seconds", Histogram(SKEW), Seconds, "Distance between the latest time of a request's events and the request's receive time, ahead or behind.";
    DB_UP = "ruvvector_db_up", Gauge, Count, "1 while the database that is written to answers.";
    DB_POOL_CONNECTIONS = "ruvvector_db_pool_connections", Gauge, Count, "Connections to the database, by pool and state.";
    DB_POOL_MAX_CONNECTIONS = "ruvvector_db_pool_max_connections", Gauge, Count, "Maximum number of connections of a pool.";
    DB_POOL_WAIT_SECONDS = "ruvvector_db_pool_wait_seconds", Histogram(SECONDS), Seconds, "Time spent waiting for a connection of a pool.";
    PARTITIONS_AHEAD_DAYS = "ruvvector_partitions_ahead_days", Gauge, Count, "Days ahead of today that have a partition.";
    QUERY_SECONDS = "ruvvector_query_seconds", Histogram(SECONDS), Seconds, "Duration of a query, in the database and until its answer is written, by route.";
    QUERY_INFLIGHT_BYTES = "ruvvector_query_inflight_bytes", Gauge, Bytes, "Memory reserved for answers to queries, in addition to the base of up to 1 MiB of each query.";
    OWN_SPANS_TOTAL = "ruvvector_own_spans_total", Counter, Count, "Spans of the service's own traces: exported, failed to be exported, or dropped because the queue was full.";
    LOG_LINES_DROPPED_TOTAL = "ruvvector_log_lines_dropped_total", Counter, Count, "Log lines of the service that were lost because standard error was not read fast enough or could not be written.";
    BUILD_INFO = "ruvvector_build_info", Gauge, Count, "Always 1; its labels identify the build.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, MetricKind};

    #[test]
    fn every_name_is_declared_once() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn names_and_buckets_follow_prometheus_conventions() {
        for metric in ALL {
            let counter = metric.kind == MetricKind::Counter;
            assert_eq!(metric.name.ends_with("_total"), counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            if let MetricKind::Histogram(buckets) = metric.kind {
                assert!(buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }
}
