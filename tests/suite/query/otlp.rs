//! Pages written as OTLP: the same bytes from both stores, cut where a page is full.

use axum::http::StatusCode;
use ruvvector_service::query::Options;

use super::stores::{Both, Event, NOON};

/// The names of the spans of all pages, in their order on each.
async fn names(both: &Both, uri: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut next = Some(uri.to_owned());
    while let Some(uri) = next {
        let answer = both.get(&uri).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let json = answer.json();
        let resources = json["resourceSpans"].as_array().expect("a list");
        let scopes = resources
            .iter()
            .flat_map(|r| r["scopeSpans"].as_array().expect("a list"));
        let spans = scopes.flat_map(|s| s["spans"].as_array().expect("a list"));
        pages.push(
            spans
                .map(|s| s["name"].as_str().expect("a name").to_owned())
                .collect(),
        );
        next = answer.next().map(str::to_owned);
    }
    pages
}

#[tokio::test]
async fn an_export_over_its_bytes_goes_on_at_the_link_and_misses_none() {
    const NAMES: [&str; 12] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
    // As OTLP a list of numbers takes several times its stored bytes.
    let list = format!(r#"{{"attributes": {{"list": [1{}]}}}}"#, ", 1".repeat(99));
    let list: &'static str = Box::leak(list.into_boxed_str());
    let events: Vec<_> = (0..)
        .zip(NAMES)
        .map(|(index, name)| Event {
            event_type: "span",
            trace_id: Some("t"),
            name: Some(name),
            // All of a millisecond, the later ones first.
            time_unix_nano: Some(NOON * 1_000_000 + 900_000 - index),
            resource: Some(if index % 2 == 0 { 1 } else { 2 }),
            metadata: list,
            ..Event::default()
        })
        .collect();
    let options = Options {
        answer_bytes: 5000,
        ..Options::default()
    };
    let both = Both::under(options, &events).await;
    both.add_resource(1, "{}", "{}").await;
    both.add_resource(2, r#"{"schemaUrl": "u"}"#, "{}").await;
    for uri in [
        "/traces/t?format=otlp",
        "/query?eventType=span&format=otlp",
        "/query?eventType=span&format=otlp&order=asc&limit=7",
    ] {
        let pages = names(&both, uri).await;
        assert!(
            pages.iter().all(|page| (1..=3).contains(&page.len())),
            "{uri}: {pages:?}"
        );
        let mut found = pages.concat();
        found.sort_by_key(|name| name.parse::<u8>().expect("a number"));
        assert_eq!(found, NAMES, "{uri}");
    }
}

#[tokio::test]
async fn a_row_that_was_changed_in_the_database_is_named() {
    let event = |metadata| Event {
        event_type: "log",
        resource: Some(1),
        metadata,
        ..Event::default()
    };
    let both = Both::with(&[event("{}"), event(r#"{"attributes": 1}"#)]).await;
    both.add_resource(1, "{}", "{}").await;
    let sound = both.get("/query/1?format=otlp").await;
    assert_eq!(sound.status, StatusCode::OK, "{}", sound.body);
    for uri in ["/query/2?format=otlp", "/query?eventType=log&format=otlp"] {
        let answer = both.get(uri).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{uri}");
        assert!(
            answer.body.contains("event 2 is not what was stored"),
            "{}",
            answer.body
        );
    }
}
