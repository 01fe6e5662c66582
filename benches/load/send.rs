//! Requests: closed loop for throughput, open loop for latency.
//!
//! **Invariant:** the report counts the items of accepted requests alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::JoinSet;

use crate::arguments::Arguments;
use crate::bodies::{Bodies, Kind};
use crate::process;
use crate::timing::{now_unix_nano, percentile_ms, wait_until, write_samples};

pub(crate) type Http = Client<HttpConnector, Full<Bytes>>;

/// Address and protocol: `http://…` for HTTP/1.1, `grpc://…` for OTLP/gRPC over HTTP/2.
#[derive(Clone)]
struct Target {
    url: String,
    is_grpc: bool,
    kind: Kind,
}

impl Target {
    fn read(url: &str, kind: Kind) -> Self {
        let (url, is_grpc) = match url.strip_prefix("grpc://") {
            Some(address) => (
                format!(
                    "http://{address}/opentelemetry.proto.collector.trace.v1.TraceService/Export"
                ),
                true,
            ),
            None if kind == Kind::Native => (format!("{url}/ingest"), false),
            None => (format!("{url}/v1/traces"), false),
        };
        Self { url, is_grpc, kind }
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

    /// True if the server accepted it: 200, and for gRPC a status of 0.
    async fn post(&self, http: &Http, body: Bytes) -> bool {
        let request = Request::post(&self.url);
        let request = if self.is_grpc {
            request
                .header("content-type", "application/grpc")
                .header("te", "trailers")
        } else {
            request.header("content-type", self.kind.content_type())
        };
        let request = if self.kind == Kind::Gzip {
            request.header("content-encoding", "gzip")
        } else {
            request
        };
        let request = request.body(Full::new(body)).expect("the URL is valid");
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

/// Reads what both loops have in common.
fn read(arguments: &Arguments) -> (Target, Arc<Bodies>) {
    let kind = Kind::read(arguments.optional_text("body"));
    let target = Target::read(arguments.text("url"), kind);
    let bodies = Bodies::new(kind, arguments.number("spans"));
    let bodies = if target.is_grpc {
        bodies.framed()
    } else {
        bodies
    };
    (target, Arc::new(bodies))
}

/// As fast as `connections` clients can, each with one request at a time, for `seconds` or until `requests` were sent.
pub(crate) async fn flood(arguments: &Arguments) -> String {
    let (target, bodies) = read(arguments);
    let last = arguments.optional_number("requests").unwrap_or(u64::MAX);
    let seconds = arguments.optional_number("seconds").unwrap_or(3_600);
    let next = Arc::new(AtomicU64::new(0));
    let meter = Meter::start(arguments);
    let end = meter.began + Duration::from_secs(seconds);
    let mut clients = JoinSet::new();
    for _ in 0..arguments.number::<u32>("connections") {
        let (target, bodies, next) = (target.clone(), bodies.clone(), next.clone());
        clients.spawn(async move {
            let http = target.client();
            let mut outcome = Outcome::default();
            while Instant::now() < end {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= last {
                    break;
                }
                let body = bodies.body(n);
                let sent = Instant::now();
                outcome.requests += 1;
                if target.post(&http, body.bytes).await {
                    outcome.accepted(body.items, sent.elapsed());
                } else {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            outcome
        });
    }
    let mut all = Outcome::default();
    for outcome in clients.join_all().await {
        all.add(outcome);
    }
    meter.report(all)
}

/// `rate` spans a second for `seconds`, independent of the server's answers.
pub(crate) async fn steady(arguments: &Arguments) -> String {
    let (target, bodies) = read(arguments);
    let spans: u64 = arguments.number("spans");
    let rate: u64 = arguments.number("rate");
    let requests = arguments.number::<u64>("seconds") * rate / spans;
    let http = target.client();
    let meter = Meter::start(arguments);
    let runtime = tokio::runtime::Handle::current();
    let began = meter.began;
    let sending = tokio::task::spawn_blocking(move || {
        let mut clients = JoinSet::new();
        for n in 0..requests {
            let due = began + Duration::from_nanos(n * 1_000_000_000 * spans / rate);
            wait_until(due);
            let body = bodies.body(n);
            let (http, target) = (http.clone(), target.clone());
            let post = async move {
                let accepted = target.post(&http, body.bytes).await;
                (accepted, body.items, due.elapsed())
            };
            clients.spawn_on(post, &runtime);
        }
        clients
    });
    let clients = sending.await.expect("the pace is kept");
    let mut all = Outcome::default();
    for (accepted, items, took) in clients.join_all().await {
        all.requests += 1;
        if accepted {
            all.accepted(items, took);
        }
    }
    if let Some(file) = arguments.optional_text("samples") {
        write_samples(file, &all.took);
    }
    meter.report(all)
}

#[derive(Default)]
struct Outcome {
    requests: u64,
    spans: u64,
    took: Vec<Duration>,
}

impl Outcome {
    fn accepted(&mut self, items: u64, took: Duration) {
        self.spans += items;
        self.took.push(took);
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.spans += other.spans;
        self.took.extend(other.took);
    }
}

/// Clock and CPU times since the first request.
struct Meter {
    pid: u32,
    began: Instant,
    began_unix_nano: u64,
    cpu: Duration,
    own_cpu: Duration,
}

impl Meter {
    fn start(arguments: &Arguments) -> Self {
        let pid = arguments.number("pid");
        Self {
            pid,
            cpu: process::cpu(pid),
            own_cpu: process::own_cpu(),
            began_unix_nano: now_unix_nano(),
            began: Instant::now(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn report(self, mut all: Outcome) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let spans = all.spans.max(1) as f64;
        let cpu = (process::cpu(self.pid).saturating_sub(self.cpu)).as_secs_f64();
        let own_cpu = (process::own_cpu() - self.own_cpu).as_secs_f64();
        format!(
            r#"{{"requests":{},"accepted":{},"spans":{},"began_unix_nano":{},"seconds":{seconds:.3},"spans_per_s":{:.0},"requests_per_s":{:.0},"cpu_us_per_span":{:.4},"generator_us_per_span":{:.4},"p50_ms":{:.3},"p99_ms":{:.3}}}"#,
            all.requests,
            all.took.len(),
            all.spans,
            self.began_unix_nano,
            all.spans as f64 / seconds,
            all.took.len() as f64 / seconds,
            cpu * 1e6 / spans,
            own_cpu * 1e6 / spans,
            percentile_ms(&mut all.took, 50),
            percentile_ms(&mut all.took, 99)
        )
    }
}
