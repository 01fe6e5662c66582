//! Generates requests with metrics, and their JSON as the specification writes it.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::generate::{
    attributes, attributes_json, hex, id, list, object, resource, resource_json, scope, scope_json,
    text, time,
};

pub(super) fn request() -> impl Strategy<Value = ExportMetricsServiceRequest> {
    let scope_metrics = (option::of(scope()), vec(metric(), 0..4), text()).prop_map(
        |(scope, metrics, schema_url)| ScopeMetrics {
            scope,
            metrics,
            schema_url,
        },
    );
    let resource_metrics = (option::of(resource()), vec(scope_metrics, 0..3), text()).prop_map(
        |(resource, scope_metrics, schema_url)| ResourceMetrics {
            resource,
            scope_metrics,
            schema_url,
        },
    );
    vec(resource_metrics, 0..3)
        .prop_map(|resource_metrics| ExportMetricsServiceRequest { resource_metrics })
}

fn metric() -> impl Strategy<Value = Metric> {
    (text(), text(), text(), option::of(data()), attributes()).prop_map(
        |(name, description, unit, data, metadata)| Metric {
            name,
            description,
            unit,
            data,
            metadata,
        },
    )
}

fn data() -> impl Strategy<Value = Data> {
    let temporality = -1..4i32;
    prop_oneof![
        vec(number_point(), 0..4).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (
            vec(number_point(), 0..4),
            temporality.clone(),
            any::<bool>()
        )
            .prop_map(
                |(data_points, aggregation_temporality, is_monotonic)| Data::Sum(Sum {
                    data_points,
                    aggregation_temporality,
                    is_monotonic,
                })
            ),
        (vec(histogram_point(), 0..3), temporality.clone()).prop_map(
            |(data_points, aggregation_temporality)| Data::Histogram(Histogram {
                data_points,
                aggregation_temporality,
            })
        ),
        (vec(exponential_point(), 0..3), temporality).prop_map(
            |(data_points, aggregation_temporality)| Data::ExponentialHistogram(
                ExponentialHistogram {
                    data_points,
                    aggregation_temporality,
                }
            )
        ),
        vec(summary_point(), 0..3).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ]
}

fn double() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        prop::sample::select(vec![0.0, -0.0, 1.0, f64::NAN, f64::INFINITY, f64::MIN]),
    ]
}

/// Generates doubles without -0, for fields whose default is 0: prost leaves out both zeros.
fn plain_double() -> impl Strategy<Value = f64> {
    double().prop_map(|value| if value == 0.0 { 0.0 } else { value })
}

fn times() -> impl Strategy<Value = (u64, u64)> {
    (time(), time())
}

fn number_point() -> impl Strategy<Value = NumberDataPoint> {
    let value = option::of(prop_oneof![
        double().prop_map(Number::AsDouble),
        any::<i64>().prop_map(Number::AsInt),
        Just(Number::AsInt(0)),
    ]);
    (times(), attributes(), vec(exemplar(), 0..3), 0..2u32, value).prop_map(
        |((start_time_unix_nano, time_unix_nano), attributes, exemplars, flags, value)| {
            NumberDataPoint {
                attributes,
                start_time_unix_nano,
                time_unix_nano,
                exemplars,
                flags,
                value,
            }
        },
    )
}

fn exemplar() -> impl Strategy<Value = Exemplar> {
    let value = option::of(prop_oneof![
        double().prop_map(exemplar::Value::AsDouble),
        any::<i64>().prop_map(exemplar::Value::AsInt),
    ]);
    (attributes(), time(), id(8), id(16), value).prop_map(
        |(filtered_attributes, time_unix_nano, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        },
    )
}

fn histogram_point() -> impl Strategy<Value = HistogramDataPoint> {
    let extremes = (
        option::of(double()),
        option::of(double()),
        option::of(double()),
    );
    let buckets = (vec(any::<u64>(), 0..5), vec(double(), 0..5));
    let around = (times(), attributes(), vec(exemplar(), 0..2));
    (around, any::<u64>(), extremes, buckets, any::<u32>()).prop_map(
        |(around, count, extremes, buckets, flags)| HistogramDataPoint {
            attributes: around.1,
            start_time_unix_nano: around.0.0,
            time_unix_nano: around.0.1,
            count,
            sum: extremes.0,
            bucket_counts: buckets.0,
            explicit_bounds: buckets.1,
            exemplars: around.2,
            flags,
            min: extremes.1,
            max: extremes.2,
        },
    )
}

fn exponential_point() -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let extremes = (
        option::of(double()),
        option::of(double()),
        option::of(double()),
    );
    let buckets = || {
        let counts = vec(prop_oneof![any::<u64>(), 0..300u64], 0..5);
        option::of(
            (any::<i32>(), counts).prop_map(|(offset, bucket_counts)| Buckets {
                offset,
                bucket_counts,
            }),
        )
    };
    let zeros = (0..3u64, plain_double(), any::<i32>(), 0..3u64);
    let around = (times(), attributes(), vec(exemplar(), 0..2), 0..3u32);
    (around, extremes, zeros, buckets(), buckets()).prop_map(
        |(around, extremes, zeros, positive, negative)| ExponentialHistogramDataPoint {
            attributes: around.1,
            start_time_unix_nano: around.0.0,
            time_unix_nano: around.0.1,
            count: zeros.3,
            sum: extremes.0,
            scale: zeros.2,
            zero_count: zeros.0,
            positive,
            negative,
            flags: around.3,
            exemplars: around.2,
            min: extremes.1,
            max: extremes.2,
            zero_threshold: zeros.1,
        },
    )
}

fn summary_point() -> impl Strategy<Value = SummaryDataPoint> {
    let quantile = (plain_double(), plain_double())
        .prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    (
        times(),
        attributes(),
        any::<u64>(),
        plain_double(),
        vec(quantile, 0..4),
    )
        .prop_map(
            |((start_time_unix_nano, time_unix_nano), attributes, count, sum, quantile_values)| {
                SummaryDataPoint {
                    attributes,
                    start_time_unix_nano,
                    time_unix_nano,
                    count,
                    sum,
                    quantile_values,
                    flags: 1,
                }
            },
        )
}

/// Returns a request in the JSON encoding of the specification.
pub(super) fn to_json(request: &ExportMetricsServiceRequest) -> Value {
    let resources = list(&request.resource_metrics, |resource| {
        let scopes = list(&resource.scope_metrics, |scope| {
            object([
                ("metrics", list(&scope.metrics, metric_json)),
                (
                    "scope",
                    scope.scope.as_ref().map_or(Value::Null, scope_json),
                ),
                ("schemaUrl", json!(scope.schema_url)),
            ])
        });
        let origin = resource.resource.as_ref();
        object([
            ("resource", origin.map_or(Value::Null, resource_json)),
            ("scopeMetrics", scopes),
            ("schemaUrl", json!(resource.schema_url)),
        ])
    });
    json!({ "resourceMetrics": resources })
}

fn metric_json(metric: &Metric) -> Value {
    let (name, data) = match &metric.data {
        None => ("gauge", Value::Null),
        Some(Data::Gauge(gauge)) => (
            "gauge",
            json!({"dataPoints": list(&gauge.data_points, number_json)}),
        ),
        Some(Data::Sum(sum)) => (
            "sum",
            json!({
                "dataPoints": list(&sum.data_points, number_json),
                "aggregationTemporality": sum.aggregation_temporality,
                "isMonotonic": sum.is_monotonic,
            }),
        ),
        Some(Data::Histogram(histogram)) => (
            "histogram",
            json!({
                "dataPoints": list(&histogram.data_points, histogram_json),
                "aggregationTemporality": histogram.aggregation_temporality.to_string(),
            }),
        ),
        Some(Data::ExponentialHistogram(exponential)) => (
            "exponentialHistogram",
            json!({
                "dataPoints": list(&exponential.data_points, exponential_json),
                "aggregationTemporality": exponential.aggregation_temporality,
            }),
        ),
        Some(Data::Summary(summary)) => (
            "summary",
            json!({"dataPoints": list(&summary.data_points, summary_json)}),
        ),
    };
    object([
        ("name", json!(metric.name)),
        ("description", json!(metric.description)),
        ("unit", json!(metric.unit)),
        ("metadata", attributes_json(&metric.metadata)),
        (name, data),
    ])
}

fn double_json(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

fn number_json(point: &NumberDataPoint) -> Value {
    let (name, value) = match point.value {
        None => ("asInt", Value::Null),
        Some(Number::AsInt(value)) => ("asInt", json!(value.to_string())),
        Some(Number::AsDouble(value)) => ("asDouble", double_json(value)),
    };
    object([
        ("attributes", attributes_json(&point.attributes)),
        ("startTimeUnixNano", json!(point.start_time_unix_nano)),
        ("timeUnixNano", json!(point.time_unix_nano.to_string())),
        (name, value),
        ("exemplars", list(&point.exemplars, exemplar_json)),
        ("flags", json!(point.flags)),
    ])
}

fn exemplar_json(exemplar: &Exemplar) -> Value {
    let (name, value) = match exemplar.value {
        None => ("asDouble", Value::Null),
        Some(exemplar::Value::AsInt(value)) => ("asInt", json!(value)),
        Some(exemplar::Value::AsDouble(value)) => ("asDouble", double_json(value)),
    };
    object([
        (name, value),
        (
            "filteredAttributes",
            attributes_json(&exemplar.filtered_attributes),
        ),
        ("timeUnixNano", json!(exemplar.time_unix_nano.to_string())),
        ("spanId", hex(&exemplar.span_id)),
        ("traceId", hex(&exemplar.trace_id)),
    ])
}

fn optional(value: Option<f64>) -> Value {
    value.map_or(Value::Null, double_json)
}

fn histogram_json(point: &HistogramDataPoint) -> Value {
    json!({
        "attributes": attributes_json(&point.attributes),
        "startTimeUnixNano": point.start_time_unix_nano.to_string(),
        "timeUnixNano": point.time_unix_nano,
        "count": point.count.to_string(),
        "sum": optional(point.sum),
        "bucketCounts": list(&point.bucket_counts, |count| json!(count.to_string())),
        "explicitBounds": list(&point.explicit_bounds, |bound| double_json(*bound)),
        "exemplars": list(&point.exemplars, exemplar_json),
        "flags": point.flags.to_string(),
        "min": optional(point.min),
        "max": optional(point.max),
    })
}

fn exponential_json(point: &ExponentialHistogramDataPoint) -> Value {
    let buckets = |buckets: &Option<Buckets>| {
        buckets.as_ref().map_or(
            Value::Null,
            |buckets| json!({"offset": buckets.offset, "bucketCounts": buckets.bucket_counts}),
        )
    };
    json!({
        "attributes": attributes_json(&point.attributes),
        "startTimeUnixNano": point.start_time_unix_nano,
        "timeUnixNano": point.time_unix_nano,
        "count": point.count,
        "sum": optional(point.sum),
        "scale": point.scale.to_string(),
        "zeroCount": point.zero_count,
        "positive": buckets(&point.positive),
        "negative": buckets(&point.negative),
        "flags": point.flags,
        "exemplars": list(&point.exemplars, exemplar_json),
        "min": optional(point.min),
        "max": optional(point.max),
        "zeroThreshold": double_json(point.zero_threshold),
    })
}

fn summary_json(point: &SummaryDataPoint) -> Value {
    let quantiles = list(
        &point.quantile_values,
        |quantile| json!({"quantile": double_json(quantile.quantile), "value": double_json(quantile.value)}),
    );
    json!({
        "attributes": attributes_json(&point.attributes),
        "startTimeUnixNano": point.start_time_unix_nano,
        "timeUnixNano": point.time_unix_nano,
        "count": point.count,
        "sum": double_json(point.sum),
        "quantileValues": quantiles,
        "flags": point.flags,
    })
}
