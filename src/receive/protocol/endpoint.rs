//! One signal that comes in by one protocol: the way of its requests, the same for all of them.
//!
//! **Invariant:** a request is admitted by its head before its body is read, is counted once, and is answered in the form
//! that its client reads.

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

/// What tells one protocol from another.
pub(in crate::receive) struct Protocol {
    pub(in crate::receive) intake: IngestProtocol,
    /// Reads from the head of a `POST` that was admitted how its body is to be taken.
    pub(in crate::receive) read_head: fn(&Endpoint, &Parts) -> Result<IngestRequest, Error>,
    pub(in crate::receive) success: fn(&Endpoint, ResponseFormat, &IngestOutcome) -> Response,
}

/// One signal that comes in by one protocol.
pub(in crate::receive) struct Endpoint {
    pub(in crate::receive) receiver: Receiver,
    pub(in crate::receive) signal: Signal,
    protocol: Protocol,
    counters: Arc<EndpointMetrics>,
}

impl Endpoint {
    pub(in crate::receive) fn new(
        receiver: &Receiver,
        protocol: Protocol,
        signal: Signal,
    ) -> Arc<Self> {
        Arc::new(Self {
            receiver: receiver.clone(),
            signal,
            counters: Arc::new(EndpointMetrics::new(protocol.intake, signal)),
            protocol,
        })
    }

    fn read_head(&self, parts: &Parts) -> Result<IngestRequest, Error> {
        if parts.method != Method::POST {
            return Err(Error::Method { allow: "POST" });
        }
        self.receiver.stage.admission.check(&parts.headers)?;
        (self.protocol.read_head)(self, parts)
    }
}

/// The way of a request from its head to its answer.
pub(in crate::receive) async fn serve(
    State(endpoint): State<Arc<Endpoint>>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let receiver = &endpoint.receiver;
    let admission = &receiver.stage.admission;
    if let Some(answer) = admission.preflight(&parts) {
        return answer;
    }
    let form = ResponseFormat::of(parts.version, parts.uri.path(), &parts.headers);
    let mut tally = RequestMetrics::new(&endpoint.counters);
    let taken = match endpoint.read_head(&parts) {
        Ok(wanted) => receiver.ingest(body, wanted, &mut tally).await,
        Err(error) => {
            let limits = receiver.body_limits(endpoint.signal);
            body::discard(body, &parts.headers, &limits).await;
            Err(error)
        }
    };
    let mut answer = match taken {
        Ok(taken) => {
            tally.taken(&taken.checked);
            (endpoint.protocol.success)(&endpoint, form, &taken)
        }
        Err(error) => {
            tally.failed(&error);
            response::error(&error, form)
        }
    };
    admission.share(&parts.headers, answer.headers_mut());
    answer
}
