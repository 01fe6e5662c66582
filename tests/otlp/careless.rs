//! Servers that break rules, each in a different manner, so that the checks can be seen to fail.
//!
//! **Invariant:** a check that no such server fails is an error, because it would pass for any server.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpListener;

use crate::rows::{self, Check};
use crate::server::{Address, Server, Situation};
use crate::verdict::Fault;

#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Answers everything with a full success, even invalid requests.
    TakesAll,
    /// Answers everything as bad data. Speaks only HTTP/1.1.
    RefusesAll,
    /// Answers everything as retryable: compressed with gzip without being asked, or with a body that is no `Status`,
    /// readable for any page.
    PutsOff,
    /// Rejects five items of any request, at length.
    Wordy,
    /// Rejects one item without a reason, with numbers as JSON numbers.
    Silent,
}

const MANNERS: [Manner; 5] = [
    Manner::TakesAll,
    Manner::RefusesAll,
    Manner::PutsOff,
    Manner::Wordy,
    Manner::Silent,
];

/// # Errors
/// Names the rules that none of these servers breaks.
pub(crate) fn break_each_rule() -> Result<(), String> {
    let servers = MANNERS.map(serve);
    let never_broken = rows::all()
        .into_iter()
        .filter(|check| !servers.iter().any(|server| is_broken(check, server)));
    let never_broken: Vec<_> = never_broken
        .map(|check| format!("{} {}", check.row, check.rule))
        .collect();
    match never_broken.is_empty() {
        true => Ok(()),
        false => Err(never_broken.join("\n")),
    }
}

fn is_broken(check: &Check, server: &Server) -> bool {
    let mut cases = check.cases.iter();
    cases.any(|case| matches!((check.run)(server, *case), Err(Fault::Failed(_))))
}

/// Serves until its runtime ends.
fn serve(manner: Manner) -> Server {
    const SITUATIONS: [Situation; 6] = [
        Situation::Plain,
        Situation::Cors,
        Situation::Auth,
        Situation::Refusing,
        Situation::Strict,
        Situation::Cutting,
    ];
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.set_nonblocking(true).expect("a socket of our own");
    let address = listener.local_addr().expect("it is bound");
    let here = Address {
        http: at(address),
        grpc: Some(at(address)),
    };
    let addresses = SITUATIONS.map(|situation| (situation, here.clone()));
    let server = Server::foreign(HashMap::from(addresses)).expect("a runtime can be started");
    server.spawn(async move {
        let listener = TcpListener::from_std(listener).expect("a socket of our own");
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut builder = Builder::new(TokioExecutor::new());
                // No limits.
                builder
                    .http2()
                    .max_concurrent_streams(None)
                    .max_header_list_size(u32::MAX);
                if matches!(manner, Manner::RefusesAll) {
                    builder = builder.http1_only();
                }
                let service = service_fn(|request| answer(manner, request));
                let serving = builder.serve_connection(TokioIo::new(stream), service);
                // This server ignores clients that disconnect.
                let _ = serving.await;
            });
        }
    });
    server
}

fn at(address: SocketAddr) -> hyper::Uri {
    let url = format!("http://{address}");
    url.parse().expect("an address makes a URL")
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(manner: Manner, request: Request<Incoming>) -> hyper::Result<Response<Body>> {
    let (head, mut body) = request.into_parts();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let content_type = head.headers.get("content-type");
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
    Ok(if content_type.starts_with("application/grpc") {
        grpc(manner)
    } else if content_type.starts_with("application/x-protobuf") {
        http(manner, "application/x-protobuf", protobuf(manner))
    } else if matches!(manner, Manner::PutsOff) {
        http(manner, "text/plain", b"no".to_vec())
    } else {
        http(manner, "application/json", json(manner, head.uri.path()))
    })
}

fn http(manner: Manner, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Full::from(body).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(content_type));
    let status = match manner {
        Manner::TakesAll | Manner::Wordy | Manner::Silent => 200,
        Manner::RefusesAll => 400,
        Manner::PutsOff => {
            headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
            headers.insert("content-encoding", HeaderValue::from_static("gzip"));
            503
        }
    };
    *response.status_mut() = status.try_into().expect("a status");
    response
}

/// The answer's one message, in protobuf: an `Export…ServiceResponse` or a `Status`.
fn protobuf(manner: Manner) -> Vec<u8> {
    use crate::message::{Message, Value};
    let partial = |rejected, message: &str| {
        let partial = Message::default()
            .with(1, "rejected", Value::Varint(rejected))
            .text(2, "errorMessage", message);
        Message::default().one(1, "partialSuccess", partial)
    };
    match manner {
        Manner::TakesAll => Message::default(),
        Manner::RefusesAll | Manner::PutsOff => Message::default().text(2, "message", "no"),
        Manner::Wordy => partial(5, &long()),
        Manner::Silent => partial(1, ""),
    }
    .protobuf()
}

fn json(manner: Manner, path: &str) -> Vec<u8> {
    use serde_json::json;
    let rejected = match path {
        "/v1/logs" => "rejectedLogRecords",
        "/v1/metrics" => "rejectedDataPoints",
        _ => "rejectedSpans",
    };
    match manner {
        Manner::TakesAll => json!({}),
        Manner::RefusesAll | Manner::PutsOff => json!({ "message": "no" }),
        Manner::Wordy => json!({ "partialSuccess": { rejected: "5", "errorMessage": long() } }),
        Manner::Silent => json!({ "partialSuccess": { rejected: 1 } }),
    }
    .to_string()
    .into_bytes()
}

fn long() -> String {
    "why ".repeat(1_000)
}

fn grpc(manner: Manner) -> Response<Body> {
    let message = protobuf(manner);
    let code = match manner {
        Manner::TakesAll | Manner::Wordy | Manner::Silent => "0",
        Manner::RefusesAll => "3",
        Manner::PutsOff => "14",
    };
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    body.extend(message);
    let trailers = HeaderMap::from_iter(
        [("grpc-status", HeaderValue::from_static(code))]
            .map(|(name, value)| (name.try_into().expect("a header's name"), value)),
    );
    let body = Full::from(body).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}
