//! Answers to well-behaved clients.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use ruvvector_service::receive::{AuthTokens, Options};
use tokio::time::timeout;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status};

use super::super::otlp::{RpcStatus, one_span, request, span};
use super::super::{MIB, Served, gzip};
use super::{EXPORT, call, client, detail, framed, router, start, start_with_log, wait_s};
use crate::support::slow_disk::SlowDisk;

async fn export(
    served: &Served,
    request: ExportTraceServiceRequest,
) -> Result<Option<(i64, String)>, Status> {
    let answer = client(served).await.export(request).await?;
    let partial = answer.into_inner().partial_success;
    Ok(partial.map(|partial| (partial.rejected_spans, partial.error_message)))
}

/// The status in the details, which has the same content as the one around it.
fn details(status: &Status) -> RpcStatus {
    let details = RpcStatus::decode(status.details()).expect("a status");
    assert_eq!(details.code, status.code() as i32);
    assert_eq!(details.message, status.message());
    details
}

/// Asserts that nobody is asked to send it again.
fn assert_final(status: &Status) {
    assert!(detail(&details(status), "RetryInfo").is_none());
    assert!(
        status
            .metadata()
            .get_bin("google.rpc.retryinfo-bin")
            .is_none()
    );
}

#[tokio::test]
async fn r1_spans_are_accepted_in_every_compression() {
    let served = start(Options {
        duplicate_window: None,
        ..Options::default()
    })
    .await;
    let spans = request(vec![span(&[1; 16])]);
    let client = client(&served).await;
    for encoding in [
        None,
        Some(CompressionEncoding::Gzip),
        Some(CompressionEncoding::Zstd),
    ] {
        let mut client = client.clone();
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding).accept_compressed(encoding);
        }
        let answer = client.export(spans.clone()).await.expect("taken");
        // R7: a full success has no partial one.
        assert_eq!(answer.into_inner().partial_success, None);
    }
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "Application/gRPC",
    ] {
        let headers = [("content-type", content_type), ("grpc-encoding", "gzip")];
        // Compressed only if it is marked; a message of two gzip members is one.
        let members = [gzip(&one_span()[..7]), gzip(&one_span()[7..])].concat();
        for body in [framed(0, &one_span()), framed(1, &members)] {
            let reply = call(&served, EXPORT, &headers, body).await;
            assert_eq!((reply.http_status, reply.code()), (200, 0), "{reply:?}");
            assert_eq!(*reply.message, [0; 5]);
        }
    }
    assert_eq!(served.logged_events().await, 3 + 6);
}

#[tokio::test]
async fn g2_an_empty_message_is_a_success() {
    let served = start(Options::default()).await;
    assert_eq!(export(&served, request(vec![])).await.expect("taken"), None);
    let nothing = ExportTraceServiceRequest::default();
    assert_eq!(export(&served, nothing).await.expect("taken"), None);
    for (encoding, flag) in [("identity", 0), ("gzip", 1), ("zstd", 1), ("deflate", 1)] {
        let headers = [("grpc-encoding", encoding)];
        let reply = call(&served, EXPORT, &headers, framed(flag, b"")).await;
        assert_eq!(reply.code(), 0, "{encoding}: {reply:?}");
    }
    assert_eq!(served.logged_events().await, 0);
}

#[tokio::test]
async fn r2_what_is_too_large_is_resource_exhausted_and_never_sent_again() {
    let served = start(Options {
        otlp_wire_bytes: MIB,
        otlp_decoded_bytes: 2 * MIB,
        ..Options::default()
    })
    .await;
    let mut long = span(&[1; 16]);
    long.name = "x".repeat(MIB);
    let refused = export(&served, request(vec![long.clone()])).await;
    let refused = refused.expect_err("too large on the wire");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_final(&refused);

    let mut zipped = client(&served)
        .await
        .send_compressed(CompressionEncoding::Gzip);
    zipped
        .export(request(vec![long.clone()]))
        .await
        .expect("small enough");
    let bomb = request(vec![long.clone(), long]);
    let refused = zipped
        .export(bomb)
        .await
        .expect_err("too large once decompressed");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_final(&refused);
    assert_eq!(served.logged_events().await, 1);
}

#[tokio::test]
async fn r4_a_full_journal_is_unavailable_with_a_wait_of_one_to_five_seconds() {
    let options = Options {
        duplicate_window: None,
        ..Options::default()
    };
    let served = start_with_log(4 * MIB as u64, options).await;
    let spans = request(vec![span(&[1; 16]); 2000]);
    let mut client = client(&served).await;
    let refused = loop {
        if let Err(refused) = client.export(spans.clone()).await {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    let details = details(&refused);
    let in_details = detail(&details, "RetryInfo").expect("a RetryInfo");
    let alone = refused.metadata().get_bin("google.rpc.retryinfo-bin");
    let alone = alone.expect("a RetryInfo").to_bytes().expect("base64");
    assert_eq!(wait_s(&in_details.value), wait_s(&alone));
    assert!(refused.metadata().get("ruvvector-outcome").is_none());
}

#[tokio::test]
async fn r4_what_may_be_stored_all_the_same_is_marked_unknown() {
    // The sync is in progress when the time is over.
    let disk = Arc::new(SlowDisk(Duration::from_millis(500)));
    let options = Options {
        handling_timeout: Duration::ZERO,
        ..Options::default()
    };
    let served = Served::start_on_disk(disk, 16 * MIB as u64, options, router).await;
    let refused = export(&served, request(vec![span(&[1; 16])])).await;
    let refused = refused.expect_err("nobody knows");
    assert_eq!(refused.code(), Code::Unavailable);
    let outcome = refused.metadata().get("ruvvector-outcome");
    assert_eq!(outcome.expect("it is said"), "unknown");
    assert!(detail(&details(&refused), "RetryInfo").is_some());
    served.journal.synced_past(0).await;
    let logged = served.logged_events().await;
    assert_eq!(logged, 1, "it was stored all the same");
}

#[tokio::test]
async fn r5_bad_data_is_an_invalid_argument_that_says_what_is_wrong() {
    let served = start(Options::default()).await;
    let refused = export(&served, request(vec![span(&[0; 16]), span(&[1; 3])])).await;
    let refused = refused.expect_err("no span is valid");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_final(&refused);
    let details = details(&refused);
    let bad_request = detail(&details, "BadRequest").expect("a BadRequest");
    assert!(String::from_utf8_lossy(&bad_request.value).contains("[0].traceId"));

    let reply = call(&served, EXPORT, &[], framed(0, b"\xff\xff\xff")).await;
    assert_eq!((reply.http_status, reply.code()), (200, 3));
    assert!(
        reply
            .told("grpc-message")
            .is_some_and(|text| !text.is_empty())
    );
    assert_eq!(served.logged_events().await, 0);
}

#[tokio::test]
async fn r6_a_token_is_asked_for_in_the_metadata() {
    let served = start(Options {
        auth_tokens: AuthTokens::new(&["secret".into()]),
        ..Options::default()
    })
    .await;
    let mut client = client(&served).await;
    for (token, code) in [
        (None, Some(Code::Unauthenticated)),
        (Some("Bearer wrong"), Some(Code::Unauthenticated)),
        (Some("Bearer secret"), None),
    ] {
        let mut call = Request::new(request(vec![span(&[1; 16])]));
        if let Some(token) = token {
            let token = token.parse().expect("ASCII");
            call.metadata_mut().insert("authorization", token);
        }
        let refused = client.export(call).await.err();
        assert_eq!(refused.as_ref().map(Status::code), code, "{token:?}");
        if let Some(refused) = refused {
            assert_final(&refused);
        }
    }
    let headers = [
        ("authorization", "Bearer secret"),
        ("origin", "https://evil.example"),
    ];
    let reply = call(&served, EXPORT, &headers, framed(0, &one_span())).await;
    assert_eq!((reply.http_status, reply.code()), (200, 7));
    assert_eq!(served.logged_events().await, 1);
}

#[tokio::test]
async fn r7_a_partial_success_counts_what_was_rejected() {
    let served = start(Options::default()).await;
    let spans = vec![span(&[1; 16]), span(&[0; 16]), span(&[1; 3])];
    let partial = export(&served, request(spans)).await.expect("taken");
    let (rejected, message) = partial.expect("a partial success");
    assert_eq!(rejected, 2);
    assert!(message.contains("2 of 3"), "{message}");
    assert_eq!(served.logged_events().await, 1);
}

#[tokio::test]
async fn what_is_not_there_is_unimplemented() {
    let served = start(Options::default()).await;
    for path in [
        "/opentelemetry.proto.collector.trace.v1.TraceService/Import",
        "/opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export",
        "/",
    ] {
        let reply = call(&served, path, &[], framed(0, b"")).await;
        assert_eq!((reply.http_status, reply.code()), (200, 12), "{path}");
    }
    for flag in [0, 1] {
        let headers = [("grpc-encoding", "snappy")];
        let reply = call(&served, EXPORT, &headers, framed(flag, &one_span())).await;
        assert_eq!(reply.code(), 12);
        assert_eq!(
            reply.told("grpc-accept-encoding"),
            Some("identity,gzip,zstd,deflate")
        );
    }
}

/// Returns the answer to a call whose body begins and then stalls.
async fn stalled(served: &Served, headers: &[(&str, &str)]) -> HeaderMap {
    let (sender, body) = tokio::sync::mpsc::channel::<Result<_, std::io::Error>>(1);
    let body =
        futures_util::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let mut request =
        axum::http::Request::post(served.url(EXPORT)).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(axum::body::Body::from_stream(body))
        .expect("well formed");
    sender.send(Ok(&b"\0\0\0"[..])).await.expect("room");
    let answer = timeout(Duration::from_secs(60), client.request(request)).await;
    let answer = answer.expect("in time").expect("an answer");
    drop(sender);
    answer.headers().clone()
}

/// A call whose body stalled was answered DEADLINE_EXCEEDED without a wait; over HTTP the same was final for its client.
#[tokio::test]
async fn r3_a_slow_body_is_unavailable_with_a_wait() {
    let served = start(Options {
        body_idle_timeout: Duration::from_millis(200),
        ..Options::default()
    })
    .await;
    let answer = stalled(&served, &[]).await;
    assert_eq!(answer["grpc-status"], "14");
    assert!(answer.contains_key("google.rpc.retryinfo-bin"));
    assert!(!answer.contains_key("ruvvector-outcome"));
    export(&served, request(vec![span(&[1; 16])]))
        .await
        .expect("taken");
    assert_eq!(served.logged_events().await, 1);
}

#[tokio::test]
async fn a_clients_deadline_shortens_ours() {
    let served = start(Options {
        body_timeout: Duration::from_secs(3600),
        body_idle_timeout: Duration::from_secs(3600),
        ..Options::default()
    })
    .await;
    let answer = stalled(&served, &[("grpc-timeout", "200m")]).await;
    assert_eq!(answer["grpc-status"], "4");

    let mut call = Request::new(super::super::otlp::request(vec![span(&[1; 16])]));
    call.set_timeout(Duration::from_secs(60));
    super::client(&served)
        .await
        .export(call)
        .await
        .expect("taken");
}
