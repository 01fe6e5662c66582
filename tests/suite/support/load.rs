//! Clients that send events without end and note the outcome of each in a ledger.
//!
//! **Invariant:** an outcome is noted for every attempt; without an answer it is `Unknown`, unless nothing was sent.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Http, NoAnswer};
use super::ledger::{Ledger, Outcome, correlation_id, payload};
use super::service::Service;

/// The amount and rate of a load.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub clients: usize,
    pub events_per_request: usize,
    /// Between a client's requests.
    pub pause: Duration,
}

impl Shape {
    /// Enough to keep every stage busy, little enough for a debug build on two cores.
    pub const STEADY: Self = Self {
        clients: 4,
        events_per_request: 20,
        pause: Duration::from_millis(10),
    };
}

/// The destination: the main listener's base URL, and that of OTLP/HTTP. `None` = hold.
type Aim = Option<(String, String)>;

/// Running clients.
pub struct Load {
    aim: watch::Sender<Aim>,
    stop: CancellationToken,
    clients: JoinSet<()>,
}

impl Load {
    /// Starts the clients; they hold until [`Load::aim`].
    pub fn start(ledger: &Arc<Ledger>, shape: Shape) -> Self {
        let (aim, aimed) = watch::channel(None);
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for _ in 0..shape.clients {
            let client = Client {
                number: ledger.client(),
                ledger: Arc::clone(ledger),
                http: Http::default(),
                aim: aimed.clone(),
                stop: stop.clone(),
            };
            clients.spawn(client.run(shape));
        }
        Self { aim, stop, clients }
    }

    /// Sends to this process from now on.
    pub fn aim(&self, service: &Service) {
        self.aim
            .send_replace(Some((service.url(""), service.otlp_http())));
    }

    /// Stops after the requests in flight.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client does not panic");
        }
    }
}

struct Client {
    number: usize,
    ledger: Arc<Ledger>,
    http: Http,
    aim: watch::Receiver<Aim>,
    stop: CancellationToken,
}

/// The content of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Native,
    Spans,
    /// One of its events is invalid, so that none may be stored.
    Invalid,
}

impl Client {
    async fn run(mut self, shape: Shape) {
        for turn in 0_usize.. {
            let kind = match turn % 10 {
                9 => Kind::Invalid,
                even if even % 2 == 0 => Kind::Native,
                _ => Kind::Spans,
            };
            let events = self.ledger.next(self.number, shape.events_per_request);
            if !self.deliver(kind, events).await {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(shape.pause) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Sends a request as an exporter does: again while that may help, then no more. False when told to stop.
    async fn deliver(&mut self, kind: Kind, events: Range<usize>) -> bool {
        let mut lost = 0;
        loop {
            let Some((main, otlp)) = self.target().await else {
                return false;
            };
            let sent = match kind {
                Kind::Spans => {
                    let body = spans(self.number, events.clone());
                    let url = format!("{otlp}/v1/traces");
                    self.http.post(&url, "application/x-protobuf", body).await
                }
                Kind::Native | Kind::Invalid => {
                    let body = native(self.number, events.clone(), kind);
                    let url = format!("{main}/ingest");
                    self.http.post(&url, "application/json", body).await
                }
            };
            let outcome = judge(&sent);
            self.ledger.note(self.number, events.clone(), outcome);
            match outcome {
                Outcome::Acked | Outcome::RefusedFinal => return true,
                Outcome::Unknown if lost == 2 => return true,
                Outcome::Unknown => lost += 1,
                Outcome::Retryable => {}
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(25)) => {}
                () = self.stop.cancelled() => return false,
            }
        }
    }

    async fn target(&mut self) -> Aim {
        tokio::select! {
            aimed = self.aim.wait_for(Option::is_some) => aimed.ok()?.clone(),
            () = self.stop.cancelled() => None,
        }
    }
}

fn judge(sent: &Result<Answer, NoAnswer>) -> Outcome {
    match sent {
        Err(NoAnswer::NotSent(_)) => Outcome::Retryable,
        Err(NoAnswer::Lost(_)) => Outcome::Unknown,
        Ok(answer) if answer.header("ruvvector-outcome") == Some("unknown") => Outcome::Unknown,
        Ok(answer) => match answer.status {
            StatusCode::OK => Outcome::Acked,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let wait: Option<u64> = answer.header("retry-after").and_then(|s| s.parse().ok());
                assert!(
                    wait.is_some_and(|seconds| (1..=5).contains(&seconds)),
                    "a client that may come again is told when, within 1 to 5 s: {answer:?}"
                );
                Outcome::Retryable
            }
            status if status.is_client_error() => Outcome::RefusedFinal,
            status => panic!("no client is ever answered {status}: {}", answer.text()),
        },
    }
}

/// Unix milliseconds.
fn now_ms() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock is past 1970");
    u64::try_from(now.as_millis()).expect("until the year 584 million")
}

fn native(client: usize, events: Range<usize>, kind: Kind) -> Vec<u8> {
    let last = events.end - 1;
    let events: Vec<Value> = events
        .map(|number| {
            let mut event = json!({
                "correlationId": correlation_id(client, number),
                "integration": "ledger",
                "eventType": "order",
                "timestamp": now_ms(),
                "metadata": payload(client, number),
            });
            if kind == Kind::Invalid && number == last {
                event["integration"] = Value::Null;
            }
            event
        })
        .collect();
    serde_json::to_vec(&events).expect("JSON values serialise")
}

fn spans(client: usize, events: Range<usize>) -> Vec<u8> {
    let spans = events.map(|number| span(client, number)).collect();
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

fn span(client: usize, number: usize) -> Span {
    let id = u64::try_from(client * 1_000_000_000 + number + 1).expect("fits");
    let start = now_ms() * 1_000_000;
    let mut attributes = vec![attribute(
        "correlation.id",
        any_value::Value::StringValue(correlation_id(client, number)),
    )];
    let payload = payload(client, number);
    for (key, value) in payload.as_object().expect("it is an object") {
        let value = match value {
            Value::String(text) => any_value::Value::StringValue(text.clone()),
            value => any_value::Value::IntValue(value.as_i64().expect("texts and integers only")),
        };
        attributes.push(attribute(key, value));
    }
    Span {
        trace_id: u128::from(id).to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        name: "ledger".to_owned(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000,
        attributes,
        ..Span::default()
    }
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}
