//! An application on the OpenTelemetry SDK for Rust, as tests/sdk/README.md says: `sdk <protocol> <count>`.
//!
//! **Invariant:** all is at its default but the endpoint and the resource.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{Aggregation, Instrument, SdkMeterProvider, Stream};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::json;

/// One exporter a signal.
mod exporters;

/// What is sent.
mod signals;

/// How long a shutdown may take.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [protocol, count] = arguments.as_slice() else {
        return Err("usage: sdk <grpc | http/protobuf | http/json> <count from 10 to 1000>".into());
    };
    let count: usize = count.parse()?;
    let told = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&told);
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_ansi(false)
        .without_time()
        .with_writer(move || Lines(Arc::clone(&lines)))
        .init();

    let exporters = exporters::all(protocol)?;
    let resource = Resource::builder()
        .with_service_name("sdk-rust")
        .with_attribute(KeyValue::new("cloud.provider", "aws"))
        .build();
    let traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(exporters.traces)
        .build();
    let logs = SdkLoggerProvider::builder()
        .with_resource(resource.clone())
        .with_batch_exporter(exporters.logs)
        .build();
    let metrics = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_view(exponential)
        .with_periodic_exporter(exporters.metrics)
        .build();

    let (context, spans) = signals::spans(&traces, count);
    signals::logs(&logs, &context, count);
    let points = signals::points(&metrics, count)?;

    let started = unix_ms();
    // Whichever of flush and shutdown waits for the exporter: the other gives up after five seconds, whatever is under
    // way. Both on the meter provider would export every point twice.
    let flushed: [OTelSdkResult; 3] = std::thread::scope(|threads| {
        let traces = threads.spawn(|| traces.shutdown_with_timeout(PATIENCE));
        let logs = threads.spawn(|| logs.shutdown_with_timeout(PATIENCE));
        let metrics = threads.spawn(|| metrics.force_flush());
        [traces, logs, metrics].map(|flush| flush.join().expect("a flush does not panic"))
    });
    let errors = flushed.into_iter().filter_map(Result::err);
    let mut failures: Vec<String> = errors.map(|error| error.to_string()).collect();
    let ended = unix_ms();
    failures.append(&mut told.lock().expect("no writer panics"));
    let failures: Vec<String> = failures
        .iter()
        .map(|line| line.trim().chars().take(300).collect())
        .collect();

    let said = json!({
        "sdk": format!("opentelemetry-rust {}", sdk_version()),
        "protocol": protocol,
        "traceId": signals::trace_id(&context),
        "spans": spans,
        "logs": count,
        "points": points,
        "has": ["long", "event name", "map body", "exponential histogram"],
        "flushStarted": started,
        "flushEnded": ended,
        "failures": failures,
    });
    println!("{said}");
    // Without the meter provider's destructor, which would shut it down.
    std::process::exit(i32::from(!failures.is_empty()))
}

/// The view that makes `contract.size` an exponential histogram.
fn exponential(instrument: &Instrument) -> Option<Stream> {
    let aggregation = Aggregation::Base2ExponentialHistogram {
        max_size: 160,
        max_scale: 20,
        record_min_max: true,
    };
    (instrument.name() == "contract.size").then(|| {
        let stream = Stream::builder().with_aggregation(aggregation).build();
        stream.expect("an aggregation within its limits")
    })
}

/// As the SDK names it in every resource.
fn sdk_version() -> String {
    let resource = Resource::builder().build();
    let version = resource.get(&"telemetry.sdk.version".into());
    version.map_or_else(String::new, |version| version.to_string())
}

fn unix_ms() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a clock past 1970").as_millis()
}

/// Collects log lines.
struct Lines(Arc<Mutex<Vec<String>>>);

impl std::io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(line).into_owned();
        self.0.lock().expect("no writer panics").push(text);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
