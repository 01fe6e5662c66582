//! Parameters and the events that they find.

use axum::http::StatusCode;

use super::stores::{Both, Event, NOON};

const TRACE: &str = "3f2a9c4e7b1d48f0a6c5e8d7b2a1903c";

fn events() -> Vec<Event> {
    vec![
        // 1: native, with all optional columns.
        Event {
            correlation_id: "order-1",
            integration: "shop",
            provider: Some("stripe"),
            event_type: "payment.created",
            trace_id: Some("REQ-17"),
            span_id: Some("B7"),
            metadata: r#"{"ok": true, "amount": 12.50, "method": "card", "attempts": 3}"#,
            ..Event::default()
        },
        // 2: native, without optional columns.
        Event {
            timestamp: NOON + 1,
            correlation_id: "order-2",
            integration: "shop",
            metadata: r#"{"amount": 123456789012345678901234567890}"#,
            ..Event::default()
        },
        // 3, 4, 5: spans of a trace; the last has a different correlation id.
        Event {
            timestamp: NOON + 30,
            correlation_id: TRACE,
            integration: "api",
            event_type: "span",
            trace_id: Some(TRACE),
            span_id: Some("61d0c2b3a4f5e697"),
            name: Some("GET /orders"),
            status: Some("OK"),
            time_unix_nano: Some((NOON + 30) * 1_000_000 + 123_456),
            duration_ns: Some(1_500_000),
            kind: Some(2),
            flags: Some(4),
            resource: Some(1),
            metadata: r#"{"attributes": {"http.route": "/orders", "http.status_code": 200}}"#,
            ..Event::default()
        },
        Event {
            timestamp: NOON + 10,
            correlation_id: TRACE,
            integration: "api",
            event_type: "span",
            trace_id: Some(TRACE),
            span_id: Some("9a8b7c6d5e4f3021"),
            parent_span_id: Some("61d0c2b3a4f5e697"),
            name: Some("SELECT"),
            status: Some("ERROR"),
            duration_ns: Some(2_000_000),
            resource: Some(2),
            metadata: r#"{"attributes": {"db.system": "postgresql", "http.status_code": "200"}}"#,
            ..Event::default()
        },
        Event {
            timestamp: NOON + 20,
            correlation_id: "order-1",
            integration: "worker",
            event_type: "span",
            trace_id: Some(TRACE),
            duration_ns: Some(10_000_000),
            resource: Some(1),
            created_at_micros: (NOON - 86_400_000) * 1000 + 1,
            ..Event::default()
        },
        // 6: an event whose correlation id is the trace's id, but which is not part of the trace.
        Event {
            timestamp: NOON + 40,
            correlation_id: TRACE,
            ..Event::default()
        },
        // 7: received on another day, from a clock that runs far behind.
        Event {
            timestamp: 1000,
            created_at_micros: (NOON + 86_400_000) * 1000 + 999,
            integration: "clock",
            ..Event::default()
        },
    ]
}

async fn both() -> Both {
    let both = Both::with(&events()).await;
    both.add_resource(
        1,
        r#"{"attributes": {"host.name": "a", "service.name": "api"}}"#,
        r#"{"name": "lib"}"#,
    )
    .await;
    both.add_resource(
        2,
        r#"{"schemaUrl": "u", "attributes": {"host.name": "b"}}"#,
        "{}",
    )
    .await;
    both
}

#[tokio::test]
async fn every_parameter_finds_the_same_events_in_both_stores() {
    let both = both().await;
    let day_later = NOON + 86_400_000;
    for (query, ids) in [
        ("", &[6, 3, 5, 4, 2, 1, 7][..]),
        ("order=desc", &[6, 3, 5, 4, 2, 1, 7]),
        ("order=asc", &[7, 1, 2, 4, 5, 3, 6]),
        ("limit=2", &[6, 3]),
        ("limit=2&offset=2", &[5, 4]),
        ("offset=6", &[7]),
        ("offset=7", &[]),
        ("integration=shop", &[2, 1]),
        ("integration=shop&order=asc", &[1, 2]),
        ("integration=shop&limit=1&offset=1", &[1]),
        ("integration=Shop", &[]),
        ("integration=", &[]),
        ("correlationId=order-1", &[5, 1]),
        ("eventType=span", &[3, 5, 4]),
        ("provider=stripe", &[1]),
        ("name=GET%20/orders", &[3]),
        ("name=GET+/orders", &[3]),
        ("status=ERROR", &[4]),
        ("spanId=61d0c2b3a4f5e697", &[3]),
        ("spanId=61D0C2B3A4F5E697", &[3]),
        ("spanId=B7", &[1]),
        ("spanId=b7", &[]),
        ("traceId=3f2a9c4e7b1d48f0a6c5e8d7b2a1903c", &[3, 5, 4]),
        ("traceId=3F2A9C4E7B1D48F0A6C5E8D7B2A1903C", &[3, 5, 4]),
        ("traceId=REQ-17", &[1]),
        ("traceId=req-17", &[]),
        ("from=1767268800010", &[6, 3, 5, 4]),
        ("to=1767268800010", &[4, 2, 1, 7]),
        ("from=1767268800010&to=1767268800010", &[4]),
        (
            "from=2026-01-01T12:00:00.010Z&to=2026-01-01T12:00:00.020Z",
            &[5, 4],
        ),
        ("from=2026-01-01T14:00:00.040%2B02:00", &[6]),
        ("from=2026-01-01T14:00:00.040+02:00", &[6]),
        ("to=1970-01-01T00:00:00Z", &[]),
        ("minDurationMs=2", &[5, 4]),
        ("maxDurationMs=2", &[3, 4]),
        ("minDurationMs=1.5&maxDurationMs=1.5", &[3]),
        ("receivedFrom=2026-01-02T00:00:00Z", &[7]),
        ("receivedTo=2025-12-31T12:00:00Z", &[5]),
        ("receivedTo=2025-12-31T11:59:59.999Z", &[]),
        (
            &format!("receivedFrom={day_later}&receivedTo={day_later}"),
            &[7],
        ),
        ("attributes.http.route=/orders", &[3]),
        // A number and a string with the same text: the text is compared.
        ("attributes.http.status_code=200", &[3, 4]),
        ("attributes.http.status_code=200.0", &[]),
        ("attributes.db.system=postgresql&status=OK", &[]),
        ("resource.host.name=a", &[3, 5]),
        (
            "resource.host.name=a&resource.service.name=api&integration=api",
            &[3],
        ),
        ("resource.host.name=c", &[]),
        ("metadata.ok=true", &[1]),
        ("metadata.ok=True", &[]),
        ("metadata.method=card", &[1]),
        ("metadata.method=%22card%22", &[]),
        ("metadata.amount=12.50", &[1]),
        ("metadata.amount=12.5", &[]),
        ("metadata.amount=123456789012345678901234567890", &[2]),
        (r"metadata.attributes.http\.route=/orders", &[3]),
        ("metadata.attributes.http.route=/orders", &[]),
        ("integration=absent", &[]),
        ("eventType=absent&order=asc", &[]),
    ] {
        assert_eq!(
            both.get(&format!("/query?{query}")).await.ids(),
            ids,
            "{query}"
        );
    }
}

#[tokio::test]
async fn an_event_is_answered_whole_with_its_resource_and_the_stored_json() {
    let both = both().await;
    let whole = concat!(
        r#"{"id":3,"correlationId":"3f2a9c4e7b1d48f0a6c5e8d7b2a1903c","integration":"api","provider":null,"#,
        r#""eventType":"span","timestamp":1767268800030,"#,
        r#""metadata":{"attributes": {"http.route": "/orders", "http.status_code": 200}},"#,
        r#""traceId":"3f2a9c4e7b1d48f0a6c5e8d7b2a1903c","spanId":"61d0c2b3a4f5e697","#,
        r#""createdAt":"2026-01-01T12:00:00Z","name":"GET /orders","timeUnixNano":"1767268800030123456","#,
        r#""durationNs":1500000,"kind":2,"status":"OK","flags":4,"#,
        r#""resource":{"attributes": {"host.name": "a", "service.name": "api"}},"scope":{"name": "lib"}}"#
    );
    assert_eq!(both.get("/query/3").await.body, whole);
    let page = both.get("/query?name=GET%20/orders").await;
    assert_eq!(page.body, format!("[{whole}]"));

    let plain = concat!(
        r#"{"id":2,"correlationId":"order-2","integration":"shop","provider":null,"eventType":"event","#,
        r#""timestamp":1767268800001,"metadata":{"amount": 123456789012345678901234567890},"#,
        r#""traceId":null,"spanId":null,"createdAt":"2026-01-01T12:00:00Z"}"#
    );
    assert_eq!(both.get("/query/2").await.body, plain);
    let received = &both.get("/query/7").await.json()["createdAt"];
    assert_eq!(received, "2026-01-02T12:00:00.000999Z");
}

#[tokio::test]
async fn an_id_that_no_event_has_is_not_found() {
    let both = both().await;
    for id in ["0", "8", "-1", "9223372036854775807"] {
        let answer = both.get(&format!("/query/{id}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.json()["error"], format!("no event has the id {id}"));
    }
}

#[tokio::test]
async fn a_trace_is_all_of_its_events_in_the_order_of_time() {
    let both = both().await;
    for (uri, ids) in [
        ("/traces/3f2a9c4e7b1d48f0a6c5e8d7b2a1903c", &[4, 5, 3][..]),
        ("/traces/3F2A9C4E7B1D48F0A6C5E8D7B2A1903C", &[4, 5, 3]),
        (
            "/traces/3f2a9c4e7b1d48f0a6c5e8d7b2a1903c?order=desc",
            &[3, 5, 4],
        ),
        ("/traces/3f2a9c4e7b1d48f0a6c5e8d7b2a1903c?limit=2", &[4, 5]),
        ("/traces/REQ-17", &[1]),
        ("/traces/req%2D17", &[]),
    ] {
        assert_eq!(both.get(uri).await.ids(), ids, "{uri}");
    }
    let first = both
        .get("/traces/3F2A9C4E7B1D48F0A6C5E8D7B2A1903C?limit=2")
        .await;
    let second = both.get(first.next().expect("more")).await;
    assert_eq!(second.ids(), [3]);
    assert_eq!(second.next(), None);
}

#[tokio::test]
async fn keys_of_any_spelling_are_found_and_objects_and_arrays_never_match() {
    let event = |metadata| Event {
        metadata,
        ..Event::default()
    };
    let both = Both::with(&[
        event(r#"{"a": {"b": "nested"}, "a.b": "dot"}"#),
        event(r#"{"say \"hi\"": "quote"}"#),
        event(r#"{"$": "dollar", "$.a": "path"}"#),
        event(r#"{"back\\slash": "backslash"}"#),
        event(r#"{"[0]": "bracket"}"#),
        event(r#"{"": "empty", "a": {"": {"": "within"}}}"#),
        event(r#"{"ключ": "юникод 😀"}"#),
        event(r#"{"tab\tkey\u0001": "line\nbreak\u001f"}"#),
        event(r#"{"l": [1, 2], "n": null, "o": {"x": 1}, "s": "{\"x\": 1}", "t": "null"}"#),
        event(r#"{"0": "zero", "l": ["first"]}"#),
        event(r#"{"e": "", "f": false, "m": -1.50, "z": 0}"#),
        event(r#"{"it's": "o'clock"}"#),
    ])
    .await;
    for (query, ids) in [
        (r"metadata.a\.b=dot", &[1][..]),
        ("metadata.a.b=nested", &[1]),
        ("metadata.a.b=dot", &[]),
        ("metadata.a=nested", &[]),
        ("metadata.say%20%22hi%22=quote", &[2]),
        ("metadata.$=dollar", &[3]),
        (r"metadata.$\.a=path", &[3]),
        ("metadata.$.a=path", &[]),
        ("metadata.back%5Cslash=backslash", &[4]),
        ("metadata.%5B0%5D=bracket", &[5]),
        // The key `""` is stored, and its parameter was refused: "must be followed by a key".
        ("metadata.=empty", &[6]),
        ("metadata.a..=within", &[6]),
        ("metadata.a.=within", &[]),
        ("metadata..=within", &[]),
        (
            "metadata.%D0%BA%D0%BB%D1%8E%D1%87=%D1%8E%D0%BD%D0%B8%D0%BA%D0%BE%D0%B4%20%F0%9F%98%80",
            &[7],
        ),
        ("metadata.tab%09key%01=line%0Abreak%1F", &[8]),
        ("metadata.o=%7B%22x%22:%201%7D", &[]),
        ("metadata.l=%5B1,%202%5D", &[]),
        ("metadata.n=null", &[]),
        ("metadata.n=", &[]),
        ("metadata.t=null", &[9]),
        ("metadata.s=%7B%22x%22:%201%7D", &[9]),
        ("metadata.0=zero", &[10]),
        ("metadata.l.0=first", &[]),
        ("metadata.f=false", &[11]),
        ("metadata.z=0", &[11]),
        ("metadata.e=", &[11]),
        ("metadata.m=-1.50", &[11]),
        ("metadata.m=-1.5", &[]),
        ("metadata.it%27s=o%27clock", &[12]),
        ("metadata.missing=", &[]),
        ("metadata.f.deeper=false", &[]),
    ] {
        assert_eq!(
            both.get(&format!("/query?{query}")).await.ids(),
            ids,
            "{query}"
        );
    }
}

#[tokio::test]
async fn sql_in_a_value_or_a_path_is_data_and_matches_nothing() {
    let both = both().await;
    let attempts = [
        "' OR 1=1--",
        "'; DROP TABLE telemetry_events; --",
        "\" OR \"\"=\"",
        "$1",
        "?1",
        "%",
        "\\' OR 1=1--",
        "$.a') OR 1=1--",
        "{}') OR ('1'='1",
    ];
    let encoded = |text: &str| -> String { text.bytes().map(|b| format!("%{b:02X}")).collect() };
    for attempt in attempts.map(encoded) {
        for name in [
            "integration",
            "correlationId",
            "eventType",
            "provider",
            "traceId",
            "spanId",
            "name",
            "status",
            "attributes.a",
            "resource.host.name",
            "metadata.ok",
        ] {
            let uri = format!("/query?{name}={attempt}");
            assert_eq!(both.get(&uri).await.ids(), [0; 0], "{uri}");
        }
        for name in ["attributes", "resource", "metadata", "metadata.a"] {
            let uri = format!("/query?{name}.{attempt}=true");
            assert_eq!(both.get(&uri).await.ids(), [0; 0], "{uri}");
        }
        assert_eq!(both.get(&format!("/traces/{attempt}")).await.ids(), [0; 0]);
    }
    assert_eq!(both.get("/query").await.ids().len(), events().len());
}
