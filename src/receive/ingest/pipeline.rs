//! A request's path from its body to the journal: read, decompress and check, append, wait for the sync.
//!
//! **Invariant:** an append that was handed to the journal runs to its end, even if the client disconnects or the
//! deadline passes. From the hand-over on, an answer says that nothing was stored only if the journal reported so.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Span;

use crate::decode::decompress::{DecompressError, decompress};
use crate::decode::{self, DecodeError, DecodeReport};
use crate::error::Error;
use crate::event::{ContentEncoding, Encoding, Position, Signal, Source};
use crate::journal::{AppendError, Journal, NewRecord, now_unix_nano};
use crate::memory::budget::{BudgetRefusal, Reservation};
use crate::receive::Receiver;
use crate::receive::ingest::body;
use crate::receive::ingest::dedup::{Claim, ClaimGuard};
use crate::receive::ingest::dedup_key::{DedupBy, DedupKey, IdempotencyKey};
use crate::receive::ingest::request_metrics::{EndpointMetrics, EventStats, RequestMetrics};
use crate::receive::ingest::uninterrupted::Uninterrupted;
use crate::receive::protocol::grpc::message;
use crate::telemetry::RequestOutcome;
use crate::telemetry::own_traces::{
    SpanAttributes, current_context, in_context, in_current_context, links, spans, traced,
};

/// Maximum size of a body that is decoded on the runtime's thread; a larger one would delay other requests.
const DECODED_IN_PLACE_BYTES: usize = 256 << 10;

/// Longest time that `?wait=stored` waits for the database.
const WAIT_STORED: Duration = Duration::from_secs(5);

/// The type of [`decode::check`], which tests replace.
pub(crate) type Check = fn(&[u8], &Source) -> Result<DecodeReport, DecodeError>;

/// The properties of a request that are known before its body is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IngestRequest {
    pub(crate) signal: Signal,
    pub(crate) encoding: Encoding,
    pub(crate) content_encoding: ContentEncoding,
    pub(crate) framing: Framing,
    /// Accept the valid events of a native batch even if others are invalid (`?partial=true`).
    pub(crate) partial: bool,
    /// The `Idempotency-Key`, if any.
    pub(crate) key: Option<IdempotencyKey>,
    pub(crate) wait: WaitFor,
    /// The time at which the client abandons the request, if it announced one.
    pub(crate) deadline: Option<Instant>,
}

/// The part of a body that holds the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The whole body.
    Whole,
    /// The body's one gRPC message, whose first byte is 1 if it is compressed.
    Message,
}

/// The event that a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitFor {
    /// The sync of the journal.
    Synced,
    /// The commit in the database (`?wait=stored`).
    Stored,
}

/// The result of a request that was not refused.
pub(crate) struct IngestOutcome {
    pub(crate) checked: DecodeReport,
    /// `Some(true)` if all accepted events are in the database, `Some(false)` if the wait ended before; `None` if the
    /// client did not wait for the database.
    pub(crate) stored: Option<bool>,
}

impl Receiver {
    /// Returns once every accepted event of the body is synced to disk, by this request or by an identical earlier one.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the events may be stored all the same; after every other error none of them is.
    pub(crate) async fn ingest(
        &self,
        body: Body,
        request: IngestRequest,
        metrics: &mut RequestMetrics,
    ) -> Result<IngestOutcome, Error> {
        let mut limits = self.body_limits(request.signal);
        limits.client_end = request.deadline;
        let (body, content_encoding) = match request.framing {
            Framing::Whole => (body.into(), request.content_encoding),
            Framing::Message => message::open(body, request.content_encoding, &limits).await?,
        };
        let mut held = self.budget.reservation();
        let reading = body::read(body, &limits, &mut held, &metrics.counters.received_bytes);
        let wire = traced(spans::receive(), reading).await?;
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes")]
        metrics.counters.request_bytes.record(wire.len() as f64);

        let deadline = Instant::now() + self.options.handling_timeout;
        let deadline = body::earlier(deadline, request.deadline);
        let job = DecodeJob {
            wire,
            content_encoding,
            source: Source {
                signal: request.signal,
                encoding: request.encoding,
                partial: request.partial,
                received_unix_nano: now_unix_nano(),
                limits: self.options.decode,
                version: decode::VERSION,
            },
            check: self.check,
            dedup_by: self.recent_requests.dedup_by(request.signal, request.key),
            held,
        };
        let decoding = traced(spans::decode(), self.decode(job, limits.decoded_bytes));
        let decoded = timeout_at(deadline, decoding).await;
        let decoded = decoded.map_err(|_| Error::unavailable("the service is too busy"))??;
        let DecodedJob { job, body } = decoded;
        let checked = body.checked;
        if checked.accepted == 0 {
            let stored = (request.wait == WaitFor::Stored).then_some(true);
            return Ok(IngestOutcome { checked, stored });
        }

        metrics.outcome = RequestOutcome::Unknown;
        let received_unix_nano = job.source.received_unix_nano;
        let duplicates = &self.recent_requests;
        let claiming = duplicates.claim(body.identity, received_unix_nano);
        // An identical request is still in flight at our deadline. If it succeeds, this one counts as stored too, so
        // the outcome is unknown rather than refused.
        let claim = timeout_at(deadline, claiming).await;
        let position = match claim.unwrap_or(Claim::Unknown) {
            Claim::Duplicate(position) => {
                metrics.duplicate(&checked);
                drop(job);
                position
            }
            Claim::KeyReused => return Err(Error::KeyReused),
            Claim::Unknown => return Err(Error::Unknown),
            Claim::First(first) => {
                let record = NewRecord {
                    source: job.source,
                    content_encoding,
                    decoded_bytes: body.bytes,
                    accepted: checked.accepted,
                    rejected: checked.rejected,
                    digest: body.identity.map_or([0; 16], |key| key.digest),
                    payload: job.wire,
                };
                let appending = PendingAppend {
                    journal: self.journal.clone(),
                    counters: Arc::clone(&metrics.counters),
                    stats: EventStats::of(&checked, &record.source),
                    first,
                    held: job.held,
                    record,
                };
                let appending = traced(spans::append(), appending.run());
                let appending = Uninterrupted::new(in_context(current_context(), appending));
                match timeout_at(deadline, appending).await {
                    Ok(Ok(position)) => position,
                    Ok(Err(error)) => return Err(self.not_appended(error)),
                    Err(_late) => return Err(Error::Unknown),
                }
            }
        };
        // The body's memory is free by now: this wait may be long.
        let stored = match request.wait {
            WaitFor::Synced => None,
            WaitFor::Stored => {
                let stored = self.progress.stored(position);
                Some(timeout(WAIT_STORED, stored).await.is_ok())
            }
        };
        Ok(IngestOutcome { checked, stored })
    }

    /// Decodes a small body on this thread, and a large one on one of a bounded number of blocking threads.
    async fn decode(&self, mut job: DecodeJob, limit_bytes: usize) -> Result<DecodedJob, Error> {
        if job.wire.len() <= DECODED_IN_PLACE_BYTES {
            let in_place = limit_bytes.min(DECODED_IN_PLACE_BYTES);
            match job.run(in_place) {
                Err(Error::TooLarge { .. }) if in_place < limit_bytes => {}
                result => return result.map(|body| DecodedJob { job, body }),
            }
        }
        let permit = Arc::clone(&self.decoders).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let decoding = tokio::task::spawn_blocking(in_current_context(move || {
            let result = job.run(limit_bytes);
            drop(permit);
            result.map(|body| DecodedJob { job, body })
        }));
        decoding
            .await
            .unwrap_or_else(|_cancelled| Err(Error::unavailable("the service is stopping")))
    }

    fn not_appended(&self, error: AppendError) -> Error {
        match error {
            AppendError::Full | AppendError::DiskFull | AppendError::Closed => {
                Error::unavailable(error.to_string())
            }
            AppendError::TooLarge => Error::TooLarge {
                limit_bytes: usize::try_from(self.journal.status().capacity_bytes)
                    .unwrap_or(usize::MAX),
            },
            AppendError::Unknown => Error::Unknown,
        }
    }
}

/// A record that is handed to the journal, with the memory that its payload holds.
struct PendingAppend {
    journal: Journal,
    record: NewRecord,
    counters: Arc<EndpointMetrics>,
    stats: EventStats,
    first: Option<ClaimGuard>,
    held: Reservation,
}

impl PendingAppend {
    /// Appends the record and counts its events; must run to its end even if nobody waits for it.
    async fn run(self) -> Result<Position, AppendError> {
        let accepted = self.record.accepted;
        let tag = (
            self.record.source.received_unix_nano,
            self.record.payload.len(),
        );
        links::expect(tag);
        let result = self.journal.append(self.record).await;
        if result.is_err() {
            links::forget(std::iter::once(tag));
        }
        drop(self.held);
        if result.is_ok() {
            self.counters.synced(accepted, &self.stats);
        }
        if let Some(first) = self.first {
            first.settle(result);
        }
        result
    }
}

/// A body to be decompressed and checked.
struct DecodeJob {
    /// The body as sent, with its content encoding.
    wire: Bytes,
    content_encoding: ContentEncoding,
    source: Source,
    check: Check,
    dedup_by: DedupBy,
    held: Reservation,
}

/// The results of a job that succeeded.
struct DecodedBody {
    checked: DecodeReport,
    identity: Option<DedupKey>,
    /// Size of the decompressed body.
    bytes: u32,
}

/// A job with its results.
struct DecodedJob {
    job: DecodeJob,
    body: DecodedBody,
}

impl SpanAttributes for DecodedJob {
    fn record(&self, span: &Span) {
        let DecodedBody { checked, bytes, .. } = &self.body;
        span.record("ruvvector.decoded.bytes", i64::from(*bytes));
        span.record("ruvvector.events.accepted", i64::from(checked.accepted));
        span.record("ruvvector.events.rejected", i64::from(checked.rejected));
    }
}

impl DecodeJob {
    fn run(&mut self, limit_bytes: usize) -> Result<DecodedBody, Error> {
        let before = self.held.bytes();
        let result = catch_unwind(AssertUnwindSafe(|| self.inflate_and_check(limit_bytes)));
        self.held.shrink_to(before);
        result.unwrap_or_else(|_panic| {
            tracing::error!(source = ?self.source, bytes = self.wire.len(), "decoding a request panicked");
            Err(Error::malformed("the body could not be decoded"))
        })
    }

    fn inflate_and_check(&mut self, limit_bytes: usize) -> Result<DecodedBody, Error> {
        let mut refused = None;
        let mut reserve = |bytes| {
            refused = self.held.grow(bytes).err();
            refused.is_none()
        };
        let plain = if self.wire.is_empty() {
            Ok(Cow::Borrowed(&[][..])) // an empty body is empty in every encoding
        } else {
            decompress(self.content_encoding, &self.wire, limit_bytes, &mut reserve)
        };
        let plain = plain.map_err(|error| match error {
            DecompressError::NoRoom => body::refuse(refused.unwrap_or(BudgetRefusal::NoRoom)),
            DecompressError::TooLarge { limit_bytes } => Error::TooLarge { limit_bytes },
            DecompressError::Malformed(_) | DecompressError::LargeWindow => {
                Error::malformed(error.to_string())
            }
        })?;
        let bytes = u32::try_from(plain.len()).map_err(|_| Error::TooLarge { limit_bytes })?;
        let checked = (self.check)(&plain, &self.source)?;
        let (wire, source) = (&self.wire, &self.source);
        let identity = (self.dedup_by).identity(wire, source, self.content_encoding, &checked);
        Ok(DecodedBody {
            checked,
            identity,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests;
