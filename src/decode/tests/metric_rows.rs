//! Tests of metric points: the protocol's requirements, odd encodings, and bad inputs.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Histogram, HistogramDataPoint, Metric, NumberDataPoint,
};
use prost::Message as _;

use crate::decode::tests::metric_json::{json, one_json, request_json};
use crate::decode::tests::metric_points::{gauge, metric, point, protobuf, request, rows};
use crate::decode::tests::spans::{START, field, pair, text};
use crate::decode::tests::*;

/// Returns a request around one metric's bytes.
fn around(metric: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, metric)))
}

/// Returns the time of a point, which is in field 3 of all kinds.
fn time() -> Vec<u8> {
    [&[0x19][..], &START.to_le_bytes()].concat()
}

fn fixed64s(numbers: &[u64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

#[test]
fn g2_g3_empty_requests_envelopes_and_metrics_are_a_success() {
    let nameless = Metric {
        name: "m".to_owned(),
        ..Metric::default()
    };
    for body in [
        &b""[..],
        &field(1, b""),
        &field(1, &field(2, b"")),
        &around(b""),
        &request(vec![nameless, gauge(vec![])]).encode_to_vec(),
        // A future kind of data, and one that the protocol has removed.
        &around(&[field(1, b"m"), field(13, &field(1, b"x")), field(4, b"y")].concat()),
    ] {
        assert_eq!(
            decode(body, &protobuf()).expect("empty").0,
            DecodeReport::default()
        );
    }
    for body in [
        "{}",
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[]}]}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[null,{},{"name":"m"}]}]}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{}},{"sum":null}]}]}]}"#,
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":null}},{"sum":{"dataPoints":[]}}]}]}]}"#,
    ] {
        assert_eq!(
            decode(body.as_bytes(), &json()).expect(body).0,
            DecodeReport::default()
        );
    }
}

#[test]
fn of_the_data_the_last_counts_and_parts_of_it_are_merged() {
    let gauge = |value: u64| {
        let value = [&[0x31][..], &value.to_le_bytes()].concat();
        field(5, &field(1, &[time(), value].concat()))
    };
    let sum = |members: &[u8]| field(7, &[field(1, &time()), members.to_vec()].concat());
    for (data, expected) in [
        (
            vec![gauge(1), gauge(2)],
            &[(5, r#"{"asInt": 1}"#), (5, r#"{"asInt": 2}"#)][..],
        ),
        (
            vec![gauge(1), sum(&[0x10, 1])],
            &[(7, r#"{"aggregationTemporality": 1}"#)],
        ),
        (
            vec![sum(&[]), gauge(1), field(2, b""), gauge(2)],
            &[(5, r#"{"asInt": 1}"#), (5, r#"{"asInt": 2}"#)],
        ),
        (
            vec![gauge(1), sum(&[]), gauge(2)],
            &[(5, r#"{"asInt": 2}"#)],
        ),
        (
            vec![sum(&[0x10, 1, 0x18, 1]), field(7, &[0x10, 2])],
            &[(7, r#"{"isMonotonic": true, "aggregationTemporality": 2}"#)],
        ),
    ] {
        let body = around(&data.concat());
        let (_, rows) = decode(&body, &protobuf()).expect("accepted");
        let found: Vec<_> = rows
            .events
            .iter()
            .map(|row| (row.kind.expect("a kind"), &*row.metadata))
            .collect();
        assert_eq!(found, expected);
        // prost merges in the same way.
        let parsed = Metric::decode(&*data.concat()).expect("valid");
        let (_, again) = crate::decode::tests::metric_points::rows(vec![parsed]);
        assert_eq!(again.events.len(), rows.events.len());
    }
    let both = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{
        "gauge":{"dataPoints":[{"timeUnixNano":1}]},"sum":{"data_points":[{"timeUnixNano":1}]},"summary":null}]}]}]}"#;
    let (_, rows) = decode(both.as_bytes(), &json()).expect("accepted");
    assert_eq!(rows.events[0].kind, Some(7));
}

#[test]
fn of_an_exemplars_values_the_last_counts() {
    let double = [&[0x19][..], &1.5f64.to_le_bytes()].concat();
    let int = [&[0x31][..], &7i64.to_le_bytes()].concat();
    for (exemplar, expected) in [
        (
            [double.clone(), int.clone()].concat(),
            r#"{"exemplars": [{"asInt": 7}]}"#,
        ),
        (
            [int, double].concat(),
            r#"{"exemplars": [{"asDouble": 1.5}]}"#,
        ),
    ] {
        let point = [time(), field(5, &exemplar)].concat();
        let body = around(&field(5, &field(1, &point)));
        let (_, rows) = decode(&body, &protobuf()).expect("accepted");
        assert_eq!(rows.events[0].metadata, expected);
    }
}

#[test]
fn lists_of_numbers_read_the_same_packed_and_not_and_in_parts() {
    let unpacked = |number: u8, value: u64| [&[number << 3 | 1][..], &value.to_le_bytes()].concat();
    let half = 0.5f64.to_bits();
    let lists = [
        [field(6, &fixed64s(&[1, 2])), field(7, &fixed64s(&[half]))].concat(),
        [unpacked(6, 1), unpacked(7, half), unpacked(6, 2)].concat(),
        [
            field(6, &fixed64s(&[1])),
            field(6, b""),
            unpacked(6, 2),
            field(7, &fixed64s(&[half])),
        ]
        .concat(),
    ];
    for list in lists {
        let body = around(&field(9, &field(1, &[time(), list].concat())));
        let (_, rows) = decode(&body, &protobuf()).expect("accepted");
        assert_eq!(
            rows.events[0].metadata,
            r#"{"bucketCounts": [1, 2], "explicitBounds": [0.5]}"#
        );
    }
    let buckets = [
        field(8, &[0x08, 3, 0x12, 3, 1, 0xac, 0x02]),
        field(8, &[0x10, 1, 0x08, 3, 0x10, 0xac, 0x02]),
        [
            field(8, &[0x08, 9, 0x10, 1]),
            field(8, &[0x12, 2, 0xac, 0x02, 0x08, 3]),
        ]
        .concat(),
    ];
    for buckets in buckets {
        let body = around(&field(10, &field(1, &[time(), buckets].concat())));
        let (_, rows) = decode(&body, &protobuf()).expect("accepted");
        assert_eq!(
            rows.events[0].metadata,
            r#"{"positive": {"offset": -2, "bucketCounts": [1, 300]}}"#
        );
    }
    let empty = around(&field(9, &field(1, &[time(), field(6, b"")].concat())));
    assert_eq!(
        decode(&empty, &protobuf()).expect("accepted").1.events[0].metadata,
        "{}"
    );
}

#[test]
fn a_list_of_numbers_that_is_cut_is_malformed() {
    for (data, bad) in [
        (9, field(6, &[0; 7])),
        (9, field(7, &[0; 9])),
        (10, field(8, &field(2, &[0x80]))),
        (10, field(8, &field(2, &[0xff; 11]))),
        (9, vec![0x30, 1]),
        (10, field(8, &[0x11, 0, 0, 0, 0, 0, 0, 0, 0])),
        (5, vec![0x18, 1]),
        (5, field(6, &[0; 8])),
    ] {
        let body = around(&field(data, &field(1, &[time(), bad].concat())));
        assert!(
            matches!(
                decode(&body, &protobuf()),
                Err(DecodeError::Malformed { .. })
            ),
            "{body:?}"
        );
    }
    for bad in [
        vec![0x28, 1],
        field(5, &[0x08, 1]),
        field(7, &field(2, b"")),
        [field(5, &field(1, b"")), vec![0x08, 1]].concat(),
    ] {
        let body = around(&bad);
        assert!(
            matches!(
                decode(&body, &protobuf()),
                Err(DecodeError::Malformed { .. })
            ),
            "{bad:?}"
        );
    }
}

#[test]
fn a_point_with_too_many_buckets_is_rejected_alone_and_elements_count() {
    let histogram = |buckets: usize| {
        let sent = HistogramDataPoint {
            time_unix_nano: START,
            bucket_counts: vec![1; buckets],
            ..HistogramDataPoint::default()
        };
        metric(Data::Histogram(Histogram {
            data_points: vec![sent],
            aggregation_temporality: 1,
        }))
    };
    let mut narrow = protobuf();
    narrow.limits.nodes = 500;
    let metrics = [499, 500, 1_000_000].map(histogram);
    let body = request(metrics.to_vec()).encode_to_vec();
    let (checked, _) = decode(&body, &narrow).expect("one is accepted");
    assert_eq!((checked.accepted, checked.rejected), (1, 2));
    let reason = &checked.rejections[0].reason;
    assert!(reason.contains("500 values"), "{reason}");
    let mut narrow = json();
    narrow.limits.nodes = 500;
    for list in ["bucketCounts", "explicitBounds"] {
        for (len, is_taken) in [(499, true), (500, false), (50_000, false)] {
            let zeros = ",0".repeat(len - 1);
            let body = request_json("histogram", &format!(r#","{list}":[0{zeros}]"#));
            let checked = check(body.as_bytes(), &narrow);
            assert_eq!(checked.is_ok(), is_taken, "{len} {list}: {checked:?}");
        }
    }
}

#[test]
fn buckets_of_an_exponential_histogram_count_too() {
    let exponential = |buckets: usize| {
        let positive = field(8, &field(2, &vec![1; buckets]));
        around(&field(10, &field(1, &[time(), positive].concat())))
    };
    // The point and its `positive` are nodes too.
    let most = usize::try_from(Limits::default().nodes).expect("fits") - 2;
    let (checked, _) = decode(&exponential(most), &protobuf()).expect("accepted");
    assert_eq!((checked.accepted, checked.rejected), (1, 0));
    assert!(matches!(
        decode(&exponential(most + 1), &protobuf()),
        Err(DecodeError::Invalid(_))
    ));
}

#[test]
fn deep_metadata_of_a_metric_rejects_its_points_and_no_others() {
    let mut value = text("x");
    for _ in 0..30 {
        value = crate::decode::tests::spans::value(
            opentelemetry_proto::tonic::common::v1::any_value::Value::ArrayValue(
                opentelemetry_proto::tonic::common::v1::ArrayValue {
                    values: vec![value],
                },
            ),
        );
    }
    let mut deep = gauge(vec![point(), point()]);
    deep.metadata = vec![pair("a", value.clone())];
    let deep_point = NumberDataPoint {
        attributes: vec![pair("a", value)],
        ..point()
    };
    let (checked, _) = rows(vec![deep, gauge(vec![point(), deep_point])]);
    assert_eq!((checked.accepted, checked.rejected), (1, 3));
    assert_eq!(checked.rejections[0].field.as_deref(), Some("metadata"));
    assert!(checked.rejections[2].reason.contains("24 levels"));
}

#[test]
fn a_large_description_with_very_many_points_does_not_multiply() {
    let mut large = gauge(vec![point(); 3_000]);
    large.description = "d".repeat(100_000);
    let body = request(vec![large, gauge(vec![point()])]).encode_to_vec();
    let checked = check(&body, &protobuf()).expect("some are accepted");
    assert_eq!(checked.accepted + checked.rejected, 3_001);
    assert!(
        (1_000..2_000).contains(&checked.accepted),
        "{}",
        checked.accepted
    );
    assert!(checked.rejections[0].reason.contains("too large"));
}

/// A request of 64 MiB could make rows of 2.7 GB: a double is eight bytes and has up to 326 plain digits.
#[test]
fn very_many_numbers_of_very_many_digits_do_not_multiply() {
    let digits = |time_unix_nano| {
        metric(Data::Histogram(Histogram {
            data_points: vec![HistogramDataPoint {
                time_unix_nano,
                explicit_bounds: vec![5e-324; 99_000],
                ..HistogramDataPoint::default()
            }],
            aggregation_temporality: 1,
        }))
    };
    let mut metrics = vec![digits(START); 6];
    metrics.extend([gauge(vec![point()]), digits(0)]);
    let checked = check(&request(metrics).encode_to_vec(), &protobuf()).expect("some are accepted");
    assert_eq!((checked.accepted, checked.rejected), (5, 3));
    assert!(checked.rejections[0].reason.contains("digits"));
    assert_eq!(checked.rejections[2].field.as_deref(), Some("timeUnixNano"));
}

/// A metric's envelope counts with the bytes that it takes in a row, once for each point.
#[test]
fn an_envelope_that_swells_counts_as_it_is_written() {
    let nothing = crate::decode::tests::spans::value(any_value::Value::ArrayValue(ArrayValue {
        values: vec![AnyValue::default(); 90_000],
    }));
    let mut large = gauge(vec![point(); 200]);
    large.metadata = vec![pair("a", nothing)];
    let checked = check(&request(vec![large]).encode_to_vec(), &protobuf()).expect("some");
    assert!(
        (60..100).contains(&checked.accepted),
        "{}",
        checked.accepted
    );
}

#[test]
fn other_signals_items_do_not_pass_for_metrics_without_data() {
    // A log record and a span that have only a time.
    for item in [
        [&[0x09][..], &[1; 8]].concat(),
        [&[0x39][..], &[1; 8]].concat(),
    ] {
        let refused = decode(&around(&item), &protobuf());
        assert!(
            matches!(refused, Err(DecodeError::Malformed { .. })),
            "{refused:?}"
        );
    }
}

#[test]
fn when_no_point_has_a_time_the_request_is_invalid() {
    let body = request(vec![gauge(vec![NumberDataPoint::default(); 2])]).encode_to_vec();
    let Err(DecodeError::Invalid(checked)) = decode(&body, &protobuf()) else {
        panic!("nothing is taken");
    };
    assert_eq!(checked.rejected, 2);
}

#[test]
fn g4_unknown_fields_and_keys_are_ignored_at_every_level() {
    let unknown = [field(15, b"\xff"), vec![0xf8, 0x07, 1]].concat();
    let sent = [time(), unknown.clone()].concat();
    let data = [field(1, &sent), unknown.clone()].concat();
    let body = around(&[field(5, &data), unknown].concat());
    assert_eq!(
        decode(&body, &protobuf()).expect("accepted").1.events[0].metadata,
        "{}"
    );
    // A gauge has no temporality.
    let body = around(&field(
        5,
        &[field(1, &time()), vec![0x10, 2], vec![0x1a, 0]].concat(),
    ));
    assert_eq!(
        decode(&body, &protobuf()).expect("accepted").1.events[0].metadata,
        "{}"
    );
    assert_eq!(
        one_json("gauge", r#","future":[{"x":1}],"asInt":1"#),
        r#"{"asInt": 1}"#
    );
}
