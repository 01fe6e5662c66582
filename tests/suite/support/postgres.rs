//! A real PostgreSQL for tests.
//!
//! **Invariant:** no test sees another's database, and no server outlives the test that started it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor};

/// Halts a COPY at one event for as long as somebody holds the advisory lock 7.
pub const WAITING_TRIGGER: &str = "
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.integration = 'wait' THEN
            PERFORM pg_advisory_xact_lock_shared(7);
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER wait BEFORE INSERT ON telemetry_events FOR EACH ROW EXECUTE FUNCTION wait();";

fn environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "{name} is not set: run the tests by scripts/test.sh, or under scripts/with-postgres.sh"
        )
    })
}

/// A new, empty database in the cluster that `scripts/with-postgres.sh` started.
pub struct Database {
    pub url: String,
}

impl Database {
    pub async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = environment("RUVVECTOR_TEST_POSTGRES_URL");
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut admin = PgConnection::connect(&server)
            .await
            .expect("the test cluster answers");
        admin
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .expect("a database can be created");
        let (base, _) = server
            .rsplit_once('/')
            .expect("the URL ends in a database's name");
        Self {
            url: format!("{base}/{name}"),
        }
    }

    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::from_str(&self.url).expect("the URL is valid")
    }

    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url)
            .await
            .expect("the test database answers")
    }
}

/// A separate cluster, for tests that stop, kill or starve the server.
pub struct Cluster {
    dir: tempfile::TempDir,
    port: u16,
}

impl Cluster {
    /// Makes and starts one; blocks for a few seconds.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ruvvector-pg-own")
            .tempdir()
            .expect("a temporary directory");
        if is_root() {
            let done = Command::new("chown")
                .arg("postgres")
                .arg(dir.path())
                .status()
                .expect("chown runs");
            assert!(done.success());
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("bound")
            .port();
        let cluster = Self { dir, port };
        let data = cluster.data();
        let data = data.to_str().expect("UTF-8 path");
        cluster.run(
            "initdb",
            &[
                "-D",
                data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
        );
        cluster.resume();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The server's log.
    pub fn log(&self) -> String {
        let journal =
            std::fs::read(self.dir.path().join("server.log")).expect("the server has run");
        String::from_utf8_lossy(&journal).into_owned()
    }

    /// Starts a stopped server on the same port and data.
    pub fn resume(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=50",
            self.port
        );
        let journal = self.dir.path().join("server.log");
        self.run(
            "pg_ctl",
            &[
                "-D",
                self.data().to_str().expect("UTF-8 path"),
                "-l",
                journal.to_str().expect("UTF-8 path"),
                "-w",
                "-t",
                "60",
                "-o",
                &options,
                "start",
            ],
        );
    }

    /// `mode` is pg_ctl's: `fast`, or `immediate` for a crash.
    pub fn stop(&self, mode: &str) {
        self.run(
            "pg_ctl",
            &[
                "-D",
                self.data().to_str().expect("UTF-8 path"),
                "-m",
                mode,
                "-w",
                "stop",
            ],
        );
    }

    /// Makes the stopped server start as a standby without a primary.
    pub fn become_standby(&self) {
        std::fs::write(self.data().join("standby.signal"), "").expect("the directory is ours");
    }

    /// Stops the server and all its backends in place: connections stay, and nothing answers.
    pub fn hang(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Undoes [`Cluster::hang`].
    pub fn go_on(&self) {
        self.signal_all(Signal::CONT);
    }

    fn signal_all(&self, signal: Signal) {
        let postmaster = self.pid();
        let send = |pid: i32| {
            // A backend may end at any time.
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
        };
        send(postmaster);
        let children =
            std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"))
                .expect("Linux lists a process's children");
        children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .for_each(send);
    }

    /// The postmaster's process id.
    pub fn pid(&self) -> i32 {
        let file =
            std::fs::read_to_string(self.data().join("postmaster.pid")).expect("the server runs");
        file.lines()
            .next()
            .and_then(|line| line.parse().ok())
            .expect("the first line is the process id")
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = PathBuf::from(environment("RUVVECTOR_TEST_POSTGRES_BIN")).join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(&program);
            command
        } else {
            Command::new(&program)
        };
        let done = command
            .args(arguments)
            .current_dir("/")
            .stdout(Stdio::null())
            .status()
            .expect("the program runs");
        assert!(done.success(), "{} {arguments:?} failed", program.display());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.stop("immediate");
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
