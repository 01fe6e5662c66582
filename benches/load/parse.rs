//! Floors: parsers of the same bodies, alone, on one thread.
//!
//! **Invariant:** a body is parsed from its bytes to its end, and nothing else happens to it.

use std::hint::black_box;
use std::io::Read as _;
use std::time::{Duration, Instant};

use flate2::bufread::GzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::arguments::Arguments;
use crate::bodies::{Bodies, Kind};
use crate::process;

/// A native event as a handler would declare it; the metadata stays text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the values are parsed and dropped")]
struct NativeEvent<'a> {
    correlation_id: &'a str,
    integration: &'a str,
    provider: Option<&'a str>,
    event_type: &'a str,
    timestamp: Option<i64>,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn measure(arguments: &Arguments) -> String {
    let kind = Kind::read(arguments.optional_text("body"));
    let bodies = Bodies::new(kind, arguments.number("spans"));
    let end = Instant::now() + Duration::from_secs(arguments.number("seconds"));
    let mut inflated = Vec::new();
    let (mut items, mut bytes) = (0, 0);
    let cpu = process::own_cpu();
    while Instant::now() < end {
        for (body, count) in bodies.templates() {
            match bodies.kind() {
                Kind::Native => {
                    let events: Vec<NativeEvent<'_>> =
                        serde_json::from_slice(body).expect("the bodies are valid");
                    black_box(&events);
                }
                Kind::Gzip => {
                    inflated.clear();
                    GzDecoder::new(body)
                        .read_to_end(&mut inflated)
                        .expect("the bodies are valid");
                    black_box(&inflated);
                }
                Kind::Spans | Kind::OneTrace | Kind::Mixed | Kind::Json => {
                    panic!("no parser is a floor for this kind of body")
                }
            }
            items += count;
            bytes += body.len();
        }
    }
    let cpu = (process::own_cpu() - cpu).as_secs_f64();
    format!(
        r#"{{"items":{items},"bytes_per_item":{:.1},"cpu_us_per_item":{:.4}}}"#,
        bytes as f64 / items as f64,
        cpu * 1e6 / items as f64
    )
}
