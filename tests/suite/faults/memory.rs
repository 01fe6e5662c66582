//! Requests of a few MiB that become hundreds when they are decoded into trees.

use axum::http::StatusCode;

use super::directory;
use crate::support::memory_limit::MemoryLimit;
use crate::support::postgres::Database;
use crate::support::service::Launch;

/// Small requests that become many rows.
mod growing;

/// Requests, records and answers under a memory limit of the whole process.
mod limits;

/// Items whose row is far larger than the item.
mod large_rows;

const BODY_BYTES: usize = 8 << 20;
const AT_ONCE: usize = 8;
const LIMIT_MIB: u64 = 256;

/// A protobuf field of wire type 2.
pub(super) fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("seven bits"));
    bytes.extend_from_slice(content);
    bytes
}

/// `BODY_BYTES` of the same field, empty.
fn empties(number: u8) -> Vec<u8> {
    [number << 3 | 2, 0].repeat(BODY_BYTES / 2)
}

/// ResourceSpans (1) of ScopeSpans (2).
fn request(scope_spans: &[u8]) -> Vec<u8> {
    field(1, &field(2, scope_spans))
}

/// One valid span (2) with more fields.
fn one_span(fields: &[u8]) -> Vec<u8> {
    let mut span = field(1, &[1; 16]);
    span.extend(field(2, &[2; 8]));
    span.extend_from_slice(fields);
    request(&field(2, &span))
}

/// An attribute (9) whose value (2) is an array (5) of empty values (1).
fn any_values() -> Vec<u8> {
    let mut attribute = field(1, b"k");
    attribute.extend(field(2, &field(5, &empties(1))));
    one_span(&field(9, &attribute))
}

fn zeros() -> String {
    let mut text = "[0".to_owned();
    text.push_str(&",0".repeat(BODY_BYTES / 2));
    text.push(']');
    text
}

fn bodies() -> Vec<(&'static str, &'static str, &'static str, Vec<u8>)> {
    const PROTOBUF: &str = "application/x-protobuf";
    const JSON: &str = "application/json";
    let zeros = zeros();
    let spans = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{}}{}]}}]}}]}}"#,
        ",{}".repeat(BODY_BYTES / 3)
    );
    let event = format!(
        r#"{{"correlationId":"c","integration":"i","eventType":"e","metadata":{{"zeros":{zeros}}}}}"#
    );
    let attribute = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"0102030405060708090a0b0c0d0e0f10","spanId":"0102030405060708","attributes":{zeros}}}]}}]}}]}}"#
    );
    vec![
        ("empty spans", "/v1/traces", PROTOBUF, request(&empties(2))),
        (
            "empty links",
            "/v1/traces",
            PROTOBUF,
            one_span(&empties(13)),
        ),
        (
            "empty events",
            "/v1/traces",
            PROTOBUF,
            one_span(&empties(11)),
        ),
        (
            "empty attributes",
            "/v1/traces",
            PROTOBUF,
            one_span(&empties(9)),
        ),
        ("empty values", "/v1/traces", PROTOBUF, any_values()),
        (
            "empty spans as JSON",
            "/v1/traces",
            JSON,
            spans.into_bytes(),
        ),
        (
            "zeros for attributes",
            "/v1/traces",
            JSON,
            attribute.into_bytes(),
        ),
        ("zeros for events", "/ingest", JSON, zeros.into_bytes()),
        ("zeros in metadata", "/ingest", JSON, event.into_bytes()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_multiply_are_answered_in_little_memory_eight_at_once() {
    let database = Database::new().await;
    let dir = directory();
    let limit = MemoryLimit::of_mib(LIMIT_MIB);
    let launch = Launch::postgres(dir.path(), &database.url);
    let mut service = limit.on(&launch).start().await;
    for (name, path, content_type, body) in bodies() {
        let body = bytes::Bytes::from(body);
        let url = service.url(path);
        let answers = (0..AT_ONCE).map(|_| service.http.post(&url, content_type, body.clone()));
        for answer in futures_util::future::join_all(answers).await {
            let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            let status = answer.status;
            assert!(
                status.is_success()
                    || status == StatusCode::BAD_REQUEST
                    || status == StatusCode::PAYLOAD_TOO_LARGE
                    || status == StatusCode::SERVICE_UNAVAILABLE,
                "{name}: {status} {}",
                answer.text()
            );
            assert!(
                answer.body.len() < 4096,
                "{name}: {} bytes",
                answer.body.len()
            );
        }
        limit.assert_kept(&mut service, name);
    }
    service.until_drained().await;
    limit.assert_kept(&mut service, "after the drain");
    assert!(service.is_ready().await);
}
