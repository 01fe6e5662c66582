//! PostgreSQL's plans for the API's queries: the server explains each statement as it runs (`auto_explain`), so these
//! are the actual plans of the actual statements.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use axum::Router;
use ruvvector_service::query::{Options, Queries};
use ruvvector_service::router::reads;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor};
use tracing::field::{Field, Visit};
use tracing::span;

use super::stores::{MIGRATIONS, get, postgres};
use crate::support::postgres::Database;

const DAYS: usize = 30;

/// 30 days of 2,000 rows, five a trace, summarised and analysed.
async fn filled() -> (Database, Router) {
    let database = Database::new().await;
    let mut admin = database.connect().await;
    for migration in MIGRATIONS {
        admin.execute(migration).await.expect("a valid migration");
    }
    for day in 0..DAYS {
        let sql = format!(
            "CREATE TABLE day_{day} PARTITION OF telemetry_events FOR VALUES \
             FROM ('2026-01-01 00:00+00'::timestamptz + {day} * interval '24 h') \
             TO ('2026-01-01 00:00+00'::timestamptz + {day} * interval '24 h' + interval '24 h')"
        );
        admin
            .execute(AssertSqlSafe(sql))
            .await
            .expect("a partition");
    }
    let rows = "
        INSERT INTO telemetry_events (timestamp, created_at, correlation_id, integration, event_type, trace_id, name, metadata)
        SELECT 1767225600000 + n::bigint * 43200, to_timestamp(1767225600 + n * 43.2), md5((n / 5)::text), 'svc-' || n % 20,
               'span', md5((n / 5)::text), 'op-' || n % 5, jsonb_build_object('pad', repeat('x', 300))
        FROM generate_series(0, 59999) n;
        SELECT brin_summarize_new_values(inhrelid) FROM pg_inherits WHERE inhparent = 'telemetry_events_blocks'::regclass;
        ANALYZE telemetry_events;";
    admin.execute(rows).await.expect("rows");
    let explain = "
        DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET session_preload_libraries = auto_explain', current_database());
            EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database());
            EXECUTE format('ALTER DATABASE %I SET auto_explain.log_format = json', current_database());
            EXECUTE format('ALTER DATABASE %I SET auto_explain.log_analyze = on', current_database());
            EXECUTE format('ALTER DATABASE %I SET client_min_messages = log', current_database());
        END $$";
    admin.execute(explain).await.expect("auto_explain is there");
    let options = Options {
        window_rows: 500,
        ..Options::default()
    };
    let router = reads(Queries::new(postgres(database.options()), options));
    (database, router)
}

/// The part of a statement's plan that was executed.
#[derive(Debug, Default)]
struct Plan {
    seq_scans_of_events: usize,
    /// Scans by indexes of the events, under the index's name in the parent table.
    by_index: Vec<&'static str>,
    /// Rows of the events that were read and discarded.
    discarded: f64,
}

impl Plan {
    fn walk(&mut self, node: &Value) {
        let text = |name: &str| node[name].as_str().unwrap_or_default();
        let number = |name: &str| node[name].as_f64().unwrap_or_default();
        let executed = number("Actual Loops") > 0.0;
        if executed && text("Relation Name").starts_with("day_") {
            self.seq_scans_of_events += usize::from(text("Node Type") == "Seq Scan");
            self.discarded += number("Rows Removed by Filter");
            self.discarded += number("Rows Removed by Index Recheck");
        }
        for known in ["correlation_id", "timestamp_idx", "trace_id", "id_expr"] {
            if executed && text("Index Name").contains(known) {
                self.by_index.push(known);
            }
        }
        for child in node["Plans"].as_array().into_iter().flatten() {
            self.walk(child);
        }
    }
}

/// The plans of all statements that a request leads to.
async fn plans(router: &Router, uri: &str) -> Plan {
    let notices = Notices::default();
    let guard = tracing::subscriber::set_default(notices.clone());
    let answer = get(router, uri).await;
    drop(guard);
    assert!(answer.status.is_success(), "{uri}: {}", answer.body);
    let mut plan = Plan::default();
    let mut explained = 0;
    for notice in notices.0.lock().expect("no test panics here").iter() {
        if let Some((_, json)) = notice.split_once("plan:\n") {
            let json: Value = serde_json::from_str(json).expect("a plan in JSON");
            plan.walk(&json["Plan"]);
            explained += 1;
        }
    }
    assert!(explained > 0, "{uri}: the server explained nothing");
    plan
}

/// Messages of the server to its client beside answers.
#[derive(Clone, Default)]
struct Notices(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Notices {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::postgres::notice"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.lock().expect("no test panics here").push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            write!(self.0, "{value:?}").expect("a String takes any text");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.0.push_str(value);
        }
    }
}

#[tokio::test]
async fn each_query_is_answered_by_its_index_without_reading_the_table() {
    let (_database, router) = filled().await;
    // The first search for an id reads one row of some days, by which it guesses the day of that id and of later ones.
    get(&router, "/query/12345").await;
    let trace = "cfcd208495d565ef66e7dff9f98764da";
    for (uri, index, discarded_at_most) in [
        (format!("/traces/{trace}"), "correlation_id", 0.0),
        (format!("/query?traceId={trace}"), "correlation_id", 0.0),
        (
            format!("/query?correlationId={trace}"),
            "correlation_id",
            0.0,
        ),
        // For a page of few events the index on the time would look cheaper, as its order saves sorting.
        (
            format!("/query?correlationId={trace}&limit=1"),
            "correlation_id",
            0.0,
        ),
        (
            format!("/query?traceId={trace}&limit=3&order=asc&from=2026-01-01T00:00:00Z"),
            "correlation_id",
            0.0,
        ),
        ("/query".into(), "timestamp_idx", 0.0),
        ("/query?order=asc".into(), "timestamp_idx", 0.0),
        (
            "/query?from=2026-01-10T00:00:00Z&to=2026-01-10T01:00:00Z".into(),
            "timestamp_idx",
            0.0,
        ),
        // In the window: one row in twenty.
        (
            "/query?integration=svc-7&limit=10".into(),
            "timestamp_idx",
            300.0,
        ),
        // By the block ranges: a bloom filter errs once in a hundred.
        ("/query?integration=absent".into(), "id_expr", 6_000.0),
        ("/query?name=absent&order=asc".into(), "id_expr", 6_000.0),
        // Besides its day by the block ranges, all others by the time.
        (
            "/query?integration=svc-7&name=op-2&from=2026-01-10T00:00:00Z&to=2026-01-10T01:00:00Z"
                .into(),
            "timestamp_idx",
            2_000.0,
        ),
        ("/query/12345".into(), "id_expr", 2_000.0),
    ] {
        let plan = plans(&router, &uri).await;
        assert_eq!(plan.seq_scans_of_events, 0, "{uri}: {plan:?}");
        assert!(plan.by_index.contains(&index), "{uri}: {plan:?}");
        assert!(plan.discarded <= discarded_at_most, "{uri}: {plan:?}");
    }
}
