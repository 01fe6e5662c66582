//! Our own binary, in each of the situations, and the rows that it kept.
//!
//! **Invariant:** each situation has one process with its own store, started when a check first asks for it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, Uri};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::server::{ATTRIBUTES, Address, ORIGIN, Situation, TOKEN};
use crate::support::client::Http;
use crate::support::service::{Launch, PATIENCE, Service};
use crate::telemetry::Mark;

#[derive(Default)]
pub(crate) struct Ours {
    running: HashMap<Situation, Running>,
}

struct Running {
    service: Service,
    // Declared after the service, which writes there until it has ended.
    _dir: TempDir,
}

impl Ours {
    pub(crate) fn address(&mut self, situation: Situation, runtime: &Runtime) -> Address {
        let running = self.started(situation, runtime);
        Address {
            http: uri(&running.service.otlp_http()),
            grpc: Some(uri(&running.service.otlp_grpc())),
        }
    }

    /// The base URL of the queries.
    pub(crate) fn main(&mut self, situation: Situation, runtime: &Runtime) -> String {
        self.started(situation, runtime).service.url("")
    }

    fn started(&mut self, situation: Situation, runtime: &Runtime) -> &Running {
        self.running
            .entry(situation)
            .or_insert_with(|| start(situation, runtime))
    }

    /// The rows with that mark: at least as many as wanted, or all of them once nothing waits to be stored.
    ///
    /// # Errors
    /// If the service cannot be asked.
    pub(crate) async fn rows(base: &str, mark: &Mark, wanted: usize) -> Result<Vec<Json>, String> {
        let deadline = Instant::now() + PATIENCE;
        let query = format!("{base}/query?correlationId={}", mark.text());
        loop {
            let metrics = get(&format!("{base}/metrics")).await?.unwrap_or_default();
            let mut lines = metrics.lines();
            let is_drained = lines.any(|line| line == "ruvvector_queue_events 0");
            if let Some(answer) = get(&query).await? {
                let rows: Vec<Json> = serde_json::from_str(&answer)
                    .map_err(|error| format!("/query answered no array: {error}"))?;
                if is_drained || (wanted > 0 && rows.len() >= wanted) {
                    return Ok(rows);
                }
            }
            if Instant::now() > deadline {
                return Err(format!("nothing more is stored within {PATIENCE:?}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn start(situation: Situation, runtime: &Runtime) -> Running {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let launch = Launch::sqlite(dir.path());
    let launch = match situation {
        Situation::Plain => launch,
        // A browser's preflight has no token, even if the request that follows has one.
        Situation::Cors => launch
            .with("RUVVECTOR_CORS_ORIGINS", ORIGIN)
            .with("RUVVECTOR_AUTH_TOKENS", TOKEN),
        Situation::Auth => launch.with("RUVVECTOR_AUTH_TOKENS", TOKEN),
        // More free space than any volume has.
        Situation::Refusing => launch.with("RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES", "1000000GiB"),
        Situation::Strict => launch.with("RUVVECTOR_STRICT_OTLP_JSON", "true"),
        Situation::Cutting => launch.with("RUVVECTOR_MAX_ATTRIBUTES", &ATTRIBUTES.to_string()),
    };
    let service = runtime.block_on(launch.start());
    Running { service, _dir: dir }
}

/// The stored rows; `None` while the store is not ready.
async fn get(url: &str) -> Result<Option<String>, String> {
    let token = format!("Bearer {TOKEN}");
    let headers = [("authorization", &*token)];
    let http = Http::default();
    let answer = http.send(Method::GET, url, &headers, Bytes::new());
    let answer = answer.await.map_err(|error| format!("{url}: {error}"))?;
    match answer.status.as_u16() {
        200 => Ok(Some(answer.text())),
        503 => Ok(None),
        status => Err(format!("{url}: {status}: {}", answer.text())),
    }
}

fn uri(url: &str) -> Uri {
    url.parse().expect("the start-up lines hold URLs")
}
