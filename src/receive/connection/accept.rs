//! The accept loop, and the life of one connection: HTTP/1.1 and HTTP/2 without TLS on the same port (RFC 9113, section
//! 3.3).
//!
//! **Invariant:** a connection is closed between requests, never within one that makes progress, and never by a reset
//! while its client still sends. An HTTP/2 connection is closed in two steps, one round trip apart (RFC 9113, section
//! 6.8).

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::retry_after;
use crate::lifecycle::{Lifecycle, Phase};
use crate::receive::Options;
use crate::receive::connection::activity::{ConnectionActivity, offered_rest};
use crate::receive::connection::closing::{
    Closing, ConnectionEnd, HEAD_AGAIN, LAST_HEADS, Step, step,
};
use crate::receive::connection::connection_limit::{ConnectionLimit, ConnectionSlot};
use crate::receive::connection::middleware;
use crate::receive::connection::tracked_stream::{Activity, TrackedStream};
use crate::receive::local_host::LocalAddress;
use crate::telemetry::log_limit::OncePerMinute;
use crate::telemetry::metrics::RECEIVE_CONNECTIONS_FAILED_TOTAL;

/// Maximum size of an HTTP/1 head that reaches the middleware, which answers 431; hyper refuses larger ones itself.
const HTTP1_BUFFER_BYTES: usize = 128 << 10;
/// The protocol's smallest limit of a frame's size (RFC 9113, section 6.5.2). A larger one spares a read and a copy for
/// every 16 KiB of a body; a connection then reserves as much for a frame whose length is announced.
const LEAST_FRAME_BYTES: u32 = 16 << 10;
/// Interval of PING frames on a silent HTTP/2 connection.
const HTTP2_PING: Duration = Duration::from_secs(20);
/// Time that an HTTP/2 client has to answer a PING frame.
const HTTP2_PONG: Duration = Duration::from_secs(10);
/// Wait before a failed accept is repeated: without descriptors, it would fail again at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Time for which this process reads on after the last answer: closing while the client still sends would reset the
/// connection.
const LINGER: Duration = Duration::from_secs(2);
/// The same for a connection that was asked to close because others wait for its slot.
const LINGER_IN_NEED: Duration = Duration::from_millis(200);
/// Time that a connection in a reserved slot has for a request's head.
const RESERVED_HEAD: Duration = Duration::from_secs(1);
/// Maximum age of a connection in a reserved slot.
const RESERVED_LIFE: Duration = Duration::from_secs(5);

/// Serves `router` on `listener` until [`Phase::Closing`], then the connections that were made before, and returns once
/// all are closed.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: Options,
    limit: ConnectionLimit,
    lifecycle: Lifecycle,
) {
    let protocol = protocol(&options);
    let router = middleware::with_middleware(router, options.header_bytes);
    // The series exists from the start, with 0.
    metrics::counter!(RECEIVE_CONNECTIONS_FAILED_TOTAL).absolute(0);
    let open = TaskTracker::new();
    let failure = OncePerMinute::default();
    let mut over = pin!(async {
        lifecycle.reached(Phase::Closing).await;
        sleep(LAST_HEADS).await;
    });
    loop {
        // The accept comes before the slot: otherwise a listener without clients would hold a slot that others need. So
        // one connection per listener waits here, and those after it wait in the kernel's queue.
        let accepted = async {
            let stream = accept(&listener, &lifecycle, &failure).await?;
            Some((stream, limit.take().await))
        };
        let accepted = tokio::select! {
            biased;
            () = over.as_mut() => None,
            accepted = accepted => accepted,
        };
        let Some((stream, slot)) = accepted else {
            break;
        };
        let connection = Connection {
            slot: Arc::new(slot),
            local: stream.local_addr().ok(),
            stream: TrackedStream::new(stream),
            header_timeout: options.header_timeout,
            idle: options.keep_alive_idle,
            // Clients that connected together do not reconnect together.
            age: options
                .connection_age
                .mul_f64(0.8 + 0.4 * retry_after::random_share()),
            lifecycle: lifecycle.clone(),
        };
        let (protocol, router) = (protocol.clone(), router.clone());
        open.spawn(async move { connection.live(&protocol, router).await });
    }
    drop(listener);
    open.close();
    open.wait().await;
}

/// Returns the next connection. From [`Phase::Closing`] on, only connections in the queue are accepted, as closing the
/// listener would reset them; `None` if there are no more.
///
/// `failure` limits the log lines about failures: while descriptors are scarce, accepting fails and succeeds in turn.
async fn accept(
    listener: &TcpListener,
    lifecycle: &Lifecycle,
    failure: &OncePerMinute,
) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            biased;
            () = lifecycle.reached(Phase::Closing) => accept_queued(listener),
            accepted = listener.accept() => accepted.map(|(stream, _peer)| stream),
        };
        match accepted {
            Ok(stream) => {
                // With Nagle's algorithm, answers would wait for acknowledgements; if this fails, they do.
                let _ = stream.set_nodelay(true);
                return Some(stream);
            }
            Err(error) if is_of_one_connection(error.kind()) => {}
            Err(_) if lifecycle.phase() >= Phase::Closing => return None,
            Err(error) => {
                if failure.ready() {
                    tracing::warn!(%error, "no connection can be accepted; trying again");
                }
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Accepts from the kernel's queue directly: Tokio may not have seen the latest connections yet.
fn accept_queued(listener: &TcpListener) -> io::Result<TcpStream> {
    let listener = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
    let (stream, _peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// Returns `true` if accepting failed because the client closed the connection, not for lack of descriptors or memory.
fn is_of_one_connection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}

fn protocol(options: &Options) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's timeout would also close idle connections; `Connection` distinguishes them.
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER_BYTES.max(options.header_bytes.saturating_mul(2)));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.http2_streams)
        .max_header_list_size(options.http2_header_bytes)
        .initial_stream_window_size(options.http2_window_bytes)
        .initial_connection_window_size(options.http2_window_bytes)
        .max_frame_size((options.http2_window_bytes / 4).max(LEAST_FRAME_BYTES))
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PONG);
    builder
}

/// One accepted connection.
struct Connection {
    slot: Arc<ConnectionSlot>,
    /// This process's address that the client connected to; `None` if the client has disconnected already.
    local: Option<SocketAddr>,
    stream: TrackedStream,
    /// Maximum time for receiving a request's head.
    header_timeout: Duration,
    /// Time after which the connection is closed if it has no request.
    idle: Duration,
    /// Age at which the close is announced.
    age: Duration,
    lifecycle: Lifecycle,
}

impl Connection {
    async fn live(self, protocol: &Builder<TokioExecutor>, router: Router) {
        let end = self.serve_until_closed(protocol, router).await;
        let patience = if self.slot.leave() {
            LINGER_IN_NEED
        } else {
            LINGER
        };
        match end {
            ConnectionEnd::Cut => count_failed(),
            ConnectionEnd::Closed => linger(self.stream, patience).await,
        }
    }

    async fn serve_until_closed(
        &self,
        protocol: &Builder<TokioExecutor>,
        router: Router,
    ) -> ConnectionEnd {
        let last_sent = CancellationToken::new();
        let requests = ConnectionActivity {
            stream: self.stream.clone(),
            slot: Arc::clone(&self.slot),
            last_sent: last_sent.clone(),
            rest: offered_rest(self.idle),
            local: self.local.map(|local| LocalAddress(local.ip())),
            router,
        };
        let service = service_fn(move |request| requests.clone().answer(request));
        let leave = self.slot.register(&self.stream);
        let io = TokioIo::new(self.stream.clone());
        let mut connection = pin!(protocol.serve_connection(io, service));
        let mut aged = pin!(sleep(self.age));
        let mut monitored = pin!(sleep(RESERVED_LIFE));
        let mut may_be_reserved = true;
        let mut closing = Closing::No;
        loop {
            let now = Instant::now();
            let (activity, deadline) = self.activity(closing);
            let wake = match step(closing, activity, deadline, now) {
                Step::Wait(until) => until.min(now + self.shortest_activity()),
                Step::CloseSoon => {
                    closing = Closing::Soon(now + LAST_HEADS);
                    continue;
                }
                Step::AskToClose => {
                    connection.as_mut().graceful_shutdown();
                    closing = Closing::Asked(now + self.header_timeout);
                    continue;
                }
                Step::End(end) => return end,
            };
            // To announce the close is to make the next answer the last one: an idle HTTP/1 connection is not closed at
            // once, as its client may have sent a request just now.
            let is_announced = self.stream.is_last();
            tokio::select! {
                // The protocol first: it reads the bytes that have arrived, and sends the announcement of the close.
                biased;
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        self.failed_by(&*error);
                    }
                    return ConnectionEnd::Closed;
                }
                () = sleep_until(wake) => {}
                () = aged.as_mut(), if !is_announced => self.stream.set_last(),
                () = self.lifecycle.reached(Phase::Announcing), if !is_announced => self.stream.set_last(),
                () = last_sent.cancelled(), if matches!(closing, Closing::No) => {
                    closing = Closing::Soon(Instant::now());
                }
                () = leave.cancelled(), if matches!(closing, Closing::No) => {
                    let patience = if activity == Activity::Fresh { Duration::ZERO } else { LAST_HEADS };
                    closing = Closing::Soon(Instant::now() + patience);
                }
                () = monitored.as_mut(), if may_be_reserved => {
                    may_be_reserved = false;
                    if self.slot.is_reserved() {
                        return ConnectionEnd::Cut;
                    }
                }
                () = self.lifecycle.reached(Phase::Closing), if matches!(closing, Closing::No) => {
                    self.stream.set_last();
                    closing = Closing::Soon(Instant::now() + LAST_HEADS);
                }
            }
        }
    }

    /// Counts a connection that ended with an error, unless the client disconnected while it was idle.
    fn failed_by(&self, error: &(dyn Error + 'static)) {
        tracing::debug!(%error, "a connection ended with an error");
        let (activity, _) = self.activity(Closing::No);
        let rested = matches!(activity, Activity::Fresh | Activity::Idle);
        if !rested || !is_of_the_socket(error) {
            count_failed();
        }
    }

    /// Returns [`TrackedStream::activity`] with this connection's timeouts. Only a connection that is about to close is
    /// searched for unread bytes.
    fn activity(&self, closing: Closing) -> (Activity, Instant) {
        match self.stream.activity(self.header_timeout(), self.idle) {
            (Activity::Idle, deadline)
                if matches!(closing, Closing::Soon(_)) && self.stream.has_unread_bytes() =>
            {
                (Activity::Unread, deadline)
            }
            activity => activity,
        }
    }

    /// Returns the time for a request's head. It is short in a reserved slot: a probe sends its request at once.
    fn header_timeout(&self) -> Duration {
        if self.slot.is_reserved() {
            self.header_timeout.min(RESERVED_HEAD)
        } else {
            self.header_timeout
        }
    }

    /// Returns the shortest time after which an activity that begins from now on may expire. Nothing wakes the loop
    /// when an activity begins, so the loop checks again by then.
    fn shortest_activity(&self) -> Duration {
        self.header_timeout().min(self.idle).max(HEAD_AGAIN)
    }
}

fn count_failed() {
    metrics::counter!(RECEIVE_CONNECTIONS_FAILED_TOTAL).increment(1);
}

/// Returns `true` if the socket failed, `false` if the protocol on it did.
fn is_of_the_socket(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(<dyn Error>::is::<io::Error>)
}

/// Closes the sending side and reads on for `patience`, so that no reset overtakes the last answer.
async fn linger(mut stream: TrackedStream, patience: Duration) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut scrap = vec![0; 16 << 10];
    let emptied = async { while matches!(stream.read(&mut scrap).await, Ok(1..)) {} };
    let _ = timeout(patience, emptied).await;
}
