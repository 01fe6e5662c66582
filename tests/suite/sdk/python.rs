//! OpenTelemetry's Python SDK.
//!
//! **Invariant:** the program sets nothing but the endpoint.

use super::{Protocol, arrives};

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_in_protobuf_over_http_arrives() {
    arrives("python", Protocol::HttpProtobuf, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_in_json_arrives() {
    arrives("python", Protocol::HttpJson, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_over_grpc_arrives() {
    arrives("python", Protocol::Grpc, 100).await;
}
