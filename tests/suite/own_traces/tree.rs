//! The spans, and their parents and links.

use axum::http::Method;
use serde_json::Value;

use super::{
    INTERVAL, PARENT, TRACE, all, attribute, directory, ingest, named, of, spans, traceparent,
    tracing_to, until_well,
};
use crate::support::client::Http;
use crate::support::http::http2;
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

/// A service, and another to which it sends its spans.
async fn two(
    launch: impl FnOnce(&std::path::Path) -> Launch,
) -> (Service, Service, [tempfile::TempDir; 2]) {
    let dirs = [directory(), directory()];
    let to = Launch::sqlite(dirs[1].path()).start().await;
    let from = tracing_to(launch(dirs[0].path()), &to.otlp_grpc());
    (from.start().await, to, dirs)
}

/// The spans of batches, by the trace to which their links lead.
async fn batches_of(service: &Service, trace: &str) -> Vec<Value> {
    let links_there = |span: &Value| {
        let links = span["metadata"]["links"].as_array();
        links.is_some_and(|links| links.iter().any(|link| link["traceId"] == trace))
    };
    let batches = of(service, "/query?name=write%20batch").await;
    batches.into_iter().filter(links_there).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traced_request_is_seen_from_its_caller_to_the_batch_that_stored_it() {
    let database = Database::new().await;
    let (from, to, _dirs) = two(|dir| Launch::postgres(dir, &database.url)).await;
    ingest(&from, &traceparent(TRACE, "01")).await;

    let spans = spans(&to, TRACE, 4).await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let request = named(&spans, "POST /ingest");
    assert_eq!(request["parentSpanId"], PARENT);
    assert_eq!(request["kind"], 2, "a server's");
    assert_eq!(request["status"], "UNSET");
    for (key, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/ingest"),
        ("url.path", "/ingest"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
    ] {
        assert_eq!(attribute(request, key), value, "{key}");
    }
    assert_eq!(attribute(request, "http.response.status_code"), 200);
    for step in ["receive", "decode", "append"] {
        let step = named(&spans, step);
        assert_eq!(step["parentSpanId"], request["spanId"], "{step}");
        assert_eq!(step["status"], "UNSET");
    }
    let decode = named(&spans, "decode");
    assert_eq!(attribute(decode, "ruvvector.events.accepted"), 1);
    let append = named(&spans, "append");
    assert_eq!(attribute(append, "ruvvector.journal.position"), 1);

    let resource = &request["resource"]["attributes"];
    assert_eq!(resource["service.name"], "ruvvector-service");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    let instance = resource["service.instance.id"].as_str().expect("a text");
    assert!(instance.contains("ruvvector-own"), "{instance}");

    to.until("the batch is there", async |to: &Service| {
        batches_of(to, TRACE).await.len() == 1
    })
    .await;
    let batch = batches_of(&to, TRACE).await.remove(0);
    assert_eq!(batch["metadata"]["links"][0]["spanId"], append["spanId"]);
    assert_ne!(batch["traceId"], TRACE);
    assert!(batch["parentSpanId"].is_null());
    assert_eq!(attribute(&batch, "ruvvector.batch.rows"), 1);
    let trace = batch["traceId"].as_str().expect("an id");
    let of_batch = super::spans(&to, trace, 3).await;
    for (name, operation) in [("COPY telemetry_events", "COPY"), ("COMMIT", "COMMIT")] {
        let statement = named(&of_batch, name);
        assert_eq!(statement["parentSpanId"], batch["spanId"]);
        assert_eq!(statement["kind"], 3, "a client's");
        assert_eq!(attribute(statement, "db.system.name"), "postgresql");
        assert_eq!(attribute(statement, "db.operation.name"), operation);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_and_a_call_by_grpc_have_spans_of_their_kinds_and_no_value_of_a_query() {
    let (from, to, _dirs) = two(Launch::sqlite).await;
    until_well(&from).await;
    let asked = from
        .http
        .send(
            Method::GET,
            &from.url("/query?integration=hunter2"),
            &[("traceparent", &traceparent(TRACE, "01"))],
            "",
        )
        .await
        .expect("an answer");
    assert_eq!(asked.status, 200);
    let found = spans(&to, TRACE, 2).await;
    let select = named(&found, "SELECT telemetry_events");
    assert_eq!(
        select["parentSpanId"],
        named(&found, "GET /query")["spanId"]
    );
    assert_eq!(attribute(select, "db.system.name"), "sqlite");
    assert_eq!(attribute(select, "db.response.returned_rows"), 0);
    assert!(!format!("{found:?}").contains("hunter2"), "{found:#?}");

    let by_grpc = TRACE.replace('0', "1");
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let request = axum::http::Request::post(format!("{}{path}", from.otlp_grpc()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("traceparent", traceparent(&by_grpc, "01"))
        .body(http_body_util::Full::new(bytes::Bytes::from_static(
            &[0; 5],
        )))
        .expect("a request");
    let answer = http2().request(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let found = spans(&to, &by_grpc, 1).await;
    let call = named(&found, &path[1..]);
    assert_eq!(call["kind"], 2, "a server's");
    assert_eq!(attribute(call, "rpc.system.name"), "grpc");
    assert_eq!(attribute(call, "rpc.method"), &path[1..]);
    assert_eq!(attribute(call, "rpc.response.status_code"), "OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_service_is_an_error_and_one_of_the_client_is_none() {
    // Nothing listens there: the writer fails, and queries are refused.
    let nowhere = format!("postgres://nobody@127.0.0.1:{}/none", super::free_port());
    let (from, to, _dirs) =
        two(|dir| Launch::postgres(dir, &nowhere).with("RUVVECTOR_CONNECT_TIMEOUT", "1s")).await;
    let traces = ["1", "2", "3"].map(|digit| TRACE.replace('0', digit));
    let ask = async |http: &Http, method: Method, path: &str, trace: &str, body: &str| {
        let headers = [("traceparent", &*traceparent(trace, "01"))];
        let url = from.url(path);
        let answer = http.send(method, &url, &headers, body.to_owned());
        answer.await.expect("an answer").status.as_u16()
    };
    let http = &from.http;
    assert_eq!(ask(http, Method::GET, "/query", &traces[0], "").await, 503);
    assert_eq!(
        ask(http, Method::POST, "/ingest", &traces[1], "no JSON").await,
        400
    );
    assert_eq!(
        ask(http, Method::GET, "/hunter%0a2", &traces[2], "").await,
        404
    );

    let failed = spans(&to, &traces[0], 2).await;
    for (name, error_type) in [
        ("GET /query", "503"),
        ("SELECT telemetry_events", "unavailable"),
    ] {
        let span = named(&failed, name);
        assert_eq!(span["status"], "ERROR", "{span}");
        assert_eq!(attribute(span, "error.type"), error_type);
    }
    let refused = spans(&to, &traces[1], 3).await;
    assert_eq!(
        attribute(named(&refused, "POST /ingest"), "http.response.status_code"),
        400
    );
    for span in &refused {
        assert_eq!(span["status"], "UNSET", "{span}");
        assert!(attribute(span, "error.type").is_null(), "{span}");
    }
    let nowhere = spans(&to, &traces[2], 1).await;
    let unknown = named(&nowhere, "GET");
    assert_eq!(unknown["status"], "UNSET");
    assert!(attribute(unknown, "http.route").is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_does_not_trace_is_not_traced() {
    let (from, to, _dirs) = two(Launch::sqlite).await;
    let sampled = TRACE.replace('0', "2");
    ingest(&from, &traceparent(TRACE, "00")).await;
    ingest(&from, "00-nonsense").await;
    ingest(&from, &traceparent(&sampled, "01")).await;
    spans(&to, &sampled, 4).await;
    tokio::time::sleep(2 * INTERVAL).await;
    let traces = all(&to).await;
    assert!(
        traces.iter().all(|span| span["traceId"] != TRACE),
        "{traces:#?}"
    );
    // The request of the third, and the batch that holds it: nothing of the others.
    let servers = traces.iter().filter(|span| span["kind"] == 2);
    assert_eq!(servers.count(), 1, "{traces:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_traced_at_a_ratio_of_one_but_what_probes_and_scrapers_ask() {
    let dirs = [directory(), directory()];
    let to = Launch::sqlite(dirs[1].path()).start().await;
    let from = tracing_to(Launch::sqlite(dirs[0].path()), &to.otlp_grpc())
        .with("RUVVECTOR_TRACES_SAMPLE_RATIO", "1")
        .start()
        .await;
    until_well(&from).await;
    from.metrics().await;
    from.health().await;
    for _ in 0..20 {
        assert_eq!(from.get("/query").await.status, 200);
    }
    to.until("the spans are there", async |to: &Service| {
        of(to, "/query?name=GET%20%2Fquery").await.len() == 20
    })
    .await;
    let names: Vec<_> = all(&to)
        .await
        .iter()
        .map(|span| span["name"].clone())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| name == "GET /query" || name == "SELECT telemetry_events"),
        "{names:?}"
    );
}
