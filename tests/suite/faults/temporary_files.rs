//! A full volume for temporary files.

use std::fmt::Write as _;

use axum::http::StatusCode;

use super::directory;
use crate::support::service::Launch;

const EVENTS: usize = 10_000;

/// Fills the first volume on which SQLite would make temporary files, for this process alone, and runs it.
const WITHOUT_ROOM: &str = r#"
    mount -t tmpfs -o size=4k none /var/tmp || exit 1
    head -c 8192 /dev/zero > /var/tmp/full 2>/dev/null
    exec "$@""#;

/// Enough events for some batches, under ids in no order: each statement changes many pages of the indexes.
fn events() -> String {
    let mut events = String::from("[");
    for n in 0..EVENTS {
        let id = n.wrapping_mul(2_654_435_761) % (1 << 32);
        let comma = if n > 0 { "," } else { "" };
        write!(
            events,
            r#"{comma}{{"correlationId":"{id:x}","integration":"i{}","eventType":"e"}}"#,
            n % 7
        )
        .expect("a String takes any text");
    }
    events.push(']');
    events
}

/// SQLite stored nothing once /var/tmp was full, because the journals of its statements were there, and its error named
/// its own file.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_for_temporary_files_is_in_nobodys_way() {
    let dir = directory();
    let namespace = [
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        WITHOUT_ROOM,
        "sh",
    ];
    let launch = Launch::sqlite(dir.path()).under(&namespace);
    let service = launch.start().await;
    for _ in 0..3 {
        let url = service.url("/ingest");
        let answer = service.http.post(&url, "application/json", events());
        assert_eq!(answer.await.expect("an answer").status, StatusCode::OK);
    }
    service.until_drained().await;
    for (query, found) in [
        ("/query?limit=10000&offset=20000", EVENTS),
        ("/query?limit=10000&correlationId=0", 3),
        ("/query?limit=10000&integration=i3&status=none", 0),
    ] {
        let answer = service.get(query).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let events = answer.json();
        assert_eq!(events.as_array().map(Vec::len), Some(found), "{query}");
    }
    service.metrics().await.assert_balance();
}
