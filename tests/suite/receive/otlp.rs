//! OTLP over HTTP, row by row of what a server owes its clients (OTLP 1.11).

use axum::http::Method;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use ruvvector_service::decode::Limits;
use ruvvector_service::receive::{Options, otlp_router};
use serde_json::json;

use super::{MIB, Served, gzip};
use crate::support::client::Answer;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// google/rpc/status.proto, read without its details' types.
#[derive(Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

fn span(trace_id: &[u8]) -> Span {
    Span {
        trace_id: trace_id.to_vec(),
        span_id: vec![2; 8],
        name: "work".to_owned(),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_000_001_000,
        ..Span::default()
    }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource::default()),
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        }],
    }
}

fn one_span() -> Vec<u8> {
    request(vec![span(&[1; 16])]).encode_to_vec()
}

const ONE_SPAN_JSON: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
    "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"work",
    "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000001000"}]}]}]}"#;

impl Served {
    async fn export(&self, content_type: &str, body: impl Into<bytes::Bytes>) -> Answer {
        self.post("/v1/traces", &[("content-type", content_type)], body)
            .await
    }
}

/// The status that an answer holds, in whichever of the two encodings it has to be.
fn status(answer: &Answer, content_type: &str) -> RpcStatus {
    assert_eq!(answer.header("content-type"), Some(content_type));
    assert!(answer.body.len() < 4096);
    if content_type == PROTOBUF {
        return RpcStatus::decode(&*answer.body).expect("a status");
    }
    let json = answer.json();
    let details = json["details"].as_array().cloned().unwrap_or_default();
    RpcStatus {
        code: i32::try_from(json["code"].as_i64().expect("a code")).expect("32 bits"),
        message: json["message"].as_str().expect("a message").to_owned(),
        details: details
            .iter()
            .map(|detail| Any {
                type_url: detail["@type"].as_str().expect("a type").to_owned(),
                value: detail["fieldViolations"].to_string().into_bytes(),
            })
            .collect(),
    }
}

#[tokio::test]
async fn g1_identity_and_gzip_and_more_are_taken() {
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
async fn g14_what_was_sent_before_is_a_success_like_the_first() {
    let served = Served::start().await;
    for _ in 0..2 {
        let answer = served.export(PROTOBUF, one_span()).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        let answer = served.export(JSON, ONE_SPAN_JSON).await;
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, &b"{}"[..]));
    }
    served.assert_unharmed(4).await;
}

#[tokio::test]
async fn h1_signals_that_are_not_taken_are_404_with_a_status() {
    let served = Served::start().await;
    for path in [
        "/v1/logs",
        "/v1/metrics",
        "/v1development/profiles",
        "/v1/traces/x",
    ] {
        for content_type in [PROTOBUF, JSON] {
            let headers = [("content-type", content_type)];
            let answer = served.post(path, &headers, one_span()).await;
            assert_eq!(answer.status, 404, "{path}");
            if path.starts_with("/v1/") {
                let status = status(&answer, content_type);
                assert_eq!(status.code, 5);
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
    let served = Served::start().await;
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
        "\"spans\":[{\"traceId\":\"00\",\"spanId\":\"eee19b7ec3c1b174\"},",
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
async fn h9_h10_a_full_log_is_503_with_a_wait_of_one_to_five_seconds() {
    let served = Served::start_on(4 * MIB as u64, Options::default(), otlp_router).await;
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
    let served = Served::start_with(Options {
        handling_timeout: std::time::Duration::ZERO,
        ..Options::default()
    })
    .await;
    let answer = served.export(PROTOBUF, one_span()).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("ruvvector-outcome"), Some("unknown"));
    assert!(answer.header("retry-after").is_some());
    served.log.synced_past(0).await;
    assert_eq!(
        served.logged_events().await,
        1,
        "it was stored all the same"
    );
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
        ("/v1/logs", "Content-Type: application/json\r\n", 404),
        ("/ingest", "Origin: https://evil.example\r\n", 403),
    ];
    for (path, headers, status) in refused {
        // Head and body in two pieces, as some clients send them.
        raw.send(super::head(path, headers, 3)).await;
        tokio::task::yield_now().await;
        raw.send("{{{").await;
        assert_eq!(raw.answer().await.expect("an answer").status, status);
    }
    let headers = "Content-Type: application/x-protobuf\r\n";
    raw.send(super::head("/v1/traces", headers, one_span().len()))
        .await;
    raw.send(one_span()).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);
}

#[tokio::test]
async fn h13_a_listed_origins_preflight_is_answered_without_a_token() {
    let served = Served::start_with(Options {
        cors_origins: vec!["https://shop.example".to_owned()],
        auth_tokens: vec!["secret".into()],
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
async fn h15_a_body_sent_to_the_root_is_told_the_right_path() {
    let served = Served::start_on(64 * MIB as u64, Options::default(), otlp_router).await;
    for (content_type, body) in [(PROTOBUF, one_span()), (JSON, ONE_SPAN_JSON.into())] {
        let answer = served
            .post("/", &[("content-type", content_type)], body)
            .await;
        assert_eq!(answer.status, 404);
        assert!(status(&answer, content_type).message.contains("/v1/traces"));
    }
    // The OTLP port takes OTLP alone.
    assert_eq!(served.post_event().await.status, 404);
}

#[tokio::test]
async fn values_that_a_limit_cut_are_told_without_a_rejection() {
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
