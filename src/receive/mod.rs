//! Ingestion: connections, bodies under limits, and the answer that a client gets.
//!
//! **Invariant:** no success is answered before [`Journal::append`] has returned for every accepted event, in this
//! request or in the one that it repeats.

use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::decode;
use crate::error::Error;
use crate::event::{self, Signal};
use crate::journal::{Journal, now_unix_nano};
use crate::memory::budget::Budget;
use crate::memory::{MemoryShares, limit};
use crate::receive::ingest::admission::Admission;
use crate::receive::ingest::body::BodyLimits;
use crate::receive::ingest::dedup::RecentRequests;
use crate::receive::response::ResponseFormat;
use crate::telemetry::metrics::RECEIVE_INFLIGHT_BYTES;
use crate::write::Progress;

/// The protocols: native JSON, OTLP over HTTP, OTLP over gRPC.
pub(crate) mod protocol;

/// One request from its body to the journal, whatever protocol it arrives by.
mod ingest;

/// Connections: listening, accepting, their limits, and the middleware that each request passes.
pub mod connection;

/// Checks of a request's `Host` and framing.
mod local_host;

/// Content types and content encodings.
mod content_type;

mod otlp_status;
/// Answers in the format that the client expects.
mod response;

/// The bearer tokens that are accepted.
mod auth;

pub use crate::receive::auth::AuthTokens;
pub use crate::receive::connection::accept::serve;
pub use crate::receive::connection::connection_limit::ConnectionLimit;
pub use crate::receive::ingest::admission::authenticated;

/// Window of HTTP/2 if memory is plentiful: 1 MiB per round trip is 12 MiB/s at 80 ms. Adaptive windows would grow to
/// 16 MiB each.
pub(crate) const HTTP2_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes of the budget per large body that may be decoded at the same time: each also needs the window of zstd, 8 MiB,
/// outside of the budget.
const DECODER_BUDGET_BYTES: usize = 32 << 20;

/// Settings of ingestion.
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum size of an OTLP body as sent.
    pub otlp_wire_bytes: usize,
    /// Maximum size of an OTLP body once decompressed.
    pub otlp_decoded_bytes: usize,
    /// Maximum size of a body of `/ingest` as sent.
    pub ingest_wire_bytes: usize,
    /// Maximum size of a body of `/ingest` once decompressed.
    pub ingest_decoded_bytes: usize,
    /// Maximum memory for the bodies of all requests in flight; `None` = 256 MiB or a quarter of the memory limit,
    /// whichever is less.
    pub inflight_bytes: Option<usize>,
    /// Maximum time for receiving a request's head; for a connection's first one, from the accept.
    pub header_timeout: Duration,
    /// Maximum time for receiving a whole body.
    pub body_timeout: Duration,
    /// Maximum time between two pieces of a body. No setting: TCP sends a lost segment again many times within 10 s,
    /// and a slow but steady body has until `body_timeout`.
    pub body_idle_timeout: Duration,
    /// Maximum time from the whole body to the answer, without the wait of `?wait=stored`.
    pub handling_timeout: Duration,
    /// Time after which a connection without a request is closed.
    pub keep_alive_idle: Duration,
    /// Age at which a connection is closed after its next answer; each connection's is up to 20 % more or less.
    pub connection_age: Duration,
    /// Maximum number of connections of the process; fewer if the limit of open files is low.
    pub connections: usize,
    /// Maximum number of concurrent requests on an HTTP/2 connection. No setting: RFC 9113, section 6.5.2, advises at
    /// least 100, and `inflight_bytes` bounds the memory of all connections.
    pub http2_streams: u32,
    /// Bytes that a client may send before this process reads them, on each stream and on each connection.
    pub http2_window_bytes: u32,
    /// Maximum size of all header lines of a request together. No setting: by default, nginx
    /// forwards at most 32 KiB and HAProxy 16 KiB.
    pub header_bytes: usize,
    /// The same for HTTP/2, whose connection refuses larger headers before a request exists. No setting: this is the
    /// library's default, which gRPC's clients work with.
    pub http2_header_bytes: u32,
    /// Bearer tokens, one of which is required on everything but `/health*` and `/metrics`; empty = none is required.
    pub auth_tokens: AuthTokens,
    /// Origins whose pages may send from a browser.
    pub cors_origins: Vec<String>,
    /// Further names of this machine, in lower case, under which a loopback address may be read without a token.
    pub hosts: Vec<String>,
    /// Time for which an accepted request is remembered, so that a retry is not stored again; `None` = not at all.
    pub duplicate_window: Option<Duration>,
    /// Maximum number of remembered requests; the oldest are removed first. No setting: at about 150 bytes each, they
    /// are a part of the memory outside the shares ([`crate::memory::REST_BYTES`]).
    pub duplicate_requests: usize,
    /// The OTLP signals whose requests are duplicates if their bytes are equal.
    pub duplicate_signals: Vec<Signal>,
    /// Limits on the content of events.
    pub decode: event::Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            otlp_wire_bytes: 64 << 20,
            otlp_decoded_bytes: 64 << 20,
            ingest_wire_bytes: 20 << 20,
            ingest_decoded_bytes: 64 << 20,
            inflight_bytes: None,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(10),
            handling_timeout: Duration::from_secs(8),
            keep_alive_idle: Duration::from_secs(180),
            connection_age: Duration::from_secs(300),
            connections: 2048,
            http2_streams: 128,
            http2_window_bytes: HTTP2_WINDOW_BYTES,
            header_bytes: 64 << 10,
            http2_header_bytes: 16 << 10,
            auth_tokens: AuthTokens::default(),
            cors_origins: Vec::new(),
            hosts: Vec::new(),
            duplicate_window: Some(Duration::from_secs(600)),
            duplicate_requests: 100_000,
            duplicate_signals: vec![Signal::Span],
            decode: event::Limits::default(),
        }
    }
}

/// The state that all handlers of ingestion share.
pub struct Receiver {
    journal: Journal,
    progress: Progress,
    options: Options,
    admission: Admission,
    check: ingest::pipeline::Check,
    recent_requests: Arc<RecentRequests>,
    budget: Arc<Budget>,
    /// One permit for each large body that may be decoded at the same time.
    decoders: Arc<Semaphore>,
}

impl Receiver {
    /// Makes a receiver; its metrics go to the recorder that is installed before this call.
    #[must_use]
    pub fn new(journal: Journal, progress: Progress, options: Options) -> Arc<Self> {
        let budget_bytes = options
            .inflight_bytes
            .unwrap_or_else(|| MemoryShares::of(limit::detected_bytes()).receive_bytes);
        let budget = Budget::new(
            budget_bytes,
            budget_bytes / 2,
            metrics::gauge!(RECEIVE_INFLIGHT_BYTES),
        );
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            journal,
            progress,
            admission: Admission::new(&options),
            recent_requests: Arc::new(RecentRequests::new(&options)),
            options,
            check: decode::check,
            budget: Arc::new(budget),
            decoders: Arc::new(Semaphore::new(
                cores.min(budget_bytes / DECODER_BUDGET_BYTES).max(1),
            )),
        })
    }

    /// Reads the recent requests of earlier runs from the journal, so that their retries are recognised.
    ///
    /// Takes at most a few seconds. Must be awaited before anything is served.
    pub async fn recall(self: &Arc<Self>) {
        let receiver = Arc::clone(self);
        let recalling = tokio::task::spawn_blocking(move || {
            let recent_requests = &receiver.recent_requests;
            recent_requests.recall(&receiver.journal, now_unix_nano());
        });
        if recalling.await.is_err() {
            tracing::error!(
                "reading recent requests from the journal failed: retries of requests from before this start are not \
                 recognised as duplicates"
            );
        }
    }

    /// Returns the limits for a body that begins to be read now: the settings, but at most half of the budget for all
    /// requests in flight.
    fn body_limits(&self, signal: Signal) -> BodyLimits {
        let options = &self.options;
        let (wire_bytes, decoded_bytes) = match signal {
            Signal::Event => (options.ingest_wire_bytes, options.ingest_decoded_bytes),
            Signal::Span | Signal::Log | Signal::Metric => {
                (options.otlp_wire_bytes, options.otlp_decoded_bytes)
            }
        };
        let most_bytes = self.budget.most_bytes();
        BodyLimits {
            signal,
            client_end: None,
            wire_bytes: wire_bytes.min(most_bytes),
            decoded_bytes: decoded_bytes.min(most_bytes),
            end: Instant::now() + options.body_timeout,
            idle: options.body_idle_timeout,
        }
    }
}

/// The answer to another method on a path that is only read.
pub async fn read_only() -> Response {
    response::error(
        &Error::Method { allow: "GET, HEAD" },
        ResponseFormat::NATIVE,
    )
}
