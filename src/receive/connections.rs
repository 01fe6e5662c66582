//! The accept loop, and one connection's life: HTTP/1.1 and HTTP/2 without TLS on the same port (RFC 9113, section 3.3).
//!
//! **Invariant:** a connection is ended between requests, never within one that makes progress, and never by a reset
//! while its client still sends.

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use metrics::Counter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::host::LocalAddress;
use super::rarely::Rarely;
use super::wire::{Answering, Phase, Wire};
use super::{Options, descriptors, requests, retry};
use crate::observe::metrics::RECEIVE_CONNECTIONS_FAILED_TOTAL;

/// Heads of HTTP/1 up to this size reach us, so that we can answer 431; hyper refuses larger ones by itself.
const HTTP1_BUFFER_BYTES: usize = 128 << 10;
/// How often a client of HTTP/2 that says nothing is asked whether it is still there, and how long it may take.
const HTTP2_PING: Duration = Duration::from_secs(20);
const HTTP2_PONG: Duration = Duration::from_secs(10);
/// Until a failed accept is tried again: out of descriptors, it would fail at once.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How long what a client still sends is read after the last answer, as closing at once would reset it.
const LINGER: Duration = Duration::from_secs(2);
/// How long the service waits, when it stops, for the first request of a new connection, for the rest of a head that has
/// begun to come in, and for places for those in the queue; and how often it looks at a head.
const LAST_HEADS: Duration = Duration::from_secs(1);
const HEAD_AGAIN: Duration = Duration::from_millis(20);

/// The two steps of a stop.
#[derive(Clone, Default)]
pub struct Drain {
    /// Connections are still accepted and requests served, but clients are told to go: `Connection: close`, GOAWAY.
    pub closing: CancellationToken,
    /// No more connections than wait in the queue already; what is under way is finished.
    pub stop: CancellationToken,
}

/// The connections that the process may have at once, on all of its sockets together.
#[derive(Clone)]
pub struct Places(Arc<Semaphore>);

impl Places {
    /// As many as the options say, if the limit of open files leaves room for them.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let connections = descriptors::connections_max(options.connections);
        Self(Arc::new(Semaphore::new(
            connections.min(Semaphore::MAX_PERMITS),
        )))
    }

    /// Waits for a free one, which is given back when dropped.
    async fn take(&self) -> OwnedSemaphorePermit {
        let place = Arc::clone(&self.0).acquire_owned().await;
        place.expect("the semaphore is never closed")
    }
}

/// Serves `router` on `listener` until `drain.stop`, then those who have connected by then, and returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: &Options,
    places: Places,
    drain: Drain,
) {
    let protocol = protocol(options);
    let router = requests::guarded(router, options.header_bytes);
    let failed = metrics::counter!(RECEIVE_CONNECTIONS_FAILED_TOTAL);
    let open = TaskTracker::new();
    let door = Door {
        listener,
        failure: Rarely::default(),
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
            local: stream.local_addr().ok(),
            wire: Wire::new(stream),
            header_timeout: options.header_timeout,
            idle: options.keep_alive_idle,
            // Clients that came together do not leave together.
            age: options.connection_age.mul_f64(0.8 + 0.4 * retry::jitter()),
            failed: failed.clone(),
            drain: drain.clone(),
        };
        let (protocol, router) = (protocol.clone(), router.clone());
        open.spawn(async move {
            connection.live(&protocol, router).await;
            drop(place);
        });
    }
    drop(door);
    open.close();
    open.wait().await;
}

/// Where connections come in.
struct Door {
    listener: TcpListener,
    /// While descriptors are scarce, accepting fails between successes.
    failure: Rarely,
}

impl Door {
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
                    if self.failure.is_due() {
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
    /// The address of ours that the client connected to, unless it has gone already.
    local: Option<SocketAddr>,
    wire: Wire,
    header_timeout: Duration,
    idle: Duration,
    age: Duration,
    failed: Counter,
    drain: Drain,
}

/// How a connection's conversation ended.
enum End {
    /// Both sides know.
    Closed,
    /// It is cut: its client is too slow.
    Cut,
}

/// How far a connection is on its way out.
#[derive(Clone, Copy)]
enum Leaving {
    No,
    /// It ends after the request whose head is to come or is coming in, if that is whole by then.
    Soon(Instant),
    /// The protocol was asked to end it; cut when it still only waits by then.
    Asked(Instant),
}

impl Connection {
    async fn live(self, protocol: &Builder<TokioExecutor>, router: Router) {
        match self.converse(protocol, router).await {
            End::Cut => self.failed.increment(1),
            End::Closed => {
                if let Some(stream) = self.wire.into_stream() {
                    linger(stream).await;
                }
            }
        }
    }

    async fn converse(&self, protocol: &Builder<TokioExecutor>, router: Router) -> End {
        let last_sent = CancellationToken::new();
        let service = {
            let (wire, last_sent) = (self.wire.clone(), last_sent.clone());
            let local = self.local.map(|local| LocalAddress(local.ip()));
            service_fn(move |mut request: Request<Incoming>| {
                if let Some(local) = local {
                    request.extensions_mut().insert(local);
                }
                answer(wire.clone(), last_sent.clone(), router.clone(), request)
            })
        };
        let io = TokioIo::new(self.wire.clone());
        let mut connection = pin!(protocol.serve_connection(io, service));
        let mut aged = pin!(sleep(self.age));
        let mut told = false;
        let mut leaving = Leaving::No;
        loop {
            let (phase, deadline) = self.wire.phase(self.header_timeout, self.idle);
            let now = Instant::now();
            let wake = match leaving {
                Leaving::No => deadline,
                Leaving::Soon(by) if matches!(phase, Phase::Fresh | Phase::Head) && now < by => {
                    deadline.min(now + HEAD_AGAIN)
                }
                Leaving::Soon(_) => {
                    connection.as_mut().graceful_shutdown();
                    leaving = Leaving::Asked(now + self.header_timeout);
                    continue;
                }
                Leaving::Asked(_) if phase == Phase::Busy => deadline,
                Leaving::Asked(by) => deadline.min(by),
            };
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        self.failed.increment(1);
                        tracing::debug!(%error, "a connection ended with an error");
                    }
                    return End::Closed;
                }
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    let (phase, deadline) = self.wire.phase(self.header_timeout, self.idle);
                    match (leaving, phase) {
                        (Leaving::No, Phase::Idle) if deadline <= now => {
                            leaving = Leaving::Soon(now);
                        }
                        (Leaving::Asked(by), Phase::Fresh | Phase::Head | Phase::Idle) if by <= now => {
                            return End::Cut;
                        }
                        _ if deadline <= now => return End::Cut,
                        _ => {}
                    }
                }
                () = aged.as_mut(), if !told => told = self.tell(),
                () = self.drain.closing.cancelled(), if !told => told = self.tell(),
                () = last_sent.cancelled(), if matches!(leaving, Leaving::No) => {
                    leaving = Leaving::Soon(Instant::now());
                }
                () = self.drain.stop.cancelled(), if matches!(leaving, Leaving::No) => {
                    told = self.tell();
                    leaving = Leaving::Soon(Instant::now() + LAST_HEADS);
                }
            }
        }
    }

    /// Lets the next answer be the last; an idle client of HTTP/1 could have sent a request just now.
    fn tell(&self) -> bool {
        self.wire.set_last();
        true
    }
}

/// One request: the router's answer, which keeps the connection busy until it is sent.
async fn answer(
    wire: Wire,
    last_sent: CancellationToken,
    mut router: Router,
    request: Request<Incoming>,
) -> Result<axum::http::Response<Answering>, Infallible> {
    let version = request.version();
    let under_way = wire.begin(version);
    let mut response = router.call(request.map(Body::new)).await?;
    if wire.is_last() {
        if version == Version::HTTP_2 {
            last_sent.cancel();
        } else {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
    }
    Ok(response.map(|body| Answering { body, under_way }))
}

/// Reads on for a while, so that the last answer is not overtaken by a reset.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut scrap = vec![0; 16 << 10];
    let emptied = async { while matches!(stream.read(&mut scrap).await, Ok(1..)) {} };
    let _ = timeout(LINGER, emptied).await;
}
