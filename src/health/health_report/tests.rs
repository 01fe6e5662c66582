//! Tests of the answer of `/health`.
//!
//! **Invariant:** each report differs from a sound one only in what its test names.

use std::time::{Duration, UNIX_EPOCH};

use super::{ConnectionState, FIRST_CONTACT, HealthReport, HealthStatus};
use crate::journal;
use crate::lifecycle::Phase;
use crate::store::{Liveness, PoolState};

/// Returns a report without problems, one day after the epoch.
fn sound() -> HealthReport {
    HealthReport {
        phase: Phase::Ready,
        journal: journal::JournalStatus {
            io: journal::IoMode::Direct,
            capacity_bytes: 4096,
            ..journal::JournalStatus::default()
        },
        liveness: Liveness {
            database: Some(Duration::from_micros(1_234)),
            refusal: None,
            replica_unavailable: false,
        },
        writing: true,
        awaits_first_contact: false,
        pools: [
            PoolState {
                max: 2,
                size: 2,
                idle: 1,
            },
            PoolState {
                max: 8,
                size: 3,
                idle: 3,
            },
        ],
        connections: ConnectionState::default(),
        kind: "postgres",
        problems_found: Vec::new(),
        notices: Vec::new(),
        uptime: Duration::from_secs(7),
        now: UNIX_EPOCH + Duration::from_secs(86_400),
    }
}

#[test]
fn the_answer_has_the_promised_shape() {
    let mut report = sound();
    report.journal.queue_events = 5;
    report.journal.queue_bytes = 640;
    report.journal.oldest_unix_nano = Some(86_390 * 1_000_000_000);
    let text = serde_json::to_string(&report.body()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        text,
        format!(r#"{{"status":"ok","accepting":true,"version":"{version}","uptimeSeconds":7,"#)
            + r#""database":{"kind":"postgres","connected":true,"latencyMs":1.234},"#
            + r#""pool":{"max":10,"size":5,"idle":4,"inUse":1},"#
            + r#""pools":{"write":{"max":2,"size":2,"idle":1,"inUse":1},"#
            + r#""read":{"max":8,"size":3,"idle":3,"inUse":0}},"#
            + r#""queue":{"events":5,"bytes":640,"capacityBytes":4096,"oldestSeconds":10.0},"#
            + r#""journal":{"io":"direct"},"problems":[]}"#
    );
}

#[test]
fn an_unavailable_database_and_a_full_journal_degrade_and_say_what_to_do() {
    let mut away = sound();
    away.liveness.database = None;
    away.writing = false;
    let body = away.body();
    assert_eq!(body.status, HealthStatus::Degraded);
    assert!(body.accepting, "events are taken without the database");
    assert!(body.problems[0].contains("does not answer"));

    let mut full = sound();
    full.journal.full = true;
    let body = full.body();
    assert_eq!(body.status, HealthStatus::Degraded);
    assert!(!body.accepting);
    assert!(body.problems[0].contains("RUVVECTOR_JOURNAL_MAX_BYTES"));

    full.liveness.database = None;
    let both = full.body().problems.join("\n");
    assert!(both.contains("refused") && both.contains("does not answer"));
    assert!(!both.contains("events are taken"), "{both}");
}

/// `/health` reported that events were refused although each was stored in the open segment, and advised a lower
/// floor on a volume with no free space.
#[test]
fn a_full_volume_refuses_nothing_while_the_open_segment_has_room() {
    let mut full = sound();
    full.journal.full = true;
    full.journal.at_floor = true;
    full.journal.segment_bytes = 6 << 20;
    full.journal.volume_free_bytes = 20 << 20;
    full.journal.open_room_bytes = 300 << 10;
    let body = full.body();
    assert_eq!(body.status, HealthStatus::Degraded);
    assert!(body.accepting);
    assert!(
        body.problems[0].contains("stored only while they fit into the last 300 KiB"),
        "{:?}",
        body.problems
    );
    assert!(body.problems[0].contains("lower RUVVECTOR_JOURNAL_FREE_FLOOR_BYTES"));

    full.journal.open_room_bytes = 0;
    full.journal.volume_free_bytes = 0;
    let body = full.body();
    assert!(!body.accepting);
    assert!(body.problems[0].contains("new events are refused"));
    assert!(!body.problems[0].contains("FLOOR"), "{:?}", body.problems);
}

/// Within the first second of a start `/health` was degraded and named no problem.
#[test]
fn a_first_contact_that_lasts_is_named() {
    let mut starting = sound();
    starting.writing = false;
    starting.awaits_first_contact = true;
    let body = starting.body();
    assert_eq!(body.status, HealthStatus::Degraded);
    assert_eq!(body.problems.len(), 1, "{:?}", body.problems);
    assert!(body.problems[0].contains("connecting to the database (postgres) for the first time"));

    starting.liveness.database = None;
    starting.uptime = FIRST_CONTACT / 2;
    assert_eq!(starting.body().problems.len(), 1);
    starting.uptime = FIRST_CONTACT;
    let problems = starting.body().problems;
    assert!(problems[0].contains("does not answer"), "{problems:?}");
}

/// Only the read pool was checked. With the replica unavailable, `/health` and an alert at night reported the
/// database lost.
#[test]
fn an_absent_replica_is_no_absent_database() {
    let mut report = sound();
    report.liveness.replica_unavailable = true;
    let body = report.body();
    assert_eq!(body.status, HealthStatus::Degraded);
    assert!(body.accepting && body.database.connected);
    assert_eq!(body.problems.len(), 1);
    assert!(
        body.problems[0]
            .contains("RUVVECTOR_DATABASE_READ_URL names does not answer: queries fail")
    );
}

/// With every place for a connection in use, no request was answered, and nothing reported the reason.
#[test]
fn a_shortage_of_places_for_connections_degrades_and_says_what_to_do() {
    let mut report = sound();
    report.connections = ConnectionState {
        open: 2048,
        max: 2048,
        is_short: true,
    };
    let body = report.body();
    assert_eq!(body.status, HealthStatus::Degraded);
    assert!(body.accepting);
    assert!(body.problems[0].contains("all 2048 places"));
    assert!(body.problems[0].contains("RUVVECTOR_CONNECTIONS"));
}

/// Damage that a start had found was reported in a log line alone.
#[test]
fn damaged_records_are_named_with_what_to_do() {
    let mut report = sound();
    (
        report.journal.damaged_records,
        report.journal.missing_records,
    ) = (5, 2);
    let problems = report.body().problems;
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems[1].starts_with("3 records are damaged in the journal"),
        "{problems:?}"
    );
}

/// The operator of a service with SQLite was advised to look at the network.
#[test]
fn an_embedded_database_has_no_network() {
    let mut report = sound();
    (report.kind, report.liveness.database) = ("sqlite", None);
    let problem = &report.body().problems[0];
    assert!(
        problem.contains("disk") && !problem.contains("network"),
        "{problem}"
    );
}

#[test]
fn a_broken_log_and_draining_are_unhealthy() {
    let mut broken = sound();
    broken.phase = Phase::Broken;
    broken.journal.broken = true;
    assert_eq!(broken.body().status, HealthStatus::Unhealthy);
    assert_eq!(broken.body().problems.len(), 1);

    let mut draining = sound();
    draining.phase = Phase::Announcing;
    assert_eq!(draining.body().status, HealthStatus::Unhealthy);
    assert!(!draining.body().accepting);
}

#[test]
fn a_warning_is_reported_and_changes_nothing() {
    let mut warned = sound();
    warned.notices.push("mind the data directory".to_owned());
    let body = warned.body();
    assert_eq!(body.status, HealthStatus::Ok);
    assert_eq!(body.problems, ["mind the data directory"]);
}
