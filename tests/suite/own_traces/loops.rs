//! A service that exports to itself, and two that export to each other: exports are stored, and are never traced.

use super::{INTERVAL, TRACE, all, directory, free_port, ingest, spans, traceparent};
use crate::support::service::{Launch, Service};

/// Traces every request, and exports to `to`.
fn tracing_all(launch: Launch, to: u16) -> Launch {
    launch
        .with(
            "RUVVECTOR_TRACES_ENDPOINT",
            &format!("http://127.0.0.1:{to}"),
        )
        .with("RUVVECTOR_TRACES_SAMPLE_RATIO", "1")
}

/// The number of stored own spans, and of accepted exports.
async fn exports(service: &Service) -> (usize, f64) {
    let taken = r#"source="otlp_grpc",signal="span",outcome="accepted""#;
    let metrics = service.metrics().await;
    let taken = metrics.sum_where("ruvvector_receive_requests_total", taken);
    (service.http_all().await, taken)
}

trait Count {
    async fn http_all(&self) -> usize;
}

impl Count for Service {
    /// Asks in a trace that is not sampled: the question must not make spans itself.
    async fn http_all(&self) -> usize {
        let url = self.url("/query?integration=ruvvector-service&eventType=span&limit=10000");
        let headers = [("traceparent", &*traceparent(TRACE, "00"))];
        let asked = self.http.send(axum::http::Method::GET, &url, &headers, "");
        let answer = asked.await.expect("an answer").json();
        answer.as_array().expect("a page").len()
    }
}

/// Waits until nothing was exported for several intervals; panics if that never happens.
async fn until_silent(services: &[&Service]) {
    let deadline = tokio::time::Instant::now() + 40 * INTERVAL;
    let mut seen = Vec::new();
    let mut since = tokio::time::Instant::now();
    loop {
        let mut now = Vec::new();
        for service in services {
            now.push(exports(service).await);
        }
        if now != seen {
            (seen, since) = (now, tokio::time::Instant::now());
        }
        if since.elapsed() >= 4 * INTERVAL {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "there is no end of spans: {seen:?}"
        );
        tokio::time::sleep(INTERVAL / 4).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pointed_at_itself_it_stores_one_requests_spans_and_no_more() {
    let dir = directory();
    let port = free_port();
    let mut service = tracing_all(Launch::sqlite(dir.path()), port)
        .with("RUVVECTOR_OTLP_GRPC_PORT", &port.to_string())
        .start()
        .await;
    ingest(&service, &traceparent(TRACE, "01")).await;
    // The request, and the event that it sent.
    until_silent(&[&service]).await;
    let stored = all(&service).await;
    // receive, decode, append and the request; the batch, its INSERTs and its COMMIT.
    assert!((7..=9).contains(&stored.len()), "{stored:#?}");
    let servers: Vec<_> = stored.iter().filter(|span| span["kind"] == 2).collect();
    assert_eq!(servers.len(), 1, "{servers:#?}");
    assert_eq!(servers[0]["name"], "POST /ingest");

    // `all` was traced, because no caller decided against it; its last spans find the listener closed.
    let stopped_at = tokio::time::Instant::now();
    service.signal(rustix::process::Signal::TERM);
    let status = service.ended(std::time::Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    assert!(stopped_at.elapsed() < std::time::Duration::from_secs(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_point_at_each_other_come_to_rest() {
    let dirs = [directory(), directory()];
    let ports = [free_port(), free_port()];
    let start = async |n: usize| {
        tracing_all(Launch::sqlite(dirs[n].path()), ports[1 - n])
            .with("RUVVECTOR_OTLP_GRPC_PORT", &ports[n].to_string())
            .start()
            .await
    };
    let (one, other) = (start(0).await, start(1).await);
    ingest(&one, &traceparent(TRACE, "01")).await;
    spans(&other, TRACE, 4).await;
    until_silent(&[&one, &other]).await;
}
