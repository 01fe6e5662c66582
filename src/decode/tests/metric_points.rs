//! Tests of metric points in protobuf: the mapping to rows.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::decode::tests::spans::{START, pair, text, value};
use crate::decode::tests::*;
use crate::event::EventFlags;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;

pub(super) fn protobuf() -> Source {
    source(Signal::Metric, Encoding::Protobuf)
}

pub(super) fn metric(data: Data) -> Metric {
    Metric {
        name: "queue.depth".to_owned(),
        unit: "{item}".to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

pub(super) fn point() -> NumberDataPoint {
    NumberDataPoint {
        time_unix_nano: START,
        value: Some(Number::AsInt(42)),
        ..NumberDataPoint::default()
    }
}

pub(super) fn gauge(data_points: Vec<NumberDataPoint>) -> Metric {
    metric(Data::Gauge(Gauge { data_points }))
}

pub(super) fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let resource = ProtoResource {
        attributes: vec![
            pair("service.name", text("shop")),
            pair("cloud.provider", text("aws")),
        ],
        ..ProtoResource::default()
    };
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(resource),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope::default()),
                metrics,
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    }
}

pub(super) fn rows(metrics: Vec<Metric>) -> (DecodeReport, Rows) {
    decode(&request(metrics).encode_to_vec(), &protobuf()).expect("accepted")
}

pub(super) fn one(metric: Metric) -> Event<'static> {
    let (checked, rows) = rows(vec![metric]);
    assert_eq!((checked.accepted, checked.rejected), (1, 0));
    rows.events.into_iter().next().expect("one row")
}

fn with_attributes(attributes: Vec<KeyValue>) -> Event<'static> {
    one(gauge(vec![NumberDataPoint {
        attributes,
        ..point()
    }]))
}

#[test]
fn a_point_fills_the_columns() {
    let event = with_attributes(vec![pair("db.system", text("redis"))]);
    assert_eq!(event.integration, "shop");
    assert_eq!(event.provider.as_deref(), Some("redis"));
    assert_eq!(event.event_type, "metric");
    assert_eq!(event.name.as_deref(), Some("queue.depth"));
    assert_eq!(event.time_unix_nano, i64::try_from(START).ok());
    assert_eq!(
        event.timestamp_ms,
        i64::try_from(START / 1_000_000).expect("small")
    );
    assert_eq!(
        (event.kind, event.status.as_deref()),
        (Some(5), Some("gauge"))
    );
    assert_eq!(
        (&event.trace_id, &event.span_id, &event.parent_span_id),
        (&None, &None, &None)
    );
    assert_eq!(
        (event.duration_ns, event.flags),
        (None, EventFlags::default())
    );
    assert!(event.resource_id.is_some());
    assert_eq!(one(gauge(vec![point()])).provider.as_deref(), Some("aws"));
}

#[test]
fn each_kind_of_data_has_its_number_and_name() {
    let time_unix_nano = START;
    let histogram = HistogramDataPoint {
        time_unix_nano,
        ..Default::default()
    };
    let exponential = ExponentialHistogramDataPoint {
        time_unix_nano,
        ..Default::default()
    };
    let summary = SummaryDataPoint {
        time_unix_nano,
        ..Default::default()
    };
    for (data, kind, status) in [
        (
            Data::Gauge(Gauge {
                data_points: vec![point()],
            }),
            5,
            "gauge",
        ),
        (
            Data::Sum(Sum {
                data_points: vec![point()],
                ..Sum::default()
            }),
            7,
            "sum",
        ),
        (
            Data::Histogram(Histogram {
                data_points: vec![histogram],
                ..Histogram::default()
            }),
            9,
            "histogram",
        ),
        (
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: vec![exponential],
                ..ExponentialHistogram::default()
            }),
            10,
            "exponentialHistogram",
        ),
        (
            Data::Summary(Summary {
                data_points: vec![summary],
            }),
            11,
            "summary",
        ),
    ] {
        let event = one(metric(data));
        assert_eq!(
            (event.kind, event.status.as_deref()),
            (Some(kind), Some(status))
        );
    }
}

#[test]
fn a_point_is_identified_by_its_series() {
    let of = |attributes| with_attributes(attributes).correlation_id;
    let (a, b) = (pair("a", text("1")), pair("bb", text("2")));
    let series = of(vec![b.clone(), a.clone()]);
    assert_eq!(
        series,
        of(vec![a.clone(), b.clone()]),
        "the order does not matter"
    );
    assert_ne!(series, of(vec![a.clone()]));
    let mut other = gauge(vec![NumberDataPoint {
        attributes: vec![a, b],
        ..point()
    }]);
    assert_eq!(one(other.clone()).correlation_id, series);
    other.unit = "s".to_owned();
    assert_eq!(
        one(other.clone()).correlation_id,
        series,
        "the unit does not matter"
    );
    other.name = "queue.size".to_owned();
    assert_ne!(one(other.clone()).correlation_id, series);

    let mut elsewhere = request(vec![other.clone()]);
    elsewhere.resource_metrics[0].schema_url = "https://schema".to_owned();
    let (_, rows) = decode(&elsewhere.encode_to_vec(), &protobuf()).expect("accepted");
    assert_ne!(one(other).correlation_id, rows.events[0].correlation_id);
}

/// The id of a series is the same in every version and on every machine, because rows of many years are found by it.
#[test]
fn a_series_id_is_what_its_documentation_says() {
    let event = with_attributes(vec![
        pair("b", text("\"")),
        pair("aa", value(Any::IntValue(1))),
    ]);
    let id = event.resource_id.expect("a resource").0;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let canonical = format!(r#"["{id}", "queue.depth", {{"aa": 1, "b": "\""}}]"#);
    let digest = Sha256::new()
        .chain_update([1])
        .chain_update(canonical)
        .finalize();
    let expected: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(event.correlation_id, expected);
}

#[test]
fn an_attribute_names_the_correlation_id() {
    for key in ["correlation_id", "correlation.id", "correlationId"] {
        assert_eq!(
            with_attributes(vec![pair(key, text("order-7"))]).correlation_id,
            "order-7"
        );
    }
}

#[test]
fn g12_a_point_without_a_time_is_rejected_and_one_of_the_far_future_is_flagged() {
    let at = |time_unix_nano| NumberDataPoint {
        time_unix_nano,
        ..point()
    };
    let received = u64::try_from(NOW_MS * 1_000_000).expect("after 1970");
    let day = 86_400_000_000_000;
    let times = [0, received + day, received + day + 1, u64::MAX];
    let (checked, rows) = rows(vec![gauge(times.map(at).to_vec())]);
    assert_eq!((checked.accepted, checked.rejected), (3, 1));
    assert_eq!(checked.rejections[0].index, 0);
    assert_eq!(checked.rejections[0].field.as_deref(), Some("timeUnixNano"));
    let found: Vec<_> = rows
        .events
        .iter()
        .map(|event| {
            (
                event.timestamp_ms - NOW_MS,
                event.time_unix_nano,
                event.flags.is_empty(),
            )
        })
        .collect();
    let sent = |time: u64| i64::try_from(time).ok();
    assert_eq!(
        found,
        [
            (86_400_000, sent(received + day), true),
            (0, sent(received + day + 1), false),
            (0, None, false)
        ]
    );
    assert_eq!(rows.events[1].flags, EventFlags::TIME_REPLACED);
    assert!(
        rows.events[2]
            .metadata
            .contains(r#""timeUnixNano": "18446744073709551615""#)
    );
    assert_eq!(checked.sanitized.time, 2);
}

#[test]
fn a_long_name_is_cut_in_its_column_and_whole_in_the_metadata() {
    let mut long = gauge(vec![point()]);
    long.name = "é".repeat(256);
    let event = one(long);
    assert_eq!(event.name.as_deref(), Some(&*"é".repeat(255)));
    assert_eq!(
        event.metadata,
        format!(
            r#"{{"name": "{}", "unit": "{{item}}", "asInt": 42}}"#,
            "é".repeat(256)
        )
    );
}

#[test]
fn a_repaired_envelope_flags_each_of_its_points_and_counts_once() {
    let mut odd = gauge(vec![point(), point()]);
    odd.description = "a\0b".to_owned();
    let (checked, rows) = rows(vec![odd, gauge(vec![point()])]);
    let flags: Vec<_> = rows.events.iter().map(|event| event.flags).collect();
    assert_eq!(
        flags,
        [
            EventFlags::TEXT_REPAIRED,
            EventFlags::TEXT_REPAIRED,
            EventFlags::default()
        ]
    );
    assert_eq!(checked.sanitized.nul, 1);
    assert!(rows.events[0].metadata.contains("a\u{fffd}b"));
}

#[test]
fn cut_metadata_of_a_metric_flags_each_of_its_points_and_counts_once() {
    let mut long = gauge(vec![point(), point()]);
    long.metadata = vec![pair("a", text("0123456789"))];
    let mut source = protobuf();
    source.limits.value_bytes = 4;
    let body = request(vec![long, gauge(vec![point()])]).encode_to_vec();
    let (checked, rows) = decode(&body, &source).expect("accepted");
    let flags: Vec<_> = rows.events.iter().map(|event| event.flags).collect();
    assert_eq!(
        flags,
        [EventFlags::CUT, EventFlags::CUT, EventFlags::default()]
    );
    assert_eq!(checked.sanitized.cut, 1);
    assert!(rows.events[0].metadata.contains(r#"{"a": "0123"}"#));
}

#[test]
fn series_differ_by_attributes_that_a_limit_cuts_from_their_rows() {
    let limits = Limits {
        value_bytes: 2,
        ..Limits::default()
    };
    let cutting = Source {
        limits,
        ..protobuf()
    };
    let event = |queue: &str| {
        let attributes = vec![pair("queue", text(queue))];
        let sent = gauge(vec![NumberDataPoint {
            attributes,
            ..point()
        }]);
        let body = request(vec![sent]).encode_to_vec();
        let (_, rows) = decode(&body, &cutting).expect("accepted");
        rows.events.into_iter().next().expect("one row")
    };
    let (inbound, inner) = (event("inbound"), event("inner"));
    assert_eq!(inbound.metadata, inner.metadata, "both are cut");
    assert_ne!(inbound.correlation_id, inner.correlation_id);
}
