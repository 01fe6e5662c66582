//! The cost of encoding one row for COPY.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ruvvector_service::event::{Event, EventFlags, ResourceId};
use ruvvector_service::store::row_encoding::EncodedRows;

const ROWS: usize = 10_000;

fn span(metadata: &str) -> Event<'_> {
    Event {
        correlation_id: "7d1c5a90e3b24f68a1c0d2e4f6a8b0c2".into(),
        integration: "checkout".into(),
        provider: Some("postgresql".into()),
        event_type: "span".into(),
        timestamp_ms: 1_700_000_000_123,
        metadata: metadata.into(),
        trace_id: Some("7d1c5a90e3b24f68a1c0d2e4f6a8b0c2".into()),
        span_id: Some("9a8b7c6d5e4f3021".into()),
        parent_span_id: Some("61d0c2b3a4f5e697".into()),
        name: Some("SELECT orders".into()),
        time_unix_nano: Some(1_700_000_000_123_456_789),
        duration_ns: Some(1_234_567),
        kind: Some(3),
        status: Some("OK".into()),
        resource_id: Some(ResourceId([7; 16])),
        flags: EventFlags::default(),
    }
}

fn rows(criterion: &mut Criterion) {
    let metadata = format!(
        r#"{{"attributes":{{"http.request.method":"GET","url.path":"/orders/{}","server.port":5432,"db.query.text":"{}"}}}}"#,
        "x".repeat(60),
        "select ".repeat(20)
    );
    let event = span(&metadata);
    let mut rows = EncodedRows::default();
    let mut group = criterion.benchmark_group("copy");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("10000 spans", |bencher| {
        bencher.iter(|| {
            rows.clear();
            for _ in 0..ROWS {
                rows.push(black_box(&event), 1_700_000_000_000_000_000);
            }
            rows.len()
        });
    });
    group.finish();
}

criterion_group!(benches, rows);
criterion_main!(benches);
