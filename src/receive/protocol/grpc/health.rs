//! `grpc.health.v1.Health` (gRPC health checking protocol): the readiness of `/health/ready` for gRPC clients.
//!
//! **Invariant:** a watch never keeps a connection open: it ends after two minutes, and when the process stops.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::journal::Journal;
use crate::lifecycle::{Lifecycle, Phase};
use crate::receive::connection::tracked_stream::LONGEST;

/// Maximum size of a request, which holds the name of a service.
const REQUEST_BYTES: usize = 1 << 10;
/// Maximum duration of a watch; afterwards the client may watch again.
const WATCH_LONGEST: Duration = Duration::from_secs(120);
// A connection is cut if one request on it takes longer than LONGEST, even if others are in flight.
const _: () = assert!(WATCH_LONGEST.as_secs() < LONGEST.as_secs());

/// The services whose health is reported; the empty name is the whole process.
const SERVICES: [&str; 5] = [
    "",
    "grpc.health.v1.Health",
    "opentelemetry.proto.collector.logs.v1.LogsService",
    "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "opentelemetry.proto.collector.trace.v1.TraceService",
];

/// The health service; it reads the phase of the process and the state of the journal.
#[derive(Clone)]
pub(crate) struct GrpcHealth {
    pub(crate) journal: Journal,
    pub(crate) lifecycle: Lifecycle,
}

impl GrpcHealth {
    pub(crate) fn server(self) -> HealthServer<Self> {
        HealthServer::new(self).max_decoding_message_size(REQUEST_BYTES)
    }

    fn status(&self, service: &str) -> ServingStatus {
        if !SERVICES.contains(&service) {
            return ServingStatus::ServiceUnknown;
        }
        match self.lifecycle.phase() {
            Phase::Ready if !self.journal.is_broken() => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        }
    }
}

#[tonic::async_trait]
impl health_server::Health for GrpcHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match self.status(&request.get_ref().service) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("the service is unknown")),
            status => Ok(Response::new(answer(status))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let watch = HealthWatch {
            health: self.clone(),
            service: request.into_inner().service,
            phase: self.lifecycle.watch(),
            end: Instant::now() + WATCH_LONGEST,
            last_reported: None,
        };
        let statuses = stream::unfold(watch, |mut watch| async {
            let status = watch.next().await?;
            Some((Ok(answer(status)), watch))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

/// A client's watch on the health of one service.
struct HealthWatch {
    health: GrpcHealth,
    service: String,
    phase: watch::Receiver<Phase>,
    end: Instant,
    last_reported: Option<ServingStatus>,
}

impl HealthWatch {
    /// Waits until the status differs from the last one that was sent; `None` once the watch ends.
    async fn next(&mut self) -> Option<ServingStatus> {
        loop {
            let phase = *self.phase.borrow_and_update();
            let status = self.health.status(&self.service);
            if self.last_reported.replace(status) != Some(status) {
                return Some(status);
            }
            if phase >= Phase::Closing {
                return None;
            }
            tokio::select! {
                changed = self.phase.changed() => changed.ok()?,
                () = self.health.journal.broken(), if status == ServingStatus::Serving => {}
                () = sleep_until(self.end) => return None,
            }
        }
    }
}
