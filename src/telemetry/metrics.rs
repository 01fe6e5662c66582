//! Every metric of the service, with its name, kind, unit and help; no other file declares one.
//!
//! **Invariant:** every name is described in [`ALL`], and every label's values are a closed set.

use metrics::Unit;

/// The recorder: descriptions, buckets, and the series that exist from the start.
pub mod recorder;

pub const RECEIVE_EVENTS_TOTAL: &str = "ruvvector_receive_events_total";
pub const RECEIVE_REQUESTS_TOTAL: &str = "ruvvector_receive_requests_total";
pub const RECEIVE_UNKNOWN_FIELDS_TOTAL: &str = "ruvvector_receive_unknown_fields_total";
pub const RECEIVE_BYTES_TOTAL: &str = "ruvvector_receive_bytes_total";
pub const RECEIVE_REQUEST_BYTES: &str = "ruvvector_receive_request_bytes";
pub const RECEIVE_INFLIGHT_REQUESTS: &str = "ruvvector_receive_inflight_requests";
pub const RECEIVE_INFLIGHT_BYTES: &str = "ruvvector_receive_inflight_bytes";
pub const RECEIVE_CONNECTIONS_FAILED_TOTAL: &str = "ruvvector_receive_connections_failed_total";
pub const RECEIVE_CONNECTIONS: &str = "ruvvector_receive_connections";
pub const RECEIVE_CONNECTIONS_MAX: &str = "ruvvector_receive_connections_max";
pub const RECEIVE_CONNECTIONS_DISPLACED_TOTAL: &str =
    "ruvvector_receive_connections_displaced_total";
pub const HTTP_SERVER_REQUEST_DURATION_SECONDS: &str = "http_server_request_duration_seconds";
pub const RPC_SERVER_CALL_DURATION_SECONDS: &str = "rpc_server_call_duration_seconds";
pub const READY: &str = "ruvvector_ready";
pub const QUEUE_EVENTS: &str = "ruvvector_queue_events";
pub const QUEUE_BYTES: &str = "ruvvector_queue_bytes";
pub const QUEUE_CAPACITY_BYTES: &str = "ruvvector_queue_capacity_bytes";
pub const QUEUE_OLDEST_SECONDS: &str = "ruvvector_queue_oldest_seconds";
pub const JOURNAL_SYNC_SECONDS: &str = "ruvvector_journal_sync_seconds";
pub const JOURNAL_APPEND_BYTES_TOTAL: &str = "ruvvector_journal_append_bytes_total";
pub const JOURNAL_SEGMENTS: &str = "ruvvector_journal_segments";
pub const JOURNAL_POSITION: &str = "ruvvector_journal_position";
pub const JOURNAL_VOLUME_FREE_BYTES: &str = "ruvvector_journal_volume_free_bytes";
pub const JOURNAL_VOLUME_SIZE_BYTES: &str = "ruvvector_journal_volume_size_bytes";
pub const JOURNAL_DAMAGED_RECORDS_TOTAL: &str = "ruvvector_journal_damaged_records_total";
pub const JOURNAL_RETAINED_SECONDS: &str = "ruvvector_journal_retained_seconds";
pub const WRITE_EVENTS_TOTAL: &str = "ruvvector_write_events_total";
pub const WRITE_BATCH_SECONDS: &str = "ruvvector_write_batch_seconds";
pub const WRITE_BATCH_EVENTS: &str = "ruvvector_write_batch_events";
pub const WRITE_FAILURES_TOTAL: &str = "ruvvector_write_failures_total";
pub const WRITE_LAST_SUCCESS_TIMESTAMP_SECONDS: &str =
    "ruvvector_write_last_success_timestamp_seconds";
pub const BACKLOG_AT_START_EVENTS: &str = "ruvvector_backlog_at_start_events";
pub const STREAMS_UNDRAINED: &str = "ruvvector_streams_undrained";
pub const STORED_GAPS_TOTAL: &str = "ruvvector_stored_gaps_total";
pub const RETENTION_OVERDUE_DAYS: &str = "ruvvector_retention_overdue_days";
pub const MAINTENANCE_FAILURES_TOTAL: &str = "ruvvector_maintenance_failures_total";
pub const DEAD_LETTERS_TOTAL: &str = "ruvvector_dead_letters_total";
pub const SANITIZED_TOTAL: &str = "ruvvector_sanitized_total";
pub const DUPLICATES_TOTAL: &str = "ruvvector_duplicates_total";
pub const CLIENT_CLOCK_SKEW_SECONDS: &str = "ruvvector_client_clock_skew_seconds";
pub const DB_UP: &str = "ruvvector_db_up";
pub const DB_POOL_CONNECTIONS: &str = "ruvvector_db_pool_connections";
pub const DB_POOL_MAX_CONNECTIONS: &str = "ruvvector_db_pool_max_connections";
pub const DB_POOL_WAIT_SECONDS: &str = "ruvvector_db_pool_wait_seconds";
pub const PARTITIONS_AHEAD_DAYS: &str = "ruvvector_partitions_ahead_days";
pub const QUERY_SECONDS: &str = "ruvvector_query_seconds";
pub const QUERY_INFLIGHT_BYTES: &str = "ruvvector_query_inflight_bytes";
pub const OWN_SPANS_TOTAL: &str = "ruvvector_own_spans_total";
pub const LOG_LINES_DROPPED_TOTAL: &str = "ruvvector_log_lines_dropped_total";
pub const BUILD_INFO: &str = "ruvvector_build_info";

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MetricKind {
    Counter,
    Gauge,
    /// A histogram with these upper bounds of buckets, ascending; `+Inf` is added.
    Histogram(&'static [f64]),
}

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

const fn counter(name: &'static str, unit: Unit, help: &'static str) -> MetricDefinition {
    MetricDefinition {
        name,
        kind: MetricKind::Counter,
        unit,
        help,
    }
}

const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> MetricDefinition {
    MetricDefinition {
        name,
        kind: MetricKind::Gauge,
        unit,
        help,
    }
}

const fn histogram(
    name: &'static str,
    unit: Unit,
    buckets: &'static [f64],
    help: &'static str,
) -> MetricDefinition {
    MetricDefinition {
        name,
        kind: MetricKind::Histogram(buckets),
        unit,
        help,
    }
}

/// All metrics that this service defines; the crate for `process_*` describes its own.
#[rustfmt::skip]
pub const ALL: &[MetricDefinition] = &[
    counter(RECEIVE_EVENTS_TOTAL, Unit::Count, "Events that were received, by outcome: accepted ones are durable in the journal, rejected ones are invalid."),
    counter(RECEIVE_REQUESTS_TOTAL, Unit::Count, "Requests to an endpoint that accepts events, by outcome. 404, 414, 431, 501 and a wrong Host count in http_server_request_duration_seconds alone."),
    counter(RECEIVE_UNKNOWN_FIELDS_TOTAL, Unit::Count, "Members of events of /ingest that are not fields of an event: kept in the metadata, or left out because the metadata has that key or would exceed its limits."),
    counter(RECEIVE_BYTES_TOTAL, Unit::Bytes, "Bytes of request bodies as sent, before any content encoding is undone."),
    histogram(RECEIVE_REQUEST_BYTES, Unit::Bytes, BYTES, "Size of a request body as sent, before any content encoding is undone."),
    gauge(RECEIVE_INFLIGHT_REQUESTS, Unit::Count, "Requests in flight at the endpoints that accept events."),
    gauge(RECEIVE_INFLIGHT_BYTES, Unit::Bytes, "Memory reserved for the bodies of requests in flight."),
    counter(RECEIVE_CONNECTIONS_FAILED_TOTAL, Unit::Count, "Connections that sent no valid HTTP, broke off within a request, or were closed by this process because they were too slow."),
    gauge(RECEIVE_CONNECTIONS, Unit::Count, "Open connections, on all ports together."),
    gauge(RECEIVE_CONNECTIONS_MAX, Unit::Count, "Maximum number of open connections; beyond it the main port serves health and metrics alone."),
    counter(RECEIVE_CONNECTIONS_DISPLACED_TOTAL, Unit::Count, "Idle connections that were closed to make room for others."),
    histogram(HTTP_SERVER_REQUEST_DURATION_SECONDS, Unit::Seconds, SECONDS, "Time from a request's head to its answer."),
    histogram(RPC_SERVER_CALL_DURATION_SECONDS, Unit::Seconds, SECONDS, "Time from a gRPC call's head to its answer, or to the first of its answers."),
    gauge(READY, Unit::Count, "1 while the service accepts events: recovered, listening, its journal sound, not stopping."),
    gauge(QUEUE_EVENTS, Unit::Count, "Events in the journal that are not stored in the database yet."),
    gauge(QUEUE_BYTES, Unit::Bytes, "Bytes of the journal that are not stored in the database yet."),
    gauge(QUEUE_CAPACITY_BYTES, Unit::Bytes, "Maximum size of the journal."),
    gauge(QUEUE_OLDEST_SECONDS, Unit::Seconds, "Age of the oldest event that is not stored in the database; 0 if all are stored."),
    histogram(JOURNAL_SYNC_SECONDS, Unit::Seconds, SECONDS, "Duration of one sync of the journal to disk."),
    counter(JOURNAL_APPEND_BYTES_TOTAL, Unit::Bytes, "Bytes written to the journal, including padding."),
    gauge(JOURNAL_SEGMENTS, Unit::Count, "Segment files of the journal on disk."),
    gauge(JOURNAL_POSITION, Unit::Count, "Position of the newest record of the live stream that is appended, synced, or stored together with all before it."),
    gauge(JOURNAL_VOLUME_FREE_BYTES, Unit::Bytes, "Free space of the journal's volume."),
    gauge(JOURNAL_VOLUME_SIZE_BYTES, Unit::Bytes, "Size of the journal's volume."),
    counter(JOURNAL_DAMAGED_RECORDS_TOTAL, Unit::Count, "Records of the journal that were damaged on disk or are missing from every file; they become dead letters."),
    gauge(JOURNAL_RETAINED_SECONDS, Unit::Seconds, "Age of the oldest stored record that the journal still keeps."),
    counter(WRITE_EVENTS_TOTAL, Unit::Count, "Events committed to the database."),
    histogram(WRITE_BATCH_SECONDS, Unit::Seconds, SECONDS, "Duration of one batch, from its first statement to its commit."),
    histogram(WRITE_BATCH_EVENTS, Unit::Count, EVENTS, "Events in one committed batch."),
    counter(WRITE_FAILURES_TOTAL, Unit::Count, "Batches that failed and were retried, by class of failure."),
    gauge(WRITE_LAST_SUCCESS_TIMESTAMP_SECONDS, Unit::Seconds, "Unix time of the last commit."),
    gauge(BACKLOG_AT_START_EVENTS, Unit::Count, "Events that were in the journal and not stored when the process started."),
    gauge(STREAMS_UNDRAINED, Unit::Count, "Streams of collectors that stopped with events that are not stored; `journal drain` empties their directories."),
    counter(STORED_GAPS_TOTAL, Unit::Count, "Ranges of positions that the database lost and the journal no longer holds."),
    gauge(RETENTION_OVERDUE_DAYS, Unit::Count, "Days that are past their retention and not removed yet."),
    counter(MAINTENANCE_FAILURES_TOTAL, Unit::Count, "Rounds of maintenance in which a step failed, by step; the next round retries it."),
    counter(DEAD_LETTERS_TOTAL, Unit::Count, "Events that became dead letters in telemetry_dead_letters, by reason."),
    counter(SANITIZED_TOTAL, Unit::Count, "Changes made to events so that they can be stored, by reason."),
    counter(DUPLICATES_TOTAL, Unit::Count, "Events of repeated requests, which were in the journal already."),
    histogram(CLIENT_CLOCK_SKEW_SECONDS, Unit::Seconds, SKEW, "Distance between the latest time of a request's events and the request's receive time, ahead or behind."),
    gauge(DB_UP, Unit::Count, "1 while the database that is written to answers."),
    gauge(DB_POOL_CONNECTIONS, Unit::Count, "Connections to the database, by pool and state."),
    gauge(DB_POOL_MAX_CONNECTIONS, Unit::Count, "Maximum number of connections of a pool."),
    histogram(DB_POOL_WAIT_SECONDS, Unit::Seconds, SECONDS, "Time spent waiting for a connection of a pool."),
    gauge(PARTITIONS_AHEAD_DAYS, Unit::Count, "Days ahead of today that have a partition."),
    histogram(QUERY_SECONDS, Unit::Seconds, SECONDS, "Duration of a query, in the database and until its answer is written, by route."),
    gauge(QUERY_INFLIGHT_BYTES, Unit::Bytes, "Memory reserved for answers to queries, in addition to the base of up to 1 MiB of each query."),
    counter(OWN_SPANS_TOTAL, Unit::Count, "Spans of the service's own traces: exported, failed to be exported, or dropped because the queue was full."),
    counter(LOG_LINES_DROPPED_TOTAL, Unit::Count, "Log lines of the service that were lost because standard error was not read fast enough or could not be written."),
    gauge(BUILD_INFO, Unit::Count, "Always 1; its labels identify the build."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALL, MetricKind};

    #[test]
    fn every_name_of_this_file_is_described_once() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len(), "a name is described twice");
        let declared = include_str!("metrics.rs")
            .lines()
            .filter(|line| line.starts_with("pub const ") && line.contains(": &str ="))
            .count();
        assert_eq!(declared, ALL.len());
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
