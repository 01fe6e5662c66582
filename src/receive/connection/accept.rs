//! The accept loop, and one connection's life: HTTP/1.1 and HTTP/2 without TLS on the same port (RFC 9113, section 3.3).
//!
//! **Invariant:** a connection is ended between requests, never within one that makes progress, and never by a reset
//! while its client still sends. One of HTTP/2 is ended in two steps, a round trip apart (RFC 9113, section 6.8).

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
use metrics::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::retry_after;
use crate::receive::Options;
use crate::receive::connection::activity::{ConnectionActivity, offered_rest};
use crate::receive::connection::connection_limit::{ConnectionLimit, ConnectionSlot};
use crate::receive::connection::middleware;
use crate::receive::connection::tracked_stream::{Activity, TrackedStream};
use crate::receive::local_host::LocalAddress;
use crate::telemetry::log_limit::OncePerMinute;
use crate::telemetry::metrics::RECEIVE_CONNECTIONS_FAILED_TOTAL;

/// Heads of HTTP/1 up to this size reach us, so that we can answer 431; hyper refuses larger ones by itself.
const HTTP1_BUFFER_BYTES: usize = 128 << 10;
/// How often a client of HTTP/2 that says nothing is asked whether it is still there, and how long it may take.
const HTTP2_PING: Duration = Duration::from_secs(20);
const HTTP2_PONG: Duration = Duration::from_secs(10);
/// Until a failed accept is tried again: out of descriptors, it would fail at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Time for which this process reads on after the last answer: closing while the client still sends would reset the
/// connection.
const LINGER: Duration = Duration::from_secs(2);
/// The same while somebody waits for the place.
const LINGER_IN_NEED: Duration = Duration::from_millis(200);
/// Time that a connection with a reserved place has for a request's head, and for its whole life.
const RESERVED_HEAD: Duration = Duration::from_secs(1);
const RESERVED_LIFE: Duration = Duration::from_secs(5);
/// Time that a connection which is about to end has for a last request: at a stop for the first request of a new connection,
/// for the rest of a head that has begun to arrive, and for places for those in the queue; at the end of its rest for a
/// request that has arrived unread.
const LAST_HEADS: Duration = Duration::from_secs(1);
/// Interval of checks of such a head.
const HEAD_AGAIN: Duration = Duration::from_millis(20);

/// The two steps of a stop.
#[derive(Clone, Default)]
pub struct Drain {
    /// Connections are still accepted and requests served, but clients are told to go: `Connection: close`, GOAWAY.
    pub closing: CancellationToken,
    /// No more connections than wait in the queue already; what is under way is finished.
    pub stop: CancellationToken,
}

/// Serves `router` on `listener` until `drain.stop`, then those who have connected by then, and returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: &Options,
    places: ConnectionLimit,
    drain: Drain,
) {
    let protocol = protocol(options);
    let router = middleware::with_middleware(router, options.header_bytes);
    let failed = metrics::counter!(RECEIVE_CONNECTIONS_FAILED_TOTAL);
    let open = TaskTracker::new();
    let door = Acceptor {
        listener,
        failure: OncePerMinute::default(),
    };
    let mut over = pin!(async {
        drain.stop.cancelled().await;
        sleep(LAST_HEADS).await;
    });
    loop {
        // The place comes second, or a socket without clients would keep one from the others. So one connection a
        // socket waits here; those after it wait in the listener's queue.
        let accepted = async {
            let stream = door.accept(&drain.stop).await?;
            Some((stream, places.take().await))
        };
        let accepted = tokio::select! {
            biased;
            () = over.as_mut() => None,
            accepted = accepted => accepted,
        };
        let Some((stream, place)) = accepted else {
            break;
        };
        let connection = Connection {
            place: Arc::new(place),
            local: stream.local_addr().ok(),
            wire: TrackedStream::new(stream),
            header_timeout: options.header_timeout,
            idle: options.keep_alive_idle,
            // Clients that came together do not leave together.
            age: options
                .connection_age
                .mul_f64(0.8 + 0.4 * retry_after::random_share()),
            failed: failed.clone(),
            drain: drain.clone(),
        };
        let (protocol, router) = (protocol.clone(), router.clone());
        open.spawn(async move { connection.live(&protocol, router).await });
    }
    drop(door);
    open.close();
    open.wait().await;
}

/// Where connections come in.
struct Acceptor {
    listener: TcpListener,
    /// While descriptors are scarce, accepting fails between successes.
    failure: OncePerMinute,
}

impl Acceptor {
    /// The next connection; once `stop` has come, only one that is there already: closing the socket would reset it.
    async fn accept(&self, stop: &CancellationToken) -> Option<TcpStream> {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => self.queued(),
                accepted = self.listener.accept() => accepted.map(|(stream, _peer)| stream),
            };
            match accepted {
                Ok(stream) => {
                    // Without it answers would wait for acknowledgements; a failure costs only that.
                    let _ = stream.set_nodelay(true);
                    return Some(stream);
                }
                Err(error) if is_of_one_connection(error.kind()) => {}
                Err(_) if stop.is_cancelled() => return None,
                Err(error) => {
                    if self.failure.ready() {
                        tracing::warn!(%error, "no connection can be accepted; trying again");
                    }
                    sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    /// Asks the kernel itself: Tokio may not have heard yet of the latest ones.
    fn queued(&self) -> io::Result<TcpStream> {
        let listener = std::net::TcpListener::from(self.listener.as_fd().try_clone_to_owned()?);
        let (stream, _peer) = listener.accept()?;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

/// Whether accepting failed by the fault of the connection, which is gone, and not for want of descriptors or memory.
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
        // hyper's timeout would also end idle connections; ours tells them apart.
        .header_read_timeout(None)
        .max_buf_size(HTTP1_BUFFER_BYTES.max(options.header_bytes.saturating_mul(2)));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(options.http2_streams)
        .max_header_list_size(options.http2_header_bytes)
        .initial_stream_window_size(options.http2_window_bytes)
        .initial_connection_window_size(options.http2_window_bytes)
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PONG);
    builder
}

struct Connection {
    place: Arc<ConnectionSlot>,
    /// The address of ours that the client connected to, unless it has gone already.
    local: Option<SocketAddr>,
    wire: TrackedStream,
    header_timeout: Duration,
    idle: Duration,
    age: Duration,
    failed: Counter,
    drain: Drain,
}

/// How a connection's conversation ended.
enum ConnectionEnd {
    /// Both sides know.
    Closed,
    /// It is cut: its client is too slow.
    Cut,
}

/// How far a connection is on its way out.
#[derive(Clone, Copy)]
enum Closing {
    No,
    /// It ends after the request whose head is to come or is coming in, if that is whole by then.
    Soon(Instant),
    /// The protocol was asked to end it: over HTTP/1 it does so at once or after the answer, over HTTP/2 once the client
    /// has acknowledged, so that calls which crossed the announcement are served. Closed if it still only waits by then.
    Asked(Instant),
}

impl Connection {
    async fn live(self, protocol: &Builder<TokioExecutor>, router: Router) {
        let end = self.converse(protocol, router).await;
        let patience = if self.place.leave() {
            LINGER_IN_NEED
        } else {
            LINGER
        };
        match end {
            ConnectionEnd::Cut => self.failed.increment(1),
            ConnectionEnd::Closed => {
                if let Some(stream) = self.wire.into_stream() {
                    linger(stream, patience).await;
                }
            }
        }
    }

    async fn converse(&self, protocol: &Builder<TokioExecutor>, router: Router) -> ConnectionEnd {
        let last_sent = CancellationToken::new();
        let conversation = ConnectionActivity {
            wire: self.wire.clone(),
            place: Arc::clone(&self.place),
            last_sent: last_sent.clone(),
            rest: offered_rest(self.idle),
            local: self.local.map(|local| LocalAddress(local.ip())),
            router,
        };
        let service = service_fn(move |request| conversation.clone().answer(request));
        let leave = self.place.settle(&self.wire);
        let io = TokioIo::new(self.wire.clone());
        let mut connection = pin!(protocol.serve_connection(io, service));
        let mut aged = pin!(sleep(self.age));
        let mut monitored = pin!(sleep(RESERVED_LIFE));
        let mut may_be_reserved = true;
        let mut told = false;
        let mut leaving = Closing::No;
        loop {
            let (phase, deadline) = self.phase();
            let now = Instant::now();
            let deadline = deadline.min(now + self.shortest_phase());
            let wake = match leaving {
                Closing::No => deadline,
                Closing::Soon(by) if now < by && self.wire.has_head_to_come(phase) => {
                    by.min(now + HEAD_AGAIN)
                }
                Closing::Soon(_) => {
                    connection.as_mut().graceful_shutdown();
                    leaving = Closing::Asked(now + self.header_timeout);
                    continue;
                }
                Closing::Asked(_) if phase == Activity::Busy => deadline,
                Closing::Asked(by) => by,
            };
            tokio::select! {
                // The protocol first: it reads what has come, and sends what it was asked to send.
                biased;
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        self.failed_by(&*error);
                    }
                    return ConnectionEnd::Closed;
                }
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    let (phase, deadline) = self.phase();
                    match (leaving, phase) {
                        (Closing::No, Activity::Idle) if deadline <= now => {
                            leaving = Closing::Soon(now + LAST_HEADS);
                        }
                        // It has only rested, and its client does not acknowledge: it is gone, or hangs.
                        (Closing::Asked(by), Activity::Idle) if by <= now => return ConnectionEnd::Closed,
                        (Closing::Asked(by), Activity::Fresh | Activity::Head) if by <= now => {
                            return ConnectionEnd::Cut;
                        }
                        (Closing::Soon(_) | Closing::Asked(_), Activity::Idle) => {}
                        _ if deadline <= now => return ConnectionEnd::Cut,
                        _ => {}
                    }
                }
                () = aged.as_mut(), if !told => told = self.tell(),
                () = self.drain.closing.cancelled(), if !told => told = self.tell(),
                () = last_sent.cancelled(), if matches!(leaving, Closing::No) => {
                    leaving = Closing::Soon(Instant::now());
                }
                () = leave.cancelled(), if matches!(leaving, Closing::No) => {
                    let patience = if phase == Activity::Fresh { Duration::ZERO } else { LAST_HEADS };
                    leaving = Closing::Soon(Instant::now() + patience);
                }
                () = monitored.as_mut(), if may_be_reserved => {
                    may_be_reserved = false;
                    if self.place.is_reserved() {
                        return ConnectionEnd::Cut;
                    }
                }
                () = self.drain.stop.cancelled(), if matches!(leaving, Closing::No) => {
                    told = self.tell();
                    leaving = Closing::Soon(Instant::now() + LAST_HEADS);
                }
            }
        }
    }

    /// Counts a conversation that ended with an error, unless its client went away while the connection rested.
    fn failed_by(&self, error: &(dyn Error + 'static)) {
        tracing::debug!(%error, "a connection ended with an error");
        let (phase, _) = self.phase();
        let rested = matches!(phase, Activity::Fresh | Activity::Idle);
        if !rested || !is_of_the_socket(error) {
            self.failed.increment(1);
        }
    }

    /// As [`TrackedStream::phase`]; whoever has a reserved place has come to ask at once.
    fn phase(&self) -> (Activity, Instant) {
        self.wire.phase(self.header_timeout(), self.idle)
    }

    fn header_timeout(&self) -> Duration {
        if self.place.is_reserved() {
            self.header_timeout.min(RESERVED_HEAD)
        } else {
            self.header_timeout
        }
    }

    /// The least time that a phase which begins from now on may last: nobody reports its begin, so the loop looks again by then.
    fn shortest_phase(&self) -> Duration {
        self.header_timeout().min(self.idle).max(HEAD_AGAIN)
    }

    /// Lets the next answer be the last; an idle client of HTTP/1 could have sent a request just now.
    fn tell(&self) -> bool {
        self.wire.set_last();
        true
    }
}

/// Returns whether the socket failed, as opposed to the protocol on it.
fn is_of_the_socket(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(<dyn Error>::is::<io::Error>)
}

/// Reads on for a while, so that the last answer is not overtaken by a reset.
async fn linger(mut stream: TcpStream, patience: Duration) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut scrap = vec![0; 16 << 10];
    let emptied = async { while matches!(stream.read(&mut scrap).await, Ok(1..)) {} };
    let _ = timeout(patience, emptied).await;
}
