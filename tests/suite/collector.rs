//! The reference Collector as a client, configured as the documentation says.
//!
//! **Invariant:** items that the Collector acknowledged are compared with the table; reports of the Collector or the
//! service do not count.

use std::time::{Duration, Instant};

use crate::support::ports::free_port;
use crate::support::postgres::Cluster;
use crate::support::service::{Launch, Service};
use items::{Sender, Signal};
use process::Setup;

/// Numbered items of each signal, and those of them that are stored.
mod items;

/// The Collector.
mod process;

/// The time for which the service is down.
const AWAY: Duration = Duration::from_secs(20);

/// The protocol between the Collector and the service; the name is its configuration's in `tests/collector/`.
const WAYS: [&str; 2] = ["http", "grpc"];

const SIGNALS: [Signal; 3] = [Signal::Traces, Signal::Logs, Signal::Metrics];

#[tokio::test(flavor = "multi_thread")]
async fn a_persistent_queue_loses_nothing_while_the_service_the_collector_and_the_database_die() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().expect("a temporary directory");
    // A Collector has one configured address, so each start of the service has to use it.
    let launch = Launch::postgres(dir.path(), &cluster.url())
        .with("RUVVECTOR_OTLP_HTTP_PORT", &free_port().to_string())
        .with("RUVVECTOR_OTLP_GRPC_PORT", &free_port().to_string());
    let mut service = launch.start().await;

    let mut setups = Vec::new();
    let mut collectors = Vec::new();
    let mut senders = Vec::new();
    for way in WAYS {
        let endpoint = match way {
            "http" => service.otlp_http(),
            _ => service.otlp_grpc().replace("http://", ""),
        };
        let setup = Setup::new(way, &dir.path().join(way), &endpoint);
        collectors.push(setup.start().await);
        for signal in SIGNALS {
            senders.push(Sender::start(signal, way, &setup.endpoint()));
        }
        setups.push(setup);
    }
    for sender in &senders {
        sender.until_stored(&cluster).await;
    }

    service.kill();
    let killed = Instant::now();
    for sender in &mut senders {
        sender.mark();
    }
    tokio::time::sleep(AWAY / 4).await;
    for (collector, setup) in collectors.iter_mut().zip(&setups) {
        collector.kill();
        *collector = setup.start().await;
    }
    tokio::time::sleep_until((killed + AWAY).into()).await;

    cluster.stop("fast");
    let service = launch.start().await;
    service
        .until(
            "what waited is taken without the database",
            async |service: &Service| service.metrics().await.sum("ruvvector_queue_events") > 0.0,
        )
        .await;
    cluster.resume();

    for sender in &mut senders {
        sender.stop().await;
    }
    for sender in &senders {
        sender.until_stored(&cluster).await;
    }
    service.until_drained().await;
    service.metrics().await.assert_balance();
    for sender in &senders {
        sender.assert_stored(&cluster).await;
    }
}
