//! The real binary, as a separate process on free ports.
//!
//! **Invariant:** no process outlives its test, and a test that fails shows the process's output.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::client::{Answer, Http};
use super::metrics::Page;

/// The time after which a test fails while it waits for a start, a recovery or a drain on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The configuration of a process, which can be started repeatedly on the same data.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Holds `data/` and the log lines.
    dir: PathBuf,
    environment: Vec<(String, String)>,
    /// A program that runs the binary, with its arguments.
    under: Vec<String>,
    /// The subcommand; empty = serve.
    command: Vec<String>,
}

impl Launch {
    /// With the embedded store in `dir`.
    pub fn sqlite(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            environment: Vec::new(),
            under: Vec::new(),
            command: Vec::new(),
        }
        .with("RUVVECTOR_STORE", "sqlite")
        .in_dir(dir)
        .with("RUVVECTOR_SERVICE_PORT", "0")
        .with("RUVVECTOR_OTLP_HTTP_PORT", "0")
        .with("RUVVECTOR_OTLP_GRPC_PORT", "0")
        .with("RUVVECTOR_BIND", "127.0.0.1")
    }

    /// With its journal in `dir` and PostgreSQL at that URL.
    pub fn postgres(dir: &Path, url: &str) -> Self {
        Self::sqlite(dir)
            .with("RUVVECTOR_STORE", "postgres")
            .with("DATABASE_URL", url)
    }

    fn in_dir(mut self, dir: &Path) -> Self {
        self.dir = dir.to_owned();
        let data = dir.join("data");
        self.with(
            "RUVVECTOR_DATA_DIR",
            data.to_str().expect("temporary paths are UTF-8"),
        )
    }

    /// Sets or replaces an environment variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    /// Runs the binary by another program, such as `strace`.
    pub fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(ToString::to_string).collect();
        self
    }

    /// Runs another subcommand than serve.
    pub fn command(mut self, arguments: &[&str]) -> Self {
        self.command = arguments.iter().map(ToString::to_string).collect();
        self
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The embedded store's file.
    pub fn sqlite_file(&self) -> PathBuf {
        self.data_dir().join("telemetry.db")
    }

    /// The same settings on another directory.
    pub fn moved(&self, dir: &Path) -> Self {
        self.clone().in_dir(dir)
    }

    /// Starts it without waiting.
    pub fn spawn(&self) -> Service {
        self.spawn_with(None)
    }

    /// Starts it on these ports with its log lines written to `stderr`, so that they cannot be read here, and does not
    /// wait. The ports are those of the settings, in the order main, OTLP/HTTP, OTLP/gRPC.
    pub fn spawn_unheard(&self, stderr: Stdio, ports: [u16; 3]) -> Service {
        let mut service = self.spawn_with(Some(stderr));
        let [main, http, grpc] = ports.map(|port| Some(format!("http://127.0.0.1:{port}")));
        (service.main, service.otlp_http, service.otlp_grpc) = (main, http, grpc);
        service
    }

    fn spawn_with(&self, stderr: Option<Stdio>) -> Service {
        std::fs::create_dir_all(self.data_dir()).expect("the test's directory can be made");
        let journal = self.dir.join("service.log");
        let (lines_before, file) = append_to(&journal);
        let stderr = stderr.unwrap_or_else(|| file.try_clone().expect("it can be cloned").into());
        let binary = env!("CARGO_BIN_EXE_ruvvector-service");
        let mut command = match self.under.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        let child = command
            .args(&self.command)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(stderr)
            .spawn()
            .expect("the binary runs");
        Service {
            child,
            journal,
            lines_before,
            main: None,
            otlp_http: None,
            otlp_grpc: None,
            http: Http::default(),
        }
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&self) -> Service {
        let mut service = self.spawn();
        service.until_ready().await;
        service
    }
}

/// Opens the file of log lines, and counts the lines of earlier runs.
fn append_to(journal: &Path) -> (usize, File) {
    let before = std::fs::read_to_string(journal).map_or(0, |text| text.lines().count());
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(journal)
        .expect("the log lines' file can be opened");
    (before, file)
}

/// A process of the service.
pub struct Service {
    child: Child,
    journal: PathBuf,
    /// Of earlier processes on the same directory.
    lines_before: usize,
    main: Option<String>,
    otlp_http: Option<String>,
    otlp_grpc: Option<String>,
    pub http: Http,
}

impl Service {
    /// `http://address:port/path` on the main listener.
    pub fn url(&self, path: &str) -> String {
        let base = self.main.as_ref().expect("the service was ready");
        format!("{base}{path}")
    }

    /// The base URL of the OTLP/HTTP listener, as SDKs are given it.
    pub fn otlp_http(&self) -> String {
        self.otlp_http.clone().expect("the service was ready")
    }

    /// The URL of the OTLP/gRPC listener, as SDKs are given it.
    pub fn otlp_grpc(&self) -> String {
        self.otlp_grpc.clone().expect("the service was ready")
    }

    /// The address of the OTLP/HTTP listener.
    pub fn otlp_http_address(&self) -> SocketAddr {
        address(&self.otlp_http())
    }

    /// The address of the OTLP/gRPC listener.
    pub fn grpc_address(&self) -> SocketAddr {
        address(&self.otlp_grpc())
    }

    /// Waits for the listeners' lines and for `/health/ready`.
    pub async fn until_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!(
                    "the service ended with {status} before it was ready:\n{}",
                    self.lines()
                );
            }
            if self.try_ready().await {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not ready within {PATIENCE:?}:\n{}",
                self.lines()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// True if it listens and reports that it is ready.
    pub async fn try_ready(&mut self) -> bool {
        self.find_listeners()
            && self
                .http
                .get(&self.url("/health/ready"))
                .await
                .is_ok_and(|answer| answer.status.is_success())
    }

    /// Reads the listeners' addresses from the start-up lines; returns true if all are known.
    fn find_listeners(&mut self) -> bool {
        if self.knows_listeners() {
            return true;
        }
        for line in self.lines().lines() {
            let Ok(event) = serde_json::from_str::<serde_json::Value>(line) else {
                continue;
            };
            let urls = event["address"].as_str();
            let address = urls
                .and_then(|urls| urls.split(", ").next())
                .map(str::to_owned);
            match event["listener"].as_str() {
                Some("main") => self.main = address,
                Some("otlp_http") => self.otlp_http = address,
                Some("otlp_grpc") => self.otlp_grpc = address,
                _ => {}
            }
        }
        self.knows_listeners()
    }

    fn knows_listeners(&self) -> bool {
        self.main.is_some() && self.otlp_http.is_some() && self.otlp_grpc.is_some()
    }

    /// The output of this process so far.
    pub fn lines(&self) -> String {
        let text = std::fs::read(&self.journal).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().skip(self.lines_before).collect();
        lines.join("\n")
    }

    pub async fn health(&self) -> serde_json::Value {
        self.get("/health").await.json()
    }

    /// True if `/health/ready` answers 200.
    pub async fn is_ready(&self) -> bool {
        self.get("/health/ready").await.status.is_success()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.http
            .get(&self.url(path))
            .await
            .unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    pub async fn metrics(&self) -> Page {
        Page::parse(&self.get("/metrics").await.text())
    }

    /// Waits until all that was acknowledged is in the database.
    pub async fn until_drained(&self) {
        self.until("the journal is drained", async |service: &Self| {
            service.metrics().await.sum("ruvvector_queue_events") == 0.0
        })
        .await;
    }

    /// Waits until this process has stored an event.
    pub async fn until_events_are_stored(&self) {
        self.until("events are stored", async |service: &Service| {
            service.metrics().await.sum("ruvvector_write_events_total") > 0.0
        })
        .await;
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self).await {
            assert!(
                Instant::now() < deadline,
                "{what}: not within {PATIENCE:?}; {}",
                self.health().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The address of the main listener.
    pub fn address(&self) -> SocketAddr {
        address(self.main.as_ref().expect("the service was ready"))
    }

    /// Descriptors that the process has open.
    pub fn open_descriptors(&self) -> u64 {
        let path = format!("/proc/{}/fd", self.pid().as_raw_nonzero());
        let open = std::fs::read_dir(path).expect("the process is there");
        open.count() as u64
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    /// `kill -9`, and a wait for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "still there after {within:?}:\n{}",
                self.lines()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// True if the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_some()
    }

    /// The most memory that the process ever held, in bytes (`VmHWM`, proc_pid_status(5)).
    pub fn peak_memory_bytes(&self) -> u64 {
        self.memory_bytes("VmHWM:")
    }

    /// The memory that the process holds, in bytes (`VmRSS`).
    pub fn resident_bytes(&self) -> u64 {
        self.memory_bytes("VmRSS:")
    }

    fn memory_bytes(&self, name: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid().as_raw_nonzero());
        let status = std::fs::read_to_string(path).expect("the process is there");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("Linux tells of it");
        let kib: u64 = line
            .trim()
            .trim_end_matches("kB")
            .trim()
            .parse()
            .expect("a number of kB");
        kib * 1024
    }
}

/// The host and port of a URL without a path.
fn address(url: &str) -> SocketAddr {
    let address = url.trim_start_matches("http://");
    address.parse().expect("an address and a port")
}

impl Drop for Service {
    #[expect(clippy::print_stderr, reason = "what a failed test shows")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.lines();
            let from = lines.len().saturating_sub(8_000);
            let from = (from..=lines.len())
                .find(|at| lines.is_char_boundary(*at))
                .unwrap_or(0);
            eprintln!("--- the service said, at the end:\n{}", &lines[from..]);
        }
        self.kill();
    }
}
