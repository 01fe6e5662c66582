//! Programs that a user runs beside the service: Prometheus, promtool, the smoke check.
//!
//! **Invariant:** no component is a substitute: the database, the scraper and the binary are the real ones.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::ledger::Ledger;
use crate::support::load::{Load, Shape};
use crate::support::postgres::{Cluster, Database};
use crate::support::prometheus::Prometheus;
use crate::support::service::{Launch, PATIENCE, Service};

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("ruvvector-end")
        .tempdir()
        .expect("a temporary directory")
}

fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a program and returns its output; panics with the output if it fails.
async fn run(mut command: Command) -> String {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null());
    let done = tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("it does not panic")
        .unwrap_or_else(|error| panic!("{shown}: {error}; run the tests by scripts/test.sh"));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{shown} ended with {}:\n{said}\n{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_answers_ingest_rate_queue_depth_and_pool_use_by_one_plain_expression_each() {
    let database = Database::new().await;
    let dir = directory();
    let service = Launch::postgres(dir.path(), &database.url).start().await;
    let prometheus = Prometheus::scraping(&service);
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);

    prometheus
        .until("up{job=\"ruvvector\"}", |value| value == 1.0)
        .await;
    prometheus
        .until(
            "sum(rate(ruvvector_receive_events_total{outcome=\"accepted\"}[10s]))",
            |value| value > 0.0,
        )
        .await;
    prometheus
        .until(
            "sum(ruvvector_db_pool_connections{state=\"used\"}) / sum(ruvvector_db_pool_max_connections)",
            |value| (0.0..=1.0).contains(&value),
        )
        .await;
    let shown = expressions_of_the_readme();
    assert!(shown.len() >= 3, "{shown:?}");
    for expression in shown {
        prometheus.until(expression, |value| value >= 0.0).await;
    }
    load.stop().await;
    service.until_drained().await;
    service.metrics().await.assert_balance();
}

/// The PromQL of the README's table.
fn expressions_of_the_readme() -> Vec<&'static str> {
    let (_, table) = include_str!("../../README.md")
        .split_once("| question | PromQL |\n| --- | --- |\n")
        .expect("the README has that table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| row.split('`').nth(1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_wrong_with_the_metrics() {
    let dir = directory();
    let service = Launch::sqlite(dir.path()).start().await;
    let page = service.get("/metrics").await;
    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let file = dir.path().join("metrics.txt");
    std::fs::write(&file, &page.body).expect("a file can be written");
    let mut promtool = Command::new("sh");
    promtool
        .args(["-c", "promtool check metrics < \"$0\""])
        .arg(&file);
    run(promtool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smoke_check_passes_on_both_stores_and_fails_without_a_service() {
    let database = Database::new().await;
    let (one, other) = (directory(), directory());
    let sqlite = Launch::sqlite(one.path()).start().await;
    let postgres = Launch::postgres(other.path(), &database.url).start().await;
    for service in [&sqlite, &postgres] {
        let mut smoke = Command::new(project("scripts/operate/smoke.sh"));
        smoke.arg(service.url(""));
        let said = run(smoke).await;
        assert!(said.contains("all is well"), "{said}");
    }

    let url = sqlite.url("");
    drop(sqlite);
    let mut smoke = Command::new(project("scripts/operate/smoke.sh"));
    smoke.arg(url);
    let done = tokio::task::spawn_blocking(move || smoke.output())
        .await
        .expect("it does not panic")
        .expect("it runs");
    assert!(!done.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_at_once_when_the_database_hangs() {
    let cluster = Cluster::start();
    let dir = directory();
    let service = Launch::postgres(dir.path(), &cluster.url()).start().await;
    service
        .until("the service is well", async |service: &Service| {
            service.health().await["status"] == "ok"
        })
        .await;
    cluster.hang();
    let answered = tokio::time::timeout(Duration::from_secs(60), async {
        // The last answered ping counts until the next ping has timed out.
        while service.health().await["database"]["connected"] == true {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        service.is_ready().await && !service.get("/metrics").await.body.is_empty()
    })
    .await;
    cluster.go_on();
    assert_eq!(answered, Ok(true));
}

/// `/health` reported a database that did not answer, and `ruvvector_db_up` was 0, while all was written: the replica
/// for queries was unavailable, and only that was pinged.
#[tokio::test(flavor = "multi_thread")]
async fn an_unavailable_replica_is_reported_as_such_while_writing_goes_on() {
    let database = Database::new().await;
    let replica = Cluster::start();
    let dir = directory();
    let service = Launch::postgres(dir.path(), &database.url)
        .with("RUVVECTOR_DATABASE_READ_URL", &replica.url())
        .start()
        .await;
    service
        .until("the service is well", async |service: &Service| {
            service.health().await["status"] == "ok"
        })
        .await;

    replica.stop("immediate");
    service
        .until("the replica is missed", async |service: &Service| {
            service.health().await["status"] == "degraded"
        })
        .await;
    let health = service.health().await;
    assert_eq!(health["database"]["connected"], true, "{health}");
    let problems = health["problems"].to_string();
    assert!(
        problems.contains("RUVVECTOR_DATABASE_READ_URL names does not answer: queries fail"),
        "{problems}"
    );
    assert!(!problems.contains("the database (postgres)"), "{problems}");
    let up = service.metrics().await.sum("ruvvector_db_up");
    assert!((up - 1.0).abs() < f64::EPSILON, "{up}");
}

/// A user who started a second service on a directory in use was told to send an event to it, and only then saw the
/// reason why there was none. In JSON the lines to paste were escaped, and with tokens set they were answered 401.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_service_that_is_ready_says_how_to_use_it_in_lines_that_can_be_pasted() {
    let dir = directory();
    let launch = Launch::sqlite(dir.path());
    let text = launch
        .clone()
        .with("RUVVECTOR_LOG_FORMAT", "text")
        .with("RUVVECTOR_AUTH_TOKENS", "hunter2");
    let first = text.spawn();
    let deadline = Instant::now() + PATIENCE;
    while !first.lines().contains("read it back") {
        assert!(Instant::now() < deadline, "{}", first.lines());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = first.lines();
    for part in [
        r#"curl -H "Authorization: Bearer $TOKEN" -d '{"correlationId":"order-1","#,
        r#"curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:"#,
        &format!(
            "events are stored in SQLite {}",
            launch.sqlite_file().display()
        ),
        &format!("the journal, is {}", launch.data_dir().display()),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
    let mut second = launch.spawn();
    assert!(!second.ended(Duration::from_secs(60)).await.success());
    let said = second.lines();
    assert!(said.contains("in use by another process"), "{said}");
    assert!(!said.contains("send an event"), "{said}");
    drop(first);

    let mut json = launch.start().await;
    json.signal(Signal::TERM);
    assert!(json.ended(PATIENCE).await.success());
    let said = json.lines();
    assert!(!said.contains("send an event"), "{said}");
}
