//! The cost of decoding an item, beside other parsers on the same bytes.
//!
//! **Invariant:** throughput is counted in items: the time of one item is the time of an iteration divided by the
//! printed count.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;
use ruvvector_service::decode::{self, EventMetadata, Sink, check, events};
use ruvvector_service::event::{Encoding, Event, Resource, Signal};
use ruvvector_service::event::{Limits, Position, Source, StreamId};
use std::hint::black_box;

use messages::{ITEMS, NATIVE_EVENTS, logs, metrics, native_events, request, request_json};

/// The requests.
mod messages;

/// Looks at each row and drops it.
struct Forget;

impl Sink for Forget {
    fn resource(&mut self, resource: Resource) {
        black_box(&resource);
    }

    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        black_box(metadata.of(event));
    }
}

fn ours(criterion: &mut Criterion, name: &str, items: usize, body: &[u8], source: &Source) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(items as u64));
    group.bench_function("check", |bencher| {
        bencher.iter(|| check(black_box(body), source).expect("valid"));
    });
    let position = Position {
        stream: StreamId([0; 16]),
        n: 1,
    };
    group.bench_function("events", |bencher| {
        bencher.iter(|| events(black_box(body), source, position, &mut Forget).expect("valid"));
    });
    match source.encoding {
        Encoding::Protobuf if source.signal == Signal::Log => {
            group.bench_function("prost, whole tree", |bencher| {
                bencher.iter(|| ExportLogsServiceRequest::decode(black_box(body)).expect("valid"));
            });
        }
        Encoding::Protobuf if source.signal == Signal::Metric => {
            group.bench_function("prost, whole tree", |bencher| {
                bencher
                    .iter(|| ExportMetricsServiceRequest::decode(black_box(body)).expect("valid"));
            });
        }
        Encoding::Protobuf => {
            group.bench_function("prost, whole tree", |bencher| {
                bencher.iter(|| ExportTraceServiceRequest::decode(black_box(body)).expect("valid"));
            });
        }
        Encoding::Json | Encoding::NdJson => {
            group.bench_function("serde, parse only into a tree", |bencher| {
                bencher.iter(|| {
                    serde_json::from_slice::<serde_json::Value>(black_box(body)).expect("valid")
                });
            });
            group.bench_function("serde, parse only into nothing", |bencher| {
                bencher.iter(|| {
                    serde_json::from_slice::<serde::de::IgnoredAny>(black_box(body)).expect("valid")
                });
            });
        }
    }
    group.finish();
}

fn benches(criterion: &mut Criterion) {
    let source = |signal, encoding| Source {
        signal,
        encoding,
        partial: false,
        received_unix_nano: 1_800_000_000_000_000_000,
        limits: Limits::default(),
        version: decode::VERSION,
    };
    let request = request();
    let protobuf = request.encode_to_vec();
    let json = request_json(&request);
    let native = native_events();
    assert!(
        (350..380).contains(&(protobuf.len() / ITEMS)),
        "{}",
        protobuf.len() / ITEMS
    );
    assert!(
        (430..470).contains(&(native.len() / NATIVE_EVENTS)),
        "{}",
        native.len() / NATIVE_EVENTS
    );
    let spans = source(Signal::Span, Encoding::Protobuf);
    ours(criterion, "spans, protobuf", ITEMS, &protobuf, &spans);
    let spans = source(Signal::Span, Encoding::Json);
    ours(criterion, "spans, json", ITEMS, json.as_bytes(), &spans);
    let records = source(Signal::Log, Encoding::Protobuf);
    let logs = logs(&request).encode_to_vec();
    ours(criterion, "logs, protobuf", ITEMS, &logs, &records);
    let points = source(Signal::Metric, Encoding::Protobuf);
    let metrics = metrics(&request).encode_to_vec();
    ours(criterion, "metrics, protobuf", ITEMS, &metrics, &points);
    let events = source(Signal::Event, Encoding::Json);
    ours(
        criterion,
        "events, json",
        NATIVE_EVENTS,
        native.as_bytes(),
        &events,
    );
}

criterion_group!(decode_benches, benches);
criterion_main!(decode_benches);
