//! A server that reads a request's body, drops it and answers: the floor for any collector.
//!
//! **Invariant:** its transport is the service's: axum on hyper, HTTP/1.1, kept connections.

use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;

/// Serves until it is killed; first prints its address, as `{"address": "…"}`.
pub(crate) async fn serve() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    println!(r#"{{"address":"http://{address}"}}"#);
    let router = Router::new()
        .route("/v1/traces", post(dropped))
        .layer(DefaultBodyLimit::disable());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn dropped(body: Body) -> &'static str {
    let _ = body.collect().await.map(|body| body.to_bytes().len());
    ""
}
