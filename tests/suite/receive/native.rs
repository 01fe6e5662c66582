//! `POST /ingest`.

use std::io::Write;

use axum::http::Method;
use ruvvector_service::receive::{AuthTokens, Options};
use serde_json::{Value, json};

use super::{EVENT, Served, gzip};

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

#[tokio::test]
async fn curl_with_nothing_but_data_works() {
    let served = Served::start().await;
    for headers in [
        &[("content-type", "application/x-www-form-urlencoded")][..],
        &[("content-type", "text/plain")],
        &[("content-type", "APPLICATION/JSON; charset=utf-8")],
        &[],
    ] {
        let answer = served.post("/ingest", headers, EVENT).await;
        assert_eq!(answer.status, 200, "{headers:?} {}", answer.text());
        assert_eq!(answer.json(), json!({"accepted": 1, "rejected": 0}));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(served.logged_events().await, 4);
}

#[tokio::test]
async fn lines_are_a_batch_and_a_bad_one_is_named_by_its_number() {
    let served = Served::start().await;
    let ndjson = [("content-type", "application/x-ndjson")];
    let lines = format!("{EVENT}\n{EVENT}\n");
    let answer = served.post("/ingest", &ndjson, lines).await;
    assert_eq!(answer.json(), json!({"accepted": 2, "rejected": 0}));

    let lines = format!("{EVENT}\n{{\"integration\":1}}\n{EVENT}\n");
    let answer = served.post("/ingest", &ndjson, lines).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["problems"][0]["line"], 2);
    served.assert_unharmed(2).await;
}

#[tokio::test]
async fn an_empty_array_is_a_success_that_stores_nothing() {
    let served = Served::start().await;
    let answer = served.post("/ingest", JSON, "[]").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, json!({"accepted": 0, "rejected": 0}))
    );
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn a_batch_is_one_unit_unless_partial_is_asked_for() {
    let served = Served::start().await;
    let batch = format!(r#"[{EVENT},{{"correlationId":"c","eventType":"x"}},{EVENT}]"#);
    let answer = served.post("/ingest", JSON, batch.clone()).await;
    assert_eq!(answer.status, 400);
    let body = answer.json();
    assert_eq!(
        (&body["accepted"], &body["rejected"]),
        (&json!(0), &json!(3))
    );
    let problems = body["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!(
        (&problems[0]["index"], &problems[0]["field"]),
        (&json!(1), &json!("integration"))
    );
    assert!(problems[0]["reason"].is_string());
    assert_eq!(served.logged_events().await, 0);

    let answer = served.post("/ingest?partial=true", JSON, batch).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(
        (&body["accepted"], &body["rejected"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(body["problems"][0]["index"], 1);
    served.assert_unharmed(2).await;
}

#[tokio::test]
async fn what_is_not_json_is_refused_and_named() {
    let served = Served::start().await;
    let utf16: Vec<u8> = EVENT.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = vec![b'['; 1_000_000];
    let bodies: Vec<Vec<u8>> = vec![
        b"".into(),
        b"{".into(),
        format!("{EVENT} x").into(),
        utf16,
        b"{\"correlationId\":\"\xff\"}".into(),
        br#"{"correlationId":"c","integration":"i","eventType":"e","metadata":{"a":NaN}}"#.into(),
        br#"{"correlationId":"c","correlationId":"d","integration":"i","eventType":"e"}"#.into(),
        deep,
    ];
    for body in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let answer = served.post("/ingest", JSON, body).await;
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text());
        assert!(answer.body.len() < 4096, "{shown}");
        let body = answer.json();
        assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(body["accepted"], 0);
    }
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn one_event_too_many_is_413_and_stores_nothing() {
    let served = Served::start().await;
    let body = format!("[{}]", vec![EVENT; 50_001].join(","));
    assert_eq!(served.post("/ingest", JSON, body).await.status, 413);
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn a_nul_is_accepted_and_any_data_is_only_data() {
    let served = Served::start().await;
    for value in [r"a\u0000b", "__proto__", r"\u001b[31m", r"\r\nX: y"] {
        let body = format!(r#"{{"correlationId":"{value}","integration":"i","eventType":"e"}}"#);
        let answer = served.post("/ingest", JSON, body).await;
        assert_eq!(answer.status, 200, "{value}: {}", answer.text());
    }
    served.assert_unharmed(4).await;
}

/// A client wrote `metaData`; each event was answered with 200, and its data was nowhere.
#[tokio::test]
async fn unknown_fields_are_named_in_every_way_that_events_are_sent() {
    let served = Served::start().await;
    let event = r#"{"correlationId":"c","integration":"i","eventType":"e","metaData":{"a":1},"level":"\u0007"}"#;
    let named = json!({
        "accepted": 1,
        "rejected": 0,
        "unknown": ["level", "metaData"],
        "message": "did you mean metadata for metaData? Unknown fields are kept in metadata.",
    });
    let ndjson = &[("content-type", "application/x-ndjson")][..];
    let keyed = &[
        ("content-type", "application/json"),
        ("idempotency-key", "k"),
    ][..];
    for (path, headers, body) in [
        ("/ingest", JSON, event.to_owned()),
        ("/ingest", JSON, format!("[{event}]")),
        ("/ingest", ndjson, format!("{event}\n")),
        ("/ingest?partial=true", JSON, event.to_owned()),
        ("/ingest", keyed, event.to_owned()),
        // A retry, which is stored once.
        ("/ingest", keyed, event.to_owned()),
    ] {
        let answer = served.post(path, headers, body.clone()).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()),
            (200, named.clone()),
            "{path} {body}"
        );
    }
    served.assert_unharmed(5).await;
}

#[tokio::test]
async fn an_answer_that_names_unknown_fields_stays_short() {
    let served = Served::start().await;
    let long = "\u{1f600}".repeat(100);
    let members: String = (0..20).map(|n| format!(r#","{n}\\{long}":1"#)).collect();
    let event = format!(
        r#"{{"correlationId":"c","integration":"i","eventType":"e","metadata":{{"5\\{long}":1}}{members}}}"#
    );
    let bad = format!(r#"{{"correlationId":"{}"}}"#, "x".repeat(300));
    let batch = format!("[{event},{}]", vec![bad; 20].join(","));
    for (path, body) in [("/ingest", event), ("/ingest?partial=true", batch)] {
        let answer = served.post(path, JSON, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body.len() < 4096, "{}", answer.body.len());
        let body = answer.json();
        let unknown = body["unknown"].as_array().expect("a list").len();
        assert!((1..=10).contains(&unknown), "{body}");
    }
}

#[tokio::test]
async fn every_content_encoding_is_undone() {
    let served = Served::start().await;
    let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    deflate.write_all(EVENT.as_bytes()).unwrap();
    let deflate = deflate.finish().unwrap();
    let zstd = zstd::encode_all(EVENT.as_bytes(), 1).unwrap();
    for (encoding, body) in [
        ("gzip", gzip(EVENT.as_bytes())),
        ("GZIP", gzip(EVENT.as_bytes())),
        ("zstd", zstd),
        ("deflate", deflate.clone()),
        ("zlib", deflate),
        ("identity", EVENT.into()),
    ] {
        let answer = served
            .post("/ingest", &[("content-encoding", encoding)], body)
            .await;
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text());
    }
    served.assert_unharmed(6).await;
}

#[tokio::test]
async fn parameters_that_are_not_known_are_refused() {
    let served = Served::start().await;
    for query in ["parital=true", "partial=1", "wait=stored&wait=stored"] {
        let answer = served.post(&format!("/ingest?{query}"), JSON, EVENT).await;
        assert_eq!(answer.status, 400, "{query}");
    }
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn a_client_that_waits_for_the_database_hears_that_it_has_not_stored() {
    let served = Served::start().await;
    let answer = served.post("/ingest?wait=stored", JSON, EVENT).await;
    let expected = json!({"accepted": 1, "rejected": 0, "stored": false});
    assert_eq!((answer.status.as_u16(), answer.json()), (200, expected));
    let nothing = served.post("/ingest?wait=stored", JSON, "[]").await;
    assert_eq!(nothing.json()["stored"], true);
}

#[tokio::test]
async fn other_methods_are_405_and_other_content_types_415() {
    let served = Served::start().await;
    let unknown = Method::from_bytes("X".repeat(8192).as_bytes()).unwrap();
    for method in [Method::GET, Method::PUT, Method::OPTIONS, unknown] {
        let answer = served.send(method, "/ingest", JSON, "").await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), Some("POST"));
        assert!(answer.json()["error"].is_string());
    }
    for content_type in ["application/xml", "application/x-protobuf", "image/png"] {
        let answer = served
            .post("/ingest", &[("content-type", content_type)], EVENT)
            .await;
        assert_eq!(answer.status, 415, "{content_type}");
    }
    served.assert_unharmed(0).await;
}

#[tokio::test]
async fn no_web_page_writes_but_those_of_listed_origins() {
    let served = Served::start_with(Options {
        cors_origins: vec!["https://shop.example".to_owned()],
        auth_tokens: AuthTokens::new(&["secret".into()]),
        ..Options::default()
    })
    .await;
    let foreign = [
        ("origin", "https://evil.example"),
        ("authorization", "Bearer secret"),
    ];
    let answer = served.post("/ingest", &foreign, EVENT).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("access-control-allow-origin"), None);

    let listed = [
        ("origin", "https://shop.example"),
        ("authorization", "Bearer secret"),
    ];
    let answer = served.post("/ingest", &listed, EVENT).await;
    assert_eq!(answer.status, 200);
    let allowed = answer.header("access-control-allow-origin");
    assert_eq!(allowed, Some("https://shop.example"));
    assert_eq!(served.logged_events().await, 1);
}

#[tokio::test]
async fn a_bearer_token_is_asked_for_when_one_is_set() {
    let served = Served::start_with(Options {
        auth_tokens: AuthTokens::new(&["one".into(), "two".into()]),
        ..Options::default()
    })
    .await;
    for authorization in ["", "Bearer three", "Basic one"] {
        let headers = [("authorization", authorization)];
        let answer = served.post("/ingest", &headers, EVENT).await;
        assert_eq!(answer.status, 401, "{authorization}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for authorization in ["Bearer one", "bearer two"] {
        let headers = [("authorization", authorization)];
        assert_eq!(served.post("/ingest", &headers, EVENT).await.status, 200);
    }
    assert_eq!(served.logged_events().await, 2);
}

#[tokio::test]
async fn many_problems_make_no_long_answer() {
    let served = Served::start().await;
    let event =
        json!({"correlationId": "c", "integration": "\u{1b}\"".repeat(500), "eventType": 1});
    let batch = Value::from(vec![event; 1000]);
    let answer = served.post("/ingest", JSON, batch.to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.len() < 4096, "{} bytes", answer.body.len());
    assert!(!answer.json()["problems"].as_array().unwrap().is_empty());
}
