//! Requests: closed loop for throughput, open loop for latency.
//!
//! **Invariant:** a request of the open loop is timed from when it was due, not from when it could be sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::{bodies, number, process};

pub(crate) struct Plan {
    target: Target,
    pid: u32,
    seconds: u64,
    /// A request.
    spans: u64,
}

impl Plan {
    pub(crate) fn read(url: &str, pid: &str, seconds: &str, spans: &str) -> Self {
        Self {
            target: Target::read(url),
            pid: number(pid),
            seconds: number(seconds),
            spans: number(spans),
        }
    }
}

/// Address and protocol: `http://…` for OTLP/HTTP over HTTP/1.1, `grpc://…` for OTLP/gRPC over HTTP/2.
#[derive(Clone)]
struct Target {
    url: String,
    is_grpc: bool,
}

type Http = Client<HttpConnector, Full<Bytes>>;

impl Target {
    fn read(url: &str) -> Self {
        match url.strip_prefix("grpc://") {
            Some(address) => Self {
                url: format!(
                    "http://{address}/opentelemetry.proto.collector.trace.v1.TraceService/Export"
                ),
                is_grpc: true,
            },
            None => Self {
                url: format!("{url}/v1/traces"),
                is_grpc: false,
            },
        }
    }

    /// A client with separate connections.
    fn client(&self) -> Http {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http2_only(self.is_grpc)
            .http2_initial_stream_window_size(1 << 20)
            .build(connector)
    }

    /// The message as it is sent.
    fn body(&self, message: &[u8], round: u64) -> Bytes {
        let mut body = Vec::with_capacity(message.len() + 16);
        if self.is_grpc {
            body.extend([0; 5]);
        }
        body.extend(message);
        // An unknown field, so that no two requests are equal: the service would recognise the second one.
        body.push(15 << 3);
        prost::encoding::encode_varint(round, &mut body);
        if self.is_grpc {
            let len = u32::try_from(body.len() - 5).expect("below 4 GiB");
            body[1..5].copy_from_slice(&len.to_be_bytes());
        }
        body.into()
    }

    /// True if the server accepted it: 200, and for gRPC a status of 0.
    async fn post(&self, http: &Http, body: Bytes) -> bool {
        let request = Request::post(&self.url);
        let request = if self.is_grpc {
            request
                .header("content-type", "application/grpc")
                .header("te", "trailers")
        } else {
            request.header("content-type", "application/x-protobuf")
        };
        let request = request
            .body(Full::new(body))
            .expect("the URL was given rightly");
        let Ok(answer) = http.request(request).await else {
            return false;
        };
        let accepted = answer.status().is_success();
        let Ok(read) = answer.into_body().collect().await else {
            return false;
        };
        let is_ok =
            |trailers: &HeaderMap| trailers.get("grpc-status").is_some_and(|code| code == "0");
        accepted && (!self.is_grpc || read.trailers().is_some_and(is_ok))
    }
}

fn now_unix_nano() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    u64::try_from(now.as_nanos()).expect("until the year 2554")
}

/// Requests that are made before the clock starts, so that making them costs nothing beside the server.
fn prepared(count: u64, spans: u64) -> Vec<Vec<u8>> {
    let now = now_unix_nano();
    (0..count)
        .map(|n| bodies::request(n * spans, spans, now))
        .collect()
}

/// As fast as `connections` clients can, each with one request at a time.
pub(crate) async fn flood(plan: Plan, connections: usize) -> String {
    // Enough that the server's caches see no body often; they are sent in turn.
    let bodies = Arc::new(prepared(
        (100_000 / plan.spans).clamp(20, 20_000),
        plan.spans,
    ));
    let next = Arc::new(AtomicU64::new(0));
    let accepted = Arc::new(AtomicU64::new(0));
    let cpu = process::cpu(plan.pid);
    let began = Instant::now();
    let end = began + Duration::from_secs(plan.seconds);
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let (bodies, next, accepted) = (bodies.clone(), next.clone(), accepted.clone());
        let target = plan.target.clone();
        clients.spawn(async move {
            let http = target.client();
            let mut took = Vec::new();
            while Instant::now() < end {
                let n = next.fetch_add(1, Ordering::Relaxed);
                let message = &bodies[usize::try_from(n).expect("fits") % bodies.len()];
                let body = target.body(message, n);
                let sent = Instant::now();
                if target.post(&http, body).await {
                    accepted.fetch_add(1, Ordering::Relaxed);
                    took.push(sent.elapsed());
                } else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            took
        });
    }
    let took = clients.join_all().await.concat();
    let seconds = began.elapsed().as_secs_f64();
    let sent = next.load(Ordering::Relaxed);
    let accepted = accepted.load(Ordering::Relaxed);
    report(
        &plan,
        sent,
        accepted,
        seconds,
        process::cpu(plan.pid) - cpu,
        took,
    )
}

/// `rate` spans a second, independent of the server's answers.
pub(crate) async fn steady(plan: Plan, rate: u64) -> String {
    let count = plan.seconds * rate / plan.spans;
    let bodies = prepared(count, plan.spans);
    let every = Duration::from_nanos(1_000_000_000 * plan.spans / rate);
    let http = plan.target.client();
    let cpu = process::cpu(plan.pid);
    let began = Instant::now();
    let mut requests = JoinSet::new();
    for (n, message) in (0_u32..).zip(bodies) {
        let body = plan.target.body(&message, n.into());
        let due = began + every * n;
        tokio::time::sleep_until(due).await;
        let (http, target) = (http.clone(), plan.target.clone());
        requests.spawn(async move {
            let accepted = target.post(&http, body).await;
            accepted.then(|| due.elapsed())
        });
    }
    let took: Vec<Duration> = requests.join_all().await.into_iter().flatten().collect();
    let seconds = began.elapsed().as_secs_f64();
    let accepted = u64::try_from(took.len()).expect("fits");
    report(
        &plan,
        count,
        accepted,
        seconds,
        process::cpu(plan.pid) - cpu,
        took,
    )
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(
    plan: &Plan,
    requests: u64,
    accepted: u64,
    seconds: f64,
    cpu: Duration,
    mut took: Vec<Duration>,
) -> String {
    let spans = accepted * plan.spans;
    format!(
        r#"{{"requests":{requests},"accepted":{accepted},"spans":{spans},"spans_per_s":{:.0},"cpu_us_per_span":{:.3},"p50_ms":{:.2},"p99_ms":{:.2}}}"#,
        spans as f64 / seconds,
        cpu.as_secs_f64() * 1e6 / (spans.max(1)) as f64,
        percentile_ms(&mut took, 50),
        percentile_ms(&mut took, 99)
    )
}

/// In milliseconds; 0 of nothing.
pub(crate) fn percentile_ms(took: &mut [Duration], percent: usize) -> f64 {
    took.sort_unstable();
    let at = (took.len() * percent / 100).min(took.len().saturating_sub(1));
    took.get(at).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}
