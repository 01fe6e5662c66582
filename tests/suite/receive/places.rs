//! All connections are in use: by idle clients, by silent clients, or by clients whose bodies do not arrive. In the
//! real binary, because its main port serves health and metrics.
//!
//! **Invariant:** the holder of a connection is known from what was sent on it, never from a metric.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

use super::rest::Http2;
use super::{EVENT, head};
use crate::support::client::Http;
use crate::support::frames;
use crate::support::http::{Raw, RawAnswer};
use crate::support::service::{Launch, PATIENCE, Service};

/// The way in which a client keeps its connection in use.
#[derive(Clone, Copy, Debug)]
enum Holder {
    /// It has sent a request, and is idle.
    Idle,
    /// It has connected, and sends nothing.
    Headless,
    /// It has sent half of a body.
    SlowBody,
}

impl Holder {
    async fn hold(self, service: &Service) -> Raw {
        let mut raw = Raw::connect(service.address()).await;
        match self {
            Self::Headless => {}
            Self::Idle => {
                assert!(raw.send(event()).await);
                assert_eq!(raw.answer().await.expect("an answer").status, 200);
            }
            Self::SlowBody => {
                let begin = head("/ingest", "Expect: 100-continue\r\n", EVENT.len());
                assert!(raw.send(begin).await);
                assert_eq!(raw.answer().await.expect("an answer").status, 100);
                assert!(raw.send(&EVENT[..EVENT.len() / 2]).await);
            }
        }
        raw
    }
}

fn event() -> String {
    head("/ingest", "", EVENT.len()) + EVENT
}

/// A service with that many connections, of which only the returned, idle one is in use.
async fn start(dir: &tempfile::TempDir, places: usize) -> (Service, Raw) {
    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_CONNECTIONS", &places.to_string())
        .with("RUVVECTOR_BODY_TIMEOUT", "2m")
        .with("RUVVECTOR_HEADER_TIMEOUT", "1m")
        .with("RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES", "0");
    let mut service = launch.start().await;
    service
        .until("all is well", async |service: &Service| {
            service.health().await["status"] == "ok"
        })
        .await;
    // Its client has kept a connection, which is closed after a moment.
    service.http = Http::default();
    let mut first = Raw::connect(service.address()).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        first
            .send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let metrics = first.answer().await.expect("an answer");
        if has_line(&metrics, "ruvvector_receive_connections 1") {
            return (service, first);
        }
        assert!(Instant::now() < deadline, "the client's connection is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn has_line(answer: &RawAnswer, line: &str) -> bool {
    text(answer).lines().any(|found| found == line)
}

async fn get(service: &Service, path: &str) -> RawAnswer {
    let mut raw = Raw::connect(service.address()).await;
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .await;
    let answer = raw.answer().await.expect("an answer");
    assert_eq!(answer.header("connection"), Some("close"), "{path}");
    raw.closed().await;
    answer
}

fn text(answer: &RawAnswer) -> &str {
    std::str::from_utf8(&answer.body).expect("UTF-8")
}

/// Health, probes and metrics answer and report it; all other requests are refused immediately and may be sent again.
async fn assert_only_monitored(service: &Service, places: usize) {
    for path in ["/health/live", "/health/ready", "/health", "/metrics"] {
        let answer = get(service, path).await;
        assert_eq!(answer.status, 200, "{path}");
    }
    let mut raw = Raw::connect(service.address()).await;
    raw.send(event()).await;
    let refused = raw.answer().await.expect("an answer");
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(text(&refused).contains(&format!("all {places} places")));
    raw.closed().await;

    let health: serde_json::Value =
        serde_json::from_slice(&get(service, "/health").await.body).expect("JSON");
    assert_eq!(health["status"], "degraded", "{health}");
    assert_eq!(health["accepting"], true, "{health}");
    let problem = health["problems"][0].as_str().expect("a sentence");
    assert!(
        problem.contains(&format!("all {places} places")),
        "{problem}"
    );
    assert!(problem.contains("RUVVECTOR_CONNECTIONS"), "{problem}");
    let metrics = get(service, "/metrics").await;
    for line in [
        format!("ruvvector_receive_connections {places}"),
        format!("ruvvector_receive_connections_max {places}"),
    ] {
        assert!(has_line(&metrics, &line), "{line}");
    }
}

/// 2,048 connections that did nothing stopped every port, including `/health` and `/metrics`, and nothing reported it.
#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_answer_while_every_connection_is_used() {
    const PLACES: usize = 8;
    for holder in [Holder::Idle, Holder::Headless, Holder::SlowBody] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (service, _first) = start(&dir, PLACES).await;
        let mut held = Vec::new();
        for _ in 1..PLACES {
            held.push(holder.hold(&service).await);
        }
        assert_only_monitored(&service, PLACES).await;
        // Clients with a connection are served as usual.
        for raw in &mut held {
            match holder {
                Holder::SlowBody => raw.send(&EVENT[EVENT.len() / 2..]).await,
                Holder::Idle | Holder::Headless => raw.send(event()).await,
            };
            assert_eq!(
                raw.answer().await.expect("an answer").status,
                200,
                "{holder:?}"
            );
        }
        drop(held.pop());
        let mut raw = Raw::connect(service.address()).await;
        raw.send(event()).await;
        assert_eq!(
            raw.answer().await.expect("an answer").status,
            200,
            "{holder:?}"
        );
    }
}

/// Clients that kept their connections without further requests kept everybody else out for as long as they wanted.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_rested_longest_makes_room_in_order() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (service, mut first) = start(&dir, 4).await;
    let relay =
        crate::support::relay::Relay::start(service.grpc_address(), Duration::from_millis(20))
            .await;
    let mut http2 = Http2::connect(&relay).await;
    let call = http2.frames_mut().open_grpc("/grpc.health.v1.Health/Check");
    http2
        .frames_mut()
        .push(frames::DATA, frames::END_STREAM, call, &[0; 5]);
    http2.send().await;
    http2.answered(call).await;
    let rested = Instant::now();
    let mut silent = Holder::Headless.hold(&service).await;
    let mut idle = Holder::Idle.hold(&service).await;

    // It waits for a slot; no connection has been idle for five seconds yet.
    let mut waiting = Raw::connect(service.otlp_http_address()).await;
    let export = "Content-Type: application/json\r\n";
    waiting.send(head("/v1/traces", export, 2) + "{}").await;
    first.closed().await;
    assert_eq!(waiting.answer().await.expect("an answer").status, 200);

    let mut waiting = Raw::connect(service.otlp_http_address()).await;
    waiting.send(head("/v1/traces", export, 2) + "{}").await;
    assert_eq!(http2.goaway().await, (1 << 31) - 1);
    assert!(rested.elapsed() > Duration::from_secs(5));
    let ping = http2.ping().await;
    http2.acknowledge(&ping).await;
    assert_eq!(http2.goaway().await, call);
    assert!(http2.next().await.is_none());
    assert_eq!(waiting.answer().await.expect("an answer").status, 200);

    // The next one on the main port too, immediately.
    let mut main = Raw::connect(service.address()).await;
    main.send(event()).await;
    assert_eq!(main.answer().await.expect("an answer").status, 200);
    silent.closed().await;
    idle.send(event()).await;
    assert_eq!(idle.answer().await.expect("an answer").status, 200);
    drop(idle);
    let metrics = service.metrics().await;
    assert!(metrics.sum("ruvvector_receive_connections_displaced_total") >= 3.0);
    assert_eq!(
        metrics.sum("ruvvector_receive_connections_failed_total"),
        0.0
    );
}

/// The default maximum, of every kind at once.
#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_answer_while_2048_connections_are_held() {
    const PLACES: usize = 2048;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be raised");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (service, _first) = start(&dir, PLACES).await;
    let mut held = Vec::with_capacity(PLACES);
    for n in 1..PLACES {
        let holder = [Holder::Headless, Holder::Idle, Holder::SlowBody][n * 3 / PLACES];
        held.push(holder.hold(&service).await);
    }
    // A piece more of each body: one that gets none for ten seconds is given up, and would not hold its place.
    for raw in held.iter_mut().skip(PLACES * 2 / 3) {
        assert!(raw.send(&EVENT[EVENT.len() / 2..=EVENT.len() / 2]).await);
    }
    for path in ["/health/live", "/health/ready", "/health", "/metrics"] {
        let begun = Instant::now();
        let answer = get(&service, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}");
    }
    let metrics = get(&service, "/metrics").await;
    let line = format!("ruvvector_receive_connections {PLACES}");
    assert!(text(&metrics).contains(&line));
    // A client that has sent nothing for five seconds makes way for one that sends.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..20 {
        let mut raw = Raw::connect(service.address()).await;
        raw.send(event()).await;
        assert_eq!(raw.answer().await.expect("an answer").status, 200);
        held.push(raw);
    }
}
