//! Tests of the forms that metrics in OTLP's JSON may have.

use crate::decode::tests::*;

pub(super) fn json() -> Source {
    source(Signal::Metric, Encoding::Json)
}

/// Returns a request with one metric of that kind of data and one point, whose further members begin with a comma.
pub(super) fn request_json(data: &str, members: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","{data}":{{"dataPoints":[
        {{"timeUnixNano":"1799999999123456789"{members}}}]}}}}]}}]}}]}}"#
    )
}

pub(super) fn one_json(data: &str, members: &str) -> String {
    let body = request_json(data, members);
    let (checked, rows) = decode(body.as_bytes(), &json()).expect(&body);
    assert_eq!((checked.accepted, checked.rejected), (1, 0), "{body}");
    rows.events[0].metadata.clone().into_owned()
}

fn is_rejected(body: &str) -> bool {
    matches!(
        decode(body.as_bytes(), &json()),
        Err(DecodeError::Invalid(_))
    )
}

/// A list was given in both spellings. The one that does not count was removed only after it had used up the limit of
/// numbers, so the other one was lost silently.
#[test]
fn a_list_that_does_not_count_takes_no_room_from_the_one_that_does() {
    let many = ",0".repeat(100_001);
    let members = format!(r#","bucket_counts":[0{many}],"bucketCounts":[1,2]"#);
    assert_eq!(
        one_json("histogram", &members),
        r#"{"bucketCounts": [1, 2]}"#
    );
    let members = r#","positive":{"bucketCounts":[1]},"positive":null,"negative":{"bucket_counts":[2],"offset":1}"#;
    assert_eq!(
        one_json("exponentialHistogram", members),
        r#"{"negative": {"offset": 1, "bucketCounts": [2]}, "positive": {"bucketCounts": [1]}}"#
    );
}

#[test]
fn j2_a_temporality_is_a_number_or_a_name() {
    for (sent, stored) in [
        ("1", Some("1")),
        ("\"AGGREGATION_TEMPORALITY_CUMULATIVE\"", Some("2")),
        ("\"AGGREGATION_TEMPORALITY_UNSPECIFIED\"", None),
        ("7", Some("7")),
    ] {
        for key in ["aggregationTemporality", "aggregation_temporality"] {
            let body = request_json("sum", "").replace(
                r#""dataPoints""#,
                &format!(r#""{key}":{sent},"isMonotonic":false,"dataPoints""#),
            );
            let (_, rows) = decode(body.as_bytes(), &json()).expect("accepted");
            let expected = stored.map_or("{}".to_owned(), |n| {
                format!(r#"{{"aggregationTemporality": {n}}}"#)
            });
            assert_eq!(rows.events[0].metadata, expected);
        }
    }
}

#[test]
fn j4_j5_numbers_come_in_every_form_that_clients_send() {
    for (sent, stored) in [
        (r#""asInt":"42""#, r#""asInt": 42"#),
        (r#""asInt":42"#, r#""asInt": 42"#),
        (r#""asInt":42.0"#, r#""asInt": 42"#),
        (
            r#""asInt":"-9223372036854775808""#,
            r#""asInt": -9223372036854775808"#,
        ),
        (r#""asInt":1e21"#, r#""asDouble": 1000000000000000000000.0"#),
        (r#""as_int":"0""#, r#""asInt": 0"#),
        (r#""asDouble":0"#, r#""asDouble": 0.0"#),
        (r#""asDouble":"NaN""#, r#""asDouble": {"$double": "NaN"}"#),
        (
            r#""asDouble":"-Infinity""#,
            r#""asDouble": {"$double": "-Infinity"}"#,
        ),
        (r#""asDouble":"1.5""#, r#""asDouble": 1.5"#),
        (r#""asDouble":1,"asInt":2"#, r#""asInt": 2"#),
        (r#""asInt":2,"asDouble":1"#, r#""asDouble": 1.0"#),
        (r#""asInt":2,"asDouble":null"#, r#""asInt": 2"#),
        (
            r#""exemplars":[{"asInt":"9223372036854775808"}]"#,
            r#""exemplars": [{"asDouble": 9223372036854776000.0}]"#,
        ),
    ] {
        assert_eq!(
            one_json("gauge", &format!(",{sent}")),
            format!("{{{stored}}}"),
            "{sent}"
        );
    }
    for (sent, stored) in [
        (
            r#""sum":0,"min":null,"max":"Infinity""#,
            r#"{"max": {"$double": "Infinity"}, "sum": 0.0}"#,
        ),
        (
            r#""count":"18446744073709551615""#,
            r#"{"count": 18446744073709551615}"#,
        ),
        (
            r#""bucketCounts":["18446744073709551615",1,2.0]"#,
            r#"{"bucketCounts": [18446744073709551615, 1, 2]}"#,
        ),
        (
            r#""explicitBounds":["NaN",1,"2.5"]"#,
            r#"{"explicitBounds": [{"$double": "NaN"}, 1.0, 2.5]}"#,
        ),
    ] {
        assert_eq!(one_json("histogram", &format!(",{sent}")), stored, "{sent}");
    }
    for (sent, stored) in [
        (
            r#""scale":"-3","zeroCount":"1","positive":{}"#,
            r#"{"scale": -3, "positive": {}, "zeroCount": 1}"#,
        ),
        (
            r#""positive":{"offset":2147483647,"bucketCounts":["1",2]}"#,
            r#"{"positive": {"offset": 2147483647, "bucketCounts": [1, 2]}}"#,
        ),
    ] {
        assert_eq!(
            one_json("exponentialHistogram", &format!(",{sent}")),
            stored,
            "{sent}"
        );
        assert_eq!(
            one_json("exponential_histogram", &format!(",{sent}")),
            stored,
            "{sent}"
        );
    }
    assert_eq!(
        one_json(
            "summary",
            r#","sum":0,"quantileValues":[{"quantile":0.5,"value":"NaN"}]"#
        ),
        r#"{"quantileValues": [{"value": {"$double": "NaN"}, "quantile": 0.5}]}"#
    );
    for (data, bad) in [
        ("gauge", r#""asInt":"x""#),
        ("gauge", r#""asDouble":true"#),
        ("gauge", r#""flags":-1"#),
        ("histogram", r#""bucketCounts":[-1]"#),
        ("histogram", r#""bucketCounts":[null]"#),
        ("histogram", r#""bucketCounts":5"#),
        ("histogram", r#""count":18446744073709551616"#),
        ("exponentialHistogram", r#""scale":2147483648"#),
        ("exponentialHistogram", r#""positive":[]"#),
        ("summary", r#""quantileValues":{}"#),
    ] {
        assert!(
            is_rejected(&request_json(data, &format!(",{bad}"))),
            "{bad}"
        );
    }
}
