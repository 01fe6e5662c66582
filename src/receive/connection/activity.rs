//! The requests of one connection, and the headers about the connection in each answer.
//!
//! **Invariant:** the last answer over HTTP/1 has `Connection: close`, and every other over HTTP/1.1 offers an idle
//! time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONNECTION;
use axum::http::{HeaderName, HeaderValue, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Incoming};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::receive::connection::connection_limit::ConnectionSlot;
use crate::receive::connection::middleware;
use crate::receive::connection::tracked_stream::TrackedStream;
use crate::receive::local_host::LocalAddress;

/// RFC 2068, section 19.7.1.1; Node's and Apache's clients honour it, among others.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Returns the value of `Keep-Alive`: 90 % of the idle time, so that a client which honours it never sends on a
/// connection that is being closed.
pub(crate) fn offered_rest(idle: Duration) -> Option<HeaderValue> {
    let seconds = idle.mul_f64(0.9).as_secs();
    let value = format!("timeout={seconds}");
    (seconds > 0).then(|| HeaderValue::try_from(value).expect("ASCII"))
}

/// The state that all requests of one connection share.
#[derive(Clone)]
pub(crate) struct ConnectionActivity {
    pub(crate) stream: TrackedStream,
    pub(crate) slot: Arc<ConnectionSlot>,
    /// Cancelled with the last answer over HTTP/2.
    pub(crate) last_sent: CancellationToken,
    /// The value of `Keep-Alive`.
    pub(crate) rest: Option<HeaderValue>,
    /// This process's address that the client connected to.
    pub(crate) local: Option<LocalAddress>,
    pub(crate) router: Router,
}

impl ConnectionActivity {
    /// Answers one request with the router. The connection counts as busy until the answer's body is sent.
    pub(crate) async fn answer(
        mut self,
        mut request: Request<Incoming>,
    ) -> Result<Response<impl HttpBody<Data = Bytes, Error = axum::Error>>, Infallible> {
        let version = request.version();
        let in_flight = self.stream.begin(version);
        if let Some(local) = self.local {
            request.extensions_mut().insert(local);
        }
        if !middleware::is_of_monitoring(request.uri().path())
            && let Err(no_slot) = self.slot.exchange().await
        {
            request.extensions_mut().insert(no_slot);
        }
        let mut response = self.router.call(request.map(Body::new)).await?;
        if self.slot.is_reserved() {
            self.stream.set_last();
        }
        let headers = response.headers_mut();
        match (self.stream.is_last(), version) {
            (true, Version::HTTP_2) => self.last_sent.cancel(),
            (true, _) => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            (false, Version::HTTP_11) => {
                if let Some(rest) = self.rest {
                    headers.insert(KEEP_ALIVE, rest);
                }
            }
            (false, _) => {}
        }
        // The body owns the request, which is in flight until its answer is sent or abandoned.
        Ok(response.map(|body| {
            body.map_err(move |error| {
                let _in_flight = &in_flight;
                error
            })
        }))
    }
}
