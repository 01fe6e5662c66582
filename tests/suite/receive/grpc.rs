//! OTLP over gRPC: rows R1 to R7 of a server's duties (OTLP 1.11), with tonic's clients and with frames that none of
//! them would send.

/// The answers to tonic's clients.
mod answered;

/// Frames that no client should send.
mod hostile;

/// The health service.
mod health;

/// The real binary, with its store.
mod whole;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use ruvvector_service::lifecycle::Lifecycle;
use ruvvector_service::receive::{Options, Receiver};
use ruvvector_service::router::otlp_grpc_port;
use tonic::transport::{Channel, Endpoint};

use super::otlp::{Any, RpcStatus};
use super::{MIB, Served};
use crate::support::http::http2;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// google/rpc/error_details.proto, `RetryInfo`.
#[derive(Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

#[derive(Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[expect(clippy::needless_pass_by_value, reason = "as other routers take it")]
fn router(receiver: Arc<Receiver>) -> Router {
    otlp_grpc_port(&receiver, Lifecycle::default())
}

pub(super) async fn start(options: Options) -> Served {
    start_with_log(256 * MIB as u64, options).await
}

async fn start_with_log(log_bytes: u64, options: Options) -> Served {
    Served::start_on(log_bytes, options, router).await
}

async fn channel(url: String) -> Channel {
    let endpoint = Endpoint::from_shared(url).expect("a URL");
    endpoint.connect().await.expect("the server listens")
}

async fn client(served: &Served) -> TraceServiceClient<Channel> {
    TraceServiceClient::new(channel(served.url("")).await)
}

/// A message behind its prefix.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[flag], &length.to_be_bytes()[..], message].concat()
}

/// An answer as it arrived.
#[derive(Debug)]
struct Reply {
    http_status: u16,
    message: Bytes,
    /// The last headers: the trailers, or the headers if there is nothing else.
    end: HeaderMap,
}

impl Reply {
    fn told(&self, name: &str) -> Option<&str> {
        self.end.get(name)?.to_str().ok()
    }

    /// gRPC's status; -1 if there is none.
    fn code(&self) -> i32 {
        self.told("grpc-status")
            .map_or(-1, |code| code.parse().expect("a number"))
    }
}

/// Sends those bytes as a call to `path`.
async fn call(served: &Served, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Reply {
    let mut request = Request::post(served.url(path));
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/grpc");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::from(body)).expect("well formed");
    let answer = http2().request(request).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole answer");
    let end = body.trailers().cloned().unwrap_or(head.headers);
    Reply {
        http_status: head.status.as_u16(),
        message: body.to_bytes(),
        end,
    }
}

/// The details of that type.
fn detail<'a>(status: &'a RpcStatus, name: &str) -> Option<&'a Any> {
    let type_url = format!("type.googleapis.com/google.rpc.{name}");
    status
        .details
        .iter()
        .find(|detail| detail.type_url == type_url)
}

/// The seconds of a `RetryInfo`, which must be 1 to 5.
fn wait_s(retry_info: &[u8]) -> i64 {
    let info = RetryInfo::decode(retry_info).expect("a RetryInfo");
    let delay = info.retry_delay.expect("a delay");
    assert!((1..=5).contains(&delay.seconds) && delay.nanos == 0);
    delay.seconds
}
