//! The TCP stream of a connection, with the activity on it and its deadline.
//!
//! **Invariant:** every activity has a deadline; an idle timeout never closes a connection with a request in flight.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Version;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use rustix::io::ioctl_fionread;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Time without a byte in either direction after which a request in flight is abandoned: its client reads no answer.
const STALLED: Duration = Duration::from_secs(60);
/// Maximum time of a request in flight, even if bytes move: an HTTP/2 client may ping for ever without reading the
/// answer, which stays in memory.
pub(crate) const LONGEST: Duration = Duration::from_secs(180);

/// A connection's stream, shared by the protocol, the requests on it, and the loop that closes it.
#[derive(Clone)]
pub(crate) struct TrackedStream(Arc<Mutex<StreamActivity>>);

struct StreamActivity {
    stream: TcpStream,
    /// Time of the last byte in either direction, or of the last request's begin.
    moved_at: Instant,
    /// The time since which the head of a request has been arriving; for the first request, the time of the accept.
    head_since: Option<Instant>,
    /// The end of the last request, or of an HTTP/2 handshake.
    idle_since: Instant,
    /// `None` once the version of HTTP is known.
    handshake: Option<Handshake>,
    /// Begin of each request in flight, by its number.
    requests: BTreeMap<u64, Instant>,
    /// Number of requests so far.
    begun: u64,
    /// No byte has arrived yet.
    fresh: bool,
    http2: bool,
    /// The next answer is the last one.
    last: bool,
}

/// The activity on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// No byte has arrived yet.
    Fresh,
    /// The head of a request has begun to arrive.
    Head,
    /// Requests are in flight.
    Busy,
    Idle,
}

impl TrackedStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(StreamActivity {
            stream,
            moved_at: now,
            head_since: Some(now),
            idle_since: now,
            handshake: Some(Handshake::default()),
            requests: BTreeMap::new(),
            begun: 0,
            fresh: true,
            http2: false,
            last: false,
        })))
    }

    /// Returns the time since which the connection has waited for its first or next request; `None` if bytes of one
    /// have arrived.
    pub(crate) fn rests_since(&self) -> Option<Instant> {
        let state = self.lock();
        match (state.requests.is_empty(), state.head_since) {
            (true, None) => Some(state.idle_since),
            (true, Some(since)) if state.fresh => Some(since),
            _ => None,
        }
    }

    /// Returns `true` if an unanswered request is likely to follow: no byte has arrived yet, a head has begun to
    /// arrive, or bytes have arrived that the protocol has not read.
    pub(crate) fn has_head_to_come(&self, phase: Activity) -> bool {
        match phase {
            Activity::Fresh | Activity::Head => true,
            Activity::Busy => false,
            Activity::Idle => ioctl_fionread(&self.lock().stream).is_ok_and(|bytes| bytes > 0),
        }
    }

    /// Returns the activity on the connection and the deadline by which that must end.
    pub(crate) fn phase(&self, header_timeout: Duration, idle: Duration) -> (Activity, Instant) {
        let state = self.lock();
        if let Some((_, oldest)) = state.requests.first_key_value() {
            let deadline = (state.moved_at + STALLED).min(*oldest + LONGEST);
            return (Activity::Busy, deadline);
        }
        match state.head_since {
            Some(since) if state.fresh => (Activity::Fresh, since + header_timeout),
            Some(since) => (Activity::Head, since + header_timeout),
            None => (Activity::Idle, state.idle_since + idle),
        }
    }

    /// Begins a request, which is in flight until the returned value is dropped.
    pub(crate) fn begin(&self, version: Version) -> InFlightRequest {
        let mut state = self.lock();
        let now = Instant::now();
        let number = state.begun;
        state.begun += 1;
        state.requests.insert(number, now);
        state.head_since = None;
        state.http2 = version == Version::HTTP_2;
        state.moved_at = now;
        let wire = self.clone();
        InFlightRequest { wire, number }
    }

    /// Makes the next answer the last one.
    pub(crate) fn set_last(&self) {
        self.lock().last = true;
    }

    pub(crate) fn is_last(&self) -> bool {
        self.lock().last
    }

    /// Returns the stream if this is its last clone.
    pub(crate) fn into_stream(self) -> Option<TcpStream> {
        let state = Arc::into_inner(self.0)?.into_inner();
        Some(state.unwrap_or_else(PoisonError::into_inner).stream)
    }

    fn lock(&self) -> MutexGuard<'_, StreamActivity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamActivity {
    fn received(&mut self, bytes: &[u8]) {
        self.moved_at = Instant::now();
        self.fresh = false;
        if let Some(handshake) = self.handshake.take() {
            match handshake.with(bytes) {
                HandshakeStep::Open(handshake) => self.handshake = Some(handshake),
                HandshakeStep::Http1 => {}
                // A client may connect long before it has anything to send.
                HandshakeStep::Http2 => {
                    self.http2 = true;
                    self.head_since = None;
                    self.idle_since = self.moved_at;
                }
            }
        }
        // Over HTTP/2, bytes between requests may be frames such as PING.
        if self.requests.is_empty() && !self.http2 && self.head_since.is_none() {
            self.head_since = Some(self.moved_at);
        }
    }
}

/// The first bytes of a connection, by which the client chooses the version of HTTP.
#[derive(Default)]
struct Handshake {
    /// Number of bytes so far, all of which match HTTP/2's preface.
    bytes: usize,
}

enum HandshakeStep {
    Open(Handshake),
    Http1,
    Http2,
}

impl Handshake {
    /// The first bytes of an HTTP/2 client (RFC 9113, section 3.4).
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// The head of the SETTINGS frame that must follow the preface.
    const FRAME_HEAD_BYTES: usize = 9;

    /// Adds the next bytes that arrived.
    fn with(self, bytes: &[u8]) -> HandshakeStep {
        let expected = Self::PREFACE.get(self.bytes..).unwrap_or_default();
        if expected
            .iter()
            .zip(bytes)
            .any(|(expected, byte)| expected != byte)
        {
            return HandshakeStep::Http1;
        }
        let bytes = self.bytes + bytes.len();
        if bytes < Self::PREFACE.len() + Self::FRAME_HEAD_BYTES {
            return HandshakeStep::Open(Self { bytes });
        }
        HandshakeStep::Http2
    }
}

/// A request in flight: from its head to the last byte of its answer.
pub(crate) struct InFlightRequest {
    wire: TrackedStream,
    number: u64,
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let mut state = self.wire.lock();
        state.requests.remove(&self.number);
        state.idle_since = Instant::now();
    }
}

impl AsyncRead for TrackedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let mut state = self.lock();
        let before = buffer.filled().len();
        let result = Pin::new(&mut state.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            state.received(&buffer.filled()[before..]);
        }
        result
    }
}

impl TrackedStream {
    fn write(
        &self,
        write: impl FnOnce(Pin<&mut TcpStream>) -> Poll<std::io::Result<usize>>,
    ) -> Poll<std::io::Result<usize>> {
        let mut state = self.lock();
        let result = write(Pin::new(&mut state.stream));
        if matches!(result, Poll::Ready(Ok(1..))) {
            state.moved_at = Instant::now();
        }
        result
    }
}

impl AsyncWrite for TrackedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.write(|stream| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.write(|stream| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.lock().stream).poll_shutdown(context)
    }
}

/// An answer's body that keeps its request in flight until it is sent or abandoned.
pub(crate) struct TrackedBody {
    pub(crate) body: Body,
    #[expect(dead_code, reason = "held for the effect of its drop")]
    pub(crate) under_way: InFlightRequest,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Activity, Duration, Handshake, HandshakeStep, Instant, LONGEST, STALLED, TcpStream,
        TrackedStream, Version,
    };

    #[test]
    fn a_client_of_http2_is_known_by_its_preface_however_that_is_cut() {
        let sent = [Handshake::PREFACE, &[0; Handshake::FRAME_HEAD_BYTES]].concat();
        for at in 1..sent.len() {
            let HandshakeStep::Open(begun) = Handshake::default().with(&sent[..at]) else {
                panic!("{at} bytes are enough");
            };
            assert!(
                matches!(begun.with(&sent[at..]), HandshakeStep::Http2),
                "{at}"
            );
            let begun = Handshake { bytes: at };
            if at < Handshake::PREFACE.len() {
                assert!(matches!(begun.with(b"?"), HandshakeStep::Http1), "{at}");
            }
        }
        let step = Handshake::default().with(b"POST /ingest HTTP/1.1");
        assert!(matches!(step, HandshakeStep::Http1));
    }

    #[tokio::test]
    async fn a_request_under_way_has_a_deadline_however_much_its_client_sends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let wire = TrackedStream::new(stream);
        let phase = || wire.phase(Duration::ZERO, Duration::ZERO);
        let before = Instant::now();
        let first = wire.begin(Version::HTTP_2);
        let between = Instant::now();
        let second = wire.begin(Version::HTTP_2);
        assert_eq!(phase().0, Activity::Busy);
        assert!(phase().1 <= Instant::now() + STALLED);

        // The client sends PING frames for ever.
        wire.lock().moved_at = Instant::now() + 2 * LONGEST;
        assert!((before + LONGEST..=between + LONGEST).contains(&phase().1));
        drop(first);
        assert!(phase().1 >= between + LONGEST);
        drop(second);
        assert_eq!(phase().0, Activity::Idle);
    }
}
