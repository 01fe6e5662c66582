//! Tests of the flags and counters of rows whose columns do not hold the value that was sent.

use crate::decode::tests::log_records::{record, request as logs};
use crate::decode::tests::metric_points::{gauge, point, request as metrics};
use crate::decode::tests::spans::{pair, request as spans, span, text};
use crate::decode::tests::*;
use crate::event::EventFlags;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use prost::Message as _;

/// Returns a request of two items for each signal, the first with this name, these attributes and this time.
fn requests(name: &str, attributes: &[KeyValue], time: u64) -> [(Signal, Vec<u8>); 3] {
    let mut first = span();
    first.name = name.to_owned();
    first.attributes = attributes.to_vec();
    (first.start_time_unix_nano, first.end_time_unix_nano) = (time, time);
    let mut line = record();
    line.event_name = name.to_owned();
    line.attributes = attributes.to_vec();
    line.time_unix_nano = time;
    let mut value = point();
    value.attributes = attributes.to_vec();
    value.time_unix_nano = time;
    let mut named = gauge(vec![value]);
    named.name = name.to_owned();
    [
        (Signal::Span, spans(vec![first, span()]).encode_to_vec()),
        (Signal::Log, logs(vec![line, record()]).encode_to_vec()),
        (
            Signal::Metric,
            metrics(vec![named, gauge(vec![point()])]).encode_to_vec(),
        ),
    ]
}

const TIME: u64 = 1_799_999_999_123_456_789;

/// Returns the count of cut texts, and each row's flags.
fn cut(signal: Signal, body: &[u8], version: u16) -> (u32, Vec<EventFlags>) {
    let source = Source {
        version,
        ..source(signal, Encoding::Protobuf)
    };
    let (checked, rows) = decode(body, &source).expect("accepted");
    let flags = rows.events.iter().map(|event| event.flags).collect();
    (checked.sanitized.cut, flags)
}

/// README says that flags and `ruvvector_sanitized_total` report texts that are cut to their column. They reported
/// none: a query by the whole name found nothing, and no flag said why.
#[test]
fn a_text_that_is_cut_to_its_column_is_flagged_and_counted() {
    let whole = EventFlags::default();
    let long = |len: usize| text(&"é".repeat(len));
    let with = |key: &str, len| vec![pair("other", long(500)), pair(key, long(len))];
    for (name, attributes, times) in [
        ("é".repeat(255), vec![], 0),
        ("é".repeat(256), vec![], 1),
        ("n".to_owned(), with("correlation_id", 255), 0),
        ("n".to_owned(), with("correlation.id", 256), 1),
        ("n".to_owned(), with("gen_ai.system", 100), 0),
        ("n".to_owned(), with("rpc.system", 101), 1),
        ("n".to_owned(), with("url.full", 2_000), 0),
        ("n".repeat(256), with("provider", 101), 2),
    ] {
        for (signal, body) in requests(&name, &attributes, TIME) {
            let flags = if times > 0 { EventFlags::CUT } else { whole };
            assert_eq!(
                cut(signal, &body, VERSION),
                (times, vec![flags, whole]),
                "{signal:?}"
            );
            assert_eq!(cut(signal, &body, 1), (0, vec![whole, whole]), "{signal:?}");
        }
    }
    // The first attribute that can be a name fills the column; the last of equal keys counts.
    let short = pair("provider", text("aws"));
    let attributes = [
        pair("provider", long(101)),
        short,
        pair("rpc.system", long(101)),
    ];
    for (signal, body) in requests("n", &attributes, TIME) {
        assert_eq!(
            cut(signal, &body, VERSION),
            (0, vec![whole, whole]),
            "{signal:?}"
        );
    }
}

#[test]
fn a_service_name_that_is_cut_is_flagged_in_each_row_and_counted_once() {
    for (key, len, times) in [
        ("service.name", 100, 0),
        ("service.name", 101, 1),
        ("cloud.provider", 101, 1),
    ] {
        let mut request = spans(vec![span(), span()]);
        request.resource_spans[0].resource = Some(ProtoResource {
            attributes: vec![pair(key, text(&"é".repeat(len)))],
            ..ProtoResource::default()
        });
        let body = request.encode_to_vec();
        let flags = if times > 0 {
            EventFlags::CUT
        } else {
            EventFlags::default()
        };
        assert_eq!(cut(Signal::Span, &body, VERSION), (times, vec![flags; 2]));
        assert_eq!(
            cut(Signal::Span, &body, 1),
            (0, vec![EventFlags::default(); 2])
        );
    }
}

/// A script sent `time.time()` as `timeUnixNano`. Its rows had times in January 1970, which no query by time covered;
/// only retention by receive time ever found them.
#[test]
fn a_time_that_is_plainly_in_another_unit_gives_way_to_the_receive_time() {
    let sent_ms = NOW_MS - 5_000;
    for (time, is_replaced) in [
        (sent_ms / 1_000, true),
        (sent_ms, true),
        (sent_ms * 1_000, true),
        (946_684_800, true),
        (sent_ms * 1_000_000, false),
        // A clock that began in 1970, and times that are plausible in no unit.
        (1, false),
        (5_000_000_000, false),
        (946_684_799, false),
        (NOW_MS / 1_000 + 90_000, false),
        (946_684_800_000_000_000, false),
    ] {
        let time = u64::try_from(time).expect("after 1970");
        for (signal, body) in requests("n", &[], time) {
            for version in [1, VERSION] {
                let source = Source {
                    version,
                    ..source(signal, Encoding::Protobuf)
                };
                let (checked, rows) = decode(&body, &source).expect("accepted");
                let event = &rows.events[0];
                let is_replaced = is_replaced && version > 1;
                assert_eq!(checked.sanitized.time, u32::from(is_replaced), "{time}");
                assert_eq!(event.time_unix_nano, i64::try_from(time).ok());
                let (flags, timestamp_ms) = if is_replaced {
                    (EventFlags::TIME_REPLACED, NOW_MS)
                } else {
                    let ms = i64::try_from(time / 1_000_000).expect("small");
                    (EventFlags::default(), ms)
                };
                assert_eq!(
                    (event.flags, event.timestamp_ms),
                    (flags, timestamp_ms),
                    "{time}"
                );
            }
        }
    }
}
