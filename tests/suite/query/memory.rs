//! Answers within their share of the process's memory.

use axum::http::StatusCode;
use ruvvector_service::query::Options;

use super::stores::{Both, Event, NOON};

/// An event whose metadata is one text of that many bytes, that many milliseconds after noon.
fn long(after_noon_ms: i64, bytes: usize) -> Event {
    let metadata = format!(r#"{{"text": "{}"}}"#, "x".repeat(bytes));
    Event {
        timestamp: NOON + after_noon_ms,
        metadata: metadata.leak(),
        ..Event::default()
    }
}

/// Texts over 64 KiB are read one by one, which no client can notice.
#[tokio::test]
async fn events_with_long_texts_are_answered_whole_and_in_their_order() {
    let events = [
        Event::default(),
        long(1, 70_000),
        long(2, 200),
        long(3, 3 << 20),
        long(4, 65_000),
    ];
    let both = Both::with(&events).await;
    for (uri, ids) in [
        ("/query", &[5, 4, 3, 2, 1][..]),
        ("/query?order=asc", &[1, 2, 3, 4, 5]),
        ("/query?limit=2", &[5, 4]),
        ("/query?integration=i&eventType=event", &[5, 4, 3, 2, 1]),
        ("/query?correlationId=c", &[5, 4, 3, 2, 1]),
    ] {
        let answer = both.get(uri).await;
        assert_eq!(answer.ids(), ids, "{uri}");
        for event in answer.json().as_array().expect("an array") {
            let id = event["id"].as_u64().expect("an id");
            let length = event["metadata"]["text"].as_str().map_or(0, str::len);
            let sent = [0, 70_000, 200, 3 << 20, 65_000];
            let place = usize::try_from(id).expect("small") - 1;
            assert_eq!(length, sent[place], "{uri}: event {id}");
        }
    }
    let alone = both.get("/query/4").await;
    assert_eq!(alone.status, StatusCode::OK);
    assert!(alone.body.len() > 3 << 20);
}

/// A page is cut before an event that does not fit beside others, and the link leads to it.
#[tokio::test]
async fn a_page_of_long_events_is_cut_and_goes_on() {
    let options = Options {
        memory_bytes: 12 << 20,
        answer_bytes: 4 << 20,
        ..Options::default()
    };
    let events: Vec<_> = (0..6).map(|n| long(n, 1 << 20)).collect();
    let both = Both::under(options, &events).await;
    let (mut next, mut ids) = (Some("/query".to_owned()), Vec::new());
    while let Some(uri) = next {
        let answer = both.get(&uri).await;
        assert!(answer.body.len() <= 4 << 20);
        ids.extend(answer.ids());
        next = answer.next().map(str::to_owned);
    }
    assert_eq!(ids, [6, 5, 4, 3, 2, 1]);
}

/// An event that no answer can hold is refused with advice; events beside it are answered.
#[tokio::test]
async fn an_event_that_can_never_be_held_is_named() {
    let options = Options {
        memory_bytes: 6 << 20,
        answer_bytes: 2 << 20,
        ..Options::default()
    };
    let both = Both::under(options, &[long(0, 8 << 20), Event::default(), long(5, 10)]).await;
    let refused = both.get("/query/1").await;
    assert_eq!(refused.status, StatusCode::INSUFFICIENT_STORAGE);
    let error = refused.json()["error"].to_string();
    assert!(error.contains("event 1 has about 83886"), "{error}");
    assert!(error.contains("memory_bytes"), "{error}");
    let page = both.get("/query").await;
    assert_eq!(page.ids(), [3, 2]);
    assert!(page.next().is_some());
}
