//! Decode's memory: inputs that would multiply in a tree do not multiply here.
//!
//! **Invariant:** only this thread's allocations are counted, so tests that run beside these change nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ruvvector_service::decode::{
    self, DecodeError, DecodeReport, EventMetadata, Sink, check, events,
};
use ruvvector_service::event::{
    Encoding, Event, Limits, Position, Resource, Signal, Source, StreamId,
};

/// Comparison of the rows' JSON with PostgreSQL's own.
mod jsonb;

/// Records of earlier versions.
mod records;

const MIB: usize = 1 << 20;
const BODY_BYTES: usize = 2 * MIB;
/// An item's own share is bounded by its nodes; for JSON there is one copy of an item beside it.
const ITEM_BYTES: usize = 16 * MIB;

thread_local! {
    /// Bytes that this thread holds, and the most it held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(by: isize) {
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        held.set((now + by, most.max(now + by)));
    });
}

fn signed(len: usize) -> isize {
    isize::try_from(len).expect("an allocation is at most isize::MAX")
}

#[expect(
    unsafe_code,
    reason = "an allocator that counts what it hands on to the system's"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// Forgets every row.
#[derive(Default)]
struct Count {
    events: u32,
}

impl Sink for Count {
    fn resource(&mut self, _: Resource) {}

    fn event(&mut self, event: &Event<'_>, metadata: &EventMetadata<'_>) {
        drop(metadata.of(event));
        self.events += 1;
    }
}

const POSITION: Position = Position {
    stream: StreamId([0; 16]),
    n: 1,
};

/// The input of decoding beside the body, with the defaults.
fn source(signal: Signal, encoding: Encoding) -> Source {
    Source {
        signal,
        encoding,
        partial: false,
        received_unix_nano: 1_800_000_000_000_000_000,
        limits: Limits::default(),
        version: decode::VERSION,
    }
}

/// Decodes both ways, and returns the most memory that this used.
fn decode(
    body: &[u8],
    signal: Signal,
    encoding: Encoding,
) -> (Result<DecodeReport, DecodeError>, usize) {
    let source = source(signal, encoding);
    let before = HELD.get().0;
    HELD.set((before, before));
    let checked = check(body, &source);
    let mut count = Count::default();
    let again = events(body, &source, POSITION, &mut count);
    let most = HELD.get().1 - before;
    assert_eq!(checked, again);
    (checked, most.unsigned_abs())
}

/// A length-delimited protobuf field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push(u8::try_from(len & 0x7f).expect("seven bits") | 0x80);
        len >>= 7;
    }
    out.push(u8::try_from(len).expect("seven bits"));
    out.extend_from_slice(bytes);
    out
}

fn spans(spans: &[u8]) -> Vec<u8> {
    field(1, &field(2, spans))
}

/// A span that would be accepted, with these further bytes.
fn span(more: &[u8]) -> Vec<u8> {
    field(
        2,
        &[&field(1, &[1; 16])[..], &field(2, &[1; 8]), more].concat(),
    )
}

fn repeat(piece: &[u8]) -> Vec<u8> {
    piece.repeat(BODY_BYTES / piece.len())
}

#[test]
fn mebibytes_of_empty_protobuf_messages_take_next_to_no_memory() {
    let empty_values = field(9, &field(2, &field(5, &repeat(&[0x0a, 0]))));
    for (name, body) in [
        ("resources", repeat(&[0x0a, 0])),
        ("scopes", field(1, &repeat(&[0x12, 0]))),
        ("spans", spans(&repeat(&[0x12, 0]))),
        ("events", spans(&span(&repeat(&[0x5a, 0])))),
        ("links", spans(&span(&repeat(&[0x6a, 0])))),
        ("attributes", spans(&span(&repeat(&[0x4a, 0])))),
        ("values", spans(&span(&empty_values))),
        (
            "resource attributes",
            field(
                1,
                &[field(1, &repeat(&[0x0a, 0])), field(2, &span(&[]))].concat(),
            ),
        ),
    ] {
        let (checked, most) = decode(&body, Signal::Span, Encoding::Protobuf);
        assert!(most < MIB / 4, "{name}: {most} bytes");
        match checked {
            Ok(checked) => assert_eq!(checked, DecodeReport::default(), "{name}"),
            Err(DecodeError::Invalid(checked)) => assert!(checked.rejections.len() <= 20),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn valid_items_of_many_nodes_take_the_memory_of_one_item() {
    for (name, piece) in [
        ("attributes", [0x4a, 0]),
        ("events", [0x5a, 0]),
        ("links", [0x6a, 0]),
    ] {
        let item = span(&piece.repeat(99_000));
        let body = spans(&item.repeat(BODY_BYTES / item.len()));
        let (checked, most) = decode(&body, Signal::Span, Encoding::Protobuf);
        assert!(checked.is_ok_and(|checked| checked.accepted > 8), "{name}");
        assert!(most < ITEM_BYTES, "{name}: {most} bytes");
    }
}

#[test]
fn mebibytes_of_empty_json_take_the_memory_of_one_item() {
    let around =
        |spans: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
    let span = |more: &str| {
        format!(
            r#"{{"traceId":"{}","spanId":"{}"{more}}}"#,
            "1".repeat(32),
            "1".repeat(16)
        )
    };
    let many = |piece: &str| {
        format!(
            "{piece}{piece}",
            piece = format!("{piece},").repeat(BODY_BYTES / 2 / (piece.len() + 1))
        )
    };
    let list = |piece: &str| {
        let mut list = many(piece);
        list.pop();
        list
    };
    for (name, body) in [
        ("spans", around(&list("{}"))),
        (
            "events",
            around(&span(&format!(r#","events":[{}]"#, list("{}")))),
        ),
        (
            "attributes",
            around(&span(&format!(r#","attributes":[{}]"#, list("{}")))),
        ),
        (
            "values",
            around(&span(&format!(
                r#","attributes":[{{"value":{{"arrayValue":{{"values":[{}]}}}}}}]"#,
                list("{}")
            ))),
        ),
        ("spaces", format!("{}{{}}", " ".repeat(BODY_BYTES))),
        ("zeros", around(&list("0"))),
    ] {
        let (_, most) = decode(body.as_bytes(), Signal::Span, Encoding::Json);
        assert!(most < 2 * BODY_BYTES, "{name}: {most} bytes");
    }
}

#[test]
fn metrics_of_very_many_points_or_buckets_take_the_memory_of_one_point() {
    let point = [&[0x0a, 9, 0x19][..], &[1; 8]].concat();
    let histogram = |list: u8| field(1, &field(list, &vec![0; BODY_BYTES]));
    let metric = |data: &[u8]| field(1, &field(2, &field(2, data)));
    for (name, body) in [
        ("metrics", field(1, &field(2, &repeat(&[0x12, 0])))),
        ("empty points", metric(&field(5, &repeat(&[0x0a, 0])))),
        ("points", metric(&field(5, &repeat(&point)))),
        ("data", metric(&repeat(&[0x2a, 0]))),
        (
            "metadata",
            metric(&[repeat(&[0x62, 0]), field(5, &point)].concat()),
        ),
        ("bucket counts", metric(&field(9, &histogram(6)))),
        ("bounds", metric(&field(9, &histogram(7)))),
        (
            "exponential",
            metric(&field(10, &field(1, &field(8, &histogram(2))))),
        ),
    ] {
        let (_, most) = decode(&body, Signal::Metric, Encoding::Protobuf);
        assert!(most < MIB / 4, "{name}: {most} bytes");
    }
    let around = |data: &str, points: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"m","{data}":{{"dataPoints":[{points}]}}}}]}}]}}]}}"#
        )
    };
    let zeros = |list: &str| format!(r#"{{"{list}":[{}0]}}"#, "0,".repeat(BODY_BYTES / 2));
    let points = format!("{}{{}}", "{},".repeat(BODY_BYTES / 3));
    // A list that is repeated, each time just within the limit.
    let again = format!(r#""bucketCounts":[{}0],"#, "0,".repeat(90_000)).repeat(11);
    for (name, body) in [
        ("points", around("gauge", &points)),
        ("bucket counts", around("histogram", &zeros("bucketCounts"))),
        ("bounds", around("histogram", &zeros("explicitBounds"))),
        (
            "lists",
            around("histogram", &format!("{{{again}\"count\":1}}")),
        ),
        (
            "exponential",
            around(
                "exponentialHistogram",
                &format!(r#"{{"positive":{}}}"#, zeros("bucketCounts")),
            ),
        ),
    ] {
        let (checked, most) = decode(body.as_bytes(), Signal::Metric, Encoding::Json);
        assert!(checked.is_err(), "{name}");
        assert!(most < BODY_BYTES, "{name}: {most} bytes");
    }
}

#[test]
fn mebibytes_of_native_json_values_take_next_to_no_memory() {
    let zeros = format!("[{}0]", "0,".repeat(BODY_BYTES / 2));
    let event = |metadata: &str| {
        format!(
            r#"{{"correlationId":"c","integration":"i","eventType":"e","metadata":{{"a":{metadata}}}}}"#
        )
    };
    for (name, body) in [
        ("zeros", zeros.clone()),
        ("zeros in metadata", event(&zeros)),
        ("brackets", "[".repeat(BODY_BYTES)),
        ("objects", "{\"a\":".repeat(BODY_BYTES / 5)),
        ("empty events", format!("[{}{{}}]", "{},".repeat(49_999))),
    ] {
        let (checked, most) = decode(body.as_bytes(), Signal::Event, Encoding::Json);
        assert!(checked.is_err(), "{name}");
        assert!(most < BODY_BYTES, "{name}: {most} bytes");
    }
}

#[test]
fn a_large_resource_with_very_many_scopes_is_accepted_only_up_to_a_limit() {
    let resource = field(
        1,
        &field(
            1,
            &[field(1, b"k"), field(2, &field(1, &vec![b'x'; 4 * MIB]))].concat(),
        ),
    );
    let scopes = field(2, &span(&[])).repeat(20_000);
    let body = field(1, &[resource, scopes].concat());
    let (checked, most) = decode(&body, Signal::Span, Encoding::Protobuf);
    let checked = checked.expect("some are taken");
    assert!(
        checked.accepted >= 1 && checked.accepted < 20,
        "{}",
        checked.accepted
    );
    assert!(most < 8 * ITEM_BYTES, "{most} bytes");
}
