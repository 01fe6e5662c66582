//! Answers, rows H3 to H15.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use ruvvector_service::event::Limits;
use ruvvector_service::receive::{AuthTokens, Options};
use ruvvector_service::router::otlp_http_port;
use serde_json::json;

use super::super::{MIB, Served, gzip, head};
use super::{JSON, ONE_SPAN_JSON, PROTOBUF, one_span, request, span, status};
use crate::support::slow_disk::SlowDisk;

#[tokio::test]
async fn h3_h8_errors_are_statuses_in_the_requests_content_type_with_details_on_400() {
    let served = Served::start().await;
    for (content_type, body) in [(PROTOBUF, &b"\xff\xff\xff"[..]), (JSON, b"{")] {
        let answer = served.export(content_type, body).await;
        assert_eq!(answer.status, 400);
        let status = status(&answer, content_type);
        assert_eq!(status.code, 3);
        assert!(!status.message.is_empty());
        let [detail] = &*status.details else {
            panic!("{status:?}")
        };
        assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.BadRequest");
        assert!(!detail.value.is_empty());
    }
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn h4_other_content_types_are_415_and_other_methods_405() {
    let served = Served::start().await;
    for headers in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "text/xml")],
        &[],
    ] {
        let answer = served.post("/v1/traces", headers, one_span()).await;
        assert_eq!(answer.status, 415, "{headers:?}");
        assert!(!status(&answer, JSON).message.is_empty());
    }
    for (content_type, method) in [(PROTOBUF, Method::GET), (JSON, Method::PUT)] {
        let headers = [("content-type", content_type)];
        let answer = served.send(method, "/v1/traces", &headers, "").await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), Some("POST"));
        assert!(!status(&answer, content_type).message.is_empty());
    }
    for encoding in ["br", "gzip, gzip"] {
        let headers = [("content-type", PROTOBUF), ("content-encoding", encoding)];
        let answer = served.post("/v1/traces", &headers, one_span()).await;
        assert_eq!(answer.status, 415, "{encoding}");
        assert!(
            answer
                .header("accept-encoding")
                .is_some_and(|taken| taken.contains("gzip"))
        );
        status(&answer, PROTOBUF);
    }
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn h5_size_is_limited_on_the_wire_and_decompressed() {
    let served = Served::start_with(Options {
        otlp_wire_bytes: MIB,
        otlp_decoded_bytes: 2 * MIB,
        ..Options::default()
    })
    .await;
    let answer = served.export(PROTOBUF, vec![0; MIB + 1]).await;
    assert_eq!(answer.status, 413);
    status(&answer, PROTOBUF);
    let headers = [("content-type", JSON), ("content-encoding", "gzip")];
    let spaces = |bytes| gzip(&[&vec![b' '; bytes - 2], &b"{}"[..]].concat());
    let answer = served
        .post("/v1/traces", &headers, spaces(2 * MIB + 1))
        .await;
    assert_eq!(answer.status, 413);
    status(&answer, JSON);
    let answer = served.post("/v1/traces", &headers, spaces(2 * MIB)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn h6_a_full_success_is_an_empty_message() {
    let served = Served::start().await;
    let answer = served.export(PROTOBUF, one_span()).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    assert_eq!(answer.header("content-type"), Some(PROTOBUF));
    let answer = served.export(JSON, ONE_SPAN_JSON).await;
    assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"{}"[..]));
    assert_eq!(answer.header("content-type"), Some(JSON));
    served.assert_unharmed(2).await;
}

#[tokio::test]
async fn h7_a_partial_success_is_200_and_counts_what_was_rejected() {
    let served = Served::start().await;
    let body = request(vec![span(&[1; 16]), span(&[0; 16]), span(&[1; 3])]).encode_to_vec();
    let answer = served.export(PROTOBUF, body).await;
    assert_eq!(answer.status, 200);
    let partial = ExportTraceServiceResponse::decode(&*answer.body).unwrap();
    let partial = partial.partial_success.expect("a partial success");
    assert_eq!(partial.rejected_spans, 2);
    assert!(!partial.error_message.is_empty());

    let body = ONE_SPAN_JSON.replace(
        "\"spans\":[",
        "\"spans\":[{\"traceId\":\"00\",\"spanId\":\"d0e1f2a3b4c5d6e7\"},",
    );
    let answer = served.export(JSON, body).await;
    assert_eq!(answer.status, 200);
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedSpans"], json!("1"));
    assert!(
        partial["errorMessage"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    served.assert_unharmed(2).await;
}

#[tokio::test]
async fn h9_h10_a_full_journal_is_503_with_a_wait_of_one_to_five_seconds() {
    let options = Options {
        duplicate_window: None,
        ..Options::default()
    };
    let served = Served::start_on(4 * MIB as u64, options, otlp_http_port).await;
    let spans = request(vec![span(&[1; 16]); 2000]).encode_to_vec();
    let refused = loop {
        let answer = served.export(PROTOBUF, spans.clone()).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.status, 503, "{}", refused.text());
    let wait: u64 = refused
        .header("retry-after")
        .expect("a wait")
        .parse()
        .unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    assert_eq!(
        refused.header("ruvvector-outcome"),
        None,
        "it was not stored"
    );
    assert_eq!(status(&refused, PROTOBUF).code, 14);
}

#[tokio::test]
async fn h9_what_may_be_stored_all_the_same_is_marked_unknown() {
    // The sync is in progress when the time is over.
    let disk = Arc::new(SlowDisk(Duration::from_millis(500)));
    let options = Options {
        handling_timeout: Duration::ZERO,
        ..Options::default()
    };
    let router = ruvvector_service::router::ingestion;
    let served = Served::start_on_disk(disk, 16 * MIB as u64, options, router).await;
    let answer = served.export(PROTOBUF, one_span()).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("ruvvector-outcome"), Some("unknown"));
    assert!(answer.header("retry-after").is_some());
    served.journal.synced_past(0).await;
    assert_eq!(
        served.logged_events().await,
        1,
        "it was stored all the same"
    );
}

#[tokio::test]
async fn g14_a_retry_is_no_success_before_the_first_is_synced() {
    let disk = Arc::new(SlowDisk(Duration::from_millis(500)));
    let options = Options {
        handling_timeout: Duration::ZERO,
        ..Options::default()
    };
    let served = Served::start_on_disk(disk, 16 * MIB as u64, options, otlp_http_port).await;
    loop {
        let answer = served.export(PROTOBUF, one_span()).await;
        if answer.status == 200 {
            assert_eq!(served.journal.status().synced, 1);
            break;
        }
        assert_eq!(answer.header("ruvvector-outcome"), Some("unknown"));
    }
    assert_eq!(served.logged_events().await, 1);
}

#[tokio::test]
async fn h11_many_rejections_make_no_long_answer() {
    let served = Served::start().await;
    let mut spans = vec![span(&[0; 16]); 5000];
    spans.push(span(&[1; 16]));
    let answer = served
        .export(PROTOBUF, request(spans).encode_to_vec())
        .await;
    let partial = ExportTraceServiceResponse::decode(&*answer.body).unwrap();
    let partial = partial.partial_success.expect("a partial success");
    assert_eq!(partial.rejected_spans, 5000);
    assert!(partial.error_message.len() <= 1024);
}

#[tokio::test]
async fn h12_a_connection_serves_on_after_an_error_whose_body_was_read() {
    let served = Served::start().await;
    let mut raw = served.raw().await;
    let refused = [
        ("/v1/traces", "Content-Type: application/json\r\n", 400),
        ("/v1/traces", "Content-Type: text/plain\r\n", 415),
        ("/v1/profiles", "Content-Type: application/json\r\n", 404),
        ("/ingest", "Origin: https://evil.example\r\n", 403),
    ];
    for (path, headers, status) in refused {
        // Head and body in two pieces, as some clients send them.
        raw.send(head(path, headers, 3)).await;
        tokio::task::yield_now().await;
        raw.send("{{{").await;
        assert_eq!(raw.answer().await.expect("an answer").status, status);
    }
    let headers = "Content-Type: application/x-protobuf\r\n";
    raw.send(head("/v1/traces", headers, one_span().len()))
        .await;
    raw.send(one_span()).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn h13_a_listed_origins_preflight_is_answered_without_a_token() {
    let served = Served::start_with(Options {
        cors_origins: vec!["https://shop.example".to_owned()],
        auth_tokens: AuthTokens::new(&["secret".into()]),
        ..Options::default()
    })
    .await;
    let ask = |origin| {
        [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            (
                "access-control-request-headers",
                "authorization, content-type",
            ),
        ]
    };
    let headers = ask("https://shop.example");
    let answer = served
        .send(Method::OPTIONS, "/v1/traces", &headers, "")
        .await;
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://shop.example")
    );
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    let allowed = answer.header("access-control-allow-headers");
    assert_eq!(allowed, Some("authorization, content-type"));

    let headers = ask("https://evil.example");
    let answer = served
        .send(Method::OPTIONS, "/v1/traces", &headers, "")
        .await;
    assert!(answer.status.is_client_error());
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

#[tokio::test]
async fn h14_answers_are_gzipped_when_asked_for() {
    let served = Served::start().await;
    let unzip = |body: &[u8]| {
        std::io::read_to_string(flate2::read::GzDecoder::new(body)).expect("gzip of text")
    };
    let headers = [("content-type", JSON), ("accept-encoding", "deflate, gzip")];
    let answer = served.post("/v1/traces", &headers, ONE_SPAN_JSON).await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(unzip(&answer.body), "{}");
    let answer = served.post("/v1/traces", &headers, "{").await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(unzip(&answer.body).starts_with('{'));
}

#[tokio::test]
async fn h15_a_body_sent_to_the_root_gets_the_right_path() {
    let served = Served::start_on(64 * MIB as u64, Options::default(), otlp_http_port).await;
    for (content_type, body) in [(PROTOBUF, one_span()), (JSON, ONE_SPAN_JSON.into())] {
        let answer = served
            .post("/", &[("content-type", content_type)], body)
            .await;
        assert_eq!(answer.status, 404);
        assert!(status(&answer, content_type).message.contains("/v1/traces"));
    }
    // The OTLP port serves only OTLP.
    assert_eq!(served.post_event().await.status, 404);
}

#[tokio::test]
async fn values_that_a_limit_cut_are_reported_without_a_rejection() {
    let served = Served::start_with(Options {
        decode: Limits {
            attributes: 1,
            value_bytes: 4,
            ..Limits::default()
        },
        ..Options::default()
    })
    .await;
    let body = ONE_SPAN_JSON.replace(
        "\"name\"",
        r#""attributes":[{"key":"a","value":{"stringValue":"longer than four"}}],"name""#,
    );
    let answer = served.export(JSON, body).await;
    assert_eq!(answer.status, 200);
    let partial = &answer.json()["partialSuccess"];
    assert!(
        partial["errorMessage"]
            .as_str()
            .is_some_and(|text| text.contains("cut"))
    );
    assert_eq!(partial.get("rejectedSpans"), None);
    served.assert_unharmed(1).await;
}
