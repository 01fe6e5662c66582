//! OpenTelemetry's own load generator against the service.
//!
//! **Invariant:** the generated items are counted in the table, signal by signal.

use crate::support::postgres::Database;
use crate::support::programs::{brought, run};
use crate::support::service::Launch;

/// The version that `scripts/tools/telemetrygen.sh` builds.
const PROGRAM: &str = "target/telemetrygen/telemetrygen-0.161.0";

/// The output of two workers: the subcommand, its own arguments, the event type, and the number of events.
type Run = (&'static str, &'static [&'static str], &'static str, i64);

const RUNS: [Run; 3] = [
    // Its span processor drops spans beyond its queue of 2,048.
    (
        "traces",
        &["--traces", "500", "--child-spans", "1"],
        "span",
        2_000,
    ),
    ("logs", &["--logs", "5000"], "log", 10_000),
    ("metrics", &["--metrics", "5000"], "metric", 10_000),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_item_of_a_load_is_in_the_table() {
    let database = Database::new().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let service = Launch::postgres(dir.path(), &database.url).start().await;
    for (way, endpoint) in [("http", service.otlp_http()), ("grpc", service.otlp_grpc())] {
        for (signal, arguments, _, _) in RUNS {
            generate(way, &endpoint, signal, arguments).await;
        }
    }
    service.until_drained().await;
    service.metrics().await.assert_balance();

    let mut sql = database.connect().await;
    for way in ["http", "grpc"] {
        for (signal, _, event_type, expected) in RUNS {
            let count: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM telemetry_events WHERE integration = $1 AND event_type = $2",
            )
            .bind(way)
            .bind(event_type)
            .fetch_one(&mut sql)
            .await
            .expect("the table can be read");
            assert_eq!(count, expected, "{signal} over {way}");
        }
    }
}

/// Runs it to its end, as fast as possible.
async fn generate(way: &str, endpoint: &str, signal: &str, arguments: &[&str]) {
    let mut command = brought(PROGRAM);
    command
        .arg(signal)
        .args(arguments)
        .args(["--workers", "2", "--rate", "0", "--otlp-insecure"])
        .args(["--otlp-endpoint", endpoint.trim_start_matches("http://")])
        .args(["--service", way])
        .args((way == "http").then_some("--otlp-http"));
    let done = run(command).await;
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{signal} over {way}: {said}");
}
