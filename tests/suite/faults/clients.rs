//! Clients that hold resources: idle, slow, flooding, more than there are descriptors.
//!
//! **Invariant:** a well-behaved client is always answered, and each of its events is stored once.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::directory;
use crate::support::client::Http;
use crate::support::frames::{self, Frames};
use crate::support::http::Raw;
use crate::support::service::{Launch, Service};

const EVENT: &str = r#"{"correlationId":"good","integration":"shop","eventType":"order"}"#;
const MIB: u64 = 1 << 20;

/// Sends one event over `http`, which must be accepted.
async fn post(service: &Service, http: &Http) {
    let url = service.url("/ingest");
    let answer = http.post(&url, "application/json", EVENT).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Asserts that exactly `events` events were accepted, and that all of them are stored.
async fn assert_stored(service: &Service, events: u32) {
    service.until_drained().await;
    let page = service.metrics().await;
    page.assert_balance();
    for metric in [
        "ruvvector_receive_events_total",
        "ruvvector_write_events_total",
    ] {
        let label = if metric.contains("receive") {
            r#"outcome="accepted""#
        } else {
            ""
        };
        let counted = page.sum_where(metric, label);
        assert!(
            (counted - f64::from(events)).abs() < 0.5,
            "{metric}: {counted}"
        );
    }
}

async fn connect(service: &Service) -> TcpStream {
    TcpStream::connect(service.address())
        .await
        .expect("it listens")
}

/// This process needs a descriptor for each of its clients.
fn take_all_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, all).expect("the soft limit may be raised");
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_a_thousand_idle_and_a_thousand_slow_clients_leave_the_others_served() {
    take_all_descriptors();
    let dir = directory();
    let service = Launch::sqlite(dir.path()).start().await;
    let half_a_body = format!(
        "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{{",
        EVENT.len()
    );
    let mut clients = Vec::new();
    for n in 0..2_000 {
        let mut client = connect(&service).await;
        let begun = match n % 4 {
            0 | 1 => "",
            2 => "POST /ing",
            _ => &half_a_body,
        };
        client.write_all(begun.as_bytes()).await.expect("it reads");
        clients.push(client);
    }
    for _ in 0..100 {
        post(&service, &service.http).await;
        post(&service, &Http::default()).await;
        assert!(service.is_ready().await);
    }
    drop(clients);
    assert_stored(&service, 200).await;
}

/// Over HTTP/2 a frame costs its sender next to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn f21_floods_of_http2_frames_stay_bounded_and_leave_the_others_served() {
    let dir = directory();
    let service = Launch::sqlite(dir.path()).start().await;
    post(&service, &service.http).await;
    let before = service.peak_memory_bytes();

    let mut floods = Vec::new();
    for flood in [
        rapid_reset,
        continuation,
        empty_data,
        pings,
        settings,
        window_updates,
    ] {
        floods.push(tokio::spawn(run_flood(connect(&service).await, flood)));
    }
    let mut events = 1;
    while !floods.iter().all(tokio::task::JoinHandle::is_finished) {
        post(&service, &Http::default()).await;
        events += 1;
    }
    for flood in floods {
        flood.await.expect("a flood does not panic");
    }
    let grown = service.peak_memory_bytes() - before;
    assert!(grown < 64 * MIB, "{} MiB more", grown / MIB);
    assert_stored(&service, events).await;
}

/// The frames of one turn of a flood.
type Flood = fn(&mut Frames);

/// Sends for three seconds, or until the server ends the connection or stops reading; reads no answer itself.
async fn run_flood(mut stream: TcpStream, flood: Flood) {
    let mut frames = Frames::default();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        flood(&mut frames);
        match timeout_at(end, frames.send(&mut stream)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

fn rapid_reset(frames: &mut Frames) {
    for _ in 0..100 {
        let stream = frames.open("/ingest", frames::END_HEADERS);
        frames.push(frames::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
}

fn continuation(frames: &mut Frames) {
    if frames.is_first() {
        frames.open("/ingest", 0);
    }
    // A header field without an index: `x: ` and a kilobyte.
    let mut field = vec![0, 1, b'x', 0x7f, 0x81, 0x07];
    field.extend_from_slice(&[b'y'; 1024]);
    frames.push(frames::CONTINUATION, 0, 1, &field);
}

fn empty_data(frames: &mut Frames) {
    if frames.is_first() {
        frames.open("/ingest", frames::END_HEADERS);
    }
    for _ in 0..100 {
        frames.push(frames::DATA, 0, 1, &[]);
    }
}

fn pings(frames: &mut Frames) {
    for _ in 0..100 {
        frames.push(frames::PING, 0, 0, &[0; 8]);
    }
}

fn settings(frames: &mut Frames) {
    for _ in 0..100 {
        frames.push(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]);
    }
}

fn window_updates(frames: &mut Frames) {
    for _ in 0..100 {
        frames.push(frames::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_clients_alone_cannot_use_the_descriptors_that_the_journal_and_the_store_need() {
    let dir = directory();
    let launch = Launch::sqlite(dir.path()).under(&["prlimit", "--nofile=300:300"]);
    let service = launch.start().await;
    post(&service, &service.http).await;
    let mut clients = Vec::new();
    for _ in 0..400 {
        clients.push(connect(&service).await);
    }
    // On a connection from before.
    let url = service.url("/ingest?wait=stored");
    let answer = service.http.post(&url, "application/json", EVENT).await;
    assert_eq!(answer.expect("an answer").json()["stored"], true);
    assert!(service.lines().contains("fewer connections"));
    assert!(!service.lines().contains("no connection can be accepted"));

    drop(clients);
    post(&service, &Http::default()).await;
    assert_stored(&service, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f22_connections_are_accepted_again_once_there_are_descriptors() {
    let dir = directory();
    // A writer that found no descriptor either tries again soon.
    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_RETRY_MAX", "500ms")
        .with("RUVVECTOR_HEADER_TIMEOUT", "120s");
    let service = launch.start().await;
    let mut old = Raw::connect(service.address()).await;
    post_on(&mut old).await;
    service.until_drained().await;
    let before = limit_descriptors(&service, service.open_descriptors() + 5);

    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(connect(&service).await);
    }
    service
        .until("accepting fails", async |service: &Service| {
            service.lines().contains("no connection can be accepted")
        })
        .await;
    for _ in 0..10 {
        post_on(&mut old).await;
    }
    let told = service.lines().matches("no connection can be").count();
    assert_eq!(told, 1, "told once a minute:\n{}", service.lines());

    limit_descriptors(&service, before);
    for client in &mut clients {
        client
            .write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("it reads");
        let mut first = [0; 12];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
    }
    post(&service, &Http::default()).await;
    assert_stored(&service, 12).await;
}

/// Sets the soft limit of open files, and returns what it was.
fn limit_descriptors(service: &Service, files: u64) -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(files),
        maximum: hard,
    };
    let before = prlimit(Some(service.pid()), Resource::Nofile, limit);
    before
        .expect("a child's limit may be set")
        .current
        .unwrap_or(u64::MAX)
}

/// As [`post`], on an open connection.
async fn post_on(raw: &mut Raw) {
    let length = EVENT.len();
    let request =
        format!("POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{EVENT}");
    raw.send(request).await;
    assert_eq!(raw.answer().await.expect("an answer").status, 200);
}
