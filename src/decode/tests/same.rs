//! A normal form of requests, in which a test compares a request with its export.
//!
//! **Invariant:** two requests have the same form exactly if they differ only in details that the mapping does not
//! keep: the order of items and attributes, earlier values of a key, ids that are not ids, NULs, the bits of a NaN, and
//! the presence of an empty resource, scope, status or attribute's value.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
    HistogramDataPoint, Metric, NumberDataPoint, Sum, Summary, SummaryDataPoint, exemplar,
    number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A request's items, each with the objects around it, and the number of times that it occurs.
pub(super) type Form = BTreeMap<String, usize>;

/// The levels around items, which are the same for all signals.
#[derive(Message)]
struct Request {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

#[derive(Message)]
struct OfScope {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    items: Vec<Vec<u8>>,
    #[prost(string, tag = "3")]
    schema_url: String,
}

/// Returns the form of an encoded request with spans.
pub(super) fn spans(request: &[u8]) -> Form {
    form(request, span)
}

/// Returns the form of an encoded request with log records.
pub(super) fn logs(request: &[u8]) -> Form {
    form(request, log_record)
}

/// Returns the form of an encoded request with metrics, in which each item is a metric with one point.
pub(super) fn metrics(request: &[u8]) -> Form {
    form(request, points)
}

fn form<T: Message + Default + std::fmt::Debug>(request: &[u8], forms: fn(T) -> Vec<T>) -> Form {
    let mut form = Form::new();
    let request = Request::decode(request).expect("a request");
    for of_resource in request.resources {
        let resource = resource(of_resource.resource);
        for of_scope in of_resource.scopes {
            let around = OfResource {
                resource: Some(resource.clone()),
                scopes: vec![OfScope {
                    scope: Some(scope(of_scope.scope)),
                    items: Vec::new(),
                    schema_url: text(&of_scope.schema_url),
                }],
                schema_url: text(&of_resource.schema_url),
            };
            for item in of_scope.items {
                for item in forms(T::decode(&*item).expect("an item")) {
                    let whole = format!("{item:?} in {around:?}");
                    *form.entry(whole).or_default() += 1;
                }
            }
        }
    }
    form
}

fn resource(resource: Option<Resource>) -> Resource {
    let mut resource = resource.unwrap_or_default();
    attributes(&mut resource.attributes);
    for entity in &mut resource.entity_refs {
        entity.schema_url = text(&entity.schema_url);
        entity.r#type = text(&entity.r#type);
        for key in entity
            .id_keys
            .iter_mut()
            .chain(&mut entity.description_keys)
        {
            *key = text(key);
        }
    }
    resource
}

fn scope(scope: Option<InstrumentationScope>) -> InstrumentationScope {
    let mut scope = scope.unwrap_or_default();
    scope.name = text(&scope.name);
    scope.version = text(&scope.version);
    attributes(&mut scope.attributes);
    scope
}

/// Returns no span if its ids are not valid, because the span is rejected.
fn span(mut span: Span) -> Vec<Span> {
    if !is_id(&span.trace_id, 16) || !is_id(&span.span_id, 8) {
        return Vec::new();
    }
    id(&mut span.parent_span_id, 8);
    span.trace_state = text(&span.trace_state);
    span.name = text(&span.name);
    attributes(&mut span.attributes);
    for event in &mut span.events {
        event.name = text(&event.name);
        attributes(&mut event.attributes);
    }
    for link in &mut span.links {
        id(&mut link.trace_id, 16);
        id(&mut link.span_id, 8);
        link.trace_state = text(&link.trace_state);
        attributes(&mut link.attributes);
    }
    let mut status = span.status.unwrap_or_default();
    status.message = text(&status.message);
    span.status = Some(status);
    vec![span]
}

fn log_record(mut record: LogRecord) -> Vec<LogRecord> {
    id(&mut record.trace_id, 16);
    id(&mut record.span_id, 8);
    record.severity_text = text(&record.severity_text);
    record.event_name = text(&record.event_name);
    record.body = record.body.map(value);
    attributes(&mut record.attributes);
    vec![record]
}

/// Returns each point alone with its metric.
fn points(mut metric: Metric) -> Vec<Metric> {
    metric.name = text(&metric.name);
    metric.description = text(&metric.description);
    metric.unit = text(&metric.unit);
    attributes(&mut metric.metadata);
    let data = metric.data.take().map(data_points).unwrap_or_default();
    data.into_iter()
        .map(|data| Metric {
            data: Some(data),
            ..metric.clone()
        })
        .collect()
}

/// Returns each point alone, without those that have no time, because they are rejected.
fn data_points(data: Data) -> Vec<Data> {
    match data {
        Data::Gauge(gauge) => each(gauge.data_points, number_point)
            .map(|data_points| Data::Gauge(Gauge { data_points }))
            .collect(),
        Data::Sum(sum) => each(sum.data_points, number_point)
            .map(|data_points| Data::Sum(Sum { data_points, ..sum }))
            .collect(),
        Data::Histogram(histogram) => each(histogram.data_points, histogram_point)
            .map(|data_points| {
                Data::Histogram(Histogram {
                    data_points,
                    ..histogram
                })
            })
            .collect(),
        Data::ExponentialHistogram(histogram) => each(histogram.data_points, exponential_point)
            .map(|data_points| {
                Data::ExponentialHistogram(ExponentialHistogram {
                    data_points,
                    ..histogram
                })
            })
            .collect(),
        Data::Summary(summary) => each(summary.data_points, summary_point)
            .map(|data_points| Data::Summary(Summary { data_points }))
            .collect(),
    }
}

/// Returns lists of one point each. `form` normalises a point and returns its time; points with the time 0 are left
/// out.
fn each<P>(points: Vec<P>, form: fn(&mut P) -> u64) -> impl Iterator<Item = Vec<P>> {
    points.into_iter().filter_map(move |mut point| {
        let time = form(&mut point);
        (time != 0).then(|| vec![point])
    })
}

fn number_point(point: &mut NumberDataPoint) -> u64 {
    attributes(&mut point.attributes);
    exemplars(&mut point.exemplars);
    if let Some(number_data_point::Value::AsDouble(value)) = &mut point.value {
        double(value);
    }
    point.time_unix_nano
}

fn histogram_point(point: &mut HistogramDataPoint) -> u64 {
    attributes(&mut point.attributes);
    exemplars(&mut point.exemplars);
    let optional = [&mut point.sum, &mut point.min, &mut point.max];
    optional.into_iter().flatten().for_each(double);
    point.explicit_bounds.iter_mut().for_each(double);
    point.time_unix_nano
}

fn exponential_point(point: &mut ExponentialHistogramDataPoint) -> u64 {
    attributes(&mut point.attributes);
    exemplars(&mut point.exemplars);
    let optional = [&mut point.sum, &mut point.min, &mut point.max];
    optional.into_iter().flatten().for_each(double);
    unsigned_zero(&mut point.zero_threshold);
    point.time_unix_nano
}

fn summary_point(point: &mut SummaryDataPoint) -> u64 {
    attributes(&mut point.attributes);
    unsigned_zero(&mut point.sum);
    for quantile in &mut point.quantile_values {
        unsigned_zero(&mut quantile.quantile);
        unsigned_zero(&mut quantile.value);
    }
    point.time_unix_nano
}

fn exemplars(exemplars: &mut [Exemplar]) {
    for exemplar in exemplars {
        attributes(&mut exemplar.filtered_attributes);
        id(&mut exemplar.trace_id, 16);
        id(&mut exemplar.span_id, 8);
        if let Some(exemplar::Value::AsDouble(value)) = &mut exemplar.value {
            double(value);
        }
    }
}

fn attributes(pairs: &mut Vec<KeyValue>) {
    let mut last = BTreeMap::new();
    for pair in pairs.drain(..) {
        last.insert(text(&pair.key), value(pair.value.unwrap_or_default()));
    }
    pairs.extend(last.into_iter().map(|(key, value)| KeyValue {
        key,
        value: Some(value),
        ..KeyValue::default()
    }));
}

fn value(mut value: AnyValue) -> AnyValue {
    match &mut value.value {
        Some(Any::StringValue(held)) => *held = text(held),
        Some(Any::DoubleValue(held)) => double(held),
        Some(Any::ArrayValue(array)) => {
            for held in &mut array.values {
                *held = self::value(std::mem::take(held));
            }
        }
        Some(Any::KvlistValue(list)) => attributes(&mut list.values),
        _ => {}
    }
    value
}

fn double(value: &mut f64) {
    if value.is_nan() {
        *value = f64::NAN;
    }
}

/// Normalises a double whose default is 0: prost takes -0 for the default.
fn unsigned_zero(value: &mut f64) {
    double(value);
    if *value == 0.0 {
        *value = 0.0;
    }
}

fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn is_id(id: &[u8], len: usize) -> bool {
    id.len() == len && id.iter().any(|byte| *byte != 0)
}

fn id(id: &mut Vec<u8>, len: usize) {
    if !is_id(id, len) {
        id.clear();
    }
}
