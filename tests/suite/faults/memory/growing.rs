//! Small requests of several kinds, each of which becomes many rows, or rows that are a thousand times larger together.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::field;

pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// A request, gzip.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

/// One of each kind, with that many items.
pub(super) fn requests(items: usize) -> Vec<Request> {
    let events = items.min(50_000);
    let event = r#"{"correlationId":"c","integration":"i","eventType":"e"}"#;
    let events = format!("[{event}{}]", format!(",{event}").repeat(events - 1));
    vec![
        request(
            "points under a long description",
            "/v1/metrics",
            PROTOBUF,
            &metric_points(items),
        ),
        request(
            "empty log records",
            "/v1/logs",
            PROTOBUF,
            &field(1, &field(2, &[2 << 3 | 2, 0].repeat(items))),
        ),
        request(
            "empty metrics",
            "/v1/metrics",
            PROTOBUF,
            &field(1, &field(2, &[2 << 3 | 2, 0].repeat(items))),
        ),
        request(
            "small events",
            "/ingest",
            "application/json",
            events.as_bytes(),
        ),
    ]
}

pub(super) fn request(
    name: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: &[u8],
) -> Request {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(body).expect("memory");
    Request {
        name,
        path,
        content_type,
        body: gzip.finish().expect("memory").into(),
    }
}

/// Metric (2) with a name (1), a description (2) and a gauge (5) of points (1): doubles of 301 digits with one attribute.
fn metric_points(points: usize) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let now = u64::try_from(now.as_nanos()).expect("before 2554");
    let mut point = vec![3 << 3 | 1];
    point.extend(now.to_le_bytes());
    point.push(4 << 3 | 1);
    point.extend(1.5e300_f64.to_le_bytes());
    let value = field(1, &[b'x'; 95]);
    let mut attribute = field(1, b"a");
    attribute.extend(field(2, &value));
    point.extend(field(7, &attribute));
    let mut metric = field(1, b"m");
    metric.extend(field(2, &[b'd'; 315]));
    metric.extend(field(5, &field(1, &point).repeat(points)));
    field(1, &field(2, &field(2, &metric)))
}

/// Log records (2) with a text (5) of 1 MiB each, not compressed.
pub(super) fn large_logs(mib: usize) -> Request {
    let text = vec![b'x'; 1 << 20];
    let record = field(2, &field(5, &field(1, &text)));
    plain_logs("large logs", field(1, &field(2, &record.repeat(mib))))
}

/// A request of logs that is not compressed.
pub(super) fn plain_logs(name: &'static str, body: Vec<u8>) -> Request {
    Request {
        name,
        path: "/v1/logs",
        content_type: PROTOBUF,
        body: body.into(),
    }
}
