//! The reference Collector as a process.
//!
//! **Invariant:** no Collector outlives its test.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::client::Http;
use crate::support::ports::free_port;
use crate::support::programs::{brought, start};
use crate::support::service::PATIENCE;

/// The configuration of a Collector, which can be started repeatedly on the same queue.
#[derive(Debug)]
pub(super) struct Setup {
    config: PathBuf,
    dir: PathBuf,
    /// The address on which it accepts OTLP.
    http: String,
    grpc: String,
    /// The address to which it sends.
    service: String,
}

/// A running Collector.
#[derive(Debug)]
pub(super) struct Collector(Child);

impl Setup {
    /// With the configuration `tests/collector/<name>.yaml`; queue and log lines in `dir`.
    pub(super) fn new(name: &str, dir: &Path, service: &str) -> Self {
        std::fs::create_dir_all(dir).expect("a directory of the test's can be made");
        Self {
            config: project(&format!("tests/collector/{name}.yaml")),
            dir: dir.to_owned(),
            http: format!("127.0.0.1:{}", free_port()),
            grpc: format!("127.0.0.1:{}", free_port()),
            service: service.to_owned(),
        }
    }

    /// The base URL of its OTLP/HTTP receiver.
    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Starts it and waits until it answers.
    pub(super) async fn start(&self) -> Collector {
        let mut command = brought("target/reference-collector/otelcol");
        command
            .arg("--config")
            .arg(&self.config)
            .args(["--config", "yaml:service::telemetry::metrics::level: none"])
            .env("QUEUE_DIRECTORY", self.dir.join("queue"))
            .env("OTLP_HTTP", &self.http)
            .env("OTLP_GRPC", &self.grpc)
            .env("RUVVECTOR", &self.service)
            .stdout(Stdio::null())
            .stderr(self.lines());
        let mut collector = Collector(start(&mut command));
        let (http, url) = (Http::default(), format!("{}/v1/traces", self.endpoint()));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = http.post(&url, "application/json", "{}").await;
            if answer.is_ok_and(|answer| answer.status.is_success()) {
                return collector;
            }
            let ended = collector.0.try_wait().expect("a child can be waited for");
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "the Collector does not answer ({ended:?}):\n{}",
                std::fs::read_to_string(self.dir.join("collector.log")).unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The file of its log lines.
    fn lines(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("collector.log"))
            .expect("the log lines' file can be opened")
    }
}

impl Collector {
    /// `kill -9`, and a wait for its end.
    pub(super) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
