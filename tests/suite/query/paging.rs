//! Successive pages.

use ruvvector_service::query::Options;

use super::stores::{Both, Event, NOON};

/// 61 events: runs of equal timestamps, two integrations, days of receipt that do not follow the events' own times.
fn events() -> Vec<Event> {
    let event = |n: i64| Event {
        timestamp: NOON + n / 7 % 5,
        created_at_micros: (NOON + (n % 3 - 1) * 86_400_000) * 1000,
        integration: if n % 2 == 0 { "even" } else { "odd" },
        trace_id: Some("t"),
        metadata: r#"{"text": "& = # ? % ü"}"#,
        ..Event::default()
    };
    (0..61).map(event).collect()
}

#[tokio::test]
async fn the_pages_of_a_walk_hold_every_event_once_in_its_order() {
    let both = Both::with(&events()).await;
    for filters in [
        "",
        "integration=odd&",
        "traceId=t&",
        "from=1767268800001&to=1767268800003&",
        "metadata.text=%26+%3D+%23+%3F+%25+%C3%BC&",
    ] {
        for order in ["desc", "asc"] {
            let whole = both.get(&format!("/query?{filters}order={order}")).await;
            assert_eq!(whole.next(), None);
            assert!(whole.ids().len() > 20);
            for limit in [1, 2, 7, 30, 60, 61, 62] {
                let uri = format!("/query?{filters}limit={limit}&order={order}");
                let pages = both.walk(&uri).await;
                assert_eq!(pages.concat(), whole.ids(), "{uri}");
                let (last, full) = pages.split_last().expect("a page");
                assert!(full.iter().all(|page| page.len() == limit), "{uri}");
                assert!(!last.is_empty() && last.len() <= limit, "{uri}");
            }
        }
    }
}

#[tokio::test]
async fn a_walk_that_began_with_an_offset_goes_on_from_there() {
    let both = Both::with(&events()).await;
    let whole = both.get("/query").await.ids();
    let pages = both.walk("/query?limit=10&offset=25").await;
    assert_eq!(pages.concat(), whole[25..]);
}

#[tokio::test]
async fn events_that_arrive_during_a_walk_neither_repeat_nor_hide_others() {
    let both = Both::with(&events()).await;
    let before = both.get("/query").await.ids();
    let first = both.get("/query?limit=20").await;
    both.add(&Event {
        timestamp: NOON + 1_000_000,
        ..Event::default()
    })
    .await;
    let mut walked = first.ids();
    walked.extend(both.walk(first.next().expect("more")).await.concat());
    assert_eq!(walked, before);
}

#[tokio::test]
async fn a_page_beyond_the_answer_s_bytes_is_cut_at_whole_events_and_goes_on() {
    let events: Vec<_> = (0..20)
        .map(|n| Event {
            timestamp: NOON + n,
            metadata: Box::leak(format!(r#"{{"pad": "{}"}}"#, "x".repeat(1000)).into_boxed_str()),
            ..Event::default()
        })
        .collect();
    let options = Options {
        answer_bytes: 4000,
        ..Options::default()
    };
    let both = Both::under(options, &events).await;
    for uri in [
        "/query",
        "/query?integration=i",
        "/query?order=asc&metadata.none=&offset=0",
    ] {
        let pages = both.walk(uri).await;
        if uri.contains("none") {
            assert_eq!(pages, [vec![0; 0]]);
            continue;
        }
        assert_eq!(pages.concat(), (1..=20).rev().collect::<Vec<_>>(), "{uri}");
        assert_eq!(pages[0].len(), 3, "{uri}");
    }
    // An event that is larger than the maximum answer is answered alone.
    let options = Options {
        answer_bytes: 100,
        ..Options::default()
    };
    let both = Both::under(options, &events[..3]).await;
    assert_eq!(both.walk("/query").await, [[3], [2], [1]]);
}

#[tokio::test]
async fn the_way_to_a_page_never_changes_what_is_on_it() {
    // A window of five rows: values are found in it, by days, by halves of many days, and in order where they crowd.
    let day = 86_400_000;
    let events: Vec<_> = (0..400)
        .map(|n: i64| Event {
            timestamp: NOON + n * 7919 % 400 / 3,
            created_at_micros: (NOON + day * (n % 40 - 20)) * 1000,
            integration: match n {
                n if n % 100 == 17 => "rare",
                n if n % 40 == 0 => "crowd of one day",
                n if n % 40 < 4 => "crowd of few days",
                _ => "common",
            },
            ..Event::default()
        })
        .collect();
    let names = [
        "rare",
        "crowd+of+one+day",
        "crowd+of+few+days",
        "common",
        "absent",
    ];
    let ranges = [
        "",
        "&order=asc",
        "&offset=1",
        "&from=1767268800050",
        "&receivedTo=1767268800000",
    ];
    let both = Both::under(five_rows(32 << 20), &events).await;
    for (name, more) in names
        .iter()
        .flat_map(|name| ranges.map(|more| (name, more)))
    {
        for limit in [1, 3, 10, 1000] {
            let uri = format!("/query?integration={name}&limit={limit}{more}");
            let pages = walk_some(&both, &uri).await.concat();
            let expected = expected(&events, name, more);
            assert_eq!(pages, expected[..expected.len().min(8 * limit)], "{uri}");
        }
    }
    // Pages of three events or so, cut by their bytes on each of the ways.
    let both = Both::under(five_rows(600), &events).await;
    for (name, more) in names
        .iter()
        .flat_map(|name| ranges.map(|more| (name, more)))
    {
        let uri = format!("/query?integration={name}{more}");
        let pages = walk_some(&both, &uri).await;
        let expected = expected(&events, name, more);
        assert!(
            pages.len() == 8 || pages.concat().len() == expected.len(),
            "{uri}"
        );
        assert_eq!(pages.concat(), expected[..pages.concat().len()], "{uri}");
        assert!(pages.iter().all(|page| page.len() <= 3), "{uri}");
    }
}

fn five_rows(answer_bytes: usize) -> Options {
    Options {
        window_rows: 5,
        answer_bytes,
        ..Options::default()
    }
}

/// The first eight pages.
async fn walk_some(both: &Both, uri: &str) -> Vec<Vec<i64>> {
    let mut pages = Vec::new();
    let mut next = Some(uri.to_owned());
    while let Some(uri) = next.filter(|_| pages.len() < 8) {
        let answer = both.get(&uri).await;
        pages.push(answer.ids());
        next = answer.next().map(str::to_owned);
    }
    pages
}

/// The result of a full scan.
fn expected(events: &[Event], name: &str, more: &str) -> Vec<i64> {
    let mut found: Vec<(i64, i64)> = (1..)
        .zip(events)
        .filter(|(_, e)| e.integration == name.replace('+', " "))
        .filter(|(_, e)| !more.contains("&from") || e.timestamp >= NOON + 50)
        .filter(|(_, e)| !more.contains("receivedTo") || e.created_at_micros / 1000 <= NOON)
        .map(|(id, e)| (e.timestamp, id))
        .collect();
    found.sort_unstable();
    if !more.contains("asc") {
        found.reverse();
    }
    let skip = usize::from(more.contains("offset"));
    found.into_iter().skip(skip).map(|(_, id)| id).collect()
}
