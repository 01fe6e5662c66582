//! An endpoint receives one signal by one protocol; all endpoints handle requests in the same way.
//!
//! **Invariant:** a request is admitted by its head before its body is read, is counted once, and is answered in the
//! format that its client expects.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;

use crate::error::Error;
use crate::event::Signal;
use crate::receive::Receiver;
use crate::receive::ingest::body;
use crate::receive::ingest::pipeline::{IngestOutcome, IngestRequest};
use crate::receive::ingest::request_metrics::{EndpointMetrics, IngestProtocol, RequestMetrics};
use crate::receive::response::{self, ResponseFormat};

/// The functions in which protocols differ.
pub(crate) struct Protocol {
    pub(crate) intake: IngestProtocol,
    /// Reads the parameters of an admitted `POST` from its head.
    pub(crate) read_head: fn(&Endpoint, &Parts) -> Result<IngestRequest, Error>,
    /// Makes the answer to a request of which events were accepted, or that holds none.
    pub(crate) success: fn(&Endpoint, ResponseFormat, &IngestOutcome) -> Response,
}

/// The reception of one signal by one protocol.
pub(crate) struct Endpoint {
    pub(crate) receiver: Arc<Receiver>,
    pub(crate) signal: Signal,
    protocol: Protocol,
    counters: Arc<EndpointMetrics>,
}

impl Endpoint {
    pub(crate) fn new(receiver: &Arc<Receiver>, protocol: Protocol, signal: Signal) -> Arc<Self> {
        Arc::new(Self {
            receiver: Arc::clone(receiver),
            signal,
            counters: Arc::new(EndpointMetrics::new(protocol.intake, signal)),
            protocol,
        })
    }

    fn read_head(&self, parts: &Parts) -> Result<IngestRequest, Error> {
        if parts.method != Method::POST {
            return Err(Error::Method { allow: "POST" });
        }
        self.receiver.admission.check(&parts.headers)?;
        (self.protocol.read_head)(self, parts)
    }
}

/// Handles a request from its head to its answer.
pub(crate) async fn serve(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let receiver = &endpoint.receiver;
    let admission = &receiver.admission;
    if let Some(answer) = admission.preflight(&parts) {
        return answer;
    }
    let form = ResponseFormat::of(parts.version, parts.uri.path(), &parts.headers);
    let mut metrics = RequestMetrics::new(&endpoint.counters);
    let result = match endpoint.read_head(&parts) {
        Ok(ingest_request) => receiver.ingest(body, ingest_request, &mut metrics).await,
        Err(error) => {
            let limits = receiver.body_limits(endpoint.signal);
            body::discard(body, &parts.headers, &limits).await;
            Err(error)
        }
    };
    let mut answer = match result {
        Ok(outcome) => {
            metrics.accepted(&outcome.checked);
            (endpoint.protocol.success)(&endpoint, form, &outcome)
        }
        Err(error) => {
            metrics.failed(&error);
            response::error(&error, form)
        }
    };
    admission.share(&parts.headers, answer.headers_mut());
    answer
}
