//! Small volumes.

use super::directory;
use crate::support::service::Launch;

/// A volume of 200 MiB never accepted an event under the default settings, and the advice was to raise the journal's
/// limit.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_volume_takes_and_stores_events_under_the_default_settings() {
    for (mebibytes, io) in [(24, "direct"), (64, "buffered"), (200, "auto")] {
        let dir = directory();
        let mount = format!(
            "mount -t tmpfs -o size={mebibytes}m small '{}' && exec \"$@\"",
            dir.path().display()
        );
        // In a separate mount namespace, so that nothing is left behind.
        let small = [
            "unshare",
            "--mount",
            "--map-root-user",
            "sh",
            "-c",
            &mount,
            "sh",
        ];
        let launch = Launch::sqlite(dir.path()).with("RUVVECTOR_JOURNAL_IO", io);
        let service = launch.clone().under(&small).start().await;
        for n in 0..20 {
            let event = format!(
                r#"{{"correlationId":"e{n}","integration":"shop","eventType":"small","metadata":{{"filler":"{}"}}}}"#,
                "x".repeat(20_000)
            );
            let url = service.url("/ingest?wait=stored");
            let sent = service.http.post(&url, "application/json", event).await;
            let sent = sent.expect("an answer");
            assert_eq!(sent.status, 200, "{mebibytes} MiB: {}", service.lines());
        }
        let health = service.health().await;
        assert_eq!(health["accepting"], true, "{health}");
        drop(service);

        let floor = launch
            .under(&small)
            .with("RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES", "256MiB");
        let service = floor.start().await;
        let url = service.url("/ingest");
        let event = r#"{"correlationId":"e","integration":"shop","eventType":"small"}"#;
        let sent = service
            .http
            .post(&url, "application/json", event.to_owned());
        assert_eq!(sent.await.expect("an answer").status, 503);
        let problems = service.health().await["problems"].to_string();
        assert!(
            problems.contains("lower RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES"),
            "{problems}"
        );
        assert!(
            service
                .lines()
                .contains("this volume can never hold the journal"),
            "{}",
            service.lines()
        );
    }
}
