//! OTLP over HTTP, row by row of a server's duties (OTLP 1.11).

/// Accepted requests.
mod accepted;

/// Answers.
mod answered;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::Served;
use crate::support::client::Answer;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// google/rpc/status.proto, read without its details' types.
#[derive(Message)]
pub(super) struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(message, repeated, tag = "3")]
    pub(super) details: Vec<Any>,
}

#[derive(Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

pub(super) fn span(trace_id: &[u8]) -> Span {
    Span {
        trace_id: trace_id.to_vec(),
        span_id: vec![2; 8],
        name: "work".to_owned(),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_000_001_000,
        ..Span::default()
    }
}

pub(super) fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
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

pub(super) fn one_span() -> Vec<u8> {
    request(vec![span(&[1; 16])]).encode_to_vec()
}

const ONE_SPAN_JSON: &str = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{
    "traceId":"c2b1f7a40d3e4f5896a7b8c9d0e1f2a3","spanId":"d0e1f2a3b4c5d6e7","name":"work",
    "startTimeUnixNano":"1700000000000000000","endTimeUnixNano":"1700000000000001000"}]}]}]}"#;

impl Served {
    async fn export(&self, content_type: &str, body: impl Into<bytes::Bytes>) -> Answer {
        self.post("/v1/traces", &[("content-type", content_type)], body)
            .await
    }
}

/// The status in an answer, in the encoding that it has to have.
pub(super) fn status(answer: &Answer, content_type: &str) -> RpcStatus {
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
