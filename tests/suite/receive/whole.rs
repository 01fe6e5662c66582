//! All routes together, in the real binary.

use axum::http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::EVENT;
use crate::support::service::{Launch, Service};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

async fn start(settings: &[(&str, &str)]) -> (Service, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = settings
        .iter()
        .fold(Launch::sqlite(dir.path()), |launch, (name, value)| {
            launch.with(name, value)
        });
    let service = launch.start().await;
    // The service is ready first; the embedded store's schema exists a moment later.
    service
        .until("queries are answered", async |service: &Service| {
            service.get("/query").await.status == 200
        })
        .await;
    (service, dir)
}

#[tokio::test]
async fn another_method_is_405_with_allow_and_every_error_has_the_same_shape() {
    let (service, _dir) = start(&[]).await;
    let send = async |method: Method, path: &str| {
        let url = service.url(path);
        let answer = service.http.send(method, &url, JSON, "").await;
        answer.expect("an answer")
    };
    for (path, allow, method) in [
        ("/ingest", "POST", Method::GET),
        ("/ingest", "POST", Method::DELETE),
        ("/v1/traces", "POST", Method::GET),
        ("/query", "GET, HEAD", Method::POST),
        ("/query/1", "GET, HEAD", Method::PUT),
        ("/traces/a", "GET, HEAD", Method::POST),
        ("/health", "GET, HEAD", Method::POST),
        ("/health/live", "GET, HEAD", Method::DELETE),
        ("/health/ready", "GET, HEAD", Method::POST),
        ("/metrics", "GET, HEAD", Method::POST),
    ] {
        let answer = send(method, path).await;
        assert_eq!(answer.status, 405, "{path}");
        let allowed: Vec<_> = answer.headers.get_all("allow").iter().collect();
        assert_eq!(allowed, [allow], "{path}");
        let told = if path.starts_with("/v1/") {
            "message"
        } else {
            "error"
        };
        assert!(answer.json()[told].is_string(), "{path}");
    }
    for (method, path, status, parameter) in [
        (Method::GET, "/nowhere", 404, None),
        (Method::GET, "/query/1", 404, None),
        (Method::GET, "/query?limit=x", 400, Some("limit")),
        (Method::POST, "/ingest?wait=x", 400, Some("wait")),
        (Method::POST, "/ingest", 400, None),
    ] {
        let answer = send(method, path).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let body = answer.json();
        assert!(body["error"].is_string(), "{path}: {body}");
        assert_eq!(body["parameter"], json!(parameter), "{path}");
    }
}

#[tokio::test]
async fn the_skew_of_a_clients_clock_is_observed_once_a_request() {
    let (service, _dir) = start(&[]).await;
    let skew = async |part: &str| {
        let name = format!("ruvvector_client_clock_skew_seconds_{part}");
        service.metrics().await.sum(&name)
    };
    let post = async |body: String| {
        let url = service.url("/ingest");
        let answer = service.http.post(&url, "application/json", body).await;
        assert_eq!(answer.expect("an answer").status, 200);
    };
    post(EVENT.to_owned()).await;
    assert!(skew("count").await < 0.5, "no time was given");
    let at = |day: u8| {
        EVENT.replace(
            '{',
            &format!("{{\"timestamp\":\"2020-01-{day:02}T00:00:00Z\","),
        )
    };
    post(format!("[{},{},{EVENT}]", at(2), at(1))).await;
    assert!((skew("count").await - 1.0).abs() < 0.5);
    let since = seconds_since_2020_01_02();
    assert!((skew("sum").await - since).abs() < 600.0);
}

/// By this machine's clock, which the service reads too.
fn seconds_since_2020_01_02() -> f64 {
    let begin = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_577_923_200);
    begin.elapsed().expect("after 2020").as_secs_f64()
}

/// Otherwise its answer would stay in memory while the next one is made.
#[tokio::test]
async fn a_client_that_does_not_read_its_answer_keeps_its_querys_slot() {
    let (service, _dir) = start(&[("RUVVECTOR_QUERY_CONCURRENCY", "1")]).await;
    let large = format!(r#","metadata":{{"text":"{}"}}}}"#, "x".repeat(1 << 20));
    let event = EVENT.replace('}', &large);
    for _ in 0..30 {
        let url = service.url("/ingest");
        let answer = service.http.post(&url, "application/json", event.clone());
        assert_eq!(answer.await.expect("an answer").status, 200);
    }
    service.until_drained().await;

    let mut client = TcpStream::connect(service.address())
        .await
        .expect("it listens");
    client
        .write_all(b"GET /query HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .expect("it reads");
    let mut first = [0; 12];
    client.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    for _ in 0..3 {
        let refused = service.get("/query?limit=1").await;
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").is_some());
    }
    drop(client);
    service
        .until("the slot is free", async |service: &Service| {
            service.get("/query?limit=1").await.status == 200
        })
        .await;
}
