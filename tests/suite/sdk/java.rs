//! OpenTelemetry's Java SDK, autoconfigured.
//!
//! **Invariant:** the program sets nothing but the endpoint.

use super::refusals::arrives_later;
use super::{Protocol, arrives};

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_over_grpc_its_default_arrives() {
    arrives("java", Protocol::Grpc, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_in_protobuf_over_http_arrives() {
    arrives("java", Protocol::HttpProtobuf, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_over_grpc_comes_again_and_nothing_is_missing() {
    arrives_later("java", Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_protobuf_over_http_comes_again_and_nothing_is_missing() {
    arrives_later("java", Protocol::HttpProtobuf).await;
}
