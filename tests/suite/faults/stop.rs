//! The service is asked to stop.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{directory, drained, setting};
use crate::support::ledger::Ledger;
use crate::support::load::{Load, Shape};
use crate::support::postgres::{Cluster, Database};
use crate::support::service::{Launch, Service};

/// Longer than the grace time and a request's handling time together.
const STOP: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_and_with_a_stuck_client_ends_by_itself_and_loses_nothing() {
    let stops: u32 = setting("RUVVECTOR_TEST_STOPS", 3);
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);

    for _ in 0..stops {
        let mut service = launch.start().await;
        load.aim(&service);
        let stuck = half_a_request(&service).await;
        service
            .until("events are stored", async |service: &Service| {
                service.metrics().await.sum("ruvvector_write_events_total") > 0.0
            })
            .await;
        service.signal(Signal::TERM);
        let status = service.ended(STOP).await;
        assert!(status.success(), "{status}");
        drop(stuck);
    }

    let _service = drained(&launch, load).await;
    ledger.assert_stored_in_postgres(&database.url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_at_once_and_loses_nothing_acknowledged() {
    let cluster = Cluster::start();
    cluster.stop("fast");
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &cluster.url());
    // Nothing can be written, so that a first SIGTERM alone would wait for all of its grace time.
    let patient = launch.clone().with("RUVVECTOR_SHUTDOWN_GRACE", "300s");
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);

    let mut service = patient.start().await;
    load.aim(&service);
    service
        .until("events wait in the log", async |service: &Service| {
            service.metrics().await.sum("ruvvector_queue_events") > 0.0
        })
        .await;
    service.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!service.has_ended(), "it waits for the database");
    service.signal(Signal::TERM);
    service.ended(Duration::from_secs(10)).await;

    cluster.resume();
    let _service = drained(&launch, load).await;
    ledger.assert_stored_in_postgres(&cluster.url()).await;
}

/// A client that sends the head and some of the body, and then nothing.
async fn half_a_request(service: &Service) -> TcpStream {
    let address = service.url("");
    let address = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream
        .write_all(b"POST /ingest HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        .await
        .expect("it reads");
    stream
}
