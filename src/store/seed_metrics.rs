//! Creates the series of the store's counters before they count.
//!
//! **Invariant:** each value of a closed label set has its series from the start: a rate over a series that appears with
//! its first event misses that event.

use metrics::counter;

use crate::store::{DeadLetterReason, FailureClass, MaintenanceStep};
use crate::telemetry::metrics as names;

/// Creates the series of the store's closed label sets, with 0.
pub fn seed_metrics() {
    for class in FailureClass::ALL {
        counter!(names::WRITE_FAILURES_TOTAL, "class" => class.as_str()).absolute(0);
    }
    for reason in DeadLetterReason::ALL {
        counter!(names::DEAD_LETTERS_TOTAL, "reason" => reason.as_str()).absolute(0);
    }
    for step in MaintenanceStep::ALL {
        counter!(names::MAINTENANCE_FAILURES_TOTAL, "step" => step.as_str()).absolute(0);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_class_reason_and_step_is_counted_from_the_start() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, super::seed_metrics);
        let page = recorder.handle().render();
        for series in [
            r#"ruvvector_write_failures_total{class="connection"} 0"#,
            r#"ruvvector_dead_letters_total{reason="refused"} 0"#,
            r#"ruvvector_maintenance_failures_total{step="gauges"} 0"#,
        ] {
            assert!(page.contains(series), "{series} in\n{page}");
        }
        assert_eq!(page.matches("} 0").count(), 8 + 5 + 6);
    }
}
