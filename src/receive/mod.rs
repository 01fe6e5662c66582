//! The way in: connections, bodies under limits, the answer that a client gets.
//!
//! **Invariant:** no success is answered before [`Log::append`] has returned.

use std::path::PathBuf;
use std::time::Duration;

use crate::decode;
use crate::log::Log;
use crate::write::Progress;

/// Settings of the way in.
#[derive(Clone, Debug)]
pub struct Options {
    pub otlp_wire_bytes: usize,
    pub otlp_decoded_bytes: usize,
    pub ingest_wire_bytes: usize,
    pub ingest_decoded_bytes: usize,
    /// Decoded bytes of all requests in flight; `None` = 256 MiB or a quarter of the memory limit, whichever is less.
    pub inflight_bytes: Option<usize>,
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    pub body_idle_timeout: Duration,
    pub handling_timeout: Duration,
    pub keep_alive_idle: Duration,
    pub connection_age: Duration,
    pub connections: usize,
    pub http2_streams: u32,
    /// `Authorization: Bearer …` that is asked for on everything but `/health*` and `/metrics`; empty = none.
    pub auth_tokens: Vec<secrecy::SecretString>,
    /// Origins that browsers may send from.
    pub cors_origins: Vec<String>,
    pub decode: decode::Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            otlp_wire_bytes: 64 << 20,
            otlp_decoded_bytes: 64 << 20,
            ingest_wire_bytes: 20 << 20,
            ingest_decoded_bytes: 64 << 20,
            inflight_bytes: None,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_idle_timeout: Duration::from_secs(10),
            handling_timeout: Duration::from_secs(8),
            keep_alive_idle: Duration::from_secs(60),
            connection_age: Duration::from_secs(300),
            connections: 2048,
            http2_streams: 128,
            auth_tokens: Vec::new(),
            cors_origins: Vec::new(),
            decode: decode::Limits::default(),
        }
    }
}

/// What every handler of the way in needs.
#[derive(Clone)]
pub struct Receiver {
    pub log: Log,
    pub progress: Progress,
    pub options: std::sync::Arc<Options>,
}

/// Where the data lives, for warnings.
pub type DataDir = PathBuf;
