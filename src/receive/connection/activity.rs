//! The requests of one connection, and what each answer says of the connection itself.
//!
//! **Invariant:** an answer that is the last one says so, and every other says how long its connection may rest.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderName, HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::receive::connection::connection_limit::ConnectionSlot;
use crate::receive::connection::middleware;
use crate::receive::connection::tracked_stream::{TrackedBody, TrackedStream};
use crate::receive::local_host::LocalAddress;

/// RFC 2068, section 19.7.1.1; honoured by Node's and Apache's clients among others.
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The rest that clients of HTTP/1.1 are offered between requests: less than they get, so that one that keeps to it never
/// sends to a connection that is being closed.
pub(in crate::receive) fn offered_rest(idle: Duration) -> Option<HeaderValue> {
    let seconds = idle.mul_f64(0.9).as_secs();
    let value = format!("timeout={seconds}");
    (seconds > 0).then(|| HeaderValue::try_from(value).expect("ASCII"))
}

/// All that the requests of one connection share.
#[derive(Clone)]
pub(in crate::receive) struct ConnectionActivity {
    pub(in crate::receive) wire: TrackedStream,
    pub(in crate::receive) place: Arc<ConnectionSlot>,
    /// Cancelled with the answer that is the last one over HTTP/2.
    pub(in crate::receive) last_sent: CancellationToken,
    pub(in crate::receive) rest: Option<HeaderValue>,
    pub(in crate::receive) local: Option<LocalAddress>,
    pub(in crate::receive) router: Router,
}

impl ConnectionActivity {
    /// One request: the router's answer, which keeps the connection busy until it is sent.
    pub(in crate::receive) async fn answer(
        mut self,
        mut request: Request<Incoming>,
    ) -> Result<Response<TrackedBody>, Infallible> {
        let version = request.version();
        let under_way = self.wire.begin(version);
        if let Some(local) = self.local {
            request.extensions_mut().insert(local);
        }
        if !middleware::is_of_monitoring(request.uri().path())
            && let Err(no_place) = self.place.exchange().await
        {
            request.extensions_mut().insert(no_place);
        }
        let mut response = self.router.call(request.map(Body::new)).await?;
        if self.place.is_reserved() {
            self.wire.set_last();
        }
        let headers = response.headers_mut();
        match (self.wire.is_last(), version) {
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
        Ok(response.map(|body| TrackedBody { body, under_way }))
    }
}
