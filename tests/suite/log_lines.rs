//! Log lines of the real binary, and a standard error that nobody reads.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use crate::support::ports::free_port;
use crate::support::service::{Launch, Service};

/// Longer than a loaded machine takes to stop in order.
const STOP: Duration = Duration::from_secs(60);

const DROPPED: &str = "ruvvector_log_lines_dropped_total";

/// A full pipe, so that a write into it waits for a reader.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("a pipe has flags");
    let mut piece = vec![b'x'; 4096];
    while !piece.is_empty() {
        while writer.write(&piece).is_ok() {}
        piece.truncate(piece.len() / 2);
    }
    fcntl_setfl(&writer, OFlags::empty()).expect("a pipe has flags");
    (reader, writer)
}

/// A service that logs as much as possible into a pipe that is full already.
async fn unheard(dir: &tempfile::TempDir) -> (Service, PipeReader) {
    let ports = [free_port(), free_port(), free_port()];
    let launch = Launch::sqlite(dir.path())
        .with("RUVVECTOR_SERVICE_PORT", &ports[0].to_string())
        .with("RUVVECTOR_OTLP_HTTP_PORT", &ports[1].to_string())
        .with("RUVVECTOR_OTLP_GRPC_PORT", &ports[2].to_string())
        .with("RUVVECTOR_LOG_LEVEL", "trace");
    let (reader, writer) = full_pipe();
    let mut service = launch.spawn_unheard(writer.into(), ports);
    service.until_ready().await;
    (service, reader)
}

/// Sends events until more log lines were written than there is room for.
async fn until_lines_are_dropped(service: &Service) {
    service
        .until("lines are dropped", async |service: &Service| {
            for n in 0..50 {
                let body =
                    format!(r#"{{"correlationId":"{n}","integration":"shop","eventType":"sent"}}"#);
                let answer = service
                    .http
                    .post(&service.url("/ingest"), "application/json", body)
                    .await;
                assert_eq!(answer.expect("an answer").status, 200);
            }
            service.metrics().await.sum(DROPPED) > 0.0
        })
        .await;
}

/// Standard error was a pipe to a program that had stopped reading. Once the pipe was full, no request was answered,
/// including `/health/live`, and SIGTERM had no effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_standard_error_that_nobody_reads_stops_neither_requests_nor_the_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut service, reader) = unheard(&dir).await;
    until_lines_are_dropped(&service).await;
    assert_eq!(service.get("/health/live").await.status, 200);
    service.until_drained().await;

    service.signal(Signal::TERM);
    let status = service.ended(STOP).await;
    assert_eq!(status.code(), Some(0), "{status}");
    drop(reader);
}

/// As above; a second signal, which ends the process at once, waited for the pipe too.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_process_whose_lines_nobody_reads() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut service, reader) = unheard(&dir).await;
    let stuck = std::net::TcpStream::connect(service.address()).expect("it listens");
    (&stuck)
        .write_all(b"POST /ingest HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        .expect("it reads");
    service.signal(Signal::INT);
    service.signal(Signal::TERM);
    let status = service.ended(STOP).await;
    // The first alone may have been enough.
    assert!(matches!(status.code(), Some(0 | 130)), "{status}");
    drop(reader);
}

/// Lines that found no space were lost without a trace.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_back_sees_how_many_lines_it_has_missed() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (mut service, mut reader) = unheard(&dir).await;
    until_lines_are_dropped(&service).await;
    let lines = std::thread::spawn(move || {
        let mut lines = Vec::new();
        reader.read_to_end(&mut lines).expect("a pipe can be read");
        String::from_utf8(lines).expect("lines are text")
    });
    service.signal(Signal::TERM);
    let status = service.ended(STOP).await;
    assert_eq!(status.code(), Some(0), "{status}");
    let lines = lines.join().expect("it reads");
    let report = lines
        .lines()
        .find(|line| line.contains(" log lines were dropped"))
        .unwrap_or_else(|| panic!("no report among {} lines", lines.lines().count()));
    let report: serde_json::Value = serde_json::from_str(report).expect("a whole line");
    assert_eq!(report["level"], "ERROR");
}

/// A start that failed waited for the reader of its error for ever, and so was never tried again.
#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_start_end_it_though_nobody_reads_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path());
    let bad_setting = launch.clone().with("RUVVECTOR_LOG_LEVEL", "warning");
    let bad_flag = launch.clone().command(&["--retention-day", "3"]);
    // The directory's journal is a plain file, so that the service begins and fails.
    let occupied = launch.clone();
    std::fs::create_dir_all(occupied.data_dir()).expect("it can be made");
    std::fs::write(occupied.data_dir().join("journal"), "").expect("it can be written");
    for (launch, code) in [(bad_setting, 2), (bad_flag, 2), (occupied, 1)] {
        let (reader, writer) = full_pipe();
        let mut service = launch.spawn_unheard(writer.into(), [0; 3]);
        let status = service.ended(STOP).await;
        assert_eq!(status.code(), Some(code), "{status}");
        drop(reader);
    }
}
