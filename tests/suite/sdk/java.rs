//! OpenTelemetry's Java SDK, autoconfigured.
//!
//! **Invariant:** the program sets nothing but the endpoint.

use super::{Protocol, arrives};

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_over_grpc_its_default_arrives() {
    arrives("java", Protocol::Grpc, 1000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_it_sends_in_protobuf_over_http_arrives() {
    arrives("java", Protocol::HttpProtobuf, 100).await;
}
