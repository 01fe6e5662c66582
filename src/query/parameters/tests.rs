//! The meaning of each parameter of a query, and the errors of invalid ones.

use crate::query::error::QueryError;
use crate::query::parameters::{
    Filter, Options, Quantity, Search, SortOrder, TextColumn, segments,
};
use crate::query::query_string;

fn parse(query: &str) -> Result<Search, QueryError> {
    Search::of_query(&query_string::pairs(query)?, &Options::default())
}

/// Returns the parameter that the error names, and its sentence.
fn refused(query: &str) -> (String, String) {
    match parse(query) {
        Err(QueryError::Parameter { parameter, reason }) => (parameter, reason),
        other => panic!("{query} gave {other:?}"),
    }
}

#[test]
fn every_parameter_becomes_its_condition() {
    let text = |column, value: &str| Filter::Equal(column, value.to_owned());
    for (query, expected) in [
        ("integration=a+b", text(TextColumn::Integration, "a b")),
        ("correlationId=X", text(TextColumn::CorrelationId, "X")),
        ("eventType=span", text(TextColumn::EventType, "span")),
        ("provider=aws", text(TextColumn::Provider, "aws")),
        ("name=GET%20/", text(TextColumn::Name, "GET /")),
        ("status=ERROR", text(TextColumn::Status, "ERROR")),
        ("traceId=t", Filter::Trace("t".into())),
        ("spanId=s", text(TextColumn::SpanId, "s")),
        ("from=1", Filter::AtLeast(Quantity::Time, 1)),
        (
            "to=1970-01-01T00:00:01Z",
            Filter::AtMost(Quantity::Time, 1000),
        ),
        (
            "minDurationMs=0.5",
            Filter::AtLeast(Quantity::Duration, 500_000),
        ),
        (
            "maxDurationMs=2",
            Filter::AtMost(Quantity::Duration, 2_000_000),
        ),
        ("receivedFrom=3", Filter::AtLeast(Quantity::Received, 3)),
        (
            "receivedTo=100000000000",
            Filter::AtMost(Quantity::Received, 100_000_000_000),
        ),
        (
            "attributes.http.route=/",
            Filter::Metadata(vec!["attributes".into(), "http.route".into()], "/".into()),
        ),
        (
            r"metadata.a\.b.c=1",
            Filter::Metadata(vec!["a.b".into(), "c".into()], "1".into()),
        ),
        // JSON and OTLP allow the key `""`, for which no query was possible.
        (
            "metadata.=1",
            Filter::Metadata(vec![String::new()], "1".into()),
        ),
        (
            "metadata.a.=1",
            Filter::Metadata(vec!["a".into(), String::new()], "1".into()),
        ),
        (
            "attributes.=1",
            Filter::Metadata(vec!["attributes".into(), String::new()], "1".into()),
        ),
        ("resource.=1", Filter::Resource(String::new(), "1".into())),
        (
            "resource.host.name=h",
            Filter::Resource("host.name".into(), "h".into()),
        ),
    ] {
        let search = parse(query).expect(query);
        assert_eq!(search.filters, [expected], "{query}");
    }
    let search = parse("limit=7&offset=8&order=asc").unwrap();
    assert_eq!((search.limit, search.offset), (7, 8));
    assert_eq!(search.order, SortOrder::OldestFirst);
}

#[test]
fn a_path_splits_at_dots_that_are_not_escaped() {
    for (path, expected) in [
        ("a", &["a"][..]),
        ("a.b", &["a", "b"]),
        (r"a\.b", &["a.b"]),
        (r"a\b", &[r"a\b"]),
        (r"a\\.b", &[r"a\.b"]),
        ("a..b", &["a", "", "b"]),
        ("", &[""]),
        (".", &["", ""]),
        ("\\", &["\\"]),
    ] {
        assert_eq!(segments(path), expected, "{path}");
    }
}

#[test]
fn a_mistake_in_a_parameter_is_reported_with_its_name() {
    let long = "x".repeat(10_000);
    let deep = format!("metadata.{}=1", ["a"; 33].join("."));
    for (query, parameter, sentence) in [
        ("limit=-1", "limit", "a whole number from 1 to 10000"),
        ("limit=abc", "limit", "a whole number from 1 to 10000"),
        ("limit=", "limit", "a whole number from 1 to 10000"),
        ("limit=0", "limit", "a whole number from 1 to 10000"),
        ("limit=10001", "limit", "to 10000"),
        ("limit=100000000000000000000", "limit", "to 10000"),
        ("offset=-1", "offset", "from 0 to 100000"),
        ("offset=100001", "offset", "to 100000"),
        ("from=100000000002&to=100000000001", "from", "after to"),
        (
            "receivedFrom=100000000002&receivedTo=100000000001",
            "receivedFrom",
            "after receivedTo",
        ),
        ("minDurationMs=2&maxDurationMs=1", "minDurationMs", "after"),
        ("from=yesterday", "from", "RFC 3339"),
        ("to=-5", "to", "RFC 3339"),
        // A query with Unix seconds was answered with an empty page.
        (
            "to=1700000000",
            "to",
            "to looks like seconds: milliseconds are expected",
        ),
        ("receivedTo=99999999999", "receivedTo", "looks like seconds"),
        ("to=0", "to", "looks like seconds"),
        ("minDurationMs=-5", "minDurationMs", "milliseconds"),
        ("order=up", "order", "asc or desc"),
        ("cursor=AAAA", "cursor", "Link"),
        ("name=a&name=a", "name", "twice"),
        ("attributes.a=1&attributes.a=2", "attributes.a", "twice"),
        ("limit=1&limit=1", "limit", "twice"),
        ("order=asc&order=asc", "order", "twice"),
        ("integraton=x", "integraton", "did you mean integration?"),
        (
            "correlation_id=x",
            "correlation_id",
            "did you mean correlationId?",
        ),
        ("zzzzzzzzzzzz=x", "zzzzzzzzzzzz", "unknown parameter"),
        (&deep, "metadata.", "at most 32 segments"),
        (&long, "xxxx", "unknown parameter xxxx"),
    ] {
        let (named, reason) = refused(query);
        assert!(named.starts_with(parameter), "{query}: {named}");
        assert!(reason.contains(sentence), "{query}: {reason}");
        assert!(reason.len() < 1000, "{query}: {} bytes", reason.len());
    }
}

#[test]
fn twenty_filters_are_accepted_and_the_twenty_first_is_refused() {
    let filters = |count: usize| {
        let filters: Vec<_> = (0..count).map(|n| format!("attributes.k{n}=v")).collect();
        format!("limit=5&order=desc&{}", filters.join("&"))
    };
    assert_eq!(parse(&filters(20)).unwrap().filters.len(), 20);
    let (parameter, reason) = refused(&filters(21));
    assert_eq!(parameter, "attributes.k20");
    assert!(reason.contains("at most 20 filters"), "{reason}");
}

#[test]
fn cursor_and_offset_exclude_each_other() {
    let cursor = crate::query::cursor::encode(
        SortOrder::NewestFirst,
        crate::query::cursor::PageKey {
            timestamp: 5,
            id: 6,
        },
    );
    let search = parse(&format!("cursor={cursor}")).unwrap();
    assert_eq!(
        search.after.map(|key| (key.timestamp, key.id)),
        Some((5, 6))
    );
    let (parameter, _) = refused(&format!("cursor={cursor}&offset=3"));
    assert_eq!(parameter, "offset");
    // A cursor of one order is invalid in the other, before or after the parameter `order`.
    assert_eq!(refused(&format!("cursor={cursor}&order=asc")).0, "cursor");
    assert_eq!(refused(&format!("order=asc&cursor={cursor}")).0, "cursor");
}
