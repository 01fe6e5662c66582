//! OpenTelemetry's Go SDK.
//!
//! **Invariant:** the program sets nothing but the endpoint.

use super::refusals::arrives_later;
use super::{Protocol, arrives};

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_over_grpc_arrives() {
    arrives("go", Protocol::Grpc, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_in_protobuf_over_http_arrives() {
    arrives("go", Protocol::HttpProtobuf, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_with_its_traces_in_json_arrives() {
    arrives("go", Protocol::HttpJson, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_over_grpc_comes_again_and_nothing_is_missing() {
    arrives_later("go", Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_protobuf_over_http_comes_again_and_nothing_is_missing() {
    arrives_later("go", Protocol::HttpProtobuf).await;
}
