//! A system call of the journal kills the process, fails, or takes long; by `strace`.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use super::{directory, drained, in_turn, setting};
use crate::support::ledger::Ledger;
use crate::support::load::{Load, Shape};
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

/// All of the journal's calls to the file system; names that are not called have no effect.
const CALLS: &[&str] = &[
    "openat",
    "fallocate",
    "ftruncate",
    "pwrite64",
    "pwritev",
    "write",
    "fdatasync",
    "fsync",
    "unlink",
];

/// A tracer that runs beside the process, so that the process is our own child.
fn strace(call: &str, what: &str) -> Vec<String> {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:{what}");
    [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn traced(launch: &Launch, call: &str, what: &str) -> Launch {
    let arguments = strace(call, what);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    launch.clone().under(&arguments)
}

/// Runs the load on a traced process until it dies or `at_most` is over; it may die during its start. Returns true if
/// it died.
async fn run_traced(launch: &Launch, load: &Load, at_most: Duration) -> bool {
    let mut service = launch.spawn();
    let deadline = tokio::time::Instant::now() + at_most;
    while !service.has_ended() && tokio::time::Instant::now() < deadline {
        if service.try_ready().await {
            load.aim(&service);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let killed = service.has_ended();
    service.kill();
    killed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_system_call_of_the_journal_loses_and_doubles_nothing() {
    let calls: u32 = setting("RUVVECTOR_TEST_CALLS", 6);
    let database = Database::new().await;
    let dir = directory();
    // Small segments, so that one is sealed, recycled and made within the time.
    let launch = Launch::postgres(dir.path(), &database.url)
        .with("RUVVECTOR_JOURNAL_MAX_BYTES", "16MiB")
        .with("RUVVECTOR_OTLP_WIRE_BYTES", "1MiB")
        .with("RUVVECTOR_INGEST_WIRE_BYTES", "1MiB");
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);
    // A start that fails for its settings would look like a kill.
    launch.start().await.kill();
    let mut kills = 0;
    for call in CALLS {
        for k in 1..=calls {
            let launch = in_turn(&launch, u64::from(k));
            let killed = traced(&launch, call, &format!("signal=KILL:when={k}"));
            let at_most = Duration::from_millis(1_500);
            kills += u32::from(run_traced(&killed, &load, at_most).await);
        }
    }
    let _service = drained(&launch, load).await;
    assert!(
        kills >= 3 * calls,
        "{kills} kills: the journal calls at least three of these"
    );
    assert!(ledger.totals().acked > 0, "{:?}", ledger.totals());
    ledger.assert_stored_in_postgres(&database.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_sync_that_failed_nothing_is_acknowledged_and_the_process_ends() {
    let calls: u32 = setting("RUVVECTOR_TEST_CALLS", 6);
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);
    for k in 1..=calls {
        // The k-th and every later sync of each thread fails; a failed one must not be tried again.
        let launch = in_turn(&launch, u64::from(k));
        let failing = traced(&launch, "fdatasync", &format!("error=EIO:when={}+", k * 3));
        let mut service = failing.spawn();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        while !service.has_ended() {
            if service.try_ready().await {
                load.aim(&service);
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "it goes on after a failed sync:\n{}",
                service.lines()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!service.ended(Duration::ZERO).await.success());
    }
    let _service = drained(&launch, load).await;
    ledger.assert_stored_in_postgres(&database.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_syncs_delay_answers_and_lose_nothing() {
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let slow = traced(&launch, "fdatasync", "delay_enter=100000");
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);
    let service = slow.start().await;
    load.aim(&service);
    tokio::time::sleep(Duration::from_secs(5)).await;
    load.stop().await;
    assert!(ledger.totals().acked > 0, "{:?}", ledger.totals());
    service.until_drained().await;
    service.metrics().await.assert_balance();
    ledger.assert_stored_in_postgres(&database.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_breaks_during_a_stop_ends_it_with_an_error() {
    let dir = directory();
    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_JOURNAL_MAX_BYTES", "16MiB")
        .with("RUVVECTOR_OTLP_WIRE_BYTES", "1MiB")
        .with("RUVVECTOR_INGEST_WIRE_BYTES", "1MiB")
        .with("RUVVECTOR_SHUTDOWN_DELAY", "100s");
    let journal = launch.data_dir().join("journal");
    let broken = journal.join("0000000000000004.seg");
    let mut arguments = strace("fdatasync", "error=EIO");
    arguments.extend(["-P".to_owned(), broken.display().to_string()]);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut service = launch.under(&arguments).start().await;
    let large = |n: u32, bytes: usize| {
        let event =
            format!(r#"{{"correlationId":"e{n}","integration":"shop","eventType":"stopped"}}"#);
        format!("[{event}{}]", " ".repeat(bytes))
    };
    let post = async |service: &Service, body: String| {
        let url = service.url("/ingest");
        let answer = service.http.post(&url, "application/json", body).await;
        answer.expect("an answer").status
    };
    assert_eq!(post(&service, large(0, 400_000)).await, 200);
    // The present segment, and two in reserve.
    service
        .until("there is a third file", async |_: &Service| {
            journal.join("0000000000000003.seg").exists()
        })
        .await;
    service.signal(Signal::TERM);
    service
        .until("it stops", async |service: &Service| {
            service.lines().contains("no longer ready")
        })
        .await;
    // Larger than the rest of the segment, and than half of one: it gets a separate file.
    assert_eq!(post(&service, large(1, 800_000)).await, 503);
    let status = service.ended(Duration::from_secs(50)).await;
    assert_eq!(status.code(), Some(1), "{}", service.lines());
    assert!(
        service
            .lines()
            .contains("the journal could not be written or synced"),
        "{}",
        service.lines()
    );
}
