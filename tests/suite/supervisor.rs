//! The service's messages to systemd, on a socket of the test.
//!
//! **Invariant:** the order of events is observed from outside, by messages and answers, never by how long something
//! took.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::support::service::{Launch, PATIENCE, Service};

/// The supervisor's end.
struct Socket(UnixDatagram);

impl Socket {
    fn at(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).expect("a socket can be made there"))
    }

    fn abstract_named(name: &str) -> Self {
        let address = SocketAddr::from_abstract_name(name).expect("a short name");
        let socket = StdDatagram::bind_addr(&address).expect("the name is free");
        socket.set_nonblocking(true).expect("it can be");
        Self(UnixDatagram::from_std(socket).expect("on the runtime"))
    }

    async fn next(&self) -> String {
        let mut buffer = vec![0; 4096];
        let length = timeout(PATIENCE, self.0.recv(&mut buffer))
            .await
            .expect("the service says something")
            .expect("a datagram");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    /// The next message with that text, and all before it.
    async fn until(&self, text: &str) -> (Vec<String>, String) {
        let mut before = Vec::new();
        loop {
            let message = self.next().await;
            if message.contains(text) {
                return (before, message);
            }
            before.push(message);
        }
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// The first sync of each thread takes that long.
fn slow_first_sync(launch: &Launch, delay: Duration) -> Launch {
    let inject = format!(
        "inject=fsync,fdatasync:delay_enter={}:when=1",
        delay.as_micros()
    );
    let strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null"];
    let what = ["-e", "trace=fsync,fdatasync", "-e", &inject];
    launch.clone().under(&[&strace[..], &what[..]].concat())
}

fn told(launch: &Launch, path: &Path) -> Launch {
    launch
        .clone()
        .with("NOTIFY_SOCKET", path.to_str().expect("text"))
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_comes_with_the_first_200_and_stopping_before_the_ports_close() {
    let recovery = Duration::from_secs(6);
    let dir = directory();
    let path = dir.path().join("notify");
    let socket = Socket::at(&path);
    let launch = told(&Launch::sqlite(dir.path()), &path).with("RUVVECTOR_SHUTDOWN_DELAY", "3s");
    let mut service = slow_first_sync(&launch, recovery).spawn();

    let (before, ready) = socket.until("READY=1").await;
    assert!(
        before.iter().any(|message| {
            message.starts_with("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=recovering the journal in /")
        }),
        "{before:?}"
    );
    let status = ready.strip_prefix("READY=1\nSTATUS=").expect(&ready);
    let main = status.strip_prefix("main at ").expect(status);
    let (main, rest) = main.split_once(", otlp_http at http://").expect(status);
    assert!(
        rest.contains("; stored in SQLite /") && rest.ends_with("/data/telemetry.db"),
        "{status}"
    );
    // If it had been sent before the journal was recovered, the answer would arrive only after that.
    let answer = timeout(
        recovery / 2,
        service.http.get(&format!("{main}/health/ready")),
    )
    .await
    .expect("it answers at once")
    .expect("it listens");
    assert_eq!(answer.status.as_u16(), 200);

    service.until_ready().await;
    service.signal(Signal::TERM);
    let (_, stopping) = socket.until("STOPPING=1").await;
    // 3 s of shutdown delay, 5 s of grace, and a minute.
    assert!(
        stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=68000000\nSTATUS=stopping"),
        "{stopping}"
    );
    let answer = service.get("/health/ready").await;
    assert_eq!(answer.status.as_u16(), 503);
    assert!(service.ended(PATIENCE).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn watchdog_pings_stop_while_the_journal_hangs_and_return_after() {
    let hang = Duration::from_secs(4);
    let dir = directory();
    let path = dir.path().join("notify");
    let socket = Socket::at(&path);
    let launch = told(&Launch::sqlite(dir.path()), &path).with("WATCHDOG_USEC", "300000");
    let mut service = slow_first_sync(&launch, hang).spawn();
    service.until_ready().await;
    for _ in 0..3 {
        socket.until("WATCHDOG=1").await;
    }

    let event = r#"{"correlationId":"a","integration":"b","eventType":"c"}"#;
    let (http, url) = (service.http.clone(), service.url("/ingest"));
    let mut posted = tokio::spawn(async move { http.post(&url, "application/json", event).await });
    let mut signs = 0;
    let answer = loop {
        tokio::select! {
            answer = &mut posted => break answer.expect("no panic").expect("an answer"),
            message = socket.next() => signs += u32::from(message.contains("WATCHDOG=1")),
        }
    };
    assert_eq!(answer.status.as_u16(), 200);
    // 40 of them fit into the time; a few arrive before the sync begins.
    assert!(
        signs < 10,
        "{signs} signs of life from a journal that hangs"
    );
    socket.until("WATCHDOG=1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_database_is_a_status_and_no_reason_to_be_killed() {
    let dir = directory();
    let name = format!("ruvvector-test-{}", std::process::id());
    let socket = Socket::abstract_named(&name);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let url = format!("postgres://u:hunter2@{}/events", free.expect("a port"));
    let launch = Launch::postgres(dir.path(), &url)
        .with("NOTIFY_SOCKET", &format!("@{name}"))
        .with("WATCHDOG_USEC", "300000");
    let mut service = launch.spawn();
    let (before, ready) = socket.until("READY=1").await;
    let (between, degraded) = socket.until("STATUS=degraded").await;
    assert!(
        degraded.contains("the database (postgres) does not answer"),
        "{degraded}"
    );
    assert!(
        degraded.contains("; stored in PostgreSQL u@127.0.0.1:"),
        "{degraded}"
    );
    for _ in 0..10 {
        socket.until("WATCHDOG=1").await;
    }
    let all = [before, between, vec![ready, degraded]].concat().concat();
    assert!(!all.contains("hunter2"), "{all}");
    service.until_ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notify_socket_that_is_none_is_a_log_line_and_nothing_more() {
    for name in ["vsock:2:1234", "/nonexistent/notify"] {
        let dir = directory();
        let launch = Launch::sqlite(dir.path()).with("NOTIFY_SOCKET", name);
        let mut service: Service = launch.start().await;
        if !name.starts_with('/') {
            assert!(service.lines().contains("NOTIFY_SOCKET=vsock:2:1234"));
        }
        service.signal(Signal::INT);
        assert!(service.ended(PATIENCE).await.success());
    }
}
