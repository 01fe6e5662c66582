//! Bodies and heads that no well-behaved client sends.

use std::time::Duration;

use axum::http::{Method, Request};
use futures_util::future::join_all;
use http_body_util::Full;
use ruvvector_service::receive::Options;

use crate::support::http::http2;

use super::{EVENT, MIB, Served, gzip, head};

/// Waits until that is so; after a minute the test has failed.
async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let patience = Duration::from_secs(60);
    tokio::time::timeout(patience, waiting)
        .await
        .expect("within a minute");
}

#[tokio::test]
async fn bombs_are_413_and_hold_no_more_than_the_budget() {
    let served = Served::start_with(Options {
        inflight_bytes: Some(64 * MIB),
        ..Options::default()
    })
    .await;
    // 10 GiB of zeros in members of 16 MiB, all of which a decoder has to read.
    let bomb = gzip(&vec![0; 16 * MIB]).repeat(640);
    let zstd = zstd::encode_all(&*vec![0; 16 * MIB], 1)
        .unwrap()
        .repeat(640);
    let send = async |encoding: &str, body: Vec<u8>, path: &str, content_type: &str| {
        let headers = [
            ("content-encoding", encoding),
            ("content-type", content_type),
        ];
        served.post(path, &headers, body).await.status.as_u16()
    };
    let mut sent = Vec::new();
    for _ in 0..4 {
        sent.push(send(
            "gzip",
            bomb[..bomb.len() / 8].to_vec(),
            "/ingest",
            "text/plain",
        ));
        sent.push(send("zstd", zstd.clone(), "/v1/traces", "application/json"));
    }
    for status in join_all(sent).await {
        assert!(matches!(status, 413 | 503), "{status}");
    }
    let alone = send("zstd", zstd, "/v1/traces", "application/x-protobuf").await;
    assert_eq!(alone, 413);
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn a_body_that_is_not_what_its_encoding_says_is_400() {
    let served = Served::start().await;
    let whole = gzip(EVENT.as_bytes());
    for body in [EVENT.as_bytes(), &whole[..whole.len() - 1], &whole[..5]] {
        let answer = served
            .post("/ingest", &[("content-encoding", "gzip")], body.to_vec())
            .await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn an_announced_body_over_the_limit_is_refused_unread() {
    let served = Served::start().await;
    let mut raw = served.raw().await;
    raw.send(head("/ingest", "Expect: 100-continue\r\n", 21 * MIB))
        .await;
    let answer = raw.answer().await.expect("an answer");
    assert_eq!(answer.status, 413, "without 100 Continue first");
    assert_eq!(answer.header("connection"), Some("close"));
    raw.closed().await;

    let mut raw = served.raw().await;
    raw.send(head("/ingest", "Expect: 100-continue\r\n", EVENT.len()))
        .await;
    assert_eq!(raw.answer().await.expect("an answer").status, 100);
    raw.send(EVENT).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);
    served.assert_unharmed(1).await;
}

#[tokio::test]
async fn a_client_that_sends_too_much_reads_its_413() {
    let served = Served::start().await;
    let mut raw = served.raw().await;
    // The client reads the answer only after it has sent all.
    raw.send(head("/ingest", "", 21 * MIB)).await;
    assert!(raw.send(vec![b' '; 21 * MIB]).await, "reset while it sent");
    assert_eq!(raw.answer().await.expect("an answer").status, 413);
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn a_body_that_can_never_fit_the_budget_is_413_and_one_that_finds_no_room_503() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let served = Served::start_with(Options {
        inflight_bytes: Some(4 * MIB),
        ..Options::default()
    })
    .await;
    let answer = served.post("/ingest", &[], vec![b' '; 2 * MIB + 1]).await;
    assert_eq!(answer.status, 413);

    let mut holding = Vec::new();
    for _ in 0..2 {
        let mut raw = served.raw().await;
        raw.send(head("/ingest", "", 2 * MIB)).await;
        raw.send(vec![b' '; 2 * MIB - 1]).await;
        holding.push(raw);
    }
    let held = format!("ruvvector_receive_inflight_bytes {}", 4 * MIB);
    until(|| page.render().contains(&held)).await;
    let refused = served.post("/ingest", &[], vec![b' '; MIB]).await;
    assert_eq!(refused.status, 503);
    let wait: u8 = refused
        .header("retry-after")
        .expect("a wait")
        .parse()
        .unwrap();
    assert!((1..=5).contains(&wait));
    drop(holding);
    until(|| page.render().contains("ruvvector_receive_inflight_bytes 0")).await;
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn lengths_that_disagree_are_refused_and_chunks_win() {
    let served = Served::start().await;
    let length = EVENT.len();
    let post = |headers: String, body: &str| {
        format!("POST /ingest HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
    };
    let refused = [
        "Content-Length: x\r\n".to_owned(),
        "Content-Length: -1\r\n".to_owned(),
        "Content-Length: +5\r\n".to_owned(),
        format!("Content-Length: {length}\r\nContent-Length: 3\r\n"),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
    ];
    for headers in refused {
        let mut raw = served.raw().await;
        raw.send(post(headers.clone(), EVENT)).await;
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.status, 400, "{headers}");
        raw.closed().await;
    }
    assert_eq!(served.logged_events().await, 0);

    let mut raw = served.raw().await;
    let equal = format!("Content-Length: {length}\r\nContent-Length: {length}\r\n");
    raw.send(post(equal, EVENT)).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);

    let mut raw = served.raw().await;
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".to_owned();
    let chunks = format!("{length:x}\r\n{EVENT}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n");
    raw.send(post(both, &chunks)).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);
    assert!(
        raw.answer().await.is_none(),
        "what follows is not read as a request"
    );
    served.assert_unharmed(2).await;
}

#[tokio::test]
async fn too_many_or_too_large_headers_are_431() {
    let served = Served::start().await;
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    let large = |kib: usize| {
        (0..kib)
            .map(|n| format!("X-{n}: {}\r\n", "v".repeat(1024)))
            .take(90)
            .collect::<String>()
    };
    let one = |kib: usize| format!("X: {}\r\n", "v".repeat(kib << 10));
    for headers in [many, large(90), one(100), one(500)] {
        let mut raw = served.raw().await;
        raw.send(head("/ingest", &headers, 0)).await;
        assert_eq!(raw.answer().await.expect("an answer").status, 431);
        raw.closed().await;
    }
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn strange_targets_lead_nowhere() {
    let served = Served::start().await;
    let long = format!("/ingest?{}", "x".repeat(8 << 10));
    for (target, status) in [
        (&*long, 414),
        ("/%00", 404),
        ("/v1/traces/../metrics", 404),
        ("/ingest/../../etc/passwd", 404),
        ("//ingest", 404),
    ] {
        let mut raw = served.raw().await;
        raw.send(head(target, "Content-Type: application/json\r\n", 0))
            .await;
        assert_eq!(
            raw.answer().await.expect("an answer").status,
            status,
            "{target}"
        );
    }
    served.assert_unharmed(0).await;
}

/// A Collector with a persistent queue dropped 2,000 records after an upload had stalled for 11 s: it was answered 408,
/// which is final for clients of OTLP.
#[tokio::test]
async fn a_slow_body_is_refused_the_journal_untouched_and_otlp_is_asked_to_send_again() {
    let whole = Options {
        body_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let idle = Options {
        body_idle_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    for options in [whole, idle] {
        let served = Served::start_with(options).await;
        let mut sent = vec![("/ingest", "application/json", 408)];
        for path in ["/v1/traces", "/v1/logs", "/v1/metrics", "/v1/traces/"] {
            sent.push((path, "application/x-protobuf", 503));
            sent.push((path, "application/json", 503));
        }
        let sending = sent.into_iter().map(async |(path, content_type, status)| {
            let mut raw = served.raw().await;
            let content_type = format!("Content-Type: {content_type}\r\n");
            raw.send(head(path, &content_type, EVENT.len())).await;
            raw.send(&EVENT[..10]).await;
            let answer = raw.answer().await.expect("an answer");
            assert_eq!(answer.status, status, "{path}");
            let wait = answer.header("retry-after").map(str::to_owned);
            let is_wait = |wait: String| matches!(&*wait, "2" | "3");
            assert_eq!(wait.map(is_wait), (status == 503).then_some(true), "{path}");
            assert_eq!(answer.header("ruvvector-outcome"), None);
            assert_eq!(answer.header("connection"), Some("close"));
            raw.closed().await;
        });
        join_all(sending).await;
        served.assert_unharmed(0).await;
    }
}

#[tokio::test]
async fn a_request_of_a_client_that_disconnected_is_stored_whole_or_not_at_all() {
    let served = Served::start().await;
    let mut cut = served.raw().await;
    cut.send(head("/ingest", "", EVENT.len())).await;
    cut.send(&EVENT[..EVENT.len() - 1]).await;
    drop(cut);
    served.assert_unharmed(0).await;

    let mut whole = served.raw().await;
    whole.send(head("/ingest", "", EVENT.len()) + EVENT).await;
    drop(whole);
    served.post_event().await;
    let events = served.logged_events().await;
    assert!((2..=3).contains(&events), "{events}");
}

#[tokio::test]
async fn what_is_no_http_is_closed_counted_and_harms_nobody() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let served = Served::start().await;
    let client_hello = [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        &[7; 512],
    ]
    .concat();
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for bytes in [
        client_hello,
        noise,
        b"\r\n\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
    ] {
        let mut raw = served.raw().await;
        raw.send(bytes).await;
        raw.send("\r\n\r\n").await;
        let answer = raw.answer().await;
        assert!(answer.is_none_or(|answer| answer.status >= 400));
    }
    let counted = "ruvvector_receive_connections_failed_total 4";
    until(|| page.render().contains(counted)).await;
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn grpc_on_a_port_of_http_gets_the_right_port() {
    let served = Served::start().await;
    let export = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let request = Request::post(served.url(export))
        .header("content-type", "application/grpc")
        .body(Full::from(&b"\0\0\0\0\0"[..]))
        .expect("well formed");
    let answer = http2().request(request).await.expect("an answer");
    let told = |name| answer.headers()[name].to_str().expect("ASCII");
    assert_eq!(told("grpc-status"), "12");
    assert!(told("grpc-message").contains("4317"));
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn everything_is_counted_once_under_closed_sets_of_labels() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let served = Served::start().await;
    served.post_event().await;
    served.post("/ingest", &[], format!("[{EVENT},{{}}]")).await;
    served
        .post("/ingest?partial=true", &[], format!("[{EVENT},{{}}]"))
        .await;
    served
        .post("/ingest", &[("content-type", "image/png")], EVENT)
        .await;
    let unknown = Method::from_bytes(&[b'X'; 8192]).unwrap();
    served.send(unknown, "/nowhere/at/all", &[], "").await;
    let page = page.render();
    let has = |series: &str| assert!(page.contains(series), "no {series} in\n{page}");
    let events = r#"ruvvector_receive_events_total{source="native",signal="event""#;
    has(&format!(r#"{events},outcome="accepted"}} 2"#));
    has(&format!(r#"{events},outcome="rejected"}} 3"#));
    let requests = r#"ruvvector_receive_requests_total{source="native",signal="event""#;
    for outcome in ["accepted", "partial", "invalid", "denied"] {
        has(&format!(r#"{requests},outcome="{outcome}"}} 1"#));
    }
    has(r#"ruvvector_receive_inflight_requests 0"#);
    has(r#"ruvvector_receive_inflight_bytes 0"#);
    let durations = "http_server_request_duration_seconds_count";
    has(&format!(
        r#"{durations}{{http_request_method="POST",http_route="/ingest",http_response_status_code="200"}} 2"#
    ));
    has(&format!(
        r#"{durations}{{http_request_method="_OTHER",http_route="_OTHER",http_response_status_code="404"}} 1"#
    ));
}
