//! The recorder behind the `metrics` macros: descriptions, buckets, and the series that exist from the start.
//!
//! **Invariant:** every counter that a dashboard or an alert reads exists from the start, with 0: a rate over a series
//! that appears with its first event misses that event.

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::event::Sanitized;
use crate::telemetry::metrics::*;
use crate::telemetry::{REVISION, RequestOutcome, VERSION};

/// The sources of events, each with a signal that it receives.
const SOURCES: &[(&str, &str)] = &[
    ("native", "event"),
    ("otlp_http", "span"),
    ("otlp_http", "log"),
    ("otlp_http", "metric"),
    ("otlp_grpc", "span"),
    ("otlp_grpc", "log"),
    ("otlp_grpc", "metric"),
];
const EVENT_OUTCOMES: &[&str] = &["accepted", "rejected"];
/// Members of events of `/ingest` that are not fields of an event.
const FIELD_OUTCOMES: &[&str] = &["kept", "left_out"];
const SPAN_OUTCOMES: &[&str] = &["exported", "failed", "dropped"];

/// Makes the process's recorder and installs it behind the macros.
///
/// # Errors
/// A sentence, if a recorder was installed before.
pub fn install() -> Result<PrometheusHandle, String> {
    let recorder = builder().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
    describe();
    seed();
    Ok(handle)
}

fn builder() -> PrometheusBuilder {
    ALL.iter()
        .fold(PrometheusBuilder::new(), |builder, metric| {
            match metric.kind {
                MetricKind::Histogram(buckets) => builder
                    .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
                    .expect("no table of buckets is empty"),
                MetricKind::Counter | MetricKind::Gauge => builder,
            }
        })
}

fn describe() {
    for metric in ALL {
        match metric.kind {
            MetricKind::Counter => {
                metrics::describe_counter!(metric.name, metric.unit, metric.help);
            }
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            MetricKind::Histogram(_) => {
                metrics::describe_histogram!(metric.name, metric.unit, metric.help);
            }
        }
    }
    metrics_process::Collector::default().describe();
}

/// Creates the series of the closed label sets, with 0.
fn seed() {
    for &(source, signal) in SOURCES {
        for &outcome in EVENT_OUTCOMES {
            counter!(RECEIVE_EVENTS_TOTAL, "source" => source, "signal" => signal, "outcome" => outcome)
                .absolute(0);
        }
        for outcome in RequestOutcome::ALL {
            counter!(RECEIVE_REQUESTS_TOTAL, "source" => source, "signal" => signal, "outcome" => outcome.as_str())
                .absolute(0);
        }
        counter!(RECEIVE_BYTES_TOTAL, "source" => source).absolute(0);
        counter!(DUPLICATES_TOTAL, "signal" => signal).absolute(0);
        let _ = histogram!(RECEIVE_REQUEST_BYTES, "source" => source);
    }
    for (name, label, values) in [
        (SANITIZED_TOTAL, "reason", &Sanitized::REASONS[..]),
        (RECEIVE_UNKNOWN_FIELDS_TOTAL, "outcome", FIELD_OUTCOMES),
        (OWN_SPANS_TOTAL, "outcome", SPAN_OUTCOMES),
    ] {
        for &value in values {
            counter!(name, label => value).absolute(0);
        }
    }
    for name in [
        JOURNAL_APPEND_BYTES_TOTAL,
        JOURNAL_DAMAGED_RECORDS_TOTAL,
        RECEIVE_CONNECTIONS_DISPLACED_TOTAL,
        WRITE_EVENTS_TOTAL,
        STORED_GAPS_TOTAL,
        LOG_LINES_DROPPED_TOTAL,
    ] {
        counter!(name).absolute(0);
    }
    for name in [
        JOURNAL_SYNC_SECONDS,
        WRITE_BATCH_SECONDS,
        WRITE_BATCH_EVENTS,
    ] {
        let _ = histogram!(name);
    }
    for name in [
        RECEIVE_INFLIGHT_REQUESTS,
        RECEIVE_INFLIGHT_BYTES,
        QUERY_INFLIGHT_BYTES,
    ] {
        gauge!(name).set(0);
    }
    gauge!(BUILD_INFO, "version" => VERSION, "revision" => REVISION).set(1);
}

#[cfg(test)]
mod tests {
    use super::{builder, describe, seed};

    fn rendered() -> String {
        let recorder = builder().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            seed();
        });
        recorder.handle().render()
    }

    #[test]
    fn counters_of_dashboards_are_there_before_anything_happened() {
        let page = rendered();
        for series in [
            r#"ruvvector_receive_events_total{source="otlp_http",signal="span",outcome="accepted"} 0"#,
            r#"ruvvector_receive_requests_total{source="native",signal="event",outcome="unknown"} 0"#,
            "ruvvector_write_events_total 0",
        ] {
            assert!(
                page.lines().any(|line| line == series),
                "{series} in\n{page}"
            );
        }
    }

    #[test]
    fn latencies_are_histograms_that_tell_one_and_five_milliseconds() {
        let page = rendered();
        assert!(page.contains("# TYPE ruvvector_journal_sync_seconds histogram"));
        for bound in ["0.00025", "0.001", "0.005", "+Inf"] {
            let series = format!(r#"ruvvector_journal_sync_seconds_bucket{{le="{bound}"}} 0"#);
            assert!(page.contains(&series), "{series} in\n{page}");
        }
    }

    #[test]
    fn every_series_has_its_help() {
        let page = rendered();
        for line in page.lines().filter(|line| line.starts_with("# TYPE ")) {
            let name = line.split(' ').nth(2).unwrap();
            assert!(page.contains(&format!("# HELP {name} ")), "{name}");
        }
    }
}
