//! Requests that were accepted under a limit of memory are stored and answered under it, by a process that never ends.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::{directory, setting};
use super::growing::{Request, large_logs, requests};
use crate::support::memory_limit::MemoryLimit;
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

/// Time for which a request that finds no memory is sent again.
const PATIENCE: Duration = Duration::from_secs(600);

/// The value of `Retry-After`.
const AGAIN: Duration = Duration::from_secs(2);

/// Requests that are sent at once.
const AT_ONCE: usize = 64;

/// Sends each request until it is answered otherwise than 503, many at once.
async fn send_all(service: &Service, requests: Vec<Request>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let sending = requests.into_iter().map(|request| {
        let slots = Arc::clone(&slots);
        async move {
            let _slot = slots.acquire().await.expect("never closed");
            send(service, &request).await;
        }
    });
    join_all(sending).await;
}

pub(super) async fn send(service: &Service, request: &Request) {
    let deadline = Instant::now() + PATIENCE;
    let mut headers = vec![("content-type", request.content_type)];
    if request.body.starts_with(&[0x1f, 0x8b]) {
        headers.push(("content-encoding", "gzip"));
    }
    loop {
        let url = service.url(request.path);
        let body = request.body.clone();
        let answer = service.http.send(Method::POST, &url, &headers, body).await;
        // A client that is refused while it still sends may see its connection end before it sees the 503.
        let Ok(answer) = answer else {
            assert!(Instant::now() < deadline, "{}: no answer", request.name);
            tokio::time::sleep(AGAIN).await;
            continue;
        };
        if answer.status.is_success() {
            return;
        }
        assert!(
            answer.status == StatusCode::SERVICE_UNAVAILABLE && Instant::now() < deadline,
            "{}: {} {}",
            request.name,
            answer.status,
            answer.text()
        );
        tokio::time::sleep(AGAIN).await;
    }
}

/// Waits until all accepted events are stored as rows.
async fn stored(service: &Service) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = service.metrics().await;
        if page.sum("ruvvector_queue_events") < 0.5 {
            page.assert_balance();
            assert!(page.sum("ruvvector_dead_letters_total") < 0.5);
            return;
        }
        assert!(Instant::now() < deadline, "{}", service.health().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn bodies(mib: usize, limit_mib: u64, too_large_mib: Option<usize>) {
    let count = setting("RUVVECTOR_TEST_BODIES", 4);
    let database = Database::new().await;
    let dir = directory();
    let limit = MemoryLimit::of_mib(limit_mib);
    let launch = Launch::postgres(dir.path(), &database.url);
    let mut service = limit.on(&launch).start().await;
    if let Some(mib) = too_large_mib {
        let request = large_logs(mib);
        let url = service.url(request.path);
        let refused = service.http.post(&url, request.content_type, request.body);
        // A client that is still sending may miss the answer; it never gets another one.
        if let Ok(answer) = refused.await {
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
        }
    }
    send_all(&service, vec![large_logs(mib); count]).await;
    stored(&service).await;
    limit.assert_kept(&mut service, "large bodies");
}

/// Sixty-four bodies of 24 MiB at once, each within the limit of one request, met a process of 256 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_24_mib_are_all_stored_in_256_mib_and_one_of_40_mib_is_refused() {
    bodies(24, 256, Some(40)).await;
}

/// The same of 40 MiB met one of 512 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_40_mib_are_all_stored_in_512_mib() {
    bodies(40, 512, None).await;
}

/// The memory of bodies that had long been answered and stored stayed with glibc's allocator, over 100 MiB of it, and
/// was not available for the next ones.
#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_large_bodies_goes_back_to_the_kernel() {
    const KEPT_BYTES: u64 = 64 << 20;
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let service = launch.start().await;
    send_all(&service, vec![large_logs(24); 8]).await;
    stored(&service).await;
    let held = service.resident_bytes();
    assert!(held < KEPT_BYTES, "{} MiB are kept", held >> 20);
    drop(service);

    // A threshold that is set already is kept.
    let set = ("MALLOC_MMAP_THRESHOLD_", "65536");
    let service = launch.with(set.0, set.1).start().await;
    let path = format!("/proc/{}/environ", service.pid().as_raw_nonzero());
    let environment = std::fs::read_to_string(path).expect("the process is there");
    assert!(environment.contains(&format!("{}={}", set.0, set.1)));
}

/// Ten requests of 201 KiB became 3 GiB of rows: the process was killed, and killed again at every start.
#[tokio::test(flavor = "multi_thread")]
async fn growing_requests_of_several_kinds_are_all_stored_in_256_mib() {
    let count = setting("RUVVECTOR_TEST_GROWING", 8);
    let items = setting("RUVVECTOR_TEST_GROWING_ITEMS", 20_000);
    let database = Database::new().await;
    let dir = directory();
    let limit = MemoryLimit::of_mib(256);
    let launch = Launch::postgres(dir.path(), &database.url);
    let mut service = limit.on(&launch).start().await;
    let all: Vec<_> = requests(items).into_iter().cycle().take(count).collect();
    send_all(&service, all).await;
    stored(&service).await;
    limit.assert_kept(&mut service, "growing requests");
}

/// A record of 64 MiB waited in the journal of an instance whose limit was then lowered from 1 GiB to 256 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_accepted_under_a_larger_limit_are_stored_in_256_mib() {
    let count = setting("RUVVECTOR_TEST_LARGE_RECORDS", 2);
    let database = Database::new().await;
    let dir = directory();
    let away = Launch::postgres(dir.path(), "postgres://x@127.0.0.1:1/x");
    let larger = MemoryLimit::of_mib(1024);
    let mut service = larger.on(&away).start().await;
    send_all(&service, vec![large_logs(63); count]).await;
    larger.assert_kept(&mut service, "without a database");
    service.kill();

    let limit = MemoryLimit::of_mib(256);
    let launch = Launch::postgres(dir.path(), &database.url);
    let mut service = limit.on(&launch).start().await;
    stored(&service).await;
    limit.assert_kept(&mut service, "records of a larger limit");
}

/// Eight queries whose answers had 30 MiB each, as many as run at once by default, ended a process of 512 MiB with SQLite and
/// one of 384 MiB with PostgreSQL.
async fn answers(launch: Launch, limit_mib: u64) {
    const EVENTS: usize = 10_000;
    let limit = MemoryLimit::of_mib(limit_mib);
    let mut service = limit.on(&launch).start().await;
    let event = format!(
        r#"{{"correlationId":"c","integration":"i","eventType":"e","metadata":{{"text":"{}"}}}}"#,
        "x".repeat(2_900)
    );
    let batch = format!("[{}]", vec![event; EVENTS / 10].join(","));
    for _ in 0..10 {
        let url = service.url("/ingest");
        let answer = service.http.post(&url, "application/json", batch.clone());
        assert_eq!(answer.await.expect("an answer").status, StatusCode::OK);
    }
    stored(&service).await;
    let paths = [
        "/query?limit=10000",
        "/query?limit=10000&integration=i",
        "/query?limit=10000&correlationId=c",
        "/query?limit=10000&order=asc",
    ];
    let asking = (0..8).map(|n| all_pages(&service, paths[n % paths.len()]));
    for events in join_all(asking).await {
        assert_eq!(events, EVENTS);
    }
    limit.assert_kept(&mut service, "answers");
}

/// The events of all pages; a query that finds no memory is asked again.
async fn all_pages(service: &Service, path: &str) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut next = Some(path.to_owned());
    let mut events = 0;
    while let Some(path) = next.take() {
        let answer = service.get(&path).await;
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            assert!(answer.header("retry-after").is_some() && Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(100)).await;
            next = Some(path);
            continue;
        }
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        events += answer.text().matches(r#""correlationId""#).count();
        next = answer.header("link").map(|link| {
            let link = link.strip_prefix('<').expect("a link");
            link.split('>').next().expect("its end").to_owned()
        });
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_answers_of_30_mib_at_once_fit_256_mib_with_sqlite() {
    let dir = directory();
    answers(Launch::sqlite(dir.path()), 256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_answers_of_30_mib_at_once_fit_256_mib_with_postgres() {
    let database = Database::new().await;
    let dir = directory();
    answers(Launch::postgres(dir.path(), &database.url), 256).await;
}
