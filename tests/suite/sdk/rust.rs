//! OpenTelemetry's Rust SDK.
//!
//! **Invariant:** the program sets nothing but the endpoint.

use super::refusals::arrives_later;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_over_grpc_comes_again_and_nothing_is_missing() {
    arrives_later("rust", Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_protobuf_over_http_comes_again_and_nothing_is_missing() {
    arrives_later("rust", Protocol::HttpProtobuf).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_json_comes_again_and_nothing_is_missing() {
    arrives_later("rust", Protocol::HttpJson).await;
}
