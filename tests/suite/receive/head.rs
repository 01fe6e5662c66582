//! Heads that a server has to refuse or must not misread: hosts, transfer codings, paths that are not served.

use axum::http::Method;
use ruvvector_service::receive::Options;
use ruvvector_service::router::otlp_http_port;

use super::otlp::{one_span, status};
use super::{EVENT, MIB, Served};
use crate::support::http::Raw;
use crate::support::service::{Launch, Service};

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

async fn ask(raw: &mut Raw, request: &str) -> (u16, String) {
    raw.send(request).await;
    let answer = raw.answer().await.expect("an answer");
    let body = String::from_utf8(answer.body).expect("UTF-8");
    (answer.status, body)
}

/// Requests of HTTP/1.1 without a Host, or with two of them, were served: a proxy in front and this server could read two
/// different hosts.
#[tokio::test]
async fn a_request_of_http_1_1_names_one_host() {
    let served = Served::start().await;
    let length = EVENT.len();
    let event = |version: &str, hosts: &str| {
        format!("POST /ingest HTTP/{version}\r\n{hosts}Content-Length: {length}\r\n\r\n{EVENT}")
    };
    for hosts in ["", "Host: x\r\nHost: x\r\n", "Host: x\r\nhost: y\r\n"] {
        let mut raw = served.raw().await;
        let (status, body) = ask(&mut raw, &event("1.1", hosts)).await;
        assert_eq!(status, 400, "{hosts:?}: {body}");
        assert!(body.contains("Host"), "{body}");
        raw.closed().await;
    }
    let mut raw = served.raw().await;
    let twice = event("1.0", "Host: x\r\nHost: x\r\n");
    assert_eq!(ask(&mut raw, &twice).await.0, 400);
    for (version, hosts) in [("1.1", "Host: x\r\n"), ("1.1", "Host:\r\n"), ("1.0", "")] {
        let mut raw = served.raw().await;
        let (status, body) = ask(&mut raw, &event(version, hosts)).await;
        assert_eq!(status, 200, "{version} {hosts:?}: {body}");
    }
    served.assert_unharmed(3).await;
}

/// `Transfer-Encoding: gzip, chunked` was read as chunked alone: the compressed bytes were treated as the body.
#[tokio::test]
async fn a_transfer_coding_beside_chunked_is_501_and_its_body_is_not_read() {
    let served = Served::start().await;
    let length = EVENT.len();
    let chunks = format!("{length:x}\r\n{EVENT}\r\n0\r\n\r\n");
    let post = |coding: &str| {
        format!(
            "POST /ingest HTTP/1.1\r\nHost: x\r\n{coding}\r\n{chunks}GET /metrics HTTP/1.1\r\n\r\n"
        )
    };
    for coding in [
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: xchunked, chunked\r\n",
    ] {
        let mut raw = served.raw().await;
        let (status, body) = ask(&mut raw, &post(coding)).await;
        assert_eq!(status, 501, "{coding}: {body}");
        assert!(body.contains("Transfer-Encoding"), "{body}");
        raw.closed().await;
    }
    let mut raw = served.raw().await;
    let (status, _) = ask(&mut raw, &post("Transfer-Encoding: Chunked\r\n")).await;
    assert_eq!(status, 200);
    served.assert_unharmed(1).await;
}

/// On the port of OTLP a wrong path was answered in the form of `/ingest`, which no exporter reads: its own log had
/// "404" and nothing else.
#[tokio::test]
async fn a_wrong_path_on_the_port_of_otlp_is_a_status_in_the_clients_encoding() {
    let served = Served::start_on(64 * MIB as u64, Options::default(), otlp_http_port).await;
    for path in [
        "/ingest",
        "/v1",
        "/otlp/v1/traces",
        "/v1/traces/x",
        "/api/v2/spans",
        "/query",
    ] {
        for (sent, answered) in [(PROTOBUF, PROTOBUF), (JSON, JSON), ("text/plain", JSON)] {
            let headers = [("content-type", sent)];
            let answer = served.post(path, &headers, one_span()).await;
            assert_eq!(answer.status, 404, "{path}");
            let status = status(&answer, answered);
            assert_eq!(status.code, 12, "{path}");
            assert!(!status.message.is_empty(), "{path}");
        }
        let answer = served.send(Method::GET, path, &[], "").await;
        assert_eq!(answer.status, 404, "{path}");
        status(&answer, JSON);
    }
}

/// "Nothing is served here" left a newcomer to guess the paths, and their port.
#[tokio::test]
async fn a_wrong_path_or_an_empty_body_is_answered_with_what_to_do() {
    let main = Served::start().await;
    let answer = main.send(Method::GET, "/", &[], "").await;
    assert_eq!(answer.status, 404);
    for path in ["/ingest", "/v1/traces", "/query", "/health"] {
        assert!(answer.text().contains(path), "{path}: {}", answer.text());
    }
    let answer = main.post("/ingest", &[("content-type", JSON)], "").await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("the body is empty"),
        "{}",
        answer.text()
    );
    assert!(!answer.text().contains("at byte"), "{}", answer.text());
    let headers = [("content-type", JSON), ("origin", "https://evil.example")];
    let answer = main.post("/ingest", &headers, EVENT).await;
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("RUVVECTOR_CORS_ORIGINS"),
        "{}",
        answer.text()
    );

    let otlp = Served::start_on(64 * MIB as u64, Options::default(), otlp_http_port).await;
    let answer = otlp.post("/ingest", &[("content-type", JSON)], EVENT).await;
    assert_eq!(answer.status, 404);
    assert!(
        answer.text().contains("RUVVECTOR_SERVICE_PORT (3100)"),
        "{}",
        answer.text()
    );
}

/// An endpoint that ended in a slash made exporters send to `//v1/logs`, which was a plain 404.
#[tokio::test]
async fn an_endpoint_that_ends_in_a_slash_works() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let served = Served::start_on(64 * MIB as u64, Options::default(), otlp_http_port).await;
    let headers = [("content-type", PROTOBUF)];
    let answer = served.post("//v1/traces", &headers, one_span()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(served.logged_events().await, 1);
    for path in ["//v1/logs", "//v1/metrics"] {
        let answer = served.post(path, &headers, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for route in ["/v1/traces", "/v1/logs", "/v1/metrics"] {
        let series = format!("http_route=\"{route}\"");
        assert!(page.render().contains(&series), "{series}");
    }
}

async fn start(launch: &Launch) -> Service {
    let service = launch.start().await;
    service
        .until("the table is there", async |service: &Service| {
            service.health().await["status"] == "ok"
        })
        .await;
    service
}

/// The status and the body of a GET of that path under that host, on a separate connection.
async fn read(service: &Service, path: &str, host: &str) -> (u16, String) {
    let mut raw = Raw::connect(service.address()).await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    ask(&mut raw, &request).await
}

/// A web page whose owner let its name resolve to 127.0.0.1 read `/query` of its visitors: the requests came from the
/// visitor's own machine, and nothing checked the host name to which they were sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_loopback_address_without_tokens_is_read_under_its_own_names_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch =
        Launch::sqlite(dir.path()).with("RUVVECTOR_HOSTS", "telemetry.example, Other.example");
    let service = start(&launch).await;
    let port = service.address().port();
    for path in ["/query", "/query?correlationId=x", "/query/"] {
        for own in [
            "127.0.0.1",
            "[::1]",
            "localhost",
            "a.localhost",
            "telemetry.example",
            "OTHER.example",
        ] {
            let (status, body) = read(&service, path, &format!("{own}:{port}")).await;
            assert_ne!(status, 421, "{path} of {own}: {body}");
        }
        for foreign in ["evil.example", "127.0.0.1.evil.example", ""] {
            let (status, body) = read(&service, path, foreign).await;
            if status != 404 {
                assert_eq!(status, 421, "{path} of {foreign}: {body}");
                assert!(body.contains("RUVVECTOR_HOSTS"), "{body}");
            }
        }
    }
    // The setting accepts names without a port.
    let (_, body) = read(&service, "/query", "evil.example:3100").await;
    assert!(body.contains("the host name evil.example is not"), "{body}");
    for invalid in ["a, b", "a b", "localhost:x"] {
        assert_eq!(read(&service, "/query", invalid).await.0, 400, "{invalid}");
    }
    let trace = "/traces/c2b1f7a40d3e4f5896a7b8c9d0e1f2a3";
    assert_eq!(read(&service, trace, "localhost").await.0, 200);
    assert_eq!(read(&service, trace, "evil.example").await.0, 421);
    assert_eq!(read(&service, "/query", "localhost").await.0, 200);
    assert_eq!(read(&service, "/query", "evil.example").await.0, 421);
    // The target of a request to a proxy names its host too.
    let absolute = "http://evil.example/query";
    assert_eq!(read(&service, absolute, "localhost").await.0, 421);
    // HTTP/2 names it in `:authority`.
    let request = axum::http::Request::get(format!("http://localhost:{port}/query"))
        .body(http_body_util::Full::default())
        .expect("well formed");
    let answer = crate::support::http::http2().request(request).await;
    assert_eq!(answer.expect("an answer").status(), 200);

    // Monitoring and sending do not depend on the name.
    for path in ["/health", "/health/live", "/health/ready", "/metrics"] {
        assert_eq!(read(&service, path, "evil.example").await.0, 200, "{path}");
    }
    let mut raw = Raw::connect(service.address()).await;
    let length = EVENT.len();
    let event = format!(
        "POST /ingest HTTP/1.1\r\nHost: evil.example\r\nContent-Length: {length}\r\n\r\n{EVENT}"
    );
    assert_eq!(ask(&mut raw, &event).await.0, 200);
    let traces = "POST /v1/traces HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(ask(&mut raw, traces).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_all_that_is_asked_of_a_reader_where_tokens_are_set() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path()).with("RUVVECTOR_AUTH_TOKENS", "secret");
    let service = start(&launch).await;
    let mut raw = Raw::connect(service.address()).await;
    let request =
        "GET /query HTTP/1.1\r\nHost: proxied.example\r\nAuthorization: Bearer secret\r\n\r\n";
    assert_eq!(ask(&mut raw, request).await.0, 200);
    assert_eq!(read(&service, "/query", "proxied.example").await.0, 401);
}
