//! Retention and a wrong clock, on a real file with a clock that is passed in.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ruvvector_service::store::retention_clock::{Clock, ClockReading};
use ruvvector_service::store::{
    MaintenanceGauges, MaintenanceReport, Options, ProcessStart, Store,
};

use super::{File, batch, connect, count, now_nano, rows};
use crate::support::service::{Launch, PATIENCE, Service};

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// This machine's clocks, which a test can set.
#[derive(Clone, Default)]
struct Off {
    wall_us: Arc<AtomicI64>,
    passed_us: Arc<AtomicI64>,
}

impl Off {
    /// Sets the wall clock.
    fn set(&self, us: i64) {
        self.wall_us.store(us, Ordering::Relaxed);
    }

    /// Lets time pass that the wall clock does not show.
    fn pass(&self, us: i64) {
        self.passed_us.fetch_add(us, Ordering::Relaxed);
    }

    fn start(&self) -> ProcessStart {
        let (off, system) = (self.clone(), Clock::system());
        ProcessStart {
            clock: Clock::new(move || {
                let now = system.read();
                ClockReading {
                    unix_us: now.unix_us + off.wall_us.load(Ordering::Relaxed),
                    boot_us: now.boot_us + off.passed_us.load(Ordering::Relaxed),
                }
            }),
            newest_journaled_unix_nano: None,
        }
    }

    async fn store(&self, file: &File) -> Store {
        let store = Store::starting(&file.options(), &self.start());
        store.prepare().await.expect("first contact succeeds");
        store
    }
}

async fn maintain(store: &Store) -> MaintenanceReport {
    store.maintain(None).await.expect("maintained")
}

async fn gauges(store: &Store) -> MaintenanceGauges {
    maintain(store).await.done().expect("every step was done")
}

/// Gives the rows of these ids that age.
async fn age(file: &File, ids: std::ops::RangeInclusive<i64>, us: i64) {
    let age = "UPDATE telemetry_events SET created_at = created_at - ? WHERE id BETWEEN ? AND ?";
    sqlx::query(age)
        .bind(us)
        .bind(ids.start())
        .bind(ids.end())
        .execute(&mut file.connect().await)
        .await
        .expect("aged");
}

/// Rows that were received while the clock was ahead had the lowest ids. The check of the lowest ids found nothing due,
/// nothing behind them was ever removed, and the gauge was 0.
#[tokio::test]
async fn rows_from_the_future_are_passed_by() {
    let file = File::new();
    let store = file.store().await;
    store
        .write(&batch(1..=1, rows(9_000)))
        .await
        .expect("stored");
    age(&file, 1..=6_000, -9 * DAY_US).await;
    age(&file, 6_001..=8_500, 9 * DAY_US).await;
    // The journal still holds events of these days, so they stay and are overdue.
    let held = now_nano() - 10 * DAY_US * 1_000;
    let found = store.maintain(Some(held)).await.expect("maintained");
    assert_eq!(found.gauges.retention_overdue_days(), Some(2));
    assert_eq!(count(&file, "telemetry_events").await, 9_000);
    assert_eq!(gauges(&store).await.retention_overdue_days(), Some(0));
    assert_eq!(count(&file, "telemetry_events").await, 6_500);
}

/// A clock that was ten days ahead for one round made retention remove all rows.
#[tokio::test]
async fn a_clock_that_jumps_removes_nothing_until_it_is_back() {
    let file = File::new();
    let off = Off::default();
    let store = off.store(&file).await;
    store.write(&batch(1..=1, rows(100))).await.expect("stored");
    age(&file, 1..=10, 8 * DAY_US).await;
    off.set(10 * DAY_US);
    let found = maintain(&store).await;
    assert_eq!(count(&file, "telemetry_events").await, 100);
    let notice = found.notice.expect("the doubt is said");
    assert!(notice.contains("retention confirm-clock"), "{notice}");
    // By that clock all rows are due, and the gauge shows that.
    assert_eq!(found.gauges.retention_overdue_days(), Some(11));
    off.set(0);
    let found = maintain(&store).await;
    assert_eq!(found.notice, None);
    assert_eq!(count(&file, "telemetry_events").await, 90);
}

/// A clock that was behind at boot and then set right made retention remove, within seconds, events that had been
/// acknowledged in between.
#[tokio::test]
async fn in_doubt_one_day_goes_in_24_hours_and_a_restart_does_not_reset_that() {
    let file = File::new();
    let off = Off::default();
    off.set(-20 * DAY_US);
    let mut store = off.store(&file).await;
    store.write(&batch(1..=1, rows(40))).await.expect("stored");
    maintain(&store).await;
    for day in 0..4 {
        age(&file, day * 10 + 1..=day * 10 + 10, (20 - day) * DAY_US).await;
    }
    off.set(0);
    maintain(&store).await;
    let (mut left, mut hours) = (Vec::new(), 0);
    for step in [0, 2, 0, 20, 2, 3, 20, 3] {
        // Another process, whose clock is right from the start.
        if hours > 1 {
            store = off.store(&file).await;
            maintain(&store).await;
        }
        hours += step;
        off.pass(step * HOUR_US);
        assert!(maintain(&store).await.notice.is_some(), "after {hours} h");
        maintain(&store).await;
        left.push((hours, count(&file, "telemetry_events").await));
    }
    let wanted = [
        (0, 40),
        (2, 30),
        (2, 30),
        (22, 30),
        (24, 30),
        (27, 20),
        (47, 20),
        (50, 20),
    ];
    assert_eq!(left, wanted);
}

#[tokio::test]
async fn a_start_long_after_the_newest_event_is_doubted_until_the_clock_is_confirmed() {
    let file = File::new();
    let off = Off::default();
    let store = off.store(&file).await;
    store.write(&batch(1..=1, rows(100))).await.expect("stored");
    gauges(&store).await;
    drop(store);
    off.set(9 * DAY_US);
    let store = off.store(&file).await;
    assert!(maintain(&store).await.notice.is_some());
    assert_eq!(count(&file, "telemetry_events").await, 100);
    // The command is a separate process.
    Store::new(&file.options())
        .confirm_clock()
        .await
        .expect("confirmed");
    assert_eq!(maintain(&store).await.notice, None);
    assert_eq!(count(&file, "telemetry_events").await, 0);
}

/// Events were stored, and the service was stopped before its first round of maintenance. At the next start, with the
/// clock ten days ahead, that round counted as the first use of retention and removed all of them.
#[tokio::test]
async fn rows_of_a_first_run_without_a_round_are_kept_by_a_start_with_a_wrong_clock() {
    let file = File::new();
    let off = Off::default();
    let store = off.store(&file).await;
    store.write(&batch(1..=1, rows(10))).await.expect("stored");
    off.set(10 * DAY_US);
    let store = off.store(&file).await;
    let notice = maintain(&store).await.notice.expect("a doubt");
    assert!(notice.contains("retention confirm-clock"), "{notice}");
    assert_eq!(count(&file, "telemetry_events").await, 10);
}

#[tokio::test]
async fn the_first_use_of_retention_on_old_data_is_not_doubted() {
    let file = File::new();
    let keeping_all = Store::new(&Options {
        retention_days: None,
        ..file.options()
    });
    keeping_all.prepare().await.expect("first contact succeeds");
    keeping_all
        .write(&batch(1..=1, rows(100)))
        .await
        .expect("stored");
    keeping_all
        .maintain(None)
        .await
        .expect("maintained")
        .done()
        .expect("done");
    age(&file, 1..=100, 30 * DAY_US).await;
    let found = maintain(&file.store().await).await;
    assert_eq!(found.notice, None);
    assert_eq!(count(&file, "telemetry_events").await, 0);
}

/// The whole process: a service that was off, or whose clock is wrong, reports its doubt and follows the command's
/// confirmation.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_service_says_that_it_doubts_the_clock_until_the_command_confirms_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let launch = Launch::sqlite(dir.path()).with("RUVVECTOR_MAINTENANCE_INTERVAL", "100ms");
    let mut service = launch.start().await;
    let event = r#"{"correlationId":"a","integration":"shop","eventType":"order"}"#;
    let url = service.url("/ingest?wait=stored");
    let answer = service
        .http
        .post(&url, "application/json", event)
        .await
        .expect("it answers");
    assert!(answer.status.is_success(), "{}", answer.text());
    let file = launch.sqlite_file();
    service
        .until("retention was applied once", async |_: &Service| {
            number(&file, "SELECT count(*) FROM ruvvector_retention").await == 1
        })
        .await;
    service.kill();
    // The journal knows the time of receipt.
    std::fs::remove_dir_all(launch.data_dir().join("journal")).expect("the journal can be removed");
    number(
        &file,
        "UPDATE telemetry_events SET created_at = created_at - 9 * 86400000000 RETURNING 1",
    )
    .await;

    let service = launch.start().await;
    let doubts = async |service: &Service| {
        let problems = service.health().await["problems"].to_string();
        problems.contains("`ruvvector-service retention confirm-clock`")
    };
    service.until("it doubts the clock", doubts).await;
    assert_eq!(
        number(&file, "SELECT count(*) FROM telemetry_events").await,
        1
    );
    let overdue = service
        .metrics()
        .await
        .sum("ruvvector_retention_overdue_days");
    assert!((overdue - 2.0).abs() < f64::EPSILON, "{overdue}");

    let mut command = launch.command(&["retention", "confirm-clock"]).spawn();
    let status = command.ended(PATIENCE).await;
    assert!(status.success(), "{}", command.lines());
    service
        .until("what is due is removed", async |service: &Service| {
            number(&file, "SELECT count(*) FROM telemetry_events").await == 0
                && !doubts(service).await
        })
        .await;
}

async fn number(file: &std::path::Path, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql)
        .fetch_one(&mut connect(file).await)
        .await
        .expect("a number")
}
