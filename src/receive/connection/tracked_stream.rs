//! One connection's bytes, watched: what it is doing, and since when.
//!
//! **Invariant:** a connection that only waits always has a deadline; a request under way keeps it open.

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

/// A request under way on a connection over which no byte moved for so long is given up: its client reads no answer.
const STALLED: Duration = Duration::from_secs(60);
/// A request under way for so long is given up though bytes move: a client of HTTP/2 may ping for ever and read no
/// answer, which stays in memory.
pub(in crate::receive) const LONGEST: Duration = Duration::from_secs(180);

/// A connection, shared by the protocol, the requests on it, and the loop that ends it.
#[derive(Clone)]
pub(in crate::receive) struct TrackedStream(Arc<Mutex<StreamActivity>>);

struct StreamActivity {
    stream: TcpStream,
    moved_at: Instant,
    /// Since when the head of a request comes in; from the accept on for the first.
    head_since: Option<Instant>,
    idle_since: Instant,
    handshake: Option<Handshake>,
    /// When each request under way began.
    requests: BTreeMap<u64, Instant>,
    begun: u64,
    fresh: bool,
    http2: bool,
    last: bool,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::receive) enum Activity {
    /// Nothing has come in yet.
    Fresh,
    /// The head of a request has begun to come in.
    Head,
    /// Requests are under way.
    Busy,
    Idle,
}

impl TrackedStream {
    pub(in crate::receive) fn new(stream: TcpStream) -> Self {
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

    /// Returns since when the connection has waited for its first or its next request, if nothing of that has come.
    pub(in crate::receive) fn rests_since(&self) -> Option<Instant> {
        let state = self.lock();
        match (state.requests.is_empty(), state.head_since) {
            (true, None) => Some(state.idle_since),
            (true, Some(since)) if state.fresh => Some(since),
            _ => None,
        }
    }

    /// Returns whether a request is likely to follow that no answer has been given to: none came yet, the head of one has
    /// begun to come in, or bytes have arrived that the protocol has not read.
    pub(in crate::receive) fn has_head_to_come(&self, phase: Activity) -> bool {
        match phase {
            Activity::Fresh | Activity::Head => true,
            Activity::Busy => false,
            Activity::Idle => ioctl_fionread(&self.lock().stream).is_ok_and(|bytes| bytes > 0),
        }
    }

    /// What it does, and until when it may go on doing that.
    pub(in crate::receive) fn phase(
        &self,
        header_timeout: Duration,
        idle: Duration,
    ) -> (Activity, Instant) {
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

    /// Counts a request as under way until what is returned is dropped.
    pub(in crate::receive) fn begin(&self, version: Version) -> InFlightRequest {
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

    /// The next answer is to be the last.
    pub(in crate::receive) fn set_last(&self) {
        self.lock().last = true;
    }

    pub(in crate::receive) fn is_last(&self) -> bool {
        self.lock().last
    }

    /// The stream, once nobody else has the connection.
    pub(in crate::receive) fn into_stream(self) -> Option<TcpStream> {
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
        // HTTP/2 sends frames of its own between requests.
        if self.requests.is_empty() && !self.http2 && self.head_since.is_none() {
            self.head_since = Some(self.moved_at);
        }
    }
}

/// The begin of a connection, in which its client chooses the version of HTTP.
#[derive(Default)]
struct Handshake {
    /// Bytes that came so far, all of them as HTTP/2 wants them.
    bytes: usize,
}

enum HandshakeStep {
    Open(Handshake),
    Http1,
    Http2,
}

impl Handshake {
    /// The first bytes of a client of HTTP/2, and the least that follows them: the head of its settings' frame (RFC 9113,
    /// section 3.4).
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const FRAME_HEAD_BYTES: usize = 9;

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

/// A request from its head to the last byte of its answer.
pub(in crate::receive) struct InFlightRequest {
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

/// An answer's body that keeps its request under way until it is sent or given up.
pub(in crate::receive) struct TrackedBody {
    pub(in crate::receive) body: Body,
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(in crate::receive) under_way: InFlightRequest,
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

        // Pings, for ever.
        wire.lock().moved_at = Instant::now() + 2 * LONGEST;
        assert!((before + LONGEST..=between + LONGEST).contains(&phase().1));
        drop(first);
        assert!(phase().1 >= between + LONGEST);
        drop(second);
        assert_eq!(phase().0, Activity::Idle);
    }
}
