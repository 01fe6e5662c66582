//! Frames, lengths and heads that no client should send: each is answered, and other clients are served as usual.

use axum::http::Method;
use ruvvector_service::receive::Options;

use super::super::otlp::one_span;
use super::super::{MIB, Served, gzip, head};
use super::{EXPORT, call, framed, start};

async fn assert_unharmed(served: &Served) {
    let before = served.logged_events().await;
    let reply = call(served, EXPORT, &[], framed(0, &one_span())).await;
    assert_eq!(reply.code(), 0);
    assert_eq!(served.logged_events().await, before + 1);
}

#[tokio::test]
async fn a_body_that_is_not_one_whole_message_is_an_invalid_argument() {
    let served = start(Options::default()).await;
    let message = framed(0, &one_span());
    let cut_length = [&[0, 0, 0, 1, 0], &one_span()[..]].concat();
    for (what, body) in [
        ("no body", vec![]),
        ("half a prefix", message[..3].to_vec()),
        ("a cut message", message[..message.len() - 1].to_vec()),
        ("a length of more than there is", cut_length),
        ("two messages", message.repeat(2)),
        ("a message and a byte", [&message[..], &[0]].concat()),
        ("a flag that is none", framed(2, &one_span())),
        ("a mark without an encoding", framed(1, &one_span())),
    ] {
        let reply = call(&served, EXPORT, &[], body).await;
        assert_eq!(
            (reply.http_status, reply.code()),
            (200, 3),
            "{what}: {reply:?}"
        );
    }
    for (encoding, message) in [
        ("gzip", one_span()),
        ("gzip", gzip(&one_span())[..20].to_vec()),
        ("zstd", one_span()),
        ("deflate", b"\x78\x9c".to_vec()),
    ] {
        let headers = [("grpc-encoding", encoding)];
        let reply = call(&served, EXPORT, &headers, framed(1, &message)).await;
        assert_eq!(reply.code(), 3, "{encoding}: {reply:?}");
    }
    assert_eq!(served.logged_events().await, 0);
    assert_unharmed(&served).await;
}

#[tokio::test]
async fn a_claim_of_four_gib_is_refused_before_it_comes() {
    let served = start(Options::default()).await;
    let reply = call(&served, EXPORT, &[], b"\0\xff\xff\xff\xff".to_vec()).await;
    assert_eq!(reply.code(), 8, "{reply:?}");
    assert_eq!(reply.told("google.rpc.retryinfo-bin"), None);
    assert_unharmed(&served).await;
}

#[tokio::test]
async fn a_gzip_bomb_is_refused_at_the_limit() {
    let served = start(Options {
        otlp_decoded_bytes: 4 * MIB,
        ..Options::default()
    })
    .await;
    let bomb = framed(1, &gzip(&vec![0; 256 * MIB]));
    let reply = call(&served, EXPORT, &[("grpc-encoding", "gzip")], bomb).await;
    assert_eq!(reply.code(), 8, "{reply:?}");
    assert_unharmed(&served).await;
}

#[tokio::test]
async fn another_content_type_is_415() {
    let served = start(Options::default()).await;
    for content_type in [
        "application/grpc+json",
        "application/grpc-web",
        "application/x-protobuf",
        "text/plain",
    ] {
        let headers = [("content-type", content_type)];
        let reply = call(&served, EXPORT, &headers, framed(0, &one_span())).await;
        assert_eq!(
            (reply.http_status, reply.code()),
            (415, -1),
            "{content_type}"
        );
    }
    assert_unharmed(&served).await;
}

#[tokio::test]
async fn another_method_is_refused() {
    let served = start(Options::default()).await;
    let request = axum::http::Request::get(served.url(EXPORT))
        .header("content-type", "application/grpc")
        .body(http_body_util::Full::<bytes::Bytes>::default())
        .expect("well formed");
    let answer = crate::support::http::http2().request(request).await;
    assert_eq!(answer.expect("an answer").headers()["grpc-status"], "12");
    assert_unharmed(&served).await;
}

/// An exporter of OTLP/HTTP that was given the port of gRPC, and a browser.
#[tokio::test]
async fn http_1_gets_the_purpose_of_this_port() {
    let served = start(Options::default()).await;
    let grpc = [("content-type", "application/grpc")];
    let protobuf = [("content-type", "application/json")];
    for (method, path, headers) in [
        (Method::POST, "/v1/traces", &protobuf[..]),
        (Method::POST, EXPORT, &grpc),
        (Method::POST, "/grpc.health.v1.Health/Check", &grpc),
        (Method::GET, "/", &[]),
    ] {
        let answer = served.send(method, path, headers, "").await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(
            answer.text().contains("OTLP over gRPC"),
            "{}",
            answer.text()
        );
    }
    let mut raw = served.raw().await;
    raw.send(head(EXPORT, "Content-Type: application/grpc\r\n", 5))
        .await;
    assert_eq!(raw.answer().await.expect("an answer").status, 404);
    assert_unharmed(&served).await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused_and_nothing_else() {
    let served = start(Options::default()).await;
    let long = "x".repeat(20 << 10);
    let request = axum::http::Request::post(served.url(EXPORT))
        .header("content-type", "application/grpc")
        .header("x-long", long)
        .body(http_body_util::Full::<bytes::Bytes>::default())
        .expect("well formed");
    let answer = crate::support::http::http2().request(request).await;
    assert!(answer.map_or(true, |answer| answer.status() == 431));
    assert_unharmed(&served).await;
}
