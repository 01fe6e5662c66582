//! Tests of metric points in protobuf: their values and the description of these in `metadata`.

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, Sum, Summary, SummaryDataPoint, exemplar,
};

use crate::decode::tests::metric_json::one_json;
use crate::decode::tests::metric_points::{gauge, metric, one, point};
use crate::decode::tests::spans::{START, pair, text, value};

fn metadata(metric: Metric) -> String {
    one(metric).metadata.into_owned()
}

#[test]
fn a_value_that_is_zero_is_not_one_that_is_absent() {
    for (value, expected) in [
        (None, r#"{"unit": "{item}"}"#),
        (Some(Number::AsInt(0)), r#"{"unit": "{item}", "asInt": 0}"#),
        (
            Some(Number::AsInt(i64::MIN)),
            r#"{"unit": "{item}", "asInt": -9223372036854775808}"#,
        ),
        (
            Some(Number::AsDouble(0.0)),
            r#"{"unit": "{item}", "asDouble": 0.0}"#,
        ),
        (
            Some(Number::AsDouble(-0.0)),
            r#"{"unit": "{item}", "asDouble": {"$double": "-0.0"}}"#,
        ),
        (
            Some(Number::AsDouble(42.0)),
            r#"{"unit": "{item}", "asDouble": 42.0}"#,
        ),
        (
            Some(Number::AsDouble(f64::NAN)),
            r#"{"unit": "{item}", "asDouble": {"$double": "NaN"}}"#,
        ),
    ] {
        let sent = NumberDataPoint { value, ..point() };
        assert_eq!(metadata(gauge(vec![sent])), expected);
    }
}

#[test]
fn a_sum_says_how_it_is_summed_and_its_metric_what_it_is() {
    let mut sum = metric(Data::Sum(Sum {
        data_points: vec![NumberDataPoint {
            start_time_unix_nano: START - 1,
            flags: 1,
            ..point()
        }],
        aggregation_temporality: 2,
        is_monotonic: true,
    }));
    sum.description = "How deep".to_owned();
    sum.metadata = vec![
        pair("$origin", text("prometheus")),
        pair("a", value(Any::DoubleValue(1.0))),
    ];
    assert_eq!(
        metadata(sum),
        r#"{"unit": "{item}", "asInt": 42, "flags": 1, "metadata": {"a": 1.0, "$$origin": "prometheus"}, "description": "How deep", "isMonotonic": true, "startTimeUnixNano": "1799999999123456788", "aggregationTemporality": 2}"#
    );
    let delta = metric(Data::Sum(Sum {
        data_points: vec![point()],
        aggregation_temporality: 1,
        is_monotonic: false,
    }));
    assert_eq!(
        metadata(delta),
        r#"{"unit": "{item}", "asInt": 42, "aggregationTemporality": 1}"#
    );
}

#[test]
fn a_histogram_keeps_its_buckets_exactly_and_its_optional_fields_as_they_are() {
    let histogram = |point: HistogramDataPoint| {
        metadata(metric(Data::Histogram(Histogram {
            data_points: vec![HistogramDataPoint {
                time_unix_nano: START,
                ..point
            }],
            aggregation_temporality: 2,
        })))
    };
    let full = HistogramDataPoint {
        attributes: vec![pair("route", text("/"))],
        count: u64::MAX,
        sum: Some(12.5),
        min: Some(0.0),
        max: Some(f64::INFINITY),
        bucket_counts: vec![0, u64::MAX, 9_007_199_254_740_993],
        explicit_bounds: vec![0.005, 1.0],
        ..HistogramDataPoint::default()
    };
    assert_eq!(
        histogram(full),
        r#"{"max": {"$double": "Infinity"}, "min": 0.0, "sum": 12.5, "unit": "{item}", "count": 18446744073709551615, "attributes": {"route": "/"}, "bucketCounts": [0, 18446744073709551615, 9007199254740993], "explicitBounds": [0.005, 1.0], "aggregationTemporality": 2}"#
    );
    let absent = HistogramDataPoint::default();
    assert_eq!(
        histogram(absent),
        r#"{"unit": "{item}", "aggregationTemporality": 2}"#
    );
    let zero = HistogramDataPoint {
        sum: Some(0.0),
        ..HistogramDataPoint::default()
    };
    assert_eq!(
        histogram(zero),
        r#"{"sum": 0.0, "unit": "{item}", "aggregationTemporality": 2}"#
    );
}

#[test]
fn an_exponential_histogram_tells_empty_buckets_from_absent_ones() {
    let exponential = |point: ExponentialHistogramDataPoint| {
        metadata(metric(Data::ExponentialHistogram(ExponentialHistogram {
            data_points: vec![ExponentialHistogramDataPoint {
                time_unix_nano: START,
                ..point
            }],
            aggregation_temporality: 0,
        })))
    };
    let full = ExponentialHistogramDataPoint {
        count: 7,
        sum: Some(-1.0),
        scale: -10,
        zero_count: 3,
        zero_threshold: 1e-9,
        positive: Some(Buckets {
            offset: i32::MIN,
            bucket_counts: vec![0, u64::MAX, 300],
        }),
        negative: Some(Buckets {
            offset: 5,
            bucket_counts: vec![],
        }),
        min: Some(-0.0),
        ..ExponentialHistogramDataPoint::default()
    };
    assert_eq!(
        exponential(full),
        r#"{"min": {"$double": "-0.0"}, "sum": -1.0, "unit": "{item}", "count": 7, "scale": -10, "negative": {"offset": 5}, "positive": {"offset": -2147483648, "bucketCounts": [0, 18446744073709551615, 300]}, "zeroCount": 3, "zeroThreshold": 0.000000001}"#
    );
    let empty = ExponentialHistogramDataPoint {
        positive: Some(Buckets::default()),
        ..ExponentialHistogramDataPoint::default()
    };
    assert_eq!(exponential(empty), r#"{"unit": "{item}", "positive": {}}"#);
}

#[test]
fn a_summary_has_its_quantiles() {
    let point = SummaryDataPoint {
        time_unix_nano: START,
        count: 3,
        sum: 0.0,
        quantile_values: vec![
            ValueAtQuantile {
                quantile: 0.0,
                value: 1.0,
            },
            ValueAtQuantile {
                quantile: 0.99,
                value: f64::NAN,
            },
            ValueAtQuantile::default(),
        ],
        ..SummaryDataPoint::default()
    };
    let summary = |point| {
        metadata(metric(Data::Summary(Summary {
            data_points: vec![point],
        })))
    };
    assert_eq!(
        summary(point),
        r#"{"unit": "{item}", "count": 3, "quantileValues": [{"value": 1.0}, {"value": {"$double": "NaN"}, "quantile": 0.99}, {}]}"#
    );
}

#[test]
fn exemplars_keep_their_value_their_trace_and_what_was_filtered_out() {
    let exemplars = vec![
        Exemplar {
            filtered_attributes: vec![pair("user", text("u"))],
            time_unix_nano: START,
            span_id: vec![0xab; 8],
            trace_id: vec![0xcd; 16],
            value: Some(exemplar::Value::AsDouble(0.0)),
        },
        Exemplar {
            span_id: vec![0; 8],
            trace_id: vec![1; 15],
            value: Some(exemplar::Value::AsInt(-1)),
            ..Exemplar::default()
        },
        Exemplar::default(),
    ];
    let sent = NumberDataPoint {
        exemplars,
        value: None,
        ..point()
    };
    assert_eq!(
        metadata(gauge(vec![sent])),
        r#"{"unit": "{item}", "exemplars": [{"spanId": "abababababababab", "traceId": "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd", "asDouble": 0.0, "timeUnixNano": "1799999999123456789", "filteredAttributes": {"user": "u"}}, {"asInt": -1}, {}]}"#
    );
}

/// If 0 is the default of a field, prost leaves out both zeros; other encoders do not.
#[test]
fn a_negative_zero_is_kept_where_zero_is_the_default() {
    for (data, member, expected) in [
        (
            "exponentialHistogram",
            r#","zeroThreshold":-0.0"#,
            r#"{"zeroThreshold": {"$double": "-0.0"}}"#,
        ),
        (
            "summary",
            r#","sum":-0.0,"quantileValues":[{"quantile":-0.0,"value":-0.0}]"#,
            r#"{"sum": {"$double": "-0.0"}, "quantileValues": [{"value": {"$double": "-0.0"}, "quantile": {"$double": "-0.0"}}]}"#,
        ),
    ] {
        assert_eq!(one_json(data, member), expected);
    }
}
