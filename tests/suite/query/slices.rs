//! Searches that PostgreSQL answers slice by slice, and events by their ids.

use ruvvector_service::query::{Options, Queries};
use ruvvector_service::router::reads;
use sqlx::Executor;

use super::stores::{Both, Event, NOON, get};

const DAY_MS: i64 = 86_400_000;

/// 2,400 events of 40 hours, one a minute. Some are received a day late, and some come from a clock that is days ahead.
fn events() -> Vec<Event> {
    let event = |n: i64| {
        let timestamp = NOON - DAY_MS + n * 7919 % 2400 * 60_000;
        let late = match n {
            n if n % 50 == 0 => DAY_MS,
            n if n % 60 == 1 => -3 * DAY_MS,
            n => n % 7 * 1000,
        };
        Event {
            timestamp,
            created_at_micros: (timestamp + late) * 1000,
            integration: if n % 3 == 0 { "a" } else { "b" },
            event_type: if n % 400 == 5 { "rare" } else { "span" },
            status: (n % 96 == 7).then_some("ERROR"),
            name: Some(["op-0", "op-1", "op-2", "op-3"][usize::try_from(n % 4).expect("small")]),
            duration_ns: (n % 5 > 0).then_some(n % 97 * 1_000_000),
            ..Event::default()
        }
    };
    (0..2400).map(event).collect()
}

#[tokio::test]
async fn a_search_by_slices_finds_what_a_search_of_all_rows_finds() {
    let options = Options {
        window_rows: 5,
        ..Options::default()
    };
    let both = Both::under(options, &events()).await;
    for (filters, expected) in [
        ("integration=a", 800),
        ("integration=a&name=op-3", 200),
        ("integration=absent&name=op-3", 0),
        ("name=op-1", 600),
        ("eventType=rare", 6),
        ("minDurationMs=90", 134),
        ("maxDurationMs=2", 60),
        ("status=ERROR", 25),
        ("name=op-2&to=2026-01-01T00:00:00Z", 180),
        (
            "name=op-2&from=2026-01-01T08:00:00Z&to=2026-01-01T16:00:00Z",
            120,
        ),
        (
            "integration=b&minDurationMs=95&from=2025-12-31T14:00:00Z&to=2026-01-01T14:00:00Z",
            14,
        ),
        // An hour of an evening; a part of its events is received a day later, or was received three days before.
        (
            "integration=b&minDurationMs=1&from=2025-12-31T20:00:00Z&to=2025-12-31T21:00:00Z",
            32,
        ),
        (
            "integration=b&name=op-1&from=2025-12-31T14:00:00Z&to=2026-01-01T14:00:00Z",
            240,
        ),
    ] {
        for order in ["desc", "asc"] {
            for limit in [60, 90, 1000] {
                // Every answer is compared with SQLite's, which is that of one plain statement.
                let uri = format!("/query?{filters}&order={order}&limit={limit}");
                let found = both.walk(&uri).await.concat();
                assert_eq!(found.len(), expected, "{uri}");
            }
        }
    }
}

/// A correlation id of so many events that PostgreSQL does not sort them all for a page, beside one of few.
#[tokio::test]
async fn a_page_of_a_correlation_id_is_the_same_however_many_events_it_has() {
    let event = |n: i64| Event {
        timestamp: NOON + n * 7919 % 10_007,
        correlation_id: if n % 1000 == 5 { "few" } else { "many" },
        status: (n % 5 == 0).then_some("ERROR"),
        ..Event::default()
    };
    let both = Both::with(&(0..10_300).map(event).collect::<Vec<_>>()).await;
    for (id, found) in [("few", 11), ("many", 10_289)] {
        let uri = format!("/query?correlationId={id}&limit=4000");
        assert_eq!(both.walk(&uri).await.concat().len(), found, "{id}");
        for page in [
            "limit=1",
            "limit=3&offset=5",
            "limit=2&order=asc&offset=10200",
            "status=ERROR",
        ] {
            both.get(&format!("/query?correlationId={id}&{page}")).await;
        }
    }
}

/// The end of a page is kept, and the same search begins there. Events that were stored since move it forward; events
/// that were removed move it back.
#[tokio::test]
async fn a_repeated_search_finds_what_was_stored_and_misses_what_was_removed() {
    let options = Options {
        window_rows: 5,
        ..Options::default()
    };
    let all = events();
    let (first, second) = all.split_at(2000);
    let both = Both::under(options.clone(), first).await;
    let repeated = reads(Queries::new(both.postgres.clone(), options));
    let mut searches = Vec::new();
    for filters in [
        "integration=a&name=op-3",
        "name=op-1",
        "eventType=rare",
        "minDurationMs=90",
        "status=ERROR",
        "integration=absent",
    ] {
        searches.extend([1, 20, 150].map(|limit| format!("/query?{filters}&limit={limit}")));
    }
    for round in 0..5 {
        match round {
            1 => both.insert(2001, second).await,
            // Newer than all others, and more than a slice may have.
            2 => {
                let event = |n: i64| Event {
                    timestamp: NOON + 3 * DAY_MS + n,
                    created_at_micros: (NOON + 3 * DAY_MS + n) * 1000,
                    name: Some("op-1"),
                    ..Event::default()
                };
                both.insert(3001, &(0..900).map(event).collect::<Vec<_>>())
                    .await;
            }
            3 => both.remove("id % 3 = 0").await,
            4 => both.remove("id > 1000").await,
            _ => {}
        }
        for search in &searches {
            let expected = both.get(search).await;
            assert_eq!(get(&repeated, search).await, expected, "{round} {search}");
            assert_eq!(get(&repeated, search).await, expected, "{round} {search}");
        }
    }
}

/// The day of an event is guessed by its id. A backlog, an import or a person's INSERT gives ids in any order.
#[tokio::test]
async fn an_event_is_found_by_its_id_whatever_day_it_was_received_in() {
    let events: Vec<_> = (0..40)
        .map(|n: i64| Event {
            created_at_micros: (NOON + (n * 7 % 11 - 5) * DAY_MS) * 1000,
            ..Event::default()
        })
        .collect();
    let both = Both::with(&events).await;
    let router = reads(Queries::new(both.postgres.clone(), Options::default()));
    for id in 1..=40 {
        let answer = both.get(&format!("/query/{id}")).await;
        assert_eq!(answer.json()["id"], id);
        // With the first ids of the days in its cache.
        assert_eq!(get(&router, &format!("/query/{id}")).await, answer);
    }
    for id in [-1, 0, 41, i64::MAX] {
        let answer = both.get(&format!("/query/{id}")).await;
        assert_eq!(answer.status, 404, "{id}");
    }
}

/// The pool of queries does not check its connections, and after a restart of the server all of them are closed.
#[tokio::test]
async fn a_query_after_the_server_closed_all_connections_gets_a_new_one() {
    let both = Both::with(&[Event::default()]).await;
    let router = reads(Queries::new(both.postgres.clone(), Options::default()));
    for _ in 0..3 {
        let answers = futures_util::future::join_all((0..8).map(|_| get(&router, "/query"))).await;
        assert!(answers.iter().all(|answer| answer.ids() == [1]));
        let close = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = current_database() AND pid <> pg_backend_pid()";
        let mut admin = both.database.connect().await;
        admin.execute(close).await.expect("closed");
        assert_eq!(get(&router, "/query").await.ids(), [1]);
    }
}
