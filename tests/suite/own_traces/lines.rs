//! Log lines, and the trace in which they were written.

use axum::http::Method;
use serde_json::Value;
use sqlx::Executor;

use super::{PARENT, TRACE, directory, named, spans, traceparent, tracing_to, until_well};
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

/// Makes a query fail, and returns the line that reports it.
async fn failed_query(service: &Service, traceparent: Option<&str>) -> Value {
    let headers: Vec<_> = traceparent
        .map(|value| ("traceparent", value))
        .into_iter()
        .collect();
    let said = |service: &Service| {
        let lines = service.lines();
        let lines = lines.lines().filter(|line| line.contains("a query failed"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = said(service).len();
    let url = service.url("/query?integration=shop");
    let answer = service.http.send(Method::GET, &url, &headers, "").await;
    assert_eq!(answer.expect("an answer").status, 500);
    // A separate thread writes lines: the answer may arrive before them.
    service
        .until("a line says so", async |service: &Service| {
            said(service).len() > before
        })
        .await;
    let line = said(service).pop().expect("there is one");
    serde_json::from_str(&line).expect("a line is JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_names_its_trace_our_own_where_there_is_one_else_the_callers() {
    let database = Database::new().await;
    let dirs = [directory(), directory(), directory()];
    let to = Launch::sqlite(dirs[0].path()).start().await;
    let off = Launch::postgres(dirs[1].path(), &database.url)
        .start()
        .await;
    until_well(&off).await;
    let mut sql = database.connect().await;
    // No statement of a query can run any longer, for a reason that is not an ordinary outage.
    sql.execute("ALTER TABLE telemetry_events RENAME COLUMN metadata TO elsewhere")
        .await
        .expect("renamed");

    let alone = failed_query(&off, None).await;
    assert!(
        alone["trace_id"].is_null() && alone["span_id"].is_null(),
        "{alone}"
    );
    let called = failed_query(&off, Some(&traceparent(TRACE, "01"))).await;
    assert_eq!(called["trace_id"], TRACE);
    assert_eq!(called["span_id"], PARENT);
    let malformed = failed_query(&off, Some("00-0-0-01")).await;
    assert!(malformed["trace_id"].is_null(), "{malformed}");
    drop(off);

    let on = tracing_to(
        Launch::postgres(dirs[2].path(), &database.url),
        &to.otlp_grpc(),
    );
    let on = on.start().await;
    let line = failed_query(&on, Some(&traceparent(TRACE, "01"))).await;
    let found = spans(&to, TRACE, 2).await;
    let request = named(&found, "GET /query");
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(line["span_id"], request["spanId"]);
    assert_eq!(request["status"], "ERROR");
}
