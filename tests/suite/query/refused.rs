//! Invalid requests.

use axum::http::StatusCode;

use super::stores::{Both, Event};

#[tokio::test]
async fn a_bad_request_is_answered_400_with_the_parameter_and_what_it_must_be() {
    let both = Both::with(&[Event::default()]).await;
    let many: String = (0..21).map(|n| format!("attributes.k{n}=v&")).collect();
    let long = "x".repeat(30_000);
    for (uri, parameter, sentence) in [
        ("/query?limit=-1", "limit", "from 1 to 10000"),
        ("/query?limit=abc", "limit", "from 1 to 10000"),
        ("/query?limit=100000000000000000000", "limit", "10000"),
        ("/query?limit=10001", "limit", "10000"),
        ("/query?offset=-1", "offset", "from 0 to 100000"),
        ("/query?offset=100001", "offset", "100000"),
        (
            "/query?from=1700000000002&to=1700000000001",
            "from",
            "after to",
        ),
        ("/query?from=soon", "from", "RFC 3339"),
        ("/query?to=2026-02-30T00:00:00Z", "to", "RFC 3339"),
        ("/query?speed=1", "speed", "unknown parameter speed"),
        ("/query?name=a&name=b", "name", "twice"),
        (
            &format!("/query?{many}"),
            "attributes.k20",
            "at most 20 filters",
        ),
        ("/query?cursor=abc", "cursor", "Link"),
        ("/query?order=sideways", "order", "asc or desc"),
        ("/query?name=%FF", "name", "UTF-8"),
        ("/query?name=%00", "name", "NUL"),
        ("/query?name=%zz", "name", "percent"),
        (&format!("/query?{long}=1"), "xxx", "unknown parameter"),
        ("/query?%1B%5B31m=1", "\\u{1b}[31m", "\\u{1b}[31m"),
        ("/query?format=csv", "format", "must be otlp"),
        ("/query?format=otlp", "eventType", "span, log or metric"),
        ("/query/abc", "id", "whole number"),
        ("/query/99999999999999999999", "id", "whole number"),
        ("/query/1?limit=1", "limit", "no parameter but format"),
        ("/traces/a%00b", "traceId", "NUL"),
        ("/traces/%FF", "traceId", "UTF-8"),
        (
            "/traces/a?integration=b",
            "integration",
            "limit, order, cursor and format",
        ),
        ("/traces/a?limit=10001", "limit", "10000"),
    ] {
        let answer = both.get(uri).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        assert!(answer.body.len() < 4096, "{uri}");
        let json = answer.json();
        let named = json["parameter"].as_str().expect("a parameter");
        assert!(named.starts_with(parameter), "{uri}: {named}");
        let error = json["error"].as_str().expect("a sentence");
        assert!(error.contains(sentence), "{uri}: {error}");
    }
}
