//! HTTP as bytes: a client that can send what no well-behaved library would, and one for HTTP/2 without TLS.
//!
//! **Invariant:** nothing waits for ever: an answer that does not arrive within a minute fails the test.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection of HTTP/1.1, byte by byte.
pub struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer as it arrived.
#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl RawAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address)
                .await
                .expect("the server listens"),
            received: Vec::new(),
        }
    }

    /// A connection that was made while the runtime did not run.
    pub fn of(stream: std::net::TcpStream) -> Self {
        stream.set_nonblocking(true).expect("a socket");
        Self {
            stream: TcpStream::from_std(stream).expect("a socket"),
            received: Vec::new(),
        }
    }

    /// Sends as much as the server accepts, and returns true if that was all.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Sends that much without letting the runtime run.
    pub fn send_at_once(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let sent = self.stream.try_write(bytes).expect("room in the socket");
        assert_eq!(sent, bytes.len());
    }

    /// The next answer, including `100 Continue`; `None` if the connection ended instead.
    pub async fn answer(&mut self) -> Option<RawAnswer> {
        let end = loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                break end;
            }
            if !self.receive().await {
                return None;
            }
        };
        let head = String::from_utf8(self.received.drain(..end + 4).collect()).expect("ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line[9..12].parse().expect("a status");
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').expect("a header"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length = length.map_or(0, |(_, value)| value.parse().expect("a length"));
        while self.received.len() < length {
            assert!(self.receive().await, "the answer is cut short");
        }
        let body = self.received.drain(..length).collect();
        Some(RawAnswer {
            status,
            headers,
            body,
        })
    }

    /// Waits for the end of the connection; panics if something else arrives.
    pub async fn closed(&mut self) {
        assert!(!self.receive().await && self.received.is_empty());
    }

    /// True if more has arrived.
    async fn receive(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut bytes)).await;
        match read.expect("an answer or the end within a minute") {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.received.extend_from_slice(&bytes[..length]);
                true
            }
        }
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

/// HTTP/2 with prior knowledge, on one connection while that lasts.
pub fn http2() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http()
}
