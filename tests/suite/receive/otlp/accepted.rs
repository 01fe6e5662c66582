//! Accepted requests, rows G and H1 to H2.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message;
use ruvvector_service::receive::Options;

use super::super::{Served, gzip};
use super::{JSON, ONE_SPAN_JSON, PROTOBUF, one_span, request, span, status};

#[tokio::test]
async fn g1_identity_and_gzip_and_more_are_accepted() {
    let served = Served::start().await;
    let zstd = zstd::encode_all(&*one_span(), 1).unwrap();
    for (encoding, body) in [
        ("identity", one_span()),
        ("gzip", gzip(&one_span())),
        ("zstd", zstd),
    ] {
        let headers = [("content-type", PROTOBUF), ("content-encoding", encoding)];
        let answer = served.post("/v1/traces", &headers, body).await;
        assert_eq!(answer.status, 200, "{encoding}");
    }
    served.assert_unharmed(3).await;
}

#[tokio::test]
async fn g2_g3_empty_requests_and_envelopes_are_successes() {
    let served = Served::start().await;
    let gzip_of_nothing = [("content-type", PROTOBUF), ("content-encoding", "gzip")];
    for body in [gzip(b""), Vec::new()] {
        let answer = served.post("/v1/traces", &gzip_of_nothing, body).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    }
    for body in [
        Vec::new(),
        request(Vec::new()).encode_to_vec(),
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans::default()],
        }
        .encode_to_vec(),
    ] {
        let answer = served.export(PROTOBUF, body).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    }
    for body in ["{}", r#"{"resourceSpans":[]}"#, r#"{"resourceSpans":[{}]}"#] {
        let answer = served.export(JSON, body).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"{}"[..]));
    }
    served.assert_unharmed(0).await;
}

/// One attribute `{"doubleValue":{}}` cost every record of its request: an exporter drops a request that is answered
/// 400.
#[tokio::test]
async fn j8_a_value_of_the_wrong_type_costs_its_own_item_and_is_named() {
    let served = Served::start().await;
    let item = r#"{"traceId":"c2b1f7a40d3e4f5896a7b8c9d0e1f2a3","spanId":"d0e1f2a3b4c5d6e7","timeUnixNano":"1700000000000000000"}"#;
    let odd = r#"{"attributes":[{"key":"k","value":{"doubleValue":{}}}]}"#;
    for (path, [resources, scopes, open, close], rejected) in [
        (
            "/v1/traces",
            ["resourceSpans", "scopeSpans", r#""spans":["#, "]"],
            "rejectedSpans",
        ),
        (
            "/v1/logs",
            ["resourceLogs", "scopeLogs", r#""logRecords":["#, "]"],
            "rejectedLogRecords",
        ),
        (
            "/v1/metrics",
            [
                "resourceMetrics",
                "scopeMetrics",
                r#""metrics":[{"gauge":{"dataPoints":["#,
                "]}}]",
            ],
            "rejectedDataPoints",
        ),
    ] {
        let request = |items: &str| {
            format!(r#"{{"{resources}":[{{"{scopes}":[{{{open}{items}{close}}}]}}]}}"#)
        };
        let partly = request(&format!("{item},{odd},{item}")).into_bytes();
        for (encoding, body) in [("identity", partly.clone()), ("gzip", gzip(&partly))] {
            let headers = [("content-type", JSON), ("content-encoding", encoding)];
            let answer = served.post(path, &headers, body).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let partial = &answer.json()["partialSuccess"];
            assert_eq!(partial[rejected], "1");
            let told = partial["errorMessage"].as_str().unwrap();
            assert!(
                told.contains("[1].doubleValue: a number is expected"),
                "{told}"
            );
        }
        let headers = [("content-type", JSON)];
        let answer = served.post(path, &headers, request(odd)).await;
        assert_eq!(answer.status, 400);
        let told = answer.text();
        assert!(told.contains("doubleValue"), "{told}");
    }
    served.assert_unharmed(12).await;
}

/// 200 was the answer to JSON of another kind, and to a client without a body: nothing was stored, and nothing reported
/// it.
#[tokio::test]
async fn j9_nothing_is_no_json_and_a_request_without_known_members_gets_a_message() {
    let served = Served::start().await;
    for path in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        for (encoding, body) in [
            ("identity", Vec::new()),
            ("gzip", gzip(b"")),
            ("gzip", Vec::new()),
        ] {
            let headers = [("content-type", JSON), ("content-encoding", encoding)];
            let answer = served.post(path, &headers, body).await;
            assert_eq!(answer.status, 400, "{path} {encoding}");
        }
        let headers = [("content-type", JSON)];
        let answer = served.post(path, &headers, r#"{"message":"hello"}"#).await;
        assert_eq!(answer.status, 200);
        let partial = &answer.json()["partialSuccess"];
        let told = partial["errorMessage"].as_str().unwrap();
        assert!(told.contains("\"message\" is not known"), "{told}");
        assert_eq!(partial.as_object().unwrap().len(), 1, "nothing is rejected");
    }
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn g7_when_every_span_is_invalid_the_request_is_400() {
    let served = Served::start().await;
    let body = request(vec![span(&[0; 16]), span(&[1; 15])]).encode_to_vec();
    let answer = served.export(PROTOBUF, body).await;
    assert_eq!(answer.status, 400);
    assert_eq!(status(&answer, PROTOBUF).code, 3);
    served.assert_unharmed(0).await;
}

/// A retry after a lost answer.
#[tokio::test]
async fn g14_what_was_sent_before_is_a_success_like_the_first_and_logged_once() {
    let served = Served::start().await;
    for _ in 0..2 {
        let answer = served.export(PROTOBUF, one_span()).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        let answer = served.export(JSON, ONE_SPAN_JSON).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"{}"[..]));
    }
    served.assert_unharmed(2).await;
}

#[tokio::test]
async fn h1_signals_that_are_not_supported_are_404_with_a_status() {
    let served = Served::start().await;
    for path in ["/v1/profiles", "/v1development/profiles", "/v1/traces/x"] {
        for content_type in [PROTOBUF, JSON] {
            let headers = [("content-type", content_type)];
            let answer = served.post(path, &headers, one_span()).await;
            assert_eq!(answer.status, 404, "{path}");
            if path.starts_with("/v1/") {
                let status = status(&answer, content_type);
                assert_eq!(status.code, 12);
                assert!(status.message.contains("/v1/traces"), "{}", status.message);
            }
        }
    }
    let trailing = served.post("/v1/traces/", &[("content-type", PROTOBUF)], one_span());
    assert_eq!(trailing.await.status, 200);
    served.assert_unharmed(1).await;
}

#[tokio::test]
async fn h2_protobuf_and_json_share_a_path_in_any_case_and_with_parameters() {
    let served = Served::start_with(Options {
        duplicate_window: None,
        ..Options::default()
    })
    .await;
    for content_type in [
        PROTOBUF,
        "Application/X-Protobuf",
        "application/x-protobuf; a=b",
    ] {
        let answer = served.export(content_type, one_span()).await;
        assert_eq!(answer.status, 200, "{content_type} {}", answer.text());
    }
    for content_type in [JSON, "APPLICATION/JSON", "application/json; charset=utf-8"] {
        let answer = served.export(content_type, ONE_SPAN_JSON).await;
        assert_eq!(answer.status, 200, "{content_type} {}", answer.text());
    }
    served.assert_unharmed(6).await;
}
