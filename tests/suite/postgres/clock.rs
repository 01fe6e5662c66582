//! Retention and a wrong clock: this collector's, which is passed in, or the server's, which differs from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use ruvvector_service::store::retention_clock::{Clock, ClockReading};
use ruvvector_service::store::{MaintenanceReport, ProcessStart, Store};

use super::{ages_left, execute, options, prepared, write_ages};
use crate::support::postgres::Database;

const HOUR_US: i64 = 3_600_000_000;
const DAY_US: i64 = 24 * HOUR_US;

/// The collector's clocks, which a test can set: wall clock, and elapsed time.
#[derive(Clone, Default)]
struct Off(Arc<[AtomicI64; 2]>);

impl Off {
    fn set(&self, us: i64) {
        self.0[0].store(us, Ordering::Relaxed);
    }

    fn pass(&self, us: i64) {
        self.0[1].fetch_add(us, Ordering::Relaxed);
    }

    /// A collector that keeps a week.
    async fn keeping_a_week(&self, database: &Database) -> Store {
        self.collector(database, Some(7)).await
    }

    async fn without_retention(&self, database: &Database) -> Store {
        self.collector(database, None).await
    }

    async fn collector(&self, database: &Database, retention_days: Option<u32>) -> Store {
        let mut settings = options(database.options());
        settings.retention_days = retention_days;
        let (off, system) = (self.clone(), Clock::system());
        let clock = Clock::new(move || {
            let now = system.read();
            ClockReading {
                unix_us: now.unix_us + off.0[0].load(Ordering::Relaxed),
                boot_us: now.boot_us + off.0[1].load(Ordering::Relaxed),
            }
        });
        let start = ProcessStart {
            clock,
            newest_journaled_unix_nano: None,
        };
        let store = Store::starting(&settings, &start);
        store.prepare().await.expect("the schema is there");
        store
    }
}

async fn maintain(store: &Store) -> MaintenanceReport {
    let found = store.maintain(None).await.expect("the database answers");
    assert!(found.failures.is_empty(), "{:?}", found.failures);
    found
}

/// Without retention, a server whose clock was a month ahead for one round deleted the streams that had been released
/// the day before. A backup of such a directory would have been stored a second time.
#[tokio::test]
async fn a_stream_is_forgotten_only_when_both_clocks_say_that_it_was_released_long_ago() {
    let (database, _) = prepared().await;
    let mut sql = database.connect().await;
    let off = Off::default();
    let collector = off.without_retention(&database).await;
    execute(
        &mut sql,
        "INSERT INTO ingest_streams (stream, heartbeat, released) \
         SELECT gen_random_uuid(), now() - interval '31 days', now() - interval '31 days'",
    )
    .await;
    let rows = "SELECT count(*) FROM ingest_streams";
    // Seen from a collector whose clock is right, this is a server that is ahead by 31 days.
    off.set(-31 * DAY_US);
    maintain(&collector).await;
    let kept: i64 = sqlx::query_scalar(rows)
        .fetch_one(&mut sql)
        .await
        .expect("a count");
    assert_eq!(kept, 1);
    off.set(0);
    maintain(&collector).await;
    let kept: i64 = sqlx::query_scalar(rows)
        .fetch_one(&mut sql)
        .await
        .expect("a count");
    assert_eq!(kept, 0);
}

/// A server whose clock was nine days ahead for 8 s dropped the day.
#[tokio::test]
async fn while_the_servers_clock_differs_from_the_collectors_nothing_is_removed() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 8, 9]).await;
    let off = Off::default();
    off.set(-9 * DAY_US);
    let keeping = off.keeping_a_week(&database).await;
    let found = maintain(&keeping).await;
    let notice = found.notice.expect("the doubt is said");
    assert!(
        notice.contains("the clocks of the database and of a collector differ"),
        "{notice}"
    );
    assert_eq!(ages_left(&mut sql).await, ["0", "8", "9"]);
    let refused = keeping.confirm_clock().await.expect_err("they do differ");
    assert!(refused.to_string().contains("differ by 129"), "{refused}");
    off.set(0);
    // The same clock, which the process saw moving: as long as it differs, that is a separate doubt.
    assert!(maintain(&keeping).await.notice.is_some());
    assert_eq!(ages_left(&mut sql).await, ["0", "8", "9"]);
    keeping.confirm_clock().await.expect("they agree");
    assert_eq!(maintain(&keeping).await.notice, None);
    assert_eq!(ages_left(&mut sql).await, ["0"]);
}

#[tokio::test]
async fn in_doubt_one_day_goes_in_24_hours_whichever_collector_has_the_turn() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[0, 10, 11, 12, 13]).await;
    execute(
        &mut sql,
        "INSERT INTO ruvvector_retention VALUES (true, 'set', 0, 0, NULL, NULL, 0)",
    )
    .await;
    let off = Off::default();
    let (mut one, mut other) = (
        off.keeping_a_week(&database).await,
        off.keeping_a_week(&database).await,
    );
    maintain(&one).await;
    let (mut left, mut hours) = (Vec::new(), 0);
    for step in [0, 2, 20, 3, 1, 23, 2] {
        hours += step;
        off.pass(step * HOUR_US);
        assert!(maintain(&one).await.notice.is_some(), "after {hours} h");
        assert!(maintain(&other).await.notice.is_some(), "after {hours} h");
        left.push((hours, ages_left(&mut sql).await.len()));
        // One is started again.
        (one, other) = (other, off.keeping_a_week(&database).await);
    }
    assert_eq!(
        left,
        [(0, 5), (2, 4), (22, 4), (25, 4), (26, 3), (49, 3), (51, 2)]
    );
}

#[tokio::test]
async fn a_start_long_after_the_newest_event_is_doubted_and_the_first_use_of_retention_is_not() {
    let (database, store) = prepared().await;
    let mut sql = database.connect().await;
    write_ages(&store, &[3, 20]).await;
    let first_use = Off::default().keeping_a_week(&database).await;
    assert_eq!(maintain(&first_use).await.notice, None);
    assert_eq!(ages_left(&mut sql).await, ["3"]);

    write_ages(&store, &[30]).await;
    let restarted = Off::default().keeping_a_week(&database).await;
    let notice = maintain(&restarted)
        .await
        .notice
        .expect("the doubt is said");
    assert!(notice.contains("past the newest event"), "{notice}");
    assert_eq!(ages_left(&mut sql).await, ["3", "30"]);

    restarted.confirm_clock().await.expect("confirmed");
    write_ages(&store, &[0]).await;
    let again = Off::default().keeping_a_week(&database).await;
    assert_eq!(maintain(&again).await.notice, None);
    assert_eq!(ages_left(&mut sql).await, ["0", "3"]);
}
