//! The process is killed, and its directory copied.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::{directory, drained, in_turn, setting};
use crate::support::ledger::Ledger;
use crate::support::load::{Load, Shape};
use crate::support::postgres::{Cluster, Database};
use crate::support::service::Launch;

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_and_during_recovery_loses_and_doubles_nothing() {
    let kills: u64 = setting("RUVVECTOR_TEST_KILLS", 50);
    let database = Database::new().await;
    let dir = directory();
    let launch = Launch::postgres(dir.path(), &database.url);
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);

    for round in 0..kills {
        let mut service = in_turn(&launch, round / 2).spawn();
        // Every third one dies early: before, while or just after the journal is recovered.
        if round % 3 == 2 {
            tokio::time::sleep(Duration::from_millis(round * 7 % 60)).await;
        } else {
            service.until_ready().await;
            load.aim(&service);
            tokio::time::sleep(Duration::from_millis(50 + round * 37 % 300)).await;
        }
        service.kill();
    }

    let service = drained(&launch, load).await;
    service.metrics().await.assert_balance();
    assert!(ledger.totals().acked > kills, "{:?}", ledger.totals());
    ledger.assert_stored_in_postgres(&database.url).await;
    // A kill from outside is never attributed to a record.
    let set_aside: i64 = sqlx::query_scalar("SELECT count(*) FROM telemetry_dead_letters")
        .fetch_one(&mut database.connect().await)
        .await
        .expect("counted");
    assert_eq!(set_aside, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_under_load_loses_and_doubles_nothing_in_the_embedded_store() {
    let kills: u64 = setting("RUVVECTOR_TEST_KILLS", 50) / 5;
    let dir = directory();
    let launch = Launch::sqlite(dir.path());
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);

    for round in 0..kills {
        let mut service = in_turn(&launch, round / 2).start().await;
        load.aim(&service);
        tokio::time::sleep(Duration::from_millis(50 + round * 37 % 300)).await;
        service.kill();
    }

    let mut service = drained(&launch, load).await;
    service.kill();
    ledger.assert_stored_in_sqlite(&launch.sqlite_file()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_data_directory_started_beside_its_origin_loses_and_doubles_nothing() {
    let copies: usize = setting("RUVVECTOR_TEST_COPIES", 2);
    let cluster = Cluster::start();
    let origin = directory();
    let launch = Launch::postgres(origin.path(), &cluster.url());
    let ledger = Arc::new(Ledger::default());

    // Some of the journal is stored, and some is not.
    let mut service = launch.start().await;
    let load = Load::start(&ledger, Shape::STEADY);
    load.aim(&service);
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.stop("fast");
    tokio::time::sleep(Duration::from_secs(1)).await;
    service.kill();
    load.stop().await;

    let dirs: Vec<_> = (0..copies).map(|_| directory()).collect();
    for dir in &dirs {
        copy(&launch.data_dir(), dir.path());
    }
    cluster.resume();
    let mut services = vec![launch.start().await];
    for dir in &dirs {
        services.push(launch.moved(dir.path()).start().await);
    }
    // Each continues independently: their appended records must not be confused.
    for service in &services {
        let load = Load::start(&ledger, Shape::STEADY);
        load.aim(service);
        tokio::time::sleep(Duration::from_millis(500)).await;
        load.stop().await;
    }
    for service in &services {
        service.until_drained().await;
    }
    ledger.assert_stored_in_postgres(&cluster.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_directory_is_refused_and_harms_nothing() {
    let dir = directory();
    let launch = Launch::sqlite(dir.path());
    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&ledger, Shape::STEADY);
    let mut first = launch.start().await;
    load.aim(&first);

    let mut second = launch.spawn();
    let status = second.ended(Duration::from_secs(30)).await;
    assert!(!status.success(), "{status}");
    assert!(second.lines().contains("in use"), "{}", second.lines());

    load.stop().await;
    first.until_drained().await;
    first.kill();
    ledger.assert_stored_in_sqlite(&launch.sqlite_file()).await;
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.expect("cp runs").success());
}
