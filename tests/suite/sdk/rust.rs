//! OpenTelemetry's Rust SDK.
//!
//! **Invariant:** the program sets nothing but the endpoint.

use super::{Protocol, arrives};

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_in_protobuf_over_http_its_default_arrives() {
    arrives("rust", Protocol::HttpProtobuf, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_in_json_arrives() {
    arrives("rust", Protocol::HttpJson, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_over_grpc_arrives() {
    arrives("rust", Protocol::Grpc, 100).await;
}
