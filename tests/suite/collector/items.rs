//! Numbered items of one signal, sent without end, and the outcome of each.
//!
//! **Invariant:** an item counts as acknowledged when its request was answered with a success, and only then.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::client::{Http, NoAnswer};
use crate::support::postgres::Cluster;
use crate::support::service::PATIENCE;

const ITEMS_PER_REQUEST: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Signal {
    Traces,
    Logs,
    Metrics,
}

/// The outcome of the numbers from 0 to below `next`.
#[derive(Clone, Debug, Default)]
struct Outcomes {
    next: u32,
    acknowledged: BTreeSet<u32>,
    /// Sent, and not answered.
    unknown: BTreeSet<u32>,
}

/// A client of the Collector that sends until it is stopped.
pub(super) struct Sender {
    signal: Signal,
    /// The service's name in the resource.
    name: String,
    outcomes: watch::Receiver<Outcomes>,
    stop: watch::Sender<bool>,
    running: Option<JoinHandle<()>>,
    /// Items that were sent before the service was killed, of which some may be stored twice.
    mark: u32,
}

impl Sender {
    pub(super) fn start(signal: Signal, way: &str, endpoint: &str) -> Self {
        let name = format!("collector-{way}");
        let (note, outcomes) = watch::channel(Outcomes::default());
        let (stop, stopped) = watch::channel(false);
        let url = format!("{endpoint}{}", signal.path());
        let running = tokio::spawn(send(signal, name.clone(), url, note, stopped));
        Self {
            signal,
            name,
            outcomes,
            stop,
            running: Some(running),
            mark: 0,
        }
    }

    /// Notes that the service has just been killed.
    pub(super) fn mark(&mut self) {
        self.mark = self.outcomes.borrow().next;
    }

    /// Stops after the request in flight.
    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(running) = self.running.take() {
            running.await.expect("a sender does not panic");
        }
    }

    /// Waits until something is acknowledged and all that was acknowledged by then is stored.
    pub(super) async fn until_stored(&self, cluster: &Cluster) {
        let deadline = Instant::now() + PATIENCE;
        let mut missing = BTreeSet::new();
        loop {
            if missing.is_empty() {
                missing.clone_from(&self.outcomes.borrow().acknowledged);
            }
            let stored = self.stored(cluster).await;
            let waited = !missing.is_empty();
            missing.retain(|number| !stored.contains_key(number));
            if waited && missing.is_empty() {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} {:?}: not stored within {PATIENCE:?}: {missing:?}",
                self.name,
                self.signal
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asserts that each acknowledged item is stored, that nothing else is, and that only items in flight at the kill
    /// are stored twice.
    pub(super) async fn assert_stored(&self, cluster: &Cluster) {
        let sent = self.outcomes.borrow().clone();
        let stored = self.stored(cluster).await;
        let shown = format!("{} {:?}", self.name, self.signal);
        assert!(sent.acknowledged.last() > Some(&self.mark), "{shown}");
        for number in &sent.acknowledged {
            assert!(stored.contains_key(number), "{shown}: {number} is missing");
        }
        for (&number, &copies) in &stored {
            let known = sent.acknowledged.contains(&number) || sent.unknown.contains(&number);
            assert!(known, "{shown}: {number} was never sent");
            let allowed = if number < self.mark { 2 } else { 1 };
            assert!(
                copies <= allowed,
                "{shown}: {number} is there {copies} times"
            );
        }
    }

    /// The number of rows of each item.
    async fn stored(&self, cluster: &Cluster) -> BTreeMap<u32, i64> {
        let mut sql = PgConnection::connect(&cluster.url())
            .await
            .expect("the database answers");
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "SELECT (metadata #>> '{attributes,number}')::int AS number, count(*) FROM telemetry_events
             WHERE integration = $1 AND event_type = $2 GROUP BY number",
        )
        .bind(&self.name)
        .bind(self.signal.event_type())
        .fetch_all(&mut sql)
        .await
        .expect("the table can be read");
        rows.into_iter()
            .map(|(number, copies)| (u32::try_from(number).expect("a number of ours"), copies))
            .collect()
    }
}

async fn send(
    signal: Signal,
    name: String,
    url: String,
    outcomes: watch::Sender<Outcomes>,
    stop: watch::Receiver<bool>,
) {
    let http = Http::default();
    while !*stop.borrow() {
        let first = outcomes.borrow().next;
        let numbers = first..first + ITEMS_PER_REQUEST;
        let body = signal.request(&name, numbers.clone().collect());
        outcomes.send_modify(|outcomes| outcomes.next = numbers.end);
        // As an SDK does: sends again while the request was certainly not accepted.
        loop {
            match http
                .post(&url, "application/x-protobuf", body.clone())
                .await
            {
                Ok(answer) if answer.status.is_success() => {
                    outcomes.send_modify(|outcomes| outcomes.acknowledged.extend(numbers));
                    break;
                }
                Err(NoAnswer::Lost(_)) => {
                    outcomes.send_modify(|outcomes| outcomes.unknown.extend(numbers));
                    break;
                }
                Ok(_) | Err(NoAnswer::NotSent(_)) => tokio::time::sleep(PAUSE).await,
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Signal {
    fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::Traces => "span",
            Self::Logs => "log",
            Self::Metrics => "metric",
        }
    }

    /// One item for each number.
    fn request(self, name: &str, numbers: Vec<u32>) -> Vec<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("a clock past 1970").as_nanos();
        let now = u64::try_from(now).expect("a time before 2554");
        let service = any_value::Value::StringValue(name.to_owned());
        let resource = Some(Resource {
            attributes: vec![attribute("service.name", service)],
            ..Resource::default()
        });
        match self {
            Self::Traces => spans(resource, numbers, now),
            Self::Logs => logs(resource, numbers, now),
            Self::Metrics => points(resource, numbers, now),
        }
    }
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn numbered(number: u32) -> Vec<KeyValue> {
    let value = any_value::Value::IntValue(i64::from(number));
    vec![attribute("number", value)]
}

fn spans(resource: Option<Resource>, numbers: Vec<u32>, now: u64) -> Vec<u8> {
    let span = |number: u32| Span {
        trace_id: (u128::from(now) << 32 | u128::from(number))
            .to_be_bytes()
            .to_vec(),
        span_id: (u64::from(number) + 1).to_be_bytes().to_vec(),
        name: "numbered".to_owned(),
        start_time_unix_nano: now,
        end_time_unix_nano: now,
        attributes: numbered(number),
        ..Span::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource,
            scope_spans: vec![ScopeSpans {
                spans: numbers.into_iter().map(span).collect(),
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
    .encode_to_vec()
}

fn logs(resource: Option<Resource>, numbers: Vec<u32>, now: u64) -> Vec<u8> {
    let record = |number: u32| LogRecord {
        time_unix_nano: now,
        attributes: numbered(number),
        ..LogRecord::default()
    };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource,
            scope_logs: vec![ScopeLogs {
                log_records: numbers.into_iter().map(record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    }
    .encode_to_vec()
}

fn points(resource: Option<Resource>, numbers: Vec<u32>, now: u64) -> Vec<u8> {
    let point = |number: u32| NumberDataPoint {
        time_unix_nano: now,
        attributes: numbered(number),
        value: Some(number_data_point::Value::AsInt(1)),
        ..NumberDataPoint::default()
    };
    let gauge = Gauge {
        data_points: numbers.into_iter().map(point).collect(),
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource,
            scope_metrics: vec![ScopeMetrics {
                metrics: vec![Metric {
                    name: "numbered".to_owned(),
                    data: Some(metric::Data::Gauge(gauge)),
                    ..Metric::default()
                }],
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
    .encode_to_vec()
}
