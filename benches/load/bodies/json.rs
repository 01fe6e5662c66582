//! Requests in JSON: OTLP's spans, and native events.
//!
//! **Invariant:** a span has the fields and values of the protobuf request's.

use std::fmt::Write as _;

use crate::bodies::{name, scatter};

fn text(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

fn digits(n: u64) -> String {
    format!("{:016x}", scatter(n))
}

/// A request of OTLP's JSON, and the offset of the first trace id.
pub(super) fn spans(service: u64, first: u64, count: u64, now_unix_nano: u64) -> (Vec<u8>, usize) {
    let resource = [
        text("service.name", &format!("service-{service}")),
        text("service.version", "1.4.2"),
        text("host.name", "node-17"),
        text("deployment.environment.name", "production"),
        text("telemetry.sdk.language", "go"),
    ];
    let mut out = format!(
        r#"{{"resourceSpans":[{{"resource":{{"attributes":[{}]}},"scopeSpans":[{{"scope":{{"name":"net/http","version":"0.60.0"}},"spans":["#,
        resource.join(",")
    );
    for n in first..first + count {
        if n > first {
            out.push(',');
        }
        let trace = n / 10 + 1;
        let _ = write!(
            out,
            r#"{{"traceId":"{}{}","spanId":"{}""#,
            digits(trace),
            digits(!trace),
            digits(n | 1 << 63)
        );
        if !n.is_multiple_of(10) {
            let _ = write!(
                out,
                r#","parentSpanId":"{}""#,
                digits((n / 10 * 10) | 1 << 63)
            );
        }
        let attributes = [
            text("http.request.method", "GET"),
            text("url.path", &format!("/orders/{}", n % 100_000)),
            r#"{"key":"http.response.status_code","value":{"intValue":"200"}}"#.to_owned(),
            text("server.address", "shop.internal"),
            r#"{"key":"server.port","value":{"intValue":"8080"}}"#.to_owned(),
            text("user_agent.original", "okhttp/4.12.0"),
            text("client.address", &format!("10.0.{}.{}", n % 200, n % 250)),
            r#"{"key":"retry","value":{"boolValue":false}}"#.to_owned(),
        ];
        let start = now_unix_nano + n;
        let _ = write!(
            out,
            r#","name":"{}","kind":2,"startTimeUnixNano":"{start}","endTimeUnixNano":"{}","attributes":[{}]}}"#,
            name(n),
            start + 1_000 * (n % 1_000),
            attributes.join(",")
        );
    }
    out.push_str("]}]}]}");
    let at = out.find(r#""traceId":""#).expect("there is a span") + r#""traceId":""#.len();
    (out.into_bytes(), at)
}

/// An array of native events of 450 bytes, and the offset of the first correlation id.
pub(super) fn events(service: u64, first: u64, count: u64, now_unix_nano: u64) -> (Vec<u8>, usize) {
    let timestamp = now_unix_nano / 1_000_000;
    let events = (first..first + count).map(|n| {
        format!(
            r#"{{"correlationId":"{}","integration":"service-{service}","provider":"stripe","eventType":"order.paid","timestamp":{timestamp},"metadata":{{"order":{{"id":{},"currency":"EUR","total":{}.50,"items":[{{"sku":"A-{:05}","count":{}}},{{"sku":"B-{:05}","count":1}}]}},"customer":{{"id":"{}","country":"DE","new":false}},"note":"paid by card on the second attempt, after the bank had asked for a confirmation","attempt":{},"tags":["shop","card"]}}}}"#,
            digits(n),
            n % 1_000_000,
            n % 1_000,
            n % 100_000,
            n % 9,
            n % 99_999,
            digits(!n),
            n % 3
        )
    });
    let out = format!("[{}]", events.collect::<Vec<_>>().join(","));
    let at = r#"[{"correlationId":""#.len();
    (out.into_bytes(), at)
}
