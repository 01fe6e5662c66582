//! `grpc.health.v1.GrpcHealth`, as probes and load balancers ask it.

use rustix::process::Signal;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::channel;
use crate::support::service::{Launch, PATIENCE};

const SERVICES: [&str; 4] = [
    "",
    "opentelemetry.proto.collector.trace.v1.TraceService",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
];

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

async fn check(client: &mut HealthClient<Channel>, service: &str) -> ServingStatus {
    let answer = client.check(of(service)).await.expect("an answer");
    answer.into_inner().status()
}

fn told(answer: &HealthCheckResponse) -> ServingStatus {
    answer.status()
}

#[tokio::test]
async fn health_follows_readiness_and_a_watch_ends_with_the_service() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path())
        // Probes of gRPC have no token.
        .with("RUVVECTOR_AUTH_TOKENS", "secret")
        .with("RUVVECTOR_SHUTDOWN_DELAY", "3s");
    let mut service = launch.start().await;
    let mut client = HealthClient::new(channel(service.otlp_grpc()).await);
    for name in SERVICES {
        assert_eq!(
            check(&mut client, name).await,
            ServingStatus::Serving,
            "{name}"
        );
    }
    let unknown = client.check(of("no.such.Service")).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);

    let mut watch = client.watch(of("")).await.expect("a watch").into_inner();
    let first = watch.message().await.expect("no error").expect("a status");
    assert_eq!(told(&first), ServingStatus::Serving);
    // An unknown service is watched for, too.
    let mut other = client
        .watch(of("no.such.Service"))
        .await
        .expect("a watch")
        .into_inner();
    let first = other.message().await.expect("no error").expect("a status");
    assert_eq!(told(&first), ServingStatus::ServiceUnknown);

    service.signal(Signal::TERM);
    let next = watch.message().await.expect("no error").expect("a status");
    assert_eq!(told(&next), ServingStatus::NotServing);
    assert!(watch.message().await.expect("no error").is_none());
    assert!(other.message().await.expect("no error").is_none());
    assert!(service.ended(PATIENCE).await.success());
}
