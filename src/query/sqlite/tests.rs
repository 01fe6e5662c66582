//! The plans that SQLite makes for searches.

use sqlx::{Connection, Executor, Row, SqliteConnection};

use crate::query::search::Search;
use crate::query::select;
use crate::query::statement::Dialect;
use crate::query::{Options, query_string};

/// Returns SQLite's plan for a search, one step per line.
async fn plan(connection: &mut SqliteConnection, query: &str) -> String {
    let pairs = query_string::pairs(query).expect("a query string");
    let search = Search::of_query(&pairs, &Options::default()).expect("parameters");
    let mut statement = select::plain(Dialect::Sqlite, &search);
    statement.text.insert_str(0, "EXPLAIN QUERY PLAN ");
    let rows = statement.for_sqlite().fetch_all(connection).await;
    let rows = rows.expect("a plan");
    let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
    steps.join("\n")
}

#[tokio::test]
async fn each_search_goes_by_its_index() {
    let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    let schema = include_str!("../../../migrations/sqlite/0001_telemetry.sql");
    connection.execute(schema).await.unwrap();
    for (query, indexes) in [
        (
            "traceId=t",
            &[
                "telemetry_events_correlation_id",
                "telemetry_events_trace_id",
            ][..],
        ),
        (
            "traceId=t&status=OK&from=5",
            &[
                "telemetry_events_correlation_id",
                "telemetry_events_trace_id",
            ],
        ),
        ("correlationId=c", &["telemetry_events_correlation_id"]),
        (
            "correlationId=c&integration=i",
            &["telemetry_events_correlation_id"],
        ),
        ("", &["telemetry_events_timestamp"]),
        ("order=asc", &["telemetry_events_timestamp"]),
        ("from=1&to=1700000000000", &["telemetry_events_timestamp"]),
        (
            "status=ERROR&attributes.a=b",
            &["telemetry_events_timestamp"],
        ),
        (
            "integration=i",
            &["telemetry_events_integration (integration=?)"],
        ),
        (
            "integration=i&from=5",
            &["telemetry_events_integration (integration=? AND timestamp>?)"],
        ),
    ] {
        let plan = plan(&mut connection, query).await;
        for index in indexes {
            assert!(plan.contains(&format!("INDEX {index}")), "{query}:\n{plan}");
        }
        // Sorting is allowed only for conditions that few rows match.
        let sorts = plan.matches("TEMP B-TREE").count();
        let quick = query.contains("traceId") || query.contains("correlationId");
        assert!(sorts <= usize::from(quick), "{query}:\n{plan}");
        // Keys are sorted before any text of an event is read.
        let sorted = plan.find("TEMP B-TREE").unwrap_or(0);
        let texts = plan.find("SEARCH e USING INTEGER PRIMARY KEY");
        assert!(
            texts.is_some_and(|texts| sorted < texts),
            "{query}:\n{plan}"
        );
    }
}
