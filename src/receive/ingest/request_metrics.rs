//! Counters of requests: outcome, bytes and events.
//!
//! **Invariant:** every request is counted exactly once, also if its client disconnects.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use crate::decode::DecodeReport;
use crate::error::Error;
use crate::event::{Sanitized, Signal, Source};
use crate::telemetry::RequestOutcome;
use crate::telemetry::log_limit::OncePerMinute;
use crate::telemetry::metrics::{
    CLIENT_CLOCK_SKEW_SECONDS, DUPLICATES_TOTAL, RECEIVE_BYTES_TOTAL, RECEIVE_EVENTS_TOTAL,
    RECEIVE_INFLIGHT_REQUESTS, RECEIVE_REQUEST_BYTES, RECEIVE_REQUESTS_TOTAL,
    RECEIVE_UNKNOWN_FIELDS_TOTAL, SANITIZED_TOTAL,
};

/// The protocol that a request arrived by; the metric label `source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IngestProtocol {
    Native,
    OtlpHttp,
    OtlpGrpc,
}

impl IngestProtocol {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::OtlpHttp => "otlp_http",
            Self::OtlpGrpc => "otlp_grpc",
        }
    }
}

/// The counters of one endpoint, registered once and shared by its requests.
pub(crate) struct EndpointMetrics {
    /// Bytes of bodies as they arrive, also of bodies that are refused.
    pub(crate) received_bytes: Counter,
    /// Sizes of the bodies that were read whole.
    pub(crate) request_bytes: Histogram,
    accepted_events: Counter,
    rejected_events: Counter,
    duplicate_events: Counter,
    requests: [Counter; RequestOutcome::ALL.len()],
    inflight: Gauge,
    sanitized: [Counter; Sanitized::REASONS.len()],
    unknown_kept: Counter,
    unknown_left_out: Counter,
    skew: Histogram,
    string_references: OncePerMinute,
}

/// Statistics about a request's accepted events, besides their number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventStats {
    sanitized: Sanitized,
    /// Number of members that are not fields of an event and joined its metadata.
    unknown_kept: u32,
    /// Number of members that are not fields of an event and were left out.
    unknown_left_out: u32,
    /// Distance between the latest time of an event and the receive time, ahead or behind.
    skew: Option<Duration>,
}

impl EventStats {
    pub(crate) fn of(checked: &DecodeReport, source: &Source) -> Self {
        let received = source.received_unix_nano;
        let skew = |time: i64| Duration::from_nanos(time.abs_diff(received));
        Self {
            sanitized: checked.sanitized,
            unknown_kept: checked.unknown.kept,
            unknown_left_out: checked.unknown.left_out,
            skew: checked.latest_unix_nano.map(skew),
        }
    }
}

impl EndpointMetrics {
    /// Registers the counters with the current recorder, which must be installed before.
    pub(crate) fn new(intake: IngestProtocol, signal: Signal) -> Self {
        let (source, signal) = (intake.as_str(), signal.as_str());
        let events = |outcome: &'static str| {
            metrics::counter!(RECEIVE_EVENTS_TOTAL,
                "source" => source, "signal" => signal, "outcome" => outcome)
        };
        let unknown = |outcome: &'static str| metrics::counter!(RECEIVE_UNKNOWN_FIELDS_TOTAL, "outcome" => outcome);
        Self {
            received_bytes: metrics::counter!(RECEIVE_BYTES_TOTAL, "source" => source),
            request_bytes: metrics::histogram!(RECEIVE_REQUEST_BYTES, "source" => source),
            accepted_events: events("accepted"),
            rejected_events: events("rejected"),
            duplicate_events: metrics::counter!(DUPLICATES_TOTAL, "signal" => signal),
            requests: RequestOutcome::ALL.map(|outcome| {
                metrics::counter!(RECEIVE_REQUESTS_TOTAL,
                    "source" => source, "signal" => signal, "outcome" => outcome.as_str())
            }),
            inflight: metrics::gauge!(RECEIVE_INFLIGHT_REQUESTS),
            sanitized: Sanitized::REASONS
                .map(|reason| metrics::counter!(SANITIZED_TOTAL, "reason" => reason)),
            unknown_kept: unknown("kept"),
            unknown_left_out: unknown("left_out"),
            skew: metrics::histogram!(CLIENT_CLOCK_SKEW_SECONDS),
            string_references: OncePerMinute::default(),
        }
    }

    /// Counts a request's events once they are synced, whatever the answer: the balance of events begins here.
    pub(crate) fn synced(&self, accepted: u32, stats: &EventStats) {
        self.accepted_events.increment(u64::from(accepted));
        if let Some(skew) = stats.skew {
            self.skew.record(skew);
        }
        if stats.sanitized.string_reference > 0 && self.string_references.ready() {
            tracing::warn!(
                "a client refers to a string table, which only profiles have (OTLP 1.11): such keys and values are \
                 treated as absent"
            );
        }
        self.unknown_kept.increment(stats.unknown_kept.into());
        self.unknown_left_out
            .increment(stats.unknown_left_out.into());
        for (counter, times) in self.sanitized.iter().zip(stats.sanitized.counts()) {
            if times > 0 {
                counter.increment(u64::from(times));
            }
        }
    }

    fn rejected(&self, events: u32) {
        self.rejected_events.increment(u64::from(events));
    }
}

/// The metrics of one request in flight; its outcome is counted when this is dropped.
pub(crate) struct RequestMetrics {
    pub(crate) counters: Arc<EndpointMetrics>,
    /// The outcome that is counted if the client disconnects now.
    pub(crate) outcome: RequestOutcome,
}

impl RequestMetrics {
    pub(crate) fn new(counters: &Arc<EndpointMetrics>) -> Self {
        counters.inflight.increment(1);
        Self {
            counters: Arc::clone(counters),
            outcome: RequestOutcome::Refused,
        }
    }

    /// Records that an identical request was accepted before: the events count as duplicates only.
    pub(crate) fn duplicate(&mut self, checked: &DecodeReport) {
        let events = u64::from(checked.accepted);
        self.counters.duplicate_events.increment(events);
        self.outcome = RequestOutcome::Duplicate;
    }

    /// Records that all or some events were accepted, by this request or by an identical earlier one.
    pub(crate) fn accepted(&mut self, checked: &DecodeReport) {
        if self.outcome == RequestOutcome::Duplicate {
            return;
        }
        self.outcome = if checked.rejected == 0 {
            RequestOutcome::Accepted
        } else {
            self.counters.rejected(checked.rejected);
            RequestOutcome::Partial
        };
    }

    /// Records the error that the request is answered with.
    pub(crate) fn failed(&mut self, error: &Error) {
        self.outcome = error.facts().counted_as;
        if let Error::Invalid(checked) = error {
            let rejected = checked.accepted.saturating_add(checked.rejected);
            self.counters.rejected(rejected);
        }
    }
}

impl Drop for RequestMetrics {
    fn drop(&mut self) {
        self.counters.inflight.decrement(1);
        self.counters.requests[self.outcome as usize].increment(1);
    }
}
