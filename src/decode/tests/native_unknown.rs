//! Tests of members of a native event that are not fields and are added to its metadata.

use crate::decode::tests::*;
use crate::decode::{UnknownMemberFate, UnknownMemberReport};
use crate::event::EventFlags;

fn json() -> Source {
    source(Signal::Event, Encoding::Json)
}

/// Returns an event with further members, which begin with a comma.
fn event(more: &str) -> String {
    format!(r#"{{"correlationId":"c","integration":"i","eventType":"e"{more}}}"#)
}

fn one(more: &str) -> (UnknownMemberReport, Event<'static>) {
    let (checked, rows) = decode(event(more).as_bytes(), &json()).expect(more);
    assert_eq!((checked.accepted, checked.rejected), (1, 0), "{more}");
    (
        checked.unknown,
        rows.events.into_iter().next().expect("one"),
    )
}

fn names(unknown: &UnknownMemberReport) -> Vec<(&str, Option<&str>, UnknownMemberFate)> {
    let names = unknown.names.iter();
    names
        .map(|unknown| (unknown.name.as_str(), unknown.meant, unknown.fate))
        .collect()
}

/// A client wrote `metaData` and `traceid`. Each event was answered with 200, and the values of these members were
/// lost.
#[test]
fn members_that_are_no_fields_join_the_metadata_and_are_named() {
    let (unknown, event) = one(
        r#","metaData":{"b":[1e2]},"traceid":"t","level":"info","metadata":{"z":1,"aaaaaaaaaa":2}"#,
    );
    assert_eq!(
        event.metadata,
        r#"{"z": 1, "level": "info", "traceid": "t", "metaData": {"b": [100]}, "aaaaaaaaaa": 2}"#
    );
    assert_eq!(
        names(&unknown),
        [
            ("level", None, UnknownMemberFate::Kept),
            ("traceid", Some("traceId"), UnknownMemberFate::Kept),
            ("metaData", Some("metadata"), UnknownMemberFate::Kept),
        ]
    );
    assert_eq!((unknown.kept, unknown.left_out), (3, 0));
    assert_eq!(event.trace_id, None);
    for none in ["", r#","metadata":null"#] {
        let (unknown, event) = one(&format!(r#"{none},"x":null"#));
        assert_eq!(
            (event.metadata.as_ref(), unknown.kept),
            (r#"{"x": null}"#, 1)
        );
    }
}

#[test]
fn a_key_of_the_metadata_wins_and_of_equal_members_the_last() {
    let (unknown, event) =
        one(r#","a":1,"\u0061":2,"b":3,"c":4,"metadata":{"b":"mine","\u0063":"mine"},"a":5,"b":6"#);
    assert_eq!(event.metadata, r#"{"a": 5, "b": "mine", "c": "mine"}"#);
    assert_eq!((unknown.kept, unknown.left_out), (1, 2));
    assert_eq!(
        names(&unknown),
        [
            ("a", None, UnknownMemberFate::Kept),
            ("b", None, UnknownMemberFate::LeftOut),
            ("c", None, UnknownMemberFate::LeftOut),
        ]
    );
}

#[test]
fn what_does_not_fit_the_metadata_stays_out_and_refuses_nothing() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (value, fate) in [
        (deep(30), UnknownMemberFate::Kept),
        (deep(31), UnknownMemberFate::LeftOut),
        ("1e399".to_owned(), UnknownMemberFate::Kept),
        ("[1e400]".to_owned(), UnknownMemberFate::LeftOut),
        (
            format!("[{}1]", "1,".repeat(99_997)),
            UnknownMemberFate::Kept,
        ),
        (
            format!("[{}1]", "1,".repeat(99_998)),
            UnknownMemberFate::LeftOut,
        ),
    ] {
        let (unknown, _) = one(&format!(r#","x":{value}"#));
        assert_eq!(names(&unknown), [("x", None, fate)], "{value:.40}");
    }
    // Metadata at its limit of values leaves no room for another member.
    let (unknown, _) = one(&format!(
        r#","x":1,"metadata":{{"a":[{}1]}}"#,
        "1,".repeat(99_997)
    ));
    assert_eq!((unknown.kept, unknown.left_out), (0, 1));
    // There are more members than the metadata may have values.
    let many: String = (0..100_010).map(|n| format!(r#","m{n}":1"#)).collect();
    let (unknown, event) = one(&many);
    assert_eq!((unknown.kept, unknown.left_out), (99_999, 11));
    assert_eq!(unknown.names.len(), 10);
    assert_eq!(event.metadata.matches(':').count(), 99_999);
}

/// Growth by plain digits has a separate limit for unknown members, so that they use up none of the metadata's limit.
#[test]
fn members_that_grow_stay_out_before_they_take_the_metadatas_room() {
    let numbers = vec!["1e399"; 99_000].join(",");
    let growing = event(&format!(r#","metadata":{{"n":[{numbers}]}}"#));
    let unknown = event(&format!(r#","n":[{numbers}]"#));
    let body = format!("[{unknown},{growing},{unknown},{growing},{growing}]");
    let (checked, rows) = decode(body.as_bytes(), &json()).expect("accepted");
    assert_eq!((checked.accepted, checked.rejected), (5, 0));
    assert_eq!((checked.unknown.kept, checked.unknown.left_out), (0, 2));
    assert_eq!(rows.events[0].metadata, "{}");
    let small = event(&format!(r#","n":[{}]"#, vec!["1e399"; 9_000].join(",")));
    let body = format!("[{}]", vec![small; 6].join(","));
    let checked = check(body.as_bytes(), &json()).expect("accepted");
    assert_eq!((checked.unknown.kept, checked.unknown.left_out), (4, 2));
}

#[test]
fn repaired_texts_of_unknown_members_are_flagged_where_they_are_kept() {
    let (_, kept) = one(r#","a\u0000":"\ud800""#);
    assert_eq!(kept.metadata, "{\"a\u{fffd}\": \"\u{fffd}\"}");
    assert_eq!(kept.flags, EventFlags::TEXT_REPAIRED);
    let (_, left_out) = one(r#","a":"\u0000","metadata":{"a":1}"#);
    assert_eq!(left_out.metadata, r#"{"a": 1}"#);
    assert!(left_out.flags.is_empty());
}

#[test]
fn at_most_ten_names_of_at_most_64_escaped_characters_are_kept() {
    let more: String = (0..12)
        .map(|n| format!(r#","\n{n}{}":1"#, "x".repeat(1_000)))
        .collect();
    let (unknown, _) = one(&more);
    assert_eq!((unknown.kept, unknown.names.len()), (12, 10));
    for unknown in &unknown.names {
        assert_eq!(unknown.name.chars().count(), 64);
        assert!(unknown.name.starts_with("\\n"), "{}", unknown.name);
    }
    let same = format!("[{}]", vec![event(r#","level":1"#); 3].join(","));
    let checked = check(same.as_bytes(), &json()).expect("accepted");
    assert_eq!((checked.unknown.kept, checked.unknown.names.len()), (3, 1));
}

#[test]
fn a_record_of_version_1_passes_over_its_unknown_members() {
    let source = Source {
        version: 1,
        ..json()
    };
    let body = event(r#","x":{"y":[1e9999,"\ud800"]},"metadata":{"a":1}"#);
    let (checked, rows) = decode(body.as_bytes(), &source).expect("accepted");
    assert_eq!(rows.events[0].metadata, r#"{"a": 1}"#);
    assert!(rows.events[0].flags.is_empty());
    assert_eq!(checked.unknown, UnknownMemberReport::default());
}

/// Returns the first reason for which a request is refused.
fn reason(body: &str) -> String {
    match decode(body.as_bytes(), &json()) {
        Err(DecodeError::Invalid(checked)) => checked.rejections[0].reason.clone(),
        other => panic!("{body}: {other:?}"),
    }
}

/// The answer to `correlation_id` was "is required" alone, and the answer to `{"events": […]}` was that three times.
#[test]
fn a_missing_field_names_what_was_sent_in_its_place_and_the_right_form() {
    for (body, expected) in [
        (
            r#"{"correlation_id":"c","integration":"i","eventType":"e"}"#,
            r#"is required; "correlation_id" was sent: write correlationId"#,
        ),
        (
            r#"[{"correlationId":"c","integration":"i","event_type":"e"}]"#,
            r#"is required; "event_type" was sent: write eventType"#,
        ),
        (
            r#"{"events":[{"correlation_id":"c"}]}"#,
            r#"is required; "events" holds an array: send that array itself, or one event a line as application/x-ndjson"#,
        ),
        (
            r#"{"source":"x","event":{"correlationId":"c"}}"#,
            r#"is required; "event" holds an object: send that object itself"#,
        ),
        (r#"{"a":[1],"b":{"c":1}}"#, "is required"),
        (r#"{"provider":"p"}"#, "is required"),
    ] {
        assert_eq!(reason(body), expected, "{body}");
    }
}

#[test]
fn errors_of_syntax_name_the_cure() {
    let message = |body: &[u8]| match check(body, &json()) {
        Err(DecodeError::Malformed { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    let lines = format!("{}\n{}\n", event(""), event(""));
    let marked = format!("\u{feff}{}", event(""));
    let utf16: Vec<u8> = marked.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for (body, cure) in [
        (lines.as_bytes(), "application/x-ndjson"),
        (marked.as_bytes(), "byte order mark"),
        (&utf16, "UTF-16: send UTF-8"),
    ] {
        let message = message(body);
        assert!(message.contains(cure), "{message}");
    }
    let source = Source {
        encoding: Encoding::NdJson,
        partial: true,
        ..json()
    };
    let body = format!("{marked}\n[{0},{0}]\n{0}", event(""));
    let checked = check(body.as_bytes(), &source).expect("accepted in part");
    assert_eq!((checked.accepted, checked.rejected), (1, 2));
    let [mark, array] = &checked.rejections[..] else {
        panic!("{checked:?}");
    };
    assert!(mark.reason.contains("byte order mark"), "{}", mark.reason);
    assert!(
        array.reason.contains("application/json"),
        "{}",
        array.reason
    );
}
