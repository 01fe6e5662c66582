//! The spans, log records and metric points of the contract.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::metrics::MeterProvider;
use opentelemetry::trace::{
    Link, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Array, Context, InstrumentationScope, Key, KeyValue, Value};
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::{Value as Json, json};

/// By number mod 5, with OTLP's numbers.
const KINDS: [(SpanKind, u8); 5] = [
    (SpanKind::Server, 2),
    (SpanKind::Client, 3),
    (SpanKind::Internal, 1),
    (SpanKind::Producer, 4),
    (SpanKind::Consumer, 5),
];

/// By number mod 6.
const SEVERITIES: [(Severity, &str); 6] = [
    (Severity::Trace, "TRACE"),
    (Severity::Debug, "DEBUG"),
    (Severity::Info, "INFO"),
    (Severity::Warn, "WARN"),
    (Severity::Error, "ERROR"),
    (Severity::Fatal, "FATAL"),
];

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("contract")
        .with_version("1.2.3")
        .build()
}

pub fn trace_id(context: &Context) -> String {
    context.span().span_context().trace_id().to_string()
}

/// A context inside the root span, and what the report says of each span, by number.
pub fn spans(provider: &SdkTracerProvider, count: usize) -> (Context, Vec<Json>) {
    let tracer = provider.tracer_with_scope(scope());
    let root_start = now();
    let root = tracer.build_with_context(
        builder("root", 0, root_start, root_attributes()),
        &Context::new(),
    );
    let inside = Context::new().with_span(root);
    let items = vec![KeyValue::new("items", 3)];
    inside.span().add_event("received", items);

    let mut said = vec![Json::Null];
    for number in 1..count {
        let start = now();
        let name = format!("item {number}");
        let item = match number {
            1 => builder(&name, number, start, first_attributes()).with_links(vec![Link::new(
                inside.span().span_context().clone(),
                vec![KeyValue::new("why", "contract")],
                0,
            )]),
            _ => builder(&name, number, start, Vec::new()),
        };
        let item = inside.with_span(tracer.build_with_context(item, &inside));
        said.push(ended(&item, &name, number, start));
    }
    said[0] = ended(&inside, "root", 0, root_start);
    (inside, said)
}

fn builder(
    name: &str,
    number: usize,
    start: SystemTime,
    mut attributes: Vec<KeyValue>,
) -> SpanBuilder {
    attributes.push(KeyValue::new("number", integer(number)));
    SpanBuilder::from_name(name.to_owned())
        .with_kind(KINDS[number % 5].0.clone())
        .with_start_time(start)
        .with_attributes(attributes)
}

fn root_attributes() -> Vec<KeyValue> {
    vec![
        KeyValue::new("text", "Grüße \u{1F980}"),
        KeyValue::new("blank", ""),
        KeyValue::new("int", 9_007_199_254_740_991_i64),
        KeyValue::new("long", i64::MIN),
        KeyValue::new("double", 0.1),
        KeyValue::new("yes", true),
        KeyValue::new(
            "texts",
            Value::Array(Array::String(vec!["a".into(), "b".into()])),
        ),
        KeyValue::new("ints", Value::Array(Array::I64(vec![1, -2]))),
        KeyValue::new("doubles", Value::Array(Array::F64(vec![1.5, -0.5]))),
        KeyValue::new("bools", Value::Array(Array::Bool(vec![true, false]))),
    ]
}

fn first_attributes() -> Vec<KeyValue> {
    vec![
        KeyValue::new("correlation.id", "order-4711"),
        KeyValue::new("db.system.name", "postgresql"),
    ]
}

fn ended(context: &Context, name: &str, number: usize, start: SystemTime) -> Json {
    let span = context.span();
    let status = match number % 5 {
        1 => {
            span.set_status(Status::error("deadlock detected"));
            "ERROR"
        }
        2 => {
            span.set_status(Status::Ok);
            "OK"
        }
        _ => "UNSET",
    };
    let end = now();
    span.end_with_timestamp(end);
    json!({
        "spanId": span.span_context().span_id().to_string(),
        "name": name,
        "kind": KINDS[number % 5].1,
        "status": status,
        "start": start.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string(),
        "duration": end.duration_since(start).unwrap_or(Duration::ZERO).as_nanos(),
    })
}

pub fn logs(provider: &SdkLoggerProvider, inside: &Context, count: usize) {
    let logger = provider.logger_with_scope(scope());
    for number in 0..count {
        let (severity, text) = SEVERITIES[number % 6];
        let mut record = logger.create_log_record();
        record.set_timestamp(now());
        record.set_severity_number(severity);
        record.set_severity_text(text);
        record.add_attribute("number", integer(number));
        record.set_body(format!("log {number}").into());
        match number {
            1 => record.set_event_name("contract.happened"),
            2 => record.set_body(map()),
            _ => {}
        }
        let _entered = (number % 2 == 0).then(|| inside.clone().attach());
        logger.emit(record);
    }
}

fn map() -> AnyValue {
    let list = AnyValue::ListAny(Box::new(vec![AnyValue::Int(1), "b".into()]));
    let entries = [
        (Key::new("text"), "a".into()),
        (Key::new("n"), AnyValue::Int(1)),
        (Key::new("list"), list),
    ];
    entries.into_iter().collect()
}

/// How many points each metric has.
///
/// # Errors
/// When `count` is no `u64`.
pub fn points(provider: &SdkMeterProvider, count: usize) -> Result<Json, Box<dyn Error>> {
    let meter = provider.meter_with_scope(scope());
    let requests = meter
        .u64_counter("contract.requests")
        .with_unit("{request}")
        .build();
    for series in 0..u64::try_from(count)? {
        let series_attribute = KeyValue::new("series", i64::try_from(series)?);
        requests.add(series + 1, &[series_attribute]);
    }
    let in_flight = meter
        .i64_up_down_counter("contract.in_flight")
        .with_unit("{request}")
        .build();
    in_flight.add(5, &[]);
    in_flight.add(-7, &[]);
    let temperature = meter
        .f64_gauge("contract.temperature")
        .with_unit("Cel")
        .build();
    temperature.record(21.5, &[]);
    let latency = meter
        .f64_histogram("contract.latency")
        .with_unit("ms")
        .build();
    for value in [1.0, 10.0, 100.5] {
        latency.record(value, &[]);
    }
    let size = meter.f64_histogram("contract.size").with_unit("By").build();
    for value in [1.0, 2.0, 4.0] {
        size.record(value, &[]);
    }
    Ok(json!({
        "contract.requests": count,
        "contract.in_flight": 1,
        "contract.temperature": 1,
        "contract.latency": 1,
        "contract.size": 1,
    }))
}

fn now() -> SystemTime {
    SystemTime::now()
}

fn integer(number: usize) -> i64 {
    i64::try_from(number).expect("at most a thousand")
}
