//! Endpoints that are unavailable, slow, or invalid; and variables of the environment.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::TcpListener;

use super::{INTERVAL, TRACE, all, directory, free_port, ingest, spans, traceparent, tracing_to};
use crate::support::service::{Launch, Service};

#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_or_silent_endpoint_delays_nobody_and_no_stop() {
    // Accepts connections, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let silent = silent.local_addr().expect("bound").port();
    for port in [free_port(), silent] {
        let dir = directory();
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut service = tracing_to(Launch::sqlite(dir.path()), &endpoint)
            .start()
            .await;
        let began = Instant::now();
        for _ in 0..10 {
            ingest(&service, &traceparent(TRACE, "01")).await;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{endpoint}");
        service
            .until("the loss is counted", async |service: &Service| {
                let failed = r#"outcome="failed""#;
                service
                    .metrics()
                    .await
                    .sum_where("ruvvector_own_spans_total", failed)
                    > 0.0
            })
            .await;
        ingest(&service, &traceparent(TRACE, "01")).await;
        let asked = Instant::now();
        service.signal(Signal::TERM);
        let status = service.ended(Duration::from_secs(30)).await;
        assert!(status.success(), "{status}");
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(5), "{endpoint}: {took:?}");
        let lines = service.lines();
        let said = lines.matches("own traces are lost").count();
        assert_eq!(said, 1, "{endpoint}:\n{lines}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_exported_by_the_stop() {
    let dirs = [directory(), directory()];
    let to = Launch::sqlite(dirs[1].path()).start().await;
    let mut from = tracing_to(Launch::sqlite(dirs[0].path()), &to.otlp_grpc())
        .start()
        .await;
    ingest(&from, &traceparent(TRACE, "01")).await;
    from.signal(Signal::TERM);
    assert!(from.ended(Duration::from_secs(30)).await.success());
    assert_eq!(spans(&to, TRACE, 4).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environments_otel_variables_change_nothing() {
    let dirs = [directory(), directory(), directory()];
    let elsewhere = Launch::sqlite(dirs[2].path()).start().await;
    let to = Launch::sqlite(dirs[1].path())
        .with("RUVVECTOR_AUTH_TOKENS", "ours")
        .start()
        .await;
    let injected = |launch: Launch| {
        launch
            .with("OTEL_SDK_DISABLED", "true")
            .with("OTEL_SERVICE_NAME", "injected")
            .with(
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=injected,team=injected",
            )
            .with("OTEL_TRACES_SAMPLER", "always_on")
            .with("OTEL_TRACES_EXPORTER", "otlp")
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", &elsewhere.otlp_grpc())
            .with("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &elsewhere.otlp_grpc())
            .with(
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer injected",
            )
            .with(
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
                "authorization=Bearer injected",
            )
            .with("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
            .with("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd")
            .with("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
            .with("OTEL_BSP_MAX_QUEUE_SIZE", "1")
            .with("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
            .with("OTEL_BSP_SCHEDULE_DELAY", "600000")
            .with("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "0")
    };
    // Off stays off.
    let off = injected(Launch::sqlite(dirs[0].path())).start().await;
    ingest(&off, &traceparent(TRACE, "01")).await;
    tokio::time::sleep(2 * INTERVAL).await;
    assert!(all(&elsewhere).await.is_empty());
    assert!(
        off.lines()
            .contains("not read: OTEL_BSP_MAX_EXPORT_BATCH_SIZE"),
        "{}",
        off.lines()
    );
    drop(off);

    let on = tracing_to(injected(Launch::sqlite(dirs[0].path())), &to.otlp_grpc())
        .with("RUVVECTOR_TRACES_HEADERS", "authorization=Bearer ours")
        .start()
        .await;
    ingest(&on, &traceparent(TRACE, "01")).await;
    on.until("the spans are exported", async |on: &Service| {
        let exported = r#"outcome="exported""#;
        on.metrics()
            .await
            .sum_where("ruvvector_own_spans_total", exported)
            >= 4.0
    })
    .await;
    let url = to.url(&format!("/traces/{TRACE}"));
    let headers = [("authorization", "Bearer ours")];
    let mut stored = serde_json::Value::Null;
    to.until("the spans are stored", async |to: &Service| {
        to.get("/metrics").await.status == 200
    })
    .await;
    for _ in 0..100 {
        let asked = to
            .http
            .send(axum::http::Method::GET, &url, &headers, "")
            .await;
        stored = asked.expect("an answer").json();
        if stored.as_array().is_some_and(|spans| spans.len() == 4) {
            break;
        }
        tokio::time::sleep(INTERVAL / 10).await;
    }
    let text = stored.to_string();
    assert!(
        text.contains("http.route") && !text.contains("injected"),
        "{text}"
    );
    assert!(all(&elsewhere).await.is_empty());
}
