//! The TCP stream of a connection, with the activity on it and its deadline.
//!
//! **Invariant:** every activity has a deadline; an idle timeout never closes a connection with a request in flight.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::Version;
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
    /// The activity while no request is in flight.
    between: Activity,
    /// The begin of that: of the connection, of the first byte of a head, or of the idle time.
    since: Instant,
    version: HttpVersion,
    /// Begin of each request in flight, by its number.
    requests: BTreeMap<u64, Instant>,
    /// Number of requests so far.
    begun: u64,
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
    /// Idle, but bytes have arrived that the protocol has not read.
    Unread,
}

impl TrackedStream {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(StreamActivity {
            stream,
            moved_at: now,
            between: Activity::Fresh,
            since: now,
            version: HttpVersion::Undecided { preface_bytes: 0 },
            requests: BTreeMap::new(),
            begun: 0,
            last: false,
        })))
    }

    /// Returns the time since which the connection has waited for its first or next request; `None` if bytes of one
    /// have arrived.
    pub(crate) fn rests_since(&self) -> Option<Instant> {
        let state = self.lock();
        let rests = state.requests.is_empty() && state.between != Activity::Head;
        rests.then_some(state.since)
    }

    pub(crate) fn has_unread_bytes(&self) -> bool {
        ioctl_fionread(&self.lock().stream).is_ok_and(|bytes| bytes > 0)
    }

    /// Returns the activity on the connection, except for [`Activity::Unread`], and the deadline by which that must
    /// end.
    pub(crate) fn activity(&self, header_timeout: Duration, idle: Duration) -> (Activity, Instant) {
        let state = self.lock();
        if let Some((_, oldest)) = state.requests.first_key_value() {
            let deadline = (state.moved_at + STALLED).min(*oldest + LONGEST);
            return (Activity::Busy, deadline);
        }
        let time = if state.between == Activity::Idle {
            idle
        } else {
            header_timeout
        };
        (state.between, state.since + time)
    }

    /// Begins a request, which is in flight until the returned value is dropped.
    pub(crate) fn begin(&self, version: Version) -> InFlightRequest {
        let mut state = self.lock();
        let now = Instant::now();
        let number = state.begun;
        state.begun += 1;
        state.requests.insert(number, now);
        state.begin(Activity::Idle);
        state.version = if version == Version::HTTP_2 {
            HttpVersion::Http2
        } else {
            HttpVersion::Http1
        };
        state.moved_at = now;
        let stream = self.clone();
        InFlightRequest { stream, number }
    }

    /// Makes the next answer the last one.
    pub(crate) fn set_last(&self) {
        self.lock().last = true;
    }

    pub(crate) fn is_last(&self) -> bool {
        self.lock().last
    }

    fn lock(&self) -> MutexGuard<'_, StreamActivity> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamActivity {
    fn begin(&mut self, activity: Activity) {
        self.between = activity;
        self.since = Instant::now();
    }

    fn received(&mut self, bytes: &[u8]) {
        self.moved_at = Instant::now();
        // The time for the first head counts from the accept.
        if self.between == Activity::Fresh {
            self.between = Activity::Head;
        }
        let before = self.version;
        self.version = before.with(bytes);
        match self.version {
            // A client may connect long before it has anything to send. Later, bytes between requests may be frames
            // such as PING.
            HttpVersion::Http2 if before != HttpVersion::Http2 => self.begin(Activity::Idle),
            HttpVersion::Http2 => {}
            _ if self.between == Activity::Idle && self.requests.is_empty() => {
                self.begin(Activity::Head);
            }
            _ => {}
        }
    }
}

/// The version of HTTP, which the client chooses by the first bytes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HttpVersion {
    /// All bytes so far, of this number, match HTTP/2's preface.
    Undecided {
        preface_bytes: usize,
    },
    Http1,
    Http2,
}

impl HttpVersion {
    /// The first bytes of an HTTP/2 client (RFC 9113, section 3.4).
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// The head of the SETTINGS frame that must follow the preface.
    const FRAME_HEAD_BYTES: usize = 9;

    /// Returns the version after the next bytes that arrived.
    fn with(self, bytes: &[u8]) -> Self {
        let Self::Undecided { preface_bytes } = self else {
            return self;
        };
        let expected = Self::PREFACE.get(preface_bytes..).unwrap_or_default();
        if expected
            .iter()
            .zip(bytes)
            .any(|(expected, byte)| expected != byte)
        {
            return Self::Http1;
        }
        let preface_bytes = preface_bytes + bytes.len();
        if preface_bytes < Self::PREFACE.len() + Self::FRAME_HEAD_BYTES {
            return Self::Undecided { preface_bytes };
        }
        Self::Http2
    }
}

/// A request in flight: from its head to the last byte of its answer.
pub(crate) struct InFlightRequest {
    stream: TrackedStream,
    number: u64,
}

impl Drop for InFlightRequest {
    fn drop(&mut self) {
        let mut state = self.stream.lock();
        state.requests.remove(&self.number);
        state.begin(Activity::Idle);
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

#[cfg(test)]
mod tests {
    use super::{
        Activity, Duration, HttpVersion, Instant, LONGEST, STALLED, TcpStream, TrackedStream,
        Version,
    };

    #[test]
    fn a_client_of_http2_is_known_by_its_preface_however_that_is_cut() {
        let sent = [HttpVersion::PREFACE, &[0; HttpVersion::FRAME_HEAD_BYTES]].concat();
        let start = HttpVersion::Undecided { preface_bytes: 0 };
        for at in 1..sent.len() {
            let begun = start.with(&sent[..at]);
            assert_eq!(begun, HttpVersion::Undecided { preface_bytes: at });
            assert_eq!(begun.with(&sent[at..]), HttpVersion::Http2, "{at}");
            if at < HttpVersion::PREFACE.len() {
                assert_eq!(begun.with(b"?"), HttpVersion::Http1, "{at}");
            }
        }
        assert_eq!(start.with(b"POST /ingest HTTP/1.1"), HttpVersion::Http1);
    }

    #[tokio::test]
    async fn a_request_under_way_has_a_deadline_however_much_its_client_sends() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let tracked = TrackedStream::new(stream);
        let activity = || tracked.activity(Duration::ZERO, Duration::ZERO);
        let before = Instant::now();
        let first = tracked.begin(Version::HTTP_2);
        let between = Instant::now();
        let second = tracked.begin(Version::HTTP_2);
        assert_eq!(activity().0, Activity::Busy);
        assert!(activity().1 <= Instant::now() + STALLED);

        // The client sends PING frames for ever.
        tracked.lock().moved_at = Instant::now() + 2 * LONGEST;
        assert!((before + LONGEST..=between + LONGEST).contains(&activity().1));
        drop(first);
        assert!(activity().1 >= between + LONGEST);
        drop(second);
        assert_eq!(activity().0, Activity::Idle);
    }
}
