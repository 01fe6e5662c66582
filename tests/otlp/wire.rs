//! Connections to any server, HTTP/1.1 and HTTP/2 without TLS, and the answers over them.
//!
//! **Invariant:** nothing waits for ever, and a missing answer is reported as the observation, never as a panic.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for any answer, including a loaded server's answer to the largest request.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub(crate) struct Connection(Sender);

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects to the authority of that URL.
    ///
    /// # Errors
    /// The observation instead of a connection.
    pub(crate) async fn open(url: &Uri, version: Version) -> Result<Self, String> {
        let authority = url.authority().ok_or("the URL names no host")?;
        let port = authority.port_u16().unwrap_or(80);
        let host = authority.host().trim_matches(['[', ']']);
        let stream = timeout(PATIENCE, TcpStream::connect((host, port)))
            .await
            .map_err(|_| format!("no connection within {PATIENCE:?}"))?
            .map_err(|error| format!("no connection to {authority}: {error}"))?;
        // Otherwise the last piece of a request waits for an acknowledgement of the piece before.
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let io = TokioIo::new(stream);
        match version {
            Version::Http1 => {
                let (sender, connection) =
                    http1::handshake(io).await.map_err(|error| said(&error))?;
                tokio::spawn(connection);
                Ok(Self(Sender::Http1(sender)))
            }
            Version::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io)
                    .await
                    .map_err(|error| said(&error))?;
                tokio::spawn(connection);
                Ok(Self(Sender::Http2(sender)))
            }
        }
    }

    /// # Errors
    /// The observation instead of a whole answer.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        timeout(PATIENCE, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Reply, String> {
        let response = match &mut self.0 {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(|error| said(&error))?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(|error| said(&error))?;
                sender.send_request(request).await
            }
        };
        let (head, body) = response.map_err(|error| said(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| said(&error))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
            trailers,
        })
    }

    /// A second handle on an HTTP/2 connection, for calls at the same time.
    pub(crate) fn share(&self) -> Option<Self> {
        match &self.0 {
            Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self(Sender::Http2(sender.clone()))),
        }
    }
}

/// An error with its causes.
fn said(error: &hyper::Error) -> String {
    let mut text = format!("the connection broke: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
