//! Retention on a volume that is nearly full.

use rustix::process::Signal;
use sqlx::Connection;

use super::connect;
use crate::support::service::{Launch, PATIENCE, Service};

/// Retention was shortened on a volume whose free space was less than a round of removal writes. The round failed with
/// `disk is full`, its WAL stayed and filled the volume, and no row was ever removed.
#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_what_is_due_on_a_volume_with_less_free_space_than_that_takes() {
    let large = directory();
    let launch = Launch::sqlite(large.path());
    let mut service = launch.start().await;
    // 50 MiB, almost all of which are due.
    for _ in 0..50 {
        let filler = "x".repeat(50_000);
        let event = format!(
            r#"{{"correlationId":"old","integration":"shop","eventType":"e","metadata":{{"filler":"{filler}"}}}}"#
        );
        let events = format!("[{}]", vec![event; 21].join(","));
        let url = service.url("/ingest?wait=stored");
        let sent = service.http.post(&url, "application/json", events).await;
        assert_eq!(sent.expect("an answer").status, 200, "{}", service.lines());
    }
    service.signal(Signal::TERM);
    assert!(service.ended(PATIENCE).await.success());
    let age =
        "UPDATE telemetry_events SET created_at = created_at - 9 * 86400000000 WHERE id < 1050";
    let mut connection = connect(&launch.sqlite_file()).await;
    sqlx::query(age)
        .execute(&mut connection)
        .await
        .expect("aged");
    connection
        .close()
        .await
        .expect("the last one leaves no WAL");

    // The space is enough for some pieces of the removal; then for smaller ones.
    for mebibytes in [96, 57] {
        is_removed_on_a_volume_of(mebibytes, &launch).await;
    }
}

async fn is_removed_on_a_volume_of(mebibytes: u32, large: &Launch) {
    let small = directory();
    let launch = large.moved(small.path());
    // In a separate mount namespace, so that nothing is left behind.
    let mount = format!(
        "mount -t tmpfs -o size={mebibytes}m small '{to}' && mkdir -p '{data}' && cp '{from}' '{data}' && exec \"$@\"",
        to = small.path().display(),
        from = large.sqlite_file().display(),
        data = launch.data_dir().display(),
    );
    let under = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        &mount,
        "sh",
    ];
    let service = launch
        .under(&under)
        .with("RUVVECTOR_MAINTENANCE_INTERVAL", "200ms")
        .start()
        .await;
    service
        .until("what is due is removed", async |service: &Service| {
            let left = service.get("/query?correlationId=old").await;
            left.status == 200 && left.text().matches("correlationId").count() == 1
        })
        .await;
    assert!(!service.lines().contains("is full"), "{}", service.lines());
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}
