//! The recorder behind the `metrics` macros: descriptions, buckets, and the series that exist from the start.
//!
//! **Invariant:** every counter that a dashboard or an alert reads exists from the start, with 0: a rate over a series
//! that appears with its first event misses that event.

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::event::Sanitized;
use crate::telemetry::RequestOutcome;
use crate::telemetry::metrics::{ALL, MetricKind};

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
            counter!(crate::telemetry::metrics::RECEIVE_EVENTS_TOTAL, "source" => source, "signal" => signal, "outcome" => outcome)
                .absolute(0);
        }
        for outcome in RequestOutcome::ALL {
            counter!(crate::telemetry::metrics::RECEIVE_REQUESTS_TOTAL, "source" => source, "signal" => signal, "outcome" => outcome.as_str())
                .absolute(0);
        }
        counter!(crate::telemetry::metrics::RECEIVE_BYTES_TOTAL, "source" => source).absolute(0);
        counter!(crate::telemetry::metrics::DUPLICATES_TOTAL, "signal" => signal).absolute(0);
        let _ = histogram!(crate::telemetry::metrics::RECEIVE_REQUEST_BYTES, "source" => source);
    }
    for reason in Sanitized::REASONS {
        counter!(crate::telemetry::metrics::SANITIZED_TOTAL, "reason" => reason).absolute(0);
    }
    for outcome in ["kept", "left_out"] {
        counter!(crate::telemetry::metrics::RECEIVE_UNKNOWN_FIELDS_TOTAL, "outcome" => outcome)
            .absolute(0);
    }
    for outcome in ["exported", "failed", "dropped"] {
        counter!(crate::telemetry::metrics::OWN_SPANS_TOTAL, "outcome" => outcome).absolute(0);
    }
    for name in [
        crate::telemetry::metrics::JOURNAL_APPEND_BYTES_TOTAL,
        crate::telemetry::metrics::JOURNAL_DAMAGED_RECORDS_TOTAL,
        crate::telemetry::metrics::RECEIVE_CONNECTIONS_DISPLACED_TOTAL,
        crate::telemetry::metrics::WRITE_EVENTS_TOTAL,
        crate::telemetry::metrics::STORED_GAPS_TOTAL,
        crate::telemetry::metrics::LOG_LINES_DROPPED_TOTAL,
    ] {
        counter!(name).absolute(0);
    }
    for name in [
        crate::telemetry::metrics::JOURNAL_SYNC_SECONDS,
        crate::telemetry::metrics::WRITE_BATCH_SECONDS,
        crate::telemetry::metrics::WRITE_BATCH_EVENTS,
    ] {
        let _ = histogram!(name);
    }
    gauge!(crate::telemetry::metrics::RECEIVE_INFLIGHT_REQUESTS).set(0);
    gauge!(crate::telemetry::metrics::RECEIVE_INFLIGHT_BYTES).set(0);
    gauge!(crate::telemetry::metrics::QUERY_INFLIGHT_BYTES).set(0);
    gauge!(crate::telemetry::metrics::BUILD_INFO, "version" => crate::telemetry::VERSION, "revision" => crate::telemetry::REVISION).set(1);
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
