//! A copy that `cp` made of a running directory: its files are from different moments.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ruvvector_service::journal::disk::OsDisk;
use ruvvector_service::journal::{Journal, Options, SegmentReport};
use serde_json::json;
use sqlx::AssertSqlSafe;

use super::directory;
use crate::support::postgres::Database;
use crate::support::proxy::Proxy;
use crate::support::service::{Launch, Service};

pub(super) const EVENTS: u64 = 24;

/// Longer than any drain of these tests takes.
const LONG: Duration = Duration::from_secs(120);

/// A few records fill a segment.
pub(super) fn small(launch: &Launch) -> Launch {
    launch
        .clone()
        .with("RUVVECTOR_JOURNAL_SEGMENT_BYTES", "64KiB")
        .with("RUVVECTOR_RETRY_MAX", "1s")
        .with("RUVVECTOR_CONNECT_TIMEOUT", "1s")
}

pub(super) async fn send_all(service: &Service) {
    for n in 0..EVENTS {
        let filler = "x".repeat(20 << 10);
        let event = json!({ "correlationId": format!("e{n}"), "integration": "shop", "eventType": "torn",
                            "metadata": { "filler": filler } });
        let url = service.url("/ingest");
        let sent = service
            .http
            .post(&url, "application/json", event.to_string());
        assert_eq!(sent.await.expect("an answer").status, 200);
    }
}

pub(super) fn segments(launch: &Launch) -> Vec<SegmentReport> {
    let options = Options {
        dir: launch.data_dir().join("journal"),
        budget_bytes: None,
        segment_bytes: Some(64 << 10),
        free_floor_bytes: Some(0),
        keep_stored: Duration::ZERO,
        ..Options::default()
    };
    let mut reports =
        Journal::inspect(Arc::new(OsDisk), &options).expect("the journal can be read");
    reports.retain(|report| report.last >= report.first);
    reports
}

/// The records that are missing from a copy.
struct Torn {
    stream: String,
    /// Positions that count as damaged.
    damaged: (u64, u64),
    /// Positions of a missing file.
    gone: (u64, u64),
}

/// Copies the directory, cuts one file in the middle short and removes another.
fn torn_copy(origin: &Launch, to: &Path) -> (Launch, Torn) {
    let done = Command::new("cp")
        .arg("-a")
        .arg(origin.data_dir())
        .arg(to)
        .status();
    assert!(done.expect("cp runs").success());
    let copy = origin.moved(to);
    let segments = segments(&copy);
    assert!(segments.len() >= 8, "{segments:?}");
    let (cut, removed) = (&segments[2], &segments[5]);
    // The header of its first record is complete, and a part of the rest.
    let file = std::fs::File::options().write(true).open(&cut.path);
    file.and_then(|file| file.set_len(12 << 10)).expect("cut");
    std::fs::remove_file(&removed.path).expect("removed");
    let torn = Torn {
        stream: cut.stream.to_string(),
        damaged: (cut.first, cut.last),
        gone: (removed.first, removed.last),
    };
    (copy, torn)
}

impl Torn {
    const fn positions(&self) -> u64 {
        self.damaged.1 - self.damaged.0 + self.gone.1 - self.gone.0 + 2
    }

    /// The number of them in the stored positions.
    async fn taken(&self, database: &Database) -> i64 {
        let ranges = [self.damaged, self.gone];
        let mut taken = 0;
        for (first, last) in ranges {
            let sql = format!(
                "SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM ingest_streams, \
                 unnest(stored_positions * int8multirange(int8range({first}, {last} + 1))) r WHERE stream = '{}'",
                self.stream
            );
            taken += number(database, &sql).await;
        }
        taken
    }
}

pub(super) async fn number(database: &Database, sql: &str) -> i64 {
    let mut connection = database.connect().await;
    let number = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection);
    number.await.expect("a number")
}

pub(super) async fn stored(database: &Database) -> (i64, i64, i64) {
    let rows = "SELECT count(*) FROM telemetry_events";
    let different = "SELECT count(DISTINCT correlation_id) FROM telemetry_events";
    let dead = "SELECT count(*) FROM telemetry_dead_letters";
    (
        number(database, rows).await,
        number(database, different).await,
        number(database, dead).await,
    )
}

async fn says_of_stream(service: &Service, torn: &Torn) -> bool {
    let health = service.health().await;
    let problems = health["problems"].as_array().expect("a list").clone();
    let named =
        |text: &str| text.contains("this directory is a copy") && text.contains(&torn.stream);
    problems.iter().filter_map(|p| p.as_str()).any(named)
}

/// A copy of a running directory was started beside it while both had a backlog. The copy marked its missing records as
/// stored, and its original skipped 34 acknowledged events.
#[tokio::test(flavor = "multi_thread")]
async fn a_torn_copy_started_beside_its_origin_takes_nothing_that_it_lacks_from_it() {
    let database = Database::new().await;
    let port = database.options().get_port();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port))).await;
    let (base, name) = database.url.rsplit_once('/').expect("a URL");
    let user = base.rsplit_once('@').expect("with a user").0;
    let through = format!("{user}@127.0.0.1:{}/{name}?sslmode=disable", proxy.port);
    proxy.stall();

    let (origin_dir, copy_dir) = (directory(), directory());
    // Containers may have the same path and, by a setting, the same name.
    let launch = small(&Launch::postgres(origin_dir.path(), &through))
        .with("RUVVECTOR_COLLECTOR", "one name for both");
    let origin = launch.start().await;
    send_all(&origin).await;
    let (copied, torn) = torn_copy(&launch, copy_dir.path());
    let copied = copied.with("DATABASE_URL", &database.url);

    let mut verify = copied.clone().command(&["journal", "verify"]).spawn();
    let status = verify.ended(LONG).await;
    let said = verify.lines();
    assert_eq!(status.code(), Some(1), "{said}");
    let (first, last) = torn.gone;
    let missing = if first == last {
        format!("position {first} of the stream is in no file")
    } else {
        format!("positions {first} to {last} of the stream are in no file")
    };
    assert!(said.contains(&missing), "{said}");

    let copy = copied.start().await;
    copy.until("it says what it lacks", async |service: &Service| {
        says_of_stream(service, &torn).await
    })
    .await;
    let here = i64::try_from(EVENTS - torn.positions()).expect("few");
    copy.until("all that it has is stored", async |_: &Service| {
        stored(&database).await.0 == here
    })
    .await;
    assert_eq!(stored(&database).await, (here, here, 0));
    assert_eq!(torn.taken(&database).await, 0);
    let untold = format!(
        "SELECT count(*) FROM ingest_streams WHERE stream = '{}' AND collector IS NULL AND heartbeat IS NULL",
        torn.stream
    );
    assert_eq!(
        number(&database, &untold).await,
        1,
        "its row is not the copy's"
    );

    proxy.unstall();
    origin.until_drained().await;
    let all = i64::try_from(EVENTS).expect("few");
    assert_eq!(stored(&database).await, (all, all, 0));
    copy.until("nothing is left undecided", async |service: &Service| {
        !says_of_stream(service, &torn).await
            && service.metrics().await.sum("ruvvector_queue_events") == 0.0
    })
    .await;
    assert_eq!(stored(&database).await, (all, all, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_copy_is_not_drained_while_another_lives_on_its_stream() {
    let database = Database::new().await;
    let nowhere = "postgres://nobody@127.0.0.1:1/nothing";
    let (origin_dir, copy_dir) = (directory(), directory());
    let launch = small(&Launch::postgres(origin_dir.path(), nowhere));
    let mut origin = launch.start().await;
    send_all(&origin).await;
    let (copied, torn) = torn_copy(&launch, copy_dir.path());
    origin.kill();
    let drain = |launch: &Launch| {
        let launch = launch.clone().with("DATABASE_URL", &database.url);
        launch.command(&["journal", "drain"])
    };

    // As the original does it.
    let beat = format!(
        "UPDATE ingest_streams SET heartbeat = clock_timestamp() WHERE stream = '{}'",
        torn.stream
    );
    let mut process = drain(&copied).spawn();
    let deadline = std::time::Instant::now() + LONG;
    while !process.has_ended() {
        assert!(std::time::Instant::now() < deadline, "{}", process.lines());
        let mut connection = database.connect().await;
        // The process itself makes the table.
        let _ = sqlx::raw_sql(AssertSqlSafe(beat.clone()))
            .execute(&mut connection)
            .await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let said = process.lines();
    assert_eq!(process.ended(LONG).await.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!(
            "another collector lives on stream {}",
            torn.stream
        )),
        "{said}"
    );
    let here = i64::try_from(EVENTS - torn.positions()).expect("few");
    assert_eq!(stored(&database).await, (here, here, 0));
    assert_eq!(torn.taken(&database).await, 0);

    // In the stream's original directory nothing waits, and after that nothing of the copy is missing.
    let all = i64::try_from(EVENTS).expect("few");
    for launch in [&launch, &copied] {
        let began = std::time::Instant::now();
        let mut process = drain(launch).spawn();
        let status = process.ended(LONG).await;
        assert_eq!(status.code(), Some(0), "{}", process.lines());
        assert!(began.elapsed() < LONG / 2, "{}", process.lines());
        assert_eq!(stored(&database).await, (all, all, 0));
    }
}
