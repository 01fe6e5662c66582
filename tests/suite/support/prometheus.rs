//! A real Prometheus server that scrapes one address.
//!
//! **Invariant:** the server ends with the test, and never runs as root.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Http;
use super::service::{PATIENCE, Service};

/// The user without rights, on every Linux.
const NOBODY: u32 = 65_534;

pub struct Prometheus {
    child: Child,
    _dir: tempfile::TempDir,
    address: String,
    http: Http,
}

impl Prometheus {
    /// Starts one that scrapes the service's `/metrics` every second.
    pub fn scraping(service: &Service) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ruvvector-prometheus")
            .tempdir()
            .expect("a temporary directory");
        let target = service.url("");
        let target = target.trim_start_matches("http://");
        let settings = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: ruvvector\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        std::fs::write(dir.path().join("prometheus.yml"), settings).expect("a file can be written");
        let address = TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("bound")
            .to_string();
        let mut server = Command::new("prometheus");
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY))
                .expect("root may give a directory away");
            server.uid(NOBODY).gid(NOBODY);
        }
        let child = server
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=warn")
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("Prometheus is installed: run the tests by scripts/test.sh");
        Self {
            child,
            _dir: dir,
            address,
            http: Http::default(),
        }
    }

    /// The value of an expression, from the server's own query API, once it exists and is `right`.
    pub async fn until(&self, expression: &str, right: impl Fn(f64) -> bool) -> f64 {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            if let Some(answer) = self.query(expression).await {
                let value = &answer["data"]["result"][0]["value"][1];
                if let Some(value) = value.as_str().and_then(|text| text.parse().ok())
                    && right(value)
                {
                    return value;
                }
                last = answer.to_string();
            }
            assert!(
                Instant::now() < deadline,
                "{expression}: not within {PATIENCE:?}; {last}"
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn query(&self, expression: &str) -> Option<Value> {
        let encoded: String = expression
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect();
        let url = format!("http://{}/api/v1/query?query={encoded}", self.address);
        let answer = self.http.get(&url).await.ok()?;
        answer.status.is_success().then(|| answer.json())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
