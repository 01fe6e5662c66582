//! Numbers of events, errors and percentiles: the groups of both stores beside those that this test counts itself.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use ruvvector_service::query::Options;
use serde_json::{Value, json};

use super::stores::{Both, Event, NOON};

const MINUTE: i64 = 60_000;

/// An end behind all events; without one, the answer says when it was asked for.
const LATE: &str = "2027-01-01T00:00:00Z";

/// Events of two hours around noon, with every column that groups them once absent.
fn events() -> Vec<Event> {
    let texts = ["a", "b", "c"];
    (0..600_i64)
        .map(|n| {
            let part = |of: i64| usize::try_from(n / of % 3).expect("0 to 2");
            let event_type = ["span", "log", "order.paid"][part(1)];
            Event {
                timestamp: NOON + (n * 7_919 % 120 - 60) * MINUTE + n % 60_000,
                integration: texts[part(3)],
                provider: (n % 2 == 0).then_some("p"),
                event_type,
                name: (n % 5 > 0).then_some(texts[part(5)]),
                status: match event_type {
                    "span" => Some(["UNSET", "OK", "ERROR"][part(7)]),
                    "log" => Some(["INFO", "ERROR", "FATAL"][part(7)]),
                    // Not the status of a span or a log record: no error.
                    _ => (n % 2 == 0).then_some("ERROR"),
                },
                // From less than a microsecond to a minute, each power of two among them.
                duration_ns: (event_type == "span").then(|| (1_i64 << (n % 36)) + n % 4 - 1),
                kind: (n % 4 > 0).then_some(n % 4),
                ..Event::default()
            }
        })
        .collect()
}

/// The numbers of one group.
#[derive(Default)]
struct Expected {
    count: u64,
    errors: u64,
    durations: Vec<i64>,
}

fn value(event: &Event, column: &str) -> Value {
    match column {
        "integration" => json!(event.integration),
        "provider" => json!(event.provider),
        "eventType" => json!(event.event_type),
        "name" => json!(event.name),
        "status" => json!(event.status),
        "kind" => json!(event.kind),
        other => panic!("{other} is no column"),
    }
}

fn is_error(event: &Event) -> bool {
    match event.event_type {
        "span" => event.status == Some("ERROR"),
        "log" => matches!(event.status, Some("ERROR" | "FATAL")),
        _ => false,
    }
}

/// Counts the groups of events by their values as JSON.
fn expected<'a>(
    events: impl Iterator<Item = &'a Event>,
    by: &[&str],
    bucket_ms: Option<i64>,
) -> BTreeMap<String, Expected> {
    let mut groups: BTreeMap<String, Expected> = BTreeMap::new();
    for event in events {
        let time = bucket_ms.map(|width| event.timestamp.div_euclid(width) * width);
        let values: Vec<Value> = by.iter().map(|column| value(event, column)).collect();
        let group = groups.entry(json!([time, values]).to_string()).or_default();
        group.count += 1;
        group.errors += u64::from(is_error(event));
        group.durations.extend(event.duration_ns);
    }
    groups
}

fn check_percentiles(group: &Value, mut durations: Vec<i64>) {
    durations.sort_unstable();
    for (name, percent) in [("p50Ms", 50), ("p95Ms", 95), ("p99Ms", 99)] {
        let rank = (durations.len() * percent).div_ceil(100);
        let Some(exact) = rank.checked_sub(1).map(|index| durations[index]) else {
            assert_eq!(group[name], Value::Null, "{group}");
            continue;
        };
        let found_ns = group[name].as_f64().expect("a number") * 1e6;
        #[expect(clippy::cast_precision_loss, reason = "below 2^53")]
        let exact = exact as f64;
        assert!(
            (found_ns - exact).abs() <= exact / 64.0 + 1e-6,
            "{name} of {group}: {exact}"
        );
    }
}

#[tokio::test]
async fn groups_are_those_that_the_events_have() {
    let events = events();
    let both = Both::with(&events).await;
    let (from, to) = (NOON - 30 * MINUTE, NOON + 29 * MINUTE);
    for (by, bucket, bucket_ms) in [
        ("", "", None),
        ("integration", "", None),
        ("integration,name", "", None),
        ("status,eventType,kind,provider", "", None),
        ("", "5m", Some(5 * MINUTE)),
        ("name", "1h", Some(60 * MINUTE)),
        (
            "integration,provider,eventType,name,status,kind",
            "1d",
            Some(1_440 * MINUTE),
        ),
    ] {
        let mut uri = format!("/aggregate?from={from}&to={to}");
        for (name, value) in [("by", by), ("bucket", bucket)] {
            if !value.is_empty() {
                uri = format!("{uri}&{name}={value}");
            }
        }
        let columns: Vec<&str> = by.split(',').filter(|column| !column.is_empty()).collect();
        let within = events
            .iter()
            .filter(|event| (from..=to).contains(&event.timestamp));
        let mut missing = expected(within, &columns, bucket_ms);
        let answer = both.get(&uri).await;
        assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.body);
        let answer = answer.json();
        assert_eq!(answer["more"], false, "{uri}");
        for group in answer["groups"].as_array().expect("groups") {
            let values: Vec<&Value> = columns.iter().map(|column| &group[*column]).collect();
            let key = json!([group.get("time"), values]).to_string();
            let expected = missing.remove(&key);
            let expected = expected.unwrap_or_else(|| panic!("{uri} has {group}"));
            assert_eq!(group["count"], expected.count, "{uri}: {group}");
            assert_eq!(group["errors"], expected.errors, "{uri}: {group}");
            check_percentiles(group, expected.durations);
        }
        assert!(missing.is_empty(), "{uri} lacks {:?}", missing.keys());
    }
}

#[tokio::test]
async fn shares_and_rates_are_of_the_part_of_a_group_that_was_asked_for() {
    let at = |seconds: i64, status| Event {
        timestamp: NOON + seconds * 1_000,
        event_type: "span",
        status: Some(status),
        ..Event::default()
    };
    let both = Both::with(&[
        at(0, "OK"),
        at(10, "ERROR"),
        at(50, "OK"),
        at(59, "OK"),
        at(60, "ERROR"),
    ])
    .await;
    // From 30 s on, and to the end of the 90th second.
    let (from, to) = (NOON + 30_000, NOON + 89_999);
    let answer = both
        .get(&format!("/aggregate?from={from}&to={to}&bucket=1m"))
        .await
        .json();
    let expected = json!([
        {"time": NOON, "count": 2, "errors": 0, "errorShare": 0, "rate": 2.0 / 30.0, "p50Ms": null, "p95Ms": null, "p99Ms": null},
        {"time": NOON + MINUTE, "count": 1, "errors": 1, "errorShare": 1, "rate": 1.0 / 30.0, "p50Ms": null, "p95Ms": null, "p99Ms": null},
    ]);
    let numbers = |groups: &Value| -> Vec<Vec<Option<f64>>> {
        let groups = groups.as_array().expect("groups").iter();
        let names = ["time", "count", "errors", "errorShare", "rate", "p50Ms"];
        groups
            .map(|group| names.iter().map(|name| group[*name].as_f64()).collect())
            .collect()
    };
    assert_eq!(numbers(&answer["groups"]), numbers(&expected), "{answer}");
    assert_eq!((&answer["from"], &answer["to"]), (&json!(from), &json!(to)));
}

#[tokio::test]
async fn filters_apply_to_groups_and_counts_as_to_events() {
    let both = Both::with(&events()).await;
    both.add_resource(1, r#"{"attributes": {"host.name": "h"}}"#, "{}")
        .await;
    both.add(&Event {
        resource: Some(1),
        ..Event::default()
    })
    .await;
    let all = "receivedFrom=2026-01-01T00:00:00Z";
    for filter in [
        all,
        "integration=a",
        "status=ERROR&eventType=log",
        "name=absent",
        "minDurationMs=1",
        "resource.host.name=h",
        "resource.host.name=absent",
        "metadata.absent=1",
    ] {
        let events = both.get(&format!("/query?limit=10000&{filter}")).await;
        let found = events.ids().len();
        let counted = both.get(&format!("/query?count=true&{filter}")).await;
        assert_eq!(counted.json(), json!({ "count": found }), "{filter}");
        let grouped = both
            .get(&format!("/aggregate?from=0&to={LATE}&{filter}"))
            .await;
        let groups = grouped.json()["groups"].clone();
        let groups = groups.as_array().expect("groups");
        let sum: u64 = groups
            .iter()
            .map(|group| group["count"].as_u64().expect("a number"))
            .sum();
        assert_eq!(sum, found as u64, "{filter}");
    }
}

#[tokio::test]
async fn an_answer_with_too_many_groups_has_the_earliest_and_of_a_time_the_largest() {
    let of = |integration| Event {
        integration,
        ..Event::default()
    };
    let both = Both::with(&[of("one"), of("two"), of("two"), of("also one")]).await;
    for (limit, expected, more) in [
        (1, &["two"][..], true),
        (2, &["two", "also one"], true),
        (3, &["two", "also one", "one"], false),
    ] {
        let answer = both
            .get(&format!(
                "/aggregate?from=0&to={LATE}&by=integration&limit={limit}"
            ))
            .await
            .json();
        let groups = answer["groups"].as_array().expect("groups").iter();
        let found: Vec<&str> = groups
            .filter_map(|group| group["integration"].as_str())
            .collect();
        assert_eq!((&found[..], &answer["more"]), (expected, &json!(more)));
    }
    both.add(&Event {
        timestamp: NOON + MINUTE,
        ..of("later")
    })
    .await;
    let cut = both
        .get(&format!(
            "/aggregate?from=0&to={LATE}&by=integration&bucket=1m&limit=3"
        ))
        .await
        .json();
    let groups = cut["groups"].as_array().expect("groups").iter();
    assert!(groups.clone().all(|group| group["time"] == NOON), "{cut}");
    assert_eq!((groups.len(), &cut["more"]), (3, &json!(true)));
}

#[tokio::test]
async fn groups_that_never_fit_into_the_memory_of_answers_are_refused() {
    let options = Options {
        memory_bytes: 3 << 20,
        ..Options::default()
    };
    let events: Vec<_> = (0..4_000)
        .map(|n| Event {
            name: Some(format!("name-{n}").leak()),
            ..Event::default()
        })
        .collect();
    let both = Both::under(options, &events).await;
    let uri = format!("/aggregate?from=0&to={LATE}");
    let refused = both.get(&format!("{uri}&by=name&limit=10000")).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{}", refused.body);
    assert_eq!(refused.json()["parameter"], "by");
    let few = both.get(&format!("{uri}&by=integration")).await;
    assert_eq!(few.json()["groups"][0]["count"], 4_000);
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused_with_the_parameter() {
    let both = Both::with(&[]).await;
    for (uri, parameter) in [
        ("/aggregate?by=traceId", "by"),
        ("/aggregate?by=name,name", "by"),
        ("/aggregate?bucket=0s", "bucket"),
        ("/aggregate?bucket=106751991167d", "bucket"),
        ("/aggregate?limit=10001", "limit"),
        ("/aggregate?order=asc", "order"),
        ("/aggregate?speed=1", "speed"),
        ("/aggregate?name=%00", "name"),
        ("/query?count=maybe", "count"),
        ("/query?count=true&limit=1", "limit"),
        ("/query?count=true&cursor=abc", "cursor"),
        ("/query?count=true&format=otlp", "format"),
    ] {
        let answer = both.get(uri).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        assert_eq!(answer.json()["parameter"], parameter, "{uri}");
    }
    let empty = both.get("/aggregate?from=0&to=2026-01-01T00:00:00Z").await;
    assert_eq!(empty.json()["groups"], json!([]));
    assert_eq!(both.get("/query?count=false").await.body, "[]");
}
