//! Files of the journal that are missing, emptied, or without their first block when the service starts.

use std::path::PathBuf;
use std::time::Duration;

use super::directory;
use super::torn::{number, segments, send_all, small, stored};
use crate::support::postgres::Database;
use crate::support::service::{Launch, Service};

const LONG: Duration = Duration::from_secs(120);

/// A journal full of records that no database has seen: each segment's file with its positions.
async fn backlog(launch: &Launch) -> (String, Vec<(PathBuf, u64, u64)>) {
    let mut service = launch.start().await;
    send_all(&service).await;
    // About once a second the recycler notes the positions of the stream.
    let noted = launch.data_dir().join("journal/positions");
    let last = segments(launch).last().expect("a segment").last;
    service
        .until("the positions are noted", async |_: &Service| {
            let text = std::fs::read(&noted).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&format!(" 1 {last}\n"))
        })
        .await;
    service.kill();
    service.ended(LONG).await;
    let segments = segments(launch);
    assert!(segments.len() >= 8, "{segments:?}");
    let stream = segments[0].stream.to_string();
    let files = segments
        .into_iter()
        .map(|one| (one.path, one.first, one.last));
    (stream, files.collect())
}

/// A middle segment was deleted, another one was emptied, and a third had zeros in its first block. Nothing was logged,
/// counted or reported in `/health`, and the third was wiped with all its records.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_with_a_file_is_reported_and_what_is_not_is_stored() {
    for kind in ["postgres", "sqlite"] {
        let dir = directory();
        let database = Database::new().await;
        let nowhere = Launch::postgres(dir.path(), "postgres://nobody@127.0.0.1:1/nothing");
        let nowhere = small(&nowhere);
        let (stream, files) = backlog(&nowhere).await;
        let launch = match kind {
            "postgres" => small(&Launch::postgres(dir.path(), &database.url)),
            _ => small(&Launch::sqlite(dir.path())).with("RUVVECTOR_STORE", "sqlite"),
        };
        let last = files.len() - 1;
        let mut lost = Vec::new();
        for index in [0, 3, last] {
            let (path, first, last) = &files[index];
            match index {
                0 => std::fs::write(path, b"").expect("emptied"),
                _ => std::fs::remove_file(path).expect("removed"),
            }
            lost.push((*first, *last));
        }
        let zeroed = &files[5].0;
        let mut content = std::fs::read(zeroed).expect("read");
        content[..4096].fill(0);
        std::fs::write(zeroed, content).expect("written");
        let records: u64 = lost.iter().map(|(first, last)| last - first + 1).sum();

        let mut verify = launch.clone().command(&["journal", "verify"]).spawn();
        let status = verify.ended(LONG).await;
        assert_eq!(status.code(), Some(1), "{}", verify.lines());
        for (first, last) in &lost {
            let text = if first == last {
                format!("position {first} of the stream is in no file")
            } else {
                format!("positions {first} to {last} of the stream are in no file")
            };
            assert!(verify.lines().contains(&text), "{}", verify.lines());
        }

        let service = launch.start().await;
        service.until_drained().await;
        let there = i64::try_from(super::torn::EVENTS - records).expect("few");
        if kind == "postgres" {
            service
                .until("what is left is stored", async |_: &Service| {
                    stored(&database).await == (there, there, 3)
                })
                .await;
            let all = format!(
                "SELECT count(*) FROM ingest_streams WHERE stream = '{stream}' AND stored_positions @> int8range(1, {})",
                super::torn::EVENTS + 1
            );
            assert_eq!(
                number(&database, &all).await,
                1,
                "every position is decided"
            );
            let told = "SELECT count(*) FROM telemetry_dead_letters WHERE reason = 'damaged' AND events = 0 AND item IS NULL";
            assert_eq!(number(&database, told).await, 3, "one for each range");
        }
        service
            .until("it is counted", async |service: &Service| {
                let page = service.metrics().await;
                let counted = page.sum("ruvvector_journal_damaged_records_total");
                format!("{counted}") == format!("{records}")
            })
            .await;
        let health = service.health().await;
        assert_eq!(health["status"], "degraded", "{health}");
        let named = format!("{records} acknowledged records are in no file of the journal");
        assert!(health["problems"].to_string().contains(&named), "{health}");
        let said = service.lines();
        assert!(said.contains("put the file back from a backup"), "{said}");
        drop(service);

        // It is decided: the next start has nothing to report.
        let service = launch.start().await;
        service.until_drained().await;
        service
            .until("it is in contact", async |service: &Service| {
                service.health().await["status"] == "ok"
            })
            .await;
    }
}
