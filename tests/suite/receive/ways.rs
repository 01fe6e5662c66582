//! All endpoints at the same time, in the real binary: the same message through each makes the same rows, and the
//! counters equal what clients sent.
//!
//! **Invariant:** the expected values are known from what was sent and answered, never from a metric.

use std::collections::BTreeMap;

use axum::http::{Method, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Executor};

use super::gzip;
use super::messages::{Message, Signal, message};
use crate::support::http::http2;
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
const TOKEN: &str = "Bearer secret";
/// One character longer than a key may be.
const LONG_KEY: &str = match str::from_utf8(&[b'k'; 256]) {
    Ok(key) => key,
    Err(_) => panic!("ASCII"),
};

/// The forms in which a message of OTLP is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Protobuf,
    Json,
    /// Protobuf over HTTP/2 without TLS, on the port of HTTP/1.1.
    Http2,
    Grpc,
    /// The message compressed.
    GrpcGzip,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Protobuf,
        Self::Json,
        Self::Http2,
        Self::Grpc,
        Self::GrpcGzip,
    ];

    /// The metrics' label for the endpoint.
    const fn source(self) -> &'static str {
        match self {
            Self::Protobuf | Self::Json | Self::Http2 => "otlp_http",
            Self::Grpc | Self::GrpcGzip => "otlp_grpc",
        }
    }

    fn body(self, message: &Message) -> Vec<u8> {
        match self {
            Self::Protobuf | Self::Http2 => message.protobuf.clone(),
            Self::Json => message.json.clone(),
            Self::Grpc => framed(0, &message.protobuf),
            Self::GrpcGzip => framed(1, &gzip(&message.protobuf)),
        }
    }
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[flag], &length.to_be_bytes()[..], message].concat()
}

/// The outcome for a client, by its name in metrics.
async fn told(
    service: &Service,
    way: Way,
    signal: Signal,
    token: &str,
    body: Vec<u8>,
) -> &'static str {
    let (status, is_whole) = match way {
        Way::Protobuf | Way::Json => {
            let url = service.otlp_http() + signal.http_path();
            let media = if way == Way::Json { JSON } else { PROTOBUF };
            let headers = [("content-type", media), ("authorization", token)];
            let answer = service.http.send(Method::POST, &url, &headers, body).await;
            let answer = answer.expect("an answer");
            let is_whole = answer.body.is_empty() || answer.body == "{}";
            (answer.status.as_u16(), is_whole)
        }
        Way::Http2 => {
            let request = Request::post(service.otlp_http() + signal.http_path())
                .header("content-type", PROTOBUF)
                .header("authorization", token);
            let (status, body, _) = over_http2(request, body).await;
            (status, body.is_empty())
        }
        Way::Grpc | Way::GrpcGzip => {
            let mut request = Request::post(service.otlp_grpc() + signal.grpc_path())
                .header("content-type", "application/grpc")
                .header("authorization", token);
            if way == Way::GrpcGzip {
                request = request.header("grpc-encoding", "gzip");
            }
            let (status, body, code) = over_http2(request, body).await;
            assert_eq!(status, 200);
            // The same outcome as over HTTP.
            let status = match code {
                Some(0) => 200,
                Some(3) => 400,
                Some(8) => 413,
                Some(16) => 401,
                other => panic!("{other:?}"),
            };
            (status, *body == framed(0, b""))
        }
    };
    match (status, is_whole) {
        (200, true) => "accepted",
        (200, false) => "partial",
        (400, _) => "invalid",
        (401, _) => "denied",
        (413, _) => "refused",
        other => panic!("{other:?} by {way:?}"),
    }
}

/// The answer's status, its body, and gRPC's own status.
async fn over_http2(
    request: axum::http::request::Builder,
    body: Vec<u8>,
) -> (u16, Bytes, Option<u8>) {
    let request = request.body(Full::from(body)).expect("well formed");
    let answer = http2().request(request).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole answer");
    let end = body.trailers().unwrap_or(&head.headers);
    let code = end.get("grpc-status").map(|code| {
        let code = code.to_str().expect("ASCII");
        code.parse().expect("a number")
    });
    (head.status.as_u16(), body.to_bytes(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_r1_a_message_comes_to_the_same_rows_by_every_way_and_of_every_signal() {
    let database = Database::new().await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::postgres(dir.path(), &database.url);
    let service = launch
        .with("RUVVECTOR_DUPLICATE_WINDOW", "off")
        .start()
        .await;
    for signal in Signal::ALL {
        let message = message(signal, "one", 7, 0);
        for way in Way::ALL {
            let told = told(&service, way, signal, TOKEN, way.body(&message)).await;
            assert_eq!(told, "accepted", "{signal:?} by {way:?}");
        }
    }
    service.until_drained().await;
    // Each row once through each endpoint, except for the columns that differ each time a row is stored.
    let mut sql = database.connect().await;
    let times: Vec<(String, i64)> = sqlx::query_as(
        "SELECT (to_jsonb(e) - 'id' - 'created_at')::text, count(*) FROM telemetry_events e GROUP BY 1",
    )
    .fetch_all(&mut sql)
    .await
    .expect("the table can be read");
    for (row, times) in &times {
        assert_eq!(*times, 5, "{row}");
    }
    assert_eq!(times.len(), 3 * 7);
    let resources: i64 = sqlx::query_scalar("SELECT count(*) FROM telemetry_resources")
        .fetch_one(&mut sql)
        .await
        .expect("the table can be read");
    assert_eq!(resources, 1);
}

/// The clients' numbers, under the labels that metrics should have.
struct Books {
    events: BTreeMap<String, f64>,
    requests: BTreeMap<String, f64>,
    duplicates: BTreeMap<String, f64>,
}

impl Books {
    fn new() -> Self {
        let mut books = Self {
            events: BTreeMap::new(),
            requests: BTreeMap::new(),
            duplicates: BTreeMap::new(),
        };
        let otlp = ["otlp_http", "otlp_grpc"];
        let of_otlp = otlp.map(|source| Signal::ALL.map(|signal| (source, signal.label())));
        for (source, signal) in of_otlp.into_iter().flatten().chain([("native", "event")]) {
            for outcome in ["accepted", "rejected"] {
                let labels = labels(source, signal, outcome);
                books.events.insert(labels, 0.0);
            }
            for outcome in [
                "accepted",
                "partial",
                "invalid",
                "denied",
                "refused",
                "unknown",
                "duplicate",
            ] {
                let labels = labels(source, signal, outcome);
                books.requests.insert(labels, 0.0);
            }
            let signal = format!("signal=\"{signal}\"");
            books.duplicates.insert(signal, 0.0);
        }
        books
    }

    fn request(&mut self, source: &str, signal: &str, outcome: &str) {
        let labels = labels(source, signal, outcome);
        *self.requests.get_mut(&labels).expect("a known outcome") += 1.0;
    }

    fn events(&mut self, source: &str, signal: &str, accepted: u8, rejected: u8) {
        for (outcome, events) in [("accepted", accepted), ("rejected", rejected)] {
            let labels = labels(source, signal, outcome);
            *self.events.get_mut(&labels).expect("a known outcome") += f64::from(events);
        }
    }

    fn duplicate(&mut self, source: &str, signal: &str, events: u8) {
        self.request(source, signal, "duplicate");
        let signal = format!("signal=\"{signal}\"");
        *self.duplicates.get_mut(&signal).expect("a known signal") += f64::from(events);
    }

    fn accepted(&self) -> f64 {
        let accepted = self.events.iter();
        let accepted = accepted.filter(|(labels, _)| labels.contains("accepted"));
        accepted.map(|(_, events)| events).sum()
    }
}

fn labels(source: &str, signal: &str, outcome: &str) -> String {
    format!("source=\"{source}\",signal=\"{signal}\",outcome=\"{outcome}\"")
}

/// Larger than the requests of this test may be.
static OVERSIZE: [u8; 20 << 10] = [b' '; 20 << 10];

/// Every kind of request through that endpoint: `good` and `bad` items, if there are both.
async fn send_otlp(service: &Service, books: &mut Books, way: Way, signal: Signal, good: u8) {
    let bad = good + 1;
    let (source, label) = (way.source(), signal.label());
    let send = async |token, body| told(service, way, signal, token, body).await;
    let name = format!("{way:?}");
    for (good, bad, expected) in [
        (good, 0, "accepted"),
        (good, bad, "partial"),
        (0, bad, "invalid"),
    ] {
        let body = way.body(&message(signal, &name, good, bad));
        assert_eq!(
            send(TOKEN, body.clone()).await,
            expected,
            "{way:?} {signal:?}"
        );
        books.request(source, label, expected);
        books.events(source, label, good, bad);
        if good > 0 {
            assert_eq!(send(TOKEN, body.clone()).await, expected, "again");
            books.duplicate(source, label, good);
            assert_eq!(send("Bearer wrong", body).await, "denied");
            books.request(source, label, "denied");
        }
    }
    let malformed = Message {
        protobuf: vec![0xff],
        json: b"{".to_vec(),
    };
    assert_eq!(send(TOKEN, way.body(&malformed)).await, "invalid");
    books.request(source, label, "invalid");
    let oversize = if way == Way::Grpc {
        framed(0, &OVERSIZE)
    } else {
        OVERSIZE.to_vec()
    };
    assert_eq!(send(TOKEN, oversize).await, "refused");
    books.request(source, label, "refused");
}

/// The same with native events.
async fn send_native(service: &Service, books: &mut Books, good: u8) {
    let bad = good + 1;
    let send = async |query: &str, key: &str, token: &str, body: Vec<u8>| {
        let url = service.url(&format!("/ingest{query}"));
        let mut headers = vec![("content-type", JSON), ("authorization", token)];
        if !key.is_empty() {
            headers.push(("idempotency-key", key));
        }
        let answer = service.http.send(Method::POST, &url, &headers, body).await;
        answer.expect("an answer").status.as_u16()
    };
    for (key, query, good, bad, status, outcome) in [
        ("a", "", good, 0, 200, "accepted"),
        ("b", "?partial=true", good, bad, 200, "partial"),
        ("c", "", good, bad, 400, "invalid"),
    ] {
        let body = events("shop", good, bad);
        assert_eq!(send(query, key, TOKEN, body.clone()).await, status);
        books.request("native", "event", outcome);
        if status == 400 {
            books.events("native", "event", 0, good + bad);
        } else {
            books.events("native", "event", good, bad);
            assert_eq!(send(query, key, TOKEN, body.clone()).await, 200, "again");
            books.duplicate("native", "event", good);
            assert_eq!(send(query, key, "Bearer wrong", body).await, 401);
            books.request("native", "event", "denied");
        }
    }
    // Another body under the same key, and an invalid body.
    assert_eq!(send("", "a", TOKEN, events("shop", 1, 0)).await, 422);
    assert_eq!(send("", "", TOKEN, b"{".to_vec()).await, 400);
    books.request("native", "event", "invalid");
    books.request("native", "event", "invalid");
    assert_eq!(send("", "", TOKEN, OVERSIZE.to_vec()).await, 413);
    books.request("native", "event", "refused");
    let one = || events("shop", 1, 0);
    for (query, key) in [("?wait=x", ""), ("?wiat=stored", ""), ("", LONG_KEY)] {
        assert_eq!(send(query, key, TOKEN, one()).await, 400);
        books.request("native", "event", "invalid");
    }
}

fn events(integration: &str, good: u8, bad: u8) -> Vec<u8> {
    let event = format!(r#"{{"correlationId":"c","integration":"{integration}","eventType":"e"}}"#);
    let mut events = vec![event; good.into()];
    events.resize(usize::from(good + bad), "{}".to_owned());
    format!("[{}]", events.join(",")).into_bytes()
}

/// Makes the embedded store refuse rows.
async fn refuse_rows(launch: &Launch) {
    let options = SqliteConnectOptions::new().filename(launch.sqlite_file());
    let mut store = SqliteConnection::connect_with(&options)
        .await
        .expect("the store's file is there");
    store
        .execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON telemetry_events WHEN NEW.integration = 'refused'
             BEGIN SELECT RAISE(ABORT, 'not that one'); END",
        )
        .await
        .expect("a trigger can be made");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_is_what_clients_sent_by_every_way_and_of_every_signal() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let away = Launch::postgres(dir.path(), "postgres://nobody@127.0.0.1:1/nowhere");
    let mut before = away.start().await;
    let url = before.url("/ingest");
    let left = before.http.post(&url, JSON, events("shop", 3, 0)).await;
    assert_eq!(left.expect("an answer").status, 200);
    before.kill();

    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_AUTH_TOKENS", "secret")
        .with("RUVVECTOR_OTLP_WIRE_BYTES", "16KiB")
        .with("RUVVECTOR_INGEST_WIRE_BYTES", "16KiB")
        .with("RUVVECTOR_DUPLICATE_SIGNALS", "traces, logs, metrics");
    let service = launch.start().await;
    service.until_drained().await;
    refuse_rows(&launch).await;

    let mut books = Books::new();
    let mut good = 2;
    for signal in Signal::ALL {
        for way in [Way::Protobuf, Way::Json, Way::Grpc] {
            send_otlp(&service, &mut books, way, signal, good).await;
            good += 1;
        }
    }
    send_native(&service, &mut books, good).await;
    let url = service.url("/ingest");
    let headers = [("content-type", JSON), ("authorization", TOKEN)];
    let refused = events("refused", 2, 0);
    let answer = service.http.send(Method::POST, &url, &headers, refused);
    assert_eq!(answer.await.expect("an answer").status, 200);
    books.request("native", "event", "accepted");
    books.events("native", "event", 2, 0);

    service.until_drained().await;
    let page = service.metrics().await;
    assert_eq!(page.series("ruvvector_receive_events_total"), books.events);
    assert_eq!(
        page.series("ruvvector_receive_requests_total"),
        books.requests
    );
    assert_eq!(page.series("ruvvector_duplicates_total"), books.duplicates);
    let sum = |name| page.sum(name);
    assert_eq!(sum("ruvvector_backlog_at_start_events"), 3.0);
    assert_eq!(sum("ruvvector_dead_letters_total"), 2.0);
    assert_eq!(sum("ruvvector_queue_events"), 0.0);
    let stored = 3.0 + books.accepted() - 2.0;
    assert_eq!(sum("ruvvector_write_events_total"), stored);
    page.assert_balance();
    let url = service.url("/query?limit=10000");
    let rows = service
        .http
        .send(Method::GET, &url, &headers[1..], "")
        .await;
    let rows = rows.expect("an answer").json();
    let rows = u32::try_from(rows.as_array().expect("rows").len()).expect("few");
    assert_eq!(f64::from(rows), stored);
}
