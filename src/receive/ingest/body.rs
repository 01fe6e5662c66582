//! A request's body, read under limits of size, memory and time.
//!
//! **Invariant:** memory grows with the bytes that have arrived, never with a length that a header announces, and every
//! byte is reserved before it is kept.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use metrics::Counter;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::event::Signal;
use crate::memory::budget::{BudgetRefusal, Reservation};

/// A refused request's body up to this size is read and dropped, so that its connection can be used again.
const DISCARD_BYTES: u64 = 64 << 10;

/// Limits of size and time for reading one body.
pub(crate) struct BodyLimits {
    pub(crate) signal: Signal,
    /// Maximum size of the body as sent, in bytes, before any content encoding is undone.
    pub(crate) wire_bytes: usize,
    /// Maximum size of the body once decompressed.
    pub(crate) decoded_bytes: usize,
    /// Deadline for the whole body.
    pub(crate) end: Instant,
    /// The time at which the client abandons its call, if it announced one.
    pub(crate) client_end: Option<Instant>,
    /// Longest wait for the next piece of the body.
    pub(crate) idle: Duration,
}

impl BodyLimits {
    /// Returns the error after a time limit has passed. A client that has abandoned its call reads no answer.
    fn slow_body(&self) -> Error {
        let is_abandoned = self.client_end.is_some_and(|end| end <= Instant::now());
        if self.signal == Signal::Event || is_abandoned {
            Error::SlowBody
        } else {
            Error::SlowExport
        }
    }
}

/// A body of which at most the first piece has been read.
pub(crate) struct UnreadBody {
    pub(crate) first: Bytes,
    pub(crate) rest: Body,
    /// The length of the whole that the client announced, if any.
    pub(crate) announced_bytes: Option<u64>,
}

impl From<Body> for UnreadBody {
    fn from(body: Body) -> Self {
        Self {
            first: Bytes::new(),
            announced_bytes: body.size_hint().exact(),
            rest: body,
        }
    }
}

/// Reads the whole body as sent, with its content encoding.
///
/// `held` grows with the bytes that are kept, and `received` counts every byte that arrives.
///
/// # Errors
/// [`Error::TooLarge`] if the announced length exceeds a limit (nothing is read then), or the bytes that arrive do.
/// [`Error::Unavailable`] if requests in flight leave no memory, [`Error::SlowBody`] or [`Error::SlowExport`] if a time
/// limit passes, and [`Error::Malformed`] if the body is framed wrongly, or shorter or longer than announced.
pub(crate) async fn read(
    mut body: UnreadBody,
    limits: &BodyLimits,
    held: &mut Reservation,
    received: &Counter,
) -> Result<Bytes, Error> {
    let limit_bytes = limits.wire_bytes;
    let end_bytes = match body.announced_bytes.map(usize::try_from) {
        None => limit_bytes,
        Some(Ok(bytes)) if bytes <= limit_bytes => bytes,
        Some(_) => return Err(Error::TooLarge { limit_bytes }),
    };
    let mut gathered = GatheredBody::default();
    let mut piece = Some(body.first);
    while let Some(data) = piece {
        received.increment(data.len() as u64);
        match end_bytes.checked_sub(gathered.len() + data.len()) {
            Some(_) => gathered.push(&data, end_bytes, held)?,
            None if body.announced_bytes.is_some() => return Err(misframed()),
            None => return Err(Error::TooLarge { limit_bytes }),
        }
        piece = next(&mut body.rest, limits).await?;
    }
    if body.announced_bytes.is_some() && gathered.len() < end_bytes {
        return Err(misframed());
    }
    Ok(gathered.into_bytes())
}

fn misframed() -> Error {
    Error::malformed("the body is cut short or framed wrongly")
}

/// Reads and drops the body of a refused request if its announced length is at most 64 KiB. With `Expect`, the client
/// has not begun to send it, and nothing is read.
pub(crate) async fn discard(mut body: Body, headers: &HeaderMap, limits: &BodyLimits) {
    let announced = body.size_hint().exact();
    if announced.is_none_or(|bytes| bytes > DISCARD_BYTES) || headers.contains_key(header::EXPECT) {
        return;
    }
    let limits = BodyLimits {
        end: Instant::now() + limits.idle,
        ..*limits
    };
    while let Ok(Some(_)) = next(&mut body, &limits).await {}
}

/// Returns the next piece, or `None` at the end; trailers are ignored.
///
/// # Errors
/// [`Error::SlowBody`] or [`Error::SlowExport`] if a time limit passes, [`Error::Malformed`] if the body is cut short
/// or framed wrongly.
pub(crate) async fn next(body: &mut Body, limits: &BodyLimits) -> Result<Option<Bytes>, Error> {
    loop {
        let end = earlier(limits.end, limits.client_end).min(Instant::now() + limits.idle);
        let Ok(frame) = timeout_at(end, body.frame()).await else {
            return Err(limits.slow_body());
        };
        match frame.map(|frame| frame.map(hyper::body::Frame::into_data)) {
            None => return Ok(None),
            Some(Ok(Ok(data))) => return Ok(Some(data)),
            Some(Ok(Err(_trailers))) => {}
            Some(Err(_)) => return Err(misframed()),
        }
    }
}

/// The pieces of a body; the first is kept as received, so that a body of one piece is never copied.
#[derive(Default)]
struct GatheredBody {
    first: Bytes,
    all: Vec<u8>,
}

impl GatheredBody {
    fn len(&self) -> usize {
        self.first.len().max(self.all.len())
    }

    /// Adds a piece of a body that has at most `end_bytes` bytes in all.
    fn push(
        &mut self,
        piece: &Bytes,
        end_bytes: usize,
        held: &mut Reservation,
    ) -> Result<(), Error> {
        if self.len() == 0 {
            held.grow(piece.len()).map_err(refuse)?;
            self.first = piece.clone();
            return Ok(());
        }
        let needed = self.len() + piece.len();
        if needed > self.all.capacity() {
            // Doubling keeps the number of copies low; `end_bytes` keeps the last doubling from overshooting.
            let capacity = (2 * needed).min(end_bytes).max(needed);
            held.grow(capacity - held.bytes()).map_err(refuse)?;
            self.all.reserve_exact(capacity - self.all.len());
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(piece);
        Ok(())
    }

    fn into_bytes(self) -> Bytes {
        if self.all.is_empty() {
            self.first
        } else {
            Bytes::from(self.all)
        }
    }
}

/// Returns our own deadline, or the client's if that is earlier.
pub(crate) fn earlier(ours: Instant, theirs: Option<Instant>) -> Instant {
    theirs.map_or(ours, |theirs| theirs.min(ours))
}

/// Returns the answer to a request for which the budget granted no memory.
pub(crate) fn refuse(refused: BudgetRefusal) -> Error {
    match refused {
        BudgetRefusal::NeverFits { limit_bytes } => Error::TooLarge { limit_bytes },
        BudgetRefusal::NoRoom => Error::unavailable("too many bytes of requests are in flight"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;

    use super::{Body, BodyLimits, Bytes, Counter, Duration, Error, Instant, Signal, read};
    use crate::memory::budget::Budget;

    fn limits(wire_bytes: usize, total: Duration, idle: Duration) -> BodyLimits {
        BodyLimits {
            signal: Signal::Event,
            wire_bytes,
            decoded_bytes: wire_bytes,
            end: Instant::now() + total,
            client_end: None,
            idle,
        }
    }

    async fn read_pieces(pieces: &[&'static [u8]]) -> Result<(Bytes, usize), Error> {
        let budget = Arc::new(Budget::new(3000, 1500, metrics::Gauge::noop()));
        let mut held = budget.reservation();
        let pieces: Vec<_> = pieces
            .iter()
            .map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece)))
            .collect();
        let body = Body::from_stream(stream::iter(pieces));
        let limits = limits(1000, Duration::from_secs(30), Duration::from_secs(10));
        let bytes = read(body.into(), &limits, &mut held, &Counter::noop()).await?;
        Ok((bytes, held.bytes()))
    }

    #[tokio::test]
    async fn pieces_come_together_in_order() {
        let (bytes, held) = read_pieces(&[b"one ", b"two ", b"three"]).await.unwrap();
        assert_eq!(bytes, "one two three");
        assert!(held >= bytes.len());
        assert_eq!(read_pieces(&[]).await.unwrap().0, "");
    }

    #[tokio::test]
    async fn a_body_that_grows_past_the_limit_is_refused() {
        let result = read_pieces(&[&[0; 600], &[0; 401]]).await;
        assert!(matches!(result, Err(Error::TooLarge { limit_bytes: 1000 })));
        assert_eq!(
            read_pieces(&[&[0; 600], &[0; 400]]).await.unwrap().0.len(),
            1000
        );
    }

    #[tokio::test]
    async fn a_body_that_stops_or_drips_is_refused() {
        let read_within = async |body: Body, total_ms: u64, idle_ms: u64| {
            let total = Duration::from_millis(total_ms);
            let limits = limits(1 << 20, total, Duration::from_millis(idle_ms));
            let mut held =
                Arc::new(Budget::new(4 << 20, 2 << 20, metrics::Gauge::noop())).reservation();
            read(body.into(), &limits, &mut held, &Counter::noop()).await
        };
        let stalled = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let result = read_within(stalled, 60_000, 50).await;
        assert!(matches!(result, Err(Error::SlowBody)));

        let dripping = Body::from_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        }));
        let result = read_within(dripping, 100, 60_000).await;
        assert!(matches!(result, Err(Error::SlowBody)));
    }
}
