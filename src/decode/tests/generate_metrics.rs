//! Metric requests of every shape to try, and their JSON as the specification writes it.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary,
    SummaryDataPoint, exemplar, number_data_point,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::generate::{
    attributes, attributes_json, hex, id, list, resource, resource_json, scope, scope_json, text,
    time,
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
    let texts = (text(), text(), text());
    (texts, attributes(), option::of(data())).prop_map(
        |((name, description, unit), metadata, data)| Metric {
            name,
            description,
            unit,
            metadata,
            data,
        },
    )
}

fn data() -> impl Strategy<Value = Data> {
    let temporality = || -1..4i32;
    prop_oneof![
        vec(number_point(), 0..3).prop_map(|data_points| Data::Gauge(Gauge { data_points })),
        (vec(number_point(), 0..3), temporality(), any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| Data::Sum(Sum {
                data_points,
                aggregation_temporality,
                is_monotonic,
            })
        ),
        (vec(histogram_point(), 0..3), temporality()).prop_map(
            |(data_points, aggregation_temporality)| Data::Histogram(Histogram {
                data_points,
                aggregation_temporality,
            })
        ),
        (vec(exponential_point(), 0..3), temporality()).prop_map(
            |(data_points, aggregation_temporality)| {
                Data::ExponentialHistogram(ExponentialHistogram {
                    data_points,
                    aggregation_temporality,
                })
            }
        ),
        vec(summary_point(), 0..3).prop_map(|data_points| Data::Summary(Summary { data_points })),
    ]
}

fn number_point() -> impl Strategy<Value = NumberDataPoint> {
    use number_data_point::Value::{AsDouble, AsInt};
    let value = prop_oneof![double().prop_map(AsDouble), whole().prop_map(AsInt)];
    let times = (time(), time());
    (times, option::of(value), attributes(), exemplars(), flags()).prop_map(
        |((start_time_unix_nano, time_unix_nano), value, attributes, exemplars, flags)| {
            NumberDataPoint {
                start_time_unix_nano,
                time_unix_nano,
                attributes,
                exemplars,
                flags,
                value,
            }
        },
    )
}

fn histogram_point() -> impl Strategy<Value = HistogramDataPoint> {
    let lists = (vec(count(), 0..4), vec(double(), 0..4));
    let rest = (attributes(), exemplars(), flags());
    ((time(), time()), count(), optional(), lists, rest).prop_map(
        |(times, count, (sum, min, max), (bucket_counts, explicit_bounds), rest)| {
            HistogramDataPoint {
                start_time_unix_nano: times.0,
                time_unix_nano: times.1,
                count,
                sum,
                min,
                max,
                bucket_counts,
                explicit_bounds,
                attributes: rest.0,
                exemplars: rest.1,
                flags: rest.2,
            }
        },
    )
}

fn exponential_point() -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let buckets = || {
        let buckets = (any::<i32>(), vec(count(), 0..4));
        let buckets = buckets.prop_map(|(offset, bucket_counts)| Buckets {
            offset,
            bucket_counts,
        });
        option::of(prop_oneof![4 => buckets, 1 => Just(Buckets::default())])
    };
    let counts = (count(), count(), any::<i32>(), double());
    let rest = (attributes(), exemplars(), flags());
    (
        (time(), time()),
        counts,
        optional(),
        (buckets(), buckets()),
        rest,
    )
        .prop_map(
            |(times, counts, (sum, min, max), (positive, negative), rest)| {
                ExponentialHistogramDataPoint {
                    start_time_unix_nano: times.0,
                    time_unix_nano: times.1,
                    count: counts.0,
                    zero_count: counts.1,
                    scale: counts.2,
                    zero_threshold: counts.3,
                    sum,
                    min,
                    max,
                    positive,
                    negative,
                    attributes: rest.0,
                    exemplars: rest.1,
                    flags: rest.2,
                }
            },
        )
}

fn summary_point() -> impl Strategy<Value = SummaryDataPoint> {
    let quantile =
        (double(), double()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value });
    let values = (count(), double(), vec(quantile, 0..4));
    ((time(), time()), values, attributes(), flags()).prop_map(
        |(times, (count, sum, quantile_values), attributes, flags)| SummaryDataPoint {
            start_time_unix_nano: times.0,
            time_unix_nano: times.1,
            count,
            sum,
            quantile_values,
            attributes,
            flags,
        },
    )
}

fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
    use exemplar::Value::{AsDouble, AsInt};
    let value = prop_oneof![double().prop_map(AsDouble), whole().prop_map(AsInt)];
    let exemplar = (attributes(), time(), id(16), id(8), option::of(value)).prop_map(
        |(filtered_attributes, time_unix_nano, trace_id, span_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        },
    );
    vec(exemplar, 0..3)
}

fn optional() -> impl Strategy<Value = (Option<f64>, Option<f64>, Option<f64>)> {
    (
        option::of(double()),
        option::of(double()),
        option::of(double()),
    )
}

fn double() -> impl Strategy<Value = f64> {
    let special = vec![
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        5e-324,
        f64::MAX,
    ];
    prop_oneof![any::<f64>(), prop::sample::select(special)]
}

fn whole() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), Just(0), Just(i64::MIN), Just(i64::MAX)]
}

fn count() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), Just(0), Just(1), Just(u64::MAX)]
}

fn flags() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), Just(0), Just(1)]
}

pub(super) fn to_json(request: &ExportMetricsServiceRequest) -> Value {
    let resources = list(&request.resource_metrics, |resource| {
        let scopes = list(&resource.scope_metrics, |scope| {
            json!({
                "scope": scope.scope.as_ref().map_or(Value::Null, scope_json),
                "metrics": list(&scope.metrics, metric_json),
                "schemaUrl": scope.schema_url,
            })
        });
        json!({
            "resource": resource.resource.as_ref().map_or(Value::Null, resource_json),
            "scopeMetrics": scopes,
            "schemaUrl": resource.schema_url,
        })
    });
    json!({ "resourceMetrics": resources })
}

fn metric_json(metric: &Metric) -> Value {
    let mut json = json!({
        "name": metric.name,
        "description": metric.description,
        "unit": metric.unit,
        "metadata": attributes_json(&metric.metadata),
    });
    let (name, data) = match &metric.data {
        None => return json,
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
                "aggregationTemporality": histogram.aggregation_temporality,
            }),
        ),
        Some(Data::ExponentialHistogram(histogram)) => (
            "exponentialHistogram",
            json!({
                "dataPoints": list(&histogram.data_points, exponential_json),
                "aggregationTemporality": histogram.aggregation_temporality,
            }),
        ),
        Some(Data::Summary(summary)) => (
            "summary",
            json!({"dataPoints": list(&summary.data_points, summary_json)}),
        ),
    };
    json[name] = data;
    json
}

fn number_json(point: &NumberDataPoint) -> Value {
    let mut json = json!({
        "startTimeUnixNano": point.start_time_unix_nano.to_string(),
        "timeUnixNano": point.time_unix_nano,
        "attributes": attributes_json(&point.attributes),
        "exemplars": list(&point.exemplars, exemplar_json),
        "flags": point.flags,
    });
    match point.value {
        None => {}
        Some(number_data_point::Value::AsDouble(value)) => json["asDouble"] = double_json(value),
        Some(number_data_point::Value::AsInt(value)) => json["asInt"] = json!(value.to_string()),
    }
    json
}

fn histogram_json(point: &HistogramDataPoint) -> Value {
    json!({
        "startTimeUnixNano": point.start_time_unix_nano.to_string(),
        "timeUnixNano": point.time_unix_nano.to_string(),
        "count": point.count.to_string(),
        "sum": point.sum.map_or(Value::Null, double_json),
        "min": point.min.map_or(Value::Null, double_json),
        "max": point.max.map_or(Value::Null, double_json),
        "bucketCounts": list(&point.bucket_counts, |count| json!(count.to_string())),
        "explicitBounds": list(&point.explicit_bounds, |bound| double_json(*bound)),
        "attributes": attributes_json(&point.attributes),
        "exemplars": list(&point.exemplars, exemplar_json),
        "flags": point.flags,
    })
}

fn exponential_json(point: &ExponentialHistogramDataPoint) -> Value {
    let buckets = |buckets: &Option<Buckets>| {
        buckets.as_ref().map_or(Value::Null, |buckets| {
            json!({
                "offset": buckets.offset,
                "bucketCounts": list(&buckets.bucket_counts, |count| json!(count.to_string())),
            })
        })
    };
    json!({
        "startTimeUnixNano": point.start_time_unix_nano.to_string(),
        "timeUnixNano": point.time_unix_nano.to_string(),
        "count": point.count.to_string(),
        "zeroCount": point.zero_count,
        "scale": point.scale,
        "zeroThreshold": double_json(point.zero_threshold),
        "sum": point.sum.map_or(Value::Null, double_json),
        "min": point.min.map_or(Value::Null, double_json),
        "max": point.max.map_or(Value::Null, double_json),
        "positive": buckets(&point.positive),
        "negative": buckets(&point.negative),
        "attributes": attributes_json(&point.attributes),
        "exemplars": list(&point.exemplars, exemplar_json),
        "flags": point.flags,
    })
}

fn summary_json(point: &SummaryDataPoint) -> Value {
    let quantiles = list(&point.quantile_values, |quantile| {
        json!({
            "quantile": double_json(quantile.quantile),
            "value": double_json(quantile.value),
        })
    });
    json!({
        "startTimeUnixNano": point.start_time_unix_nano.to_string(),
        "timeUnixNano": point.time_unix_nano.to_string(),
        "count": point.count.to_string(),
        "sum": double_json(point.sum),
        "quantileValues": quantiles,
        "attributes": attributes_json(&point.attributes),
        "flags": point.flags,
    })
}

fn exemplar_json(exemplar: &Exemplar) -> Value {
    let mut json = json!({
        "timeUnixNano": exemplar.time_unix_nano.to_string(),
        "traceId": hex(&exemplar.trace_id),
        "spanId": hex(&exemplar.span_id),
        "filteredAttributes": attributes_json(&exemplar.filtered_attributes),
    });
    match exemplar.value {
        None => {}
        Some(exemplar::Value::AsDouble(value)) => json["asDouble"] = double_json(value),
        Some(exemplar::Value::AsInt(value)) => json["asInt"] = json!(value.to_string()),
    }
    json
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
